"""Shares of variance with structured residuals, against the covariance matrices themselves."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.support.residual import repeated_measures


@pytest.fixture(scope="module")
def frame():
    return repeated_measures(11, n_ids=60)


def test_independent_residuals_give_the_icc_of_the_plain_fit(frame):
    for formula in ("y ~ time + (1 | id)", "y ~ time + (x | id)", "y ~ time + (1 | site/id)"):
        plain, ind = mlm.fit(formula, frame), mlm.fit(formula, frame, residual="ind")
        one = plain.icc()
        one = one[one["component"] == "proportion"].reset_index(drop=True)
        two = ind.icc()
        assert two["group"].tolist() == one["group"].tolist()
        for name in ("estimate", "std_error", "conf_low", "conf_high"):
            np.testing.assert_allclose(two[name], one[name], rtol=2e-3, atol=1e-6, err_msg=name)


def test_shares_by_occasion_are_those_of_the_matrices(frame):
    m = mlm.fit("y ~ time + (1 | site)", frame, residual="arh1(time | id)")
    tau2 = m.random_covariance["site"].iloc[0, 0]
    table = m.icc().set_index("at")
    R = m.residual_covariance("p2")[0]
    variances = dict(zip(frame["time"][R.index.astype(int)], np.diag(R), strict=True))
    assert len(variances) == 6
    for time, variance in variances.items():
        assert table.loc[f"{time:g}", "estimate"] == pytest.approx(tau2 / (tau2 + variance))
    mean = frame["time"].map(variances).mean()
    assert table.loc["all rows", "estimate"] == pytest.approx(tau2 / (tau2 + mean))
    assert "site" in m.icc().attrs["sentence"]


def test_the_delta_error_agrees_with_the_bootstrap():
    data = repeated_measures(8, n_ids=150)
    m = mlm.fit("y ~ time + (1 | id)", data, residual="ind(by=arm)")
    drawn = m.bootstrap(150, seed=2)
    tau2 = drawn["sd((Intercept) | id)"] ** 2
    by = next(name for name in drawn.columns if name.startswith("log_variance"))
    first = drawn["sd(Residual)"] ** 2
    table = m.icc().set_index("at")
    for at, variance in (("arm0", first), ("arm1", first * np.exp(drawn[by]))):
        spread = (tau2 / (tau2 + variance)).std()
        assert table.loc[at, "std_error"] == pytest.approx(spread, rel=0.25)


def test_shares_need_random_effects(frame):
    with pytest.raises(InferenceError, match="random effects"):
        mlm.fit("y ~ time", frame, residual="ar1(time | id)").icc()


def test_random_intervals_hold_as_they_are(frame):
    m = mlm.fit("y ~ time + (time | id)", frame, residual="ind(by=arm)")
    row = m.random_intervals().set_index("term").loc["time"]
    sd = np.sqrt(m.random_covariance["id"].loc["time", "time"])
    assert row["high"] - row["low"] == pytest.approx(2 * 1.959964 * sd, rel=1e-6)


def test_explained_variance(frame):
    plain = mlm.fit("y ~ time + x + (x | id)", frame, weights="w").r2().set_index("component")
    ind = mlm.fit("y ~ time + x + (x | id)", frame, weights="w", residual="ind").r2()
    for component, value in zip(ind["component"], ind["estimate"], strict=True):
        same = plain.loc[[component]]
        assert value == pytest.approx(
            same[same["measure"].isin(["total", "nakagawa"])]["estimate"].iloc[0], rel=1e-4
        )
    m = mlm.fit("y ~ time + x + (1 | site)", frame, residual="arh1(time | id)")
    found = m.r2().set_index("component")["estimate"]
    tau2, f = m.random_covariance["site"].iloc[0, 0], m.fitted("population").var()
    R = m.residual_covariance("p2")[0]
    variances = dict(zip(frame["time"][R.index.astype(int)], np.diag(R), strict=True))
    total = f + tau2 + frame["time"].map(variances).mean()
    assert found["marginal"] == pytest.approx(f / total)
    assert found["conditional"] == pytest.approx((f + tau2) / total)
    with pytest.raises(InferenceError, match="comparison model"):
        m.r2("empty")
