"""Comparisons of generalized fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.infer.generalized.data import fit, table


def last(*models, **options):
    return mlm.compare(*models, **options).to_frame().iloc[-1]


def test_a_fixed_effect_is_tested_by_the_plain_chi_square():
    small, large = fit("binary ~ x + (1 | g)", "binomial"), fit(
        "binary ~ x + arm + (1 | g)", "binomial")  # fmt: skip
    row = last(large, small)
    statistic = small.minus2_loglik - large.minus2_loglik
    assert row.statistic == pytest.approx(statistic, abs=1e-10)
    assert row.p_value == row.p_naive == pytest.approx(chi2.sf(statistic, 2), rel=1e-10)
    assert row.aic == pytest.approx(large.minus2_loglik + 2 * 5)
    assert row.bic == pytest.approx(large.minus2_loglik + np.log(240) * 5)
    found = mlm.compare(small, large)
    assert "n of BIC is 240 (rows)" in found.sentence
    assert "Laplace" in found.sentence
    assert "binomial" in repr(found)


def test_variances_get_their_mixtures():
    plain = fit("binary ~ x", "binomial")
    intercept = fit("binary ~ x + (1 | g)", "binomial")
    slope = fit("binary ~ x + (x | g)", "binomial")
    one = last(plain, intercept)
    assert one.p_value == pytest.approx(0.5 * chi2.sf(one.statistic, 1), rel=1e-10)
    two = last(intercept, slope)
    expected = 0.5 * chi2.sf(two.statistic, 1) + 0.5 * chi2.sf(two.statistic, 2)
    assert two.p_value == pytest.approx(expected, rel=1e-10)
    tests = slope.random_tests()
    assert tests.term.tolist() == ["x"]
    assert tests.statistic[0] == pytest.approx(two.statistic, abs=1e-5)
    assert tests.p_value[0] == pytest.approx(two.p_value, rel=1e-4)
    alone = intercept.random_tests().iloc[0]
    assert alone.p_value == pytest.approx(one.p_value, rel=1e-4)


def test_random_tests_at_quadrature_keep_their_points():
    slope = fit("binary ~ x + (x | g)", "binomial", 5)
    intercept = fit("binary ~ x + (1 | g)", "binomial", 5)
    expected = intercept.minus2_loglik - slope.minus2_loglik
    assert slope.random_tests().statistic[0] == pytest.approx(max(expected, 0.0), abs=1e-5)


def test_limits_of_families_halve_the_p_value():
    poisson = fit("spread ~ x + (1 | g)", "poisson")
    negative = fit("spread ~ x + (1 | g)", "negative_binomial")
    inflated = fit("spread ~ x + (1 | g)", "poisson", zero="~ 1")
    for large in (negative, inflated):
        row = last(poisson, large)
        assert row.df == 1
        assert row.p_value == pytest.approx(0.5 * chi2.sf(row.statistic, 1), rel=1e-10)
    # A limit and a fixed effect: one parameter of each kind.
    both = last(fit("spread ~ 1 + (1 | g)", "poisson"), negative)
    expected = 0.5 * chi2.sf(both.statistic, 1) + 0.5 * chi2.sf(both.statistic, 2)
    assert both.p_value == pytest.approx(expected, rel=1e-10)
    # Two limits: chi-bar-square with weights from the information, between the extremes.
    two = last(fit("spread ~ x", "poisson"), negative)
    assert two.df == 2
    low, high = 0.5 * chi2.sf(two.statistic, 1), chi2.sf(two.statistic, 2)
    assert low <= two.p_value <= low + 0.5 * high
    assert "information from cluster scores" in two.distribution


@pytest.mark.parametrize("random", ["(x || g)", "(x | g)"])
def test_weights_of_several_variances_are_those_of_the_gaussian_engine(random):
    """Outer products of 400 clusters against the expected information."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(400), 4)
    x = rng.normal(size=1600)
    y = 0.3 * x + 0.25 * rng.normal(size=400)[g] + rng.normal(size=1600)
    data = {"g": g, "x": x, "y": y}
    wide = f"y ~ x + {random}"
    engine = {"dispersion": "~ 1", "n_quad": 1, "accuracy": "none"}
    none = mlm.fit("y ~ x", data, **engine)
    other = last(none, mlm.fit(wide, data, **engine))
    gaussian = last(mlm.fit("y ~ x", data, method="ml"), mlm.fit(wide, data, method="ml"))
    assert other.statistic == pytest.approx(gaussian.statistic, abs=1e-6)
    assert other.p_value == pytest.approx(gaussian.p_value, rel=0.1)
    assert "cluster scores" in other.distribution


def test_weights_of_crossed_variances_are_those_of_the_gaussian_engine():
    """Differences of the gradient against the expected information."""
    rng = np.random.default_rng(6)
    g, h = np.divmod(np.arange(1200), 30)
    h = np.where(rng.random(1200) < 0.5, h, g % 30)
    data = {"g": g, "h": h, "x": rng.normal(size=1200)}
    data["y"] = data["x"] + 0.2 * rng.normal(size=40)[g] + rng.normal(size=1200)
    wide = "y ~ x + (1 | g) + (1 | h)"
    engine = {"dispersion": "~ 1", "n_quad": 1, "accuracy": "none"}
    other = last(mlm.fit("y ~ x", data, **engine), mlm.fit(wide, data, **engine))
    plain = last(mlm.fit("y ~ x", data, method="ml"), mlm.fit(wide, data, method="ml"))
    assert "differenced gradients" in other.distribution
    assert other.statistic == pytest.approx(plain.statistic, abs=1e-6)
    assert other.p_value == pytest.approx(plain.p_value, rel=0.05)


