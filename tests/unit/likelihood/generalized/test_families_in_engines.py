"""The package's own families through the one-factor engines: gradients, kernels, error signs."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.row import Response
from multilevel.model.covariance.structures import factor_map
from multilevel.model.families.catalogue import family_of
from tests.support.cluster_problems import differences

N, J = 60, 10
#: family, random parts, made-up responses
CELLS = [
    ("binomial", (0,), lambda rng: (rng.random(N) < 0.4).astype(float)),
    ("poisson", (0,), lambda rng: rng.poisson(2, N).astype(float)),
    ("negative_binomial", (0,), lambda rng: rng.negative_binomial(2, 0.5, N).astype(float)),
    ("negative_binomial", (0, 1), lambda rng: rng.negative_binomial(2, 0.5, N).astype(float)),
    ("negative_binomial_1", (0,), lambda rng: rng.negative_binomial(2, 0.5, N).astype(float)),
    ("gamma", (0, 1), lambda rng: rng.gamma(2.0, 1.0, N)),
    ("student", (0,), lambda rng: rng.standard_t(4, N)),
    ("beta", (0, 1), lambda rng: rng.beta(2, 2, N)),
    ("gaussian", (0, 1), lambda rng: rng.standard_normal(N)),
]


def problem_of(family, parts, y):
    kind = family_of(family)

    def rows_of(response, order, random):
        return row_likelihood(kind, response, order, random)

    response = Response(y)
    start = rows_of(response, None, ()).start()
    x = np.cos(np.arange(N))
    fixed = [FixedPart(np.asfortranarray(np.c_[np.ones(N), x]))]
    fixed += [FixedPart(np.ones((N, 1), order="F")) for _ in start[1:]]
    q = len(parts)
    block = EffectBlock(
        np.tile(np.arange(J), N // J).astype(np.int32),
        J,
        np.ones((N, q), order="F"),
        parts,
        factor_map(((q, "unstructured"),)),
    )
    psi = np.r_[start[0], 0.2, start[1:], np.full(q * (q + 1) // 2, 0.5)]
    return GeneralizedProblem(response, tuple(fixed), (block,), rows_of), psi


@pytest.mark.parametrize("points", [None, 5])
@pytest.mark.parametrize(("family", "parts", "draw"), CELLS)
def test_gradient_is_the_derivative(family, parts, draw, points):
    problem, psi = problem_of(family, parts, draw(np.random.default_rng(0)))
    objective = make_objective(problem, points)
    objective.value(psi)
    gradient = objective.gradient()
    scale = np.abs(gradient).max()
    found = differences(objective, psi, 1e-3)
    np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize(("family", "parts", "draw"), CELLS)
def test_compiled_and_plain_engines_agree(family, parts, draw):
    problem, psi = problem_of(family, parts, draw(np.random.default_rng(1)))
    plain = NestedQuadrature(problem, 5, compiled=False)
    compiled = NestedQuadrature(problem, 5, compiled=True)
    assert plain.value(psi) == pytest.approx(compiled.value(psi), rel=1e-11)
    np.testing.assert_allclose(plain.gradient(), compiled.gradient(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("family", "parts", "draw"), CELLS)
def test_more_points_come_closer(family, parts, draw):
    problem, psi = problem_of(family, parts, draw(np.random.default_rng(2)))
    truth = NestedQuadrature(problem, 31).value(psi)
    laplace = abs(NestedLaplace(problem).value(psi) - truth)
    assert abs(NestedQuadrature(problem, 9).value(psi) - truth) < 0.1 * laplace + 1e-9
