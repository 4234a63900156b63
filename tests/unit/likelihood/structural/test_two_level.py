"""The two-level likelihood against dense normal densities, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.structural.information import (
    Directions,
    cluster_scores,
    expected_information,
)
from multilevel.likelihood.structural.statistics import group_statistics
from multilevel.likelihood.structural.two_level import Moments, gradient, minus2_loglik
from tests.unit.likelihood.structural import dense

SHAPES = [
    {"p": 4, "n_both": 2, "n_z": 2},
    {"p": 3, "n_both": 3, "n_z": 0},
    {"p": 2, "n_both": 0, "n_z": 2},
    {"p": 3, "n_both": 1, "n_z": 1},
    {"p": 1, "n_both": 1, "n_z": 0},
    {"p": 2, "n_both": 0, "n_z": 0},
]


def _setting(shape, holes, seed=3):
    rng = np.random.default_rng(seed)
    y, codes, z, n_both = dense.random_group(
        rng, sizes=(1, 3, 4, 4, 2, 6), holes=holes, holes_z=holes, **shape
    )
    return y, codes, z, n_both, dense.random_moments(rng, **shape)


def _directions(rng, shape, n=5):
    p, P = shape["p"], shape["n_both"] + shape["n_z"]
    S, D = rng.normal(size=(n, p, p)), rng.normal(size=(n, P, P))
    S[0], D[1] = 0.0, 0.0
    return Directions(
        rng.normal(size=(n, p)),
        S + np.swapaxes(S, 1, 2),
        rng.normal(size=(n, P)),
        D + np.swapaxes(D, 1, 2),
    )


def _moved(at, along, a, step):
    return Moments(
        at.mean_within + step * along.mean_within[a],
        at.cov_within + step * along.cov_within[a],
        at.mean_between + step * along.mean_between[a],
        at.cov_between + step * along.cov_between[a],
    )


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_is_the_dense_density(shape, holes):
    y, codes, z, n_both, at = _setting(shape, holes)
    data = group_statistics(y, codes, z, n_both)
    expected = dense.minus2_loglik(y, codes, z, n_both, at)
    assert minus2_loglik(data, at) == pytest.approx(expected, rel=1e-11)


def test_indefinite_between_covariance_is_allowed_where_the_density_exists():
    shape = SHAPES[1]
    y, codes, z, n_both, at = _setting(shape, 0.2)
    values, vectors = np.linalg.eigh(at.cov_between)
    values[0] = -0.02
    at = Moments(at.mean_within, at.cov_within, at.mean_between, (vectors * values) @ vectors.T)
    data = group_statistics(y, codes, z, n_both)
    expected = dense.minus2_loglik(y, codes, z, n_both, at)
    assert minus2_loglik(data, at) == pytest.approx(expected, rel=1e-11)
    values[0] = -50.0
    bad = Moments(at.mean_within, at.cov_within, at.mean_between, (vectors * values) @ vectors.T)
    with pytest.raises(LikelihoodError, match="positive definite"):
        minus2_loglik(data, bad)


def test_two_negative_directions_do_not_cancel():
    # log|I + S A| alone would not see an even number of negative eigenvalues
    y, codes, z, n_both, at = _setting(SHAPES[1], 0.0)
    data = group_statistics(y, codes, z, n_both)
    bad = Moments(at.mean_within, at.cov_within, at.mean_between, np.diag([-60.0, -60.0, 1.0]))
    with pytest.raises(LikelihoodError, match="positive definite"):
        minus2_loglik(data, bad)


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_the_difference_of_values(shape, holes):
    y, codes, z, n_both, at = _setting(shape, holes)
    data = group_statistics(y, codes, z, n_both)
    along = _directions(np.random.default_rng(1), shape)
    g = gradient(data, at)
    for a in range(5):
        exact = (
            g.mean_within @ along.mean_within[a]
            + np.sum(g.cov_within * along.cov_within[a])
            + g.mean_between @ along.mean_between[a]
            + np.sum(g.cov_between * along.cov_between[a])
        )
        h = 1e-4
        values = [minus2_loglik(data, _moved(at, along, a, k * h)) for k in (-2, -1, 1, 2)]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert exact == pytest.approx(slope, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_expected_information_is_the_dense_one(shape, holes):
    y, codes, z, n_both, at = _setting(shape, holes)
    data = group_statistics(y, codes, z, n_both)
    along = _directions(np.random.default_rng(1), shape)
    total = np.zeros((5, 5))
    for j in range(len(z)):
        values, L, place = dense.cluster_parts(y, codes, z, n_both, j)
        if not len(values):
            continue
        mean, V = dense.cluster_moments(L, place, at)
        parts = [dense.cluster_moments(L, place, _moved(at, along, a, 1.0)) for a in range(5)]
        means = [m - mean for m, _ in parts]
        solved = [np.linalg.solve(V, v - V) for _, v in parts]
        for a in range(5):
            for b in range(5):
                total[a, b] += 0.5 * np.trace(solved[a] @ solved[b])
                total[a, b] += means[a] @ np.linalg.solve(V, means[b])
    assert expected_information(data, at, along) == pytest.approx(total, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cluster_scores_are_gradients_of_single_clusters(shape, holes):
    y, codes, z, n_both, at = _setting(shape, holes)
    along = _directions(np.random.default_rng(1), shape)
    scores = cluster_scores(group_statistics(y, codes, z, n_both), at, along)
    for j in range(len(z)):
        mine = codes == j
        single = group_statistics(y[mine], np.zeros(mine.sum(), int), z[[j]], n_both)
        if not single.n_rows:
            continue
        g = gradient(single, at)
        exact = (
            along.mean_within @ g.mean_within
            + np.einsum("aij,ij->a", along.cov_within, g.cov_within)
            + along.mean_between @ g.mean_between
            + np.einsum("aij,ij->a", along.cov_between, g.cov_between)
        )
        assert scores[j] == pytest.approx(-0.5 * exact, rel=1e-8, abs=1e-8)


def test_completeness_is_seen():
    y, codes, z, n_both, _ = _setting(SHAPES[0], 0.0)
    assert group_statistics(y, codes, z, n_both).is_complete
    y[2, 1] = np.nan
    holed = group_statistics(y, codes, z, n_both)
    assert not holed.is_complete
    assert holed.n_patterns == 2


def test_order_of_rows_and_clusters_changes_nothing():
    y, codes, z, n_both, at = _setting(SHAPES[0], 0.3)
    rng = np.random.default_rng(0)
    swap, order = rng.permutation(len(z)), rng.permutation(len(y))
    moved = group_statistics(y[order], np.argsort(swap)[codes][order], z[swap], n_both)
    value = minus2_loglik(group_statistics(y, codes, z, n_both), at)
    assert minus2_loglik(moved, at) == pytest.approx(value, rel=1e-13)
