"""Variances between clusters that are zero where a predictor says so: the limit is reached."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm


def one_group_without_variance(zero, seed=0, n_clusters=60, size=8):
    """Clusters of sector ``zero`` differ less than their rows let expect."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_clusters), size)
    sector = np.where(np.arange(n_clusters) % 2, "b", "a")
    own = rng.normal(size=n_clusters) * np.where(sector == zero, 0.0, 1.5)
    e = rng.normal(size=(n_clusters, size))
    e[sector == zero] -= 0.9 * e[sector == zero].mean(axis=1, keepdims=True)
    x = rng.normal(size=len(g))
    return pd.DataFrame({"y": (own[:, None] + e).ravel() + 0.3 * x, "x": x, "g": g,
                         "sector": sector[g], "w": rng.normal(size=n_clusters)[g]})  # fmt: skip


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("zero", ["a", "b"])  # the reference category, and the other one
def test_the_limit_is_the_fit_by_group(zero, method):
    data = one_group_without_variance(zero)
    m = mlm.fit("y ~ x + (1 | g)", data, random_scale={"g": "~ sector"}, method=method)
    by = mlm.fit("y ~ x + (1 | g, by=sector)", data, method=method)
    assert m.certificate.status == by.certificate.status == "singular"
    assert m.fit.criterion == pytest.approx(by.fit.criterion, abs=1e-7)
    np.testing.assert_allclose(m.fixed_effects, by.fixed_effects, atol=1e-7)
    np.testing.assert_allclose(m.vcov_fixed, by.vcov_fixed, rtol=1e-5)
    np.testing.assert_allclose(m.coefficients()["df"], by.coefficients()["df"], rtol=1e-4)
    new = {"x": [0.0, 1.0, 0.0], "sector": ["a", "b", "b"], "g": [0, 1, 99]}
    ours, theirs = (f.predict(new, interval="prediction") for f in (m, by))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_is_said_has_no_false_numbers():
    m = mlm.fit("y ~ x + (1 | g)", one_group_without_variance("a"), random_scale="~ sector")
    row = m.random_scale_effects().iloc[0]
    assert np.isnan(row[["std_error", "p_value", "sd_ratio_low"]].astype(float)).all()
    assert "goes to zero where sector[b] is low" in row["sentence"]
    assert np.isnan(m.confint("wald")["conf_high"].iloc[-1])
    shares = m.row_variances({"x": [0, 0], "sector": ["a", "b"], "g": [0, 1]})
    assert shares["icc"][0] < 1e-8
    assert np.isnan(shares["conf_low"][0])
    assert 0.0 < shares["conf_low"][1] < shares["icc"][1] < shares["conf_high"][1] < 1.0
    assert m.icc()["estimate"].notna().all()
    text = " ".join(str(m).split())
    assert "goes to zero in 30 of 60 levels of g" in text
    assert "has no bound" in m.methods_paragraph()
    assert len(m.anova(df="kenward-roger")) == 1
    assert "goes to zero along sector[b]" in m.residual_parameters()["sentence"][0]


def test_a_second_predictor_keeps_its_estimate_and_error():
    m = mlm.fit("y ~ x + (1 | g)", one_group_without_variance("a"), random_scale="~ sector + w")
    effects = m.random_scale_effects().set_index("term")
    assert m.certificate.status == "singular"
    assert np.isnan(effects.loc["sector[b]", "std_error"])
    assert 0.05 < effects.loc["w", "std_error"] < 0.5
    # w matters among the clusters of b alone: the same as in their own data
    data = one_group_without_variance("a")
    other = mlm.fit("y ~ x + (1 | g)", data, random_scale="~ sector * w")
    assert other.fit.criterion == pytest.approx(m.fit.criterion, abs=1e-5)


def test_slopes_with_covariances_reach_the_limit():
    data = one_group_without_variance("a", seed=1)
    m = mlm.fit("y ~ x + (x | g)", data, random_scale="~ sector")
    assert m.certificate.is_certified
    plain = mlm.fit("y ~ x + (x | g)", data)
    assert m.fit.criterion < plain.fit.criterion
