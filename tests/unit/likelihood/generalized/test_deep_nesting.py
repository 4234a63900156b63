"""Four levels and deeper: nested quadrature against brute force, differences and other engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized import tree
from multilevel.likelihood.generalized.arrow import (
    Shape,
    arrow_adjoint,
    factor_arrow,
    place_nodes,
)
from multilevel.likelihood.generalized.choose import has_quadrature, make_objective
from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.tree import TreeQuadrature
from tests.support.cluster_problems import differences, problem_of
from tests.unit.likelihood.generalized.brute_force import chain, gaussian_exact

ONE = ((1, "unstructured"),)
TWO = ((2, "unstructured"),)
CELLS = [
    ("logistic", (ONE, ONE, ONE), None),
    ("poisson", (ONE, TWO, ONE), None),
    ("student", (TWO, ONE, ONE), None),
    ("location scale", (ONE, ONE, TWO), ((1,), (0,), (0, 1))),
    ("logistic", (ONE, ONE, ONE, ONE), None),
]


def codes(depth, fine=9, seed=0):
    """Rows of ``fine`` finest units in a chain of ``depth`` factors, shuffled."""
    rng = np.random.default_rng(seed)
    out = [np.repeat(np.arange(fine), rng.integers(1, 4, fine))]
    units = fine
    for _ in range(depth - 1):
        fewer = max(2, units // 2)
        home = np.sort(np.r_[np.arange(fewer), rng.integers(0, fewer, units - fewer)])
        out.append(home[out[-1]])
        units = fewer
    order = rng.permutation(out[0].size)
    return [c[order] for c in out]


def made(family="logistic", terms=(ONE, ONE, ONE), parts=None, fine=9, seed=0):
    return problem_of(family, codes(len(terms), fine, seed), terms, parts, seed)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("family", "terms", "parts"), CELLS)
def test_gradient_is_the_derivative_and_sums_the_scores(family, terms, parts, mixed):
    problem, psi = made(family, terms, parts)
    points = [3, 1, 2, 2][: len(terms)] if mixed else [3] * len(terms)
    objective = TreeQuadrature(problem, points)
    objective.value(psi)
    gradient = objective.gradient()
    scale = np.abs(gradient).max()
    scores = objective.cluster_scores()
    assert scores.shape == (problem.blocks[-1].n_levels, psi.size)
    np.testing.assert_allclose(-2.0 * scores.sum(axis=0), gradient, rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_allclose(differences(objective, psi), gradient, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("family", ["logistic", "poisson"])
def test_quadrature_converges_to_brute_force(family):
    problem, psi = made(family, fine=5)
    psi[-3:] = (0.9, 1.1, 0.8)
    truth = chain(problem, psi)
    errors = [abs(TreeQuadrature(problem, (k,) * 3).value(psi) - truth) for k in (1, 5, 15)]
    assert errors[2] < 2e-6
    assert errors[2] < errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("points", [(1, 1, 1), (3, 1, 2)])
def test_gaussian_is_exact_with_any_number_of_points(points):
    problem, psi = made("gaussian", (TWO, ONE, TWO))
    value = TreeQuadrature(problem, points).value(psi)
    assert value == pytest.approx(gaussian_exact(problem, psi), rel=1e-11)


@pytest.mark.parametrize(("family", "terms", "parts"), CELLS)
def test_one_point_is_the_general_laplace_engine(family, terms, parts):
    problem, psi = made(family, terms, parts)
    ours, general = TreeQuadrature(problem, (1,) * len(terms)), CrossedLaplace(problem)
    assert ours.value(psi) == pytest.approx(general.value(psi), rel=1e-9)
    np.testing.assert_allclose(ours.gradient(), general.gradient(), rtol=1e-5, atol=1e-6)
    for block in range(len(terms)):
        np.testing.assert_allclose(ours.modes()[block], general.modes()[block], atol=1e-5)
        np.testing.assert_allclose(
            ours.mode_covariance(block), general.mode_covariance(block), atol=1e-5
        )


@pytest.mark.parametrize("none", [0, 1, 2])
def test_a_factor_without_variance_drops_out(none):
    problem, psi = made()
    psi[-3 + none] = 0.0
    kept = replace(problem, blocks=tuple(b for t, b in enumerate(problem.blocks) if t != none))
    all_three, two = TreeQuadrature(problem, (5, 5, 5)), TreeQuadrature(kept, (5, 5))
    assert all_three.value(psi) == pytest.approx(two.value(np.delete(psi, -3 + none)), rel=1e-11)


def test_kernels_agree_with_their_plain_twins_and_cutting_changes_nothing(monkeypatch):
    problem, psi = made("logistic", (ONE, TWO, ONE), fine=60)
    plain = TreeQuadrature(problem, (3, 2, 3), compiled=False)
    value = plain.value(psi)
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.CHUNK_NUMBERS", 0)
    monkeypatch.setattr("multilevel.likelihood.generalized.clusters.MIN_CHUNK_ROWS", 20)
    compiled = TreeQuadrature(problem, (3, 2, 3), compiled=True)
    assert len(compiled.branches) > 3
    assert compiled.value(psi) == pytest.approx(value, rel=1e-11)
    np.testing.assert_allclose(compiled.gradient(), plain.gradient(), rtol=1e-7, atol=1e-7)
    for block in range(3):
        np.testing.assert_allclose(plain.means()[block], compiled.means()[block], atol=1e-7)
        np.testing.assert_allclose(
            plain.mode_covariance(block), compiled.mode_covariance(block), atol=1e-7
        )


def test_errors_are_found_by_more_points_and_by_sampling():
    problem, psi = made(fine=5)
    psi[-3:] = (0.9, 1.1, 0.8)
    objective = TreeQuadrature(problem, (1, 1, 1))
    value = objective.value(psi)
    truth = value - TreeQuadrature(problem, (15, 15, 15)).value(psi)
    found = objective.error_estimate(np.random.default_rng(0), 100)
    assert found.method == "more points"
    assert found.criterion == pytest.approx(truth, rel=0.01)
    sampled = objective.correction(np.random.default_rng(0), 20_000)
    assert sampled.is_reliable
    noise = 2.0 * np.sqrt((sampled.normalised.var(axis=1, ddof=1) / 10_000).sum())
    assert abs(sampled.error - truth) < 4.0 * noise
    assert not objective.correction(np.random.default_rng(0), 0).is_reliable


def test_which_grids_are_possible(monkeypatch):
    problem, _ = made()
    assert has_quadrature(problem)
    assert isinstance(make_objective(problem, 3), TreeQuadrature)
    assert make_objective(problem, (3, 1, 2)).points == (3, 1, 2)
    with pytest.raises(LikelihoodError, match=r"27\^1 x 27\^1 x 27\^1 = 19,683"):
        TreeQuadrature(problem, (27, 27, 27))
    monkeypatch.setattr(tree, "MAX_BYTES", 1e4)
    with pytest.raises(LikelihoodError, match=r"343 nodes x \d+ rows of the largest cluster"):
        TreeQuadrature(problem, (7, 7, 7))
    with pytest.raises(LikelihoodError, match="blocks 0 to 2"):
        TreeQuadrature(problem, (1, 1, 1)).mode_covariance(3)


def dense(B, shape):
    """``H`` of a run and the places of every unit's effects, by level."""
    counts = [len(B), *(len(s) for s in shape.starts)]
    places, end = [], 0
    for J, q in zip(counts, shape.widths, strict=True):
        places.append(end + np.arange(J * q).reshape(J, q))
        end += J * q
    H = np.eye(end)
    for j in range(len(B)):
        at, home = [places[0][j]], j
        for t, parent in enumerate(shape.parents):
            home = parent[home]
            at.append(places[t + 1][home])
        rows = np.concatenate(at)
        H[np.ix_(rows, rows)] += B[j]
    return H, places


