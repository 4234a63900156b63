"""Checks and advice of generalized fits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.interpret.generalized.models import FAMILIES, fitted, table

FAST = [name for name in FAMILIES if name != "nominal"]


@pytest.mark.parametrize("name", FAST)
def test_checks_of_every_family(name):
    found = fitted(name).checks(n_sim=40, seed=2).set_index("check")
    assert {"uniformity", "dispersion", "outliers"} <= set(found.index)
    assert found["p_value"].dropna().between(0, 1).all()
    assert found.loc["uniformity", "p_value"] > 0.01  # the data come from near these models


def test_overdispersed_counts_are_found():
    fit = mlm.fit("over ~ x + (1 | g)", table(), family="poisson", n_quad=1)
    found = fit.checks(seed=1).set_index("check")
    y, mu = table()["over"], fit.fitted()
    ratio = float(np.sum((y - mu) ** 2 / mu)) / (300 - 2)
    assert found.loc["pearson", "statistic"] == pytest.approx(ratio)
    assert found.loc["zeros", "p_value"] < 0.05
    assert {"overdispersion", "unit_specific"} & {a.code for a in fit.advice} == {"overdispersion"}
    right = fitted("negative_binomial")
    assert "overdispersion" not in {a.code for a in right.advice}
    assert right.checks(seed=1).set_index("check").loc["zeros", "p_value"] > 0.05


def test_zero_inflation_is_found():
    fit = mlm.fit("many_zeros ~ x + (1 | g)", table(), family="poisson", n_quad=1)
    assert "many_zeros" in {a.code for a in fit.advice}
    assert fit.checks(seed=1).set_index("check").loc["zeros", "p_value"] < 0.02
    good = fitted("zero_inflated").checks(seed=1).set_index("check")
    assert good.loc["zeros", "p_value"] > 0.05


def test_influence_is_close_to_leaving_out():
    fit = mlm.fit("count ~ x + (1 | g)", table(), family="poisson", n_quad=1)
    found = fit.influence()
    worst = int(found["cooks_distance"].idxmax())
    keep = table()["g"] != found.loc[worst, "level"]
    less = mlm.fit(
        "count ~ x + (1 | g)", {k: v[keep] for k, v in table().items()}, family="poisson", n_quad=1
    )
    truth = less.fixed_effects - fit.fixed_effects
    for name in truth.index:
        step = found.loc[worst, f"change[{name}]"]
        assert step == pytest.approx(truth[name], abs=0.4 * abs(truth[name]) + 0.02)
    with pytest.raises(InferenceError, match="crossed"):
        fitted("logit", "(1 | g) + (1 | h)").influence()


def test_calibration_bins():
    found = fitted("logit").calibration(n_bins=5)
    assert found["n_rows"].tolist() == [60] * 5
    assert found["observed"].mean() == pytest.approx(table()["binary"].mean())
    assert (found["expected"].diff().dropna() > 0).all()


def codes(fit) -> set[str]:
    return {a.code for a in fit.advice}


def test_advice_on_unit_specific_effects_and_rescaling():
    found = {a.code: a for a in fitted("logit").advice}
    assert found["unit_specific"].severity == "note"
    p = [fitted("logit").fitted(kind) for kind in ("population", "marginal")]
    row = np.argmax(np.abs(p[0] - p[1]))
    for one in p:
        assert f"{one[row]:.3f}" in found["unit_specific"].sentence
    assert "3.29" in found["rescaling"].sentence
    empty = mlm.fit("binary ~ 1 + (1 | g)", table(), family="binomial", n_quad=1)
    assert "rescaling" not in codes(empty)
    assert not {"unit_specific", "rescaling"} & codes(fitted("poisson"))


def test_advice_on_few_clusters_and_singular_fits():
    fit = fitted("logit", "(1 | g) + (1 | h)")
    assert fit.random_covariance["h"].to_numpy()[0, 0] == pytest.approx(0.0, abs=1e-9)
    assert {"few_clusters", "singular"} <= codes(fit)
    assert "few_clusters" not in codes(fitted("logit"))


def test_advice_on_the_approximation():
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(150), 3)
    p = 1 / (1 + np.exp(-4.0 * rng.normal(size=150)[g]))
    data = {"g": g, "y": (rng.random(450) < p).astype(float)}
    silent = mlm.fit("y ~ 1 + (1 | g)", data, family="binomial", n_quad=1, accuracy="none")
    told = mlm.fit("y ~ 1 + (1 | g)", data, family="binomial", n_quad=1)
    good = mlm.fit("y ~ 1 + (1 | g)", data, family="binomial", accuracy="auto")
    assert {"approximation"} <= codes(silent) & codes(told)
    assert "approximation" not in codes(good)


def test_advice_on_observation_level_effects_and_smushed_slopes():
    data = {**table(), "row": np.arange(300)}
    fit = mlm.fit("over ~ x + (1 | g) + (1 | row)", data, family="poisson")
    assert {"observation_level_effect"} <= codes(fit)
    rng = np.random.default_rng(1)
    mean = rng.normal(size=30)[table()["g"]]
    mixed = mlm.fit(
        "count ~ z + (1 | g)", {**table(), "z": table()["x"] + mean}, family="poisson", n_quad=1
    )
    assert any("smushed" in a.code for a in mixed.advice)
    assert math.isfinite(mixed.aic)
