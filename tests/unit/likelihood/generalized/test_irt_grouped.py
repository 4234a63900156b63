"""Persons in groups in models with slopes: brute-force integration, differences, limits."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.irt_grouped import GroupedItemObjective
from multilevel.likelihood.generalized.irt_objective import ItemObjective
from multilevel.likelihood.generalized.irt_problem import PersonGroups, make_problem
from tests.unit.likelihood.generalized.test_irt import probability

CATEGORIES = (2, 3, 2)
CASES = [("partial_credit", "logit"), ("graded", "logit"), ("graded", "probit")]


def make(kind, link, n=7, groups=3, seed=4):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, c, n) for c in CATEGORIES], axis=1)
    codes[0, 1] = -1
    x = rng.normal(size=(n, 1))
    of_person = np.arange(n) % groups
    problem = make_problem(
        codes, CATEGORIES, kind=kind, link=link, x=x, groups=PersonGroups(of_person, groups)
    )
    psi = np.array([1.2, 0.7, 1.5, 0.2, 0.6, -0.4, 0.5, 0.4, 0.8])
    return codes, x[:, 0], of_person, problem, psi


def brute(kind, link, codes, x, of_person, psi):
    """The double integral on fine grids, straight from the definition."""
    slopes, steps = psi[:3], [psi[3:4], psi[4:6], psi[6:7]]
    gamma, tau = psi[7:]
    theta, u = np.linspace(-14.0, 14.0, 1401), np.linspace(-8.0, 8.0, 401)
    total = 0.0
    for g in range(of_person.max() + 1):
        inside = np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi)
        for n in np.flatnonzero(of_person == g):
            given = np.ones(len(theta))
            for i, c in enumerate(codes[n]):
                if c >= 0:
                    given *= [probability(kind, link, slopes[i], steps[i], c, t) for t in theta]
            place = theta[:, None] - gamma * x[n] - tau * u
            normal = np.exp(-0.5 * place**2) / np.sqrt(2.0 * np.pi)
            inside *= given @ normal * (theta[1] - theta[0])
        total += np.log(inside.sum() * (u[1] - u[0]))
    return -2.0 * total


@pytest.mark.parametrize(("kind", "link"), CASES)
def test_value_is_the_double_integral(kind, link):
    codes, x, of_person, problem, psi = make(kind, link)
    value = GroupedItemObjective(problem, 61, 4.0).value(psi)
    assert value == pytest.approx(brute(kind, link, codes, x, of_person, psi), abs=1e-7)


@pytest.mark.parametrize(("kind", "link"), CASES)
def test_derivatives_equal_differences(kind, link):
    _, _, _, problem, psi = make(kind, link, n=60, groups=9)
    objective = GroupedItemObjective(problem, 61, 4.0)
    step = 1e-5 * np.eye(len(psi))
    first = [(objective.value(psi + s) - objective.value(psi - s)) / 2e-5 for s in step]
    objective.value(psi)
    g, H = objective.derivatives()
    np.testing.assert_allclose(g, first, atol=1e-8 * np.abs(H).max())

    def gradient(at):
        objective.value(at)
        return objective.gradient()

    second = [(gradient(psi + s) - gradient(psi - s)) / 2e-5 for s in step]
    np.testing.assert_allclose(H, second, atol=2e-5 * np.abs(H).max())


def test_without_variance_of_groups_persons_are_independent():
    codes, x, _, problem, psi = make("graded", "logit", n=60, groups=9)
    grouped = GroupedItemObjective(problem, 61, 2.0)
    alone = ItemObjective(
        make_problem(codes, CATEGORIES, kind="graded", x=x[:, None]), 61, 2.0
    )  # fmt: skip
    at = np.append(psi[:-1], 0.0)
    # the weights of the group points add to 1 but for what lies beyond 6.5 standard deviations
    assert grouped.value(at) == pytest.approx(alone.value(psi[:-1]), abs=1e-7)
    np.testing.assert_allclose(grouped.gradient()[:-1], alone.gradient(), atol=1e-7)
    assert grouped.gradient()[-1] == pytest.approx(0.0, abs=1e-7)
    own, there = grouped.posterior(), alone.posterior()
    np.testing.assert_allclose(own.mean, there.mean[alone.problem.pattern_of], atol=1e-9)
    np.testing.assert_allclose(own.own_std_dev, own.std_dev, atol=1e-9)


def test_one_person_in_each_group_is_a_larger_variance():
    """theta ~ N(x gamma, 1 + tau^2) is the model of single persons with longer slopes."""
    codes, x, _, _, psi = make("graded", "logit", n=40)
    groups = PersonGroups(np.arange(40), 40)
    problem = make_problem(codes, CATEGORIES, kind="graded", x=x[:, None], groups=groups)
    longer = np.sqrt(1.0 + psi[-1] ** 2)
    moved = psi[:-1].copy()
    moved[:3] *= longer
    moved[-1] /= longer
    alone = ItemObjective(make_problem(codes, CATEGORIES, kind="graded", x=x[:, None]), 121, 2.0)
    grouped = GroupedItemObjective(problem, 121, 5.0)
    assert grouped.value(psi) == pytest.approx(alone.value(moved), abs=1e-7)
    own = grouped.posterior()
    there = alone.posterior()
    np.testing.assert_allclose(
        own.mean, longer * there.mean[alone.problem.pattern_of], atol=1e-6
    )  # fmt: skip
    np.testing.assert_allclose(
        own.std_dev, longer * there.std_dev[alone.problem.pattern_of], atol=1e-6
    )


def test_a_problem_without_groups_is_refused():
    codes, _, _, _, _ = make("graded", "logit")
    with pytest.raises(LikelihoodError, match="Groups of persons"):
        GroupedItemObjective(make_problem(codes, CATEGORIES, kind="graded"))
