"""Predictions at times without data: universal kriging of the effects, from first principles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

TIMES = np.array([0.0, 1.0, 2.0, 4.0, 7.0])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    n = 40
    g, k = np.repeat(np.arange(n), 2 * len(TIMES)), np.tile(np.repeat(np.arange(5), 2), n)
    C = 0.75 ** np.abs(TIMES[:, None] - TIMES)
    b = rng.normal(size=(n, 5)) @ np.linalg.cholesky(C).T
    x = rng.normal(size=len(g))
    y = 1.0 + 0.3 * x + b[g, k] + 0.6 * rng.normal(size=len(g))
    frame = pd.DataFrame({"y": y, "x": x, "t": TIMES[k], "g": g})
    return frame[rng.uniform(size=len(g)) > 0.2].reset_index(drop=True)


NEW = pd.DataFrame({"t": [3.0, 2.0, 5.0, 3.0, 3.0], "g": [1, 1, 2, 999, 0],
                    "x": [0.0, 0.0, 0.0, 0.0, 1.0]})  # fmt: skip


def correlation(m, structure):
    found = m.structure_parameters()
    value = dict(zip(found["parameter"], found["estimate"], strict=True))

    def at(h):
        if structure == "ar1":
            return value["rho"] ** h
        if structure == "arma11":
            rho, ma = value["rho"], value["theta"]
            first = (1 + rho * ma) * (rho + ma) / (1 + 2 * rho * ma + ma**2)
            return np.where(h > 0, first * np.abs(rho) ** (h - 1) * np.sign(rho) ** (h - 1), 1.0)
        if structure == "car1":
            return value["phi"] ** h
        if structure == "exp":
            return np.exp(-h / value["range"])
        if structure == "sph":
            u = np.minimum(h / value["range"], 1.0)
            return 1.0 - 1.5 * u + 0.5 * u**3
        return np.select([h == 0.0] + [h == j for j in range(1, 8)],
                         [1.0] + [value.get(f"rho({j})", 0.0) for j in range(1, 8)])  # fmt: skip

    return at


@pytest.mark.parametrize("term", [
    "ar1(0 + t | g)", "arma11(0 + t | g)", "toep(0 + t | g)", "toep(0 + t | g, band=2)",
    "car1(0 + t | g)", "exp(0 + t | g)", "sph(0 + t | g)",
])  # fmt: skip
def test_universal_kriging(data, term):
    m = mlm.fit(f"y ~ x + {term}", data)
    # times between the known ones would need correlations that the zeros of the band exclude
    new = NEW.assign(t=[8.0, 2.0, 9.0, 8.0, 8.0]) if "band" in term else NEW
    found = m.predict(new, std_error=True)
    assert "kriging" in found.attrs["std_error"]
    both = pd.concat([data, new])
    t, g, n = both["t"].to_numpy(), both["g"].to_numpy(), len(data)
    C = correlation(m, term.partition("(")[0])(np.abs(t[:, None] - t))
    V = m.random_covariance["g"].iloc[0, 0] * C * (g[:, None] == g)
    inverse = np.linalg.inv(V[:n, :n] + m.residual_variance * np.eye(n))
    X = np.column_stack([np.ones(len(both)), both["x"]])
    P = np.linalg.inv(X[:n].T @ inverse @ X[:n])
    beta = P @ X[:n].T @ inverse @ data["y"]
    c = V[n:, :n] @ inverse
    rest = X[n:] - c @ X[:n]
    np.testing.assert_allclose(
        found["estimate"], X[n:] @ beta + c @ (data["y"] - X[:n] @ beta), atol=1e-8
    )
    variance = np.diag(V[n:, n:] - c @ V[:n, n:] + rest @ P @ rest.T)
    np.testing.assert_allclose(found["std_error"], np.sqrt(variance), atol=1e-8)


def test_a_known_time_is_what_it_was_and_far_away_is_the_mean(data):
    m = mlm.fit("y ~ x + car1(0 + t | g)", data)
    near = m.predict({"t": [2.0, 2.0 + 1e-6], "g": [1, 1], "x": [0.0, 0.0]}, std_error=True)
    np.testing.assert_allclose(near.iloc[1], near.iloc[0], atol=1e-2)
    far = m.predict({"t": [500.0], "g": [1], "x": [0.0]}, interval="prediction")
    assert far["estimate"][0] == pytest.approx(m.fixed_effects["(Intercept)"], abs=1e-8)
    marginal = m.predict({"t": [500.0, 2.0], "g": [1, 1], "x": [0.0, 0.0]}, kind="marginal",
                         interval="prediction")  # fmt: skip
    np.testing.assert_allclose(far["conf_low"], marginal["conf_low"][0], rtol=1e-6)
    np.testing.assert_allclose(marginal["conf_low"][0], marginal["conf_low"][1], rtol=1e-6)


def test_time_among_the_predictors_and_beside_other_effects(data):
    m = mlm.fit("y ~ t + (1 | g) + ar1(0 + t | g)", data)
    found = m.predict({"t": [3.0, 4.0], "g": [1, 1]})
    assert np.isfinite(found["estimate"]).all()


@pytest.mark.parametrize(("term", "time", "words"), [
    ("ar1(0 + t | g)", 2.5, "whole steps.*car1"),
    ("arh1(0 + t | g)", 3.0, "variance of its own.*ar1"),
    ("toep(0 + t | g, band=2)", 3.0, "hold at the new times.*ar1"),
    ("toep(0 + t | g)", 30.0, "steps from one of them.*ar1"),
])  # fmt: skip
def test_what_is_not_estimated_is_refused(data, term, time, words):
    m = mlm.fit(f"y ~ x + {term}", data)
    with pytest.raises(mlm.errors.MultilevelError, match=f"(?s){words}"):
        m.predict({"t": [time], "g": [1], "x": [0.0]})
