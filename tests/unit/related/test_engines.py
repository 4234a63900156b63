"""Both engines against the dense likelihood of the rows, gradients against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.design.build import build_design
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import random_effects
from multilevel.estimate.prepare import prepare
from multilevel.likelihood.related.dense import DenseRelatedEngine
from multilevel.likelihood.related.products import row_effects
from multilevel.likelihood.related.sparse import SparseRelatedEngine
from multilevel.model.formula.parse import parse_formula
from tests.unit.related.support import (
    dense_criterion,
    membership_matrix,
    pedigree_relation,
    table,
)

FORMULAS = {
    "pedigree": "y ~ x + (1 + x | animal)",
    "pedigree and crossed": "y ~ x + (1 + x | animal) + (1 | herd)",
    "memberships": "y ~ x + (1 | mm(s1, s2))",
    "all": "y ~ x + (1 | animal) + (1 + x | mm(s1, s2, weights=[w1, w2])) + (1 | herd)",
}
ENGINES = {"dense": DenseRelatedEngine, "sparse": SparseRelatedEngine}


def _problem(name, method, engine):
    rng = np.random.default_rng(5)
    relation, A = pedigree_relation(30, 6, rng)
    data = table(rng)
    related = {"animal": relation} if "animal" in FORMULAS[name] else {}
    design = build_design(parse_formula(FORMULAS[name], method), data, related=related)
    prepared = prepare(design, method=method)
    plan = replace(prepared.engine_plan, make=ENGINES[engine])
    return replace(prepared, engine_plan=plan), A


def _parts(prepared, objective, A):
    """Z (n, J q) and the covariance (J q, J q) of its effects, by block."""
    for block, B, L in zip(
        prepared.design.blocks, prepared.scaling.random, objective.factors, strict=True
    ):
        K = A if block.group == "animal" else np.eye(block.n_levels)
        yield row_effects(block, block.columns @ B).toarray(), np.kron(K, L @ L.T), K, L


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", list(FORMULAS))
def test_criterion_gradient_and_effects_are_those_of_the_dense_likelihood(name, method, engine):
    prepared, A = _problem(name, method, engine)
    objective = prepared.objective()
    theta = np.random.default_rng(6).normal(size=objective.n_parameters) * 0.7
    value, gradient = objective.value(theta), objective.gradient()
    differences = [
        (objective.value(theta + step) - objective.value(theta - step)) / 2e-5
        for step in 1e-5 * np.eye(len(theta))
    ]
    np.testing.assert_allclose(gradient, differences, atol=2e-7)
    objective.set(theta)
    design = prepared.design
    V = np.eye(design.n)
    for Z, K, _, _ in _parts(prepared, objective, A):
        V += Z @ K @ Z.T
    W = prepared.scaling.apply(design.X, design.y)
    expected, _, _ = dense_criterion(W[:, -1], W[:, :-1], V, method == "reml")
    assert value == pytest.approx(expected, abs=1e-9)
    inverse, engine_ = np.linalg.inv(V), objective.engine
    for t, (Z, K, level, _) in enumerate(_parts(prepared, objective, A)):
        J, q = prepared.cross.sizes[t]
        np.testing.assert_allclose(
            engine_.solution(t).reshape(J * q, -1), K @ Z.T @ inverse @ W, atol=1e-10
        )
        posterior = (K - K @ Z.T @ inverse @ Z @ K).reshape(J, q, J, q)
        own = posterior[np.arange(J), :, np.arange(J), :]
        np.testing.assert_allclose(engine_.posterior_blocks(t), own, atol=1e-10)
        information = (Z.T @ inverse @ Z).reshape(J, q, J, q)
        total = np.einsum("gh,gahb->ab", level, information)
        np.testing.assert_allclose(engine_.information_sum(t), total, atol=1e-9)


def test_memberships_are_the_weights_of_the_rows():
    prepared, _ = _problem("all", "reml", "sparse")
    rng = np.random.default_rng(5)
    pedigree_relation(30, 6, rng)
    data = table(rng)
    block = next(b for b in prepared.design.blocks if b.group == "mm(s1, s2)")
    expected = membership_matrix(data, ["s1", "s2"], ["w1", "w2"], block.levels.tolist())
    np.testing.assert_allclose(block.loadings.toarray(), expected, atol=1e-14)


@pytest.mark.parametrize("name", ["pedigree and crossed", "all"])
def test_both_engines_find_the_same_optimum(name):
    fits = []
    for engine in ENGINES:
        prepared, _ = _problem(name, "reml", engine)
        fit = solve(prepared)
        assert fit.certificate.is_certified
        fits.append((fit, random_effects(prepared, fit)))
    (one, first), (two, second) = fits
    assert one.criterion == pytest.approx(two.criterion, abs=1e-8)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.estimates, b.estimates, atol=1e-5)
        np.testing.assert_allclose(a.prediction_covariance(), b.prediction_covariance(), atol=1e-5)


def test_the_sum_over_levels_is_that_of_the_blocks():
    for engine in ENGINES:
        prepared, _ = _problem("all", "reml", engine)
        objective = prepared.objective()
        objective.set(np.full(objective.n_parameters, 0.6))
        for t in range(len(prepared.design.blocks)):
            np.testing.assert_allclose(
                objective.engine.information_blocks(t).sum(axis=0),
                objective.engine.information_sum(t), atol=1e-9,
            )  # fmt: skip


def test_a_zero_variance_leaves_the_gradient_exact():
    for engine in ENGINES:
        prepared, _ = _problem("pedigree and crossed", "reml", engine)
        objective = prepared.objective()
        theta = np.array([0.5, 0.1, 0.0, 0.0])
        objective.set(theta)
        gradient = objective.gradient()
        for k in (0, 1, 3):
            step = np.zeros(4)
            step[k] = 1e-5
            found = (objective.value(theta + step) - objective.value(theta - step)) / 2e-5
            assert gradient[k] == pytest.approx(found, abs=1e-6)
