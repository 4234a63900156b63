"""Three levels: nested quadrature against brute force, differences, exact cases, invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from multilevel.likelihood.generalized.tree import TreeQuadrature
from multilevel.likelihood.generalized.tree_rows import is_chain
from tests.support.cluster_problems import differences, problem_of
from tests.unit.likelihood.generalized.brute_force import gaussian_exact, two_factors

ONE = ((1, "unstructured"),)
TWO = ((2, "unstructured"),)
CELLS = [
    ("logistic", (ONE, ONE), None),
    ("logistic", (TWO, ONE), None),
    ("logistic", (ONE, TWO), None),
    ("poisson", (((2, "diagonal"),), ((2, "compound_symmetry"),)), None),
    ("student", (ONE, ONE), None),
    ("gaussian", (TWO, ONE), None),
    ("location scale", (TWO, TWO), ((0, 1), (1, 0))),
    ("location scale", (ONE, ONE), ((1,), (0,))),
]


def codes(sizes=(3, 4, 2, 5, 3, 1, 4), homes=(0, 0, 0, 1, 1, 2, 2), seed=0):
    fine = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(seed).permutation(fine.size)
    return fine[order], np.array(homes)[fine][order]


def made(family, terms=(ONE, ONE), parts=None, **kwargs):
    return problem_of(family, codes(**kwargs), terms, parts)


@pytest.mark.parametrize("points", [(1, 1), (1, 3), (3, 1), (4, 3)])
@pytest.mark.parametrize(("family", "terms", "parts"), CELLS)
def test_gradient_is_the_derivative_and_sums_the_scores(family, terms, parts, points):
    problem, psi = made(family, terms, parts)
    objective = TreeQuadrature(problem, points)
    objective.value(psi)
    gradient = objective.gradient()
    scores = objective.cluster_scores()
    assert scores.shape == (3, psi.size)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(-2.0 * scores.sum(axis=0), gradient, rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize(("family", "terms", "parts"), CELLS)
def test_kernels_agree_with_their_plain_twins(family, terms, parts):
    problem, psi = made(family, terms, parts)
    plain = TreeQuadrature(problem, (3, 3), compiled=False)
    compiled = TreeQuadrature(problem, (3, 3), compiled=True)
    assert plain.value(psi) == pytest.approx(compiled.value(psi), rel=1e-11)
    np.testing.assert_allclose(plain.gradient(), compiled.gradient(), rtol=1e-7, atol=1e-7)
    for block in (0, 1):
        np.testing.assert_allclose(plain.means()[block], compiled.means()[block], atol=1e-7)
        np.testing.assert_allclose(
            plain.mode_covariance(block), compiled.mode_covariance(block), atol=1e-7
        )


@pytest.mark.parametrize("family", ["logistic", "poisson", "student"])
def test_quadrature_converges_to_brute_force(family):
    problem, psi = made(family, sizes=(3, 2, 4), homes=(0, 0, 1))
    truth = two_factors(problem, psi)
    errors = [abs(TreeQuadrature(problem, (k, k)).value(psi) - truth) for k in (1, 5, 25)]
    assert errors[2] < (1e-4 if family == "student" else 5e-8)
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("points", [(1, 1), (3, 1), (1, 5), (4, 4)])
def test_gaussian_is_exact_with_any_number_of_points(points):
    problem, psi = made("gaussian", (TWO, TWO))
    value = TreeQuadrature(problem, points).value(psi)
    assert value == pytest.approx(gaussian_exact(problem, psi), rel=1e-11)


def test_one_point_is_the_general_laplace_engine():
    for family, terms, parts in CELLS:
        problem, psi = made(family, terms, parts)
        ours, general = TreeQuadrature(problem, (1, 1)), make_objective(problem)
        assert type(general) is not TreeQuadrature
        assert ours.value(psi) == pytest.approx(general.value(psi), rel=1e-9)
        np.testing.assert_allclose(ours.gradient(), general.gradient(), rtol=1e-5, atol=1e-6)
        for block in (0, 1):
            np.testing.assert_allclose(ours.modes()[block], general.modes()[block], atol=1e-5)
            np.testing.assert_allclose(
                ours.mode_covariance(block), general.mode_covariance(block), atol=1e-5
            )


@pytest.mark.parametrize("none", [0, 1])
def test_a_factor_without_variance_drops_out(none):
    problem, psi = made("logistic")
    psi[-2 + none] = 0.0
    kept = replace(problem, blocks=(problem.blocks[1 - none],))
    both, one = TreeQuadrature(problem, (7, 7)), NestedQuadrature(kept, 7)
    assert both.value(psi) == pytest.approx(one.value(np.delete(psi, -2 + none)), rel=1e-12)
    gradient = both.gradient()
    np.testing.assert_allclose(differences(both, psi), gradient, rtol=1e-6, atol=1e-7)


def test_singular_covariances_are_plain_points():
    problem, psi = made("poisson", (TWO, TWO))
    psi[-6:] = (0.6, 0.3, 0.0, 0.0, 0.0, 0.5)
    objective = TreeQuadrature(problem, (3, 3))
    objective.value(psi)
    gradient = objective.gradient()
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


def test_order_of_rows_and_cutting_change_nothing(monkeypatch):
    sizes, homes = (3, 4, 2, 5, 3, 1, 4) * 8, tuple(np.repeat(np.arange(14), 4))
    problem, psi = made("logistic", sizes=sizes, homes=homes)
    first = TreeQuadrature(problem, (5, 5))
    value = first.value(psi)
    order = np.random.default_rng(3).permutation(problem.n)
    moved = replace(
        problem,
        response=problem.response.take(order),
        fixed=tuple(replace(f, X=np.asfortranarray(f.X[order])) for f in problem.fixed),
        blocks=tuple(
            replace(b, codes=b.codes[order], columns=np.asfortranarray(b.columns[order]))
            for b in problem.blocks
        ),
    )
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.CHUNK_NUMBERS", 0)
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.MIN_CHUNK_ROWS", 30)
    second = TreeQuadrature(moved, (5, 5))
    assert len(second.branches) > 4
    assert second.value(psi) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(second.gradient(), first.gradient(), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(second.cluster_scores(), first.cluster_scores(), atol=1e-8)


def test_modes_are_found_from_bad_starts():
    problem, psi = made("poisson", (TWO, ONE))
    objective = TreeQuadrature(problem, (1, 1))
    value = objective.value(psi)
    good = objective.modes()
    for start in (25.0, -40.0, 3000.0):
        objective.set_modes([np.full_like(m, start) for m in good])
        assert objective.value(psi) == pytest.approx(value, rel=1e-11)
    with pytest.raises(LikelihoodError, match="cluster"):
        objective.value(psi + np.r_[800.0, np.zeros(psi.size - 1)])
    with pytest.raises(LikelihoodError, match="finite"):
        objective.value(psi * np.nan)
    assert objective.value(psi) == pytest.approx(value, rel=1e-11)


def test_error_estimates_find_the_error():
    problem, psi = made("logistic", sizes=(3, 2, 4), homes=(0, 0, 1))
    truth = two_factors(problem, psi)
    for points in ((1, 1), (3, 3)):
        objective = TreeQuadrature(problem, points)
        value = objective.value(psi)
        found = objective.error_estimate(np.random.default_rng(0), 100)
        assert found.method == "more points"
        assert found.criterion == pytest.approx(value - truth, rel=0.05, abs=1e-6)


def test_too_many_effects_are_sampled():
    three = ((3, "diagonal"),)
    problem, psi = made("logistic", (three, three))
    objective = TreeQuadrature(problem, (1, 1))
    value = objective.value(psi)
    found = objective.error_estimate(np.random.default_rng(0), 20_000)
    assert found.method == "importance sampling"
    truth = value - TreeQuadrature(problem, (5, 5)).value(psi)
    assert abs(found.criterion - truth) < 4.0 * found.std_error
    with pytest.raises(LikelihoodError, match="at least 8 draws"):
        objective.error_estimate(np.random.default_rng(0), 2)


def test_which_designs_and_grids_are_possible():
    problem, _ = made("logistic")
    assert is_chain(problem)
    assert make_objective(problem, 5).points == (5, 5)
    assert isinstance(make_objective(problem, (3, 1)), TreeQuadrature)
    crossed, _ = problem_of("logistic", ([0, 0, 1, 1], [0, 1, 0, 1]), (ONE, ONE))
    assert not is_chain(crossed)
    with pytest.raises(LikelihoodError, match="not nested"):
        TreeQuadrature(crossed, (3, 3))
    with pytest.raises(LikelihoodError, match="Laplace"):
        make_objective(crossed, 3)
    wide, _ = made("logistic", (((3, "diagonal"),), TWO))
    with pytest.raises(LikelihoodError, match="joint nodes"):
        TreeQuadrature(wide, (15, 15))
    with pytest.raises(LikelihoodError, match="shapes"):
        TreeQuadrature(problem, (1, 1)).set_modes([np.zeros((7, 1))])
    with pytest.raises(LikelihoodError, match="blocks 0 and 1"):
        TreeQuadrature(problem, (1, 1)).mode_covariance(2)
