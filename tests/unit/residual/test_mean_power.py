"""Variances that are a power of the mean: the density at its own means, nlme, every verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.model.scale_power import split_power

DATA = Path(__file__).parents[2] / "data"
FITS = json.loads((DATA / "mean_power.json").read_text(encoding="utf-8"))["fits"]


def growing(n_ids=30, seed=4):
    """Positive means; the standard deviation is about 0.25 mean^0.8."""
    rng = np.random.default_rng(seed)
    n = 5 * n_ids
    x, time = rng.uniform(1.0, 8.0, n), np.tile(np.arange(5.0), n_ids)
    mean = 2.0 + 1.5 * x + 0.5 * time
    y = mean + 0.25 * mean**0.8 * rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "time": time, "id": np.repeat(np.arange(n_ids), 5)})


def power_of(m):
    return float(m.residual_parameters().set_index("term").loc["power(mean)", "estimate"])


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_the_criterion_is_that_of_the_density_at_the_means_of_the_fit(method):
    data = growing()
    m = mlm.fit("y ~ x + time + (1 | id)", data, scale="~ power(mean)", method=method)
    X = np.column_stack([np.ones(len(data)), data["x"], data["time"]])
    mean = X @ m.fixed_effects.to_numpy()
    V = np.diag(m.residual_variance * np.abs(mean) ** (2 * power_of(m)))
    same = data["id"].to_numpy()[:, None] == data["id"].to_numpy()[None]
    V = V + same * float(m.random_covariance["id"].iloc[0, 0])
    inverse = np.linalg.inv(V)
    e = data["y"] - mean
    size = len(data) - 3 * (method == "reml")
    d = size * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + e @ inverse @ e
    if method == "reml":
        d += np.linalg.slogdet(X.T @ inverse @ X)[1]
    found = m.reml_criterion if method == "reml" else m.minus2_loglik
    assert found == pytest.approx(float(d), abs=1e-6)
    # the equations of generalised least squares
    np.testing.assert_allclose(X.T @ inverse @ e, 0.0, atol=1e-4)


@pytest.mark.parametrize("f", FITS, ids=lambda f: f"{f['data']} {f['scale']} {f['method']}")
def test_nlme(f):
    """nlme stops where its criterion is flat: 1e-4 of an exponent, 1e-6 of the criterion."""
    if f["data"] == "body":
        data = pd.read_csv(DATA / "nlme_BodyWeight.csv.gz")
        data = data.assign(Diet=data["Diet"].astype(str), Rat=data["Rat"].astype(str))
    else:
        data = pd.read_csv(DATA / "nlme_Orthodont.csv.gz")
    m = mlm.fit(f["formula"], data, residual=f.get("residual"), scale=f["scale"],
                method=f["method"].lower())  # fmt: skip
    assert m.fit.criterion == pytest.approx(f["minus2ll"], abs=1e-6)
    errors = np.sqrt(np.diag(m.vcov_fixed))
    assert np.abs((m.fixed_effects.to_numpy() - f["beta"]) / errors).max() < 1e-4
    names = [t for t in m.residual_parameters()["term"] if t.startswith(("power", "log_variance"))]
    found = m.residual_parameters().set_index("term").loc[names[-1], "estimate"]
    assert float(found) == pytest.approx(f["power"], abs=1e-4)
    if "Sex" not in f["scale"]:  # nlme's reference is the category of the first row
        assert np.sqrt(m.residual_variance) == pytest.approx(f["sigma"], rel=1e-3)


def test_verbs_use_the_variance_at_the_mean():
    data = growing()
    m = mlm.fit("y ~ x + time", data, scale="~ power(mean)", residual="ar1(time | id)")
    assert m.certificate.is_certified
    mean = m.fitted("population")
    R, _ = m.residual_covariance(0)
    expected = m.residual_variance * np.abs(mean[:5]) ** (2 * power_of(m))
    np.testing.assert_allclose(np.diag(R), expected, rtol=1e-8)
    new = pd.DataFrame({"x": [1.0, 8.0], "time": [0.0, 4.0], "id": ["new", "new"]})
    p = m.predict(new, kind="population", interval="prediction")
    at = p["estimate"].to_numpy()
    sd = np.sqrt(m.residual_variance) * np.abs(at) ** power_of(m)
    errors = np.sqrt(sd**2 + p["std_error"].to_numpy() ** 2)
    np.testing.assert_allclose(p["prediction_std_error"], errors, rtol=1e-8)
    drawn = m.simulate(4000, seed=1).std(axis=1)
    np.testing.assert_allclose(drawn, np.sqrt(m.residual_variance) * mean ** power_of(m), rtol=0.06)
    np.testing.assert_allclose(np.mean(m.residuals("standardised") ** 2), 1.0, atol=0.1)
    assert "to the power" in str(m)
    assert "power(mean)" in m.methods_paragraph()
    limits = m.residual_parameters()
    assert limits.loc[0, "conf_low"] < power_of(m) < limits.loc[0, "conf_high"]


def test_a_row_seen_again_is_predicted_as_it_was_seen():
    data = growing()
    m = mlm.fit("y ~ x + time", data, scale="~ power(mean)", residual="ar1(time | id)")
    again = m.predict(data.iloc[10:13])["estimate"]
    np.testing.assert_allclose(again, data["y"].iloc[10:13], rtol=1e-8)


def test_other_responses_methods_and_draws_are_fitted_with_means_of_their_own():
    data = growing()
    m = mlm.fit("y ~ x + time", data, scale="~ power(mean)")
    direct = mlm.fit("y ~ x + time", data, scale="~ power(mean)", method="ml")
    assert power_of(m.update(method="ml")) == pytest.approx(power_of(direct), abs=1e-6)
    other = data.assign(y=data["y"] + 3.0)
    direct = mlm.fit("y ~ x + time", other, scale="~ power(mean)")
    assert power_of(m.refit(other["y"])) == pytest.approx(power_of(direct), abs=1e-6)
    draws = m.bootstrap(20, seed=1)
    assert (draws["status"] == "ok").all()
    assert abs(draws["power(mean)"].mean() - power_of(m)) < 0.3


def test_a_constant_power_of_zero_is_the_plain_model():
    data = growing()
    plain = mlm.fit("y ~ x + time", data, method="ml")
    power = mlm.fit("y ~ x + time", data, scale="~ power(mean)", method="ml")
    assert power.minus2_loglik < plain.minus2_loglik - 10.0
    table = mlm.compare(plain, power)
    assert "1" in table.sentence


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("power(mean)", (None, True)), ("sex + power( mean )", ("sex", True)),
     ("power(mean) + x + z", ("x + z", True)), ("sex", ("sex", False))],
)  # fmt: skip
def test_reading(scale, expected):
    assert split_power(scale) == expected


@pytest.mark.parametrize(
    ("scale", "match"),
    [("~ power(x)", r"log\(abs\(x\)\)"), ("~ x * power(mean)", "one term of its own"),
     ("~ power(mean) + power(mean)", "one term of its own")],
)  # fmt: skip
def test_refused_powers(scale, match):
    with pytest.raises(mlm.errors.ModelError, match=match):
        mlm.fit("y ~ x", growing(6), scale=scale)


def test_means_of_zero_and_means_without_differences_are_refused():
    data = growing(8)
    with pytest.raises(mlm.errors.EstimationError, match="means that differ"):
        mlm.fit("y ~ 1", data, scale="~ power(mean)")
    zero = data.assign(y=0.0 * data["y"] + np.tile([-1.0, 1.0], 20), half=np.repeat([0.0, 1.0], 20))
    zero["y"] += 3.0 * zero["half"]
    with pytest.raises(mlm.errors.EstimationError, match="away from zero"):
        mlm.fit("y ~ half", zero, scale="~ power(mean)")


def test_profiles_of_fixed_effects_are_refused_with_what_to_do():
    m = mlm.fit("y ~ x", growing(10), scale="~ power(mean)", method="ml")
    with pytest.raises(mlm.errors.EstimationError, match="do not depend on them"):
        m.confint("profile")
