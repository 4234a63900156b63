"""Bootstrap of leaving out a term: the exact distribution where one is known, and its words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.infer.compare_bootstrap import drawn_null
from multilevel.infer.compare_reduce import removals, without
from multilevel.infer.exact_rlrt import exact_null


def rows(sd, seed=1, n_groups=20):
    rng = np.random.default_rng(seed)
    g, t = np.repeat(np.arange(n_groups), 6), np.tile(np.repeat([0, 1, 2], 2), n_groups)
    x = rng.normal(size=len(g))
    own = sd * rng.normal(size=(n_groups, 3))
    return pd.DataFrame({"y": 0.2 * x + own[g, t] + rng.normal(size=len(g)), "x": x,
                         "g": g, "t": t})  # fmt: skip


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_draws_follow_the_exact_distribution_of_one_variance(method):
    m = mlm.fit("y ~ x + (1 | g)", rows(0.5), method=method)
    large = m._prepared
    small = prepare(without(large.design, removals(large.design)[0]), method=method)
    drawn = drawn_null((small, solve(small)), large, 600, np.random.default_rng(0))
    exact = exact_null(large.cross, np.random.default_rng(0), reml=method == "reml")
    assert drawn.n_failed == 0
    assert np.mean(drawn.draws < 1e-6) == pytest.approx(exact.probability_zero, abs=0.06)
    for level in (0.8, 0.9, 0.95):
        assert np.mean(drawn.draws > np.quantile(exact.draws, level)) == pytest.approx(
            1.0 - level, abs=0.035
        )


def test_a_structure_is_tested_by_draws():
    m = mlm.fit("y ~ x + ar1(0 + t | g)", rows(0.9))
    plain, drawn = (m.random_tests(n_boot=k).iloc[0] for k in (0, 19))
    assert np.isnan(plain["p_bootstrap"])
    assert drawn["p_bootstrap"] == pytest.approx(0.05)  # none of 19 draws is as large
    assert drawn["statistic"] == plain["statistic"]
    assert "mean nothing without its variance" in plain["sentence"]
    assert "Parametric bootstrap (19 draws): p = .050." in drawn["sentence"]


def test_too_few_draws_are_refused():
    m = mlm.fit("y ~ x + (1 | g)", rows(0.5))
    with pytest.raises(mlm.errors.InferenceError, match="at least 19"):
        m.random_tests(n_boot=5)
