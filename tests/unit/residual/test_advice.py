"""Advice on residuals: score tests against the fitted structure, and their silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.estimate.structured import prepare_structured
from multilevel.interpret.advice.residuals import _in_time, _score, _step, about_residuals
from multilevel.interpret.autocorrelation import time_columns
from multilevel.model.residual import ResidualTerm


def panel(seed, rho, spread, n=80, steps=8):
    rng = np.random.default_rng(seed)
    ids, t = np.repeat(np.arange(n), steps), np.tile(np.arange(steps) * 2.0, n)
    sex = np.array(["f", "m"])[ids % 2]
    e = rng.normal(size=(n, steps))
    for k in range(1, steps):
        e[:, k] = rho * e[:, k - 1] + np.sqrt(1.0 - rho**2) * e[:, k]
    y = rng.normal(size=n)[ids] + 0.1 * t + e.ravel() * np.where(sex == "m", spread, 1.0)
    return pd.DataFrame({"id": ids, "t": t, "sex": sex, "y": y})


def codes(fit):
    return [advice.code for advice in about_residuals(fit.design, fit.fit)]


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_both_are_noticed_and_the_calls_mend_them(method):
    data = panel(1, 0.5, 1.6)
    plain = mlm.fit("y ~ t + sex + (1 | id)", data, method=method)
    assert codes(plain) == ["heteroscedasticity", "autocorrelation"]
    variance, time = about_residuals(plain.design, plain.fit)
    assert 'scale="~ sex"' in variance.mend
    assert 'residual="ar1(t | id)"' in time.mend
    assert variance in plain.advice
    mended = mlm.fit("y ~ t + sex + (1 | id)", data, method=method, scale="~ sex",
                     residual="ar1(t | id)")  # fmt: skip
    assert plain.fit.criterion - mended.fit.criterion > 30.0
    assert not {"heteroscedasticity", "autocorrelation"} & {a.code for a in mended.advice}


def test_only_what_is_there_is_named():
    assert codes(mlm.fit("y ~ t + sex + (1 | id)", panel(2, 0.0, 1.0))) == []
    assert codes(mlm.fit("y ~ t + sex + (1 | id)", panel(3, 0.5, 1.0))) == ["autocorrelation"]
    assert codes(mlm.fit("y ~ t + sex + (1 | id)", panel(4, 0.0, 1.7))) == ["heteroscedasticity"]
    assert codes(mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())) == []


def test_the_score_is_close_to_the_likelihood_ratio():
    """For a small departure the two statistics agree, and so does the first step."""
    data = panel(5, 0.12, 1.0, n=300)
    plain = mlm.fit("y ~ t + (1 | id)", data, method="ml")
    fitted = mlm.fit("y ~ t + (1 | id)", data, method="ml", residual="ar1(t | id)")
    time = time_columns(plain.design)[0]
    term = ResidualTerm("ar1", ("t",), ("id",), None, 0, "ar1(t | id)")
    gradient, H = _score(plain.design, plain.fit, _in_time(plain.design, term, time))
    step, p = _step(gradient, H, 1)
    rho = fitted.residual_parameters()["estimate"][0]
    assert np.tanh(step[0]) == pytest.approx(rho, abs=0.02)
    ratio = plain.minus2_loglik - fitted.minus2_loglik
    found = 0.5 * gradient[1] ** 2 * np.linalg.inv(H)[1, 1]
    assert found == pytest.approx(ratio, rel=0.15)
    assert 0.0 < p < 1.0


def test_the_score_is_taken_at_the_plain_fit():
    data = panel(6, 0.3, 1.3)
    plain = mlm.fit("y ~ t + sex + (1 | id)", data)
    term = ResidualTerm("ar1", ("t",), ("id",), None, 0, "ar1(t | id)")
    layout = _in_time(plain.design, term, time_columns(plain.design)[0])
    design = replace(plain.design, residual=layout)
    objective = prepare_structured(design, method="reml").objective()
    psi = np.append(plain.fit.theta, 0.0)
    assert objective.gradient(psi)[0] == pytest.approx(0.0, abs=1e-4)
    shift = np.array([0.0, 1e-5])
    nearby = objective.value(psi + shift) - objective.value(psi - shift)
    assert objective.gradient(psi)[1] == pytest.approx(nearby / 2e-5, rel=1e-5)
