"""Laplace and quadrature with one grouping factor: brute force, differences, invariances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.cluster_objective import ClusterObjective
from multilevel.likelihood.generalized.clusters import cut
from multilevel.likelihood.generalized.nested import NestedLaplace
from multilevel.likelihood.generalized.quadrature import NestedQuadrature
from tests.support.cluster_problems import differences, made_up, problem_of
from tests.unit.likelihood.generalized.brute_force import gaussian_exact, one_factor

SIZES = (4, 5, 3, 8, 1, 6)
ONE = ((1, "unstructured"),)
DESIGNS = {
    "intercept": (ONE, None),
    "slope": (((2, "unstructured"),), None),
    "diagonal": (((2, "diagonal"),), None),
    "compound symmetry": (((3, "compound_symmetry"),), None),
    "identity": (((2, "identity"),), None),
    "two terms": (((1, "unstructured"), (2, "unstructured")), None),
}
TWO_PARTS = {
    "a term each": (((1, "unstructured"), (1, "unstructured")), (0, 1)),
    "correlated": (((3, "unstructured"),), (0, 0, 1)),
    "second part only": (ONE, (1,)),
    "mixed order": (((2, "unstructured"), (1, "unstructured")), (1, 0, 0)),
}
CELLS = [
    (family, terms, parts)
    for family in ("logistic", "poisson", "student", "gaussian")
    for terms, parts in DESIGNS.values()
] + [("location scale", terms, parts) for terms, parts in TWO_PARTS.values()]


def engine(problem, points, compiled=False):
    if points is None:
        return NestedLaplace(problem, compiled=compiled)
    return NestedQuadrature(problem, points, compiled=compiled)


@pytest.mark.parametrize("points", [None, 1, 3, 7])
@pytest.mark.parametrize(("family", "terms", "parts"), CELLS)
def test_gradient_is_the_derivative_and_sums_the_scores(family, terms, parts, points):
    problem, psi = made_up(family, terms, SIZES, parts=parts)
    objective = engine(problem, points)
    objective.value(psi)
    gradient = objective.gradient()
    scores = objective.cluster_scores()
    assert scores.shape == (len(SIZES), psi.size)
    np.testing.assert_allclose(-2.0 * scores.sum(axis=0), gradient, rtol=1e-10, atol=1e-10)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("points", [None, 5])
@pytest.mark.parametrize(
    ("family", "terms", "parts"),
    [
        *CELLS[::3],
        ("student", *DESIGNS["intercept"]),
        ("location scale", *TWO_PARTS["correlated"]),
        ("location scale", *TWO_PARTS["second part only"]),
    ],
)
def test_kernels_agree_with_their_plain_twins(family, terms, parts, points):
    problem, psi = made_up(family, terms, SIZES, parts=parts)
    plain, compiled = engine(problem, points), engine(problem, points, compiled=True)
    assert plain.value(psi) == pytest.approx(compiled.value(psi), rel=1e-12)
    np.testing.assert_allclose(plain.gradient(), compiled.gradient(), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(plain.modes()[0], compiled.modes()[0], atol=1e-7)
    np.testing.assert_allclose(plain.mode_covariance(0), compiled.mode_covariance(0), atol=1e-7)
    np.testing.assert_allclose(
        plain.cluster_scores(), compiled.cluster_scores(), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("family", ["logistic", "poisson", "student"])
@pytest.mark.parametrize(("q", "points", "tolerance"), [(1, 41, 2e-7), (2, 31, 2e-6)])
def test_quadrature_converges_to_brute_force(family, q, points, tolerance):
    problem, psi = made_up(family, ((q, "unstructured"),), (4, 2, 6), seed=q)
    truth = one_factor(problem, psi, 401 if q == 1 else 161)
    errors = [abs(engine(problem, k).value(psi) - truth) for k in (None, 5, points)]
    assert errors[2] < tolerance * (50.0 if family == "student" else 1.0)
    assert errors[2] < errors[1] < errors[0]


def test_random_effects_in_two_parts_converge_to_brute_force():
    problem, psi = made_up("location scale", *_with_sizes((5, 3, 7), *TWO_PARTS["a term each"]))
    truth = one_factor(problem, psi, 201)
    assert engine(problem, 41).value(psi) == pytest.approx(truth, abs=1e-4)


def _with_sizes(sizes, terms, parts):
    return terms, sizes, 0, parts


@pytest.mark.parametrize("points", [None, 1, 3, 7])
@pytest.mark.parametrize("design", list(DESIGNS))
def test_gaussian_is_exact_with_any_number_of_points(design, points):
    problem, psi = made_up("gaussian", DESIGNS[design][0], SIZES)
    value = engine(problem, points).value(psi)
    assert value == pytest.approx(gaussian_exact(problem, psi), rel=1e-11)


@pytest.mark.parametrize("points", [None, 5])
def test_order_of_rows_does_not_matter(points):
    problem, psi = made_up("poisson", ((2, "unstructured"),), SIZES)
    order = np.random.default_rng(0).permutation(problem.n)
    moved = replace(
        problem,
        response=problem.response.take(order),
        fixed=tuple(replace(f, X=np.asfortranarray(f.X[order])) for f in problem.fixed),
        blocks=tuple(
            replace(b, codes=b.codes[order], columns=np.asfortranarray(b.columns[order]))
            for b in problem.blocks
        ),
    )
    first, second = engine(problem, points), engine(moved, points)
    assert first.value(psi) == pytest.approx(second.value(psi), rel=1e-12)
    np.testing.assert_allclose(first.gradient(), second.gradient(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(first.modes()[0], second.modes()[0], atol=1e-9)


@pytest.mark.parametrize("points", [None, 5])
@pytest.mark.parametrize("compiled", [False, True])
def test_levels_without_rows_change_nothing(points, compiled):
    problem, psi = made_up("logistic", ((2, "unstructured"),), SIZES)
    block = problem.blocks[0]
    wide = replace(
        problem, blocks=(replace(block, codes=(block.codes * 2).astype(np.int32), n_levels=13),)
    )
    first, second = engine(problem, points, compiled), engine(wide, points, compiled)
    assert first.value(psi) == pytest.approx(second.value(psi), rel=1e-13)
    np.testing.assert_allclose(first.gradient(), second.gradient(), rtol=1e-11, atol=1e-12)
    assert second.cluster_scores().shape == (13, psi.size)
    np.testing.assert_allclose(second.modes()[0][12], 0.0)
    np.testing.assert_allclose(second.mode_covariance(0, [1, 12]), [np.eye(2)] * 2)


@pytest.mark.parametrize("points", [None, 3])
@pytest.mark.parametrize("singular", ["zero", "rank one"])
@pytest.mark.parametrize("family", ["logistic", "student"])
def test_singular_covariances_are_plain_points(family, singular, points):
    problem, psi = made_up(family, ((2, "unstructured"),), SIZES)
    psi[-3:] = 0.0 if singular == "zero" else (0.7, 0.4, 0.0)
    objective = engine(problem, points)
    value = objective.value(psi)
    gradient = objective.gradient()
    assert np.isfinite(value)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


def test_one_point_is_laplace():
    for family, terms, parts in CELLS:
        problem, psi = made_up(family, terms, SIZES, parts=parts)
        laplace, one = engine(problem, None), engine(problem, 1)
        assert laplace.value(psi) == pytest.approx(one.value(psi), rel=1e-13)
        np.testing.assert_allclose(laplace.gradient(), one.gradient(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("points", [None, 5])
@pytest.mark.parametrize("compiled", [False, True])
def test_chunks_and_threads_change_nothing(points, compiled, monkeypatch):
    problem, psi = made_up("logistic", ((2, "unstructured"),), SIZES * 20)
    whole = engine(problem, points, compiled)
    assert len(whole.chunks) <= 2
    value = whole.value(psi)
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.CHUNK_NUMBERS", 0)
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.MIN_CHUNK_ROWS", 20)
    kind = type(whole)
    arguments = {} if points is None else {"points": points}
    pieces = kind(problem, compiled=compiled, threads=2, **arguments)
    assert len(pieces.chunks) > 10
    assert pieces.value(psi) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(pieces.gradient(), whole.gradient(), rtol=1e-10, atol=1e-10)


def test_chunks_cover_every_cluster_once():
    ptr = np.concatenate([[0], np.cumsum([3, 900, 2, 2, 400, 1])]).astype(np.int64)
    chunks = cut(ptr, 10**9)
    assert [c.start for c in chunks] == [0, 1, 2, 4, 5] or chunks[0].start == 0
    assert [c.stop for c in chunks[:-1]] == [c.start for c in chunks[1:]]
    assert chunks[-1].stop == 6
    assert sum(c.n_rows for c in chunks) == ptr[-1]


@pytest.mark.parametrize("compiled", [False, True])
def test_modes_are_found_from_bad_starts(compiled):
    problem, psi = made_up("poisson", ((2, "unstructured"),), SIZES)
    objective = engine(problem, None, compiled)
    value, modes = objective.value(psi), objective.modes()[0]
    for start in (30.0, -40.0, 2000.0, 1e6):
        objective.set_modes([np.full_like(modes, start)])
        assert objective.value(psi) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(objective.modes()[0], modes, atol=1e-7)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_value_that_does_not_exist_is_an_error_and_is_forgotten(compiled):
    problem, psi = made_up("poisson", ONE, SIZES)
    objective = engine(problem, None, compiled)
    value = objective.value(psi)
    wild = psi.copy()
    wild[0] = 800.0
    with pytest.raises(LikelihoodError, match="cluster 0"):
        objective.value(wild)
    with pytest.raises(LikelihoodError, match="finite"):
        objective.value(psi * np.nan)
    assert objective.value(psi) == pytest.approx(value, rel=1e-12)


def test_posterior_moments_are_those_of_brute_force():
    problem, psi = made_up("logistic", ONE, (9,))
    objective = NestedQuadrature(problem, 25)
    objective.value(psi)
    u = np.linspace(-9.0, 9.0, 4001)
    Lam = problem.factors(psi)[0][0, 0]
    eta = problem.fixed_predictors(psi)[:, None, :] + (Lam * u)[:, None] * np.ones(9)
    log_weight = problem.row_likelihood().value(eta).sum(axis=1) - 0.5 * u * u
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ u
    assert objective.means()[0][0, 0] == pytest.approx(mean, abs=1e-7)
    variance = weight @ (u - mean) ** 2
    assert objective.mode_covariance(0)[0, 0, 0] == pytest.approx(variance, abs=1e-7)


def test_what_is_not_possible_is_said():
    problem, _ = made_up("logistic", ((4, "diagonal"),), SIZES)
    with pytest.raises(LikelihoodError, match="at most 8 points"):
        NestedQuadrature(problem, 9)
    with pytest.raises(LikelihoodError, match="shape"):
        NestedLaplace(problem).set_modes([np.zeros((2, 4))])
    with pytest.raises(LikelihoodError, match="block 0"):
        NestedLaplace(problem).mode_covariance(1)
    two, _ = problem_of("logistic", ([0, 1, 2, 3], [0, 0, 1, 1]), (ONE, ONE))
    with pytest.raises(LikelihoodError, match="2 factors"):
        ClusterObjective(two)
