"""Normality: constructed samples, tabled critical values, the words that go with the size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.interpret.normality import anderson_darling, normality, quantiles

RNG = np.random.default_rng(4)


def normal_scores(n):
    return stats.norm.ppf((np.arange(n) + 0.5) / n)


def test_shape_and_shapiro_are_those_of_the_sample():
    x = RNG.gamma(2.0, size=200)
    found = normality("g", "(Intercept)", np.append(x, np.nan))
    assert found.n == 200
    centred = x - x.mean()
    assert found.skewness == pytest.approx(np.mean(centred**3) / np.mean(centred**2) ** 1.5)
    kurtosis = np.mean(centred**4) / np.mean(centred**2) ** 2 - 3
    assert found.excess_kurtosis == pytest.approx(kurtosis)
    assert found.shapiro == pytest.approx(stats.shapiro(x).statistic)
    assert found.shapiro_p < 1e-6
    assert "depart from" in found.sentence


def test_anderson_darling_by_its_definition():
    """The integral's sum, row by row."""
    x = RNG.standard_normal(60)
    z = np.sort((x - x.mean()) / x.std(ddof=1))
    total = 0.0
    for i in range(1, 61):
        inside = stats.norm.cdf(z[i - 1]), stats.norm.cdf(z[60 - i])
        total += (2 * i - 1) * (np.log(inside[0]) + np.log(1 - inside[1]))
    assert anderson_darling(x)[0] == pytest.approx(-60 - total / 60)


def test_anderson_darling_rejects_as_often_as_it_says():
    p = np.array([anderson_darling(x)[1] for x in RNG.standard_normal((2000, 40))])
    for level in (0.05, 0.25, 0.5, 0.75):
        margin = 4 * np.sqrt(level * (1 - level) / 2000)
        assert np.mean(p < level) == pytest.approx(level, abs=margin + 0.005)


def test_anderson_darling_p_is_zero_far_out_and_nan_for_few():
    assert anderson_darling(RNG.standard_cauchy(5000) ** 3)[1] == 0.0
    assert np.isnan(anderson_darling(np.arange(7.0))[1])


def test_words_follow_the_sample_size():
    few = normality("g", "x", normal_scores(12))
    assert "misses much" in few.sentence
    assert "look more normal" in few.sentence
    many = normality("residual", "", RNG.standard_t(6, 4000))
    assert "too small to matter" in many.sentence
    assert "look more normal" not in many.sentence
    none = normality("g", "x", np.array([0.3, np.nan]))
    assert "too few to judge" in none.sentence


def test_above_5000_values_only_anderson():
    found = normality("residual", "", normal_scores(6000))
    assert np.isnan(found.shapiro)
    assert found.anderson_p > 0.9


def test_quantiles_pair_the_ranks():
    x = np.array([3.0, np.nan, -1.0, 0.5])
    found = quantiles("g", "x", x)
    assert found.positions.tolist() == [2, 3, 0]
    assert found.sample.tolist() == [-1.0, 0.5, 3.0]
    np.testing.assert_allclose(found.theoretical, stats.norm.ppf([1 / 6, 0.5, 5 / 6]))


def test_tables_of_a_fit():
    m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
    table = m.normality()
    assert table[["group", "term"]].to_numpy().tolist() == [
        ["residual", ""],
        ["school", "(Intercept)"],
        ["school", "ses"],
    ]
    assert table["n"].tolist() == [7185, 160, 160]
    points = m.quantile_plot_data()
    assert len(points) == 7185 + 320
    residual = points[points["group"] == "residual"]
    row = m.row_diagnostics()["conditional_std"].to_numpy()
    np.testing.assert_allclose(residual["sample"], row[residual["position"]])
