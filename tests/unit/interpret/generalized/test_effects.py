"""Effect sizes of generalized fits against formulas, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import polygamma

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    any_rows,
    fixed_predictors,
)
from multilevel.interpret.generalized.intraclass import spread_rows
from multilevel.interpret.generalized.ratios import median_ratio
from tests.unit.interpret.generalized.models import fitted, table


def evidence_of(fit) -> GeneralizedEvidence:
    return GeneralizedEvidence(fit._prepared, fit.fit, fit._objective())


@pytest.mark.parametrize(
    ("name", "within"),
    [("logit", math.pi**2 / 3), ("probit", 1.0), ("cloglog", math.pi**2 / 6),
     ("cumulative", math.pi**2 / 3)],
)  # fmt: skip
def test_latent_icc_by_formula(name, within):
    fit = fitted(name)
    tau2 = fit.random_covariance["g"].to_numpy()[0, 0]
    found = fit.icc()
    assert found["estimate"].tolist() == pytest.approx([tau2 / (tau2 + within)] * 2)
    assert (found["conf_low"] < found["estimate"]).all()
    # delta method by hand: theta is the standard deviation
    k = fit.fit.n_parameters - 1
    slope = 2 * fit.fit.psi[k] * within / (tau2 + within) ** 2
    error = abs(slope) * math.sqrt(fit.fit.vcov[k, k])
    assert found["std_error"][0] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(
    ("level", "form"),
    [
        ("lognormal", math.log1p),
        ("delta", float),
        ("trigamma", lambda v: float(polygamma(1, 1 / v))),
    ],
)
def test_counts_have_the_observation_level_variance_of_nakagawa(level, form):
    fit = mlm.fit("over ~ 1 + (1 | g)", table(), family="negative_binomial", n_quad=1)
    tau2 = fit.random_covariance["g"].to_numpy()[0, 0]
    alpha = math.exp(fit.part("dispersion")["estimate"][0])
    lam = math.exp(fit.fixed_effects.iloc[0] + tau2 / 2)
    within = form(1 / lam + alpha)
    assert fit.icc(level=level)["estimate"][0] == pytest.approx(tau2 / (tau2 + within))


@pytest.mark.parametrize("name", ["logit", "poisson", "cumulative", "beta"])
def test_observation_icc_agrees_with_simulation(name):
    """Two responses of the same predictors and the same random intercept."""
    fit = fitted(name)
    evidence = evidence_of(fit)
    rows = spread_rows(evidence)
    rng = np.random.default_rng(4)
    eta = fixed_predictors(rows, fit.fit)
    outcome = any_rows(evidence, rows.n)
    sd = math.sqrt(fit.random_covariance["g"].to_numpy()[0, 0])
    C = max(len(evidence.categories), 1)
    n, cov, total, centre = 4000, np.zeros(C), np.zeros(C), np.zeros((C, rows.n))
    firsts, seconds = [], []
    for _ in range(n):
        moved = eta.copy()
        moved[0] += sd * rng.standard_normal(rows.n)
        firsts.append(outcome.draw(moved, rng))
        seconds.append(outcome.draw(moved, rng))
    one, two = np.array(firsts), np.array(seconds)
    for c in range(C):
        a, b = (one == c, two == c) if evidence.categories else (one, two)
        a, b = a.astype(float), b.astype(float)
        centre[c] = (a.mean(axis=0) + b.mean(axis=0)) / 2
        cov[c] = ((a - centre[c]) * (b - centre[c])).mean()
        total[c] = (((a - centre[c]) ** 2 + (b - centre[c]) ** 2) / 2).mean()
    found = fit.icc("observation")["estimate"].to_numpy()
    assert np.allclose(found, cov / total, atol=5 / math.sqrt(n * rows.n))


def test_shared_factors_add_up_for_an_identity_link():
    """Latent and observed correlations are one where the link is the identity."""
    plain = mlm.fit("number ~ x + (1 | g) + (1 | h)", table(), method="ml")
    other = mlm.fit("number ~ x + (1 | g) + (1 | h)", table(), dispersion="~ 1", n_quad=1)
    gaussian = plain.icc().set_index(["group", "component"])["estimate"]
    latent = other.icc().set_index(["group", "component"])["estimate"]
    assert np.allclose(latent[gaussian.index], gaussian, atol=1e-5)
    seen = other.icc("observation").set_index("group")["estimate"]
    for group in ("g", "h", "g & h"):
        assert seen[group] == pytest.approx(latent[group, "correlation"], abs=1e-6)
    effects = other.design_effects()
    assert np.allclose(effects["estimate"], plain.design_effects()["estimate"], atol=1e-3)


def test_families_without_a_latent_scale_are_refused():
    for name in ("cauchit", "beta", "zero_inflated"):
        with pytest.raises(InferenceError, match="observation"):
            fitted(name).icc()


def test_explained_variance_by_formula():
    fit = fitted("logit")
    tau2 = fit.random_covariance["g"].to_numpy()[0, 0]
    f = float(np.var(fit.fixed_effects["x"] * table()["x"]))
    found = fit.r2(compared_with="empty").set_index(["measure", "component"])["estimate"]
    whole = f + tau2 + math.pi**2 / 3
    assert found["latent", "marginal"] == pytest.approx(f / whole)
    assert found["latent", "conditional"] == pytest.approx((f + tau2) / whole)
    p = fit.fitted("population")
    assert found["total", "f"] == pytest.approx(np.corrcoef(p, table()["binary"])[0, 1] ** 2)
    empty = mlm.fit("binary ~ 1 + (1 | g)", table(), family="binomial", n_quad=1)
    tau0 = empty.random_covariance["g"].to_numpy()[0, 0]
    factor = (tau0 + math.pi**2 / 3) / whole
    assert found["reduction", "as printed"] == pytest.approx(1 - tau2 / tau0, abs=1e-4)
    assert found["reduction", "rescaled"] == pytest.approx(1 - factor * tau2 / tau0, abs=1e-4)
    named = fit.r2(compared_with=empty).set_index(["measure", "component"])["estimate"]
    assert named["reduction", "rescaled"] == pytest.approx(found["reduction", "rescaled"], abs=1e-4)
    with pytest.raises(InferenceError, match="same family"):
        fit.r2(compared_with=fitted("probit"))


def test_r2_of_a_gaussian_model_is_that_of_the_gaussian_engine():
    plain = mlm.fit("number ~ x + (x | g)", table(), method="ml").r2()
    other = mlm.fit("number ~ x + (x | g)", table(), dispersion="~ 1", n_quad=1).r2()
    one = plain[plain["measure"].isin(["total", "nakagawa"])]["estimate"].to_numpy()
    assert np.allclose(other["estimate"], one, atol=1e-5)


def test_conditional_and_marginal_odds_ratios():
    data = table()
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(200), 8)
    x = rng.normal(size=g.size)
    p = 1 / (1 + np.exp(-(0.2 + x + 2.0 * rng.normal(size=200)[g])))
    big = {"g": g, "x": x, "y": (rng.random(g.size) < p).astype(float)}
    fit = mlm.fit("y ~ x + (1 | g)", big, family="binomial")
    found = fit.ratios().set_index("component")
    b, tau2 = fit.fixed_effects["x"], fit.random_covariance["g"].to_numpy()[0, 0]
    error = math.sqrt(fit.vcov_fixed.loc["x", "x"])
    assert found.loc["conditional", "estimate"] == pytest.approx(math.exp(b))
    assert found.loc["conditional", "conf_high"] == pytest.approx(math.exp(b + 1.959964 * error))
    # Zeger, Liang & Albert's approximation is good to a few percent
    rough = math.exp(b / math.sqrt(1 + 0.346 * tau2))
    assert found.loc["marginal", "estimate"] == pytest.approx(rough, rel=0.03)
    probit = mlm.fit("binary ~ x + (1 | g)", data, family="probit", n_quad=1)
    with pytest.raises(InferenceError, match="logit"):
        probit.ratios()


def test_marginal_ratio_without_random_variance_is_the_conditional_one():
    fit = fitted("cumulative")
    from dataclasses import replace

    zero = fit.fit.psi.copy()
    zero[-1] = 0.0
    still = replace(
        fit.fit, psi=zero, relative_factors=(np.zeros((1, 1)),),
        random_covariance=(np.zeros((1, 1)),),
    )  # fmt: skip
    from multilevel.interpret.generalized.ratios import ratios

    one, two = ratios(GeneralizedEvidence(fit._prepared, still, fit._objective()))
    assert two.estimate == pytest.approx(one.estimate, rel=1e-9)
    assert two.std_error == pytest.approx(one.std_error, rel=1e-4)


def test_median_odds_ratio_is_the_median():
    rng = np.random.default_rng(2)
    u = rng.normal(scale=1.3, size=(2, 400_000))
    assert median_ratio(1.69) == pytest.approx(np.median(np.exp(np.abs(u[0] - u[1]))), rel=0.01)
    fit = fitted("logit")
    found = fit.median_ratios()
    tau2 = fit.random_covariance["g"].to_numpy()[0, 0]
    assert found["estimate"][0] == pytest.approx(math.exp(0.67448975 * math.sqrt(2 * tau2)))
    assert 1.0 < found["conf_low"][0] < found["estimate"][0] < found["conf_high"][0]


def test_ranges_of_clusters_on_three_scales():
    fit = fitted("logit", "(x | g)")
    found = fit.random_intervals().set_index(["term", "component"])
    G, b = fit.random_covariance["g"].to_numpy(), fit.fixed_effects
    low = b["(Intercept)"] - 1.959964 * math.sqrt(G[0, 0])
    assert found.loc[("(Intercept)", "link"), "low"] == pytest.approx(low)
    response = found.loc[("(Intercept)", "response")]
    assert response["low"] == pytest.approx(1 / (1 + math.exp(-low)))
    high = b["x"] + 1.959964 * math.sqrt(G[1, 1])
    assert found.loc[("x", "ratio"), "high"] == pytest.approx(math.exp(high))


def test_residual_variances_that_vary_over_clusters_are_averaged():
    fit = mlm.fit("number ~ x + (1 | g)", table(), scale="~ 1 + (1 | g)")
    latent, seen = (fit.icc(scale)["estimate"].iloc[-1] for scale in ("latent", "observation"))
    assert latent == pytest.approx(seen, abs=1e-5)
