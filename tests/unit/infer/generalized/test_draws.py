"""Simulated responses have the moments of their family."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.likelihood.generalized.row import OutcomeDistribution
from tests.unit.infer.generalized.data import table, wide_table

N_SIM = 400


CASES = {
    "binomial": ("binary", {}),
    "binomial trials": ("hits", {"family": "binomial", "trials": "size"}),
    "poisson": ("count", {}),
    "truncated poisson": ("above", {"family": "poisson", "truncated": True}),
    "negative_binomial": ("spread", {}),
    "negative_binomial_1": ("spread", {}),
    "generalized_poisson": ("spread", {}),
    "zero-inflated": ("zeros", {"family": "poisson", "zero": "~ 1"}),
    "hurdle": ("zeros", {"family": "poisson", "hurdle": "~ 1"}),
    "gamma": ("positive", {}),
    "inverse_gaussian": ("positive", {}),
    "lognormal": ("positive", {}),
    "beta": ("share", {}),
    "ordered_beta": ("bounded", {}),
    "zero_one_inflated_beta": ("bounded", {}),
    "tweedie": ("rain", {}),
    "student": ("tails", {}),
    "gaussian": ("number", {"dispersion": "~ x"}),
    "cumulative": ("ordered", {"categories": [0.0, 1.0, 2.0, 3.0]}),
    "adjacent": ("ordered", {"categories": [0.0, 1.0, 2.0, 3.0]}),
    "continuation_ratio": ("ordered", {"categories": [0.0, 1.0, 2.0, 3.0]}),
    "nominal": ("kind", {}),
}


@pytest.mark.parametrize("case", list(CASES))
def test_conditional_draws_have_the_moments_of_the_family(case):
    """The mean over rows and draws, in units of its Monte Carlo error; the spread by its ratio."""
    response, options = CASES[case]
    options = {"family": case, **options}
    m = mlm.fit(
        f"{response} ~ x + (1 | g)", wide_table(), n_quad=1, accuracy="none",
        allow=("not_certified",), **options,
    )  # fmt: skip
    problem = m._prepared.problem
    rows = cast(OutcomeDistribution, problem.row_likelihood())
    eta = problem.fixed_predictors(m.fit.psi)
    b = [u @ L.T for u, L in zip(m.fit.modes, m.fit.relative_factors, strict=True)]
    for block, effects in zip(problem.blocks, b, strict=True):
        for a, part in enumerate(block.parts):
            eta[part] += block.columns[:, a] * effects[block.codes, a]
    drawn = m.simulate(N_SIM, seed=5, kind="conditional")
    assert drawn.shape == (problem.n, N_SIM)
    if m.family.response in ("ordered", "nominal"):
        expected = rows.mean(eta).mean(axis=1)
        found = np.array([np.mean(drawn == c) for c in range(len(expected))])
        assert np.allclose(found, expected, atol=4 * 0.5 / np.sqrt(drawn.size))
        return
    mean, variance = rows.mean(eta), rows.variance(eta)
    if problem.response.trials is not None:
        drawn = drawn / problem.response.trials[:, None]
    error = np.sqrt(variance.sum() / N_SIM) / problem.n
    assert abs(drawn.mean() - mean.mean()) < 4.5 * error
    spread = float(np.mean((drawn - mean[:, None]) ** 2))
    assert spread == pytest.approx(float(variance.mean()), rel=0.12)


def test_new_random_effects_have_their_covariance():
    m = mlm.fit("number ~ x + (x | g)", table(), family="gaussian", dispersion="~ 1", n_quad=1)
    drawn = m.simulate(1500, seed=1)
    block, G = m.design.blocks[0], m.fit.random_covariance[0]
    rows = np.flatnonzero(block.codes == 0)
    Z = block.columns[rows]
    expected = Z @ G @ Z.T + np.exp(m.part("dispersion").estimate[0]) * np.eye(len(rows))
    found = np.cov(drawn[rows])
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found - expected) / scale).max() < 4.5 * np.sqrt(2 / 1500)


def test_seeds_columns_and_refusals():
    m = mlm.fit("count ~ x + (1 | g)", table(), family="poisson", n_quad=1)
    assert np.array_equal(m.simulate(2, seed=3), m.simulate(5, seed=3)[:, :2])
    with pytest.raises(InferenceError, match="kind"):
        m.simulate(kind="marginal")
    with pytest.raises(InferenceError, match="At least one"):
        m.simulate(0)
