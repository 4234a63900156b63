"""Size of tests and coverage of intervals with 20 clusters, by simulation with a fixed seed.

Bounds are binomial standard errors: three against the nominal 5% and 95% where theory promises
them, four against the recorded larger simulation (coverage.csv beside this file,
another seed) for every rate, the ones off their nominal value too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import multilevel as mlm
from tests.support import coverage

N_TESTS, N_LIKELIHOOD, N_OUTER, N_BOOT = 1000, 500, 200, 199
DOCS = Path(__file__).parents[3] / "docs" / "coverage.md"


@pytest.fixture(scope="module")
def rates():
    found = coverage.simulate(N_TESTS, N_LIKELIHOOD, N_OUTER, N_BOOT, seed=7)
    return {rate.key: rate for rate in found}


def within(rate, target, n_more=None, errors=3):
    """Whether a rate is within some standard errors of ``target`` (itself of ``n_more``)."""
    share = 1 / rate.n + (1 / n_more if n_more else 0.0)
    return abs(rate.rate - target) <= errors * np.sqrt(target * (1 - target) * share)


@pytest.mark.slow
@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "between-within"])
def test_tests_keep_their_size(rates, df):
    assert within(rates["size", "w", df], 0.05)
    assert within(rates["coverage", "w", f"Wald, df {df}"], 0.95)


@pytest.mark.slow
def test_what_degrees_of_freedom_are_for(rates):
    """z, and t on residual df, of a predictor of clusters reject more often, sample by sample."""
    recorded = coverage.read()
    for df in ("none", "residual"):
        large, reference = recorded["size", "w", df], recorded["size", "w", "satterthwaite"]
        # the same samples: only those on which the two disagree count
        more = large.rate - reference.rate
        assert more > 3 * np.sqrt(more / large.n)
        assert rates["size", "w", df].rate > rates["size", "w", "satterthwaite"].rate


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["tau", "sigma"])
def test_profiles_of_variances_cover(rates, quantity):
    assert within(rates["coverage", quantity, "profile (REML)"], 0.95)


@pytest.mark.slow
def test_every_rate_is_as_recorded(rates):
    recorded = coverage.read()
    assert set(rates) <= set(recorded)
    off = []
    for key, rate in rates.items():
        large = recorded[key]
        # a rate of nearly 1 is given the room of one that misses five times
        target = min(max(large.rate, 5 / large.n), 1 - 5 / large.n)
        # four standard errors: 24 rates, many of them of the same samples
        if not within(rate, target, large.n, errors=4):
            off.append((key, rate.rate, large.rate))
    assert not off


@pytest.mark.slow
def test_a_profile_interval_holds_what_the_rise_says():
    """The shortcut of the simulation against the intervals themselves."""
    setting = coverage.Setting()
    Y = setting.draw(12, np.random.default_rng(5))
    data = {"g": setting.g, "w": setting.reml.design.X[:, 1], "x": setting.reml.design.X[:, 2]}
    for k, (problem, fit) in enumerate(coverage.fitted(setting.reml, Y)):
        m = mlm.fit("y ~ w + x + (1 | g)", {**data, "y": Y[:, k]}, advice=False)
        assert m.fit.criterion == pytest.approx(fit.criterion, abs=1e-7)
        found = coverage.likelihood_of(problem, fit)
        intervals = m.confint("profile", components=["sd"])
        for row, (name, truth) in zip(
            intervals.itertuples(), {"tau": coverage.TAU, "sigma": coverage.SIGMA}.items(),
            strict=True,
        ):  # fmt: skip
            inside = row.conf_low <= truth <= row.conf_high
            assert found["coverage", name, "profile (REML)"] == inside


def test_the_page_shows_the_recorded_table():
    text = DOCS.read_text(encoding="utf-8")
    for line in coverage.lines(list(coverage.read().values())):
        assert line in text
