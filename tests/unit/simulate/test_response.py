"""Simulated responses have the moments of the model, and refits find its parameters."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import InferenceError
from multilevel.simulate.response import simulate_responses
from tests.unit.interpret.support import block, design, fit

Z = np.column_stack([np.ones(5), [0.0, 1.0, 2.0, 0.0, 1.0]])
L = np.array([[1.0, 0.0], [0.5, 0.7]])
WEIGHTS = np.array([1.0, 4.0, 1.0, 0.25, 1.0])
OFFSET = np.arange(5.0)


@pytest.fixture
def model():
    g = block("g", [0, 0, 0, 1, 1], Z, ("(Intercept)", "x"))
    d = design(np.zeros(5), Z, ("(Intercept)", "x"), [g], offset=OFFSET, weights=WEIGHTS)
    return d, fit([3.0, -1.0], [L], 2.0)


def test_mean_and_covariance_are_those_of_the_model(model):
    n_sim = 40_000
    Y = simulate_responses(*model, n_sim, np.random.default_rng(1))
    assert Y.shape == (5, n_sim)
    V = 2.0 * np.diag(1 / WEIGHTS)
    same = np.equal.outer([0, 0, 0, 1, 1], [0, 0, 0, 1, 1])
    V = V + 2.0 * (Z @ L @ L.T @ Z.T) * same
    sd = np.sqrt(np.diag(V))
    error = (Y.mean(axis=1) - (Z @ [3.0, -1.0] + OFFSET)) / (sd / np.sqrt(n_sim))
    assert np.abs(error).max() < 4.5
    # the standard error of a sample covariance is at most sqrt(2 / n) of the two sds
    assert np.abs((np.cov(Y) - V) / np.outer(sd, sd)).max() < 4.5 * np.sqrt(2 / n_sim)


def test_conditional_keeps_the_random_effects(model):
    d, f = model
    b = np.array([[10.0, 0.0], [-10.0, 1.0]])
    n_sim = 20_000
    rng = np.random.default_rng(2)
    Y = simulate_responses(d, f, n_sim, rng, kind="conditional", estimates=[b])
    mean = Z @ [3.0, -1.0] + OFFSET + np.einsum("iq,iq->i", Z, b[[0, 0, 0, 1, 1]])
    sd = np.sqrt(2.0 / WEIGHTS)
    assert np.abs((Y.mean(axis=1) - mean) / (sd / np.sqrt(n_sim))).max() < 4.5
    np.testing.assert_allclose(Y.std(axis=1), sd, rtol=0.03)


def test_more_columns_leave_the_first_ones_unchanged(model):
    few = simulate_responses(*model, 2, np.random.default_rng(3))
    many = simulate_responses(*model, 5, np.random.default_rng(3))
    np.testing.assert_array_equal(few, many[:, :2])


def test_options_are_checked(model):
    rng = np.random.default_rng(0)
    with pytest.raises(InferenceError, match="'new', 'conditional'"):
        simulate_responses(*model, 1, rng, kind="old")
    with pytest.raises(InferenceError, match="n_sim=0"):
        simulate_responses(*model, 0, rng)
