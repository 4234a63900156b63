"""Optima on the boundary are reached exactly, proven, and explained in the user's names."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.estimate.generalized.solve import solve_generalized


def clusters(rng, *, sd=0.0, slope_sd=0.0, J=40, m=10):
    g = np.repeat(np.arange(J), m)
    x = rng.normal(size=J * m)
    eta = 0.3 + 0.5 * x + sd * rng.normal(size=J)[g] + slope_sd * rng.normal(size=J)[g] * x
    return {"g": g, "x": x, "eta": eta}


def balanced_binary(J=30, m=8):
    """Clusters that all have the same share of successes: less variance than chance alone."""
    g = np.repeat(np.arange(J), m)
    y = np.tile(np.arange(m) % 2, J)
    x = np.cos(np.arange(J * m) * 2.3)
    return {"y": y, "g": g, "x": x}


@pytest.mark.parametrize("n_quad", [1, 7])
def test_zero_variance_is_exact_and_explained(n_quad):
    data = balanced_binary()
    fit = mlm.fit("y ~ x + (1 | g)", data, family="binomial", n_quad=n_quad)
    assert fit.certificate.status == "singular"
    assert fit.random_covariance["g"].iloc[0, 0] == 0.0
    assert fit.certificate.boundary_residual > 0.0
    assert fit.certificate.redundant[0].sentence == (
        "The variance of (Intercept) across g is estimated as zero."
    )
    plain = mlm.fit("y ~ x", data, family="binomial")
    assert fit.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-8)
    assert np.allclose(fit.fixed_effects, plain.fixed_effects, atol=1e-6)
    assert np.allclose(fit.vcov_fixed, plain.vcov_fixed, rtol=1e-4)


def test_a_null_slope_leaves_the_intercept_variance():
    rng = np.random.default_rng(3)
    found = None
    for _ in range(20):
        data = clusters(rng, sd=1.0)
        data["y"] = rng.poisson(np.exp(data["eta"]))
        fit = mlm.fit("y ~ x + (x || g)", data, family="poisson")
        if fit.is_singular:
            found = fit, data
            break
    assert found is not None, "no sample in 20 had a slope variance of zero"
    fit, data = found
    simple = mlm.fit("y ~ x + (1 | g)", data, family="poisson", n_quad=fit.approximation.points[0])
    assert fit.minus2_loglik == pytest.approx(simple.minus2_loglik, abs=1e-5)
    assert fit.random_covariance["g"].iloc[1, 1] == 0.0
    assert "x across g" in fit.certificate.redundant[0].sentence


def test_a_variance_that_starts_at_zero_leaves_it():
    """The gradient vanishes at a zero factor; the search must not stop there."""
    rng = np.random.default_rng(8)
    data = clusters(rng, sd=1.2)
    data["y"] = (rng.random(len(data["g"])) < 1 / (1 + np.exp(-data["eta"]))).astype(float)
    fit = mlm.fit("y ~ x + (1 | g)", data, family="binomial")
    start = fit.fit.psi.copy()
    start[-1] = 0.0
    again = solve_generalized(fit._prepared, points=7, psi_start=start)
    assert again.certificate.is_certified
    assert again.criterion == pytest.approx(fit.minus2_loglik, abs=1e-7)


def test_counts_without_overdispersion_name_the_limit():
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(30), 12)
    u = rng.normal(size=30) * 0.5
    # binomial counts vary less than Poisson counts, so alpha runs to zero
    y = rng.binomial(12, 1 / (1 + np.exp(-(0.2 + u[g]))))
    data = {"y": y, "g": g}
    fit = mlm.fit("y ~ 1 + (1 | g)", data, family="negative_binomial", n_quad=1)
    poisson = mlm.fit("y ~ 1 + (1 | g)", data, family="poisson", n_quad=1)
    assert fit.certificate.is_certified
    assert fit.minus2_loglik == pytest.approx(poisson.minus2_loglik, abs=1e-2)
    (sentence,) = fit.fit.at_limit.values()
    assert "overdispersion" in sentence
    assert np.all(np.isfinite(fit.vcov_fixed))
    assert np.allclose(fit.vcov_fixed, poisson.vcov_fixed, rtol=1e-3)
