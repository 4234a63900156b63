"""Weights are repeated rows or smaller dispersions; order; refusals that say what to do."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import DesignError, ModelError
from multilevel.likelihood.generalized.families.catalogue import BUILDERS, row_likelihood
from multilevel.likelihood.generalized.families.count_catalogue import base_counts
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.catalogue import ALIASES, FAMILIES, family_of
from tests.unit.likelihood.generalized.families.cases import Case, every_case

CASES = every_case()
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DISPERSED = {"gaussian", "lognormal", "gamma", "inverse_gaussian", "tweedie", "student"}


@by_name
def test_frequency_weights_are_repeated_rows(case: Case):
    rng = np.random.default_rng(1)
    response, eta = case.response(rng, 12), case.eta(rng, 12)
    repeats = rng.integers(0, 4, 12)
    many = np.repeat(np.arange(12), repeats)
    parts = tuple(range(case.n_parts))
    weighted = case.rows(response, parts, frequency_weights=repeats.astype(float))
    repeated = row_likelihood(case.family, response, many, parts)
    a, b = weighted.derivatives(eta), repeated.derivatives(eta[:, many])
    for one, other in ((a.value, b.value), (a.first, b.first), (a.second, b.second)):
        np.testing.assert_allclose(one.sum(axis=-1), other.sum(axis=-1), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(a.third.sum(axis=-1), b.third.sum(axis=-1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weighted.start(), repeated.start(), rtol=1e-9, atol=1e-9)


@by_name
def test_precision_weights_divide_the_dispersion_or_are_refused(case: Case):
    rng = np.random.default_rng(2)
    response, eta = case.response(rng, 12), case.eta(rng, 12)
    w = rng.uniform(0.5, 3.0, 12)
    if case.family.name not in DISPERSED:
        with pytest.raises(DesignError, match=r"trials=.*frequency_weights="):
            case.rows(response, (0,), precision_weights=w)
        return
    shifted = eta.copy()
    shifted[1] -= np.log(w)
    weighted, plain = case.rows(response, (0,), precision_weights=w), case.rows(response)
    np.testing.assert_allclose(weighted.value(eta[:, None]), plain.value(shifted[:, None]))
    np.testing.assert_allclose(weighted.derivatives(eta).third, plain.derivatives(shifted).third)
    np.testing.assert_allclose(weighted.variance(eta), plain.variance(shifted))


@by_name
def test_order_chooses_rows(case: Case):
    rng = np.random.default_rng(3)
    response, eta = case.response(rng, 20), case.eta(rng, 20)
    order, w = rng.permutation(20)[:13], rng.uniform(1, 2, 20)
    whole = case.rows(response, (0,), frequency_weights=w)
    part = row_likelihood(case.family, response, order, (0,), frequency_weights=w)
    assert part.n == 13
    np.testing.assert_allclose(
        part.value(eta[:, None, order]), whole.value(eta[:, None])[:, order], rtol=1e-12
    )


@by_name
def test_starts_are_inside_the_domain(case: Case):
    response = case.response(np.random.default_rng(4), 200)
    rows = case.rows(response)
    start = rows.start()
    assert start.shape == (case.n_parts,)
    eta = np.repeat(start[:, None], 200, axis=1)
    assert np.isfinite(rows.value(eta[:, None])).all()
    # Newton's step in the mean is bounded (a tenth of the made-up counts are outliers).
    _, first, second = rows.newton(eta)
    assert abs(first.sum() / second.sum()) < 5.0


@pytest.mark.parametrize("name", ["poisson", "nb2", "nb1", "genpois"])
def test_zero_jet_is_the_row_of_a_zero(name):
    rng = np.random.default_rng(5)
    family = family_of(name)
    d = len(family.parts)
    eta = rng.normal(size=(d, 1, 9))
    base = base_counts(family, Response(rng.poisson(3.0, 9).astype(float)), (0,))
    zeros = base_counts(family, Response(np.zeros(9)), (0,))
    np.testing.assert_allclose(base.zero_jet(eta), zeros.jet(eta), rtol=1e-14, atol=1e-300)


BAD = [
    ("binomial", Response(np.array([0.0, 2.0])), "2 in row 2"),
    ("binomial", Response(np.array([0.5, 1.0])), "trials="),
    ("binomial", Response(np.array([1.0, 2.0]), np.array([3.0, 1.5])), "trials are whole"),
    ("poisson", Response(np.array([1.0, -1.0])), "-1 in row 2"),
    ("nb2", Response(np.array([1.5, 1.0])), "1.5 in row 1"),
    ("truncated poisson", Response(np.array([1.0, 0.0])), "zeros are cut off"),
    ("gamma", Response(np.array([0.0, 1.0])), "positive"),
    ("inverse_gaussian", Response(np.array([-2.0, 1.0])), "positive"),
    ("lognormal", Response(np.array([0.0, 1.0])), "positive"),
    ("beta", Response(np.array([0.0, 1.0])), "and 1 more such rows"),
    ("tweedie", Response(np.array([-0.1, 1.0])), "from 0 on"),
    ("gaussian", Response(np.array([np.nan, 1.0])), "numbers"),
    ("t", Response(np.array([np.inf, 1.0])), "numbers"),
    ("tobit", Response(np.array([1.0, 1.0]), upper=np.array([0.0, 2.0])), "lower bound"),
    ("censored_lognormal", Response(np.array([-1.0, 1.0]), upper=np.array([1.0, 2.0])), "negative"),
]


@pytest.mark.parametrize(("name", "response", "words"), BAD, ids=lambda x: str(x)[:20])
def test_responses_outside_the_range_are_named(name, response, words):
    with pytest.raises(DesignError) as error:
        row_likelihood(family_of(name), response, None, (0,))
    assert words in str(error.value)
    assert "What to do" in str(error.value)


@pytest.mark.parametrize("weights", [np.array([1.0, -1.0]), np.array([1.0, np.nan]), np.ones(3)])
def test_bad_weights_are_refused(weights):
    with pytest.raises(DesignError, match="frequency_weights="):
        row_likelihood(
            family_of("poisson"), Response(np.ones(2)), None, (0,), frequency_weights=weights
        )


def test_every_family_has_a_builder_and_every_alias_a_family():
    assert set(FAMILIES) <= set(BUILDERS)
    assert set(ALIASES.values()) <= set(FAMILIES)
    for name in FAMILIES:
        assert family_of(name).name == name


@pytest.mark.parametrize(
    ("written", "name", "link"),
    [
        ("bernoulli", "binomial", "logit"),
        ("Logistic", "binomial", "logit"),
        ("probit", "binomial", "probit"),
        ("nbinom2", "negative_binomial", "log"),
        ("Negative-Binomial", "negative_binomial", "log"),
        ("NB1", "negative_binomial_1", "log"),
        ("Gamma", "gamma", "log"),
        ("inverse.gaussian", "inverse_gaussian", "log"),
        ("t", "student", "identity"),
        ("normal", "gaussian", "identity"),
        ("tobit", "censored_gaussian", "identity"),
        ("truncated_nbinom2", "negative_binomial", "log"),
    ],
)
def test_names_of_other_programs(written, name, link):
    family = family_of(written)
    assert (family.name, family.link) == (name, link)
    assert (family.option("truncated") == "yes") == written.startswith("truncated")


def test_unknown_names_list_what_exists():
    with pytest.raises(ModelError, match=r"'quasipoisson'.*\n.*binomial.*tweedie"):
        family_of("quasipoisson")
    with pytest.raises(ModelError, match="logit, probit, cloglog, cauchit, log"):
        family_of("binomial", "sqrt")
    with pytest.raises(ModelError, match="generalized_poisson"):
        family_of("gamma", truncated=True)
