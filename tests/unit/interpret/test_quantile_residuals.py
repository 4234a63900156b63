"""Uniform residuals: ranks by hand, the level of the tests, and what they detect."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.interpret.quantile_residuals import quantile_residuals


def by_test(found):
    return {test.test: test for test in found.tests}


def test_residuals_are_ranks_spread_within_their_step():
    rng = np.random.default_rng(0)
    y, simulated = rng.standard_normal(50), rng.standard_normal((50, 30))
    found = quantile_residuals(y, simulated, np.random.default_rng(1))
    ranks = (simulated < y[:, None]).sum(axis=1)
    assert np.all(found.residuals >= ranks / 31)
    assert np.all(found.residuals < (ranks + 1) / 31)


def test_statistics_by_their_definitions():
    rng = np.random.default_rng(2)
    y, simulated = 1.5 * rng.standard_normal(70), rng.standard_normal((70, 25))
    tests = by_test(quantile_residuals(y, simulated, rng))
    both = np.column_stack([y, simulated])
    ranks = np.array([[np.sum(row < value) for value in row] for row in both])
    distance, outside, spread = [], [], []
    z = (both - both.mean(1, keepdims=True)) / both.std(1, keepdims=True)
    for k in range(26):
        steps = [np.mean(ranks[:, k] <= r) - (r + 1) / 26 for r in range(26)]
        distance.append(np.max(np.abs(steps)))
        outside.append(np.mean((ranks[:, k] == 0) | (ranks[:, k] == 25)))
        spread.append(np.mean(z[:, k] ** 2))
    assert tests["uniformity"].statistic == pytest.approx(distance[0])
    assert tests["uniformity"].p_value == pytest.approx(np.mean(np.array(distance) >= distance[0]))
    assert tests["outliers"].statistic == pytest.approx(outside[0])
    assert tests["dispersion"].statistic == pytest.approx(spread[0])
    assert tests["dispersion"].expected == pytest.approx(np.mean(spread[1:]))


def test_level_under_dependence():
    """Rows of a cluster share a large effect; the tests still reject at their level."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(6), 20)
    rejected = np.zeros(3)
    for _ in range(200):
        both = 2.0 * rng.standard_normal((6, 40))[g] + rng.standard_normal((120, 40))
        found = quantile_residuals(both[:, 0], both[:, 1:], rng)
        rejected += [test.p_value < 0.1 for test in found.tests]
    assert np.all(rejected / 200 < 0.1 + 4 * np.sqrt(0.09 / 200))
    assert rejected[0] / 200 > 0.02


def test_wrong_spread_and_shape_are_found():
    rng = np.random.default_rng(6)
    simulated = rng.standard_normal((400, 200))
    wide = by_test(quantile_residuals(2.0 * rng.standard_normal(400), simulated, rng))
    assert wide["dispersion"].p_value <= 0.01
    assert "more than" in wide["dispersion"].sentence
    narrow = by_test(quantile_residuals(0.5 * rng.standard_normal(400), simulated, rng))
    assert "less than" in narrow["dispersion"].sentence
    skewed = by_test(quantile_residuals(rng.exponential(size=400) - 1.0, simulated, rng))
    assert skewed["uniformity"].p_value <= 0.01
    assert "differs from" in skewed["uniformity"].sentence


def test_refuses_too_few():
    with pytest.raises(InferenceError, match="at least 20"):
        quantile_residuals(np.zeros(3), np.zeros((3, 5)), np.random.default_rng(0))


def test_of_a_fit_that_is_right():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(30), 10)
    y = rng.standard_normal(30)[g] + rng.standard_normal(300)
    m = mlm.fit("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}))
    found = m.quantile_residuals(n_sim=100, seed=3)
    assert found["residual"].between(0, 1).all()
    assert (found.attrs["tests"]["p_value"] > 0.02).all()
    again = m.quantile_residuals(n_sim=100, seed=3)
    assert found["residual"].equals(again["residual"])
    conditional = m.quantile_residuals(n_sim=100, seed=3, kind="conditional")
    assert not found["residual"].equals(conditional["residual"])
    assert abs(conditional["residual"].mean() - 0.5) < 0.02
