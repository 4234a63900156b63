"""The likelihood of three and four levels against one dense normal density, and its gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.structural.nested import (
    NestedMoments,
    nested_gradient,
    nested_minus2_loglik,
)
from multilevel.likelihood.structural.nested_information import nested_information
from multilevel.likelihood.structural.random_slopes import SlopeMoments, slope_minus2_loglik
from multilevel.likelihood.structural.two_level import Moments
from tests.unit.likelihood.structural import nested_dense as dense

CASES = [
    {},
    {"holes": 0.0},
    {"has_slope": True},
    {"has_four": True},
    {"has_slope": True, "has_four": True, "holes": 0.4},
    {"n_z": 0, "n_z3": 0},
    {"n_z": 1, "n_z3": 1, "holes": 0.0, "has_slope": True},
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_is_the_dense_density(case, seed):
    s = dense.setting(seed, **case)
    found = nested_minus2_loglik(s.stats, s.sums, s.point)
    assert found == pytest.approx(dense.minus2_loglik(s), rel=1e-12)


def _random_direction(rng, point):
    def symmetric(k):
        root = rng.normal(size=(k, k))
        return root + root.T

    low = point.lower.at
    sizes = [len(low.mean_within), len(low.mean_between), *(len(m) for m, _ in point.upper)]
    parts = [(rng.normal(size=k), symmetric(k)) for k in sizes]
    carry = rng.normal(size=point.lower.N.shape) * (point.lower.N != 0.0)
    carry[:, : len(low.mean_within) - 1] = 0.0
    return parts, carry


def _moved(point, parts, carry, step):
    low = point.lower.at
    (mw, cw), (mb, cb), *rest = parts
    at = Moments(
        low.mean_within + step * mw,
        low.cov_within + step * cw,
        low.mean_between + step * mb,
        low.cov_between + step * cb,
    )
    upper = tuple(
        (m + step * a, c + step * b) for (m, c), (a, b) in zip(point.upper, rest, strict=True)
    )
    return NestedMoments(SlopeMoments(at, point.lower.N + step * carry), upper)


def _along(gradient, parts, carry):
    (mw, cw), *rest = parts
    n_slopes = gradient.carry.shape[2]
    total = np.sum(gradient.mean_within @ mw) + np.sum(gradient.cov_within * cw)
    total += np.sum(gradient.carry * carry[:, carry.shape[1] - n_slopes :])
    for m, c, (a, b) in zip(gradient.means, gradient.covs, rest, strict=True):
        total += np.sum(m @ a) + np.sum(c * b)
    return total


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_is_the_difference_of_values(case):
    s = dense.setting(3, **case)
    parts, carry = _random_direction(np.random.default_rng(1), s.point)
    whole = nested_gradient(s.stats, s.sums, s.point)
    by_unit = nested_gradient(s.stats, s.sums, s.point, by_unit=True)
    h = 1e-4
    for pick in range(len(parts) + 1):
        chosen = [(a * (k == pick), b * (k == pick)) for k, (a, b) in enumerate(parts)]
        tilt = carry * (pick == len(parts))
        values = [
            nested_minus2_loglik(s.stats, s.sums, _moved(s.point, chosen, tilt, k * h))
            for k in (-2, -1, 1, 2)
        ]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert _along(whole, chosen, tilt) == pytest.approx(slope, rel=1e-7, abs=1e-7)
        assert _along(by_unit, chosen, tilt) == pytest.approx(slope, rel=1e-7, abs=1e-7)


def test_expected_information_is_the_dense_one():
    for case in ({}, {"has_four": True}, {"holes": 0.0}):
        s = dense.setting(1, **case)
        rng = np.random.default_rng(0)
        drawn = [_random_direction(rng, s.point)[0] for _ in range(4)]
        along = [
            tuple(np.stack([d[level][k] for d in drawn]) for k in (0, 1))
            for level in range(len(drawn[0]))
        ]
        found = nested_information(s.stats, s.sums, s.point, along)
        mean, V, _ = dense.joint_moments(s)
        still = np.zeros_like(s.point.lower.N)
        moved = [
            dense.joint_moments(replace(s, point=_moved(s.point, d, still, 1.0))) for d in drawn
        ]
        solved = [np.linalg.solve(V, v - V) for _, v, _ in moved]
        means = [m - mean for m, _, _ in moved]
        for a in range(4):
            for b in range(4):
                expected = 0.5 * np.trace(solved[a] @ solved[b])
                expected += means[a] @ np.linalg.solve(V, means[b])
                assert found[a, b] == pytest.approx(expected, rel=1e-9)


def test_complex_step_is_the_derivative():
    s = dense.setting(2, has_slope=True)
    parts, carry = _random_direction(np.random.default_rng(1), s.point)
    exact = nested_gradient(s.stats, s.sums, _moved(s.point, parts, carry, 1e-30j))
    h = 1e-5
    up, down = (nested_gradient(s.stats, s.sums, _moved(s.point, parts, carry, k)) for k in (h, -h))
    for one, a, b in zip(exact.covs, up.covs, down.covs, strict=True):
        assert one.imag / 1e-30 == pytest.approx((a - b) / (2 * h), rel=1e-5, abs=1e-4)


def test_a_third_level_without_covariance_changes_nothing():
    s = dense.setting(0, has_slope=True)
    zero = tuple((m, np.zeros_like(c)) for m, c in s.point.upper)
    k = len(s.sums[0].lift)
    zero[0][1][k:, k:] = np.eye(2)
    three = nested_minus2_loglik(s.stats, s.sums, NestedMoments(s.point.lower, zero))
    low = s.point.lower
    mean = low.at.mean_between.copy()
    mean[s.sums[0].lift] += zero[0][0][:k]
    moved = Moments(low.at.mean_within, low.at.cov_within, mean, low.at.cov_between)
    two = slope_minus2_loglik(s.stats, SlopeMoments(moved, low.N))
    e = (s.uppers[0][2] - zero[0][0][k:])[~np.isnan(s.uppers[0][2])]
    own = float(np.sum(e**2)) + len(e) * np.log(2.0 * np.pi)
    assert three == pytest.approx(two + own, rel=1e-12)


def test_a_covariance_that_no_data_can_have_is_refused():
    s = dense.setting(0)
    mean, cov = s.point.upper[0]
    bad = cov.copy()
    bad[0, 0] = -1e4
    with pytest.raises(LikelihoodError, match="positive definite"):
        nested_minus2_loglik(s.stats, s.sums, NestedMoments(s.point.lower, ((mean, bad),)))
