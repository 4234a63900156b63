"""The judge of generalized models: its row terms, and both its ways to the criterion."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import plots
from benchmarks.criterion import Estimates
from benchmarks.criterion_generalized import GeneralizedJudge, row_terms
from benchmarks.models import Model, Term, as_gpboost_fits, generalized
from benchmarks.peers import PEERS
from scipy import stats
from scipy.special import expit

EXTRA = {
    "binomial": np.zeros(0), "poisson": np.zeros(0), "negative_binomial": np.array([0.6]),
    "cumulative": np.array([-0.8, 0.3, 1.4]),
}  # fmt: skip


def response(family, rng, eta):
    if family == "binomial":
        return (rng.random(len(eta)) < expit(eta)).astype(float)
    if family == "cumulative":
        return rng.integers(0, 4, len(eta)).astype(float)
    return rng.poisson(np.exp(eta)).astype(float)


@pytest.mark.parametrize("family", EXTRA)
def test_derivatives_of_rows_are_those_of_their_values(family):
    rng = np.random.default_rng(2)
    eta, h = rng.normal(size=40), 1e-4
    y = response(family, rng, eta)
    _, slope, weight = row_terms(family, y, eta, EXTRA[family])
    up = row_terms(family, y, eta + h, EXTRA[family])
    down = row_terms(family, y, eta - h, EXTRA[family])
    np.testing.assert_allclose((up[0] - down[0]) / (2 * h), slope, atol=1e-6)
    np.testing.assert_allclose(-(up[1] - down[1]) / (2 * h), weight, atol=1e-6)


def test_values_of_rows_are_those_of_scipy():
    y, eta = np.array([0.0, 2.0, 5.0]), np.array([0.3, -0.2, 1.0])
    found = row_terms("negative_binomial", y, eta, np.array([0.6]))[0]
    expected = stats.nbinom.logpmf(y, 1 / 0.6, 1 / (1 + 0.6 * np.exp(eta)))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = row_terms("poisson", y, eta, np.zeros(0))[0]
    np.testing.assert_allclose(found, stats.poisson.logpmf(y, np.exp(eta)), atol=1e-12)


@pytest.mark.parametrize("family", EXTRA)
def test_levels_one_by_one_and_jointly_agree(family):
    """A second factor without variance leaves the first; many points reach brute force."""
    rng = np.random.default_rng(3)
    n = 90
    g, x = np.arange(n) // 6, rng.normal(size=n)
    table = {"x": x, "g": g, "h": rng.integers(0, 4, n), "y": response(family, rng, 0.3 * x)}
    beta = np.array([0.4]) if family == "cumulative" else np.array([-0.2, 0.4])
    G, none = np.array([[0.7]]), np.array([[0.0]])
    one = generalized(family, "y", ("x",), (Term(("g",)),))
    two = generalized(family, "y", ("x",), (Term(("g",)), Term(("h",))))
    alone = GeneralizedJudge(table, one).criterion(Estimates(beta, 1.0, (G,), EXTRA[family]))
    both = GeneralizedJudge(table, two).criterion(Estimates(beta, 1.0, (G, none), EXTRA[family]))
    assert both == pytest.approx(alone, abs=1e-8)
    fine = generalized(family, "y", ("x",), (Term(("g",)),), 21)
    found = GeneralizedJudge(table, fine).criterion(Estimates(beta, 1.0, (G,), EXTRA[family]))
    u = np.linspace(-8, 8, 801)
    fixed = beta[-1] * x + (0.0 if family == "cumulative" else beta[0])
    eta = fixed[:, None] + np.sqrt(0.7) * u
    rows = row_terms(family, np.repeat(table["y"][:, None], 801, 1), eta, EXTRA[family])[0]
    levels = np.array([rows[g == j].sum(axis=0) for j in range(15)]) - u**2 / 2
    total = np.log(np.exp(levels).sum(axis=1) * 0.02 / np.sqrt(2 * np.pi)).sum()
    assert found == pytest.approx(-2 * total, abs=1e-6)


def test_the_model_keeps_family_and_points_everywhere():
    model = generalized("poisson", "y", ("x",), (Term(("g",), ("x",)),), 7)
    assert Model.from_dict(model.to_dict()) == model
    nearest = as_gpboost_fits(model)
    assert (nearest.family, nearest.points, nearest.method) == ("poisson", 7, "ml")
    assert nearest.formula == "y ~ x + (x || g)"


def test_every_program_has_a_mark_in_the_plots():
    assert {peer.name for peer in PEERS} == set(plots._STYLES)
