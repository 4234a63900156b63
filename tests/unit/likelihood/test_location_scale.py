"""The one-dimensional location-scale likelihood: brute force, the two-dimensional quadrature,
differences of values, and the edges of its parameter space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.estimate.generalized.prepare import RowsOf
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.row import Response
from multilevel.likelihood.location_scale.objective import LocationScale, reduces
from multilevel.model.covariance.structures import factor_map
from multilevel.model.families.catalogue import family_of

Array = NDArray[np.float64]


def problem_of(
    J: int = 12, n: int = 6, slopes: int = 0, seed: int = 3, *, kind: str = "unstructured",
    family: str = "gaussian", weights: bool = False, has_single: bool = True,
    spread: float = 0.5,
) -> GeneralizedProblem:  # fmt: skip
    """Clusters of unequal size (one of a single row), columns location first, scale last."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 2 * n, J) if has_single else np.full(J, 2 * n)
    if has_single:
        sizes[0] = 1
    codes = np.repeat(np.arange(J), sizes).astype(np.int32)
    rng.shuffle(codes)
    N = len(codes)
    x = rng.standard_normal((N, max(slopes, 1)))
    b, omega = rng.standard_normal((J, 1 + slopes)), spread * rng.standard_normal(J)
    Z = np.column_stack([np.ones(N), x[:, :slopes]])
    y = 1.0 + 0.5 * x[:, 0] + (Z * b[codes]).sum(axis=1)
    y += np.exp(0.2 * x[:, 0] + omega[codes] / 2.0) * rng.standard_normal(N)
    y = np.exp(y / 2.0) if family != "gaussian" else y
    X = np.asfortranarray(np.column_stack([np.ones(N), x[:, 0]]))
    columns = np.asfortranarray(np.column_stack([Z, np.ones(N)]))
    q = columns.shape[1]
    widths: Any = ((q, kind),) if kind == "unstructured" else ((q - 1, "unstructured"), (1, kind))
    block = EffectBlock(codes, J, columns, (*([0] * (q - 1)), 1), factor_map(widths))
    precision = rng.uniform(0.5, 2.0, N) if weights else None
    frequency = rng.integers(0, 3, N).astype(float) if weights else None
    return GeneralizedProblem(
        Response(y), (FixedPart(X), FixedPart(X)), (block,),
        RowsOf(family_of(family), precision, frequency),
    )  # fmt: skip


def point(problem: GeneralizedProblem, seed: int = 0, spread: float = 1.0) -> Array:
    """Somewhere ordinary in the parameter space; ``spread`` multiplies the scale effects."""
    rng = np.random.default_rng(seed)
    psi = 0.2 * rng.standard_normal(problem.n_parameters)
    block = problem.blocks[0]
    diagonal = np.diagonal(block.structure.basis, axis1=1, axis2=2).sum(axis=1) != 0.0
    where = np.arange(problem.n_fixed, problem.n_parameters)
    psi[where[diagonal]] = rng.uniform(0.4, 0.9, int(diagonal.sum()))
    scale = np.any(block.structure.basis[:, -1, :] != 0.0, axis=1)
    psi[where[scale]] *= spread
    return psi


def differences(objective: LocationScale, psi: Array, h: float = 2e-4) -> Array:
    out = np.empty_like(psi)
    for i in range(len(psi)):
        e = np.zeros_like(psi)
        e[i] = h
        near = objective.value(psi + e) - objective.value(psi - e)
        far = objective.value(psi + 2 * e) - objective.value(psi - 2 * e)
        out[i] = (8.0 * near - far) / (12.0 * h)
    return out


@pytest.mark.parametrize("slopes", [0, 1])
@pytest.mark.parametrize("kind", ["unstructured", "diagonal"])
def test_agrees_with_quadrature_over_all_effects(slopes: int, kind: str) -> None:
    # where clusters are small or very different, the rule over all effects needs more points than
    # there can be; such clusters are held to the dense grid below
    problem = problem_of(n=15, slopes=slopes, kind=kind, has_single=False, spread=0.2)
    psi = point(problem, 5, spread=0.3)
    ours = LocationScale(problem, 41)
    full = NestedQuadrature(problem, 41 if slopes == 0 else 15)
    tolerance = 1e-6 if slopes == 0 else 2e-5
    assert ours.value(psi) == pytest.approx(full.value(psi), abs=tolerance)
    np.testing.assert_allclose(ours.gradient(), full.gradient(), atol=100 * tolerance)
    np.testing.assert_allclose(ours.means()[0], full.means()[0], atol=20 * tolerance)
    np.testing.assert_allclose(
        ours.mode_covariance(0), full.mode_covariance(0), atol=100 * tolerance
    )


