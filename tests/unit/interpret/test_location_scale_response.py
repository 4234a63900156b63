"""Variances and prediction intervals of location-scale models on the response scale."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.errors import InferenceError

NEW = {"x": [0.0, 1.0], "g": [0, 3]}


@lru_cache
def fitted(family):
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(40), 15)
    x = rng.normal(size=len(g))
    b, omega = 0.4 * rng.normal(size=40), 0.3 * rng.normal(size=40)
    mu, phi = np.exp(0.5 + 0.3 * x + b[g]), np.exp(-1.0 + 0.3 * x + omega[g])
    y = rng.gamma(1.0 / phi, mu * phi)
    data = {"y": rng.poisson(y) if family == "negative_binomial" else y, "x": x, "g": g}
    return mlm.fit(
        "y ~ x + (1 | g)", data, family=family, scale="~ x + (1 || g)", n_quad=5, accuracy="none"
    )


def drawn(kind, n=400_000):
    """Means, dispersions and responses of new rows like ``NEW``: (2, n) each."""
    m, rng = fitted("gamma"), np.random.default_rng(2)
    beta, tau = m.fixed_effects.to_numpy(), m.part("dispersion")["estimate"].to_numpy()
    G = m.random_covariance["g"].to_numpy()
    z = rng.normal(size=(2, 2, n)) * np.sqrt(np.diag(G))[:, None, None]
    x = np.array([[0.0], [1.0]])
    mu = np.exp(beta[0] + beta[1] * x + z[0])
    phi = np.exp(tau[0] + tau[1] * x + (z[1] if kind == "marginal" else 0.0))
    return mu, phi, rng.gamma(1.0 / phi, mu * phi)


@pytest.mark.parametrize("kind", ["population", "marginal"])
def test_variances_are_those_of_drawn_rows(kind):
    found = fitted("gamma").row_variances(NEW, kind=kind)
    mu, phi, _ = drawn(kind)
    assert found["location_variance"].to_numpy() == pytest.approx(mu.var(axis=1), rel=0.02)
    within = (phi * mu**2).mean(axis=1)
    assert found["residual_variance"].to_numpy() == pytest.approx(within, rel=0.02)
    total = found["location_variance"] + found["residual_variance"]
    assert (found["icc"] * total).to_numpy() == pytest.approx(
        found["location_variance"].to_numpy(), rel=1e-9
    )
    assert ((found["conf_low"] < found["icc"]) & (found["icc"] < found["conf_high"])).all()
    assert "response scale" in found.attrs["sentence"]


def test_intervals_are_quantiles_of_drawn_rows():
    found = fitted("gamma").prediction_intervals(NEW, kind="marginal", share=0.8)
    _, _, y = drawn("marginal")
    inside = (y > found["conf_low"].to_numpy()[:, None]) & (
        y < found["conf_high"].to_numpy()[:, None]
    )
    # a little wider than 80%: the coefficients are not known
    assert np.all((inside.mean(axis=1) > 0.795) & (inside.mean(axis=1) < 0.825))
    own = fitted("gamma").prediction_intervals(NEW, share=0.8)
    assert np.all(own["conf_high"] - own["conf_low"] < found["conf_high"] - found["conf_low"])


def test_intervals_of_counts_are_counts():
    m = fitted("negative_binomial")
    found = m.prediction_intervals(NEW, kind="marginal", share=0.9)
    ends = found[["conf_low", "conf_high"]].to_numpy()
    assert np.array_equal(ends, np.round(ends))
    mean, alpha = found["estimate"].to_numpy(), np.exp(m.part("dispersion")["estimate"].iloc[0])
    # wider than the negative binomial at the mean, which has no clusters
    plain = stats.nbinom.ppf(0.95, 1.0 / alpha, 1.0 / (1.0 + alpha * mean))
    assert np.all(ends[:, 1] >= plain - 1.0)


def test_an_unknown_kind_is_refused():
    rng = np.random.default_rng(3)
    data = {"y": rng.normal(size=80), "x": rng.normal(size=80), "g": np.repeat(np.arange(8), 10)}
    m = mlm.fit("y ~ x + (1 | g)", data, family="gaussian", scale="~ x + (1 || g)", n_quad=5)
    with pytest.raises(InferenceError, match="kind"):
        m.row_variances(data, kind="typical")
