"""Predictions of generalized fits: every family and kind, and their meaning by brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import multilevel as mlm
from multilevel.design.generalized_replay import replay_parts
from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    any_rows,
    fixed_predictors,
    predictor_covariance,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.predict import predict_table
from tests.unit.interpret.generalized.models import FAMILIES, fitted, table

KINDS = ("population", "marginal", "conditional")
FAST = [name for name in FAMILIES if name != "nominal"]


def evidence_of(fit) -> GeneralizedEvidence:
    return GeneralizedEvidence(fit._prepared, fit.fit, fit._objective())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAST)
def test_every_family_and_kind_predicts_its_own_rows(name, kind):
    fit = fitted(name)
    own = np.asarray(fit.fitted(kind)).reshape(fit.n, -1)
    found = fit.predict(table(), kind=kind, interval=True)
    again = found["estimate"].to_numpy().reshape(fit.n, -1)
    assert np.abs(again - own).max() < 1e-12
    assert (found["conf_low"] < found["estimate"]).all()
    assert (found["estimate"] < found["conf_high"]).all()
    if fit.family.response in ("ordered", "nominal"):
        assert np.abs(own.sum(axis=1) - 1.0).max() < 1e-12


@pytest.mark.parametrize("random", ["(x | g)", "(1 | g) + (1 | h)"])
@pytest.mark.parametrize("name", ["logit", "zero_inflated", "random_zero", "cumulative"])
def test_replay_of_the_same_rows_gives_the_same_predictors(name, random):
    fit = fitted(name, random)
    evidence = evidence_of(fit)
    rows = replay_parts(fit.design, table())
    eta = add_effects(fixed_predictors(rows, fit.fit), rows, evidence, evidence.effects)
    inside = fit._problem.fixed_predictors(fit.fit.psi)
    for block, b in zip(fit._problem.blocks, evidence.effects, strict=True):
        for a, d in enumerate(block.parts):
            inside[d] += block.columns[:, a] * b[block.codes, a]
    assert np.abs(eta - inside).max() < 1e-12


def test_marginal_probability_is_the_integral():
    fit = fitted("logit", "(x | g)")
    evidence = evidence_of(fit)
    new = {"x": [-1.5, 0.0, 2.0]}
    found = fit.predict(new, kind="marginal")["estimate"]
    beta, G = fit.fixed_effects.to_numpy(), fit.random_covariance["g"].to_numpy()
    for x, value in zip(new["x"], found, strict=True):
        z = np.array([1.0, x])
        sd = np.sqrt(z @ G @ z)

        def integrand(u, x=x, sd=sd):
            return stats.norm.pdf(u) / (1 + np.exp(-(beta[0] + beta[1] * x + sd * u)))

        truth = integrate.quad(integrand, -12, 12, epsabs=1e-13, limit=200)[0]
        assert value == pytest.approx(truth, abs=1e-10)
    assert evidence.random == (0,)


@pytest.mark.parametrize("sd", [0.1, 1.0, 4.5, 15.0])
def test_integration_is_exact_for_small_and_huge_variances(sd):
    eta = np.array([[-3.0, 0.0, 1.0]])
    S = np.full((3, 1, 1), sd**2)
    probit = average(lambda e: stats.norm.cdf(e), eta, S, (0,))
    assert np.abs(probit - stats.norm.cdf(eta / np.sqrt(1 + sd**2))).max() < 1e-11

    def logistic(u, c):
        return stats.norm.pdf(u) / (1 + np.exp(-(c + sd * u)))

    logit = average(lambda e: 1 / (1 + np.exp(-e)), eta, S, (0,))[0]
    for c, value in zip(eta[0], logit, strict=True):
        cuts = np.linspace(-10, 10, 81)
        truth = sum(
            integrate.quad(logistic, a, b, args=(c,), epsabs=1e-14)[0] for a, b in pairwise(cuts)
        )
        assert value == pytest.approx(truth, abs=1e-9)


def test_two_dimensional_integration_is_exact():
    eta = np.array([[0.3], [-0.7]])
    S = np.array([[[0.8, 0.3], [0.3, 0.5]]])
    found = average(lambda e: np.exp(e[:1] + 0.5 * e[1:]), eta, S, (0, 1))[0, 0]
    c = np.array([1.0, 0.5])
    assert found == pytest.approx(np.exp(c @ eta[:, 0] + c @ S[0] @ c / 2), rel=1e-9)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial", "gamma", "lognormal"])
def test_marginal_mean_of_log_links_has_a_closed_form(name):
    fit = fitted(name, "(x | g)")
    S = predictor_covariance(evidence_of(fit).rows, evidence_of(fit))[:, 0, 0]
    ratio = fit.fitted("marginal") / fit.fitted("population")
    assert np.allclose(ratio, np.exp(S / 2), rtol=1e-9)


@pytest.mark.parametrize("name", ["cumulative", "random_zero", "beta", "cloglog", "trials"])
def test_marginal_means_agree_with_simulation(name):
    fit = fitted(name)
    evidence = evidence_of(fit)
    rows = replay_parts(fit.design, {"x": [0.7], "g": [0], "h": [0]}, groups="ignore")
    rng = np.random.default_rng(1)
    n, eta = 200_000, fixed_predictors(rows, fit.fit)
    many = np.repeat(eta, n, axis=1)
    S = predictor_covariance(rows, evidence)[0]
    many[list(evidence.random)] += rng.multivariate_normal(np.zeros(len(S)), S, size=n).T
    truth = np.atleast_2d(any_rows(evidence, n).mean(many))
    new = {"x": [0.7]}
    found = fit.predict(new, kind="marginal")["estimate"].to_numpy()
    error = truth.std(axis=1) / np.sqrt(n)
    assert np.all(np.abs(found - truth.mean(axis=1)) < 5 * error + 1e-9)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n in ("logit", "zero_inflated", "cumulative") for k in ("population", "marginal")],
)
def test_delta_standard_errors_agree_with_draws_of_the_parameters(name, kind):
    """A small covariance takes curvature out: the delta method is exact to first order."""
    fit = fitted(name)
    evidence, shrink, n = evidence_of(fit), 1e-4, 400
    rows = replay_parts(fit.design, {"x": [-0.5, 1.0]}, groups="ignore")
    rng = np.random.default_rng(7)
    psis = rng.multivariate_normal(fit.fit.psi, shrink * fit.fit.vcov, size=n)
    outcome = any_rows(evidence, 2)
    draws = []
    for psi in psis:
        eta = fixed_predictors(rows, fit.fit, psi)
        if kind == "population":
            draws.append(np.atleast_2d(outcome.mean(eta)))
            continue
        Gs = tuple(L @ L.T for L in fit._problem.factors(psi))
        S = predictor_covariance(rows, evidence, Gs)
        draws.append(average(lambda e: np.atleast_2d(outcome.mean(e)), eta, S, evidence.random))
    truth = np.std(draws, axis=0, ddof=1).T.ravel() / np.sqrt(shrink)
    found = fit.predict({"x": [-0.5, 1.0]}, kind=kind, std_error=True)["std_error"].to_numpy()
    assert np.allclose(found, truth, rtol=6 / np.sqrt(2 * n))


def henderson(fit, new) -> np.ndarray:
    """Standard errors on the link scale with variances and dispersion taken as known."""
    p = fit.fit.fixed_slices[0].stop
    V = np.zeros_like(fit.fit.vcov)
    V[:p, :p] = fit.fit.vcov_beta
    known = replace(fit.fit, vcov=V)
    evidence = GeneralizedEvidence(fit._prepared, known, fit._objective())
    found = predict_table(evidence, new, kind="conditional", scale="link", std_error=True)
    return found.std_error[0]


@pytest.mark.parametrize("random", ["(x | g)", "(1 | g) + (1 | h)"])
def test_gaussian_predictions_are_those_of_the_gaussian_engine(random):
    data = table()
    plain = mlm.fit(f"number ~ x + {random}", data, method="ml")
    other = mlm.fit(f"number ~ x + {random}", data, dispersion="~ 1", n_quad=1)
    new = {"x": [0.0, 2.0, 1.0], "g": [3, 4, 999], "h": [1, 77, 2]}
    one = plain.predict(new, std_error=True)
    two = other.predict(new, std_error=True, scale="link")
    assert np.allclose(one["estimate"], two["estimate"], atol=1e-5)
    assert np.allclose(one["std_error"], henderson(other, new), rtol=2e-3)
    assert (two["std_error"] > 0.999 * one["std_error"]).all()  # variances are estimates too
    a, b = plain.random_effects(), other.random_effects()
    assert np.allclose(a["estimate"], b["estimate"], atol=1e-5)
    assert np.allclose(a["std_error"], b["std_error"], rtol=1e-4)


def test_unknown_groups_get_the_population_value_and_the_whole_variance():
    fit = fitted("logit")
    known = fit.predict({"x": [0.5], "g": [3]}, scale="link", std_error=True)
    new = fit.predict({"x": [0.5], "g": [12345]}, scale="link", std_error=True)
    population = fit.predict({"x": [0.5]}, kind="population", scale="link")
    assert new["estimate"][0] == pytest.approx(population["estimate"][0], abs=1e-12)
    assert new["std_error"][0] ** 2 > fit.random_covariance["g"].to_numpy()[0, 0]
    assert known["std_error"][0] < new["std_error"][0]
    assert new.attrs["new_levels"] == {"g": (12345,)}
    with pytest.raises(InferenceError, match="12345"):
        fit.predict({"x": [0.5], "g": [12345]}, new_levels="error")


def test_missing_predictors_are_missing_predictions():
    fit = fitted("zero_inflated")
    frame = pd.DataFrame({"x": [0.1, np.nan, 0.3]}, index=["a", "b", "c"])
    found = fit.predict(frame, kind="population", std_error=True)
    assert list(found.index) == ["a", "b", "c"]
    assert found["estimate"].isna().tolist() == [False, True, False]
    assert found.attrs["n_missing"] == 1


def test_probability_of_zero():
    fit = fitted("zero_inflated")
    found = fit.predict({"x": [0.4]}, kind="population", scale="zero")["estimate"][0]
    a, b = fit.fixed_effects.to_numpy()
    c, d = fit.part("zero")["estimate"]
    pi = 1 / (1 + np.exp(-(c + 0.4 * d)))
    assert found == pytest.approx(pi + (1 - pi) * np.exp(-np.exp(a + 0.4 * b)), abs=1e-12)
    mean = fit.predict({"x": [0.4]}, kind="population")["estimate"][0]
    assert mean == pytest.approx((1 - pi) * np.exp(a + 0.4 * b), abs=1e-12)
    with pytest.raises(InferenceError, match="zero"):
        fitted("logit").predict({"x": [0.4]}, scale="zero", kind="population")


def test_inverse_link_has_no_marginal_mean():
    data = {**table(), "positive": 1.0 + table()["positive"] / 50}
    fit = mlm.fit("positive ~ 1 + (1 | g)", data, family="gamma", link="inverse", n_quad=1)
    with pytest.raises(InferenceError, match="inverse link"):
        fit.predict({"g": [1]}, kind="marginal")


@pytest.mark.parametrize(("kind", "scale"), [("unit", "response"), ("marginal", "logit")])
def test_unknown_options_name_the_known_ones(kind, scale):
    with pytest.raises(InferenceError, match="one of"):
        fitted("logit").predict({"x": [0.0]}, kind=kind, scale=scale)


# -- residuals -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAST)
def test_quantile_residuals_are_standard_normal(name):
    fit = fitted(name)
    found = fit.residuals("quantile", given="marginal", seed=3)
    assert np.isfinite(found).all()
    assert abs(found.std() - 1.0) < 0.2
    assert np.array_equal(found, fit.residuals("quantile", given="marginal", seed=3))


def test_pearson_and_deviance_residuals_by_hand():
    fit = fitted("poisson")
    y, mu = fit.design.response.y, fit.fitted()
    assert np.allclose(fit.residuals("pearson"), (y - mu) / np.sqrt(mu))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(y > 0, y * np.log(y / mu), 0.0)
    deviance = np.sign(y - mu) * np.sqrt(2 * (part - (y - mu)))
    assert np.allclose(fit.residuals("deviance"), deviance, atol=1e-5)
    binary = fitted("trials")
    k, n, p = binary.design.response.y, binary.design.response.trials, binary.fitted()
    assert np.allclose(binary.residuals("pearson"), (k / n - p) / np.sqrt(p * (1 - p) / n))
    full = 2 * (stats.binom.logpmf(k, n, k / n) - stats.binom.logpmf(k, n, p))
    assert np.allclose(binary.residuals("deviance") ** 2, full, atol=1e-5)


def test_residuals_that_do_not_exist_are_refused():
    for name, kind in (("beta", "deviance"), ("nominal", "pearson")):
        with pytest.raises(InferenceError, match="quantile"):
            fitted(name).residuals(kind)


def test_nominal_categories_average_over_correlated_random_effects():
    data = {**table(), "choice": np.minimum(table()["ordered"], 2.0)}
    fit = mlm.fit("choice ~ x + (1 | g)", data, family="nominal", n_quad=1, accuracy="none")
    found = fit.predict({"x": [0.5]}, kind="marginal", std_error=True)
    assert found["estimate"].sum() == pytest.approx(1.0, abs=1e-9)
    b = np.array([part @ [1.0, 0.5] for part in np.split(fit.fit.psi[:4], 2)])
    G = fit.random_covariance["g"].to_numpy()
    draws = np.random.default_rng(1).multivariate_normal(b, G, size=400_000)
    odds = np.exp(np.column_stack([np.zeros(len(draws)), draws]))
    p = odds / odds.sum(axis=1, keepdims=True)
    error = p.std(axis=0) / np.sqrt(len(p))
    assert np.all(np.abs(found["estimate"] - p.mean(axis=0)) < 5 * error)
    own = fit.predict(data, std_error=True)
    assert (own["std_error"] > 0).all()
    assert len(fit.icc()) == 4
    assert len(fit.ratios()) == 2
