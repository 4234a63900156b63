"""Location-scale models at the public door: what is fitted, and what is said about it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.api.generalized.location_scale import LocationScaleFit
from multilevel.errors import DesignError, InferenceError, ModelError
from multilevel.likelihood.generalized.choose import make_objective
from tests.support.location_scale import TRUE, simulate


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return pd.DataFrame(simulate(80, 15, 0.6, np.random.default_rng(11)))


@pytest.fixture(scope="module")
def fitted(data: pd.DataFrame) -> LocationScaleFit:
    return fit("y ~ x + w + (1 | g)", data, scale="~ x + w + (1 | g)")


def fit(formula: str, data: Any, **options: Any) -> LocationScaleFit:
    found = mlm.fit(formula, data, **options)
    assert isinstance(found, LocationScaleFit)
    assert found.certificate.status in ("certified", "singular")
    return found


def three_levels(seed: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    c = np.repeat(np.arange(60), 8)
    s = c // 4
    x = rng.standard_normal(len(c))
    omega = 0.5 * rng.standard_normal(60)[c] + 0.4 * rng.standard_normal(15)[s]
    y = x + 0.7 * rng.standard_normal(60)[c] + 0.7 * rng.standard_normal(15)[s]
    return {"y": y + np.exp(omega / 2) * rng.standard_normal(len(c)), "x": x, "c": c, "s": s}


def test_estimates_are_near_the_truth(fitted: LocationScaleFit) -> None:
    for part, truth in (("mean", TRUE["beta"]), ("dispersion", TRUE["tau"])):
        table = fitted.part(part)
        assert np.all(np.abs(table["estimate"] - np.array(truth)) < 3.0 * table["std_error"])
    G = fitted.random_covariance["g"]
    assert list(G.columns) == ["(Intercept)", "dispersion: (Intercept)"]
    assert np.sqrt(G.iloc[1, 1]) == pytest.approx(TRUE["sd_scale"], abs=0.2)
    assert fitted.approximation.points == (11,)
    assert abs(fitted.approximation.error.criterion) < 1e-4
    again = pickle.loads(pickle.dumps(fitted))
    assert again.minus2_loglik == fitted.minus2_loglik


def test_without_random_scale_it_is_the_heterogeneous_variance_model(
    data: pd.DataFrame, fitted: LocationScaleFit
) -> None:
    test = fitted.test_random_scale().iloc[0]
    plain = mlm.fit("y ~ x + w + (1 | g)", data, scale="~ x + w", method="ml")
    assert test["minus2_loglik_without"] == pytest.approx(plain.minus2_loglik, abs=1e-6)
    assert test["statistic"] == pytest.approx(plain.minus2_loglik - fitted.minus2_loglik, abs=1e-6)
    assert test["df"] == 2
    assert test["null"] == "50:50 mixture of chi2(1) and chi2(2)"
    assert test["p_value"] < test["naive_p_value"] < 1e-6
    assert "differ" in test["sentence"]


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_sign_of_the_correlation(sign: float) -> None:
    d = simulate(80, 15, 0.7 * sign, np.random.default_rng(2))
    m = fit("y ~ x + w + (1 | g)", d, scale="~ x + w + (1 | g)", accuracy="none")
    row = m.scale_correlations().iloc[0]
    assert sign * row["estimate"] > 0.4
    assert row["p_value"] < 0.001
    assert row["conf_low"] < row["estimate"] < row["conf_high"]
    assert ("vary more" if sign > 0 else "vary less") in m.scale_correlations().attrs["sentence"]


def test_double_bar_leaves_the_scale_effect_uncorrelated(
    data: pd.DataFrame, fitted: LocationScaleFit
) -> None:
    m = fit("y ~ x + w + (1 | g)", data, scale="~ x + w + (1 || g)", accuracy="none")
    assert m.random_covariance["g"].iloc[0, 1] == 0.0
    assert m.n_parameters == fitted.n_parameters - 1
    assert m.minus2_loglik > fitted.minus2_loglik
    assert m.scale_correlations().empty
    test = fitted.test_scale_correlation().iloc[0]
    assert test["minus2_loglik_without"] == pytest.approx(m.minus2_loglik, abs=1e-6)
    assert test["df"] == 1
    assert test["p_value"] < 0.01
    with pytest.raises(InferenceError, match="correlated"):
        m.test_scale_correlation()
    assert m.test_random_scale().loc[0, "null"] == "50:50 mixture of chi2(0) and chi2(1)"


def test_correlations_at_their_limit_have_a_test_but_no_interval() -> None:
    m = fit("mathach ~ ses + minority + (1 | school)", mlm.load_hsb(),
            scale="~ minority + (1 | school)", accuracy="none")  # fmt: skip
    table = m.scale_correlations()
    if abs(table.loc[0, "estimate"]) <= 0.95:
        pytest.fail("this model was chosen because its correlation lies near -1")
    assert np.isnan(table.loc[0, "conf_low"])
    assert table.loc[0, "p_value"] < 0.001
    assert m.test_scale_correlation().loc[0, "p_value"] < 0.001


def test_random_slopes_stay_one_dimensional(data: pd.DataFrame) -> None:
    m = fit("y ~ x + w + (x | g)", data, scale="~ x + (1 | g)", accuracy="auto")
    assert m.random_covariance["g"].shape == (3, 3)
    assert "scale effect alone" in m.fit.plan
    assert "no longer matter" in m.approximation.sentence
    assert len(m.scale_correlations()) == 2


def test_three_levels_with_scale_effects_at_either_level() -> None:
    d = three_levels()
    both = fit("y ~ x + (1 | s/c)", d, scale="~ (1 | s/c)", accuracy="none")
    assert [len(b.names) for b in both.design.blocks] == [2, 2]
    assert both.approximation.points == (5, 5)
    assert both.scale_correlations()["group"].tolist() == ["s:c", "s"]
    for factor in ("s", "s:c"):
        one = fit("y ~ x + (1 | s/c)", d, scale=f"~ (1 | {factor})", accuracy="none")
        widths = {b.group: len(b.names) for b in one.design.blocks}
        assert widths == {"s:c": 1, "s": 1} | {factor: 2}
        assert (
            one.minus2_loglik >= both.minus2_loglik - 0.05
        )  # errors of the quadrature differ a little
    assert both.test_random_scale("s").loc[0, "df"] == 2
    with pytest.raises(DesignError, match="the same 60 clusters"):
        mlm.fit("y ~ x + (1 | s/c)", d, scale="~ (1 | c)")


@pytest.mark.parametrize("points", [1, 5])
def test_gradient_with_scale_effects_at_two_levels(points: int) -> None:
    m = fit("y ~ x + (1 | s/c)", three_levels(), scale="~ x + (1 | s/c)", n_quad=1,
            accuracy="none")  # fmt: skip
    objective = make_objective(m._prepared.problem, points)
    psi = m.fit.psi + 0.05
    numeric = np.empty_like(psi)
    for i, e in enumerate(1e-4 * np.eye(len(psi))):
        near = objective.value(psi + e) - objective.value(psi - e)
        far = objective.value(psi + 2 * e) - objective.value(psi - 2 * e)
        numeric[i] = (8.0 * near - far) / 12e-4
    objective.value(psi)
    np.testing.assert_allclose(objective.gradient(), numeric, atol=1e-5)


def test_random_effects_of_a_predictor_on_the_variance() -> None:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(80), 20)
    x = rng.standard_normal(len(g))
    omega = 0.4 * rng.standard_normal(80)[g] + 0.4 * rng.standard_normal(80)[g] * x
    d = {"y": rng.standard_normal(80)[g] + np.exp(omega / 2) * rng.standard_normal(len(g)),
         "x": x, "g": g}  # fmt: skip
    m = fit("y ~ x + (1 | g)", d, scale="~ x + (x | g)", accuracy="none")
    assert m.approximation.points == (5,)
    sds = np.sqrt(np.diag(m.random_covariance["g"]))
    np.testing.assert_allclose(sds, [1.0, 0.4, 0.4], atol=0.25)
    test = m.test_random_scale().iloc[0]
    assert test["df"] == 5
    assert "conservative" in test["null"]


def test_crossed_factors_by_laplace() -> None:
    rng = np.random.default_rng(8)
    a, b = np.divmod(np.arange(40 * 30), 30)
    omega = 0.6 * rng.standard_normal(40)[a]
    y = rng.standard_normal(40)[a] + rng.standard_normal(30)[b]
    y = y + np.exp(omega / 2) * rng.standard_normal(len(a))
    m = fit("y ~ 1 + (1 | a) + (1 | b)", {"y": y, "a": a, "b": b}, scale="~ (1 | a)",
            accuracy="none")  # fmt: skip
    assert m.approximation.method == "Laplace"
    assert m.variance_range().loc[0, "sd_scale"] == pytest.approx(0.6, abs=0.2)
    assert m.test_random_scale().loc[0, "p_value"] < 1e-6


def test_other_families_say_what_their_scale_is_the_log_of() -> None:
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(60), 15)
    phi = np.exp(-1.0 + 0.6 * rng.standard_normal(60))[g]
    mu = np.exp(1.0 + 0.4 * rng.standard_normal(60))[g]
    d = {"y": rng.gamma(1.0 / phi, mu * phi), "g": g}
    m = fit("y ~ 1 + (1 | g)", d, family="gamma", scale="~ (1 | g)", accuracy="none")
    assert m.approximation.points == (11,)
    assert m.update(accuracy="none").approximation.points == (11,)
    assert m.update(n_quad=1, accuracy="none").approximation.method == "Laplace"
    table = m.variance_range()
    assert table["quantity"].tolist() == ["dispersion phi"]
    assert table.loc[0, "sd_scale"] == pytest.approx(0.6, abs=0.2)
    assert "log of the dispersion phi" in m.variance_effects().attrs["sentence"]
    assert m.cluster_variances()["sd"].isna().all()
    assert "response scale" in m.row_variances().attrs["sentence"]


def test_effects_in_percent(fitted: LocationScaleFit) -> None:
    table = fitted.variance_effects().set_index("term")
    part = fitted.part("dispersion").set_index("term")
    assert table.loc["x", "percent"] == pytest.approx(100 * np.expm1(part.loc["x", "estimate"]))
    low = part.loc["x", "estimate"] - 1.959964 * part.loc["x", "std_error"]
    assert table.loc["x", "percent_low"] == pytest.approx(100 * np.expm1(low), abs=1e-3)
    assert np.isnan(table.loc["(Intercept)", "percent"])


def test_range_of_variances(fitted: LocationScaleFit) -> None:
    sd = float(np.sqrt(fitted.random_covariance["g"].iloc[1, 1]))
    tau = fitted.part("dispersion")["estimate"].to_numpy()
    row = fitted.variance_range(at="zero").iloc[0]
    assert row["range_low"] == pytest.approx(np.exp(tau[0] - 1.959964 * sd), rel=1e-5)
    assert row["mean"] == pytest.approx(np.exp(tau[0] + sd**2 / 2))
    root = fitted.variance_range(at="zero").iloc[1]
    assert root["range_high"] == pytest.approx(np.sqrt(row["range_high"]))
    with pytest.raises(InferenceError, match="'mean' or 'zero'"):
        fitted.variance_range(at="median")  # type: ignore[arg-type]


def test_clusters_by_their_variance(data: pd.DataFrame, fitted: LocationScaleFit) -> None:
    table = fitted.cluster_variances()
    assert table["estimate"].is_monotonic_decreasing
    assert table["is_unusual"].any()
    assert f"{int(table['is_unusual'].sum())} of 80 clusters" in table.attrs["sentence"]
    raw = data.assign(e=data["y"] - fitted.fitted())
    spread = np.log(raw.groupby("g")["e"].var()).reindex(table["level"]).to_numpy()
    assert np.corrcoef(spread, np.log(table["variance"]))[0, 1] > 0.8
    with pytest.raises(InferenceError, match="random intercept"):
        fitted.cluster_variances("school")


def test_icc_depends_on_predictors_and_cluster(
    data: pd.DataFrame, fitted: LocationScaleFit
) -> None:
    rows = pd.DataFrame({"x": [-1.0, 1.0, np.nan], "w": [0.0, 0.0, 0.0], "g": [0, 0, 0]})
    table = fitted.row_variances(rows)
    tau = fitted.part("dispersion")["estimate"].to_numpy()
    expected = np.exp(tau[0] + tau[1] * np.array([-1.0, 1.0]))
    np.testing.assert_allclose(table["residual_variance"][:2], expected)
    location = fitted.random_covariance["g"].iloc[0, 0]
    np.testing.assert_allclose(table["icc"][:2], location / (location + expected))
    assert np.isnan(table["icc"][2])
    assert (table["conf_low"] < table["icc"])[:2].all()
    omega = float(fitted.random_covariance["g"].iloc[1, 1])
    averaged = fitted.row_variances(rows, kind="marginal")
    np.testing.assert_allclose(averaged["residual_variance"][:2], expected * np.exp(omega / 2))
    own = fitted.row_variances(kind="conditional")
    assert len(own) == len(data)
    assert own["residual_sd"].nunique() == len(data)


def test_prediction_intervals_hold_their_share(fitted: LocationScaleFit) -> None:
    fresh = pd.DataFrame(simulate(400, 5, 0.6, np.random.default_rng(99)))
    fresh["g"] += 10_000
    new = fitted.prediction_intervals(fresh, kind="marginal")
    inside = np.mean((fresh["y"] > new["conf_low"]) & (fresh["y"] < new["conf_high"]))
    assert inside == pytest.approx(0.95, abs=0.02)
    unknown = fitted.prediction_intervals(fresh)  # new clusters: the same intervals
    np.testing.assert_allclose(unknown["conf_low"], new["conf_low"], atol=1e-6)
    known = fitted.prediction_intervals(pd.DataFrame({"x": [0.0], "w": [0.0], "g": [3]}))
    assert (
        known.loc[0, "conf_high"] - known.loc[0, "conf_low"]
        < (new["conf_high"] - new["conf_low"]).mean()
    )
    assert fitted.predict(fresh)["estimate"].notna().all()


def test_summary_and_pictures(fitted: LocationScaleFit) -> None:
    text = repr(fitted)
    assert "Variability across clusters" in text
    assert text.index("Variability across clusters") < text.index("\nFit\n")
    assert "vary more within" in text
    for picture in (
        fitted.plot_location_scale(), fitted.plot_residual_sd(), fitted.plot_residual_sd("w")
    ):  # fmt: skip
        picture.draw()
    with pytest.raises(InferenceError, match="predictor of the variance"):
        fitted.plot_residual_sd("z")
    with pytest.raises(InferenceError, match="location effect"):
        fitted.plot_location_scale(term="x")


def test_a_formula_without_random_effects_still_answers() -> None:
    rng = np.random.default_rng(0)
    d = {"y": rng.gamma(2.0, 1.0, 300), "x": rng.standard_normal(300)}
    m = fit("y ~ x", d, family="gamma", scale="~ x")
    assert m.variance_range().empty
    assert m.variance_range().attrs["sentence"] == "No cluster has a random scale effect."
    assert "Variability across clusters" not in repr(m)
    with pytest.raises(InferenceError, match="random scale effects"):
        m.test_random_scale()


def test_requests_that_make_no_sense_are_refused(data: pd.DataFrame) -> None:
    with pytest.raises(ModelError, match="say the same"):
        mlm.fit("y ~ x + (1 | g)", data, scale="~ (1 | g)", dispersion="~ x")
    with pytest.raises(ModelError, match="residual variance or a dispersion"):
        mlm.fit("y ~ x + (1 | g)", data, family="poisson", scale="~ x")
    with pytest.raises(ModelError, match="without random scale effects"):
        mlm.fit("y ~ x + (1 | g)", data, scale="~ (1 | g)", residual="cs(1 | g)")
    with pytest.raises(DesignError, match="one random term"):
        mlm.fit("y ~ x + (x || g)", data, scale="~ (1 | g)")
