"""Estimates of the error of an approximation, the factory, and models without random effects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.importance import (
    log_mean,
    paired_draws,
    sample_likelihood,
)
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.nested_error import (
    more_points,
    sampled_error,
    second_order_error,
    second_order_terms,
)
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.single_level import SingleLevel
from tests.support.cluster_problems import differences, made_up
from tests.unit.likelihood.generalized.brute_force import one_factor

SIZES = (6, 7, 8, 9, 12)
ONE = ((1, "unstructured"),)


def evaluated(family, terms=ONE, points=None, parts=None):
    problem, psi = made_up(family, terms, SIZES, parts=parts)
    objective = make_objective(problem, points)
    return objective, objective.value(psi), psi


@pytest.mark.parametrize("family", ["logistic", "poisson"])
@pytest.mark.parametrize("q", [1, 2])
def test_more_points_find_the_error_of_laplace(family, q):
    objective, value, psi = evaluated(family, ((q, "unstructured"),))
    found = objective.error_estimate(np.random.default_rng(0), 100)
    truth = value - one_factor(objective.problem, psi, 201)
    assert found.method == "more points"
    assert found.criterion == pytest.approx(truth, rel=0.02)
    assert "quadrature points" in found.sentence


def test_more_points_find_the_error_of_quadrature():
    objective, value, psi = evaluated("logistic", ((2, "unstructured"),), points=3)
    found = objective.error_estimate(np.random.default_rng(0), 100)
    truth = value - one_factor(objective.problem, psi, 201)
    assert found.criterion == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("degrees", [5.0, None])
@pytest.mark.parametrize(
    ("family", "terms", "parts"),
    [
        ("logistic", ((2, "unstructured"),), None),
        ("student", ONE, None),
        ("location scale", ((2, "unstructured"),), (0, 1)),
    ],
)
def test_importance_sampling_is_within_its_own_error(family, terms, parts, degrees):
    objective, _, psi = evaluated(family, terms, parts=parts)
    truth = one_factor(objective.problem, psi, 201)
    rng = np.random.default_rng(5)
    sampled = sample_likelihood(objective, rng, 4000, degrees)
    assert sampled.std_error < 0.1
    assert abs(sampled.criterion - truth) < 4.0 * sampled.std_error


def test_four_effects_are_checked_by_sampling():
    objective, value, psi = evaluated("logistic", ((4, "diagonal"),))
    found = objective.error_estimate(np.random.default_rng(0), 4000)
    assert found.method == "importance sampling"
    truth = value - NestedQuadrature(objective.problem, 7).value(psi)
    assert abs(found.criterion - truth) < 4.0 * found.std_error
    without = objective.error_estimate(np.random.default_rng(0), 0)
    assert without.method == "second-order Laplace"
    assert without.criterion == pytest.approx(truth, rel=0.25)


def test_sampling_error_shrinks_with_draws():
    objective, value, _ = evaluated("logistic", ((2, "unstructured"),))
    few = sampled_error(objective, value, np.random.default_rng(1), 200)
    many = sampled_error(objective, value, np.random.default_rng(1), 20_000)
    assert many.std_error < 0.3 * few.std_error
    with pytest.raises(LikelihoodError, match="at least 8 draws"):
        sampled_error(objective, value, np.random.default_rng(1), 6)


@pytest.mark.parametrize(
    ("family", "terms", "parts"),
    [
        ("poisson", ((2, "unstructured"),), None),
        ("logistic", ((3, "unstructured"),), None),
        ("location scale", ((2, "unstructured"),), (1, 0)),
    ],
)
def test_second_order_term_removes_most_of_the_error(family, terms, parts):
    problem, psi = made_up(family, terms, (25, 30, 20), parts=parts)
    objective = NestedLaplace(problem)
    value = objective.value(psi)
    truth = NestedQuadrature(problem, 15).value(psi)
    assert abs(value - second_order_error(objective).criterion - truth) < 0.3 * abs(value - truth)
    assert second_order_terms(objective).shape == (3,)


def test_draws_have_the_density_they_claim():
    t, density = paired_draws(np.random.default_rng(2), (200_000,), 2)
    np.testing.assert_array_equal(t[:, 0], -t[:, 1])
    normal = -np.log(2.0 * np.pi) - 0.5 * (t**2).sum(axis=-1)
    log_value, variance = log_mean(normal - density)
    assert abs(log_value) < 4.0 * np.sqrt(variance)
    assert variance < 1e-4


def test_which_grids_check_which():
    assert more_points(1, 1) == 15
    assert more_points(1, 4) is None
    assert more_points(7, 1) == 15
    assert more_points(5, 3) == 7
    assert more_points(5, 5) is None


def test_the_factory_chooses():
    problem, _psi = made_up("gaussian", ONE, SIZES)
    assert isinstance(make_objective(problem), NestedLaplace)
    assert isinstance(make_objective(problem, 1), NestedLaplace)
    assert make_objective(problem, (7,)).points == (7,)
    flat = replace(problem, blocks=())
    assert isinstance(make_objective(flat), SingleLevel)
    for wrong in (0, -3, (3, 3)):
        with pytest.raises(LikelihoodError, match="must be positive"):
            make_objective(problem, wrong)


@pytest.mark.parametrize("family", ["logistic", "student", "location scale"])
def test_models_without_random_effects(family):
    problem, psi = made_up(family, ONE, SIZES)
    problem = replace(problem, blocks=())
    psi = psi[: problem.n_fixed]
    objective = make_objective(problem)
    objective.value(psi)
    gradient, hessian = objective.gradient(), objective.hessian()
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(-2.0 * objective.row_scores().sum(axis=0), gradient, atol=1e-10)
    columns = []
    for a in range(psi.size):
        e = np.zeros(psi.size)
        e[a] = 1e-5
        objective.value(psi + e)
        up = objective.gradient()
        objective.value(psi - e)
        columns.append((up - objective.gradient()) / 2e-5)
    np.testing.assert_allclose(np.array(columns), hessian, rtol=1e-6, atol=1e-6)
    assert objective.error_estimate(np.random.default_rng(0), 0).criterion == 0.0
    assert objective.cluster_scores() is None
    assert objective.modes() == []
    with pytest.raises(LikelihoodError, match="row"):
        objective.value(psi * np.nan)
