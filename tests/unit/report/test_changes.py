from __future__ import annotations

import numpy as np

from multilevel.design.records import RowReport
from multilevel.report.changes import what_changed
from tests.unit.report import hand


def with_ses(method="ml", **changes):
    of = hand.design(
        "mathach ~ ses + (1 | school)",
        {"(Intercept)": hand.ONE, "ses": hand.SES},
        [hand.block("school", hand.CODES, [hand.ONE], ["(Intercept)"])],
        method,
    )
    given = {"criterion": 90.0, "tau2": 4.0, "sigma2": 30.0} | changes
    tau2, sigma2 = given.pop("tau2"), given.pop("sigma2")
    return hand.fit(of, [12.0, 2.0], [0.2, 0.1], [[[tau2]]], sigma2, **given), of


def told(*models, name0="the empty model"):
    return " ".join(what_changed(*models, name0=name0))


def test_ml_compares_the_criterion_and_each_pile_by_name():
    text = told(*hand.empty_model("ml", tau2=8.0, sigma2=40.0), *with_ses())
    assert "New in the model for the means: ses." in text
    assert "-2 log-likelihood falls by 10.00 with 1 parameter more (100.00 to 90.00)" in text
    assert "goes from 8.000 to 4.000: 50.0% of it explained, relative to the empty model" in text
    assert "goes from 40.00 to 30.00: 25.0% of it explained" in text


def test_reml_refuses_where_the_means_differ():
    text = told(*hand.empty_model("reml"), *with_ses("reml"))
    assert "cannot be compared; judge the new effects" in text
    assert "falls" not in text


def test_reml_compares_where_only_the_variance_differs():
    fit1, of1 = hand.cross_level_model(criterion=80.0)
    of0 = hand.design(
        of1.model.formula,
        dict(zip(of1.names, of1.X.T, strict=True)),
        [hand.block("school", hand.CODES, [hand.ONE], ["(Intercept)"])],
    )
    fit0 = hand.fit(of0, fit1.beta, [0.1] * 4, [[[4.2]]], 37.0)
    text = told(fit0, of0, fit1, of1)
    assert "REML criterion falls by 20.00 with 2 parameters more" in text
    assert "would lower it by 2 at most on average" in text
    assert "now the variance at ses = 0" in text
    assert "The variance of the ses slope over school is 0.2500 (SD 0.5000)" in text
    assert "move variance to a pile of their own" in text


def test_a_variance_that_rises_is_explained():
    text = told(*hand.empty_model("ml", tau2=4.0, sigma2=40.0), *with_ses(tau2=5.0))
    assert "25.0% more than in the empty model (a negative explained variance)" in text
    assert "with a smaller residual less of it is put down to noise" in text


def test_other_rows_or_outcomes_stop_the_comparison():
    fit0, of0 = hand.empty_model("ml")
    fit1, of1 = with_ses()
    fewer = hand.design(
        of0.model.formula,
        {"(Intercept)": hand.ONE},
        of0.blocks,
        "ml",
        rows=RowReport(90, np.arange(60) + 1),
    )
    assert "different rows" in told(fit0, fewer, fit1, of1)
    assert "goes from" not in told(fit0, fewer, fit1, of1)
    other = hand.design("reading ~ 1 + (1 | school)", {"(Intercept)": hand.ONE}, of0.blocks, "ml")
    assert "outcomes differ (reading and mathach)" in told(fit0, other, fit1, of1)


def test_a_criterion_that_rises_with_more_parameters_is_not_hidden():
    text = told(*hand.empty_model("ml"), *with_ses(criterion=103.0))
    assert "rises by 3.00" in text
    assert "not at its optimum" in text


def test_mixed_methods_are_refused_and_removal_is_told():
    assert "One model is fitted by REML and one by ML" in told(
        *hand.empty_model("reml"), *with_ses("ml")
    )
    text = told(*with_ses(), *hand.empty_model("ml"))
    assert "Gone in the model for the means: ses." in text
    assert "rises by 10.00 with 1 parameter fewer" in text
