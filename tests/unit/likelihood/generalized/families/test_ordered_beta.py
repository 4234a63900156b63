"""Proportions with zeros and ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special, stats

from multilevel.errors import LikelihoodError, ModelError
from multilevel.likelihood.generalized.families.ordered_beta import bounded_rows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.bounded import BOUNDED, bounded_family
from tests.unit.likelihood.generalized.families.differences import check_derivatives

Y = np.array([0.0, 0.3, 1.0, 0.8, 0.0, 0.05, 1.0, 0.5])


def build(name, y, random=(), weights=None, order=None):
    family = bounded_family(name)
    return bounded_rows(family, Response(np.asarray(y)), order, random, frequency_weights=weights)


def shares(name, eta):
    if name == "ordered_beta":
        upper = eta[2] + np.exp(eta[3])
        return 1 - special.expit(eta[0] - eta[2]), special.expit(eta[0] - upper)
    bound, one = special.expit(eta[2]), special.expit(eta[3])
    return bound * (1 - one), bound * one


@pytest.mark.parametrize("name", BOUNDED)
def test_values_by_the_definition(name):
    eta = np.random.default_rng(1).normal(size=(4, Y.size)) * 0.7
    p0, p1 = shares(name, eta)
    mu, phi = special.expit(eta[0]), np.exp(eta[1])
    inside = (1 - p0 - p1) * stats.beta.pdf(Y, mu * phi, (1 - mu) * phi)
    expected = np.where(Y == 0, p0, np.where(Y == 1, p1, inside))
    np.testing.assert_allclose(build(name, Y).value(eta[:, None])[0], np.log(expected), rtol=1e-9)


@pytest.mark.parametrize("name", BOUNDED)
def test_derivatives_equal_differences_for_every_choice_of_random_parts(name):
    rng = np.random.default_rng(2)
    for k in range(5):
        for random in itertools.combinations(range(4), k):
            eta = rng.normal(size=(4, Y.size)) * 0.7
            check_derivatives(build(name, Y, random), eta, 5e-6)


@pytest.mark.parametrize("name", BOUNDED)
def test_moments_and_cumulative_agree_with_draws(name):
    rng = np.random.default_rng(3)
    n = 40000
    eta = np.repeat(np.array([[0.4], [1.0], [-0.7], [0.5]]), n, axis=1)
    rows = build(name, np.full(n, 0.5))
    draws = rows.draw(eta, rng)
    p0, p1 = shares(name, eta[:, 0])
    assert abs(np.mean(draws == 0) - p0) < 0.013
    assert abs(np.mean(draws == 1) - p1) < 0.013
    assert abs(draws.mean() - rows.mean(eta)[0]) < 5 * draws.std() / np.sqrt(n)
    assert abs(draws.var() / rows.variance(eta)[0] - 1) < 0.03
    below, up_to = build(name, draws).cumulative(eta)
    u = below + rng.random(n) * (up_to - below)
    assert stats.kstest(u, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("name", BOUNDED)
def test_weights_order_runs_and_start(name):
    weights = np.array([1.0, 2, 0, 1, 3, 1, 2, 0])
    again = np.repeat(np.arange(8), weights.astype(int))
    one, many = build(name, Y, (0, 2), weights), build(name, Y[again], (0, 2))
    eta = np.random.default_rng(4).normal(size=(4, 8)) * 0.5
    a, b = one.derivatives(eta), many.derivatives(eta[:, again])
    for field in ("value", "first", "second", "third"):
        x, z = getattr(a, field).sum(axis=-1), getattr(b, field).sum(axis=-1)
        np.testing.assert_allclose(x, z, atol=1e-10)
    np.testing.assert_allclose(one.start(), many.start())
    run = slice(1, 6)
    np.testing.assert_allclose(one.first(eta[:, None, run], run)[1][:, 0], a.first[:, run])
    order = np.array([3, 0], dtype=np.intp)
    some = build(name, Y, (0,), weights, order)
    np.testing.assert_allclose(some.value(eta[:, None, order])[0], a.value[order])
    p0, p1 = shares(name, one.start()[:, None])
    np.testing.assert_allclose([p0[0], p1[0]], [4.5 / 11.5, 2.5 / 11.5], rtol=1e-9)


def test_refusals():
    with pytest.raises(LikelihoodError, match="from 0 to 1"):
        build("ordered_beta", [0.2, 1.5])
    with pytest.raises(ModelError, match="are ordered_beta"):
        bounded_family("beta")
    with pytest.raises(ModelError, match="logit link"):
        bounded_family("ordered_beta", "probit")
