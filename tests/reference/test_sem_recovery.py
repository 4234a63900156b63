"""Indirect effects within and between clusters: recovery and coverage in a seeded simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

TRUTH = {"within": 0.5 * 0.4, "between": 0.6 * 0.7, "contextual": 0.6 * 0.7 - 0.5 * 0.4}
N_SIM = 200


def _draw(rng):
    """80 clusters of 3 to 12 rows, 1-1-1, one value in ten missing at random given x."""
    sizes = rng.integers(3, 13, 80)
    g = np.repeat(np.arange(80), sizes)
    n = len(g)
    ux, ex = rng.normal(size=80), rng.normal(size=n)
    um, em = 0.6 * ux + 0.7 * rng.normal(size=80), 0.5 * ex + rng.normal(size=n)
    uy = 0.7 * um - 0.2 * ux + 0.6 * rng.normal(size=80)
    y = uy[g] + 0.4 * em + 0.3 * ex + rng.normal(size=n)
    x, m = ux[g] + ex, um[g] + em
    m[rng.random(n) < 0.2 * (x > 0)] = np.nan
    y[rng.random(n) < 0.1] = np.nan
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y})


@pytest.mark.slow
def test_indirect_effects_are_recovered_and_covered():
    rng = np.random.default_rng(20261)
    found = {level: [] for level in TRUTH}
    for _ in range(N_SIM):
        result = mlm.mediate(x="x", m="m", y="y", data=_draw(rng), cluster="g", n_draws=2000)
        assert result.model.certificate.is_certified
        effects = result.effects()
        for row in effects[effects["effect"] == "indirect"].itertuples():
            found[row.level].append((row.estimate, row.std_error, row.conf_low, row.conf_high))
    for level, truth in TRUTH.items():
        estimate, error, low, high = np.array(found[level]).T
        monte_carlo = estimate.std(ddof=1) / np.sqrt(N_SIM)
        assert abs(estimate.mean() - truth) < 3.0 * monte_carlo, level
        # the ratio of mean standard error to spread has a standard error of 1 / sqrt(2 N)
        assert error.mean() / estimate.std(ddof=1) == pytest.approx(1.0, abs=0.15), level
        covered = np.mean((low < truth) & (truth < high))
        # 95% nominal; three binomial standard errors are 4.6 points
        assert 0.90 < covered < 0.99, level


A, B, C, TAU = 0.5, 0.4, 0.3, 0.08
RANDOM_TRUTH = {"within": A * B + TAU, "between": 0.6 * (B + 0.3)}
N_RANDOM = 150


def _draw_random(rng, x):
    """100 clusters of 12 rows, random slopes of x to m and of m to y that covary; x as given."""
    J, n = x.shape
    G = np.array(
        [[0.5, 0.0, 0.05, 0.0], [0.0, 0.4, 0.0, 0.05], [0.05, 0.0, 0.2, TAU],
         [0.0, 0.05, TAU, 0.15]])  # fmt: skip
    u = rng.multivariate_normal(np.zeros(4), G, J)
    mean = x.mean(axis=1, keepdims=True)
    m_b = 1.0 + 0.6 * mean + u[:, [0]]
    m = m_b + (A + u[:, [2]]) * (x - mean) + rng.normal(size=x.shape)
    y_b = 2.0 + 0.3 * m_b - 0.2 * mean + u[:, [1]]
    y = y_b + (B + u[:, [3]]) * m + C * (x - mean) + rng.normal(size=x.shape)
    g = np.repeat(np.arange(J), n)
    return pd.DataFrame({"g": g, "x": x.ravel(), "m": m.ravel(), "y": y.ravel()})


@pytest.mark.slow
def test_indirect_effects_with_random_slopes_are_recovered_and_covered():
    rng = np.random.default_rng(20262)
    x = rng.normal(size=(100, 1)) + rng.normal(size=(100, 12))
    found = {level: [] for level in RANDOM_TRUTH}
    for _ in range(N_RANDOM):
        result = mlm.mediate(
            x="x", m="m", y="y", data=_draw_random(rng, x), cluster="g", slopes="random",
            n_draws=2000,
        )  # fmt: skip
        effects = result.effects()
        for row in effects[effects["effect"] == "indirect"].itertuples():
            if row.level in found:
                found[row.level].append((row.estimate, row.std_error, row.conf_low, row.conf_high))
    for level, truth in RANDOM_TRUTH.items():
        estimate, error, low, high = np.array(found[level]).T
        assert len(estimate) == N_RANDOM
        assert abs(estimate.mean() - truth) < 3.0 * estimate.std(ddof=1) / np.sqrt(N_RANDOM), level
        # three standard errors of the ratio, 1 / sqrt(2 N)
        assert error.mean() / estimate.std(ddof=1) == pytest.approx(1.0, abs=0.18), level
        covered = np.mean((low < truth) & (truth < high))
        # 95% nominal; three binomial standard errors are 5.3 points
        assert 0.89 < covered <= 1.0, level
