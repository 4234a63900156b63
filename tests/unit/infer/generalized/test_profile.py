"""Profile and Wald intervals of generalized fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.likelihood.generalized.choose import make_objective
from tests.unit.infer.generalized.data import fit, table, wide_table

RISE = chi2.ppf(0.95, 1)


def row_of(frame, term, component, group=""):
    found = frame[(frame.term == term) & (frame.component == component)]
    return found[found.group == group].iloc[0] if group else found.iloc[0]


@pytest.mark.parametrize("n_quad", [1, 9])
def test_limits_of_a_coefficient_are_where_a_refit_with_an_offset_rises_by_the_quantile(n_quad):
    m = fit("binary ~ x + w + (1 | g)", "binomial", n_quad)
    row = row_of(m.confint("profile", components=["fixed"]), "x", "fixed")
    for value in (row.conf_low, row.conf_high):
        held = {**table(), "part": value * table()["x"]}
        other = mlm.fit(
            "binary ~ w + offset(part) + (1 | g)", held, family="binomial", n_quad=n_quad,
            accuracy="none",
        )  # fmt: skip
        assert other.minus2_loglik - m.minus2_loglik == pytest.approx(RISE, abs=1e-6)


def _lowest(m, psi_of, start):
    """Smallest criterion over free parameters, by a general optimiser."""
    objective = make_objective(m._prepared.problem, m.fit.approximation.points)
    found = minimize(lambda x: objective.value(psi_of(x)), start, method="BFGS",
                     options={"gtol": 1e-4})  # fmt: skip
    return float(found.fun)


def test_limits_of_a_standard_deviation_and_of_a_correlation_are_minima():
    m = fit("number ~ x + (x | g)", "gaussian", dispersion="~ 1")
    frame = m.confint("profile", components=["sd", "correlation", "variance"])
    psi = m.fit.psi
    sd = row_of(frame, "(Intercept)", "sd")

    def with_sd(x):
        return np.concatenate([x[:3], [sd.conf_high], x[3:]])

    start = np.delete(psi, 3)
    assert _lowest(m, with_sd, start) - m.minus2_loglik == pytest.approx(RISE, abs=1e-5)

    slope = row_of(frame, "x", "sd")

    def with_slope(x):
        share = np.array([np.tanh(x[4]), np.sqrt(1 - np.tanh(x[4]) ** 2)])
        return np.concatenate([x[:4], slope.conf_low * share])

    start = np.array([*psi[:4], np.arctanh(psi[4] / np.hypot(psi[4], psi[5]))])
    assert _lowest(m, with_slope, start) - m.minus2_loglik == pytest.approx(RISE, abs=1e-5)

    r = row_of(frame, "(Intercept), x", "correlation")

    def with_correlation(x):
        return np.concatenate([x[:4], x[4] * np.array([r.conf_high, np.sqrt(1 - r.conf_high**2)])])

    start = np.array([*psi[:4], np.hypot(psi[4], psi[5])])
    assert _lowest(m, with_correlation, start) - m.minus2_loglik == pytest.approx(RISE, abs=1e-5)

    squared = row_of(frame, "x", "variance")
    assert squared.conf_low == pytest.approx(slope.conf_low**2, rel=1e-6)


def test_profiles_of_a_gaussian_model_are_those_of_the_gaussian_engine():
    plain = mlm.fit("number ~ x + (x | g)", table(), method="ml")
    other = fit("number ~ x + (x | g)", "gaussian", dispersion="~ 1")
    a = plain.confint("profile")
    b = other.confint("profile", components=["fixed", "sd", "correlation"])
    for row in a[a.group != "Residual"].itertuples():
        same = row_of(b, row.term, row.component, row.group)
        assert same.conf_low == pytest.approx(row.conf_low, abs=2e-5)
        assert same.conf_high == pytest.approx(row.conf_high, abs=2e-5)
    residual = a[(a.group == "Residual")].iloc[0]
    natural = row_of(other.confint("profile", components=["natural"]), "residual SD", "natural")
    assert natural.conf_high == pytest.approx(residual.conf_high, abs=2e-5)


def test_natural_parameters_are_functions_of_their_predictor_and_thresholds_have_profiles():
    m = fit("spread ~ x + (1 | g)", "negative_binomial")
    frame = m.confint("profile", components=["fixed", "natural"])
    eta = row_of(frame, "dispersion: (Intercept)", "fixed")
    alpha = row_of(frame, "alpha", "natural")
    size = row_of(frame, "1 / alpha", "natural")
    assert alpha.conf_low == pytest.approx(np.exp(eta.conf_low), rel=1e-5)
    assert size.conf_low == pytest.approx(np.exp(-eta.conf_high), rel=1e-5)
    ordered = fit("ordered ~ x + (1 | g)", "cumulative")
    frame = ordered.confint("profile", components=["natural"])
    assert (frame.status == "ok").all()
    assert len(frame) == 3
    # The highest threshold, seen from above: the response turned around.
    turned = {**table(), "turned": 3.0 - table()["ordered"]}
    other = mlm.fit("turned ~ x + (1 | g)", turned, family="cumulative", n_quad=1,
                    categories=[0.0, 1.0, 2.0, 3.0], accuracy="none")  # fmt: skip
    first = other.confint("profile", components=["natural"]).iloc[0]
    assert frame.conf_low[2] == pytest.approx(-first.conf_high, abs=1e-5)
    assert frame.conf_high[2] == pytest.approx(-first.conf_low, abs=1e-5)


def test_a_zero_variance_has_a_one_sided_profile_and_no_wald_interval():
    rng = np.random.default_rng(3)
    flat = {**table(), "noise": (rng.random(240) < 0.5).astype(float)}
    m = mlm.fit("noise ~ x + (1 | g)", flat, family="binomial", n_quad=1, accuracy="none")
    if not m.is_singular:
        pytest.fail("the example must have a variance of zero")
    wald = row_of(m.confint(), "(Intercept)", "sd")
    assert "boundary" in wald.status
    assert np.isnan(wald.conf_high)
    profile = row_of(m.confint("profile", components=["sd"]), "(Intercept)", "sd")
    assert profile.conf_low == 0.0
    assert profile.status.startswith("ok; the estimate is at its bound")
    objective = make_objective(m._prepared.problem, 1)

    def psi_of(x):
        return np.append(x, profile.conf_high)

    found = minimize(lambda x: objective.value(psi_of(x)), m.fit.beta, method="BFGS")
    assert found.fun - m.minus2_loglik == pytest.approx(RISE, abs=1e-5)


def test_a_correlation_is_anything_where_a_variance_may_be_zero():
    m = fit("binary ~ x + (x | g)", "binomial")
    row = row_of(m.confint("profile", components=["correlation"]), "(Intercept), x", "correlation")
    slope = row_of(m.confint("profile", components=["sd"]), "x", "sd")
    assert slope.conf_low == 0.0
    assert "end of the range" in slope.status
    assert (row.conf_low, row.conf_high) == (-1.0, 1.0)
    assert "may be zero" in row.status


def test_a_flat_likelihood_has_no_limit_on_that_side():
    """Residuals that are nearly normal: degrees of freedom have no upper limit."""
    m = mlm.fit("tails ~ x", wide_table(), family="student")
    frame = m.confint("profile", components=["fixed", "natural"])
    eta = row_of(frame, "df: (Intercept)", "fixed")
    df = row_of(frame, "df", "natural")
    assert eta.conf_high == np.inf
    assert df.conf_high == np.inf
    assert df.conf_low == pytest.approx(np.exp(eta.conf_low), rel=1e-5)
    assert "no upper limit" in df.status
    bare = row_of(frame, "residual variance", "natural")
    assert bare.status.startswith("failed: Profiles are for functions of one parameter")


def test_odds_ratios_have_exponentiated_profile_ends():
    m = fit("binary ~ x + w + (1 | g)", "binomial")
    plain = m.confint("profile", components=["fixed"])
    ratios = m.confint("profile", components=["fixed"], exponentiate=True)
    assert np.allclose(ratios.conf_low, np.exp(plain.conf_low))
    assert "odds ratios" in ratios.attrs["sentence"]


def test_wald_limits_agree_with_the_gaussian_engine_and_options_are_checked():
    plain = mlm.fit("number ~ x + (x | g)", table(), method="ml")
    other = fit("number ~ x + (x | g)", "gaussian", dispersion="~ 1")
    a = plain.confint(components=["sd", "correlation"])
    b = other.confint(components=["sd", "correlation"])
    for row in a[a.group != "Residual"].itertuples():
        same = row_of(b, row.term, row.component, row.group)
        assert same.std_error == pytest.approx(row.std_error, rel=1e-3)
        assert same.conf_high == pytest.approx(row.conf_high, rel=1e-3)
    with pytest.raises(InferenceError, match="n_boot"):
        other.confint("profile", n_boot=10)
    with pytest.raises(InferenceError, match="components"):
        other.confint(components=["slopes"])
    penalised = mlm.fit("binary ~ x + (1 | g)", table(), family="binomial", penalty="slopes")
    with pytest.raises(InferenceError, match="unpenalised"):
        penalised.confint("profile")
    with pytest.raises(InferenceError, match="unpenalised"):
        penalised.robust()