def test_agrees_with_an_integral_on_a_dense_grid() -> None:
    problem = problem_of(J=4, n=3)
    psi = point(problem, 1)
    eta = problem.fixed_predictors(psi)
    Lam = problem.factors(psi)[0]
    axis = np.linspace(-9.0, 9.0, 721)
    u1, u2 = np.meshgrid(axis, axis, indexing="ij")
    log_prior = -0.5 * (u1**2 + u2**2) - np.log(2.0 * np.pi)
    b, omega = Lam[0, 0] * u1, Lam[1, 0] * u1 + Lam[1, 1] * u2
    total = 0.0
    for j in range(4):
        h = log_prior.copy()
        for i in np.flatnonzero(problem.blocks[0].codes == j):
            log_variance = eta[1, i] + omega
            r = problem.response.y[i] - eta[0, i] - b
            h -= 0.5 * (np.log(2.0 * np.pi) + log_variance + r**2 * np.exp(-log_variance))
        # the trapezoid rule is exact to rounding for such smooth, vanishing integrands
        total += np.log(np.exp(h).sum() * (axis[1] - axis[0]) ** 2)
    assert LocationScale(problem, 101).value(psi) == pytest.approx(-2.0 * total, abs=1e-6)


@pytest.mark.parametrize("points", [1, 3, 11])
@pytest.mark.parametrize(("slopes", "weights"), [(0, False), (1, True), (2, False)])
def test_gradient_is_that_of_the_values(points: int, slopes: int, weights: bool) -> None:
    problem = problem_of(slopes=slopes, weights=weights)
    objective = LocationScale(problem, points)
    psi = point(problem, 2)
    numeric = differences(objective, psi)
    objective.value(psi)
    np.testing.assert_allclose(objective.gradient(), numeric, atol=1e-6)
    scores = objective.cluster_scores()
    np.testing.assert_allclose(-2.0 * scores.sum(axis=0), objective.gradient(), atol=1e-9)
    log_likelihoods = objective.log_likelihoods()
    assert -2.0 * log_likelihoods.sum() == pytest.approx(objective.value(psi), abs=1e-9)


@pytest.mark.parametrize("edge", ["no scale effect", "correlation of one", "no location effect"])
def test_edges_of_the_parameter_space(edge: str) -> None:
    problem = problem_of()
    psi = point(problem, 4)
    a = problem.n_fixed  # theta: l11, l21, l22
    if edge == "no scale effect":
        psi[a + 1 : a + 3] = 0.0
    elif edge == "correlation of one":
        psi[a + 2] = 0.0
    else:
        psi[a] = 0.0
    ours, full = LocationScale(problem, 41), NestedQuadrature(problem, 41)
    assert ours.value(psi) == pytest.approx(full.value(psi), abs=1e-6)
    np.testing.assert_allclose(ours.gradient(), full.gradient(), atol=2e-5)


def test_weights_of_rows() -> None:
    problem = problem_of(n=15, weights=True, has_single=False, spread=0.2)
    psi = point(problem, 5, spread=0.3)
    ours, full = LocationScale(problem, 31), NestedQuadrature(problem, 31)
    assert ours.value(psi) == pytest.approx(full.value(psi), abs=1e-6)


def test_modes_start_the_next_search_and_are_checked() -> None:
    problem = problem_of()
    first = LocationScale(problem, 11)
    value = first.value(point(problem))
    again = LocationScale(problem, 11)
    again.set_modes(first.modes())
    assert again.value(point(problem)) == pytest.approx(value, abs=1e-9)
    with pytest.raises(LikelihoodError, match="shape"):
        again.set_modes([np.zeros((3, 2))])
    with pytest.raises(LikelihoodError, match="block 0"):
        again.mode_covariance(1)
    error = first.error_estimate(np.random.default_rng(0), 100)
    assert abs(error.criterion) < 1e-4
    assert error.std_error == 0.0


def test_where_the_reduction_applies() -> None:
    problem = problem_of()
    assert reduces(problem)
    assert isinstance(make_objective(problem, 11), LocationScale)
    for family in ("lognormal", "gamma"):
        other = problem_of(family=family)
        assert not reduces(other)
        assert isinstance(make_objective(other, 5), NestedQuadrature)
    block = problem.blocks[0]
    uneven = block.columns.copy()
    uneven[:, 1] = np.arange(problem.n)
    assert not reduces(replace(problem, blocks=(replace(block, columns=uneven),)))
    only_location = replace(block, parts=(0, 0))
    assert not reduces(replace(problem, blocks=(only_location,)))
    with pytest.raises(LikelihoodError, match="random intercept"):
        LocationScale(replace(problem, blocks=()), 11)


def test_values_that_do_not_exist_are_refused() -> None:
    problem = problem_of()
    objective = LocationScale(problem, 11)
    psi = point(problem)
    with pytest.raises(LikelihoodError, match="finite"):
        objective.value(np.full_like(psi, np.nan))
    psi[2] = -800.0  # a residual variance that underflows
    with pytest.raises(LikelihoodError, match="overflow"):
        objective.value(psi)