SHAPE = Shape(
    (2, 1, 2),
    (np.array([0, 2, 3, 5]), np.array([0, 1])),
    (np.array([0, 0, 1, 2, 2, 3, 3]), np.array([0, 1, 1, 1])),
)


def test_the_factor_solves_inverts_and_counts():
    rng = np.random.default_rng(4)
    half = rng.standard_normal((7, 5, 5))
    B = half @ half.transpose(0, 2, 1)
    arrow = factor_arrow(B, SHAPE)
    H, places = dense(B, SHAPE)
    inverse = np.linalg.inv(H)
    right = [rng.standard_normal(p.shape) for p in places]
    wanted = inverse @ np.concatenate([r.ravel() for r in right])
    found = np.concatenate([v.ravel() for v in arrow.solve(right)])
    np.testing.assert_allclose(found, wanted, atol=1e-11)
    assert arrow.half_log_det.sum() == pytest.approx(0.5 * np.linalg.slogdet(H)[1])
    for own, at in zip(arrow.covariances(), places, strict=True):
        for j in range(len(own)):
            np.testing.assert_allclose(own[j], inverse[np.ix_(at[j], at[j])], atol=1e-11)


def test_the_adjoint_of_one_node_is_half_the_inverse():
    """d(-log|H| / 2)/dH = -H^-1 / 2."""
    rng = np.random.default_rng(5)
    half = rng.standard_normal((7, 5, 5))
    B = half @ half.transpose(0, 2, 1)
    arrow = factor_arrow(B, SHAPE)
    grids = [np.zeros((1, q)) for q in SHAPE.widths]
    nodes = place_nodes(arrow, grids)
    none = [np.zeros_like(m) for m in nodes.moves]
    adjoint = arrow_adjoint(arrow, nodes, grids, none, np.zeros((7, 1, 5)))
    H, places = dense(B, SHAPE)
    inverse = np.linalg.inv(H)
    for j in range(7):
        at, home = [places[0][j]], j
        for t, parent in enumerate(SHAPE.parents):
            home = parent[home]
            at.append(places[t + 1][home])
        rows = np.concatenate(at)
        np.testing.assert_allclose(adjoint[j], -0.5 * inverse[np.ix_(rows, rows)], atol=1e-11)
