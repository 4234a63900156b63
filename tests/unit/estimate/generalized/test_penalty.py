"""Penalties: derivatives equal differences; what they are for."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.estimate.generalized.penalty import Penalty


@pytest.mark.parametrize(
    "penalty", [Penalty(slopes=(0, 2)), Penalty(roots=(1,)), Penalty((0,), (1, 3), "both")]
)
def test_derivatives(penalty):
    phi = np.array([0.7, 0.4, -3.0, -1.3])
    h = 1e-6
    g, H = np.zeros(4), np.zeros((4, 4))
    for a in range(4):
        e = np.eye(4)[a] * h
        g[a] = (penalty.value(phi + e) - penalty.value(phi - e)) / (2 * h)
        H[a] = (penalty.gradient(phi + e) - penalty.gradient(phi - e)) / (2 * h)
    assert penalty.gradient(phi) == pytest.approx(g, abs=1e-7)
    assert penalty.hessian(phi) == pytest.approx(H, abs=1e-6)


def test_no_penalty_is_nothing():
    phi = np.array([1.0, 2.0])
    assert Penalty().value(phi) == 0.0
    assert not Penalty().gradient(phi).any()


def test_variances_are_kept_off_zero():
    g = np.repeat(np.arange(30), 8)
    data = {"y": np.tile(np.arange(8) % 2, 30), "g": g}
    free = mlm.fit("y ~ 1 + (1 | g)", data, family="binomial", n_quad=1)
    held = mlm.fit("y ~ 1 + (1 | g)", data, family="binomial", n_quad=1, penalty="variances")
    assert free.random_covariance["g"].iloc[0, 0] == 0.0
    assert held.random_covariance["g"].iloc[0, 0] > 0.0
    assert held.minus2_loglik > free.minus2_loglik  # the penalty is not part of the criterion
    assert "Wishart" in held.fit.penalty


def test_the_slope_penalty_does_not_depend_on_units():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(25), 8)
    x = rng.normal(size=200)
    y = (rng.random(200) < 1 / (1 + np.exp(-x))).astype(float)
    one = mlm.fit("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family="binomial",
                  penalty="slopes", n_quad=1)  # fmt: skip
    other = mlm.fit("y ~ x + (1 | g)", {"y": y, "x": 1000 * x + 5, "g": g}, family="binomial",
                    penalty="slopes", n_quad=1)  # fmt: skip
    assert one.fixed_effects["x"] == pytest.approx(1000 * other.fixed_effects["x"], rel=1e-5)
