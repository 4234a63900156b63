"""Sparse grids: exactness, gradients, convergence to full grids and sums, and the guard."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest

from multilevel.errors import LikelihoodError, NegativeIntegralError
from multilevel.likelihood.generalized import sparse_quadrature
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.grid import gauss_hermite
from multilevel.likelihood.generalized.importance import sample_likelihood
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.sparse_grid import is_sparse, sparse_grid
from multilevel.likelihood.generalized.sparse_quadrature import SparseQuadrature
from tests.support.cluster_problems import differences, made_up
from tests.unit.likelihood.generalized.brute_force import gaussian_exact, one_factor

MOMENTS = {0: 1.0, 2: 1.0, 4: 3.0, 6: 15.0, 8: 105.0, 10: 945.0}


def weights_of(grid):
    return grid.signs * np.exp(grid.log_weights - 0.5 * (grid.nodes**2).sum(axis=1))


@pytest.mark.parametrize(("points", "q", "degree"), [(3, 4, 5), (3, 7, 5), (5, 4, 7), (7, 4, 11)])
def test_polynomials_up_to_their_total_degree_are_exact(points, q, degree):
    grid = sparse_grid(points, q)
    weights = weights_of(grid)
    assert (weights < 0.0).any() or (points, q) == (3, 4)
    for total in range(0, degree + 1, 2):
        for axes in combinations_with_replacement(range(q), total):
            powers = np.bincount(np.array(axes, dtype=int), minlength=q)
            found = weights @ np.prod(grid.nodes**powers, axis=1)
            wanted = np.prod([MOMENTS.get(int(p), 0.0) for p in powers])
            assert found == pytest.approx(wanted, abs=1e-9)
    np.testing.assert_allclose(weights @ grid.nodes, 0.0, atol=1e-12)


def test_they_are_far_smaller_than_full_grids():
    assert sparse_grid(5, 4).n == 81
    assert sparse_grid(5, 6).n < 5**6 / 50
    assert sparse_grid(7, 6).n < 7**6 / 50


@pytest.mark.parametrize(
    ("family", "terms", "points", "parts"),
    [
        ("logistic", ((4, "unstructured"),), 5, None),
        ("poisson", ((6, "diagonal"),), 3, None),
        ("student", ((4, "diagonal"),), 5, None),
        ("location scale", ((2, "unstructured"), (3, "diagonal")), 5, (0, 1, 0, 0, 1)),
    ],
)
def test_gradient_is_the_derivative_and_sums_the_scores(family, terms, points, parts):
    problem, psi = made_up(family, terms, parts=parts)
    objective = SparseQuadrature(problem, points)
    objective.value(psi)
    gradient, scores = objective.gradient(), objective.cluster_scores()
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(-2.0 * scores.sum(axis=0), gradient, rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("family", ["logistic", "poisson"])
def test_three_effects_converge_to_brute_force(family):
    problem, psi = made_up(family, ((3, "unstructured"),), sizes=(6, 9))
    truth = one_factor(problem, psi, points=61)
    laplace = abs(NestedLaplace(problem).value(psi) - truth)
    errors = [abs(SparseQuadrature(problem, k).value(psi) - truth) for k in (5, 9, 13)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.01 * laplace + 1e-3


@pytest.mark.parametrize(("family", "q", "full"), [("logistic", 4, 8), ("poisson", 5, 5)])
def test_more_effects_converge_to_the_full_grid(family, q, full):
    problem, psi = made_up(family, ((q, "diagonal"),), sizes=(8, 6, 10))
    truth = NestedQuadrature(problem, full).value(psi)
    laplace = NestedLaplace(problem).value(psi) - truth
    five, seven = (SparseQuadrature(problem, k).value(psi) - truth for k in (5, 7))
    assert abs(five) < 0.35 * abs(laplace) + 0.01
    assert abs(seven) < 0.1 * abs(laplace) + 0.01


def test_six_effects_agree_with_importance_sampling():
    problem, psi = made_up("logistic", ((6, "diagonal"),), sizes=(12, 9))
    objective = NestedLaplace(problem)
    laplace = objective.value(psi)
    sampled = sample_likelihood(objective, np.random.default_rng(1), 100_000)
    found = SparseQuadrature(problem, 7).value(psi)
    assert abs(found - sampled.criterion) < 0.1 * abs(laplace - sampled.criterion)
    assert sampled.std_error < 0.02


def test_gaussian_is_exact_and_moments_are_those_of_the_posterior():
    problem, psi = made_up("gaussian", ((4, "unstructured"),))
    sparse, laplace = SparseQuadrature(problem, 3), NestedLaplace(problem)
    assert sparse.value(psi) == pytest.approx(gaussian_exact(problem, psi), rel=1e-11)
    laplace.value(psi)
    np.testing.assert_allclose(sparse.means()[0], laplace.modes()[0], atol=1e-8)
    np.testing.assert_allclose(sparse.mode_covariance(0), laplace.mode_covariance(0), atol=1e-8)


def test_cancelling_terms_are_an_error_that_names_the_cluster(monkeypatch):
    problem, psi = made_up("logistic", ((4, "diagonal"),))
    objective = SparseQuadrature(problem, 5)
    assert np.isfinite(objective.value(psi))
    # an integrand that is large exactly where weights are negative
    logs = np.where(objective.grid.signs < 0.0, 30.0, 0.0) + objective.grid.log_weights
    with pytest.raises(NegativeIntegralError, match="cluster 1"):
        objective._weights(1, logs[None])
    monkeypatch.setattr(sparse_quadrature, "MOST_CANCELLED", 1.0)
    with pytest.raises(NegativeIntegralError, match="must not cancel"):
        objective.value(psi)


def test_which_points_mean_a_sparse_grid():
    assert not is_sparse(7, 2)
    assert not is_sparse(15, 3)
    assert not is_sparse(5, 4)
    assert is_sparse(7, 4)
    assert is_sparse(5, 5)
    assert not is_sparse(3, 6)
    assert is_sparse(3, 7)
    assert not is_sparse(1, 9)
    problem, _ = made_up("logistic", ((7, "diagonal"),))
    assert isinstance(make_objective(problem, 3), SparseQuadrature)
    with pytest.raises(LikelihoodError, match="odd number"):
        make_objective(problem, 4)
    with pytest.raises(LikelihoodError, match="odd number of points"):
        sparse_grid(4, 4)
    with pytest.raises(LikelihoodError, match=r"2\.82e\+11 on a full grid"):
        sparse_grid(9, 12)
    assert gauss_hermite(8, 4).n < 4096
