"""The result object: its numbers, tables and words."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import ConvergenceWarning, EstimationError, InferenceError, ModelError
from tests.reference.lme4_fits import DATA

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def data():
    return pd.read_csv(DATA / "sleepstudy.csv.gz")


@pytest.fixture(scope="module")
def result(data):
    return mlm.fit(FORMULA, data)


def test_numbers_of_lme4(result):
    # lme4 1.1-31, REML: fixef, vcov, VarCorr, REMLcrit, AIC, BIC (tests/data/lmm.json)
    assert result.fixed_effects.to_dict() == pytest.approx(
        {"(Intercept)": 251.4051048485, "Days": 10.4672859596}, rel=1e-7
    )
    table = result.coefficients().set_index("term")
    assert table["std_error"].to_dict() == pytest.approx(
        {"(Intercept)": 6.8245557763, "Days": 1.5457889324}, rel=1e-5
    )
    assert np.sqrt(result.vcov_fixed.loc["Days", "Days"]) == table.loc["Days", "std_error"]
    G = result.random_covariance["Subject"]
    assert G.loc["Days", "Days"] == pytest.approx(35.0716623442, rel=1e-5)
    assert G.loc["(Intercept)", "Days"] == pytest.approx(9.6043354748, rel=1e-3)
    assert result.residual_variance == pytest.approx(654.941040682, rel=1e-5)
    assert result.reml_criterion == pytest.approx(1743.6282719585, abs=1e-6)
    assert result.aic == pytest.approx(1755.6282719585, abs=1e-6)
    assert result.bic == pytest.approx(1774.7860130638, abs=1e-6)
    assert (result.n, result.n_parameters, result.groups) == (180, 6, {"Subject": 18})
    assert not result.is_singular
    assert result.certificate.is_certified


def test_random_effects_of_lme4(result):
    effects = result.random_effects()
    assert list(effects.columns) == [
        "group", "level", "term", "estimate", "std_error", "conf_low", "conf_high",
    ]  # fmt: skip
    first = effects[effects["level"] == 309].set_index("term")["estimate"]
    assert first["(Intercept)"] == pytest.approx(-40.3985769249, rel=1e-5)
    assert first["Days"] == pytest.approx(-8.619703183, rel=1e-5)
    assert "condVar" in effects.attrs["std_error"]
    wider = result.random_effects(std_error="prediction")["std_error"]
    assert (wider > effects["std_error"]).all()


def test_each_criterion_refuses_the_other_method(result):
    with pytest.raises(InferenceError, match="needs an ML fit"):
        _ = result.minus2_loglik
    ml = result.update(method="ml")
    assert ml.method == ml.design.model.method == "ml"
    assert ml.minus2_loglik == pytest.approx(1751.9393444632, abs=1e-6)
    with pytest.raises(InferenceError, match="needs a REML fit"):
        _ = ml.reml_criterion
    assert ml.update(method="reml").reml_criterion == pytest.approx(result.reml_criterion, abs=1e-7)
    with pytest.raises(ModelError, match="'reml' or 'ml'"):
        result.update(method="mle")


def test_variance_tables(result):
    table = result.variance_components()
    assert table["term2"].tolist() == ["", "", "Days", ""]
    assert table.loc[2, "correlation"] == pytest.approx(0.065551342853, rel=1e-3)
    V, R = result.cluster_covariance("Subject", 308)
    G = result.random_covariance["Subject"].to_numpy()
    Z = np.column_stack([np.ones(10), np.arange(10.0)])
    np.testing.assert_allclose(V, Z @ G @ Z.T + result.residual_variance * np.eye(10))
    np.testing.assert_allclose(np.diag(R), 1.0)
    with pytest.raises(InferenceError, match="random intercepts only"):
        result.intraclass_correlations()


def test_icc_of_hsb():
    empty = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
    icc = empty.intraclass_correlations()
    # 8.61431 / (8.61431 + 39.14831), the published null model of these data
    assert icc.loc[0, "proportion"] == pytest.approx(8.61431 / (8.61431 + 39.14831), abs=1e-5)


def test_fitted_residuals_and_predictions_agree(result, data):
    np.testing.assert_allclose(result.fitted() + result.residuals(), data["Reaction"])
    population = result.fitted("population")
    np.testing.assert_allclose(population + result.residuals("marginal"), data["Reaction"])
    frame = result.predict(data, std_error=True)
    np.testing.assert_allclose(frame["estimate"], result.fitted(), rtol=1e-12)
    assert list(frame.columns) == ["estimate", "std_error", "prediction_std_error"]
    assert "residual variance" in frame.attrs["std_error"]


def test_prediction_keeps_the_index_and_counts_missing_rows(result):
    new = pd.DataFrame({"Days": [1.0, np.nan, 3.0], "Subject": [308, 308, 1]}, index=list("abc"))
    frame = result.predict(new)
    assert frame.index.tolist() == ["a", "b", "c"]
    assert frame["estimate"].isna().tolist() == [False, True, False]
    assert frame.attrs["n_missing"] == 1
    assert frame.attrs["new_levels"] == {"Subject": (1,)}
    with pytest.raises(InferenceError, match="Subject"):
        result.predict(new, new_levels="error")


def test_simulate_and_refit_recover_the_parameters(result):
    Y = result.simulate(40, seed=7)
    np.testing.assert_array_equal(Y, result.simulate(40, seed=7))
    refits = [result.refit(Y[:, k]) for k in range(40)]
    assert all(one.certificate.is_certified for one in refits)
    slopes = np.array([one.fixed_effects["Days"] for one in refits])
    truth, error = result.fixed_effects["Days"], result.coefficients().loc[1, "std_error"]
    assert abs(slopes.mean() - truth) < 4 * error / np.sqrt(40)
    assert 0.6 < slopes.std(ddof=1) / error < 1.5
    residual = np.array([one.residual_variance for one in refits])
    assert abs(residual.mean() / result.residual_variance - 1) < 4 * np.sqrt(2 / 144 / 40)


def test_refit_equals_a_fit_from_scratch(result, data):
    y = result.simulate(1, seed=3)[:, 0]
    again, fresh = result.refit(y), mlm.fit(FORMULA, data.assign(Reaction=y))
    assert again.reml_criterion == pytest.approx(fresh.reml_criterion, abs=1e-7)
    np.testing.assert_allclose(again.fixed_effects, fresh.fixed_effects, rtol=1e-6)
    np.testing.assert_allclose(again.fitted(), fresh.fitted(), rtol=1e-5)
    assert result.residual_variance == pytest.approx(654.941040682, rel=1e-5)
    with pytest.raises(EstimationError, match="one value per analysed row"):
        result.refit(y[:-1])


def test_a_refit_that_is_not_certified_is_refused_unless_the_fit_allowed_it(result, monkeypatch):
    from dataclasses import replace

    from multilevel.api import result as room
    from tests.unit.interpret.support import certificate

    solve = room.solve
    monkeypatch.setattr(
        room,
        "solve",
        lambda *a, **k: replace(solve(*a, **k), certificate=certificate("not_certified")),
    )
    with pytest.raises(EstimationError, match="shown to be at the optimum"):
        result.refit(result.design.y)
    with pytest.raises(EstimationError, match="shown to be at the optimum"):
        result.update(method="ml")
    lenient = mlm.MultilevelFit(result._prepared, result.fit, allow=("not_certified",))
    with pytest.warns(ConvergenceWarning) as caught:
        again = lenient.refit(result.design.y)
    assert caught[0].filename == __file__
    with pytest.warns(ConvergenceWarning):
        again.update(method="ml")


def test_words_and_json(result):
    text = str(result)
    assert text == result.summary()
    assert "Model for the means" in text
    assert result.equations.splitlines()[0] in text
    assert len(result.summary(verbose=True)) > len(text)
    assert result._repr_html_().startswith("<div")
    found = json.loads(result.to_json())
    assert found == result.to_dict()
    assert found["reml_criterion"] == result.reml_criterion


def test_frames_handed_out_do_not_change_the_fit(result):
    handed_out = [
        result.fixed_effects.to_frame(),
        result.vcov_fixed,
        result.random_covariance["Subject"],
        result.coefficients()[["estimate"]],
    ]
    for frame in handed_out:
        frame.iloc[:, :] = 0.0
    assert result.fixed_effects["Days"] == pytest.approx(10.4672859596, rel=1e-7)
    assert result.vcov_fixed.iloc[0, 0] > 1
    assert result.random_covariance["Subject"].iloc[0, 0] > 1


def test_pickles(result, data):
    result.random_effects()
    back = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(back.fitted(), result.fitted())
    np.testing.assert_array_equal(back.predict(data)["estimate"], result.predict(data)["estimate"])
    assert str(back) == str(result)


def test_rows_are_positions_in_the_table(data):
    holes = data.copy()
    holes.loc[[0, 5], "Days"] = np.nan
    result = mlm.fit(FORMULA, holes)
    assert result.n == 178
    assert set(range(180)) - set(result.rows.tolist()) == {0, 5}
    assert len(result.fitted()) == 178


def test_prediction_intervals(result, data):
    new = data.iloc[[0, 15]].assign(Days=[2, 20])
    plain = result.predict(new, std_error=True)
    for interval, column in (("confidence", "std_error"), ("prediction", "prediction_std_error")):
        table = result.predict(new, interval=interval, conf_level=0.9)
        margin = 1.6448536269514722 * plain[column]
        assert table["conf_low"].tolist() == pytest.approx((plain["estimate"] - margin).tolist())
        assert table["conf_high"].tolist() == pytest.approx((plain["estimate"] + margin).tolist())
        assert table.attrs["interval"].startswith("90% interval for")
    assert "conf_low" not in plain
    with pytest.raises(InferenceError, match="interval of a prediction"):
        result.predict(new, interval="both")
    with pytest.raises(InferenceError, match="between 0 and 1"):
        result.predict(new, interval="confidence", conf_level=95)
