"""Clusters that differ more from each other in one group: noticed, mended, and not invented."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.interpret.advice.between import about_between, between_test


def clusters(seed, low, high, n_clusters=60, size=8, residual=1.0):
    """Half of the clusters vary with standard deviation ``low``, the others with ``high``."""
    rng = np.random.default_rng(seed)
    half = np.arange(n_clusters) % 2
    g = np.repeat(np.arange(n_clusters), size)
    own = rng.normal(size=n_clusters) * np.where(half, high, low)
    e = rng.normal(size=len(g)) * np.where(half, residual, 1.0)[g]
    return pd.DataFrame({
        "y": own[g] + e, "g": g, "sector": np.where(half, "private", "public")[g],
        "w": rng.normal(size=n_clusters)[g], "x": rng.normal(size=len(g)),
    })  # fmt: skip


def test_it_is_noticed_and_the_calls_mend_it():
    data = clusters(2, 0.5, 1.8)
    m = mlm.fit("y ~ sector + w + x + (1 | g)", data, method="ml")
    (advice,) = about_between(m.design, m.fit)
    assert advice in m.advice
    assert advice.code == "between_heterogeneity"
    assert "(1 | g, by=sector)" in advice.mend
    assert 'random_scale={"g": "~ sector"}' in advice.mend
    by = mlm.fit("y ~ sector + w + x + (1 | g, by=sector)", data, method="ml")
    scaled = mlm.fit("y ~ sector + w + x + (1 | g)", data, method="ml", random_scale="~ sector")
    assert m.fit.criterion - by.fit.criterion > 25.0
    for mended in (by, scaled):
        assert "between_heterogeneity" not in {a.code for a in mended.advice}


def test_a_number_is_named_with_its_call():
    data = clusters(3, 1.0, 1.0)
    rng = np.random.default_rng(0)
    w = data.groupby("g")["w"].first().to_numpy()
    own = rng.normal(size=len(w)) * np.exp(0.7 * w)
    data["y"] += 2.0 * own[data["g"]] + 0.5 * data["w"]
    m = mlm.fit("y ~ w + sector + (1 | g)", data)
    (advice,) = about_between(m.design, m.fit)
    assert "low and high values of w" in advice.sentence
    assert "by=" not in advice.mend


def test_the_confirmed_statistic_is_the_likelihood_ratio():
    data = clusters(2, 0.5, 1.8)
    m = mlm.fit("y ~ sector + (1 | g)", data, method="ml")
    found = between_test(m.design, m.fit, 0, "sector", m.design.X[:, [1]])
    one = mlm.fit("y ~ sector + (1 | g)", data, method="ml", scale="~ sector")
    both = mlm.fit("y ~ sector + (1 | g)", data, method="ml", scale="~ sector",
                   random_scale="~ sector")  # fmt: skip
    assert found.statistic == pytest.approx(one.fit.criterion - both.fit.criterion, abs=1e-6)
    G = [both.cluster_random_covariance(level)[0].iloc[0, 0] for level in (0, 1)]
    assert found.ratio == pytest.approx(G[1] / G[0], rel=1e-4)


def test_nothing_is_invented():
    for seed in range(20):  # residuals that differ do not pass for clusters that differ
        m = mlm.fit("y ~ sector + w + (1 | g)", clusters(seed, 0.5, 0.5, residual=2.0))
        assert about_between(m.design, m.fit) == []
    hsb = mlm.load_hsb()
    m = mlm.fit("mathach ~ ses + sector + meanses + (ses | school)", hsb)
    assert about_between(m.design, m.fit) == []


def test_few_clusters_and_crossed_factors_are_left_alone():
    data = clusters(2, 0.2, 2.0, n_clusters=14, size=20)
    m = mlm.fit("y ~ sector + (1 | g)", data)
    assert about_between(m.design, m.fit) == []
    data = clusters(2, 0.2, 2.0).assign(h=lambda d: np.arange(len(d)) % 25)
    m = mlm.fit("y ~ sector + (1 | g) + (1 | h)", data)
    assert about_between(m.design, m.fit) == []