def test_predictors_of_inflation_and_other_families_are_not_nested():
    poisson = fit("spread ~ x + (1 | g)", "poisson")
    for other in (
        fit("spread ~ x + (1 | g)", "poisson", zero="~ x"),
        fit("spread ~ x + (1 | g)", "poisson", hurdle="~ 1"),
    ):
        row = last(poisson, other)
        assert np.isnan(row.statistic)
        assert row.distribution == "not nested"
    same = last(fit("spread ~ x + (1 | g)", "negative_binomial_1"), fit(
        "spread ~ x + (1 | g)", "negative_binomial"))  # fmt: skip
    assert np.isnan(same.p_value)


def test_random_effects_of_other_parts_are_seen():
    mean = fit("spread ~ x + (1 | g)", "poisson", zero="~ 1")
    zero = fit("spread ~ x + (1 | g)", "poisson", zero="~ 1 + (1 | g)")
    row = last(mean, zero)
    assert row.df == 1
    assert row.p_value == pytest.approx(0.5 * chi2.sf(row.statistic, 1), rel=1e-9)


def test_proportional_odds():
    m = fit("ordered ~ x + arm + (1 | g)", "cumulative")
    free = mlm.fit(
        "ordered ~ 1 + (1 | g)", table(), family="cumulative", thresholds="~ x + arm", n_quad=1,
        categories=[0.0, 1.0, 2.0, 3.0], accuracy="none",
    )  # fmt: skip
    row = last(m, free)
    statistic = m.minus2_loglik - free.minus2_loglik
    assert row.df == 6
    assert row.p_value == pytest.approx(chi2.sf(statistic, 6), rel=1e-9)
    tests = m.proportional_odds_test().set_index("term")
    assert tests.index.tolist() == ["x", "arm", "all"]
    assert (tests.status == "ok").all()
    assert tests.statistic["all"] == pytest.approx(statistic, abs=1e-5)
    assert tests.df.tolist() == [2, 4, 6]
    with pytest.raises(InferenceError, match="three or more categories"):
        fit("binary ~ x + (1 | g)", "binomial").proportional_odds_test()
    with pytest.raises(InferenceError, match="Poisson"):
        m.overdispersion_test()


def test_other_approximations_are_refused_and_refitted_on_request():
    laplace = fit("binary ~ x + (1 | g)", "binomial")
    quadrature = fit("binary ~ x + arm + (1 | g)", "binomial", 9)
    with pytest.raises(InferenceError, match="refit all models with 9"):
        mlm.compare(laplace, quadrature)
    found = mlm.compare(laplace, quadrature, refit=True)
    small = fit("binary ~ x + (1 | g)", "binomial", 9)
    statistic = small.minus2_loglik - quadrature.minus2_loglik
    assert found.to_frame().statistic[1] == pytest.approx(statistic, abs=1e-6)
    assert "refitted by quadrature with 9 points" in found.sentence
    # A model without random effects has an exact likelihood: it goes with any approximation.
    assert last(fit("binary ~ x", "binomial"), small).df == 1


def test_what_cannot_be_compared_is_refused():
    m = fit("binary ~ x + (1 | g)", "binomial")
    part = {k: v[:200] for k, v in table().items()}
    fewer = mlm.fit("binary ~ x + (1 | g)", part, family="binomial", n_quad=1)
    with pytest.raises(InferenceError, match="same table"):
        mlm.compare(m, fewer)
    gaps = {**table(), "z": np.where(np.arange(240) == 7, np.nan, table()["w"])}
    missing = mlm.fit("binary ~ x + z + (1 | g)", gaps, family="binomial", n_quad=1)
    with pytest.raises(InferenceError, match="same rows"):
        mlm.compare(m, missing)
    words = {**table(), "text": np.where(table()["binary"] == 1, "yes", "no")}
    yes = mlm.fit("text ~ x + (1 | g)", words, family="binomial", event="yes", n_quad=1)
    no = mlm.fit("text ~ x + w + (1 | g)", words, family="binomial", event="no", n_quad=1)
    with pytest.raises(InferenceError, match="same event"):
        mlm.compare(yes, no)
    with pytest.raises(InferenceError, match="same response"):
        mlm.compare(fit("count ~ x + (1 | g)", "poisson"), fit("spread ~ 1 + (1 | g)", "poisson"))
    penalised = mlm.fit("binary ~ x + w + (1 | g)", table(), family="binomial", n_quad=1,
                        penalty="slopes")  # fmt: skip
    with pytest.raises(InferenceError, match="Penalised"):
        mlm.compare(m, penalised)
    gaussian = mlm.fit("number ~ x + (1 | g)", table(), method="ml")
    with pytest.raises(InferenceError, match="same engine"):
        mlm.compare(m, gaussian)
    with pytest.raises(InferenceError, match="takes fitted models"):
        mlm.compare(m, "m")


def test_a_refit_takes_the_rows_that_all_models_have():
    data = pd.DataFrame(table())
    data["arm"] = data["arm"].astype(object)
    data.loc[[3, 17, 40, 41, 42], "arm"] = None
    small = mlm.fit("binary ~ x + (1 | g)", data, family="binomial", n_quad=1)
    large = mlm.fit("binary ~ x + arm + (1 | g)", data, family="binomial", n_quad=1)
    with pytest.raises(InferenceError, match="refit=True"):
        mlm.compare(small, large)
    found = mlm.compare(small, large, refit=True)
    rest = data[data["arm"].notna()]
    same = mlm.fit("binary ~ x + (1 | g)", rest, family="binomial", n_quad=1)
    assert found.to_frame()["criterion"][0] == pytest.approx(same.minus2_loglik, abs=1e-7)
    assert "Refitted to the 235 rows that all models have: m0 (of 240)." in found.sentence
