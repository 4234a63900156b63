"""Families of categories: probabilities, derivatives, special cases, extremes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from multilevel.errors import LikelihoodError, ModelError
from multilevel.likelihood.generalized.families.category_catalogue import category_rows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.categories import (
    CATEGORY_LINKS,
    category_family,
    natural_thresholds,
    threshold_names,
)
from tests.unit.likelihood.generalized.families.differences import check_derivatives

CDF = {
    "logit": special.expit,
    "probit": stats.norm.cdf,
    "cloglog": lambda x: -np.expm1(-np.exp(x)),
}
CELLS = [
    (name, link, thresholds)
    for name, links in CATEGORY_LINKS.items()
    for link in links
    for thresholds in {"cumulative": ("increasing", "free")}.get(name, (None,))
]
ORDERED = [cell for cell in CELLS if cell[0] != "nominal"]


def build(cell, C, y, random=(), weights=None):
    categories = tuple("abcdef"[:C])
    family = category_family(cell[0], cell[1], categories, thresholds=cell[2])
    response = Response(np.asarray(y, dtype=float), categories=categories)
    return category_rows(family, response, None, random, frequency_weights=weights)


def predictors(cell, C, m, rng, spread=1.5):
    eta = rng.normal(size=(C - 1 if cell[0] == "nominal" else C, m)) * spread
    if cell[2] == "free":
        eta[1:] = np.sort(eta[1:], axis=0) + 0.2 * np.arange(C - 1)[:, None]
    return eta


def textbook(cell, eta):
    """(C, m) probabilities by the definitions."""
    name, link, thresholds = cell
    if name == "nominal":
        u = np.exp(np.vstack([np.zeros(eta.shape[1]), eta]))
        return u / u.sum(axis=0)
    tau = eta[1:]
    if thresholds == "increasing":
        tau = np.cumsum(np.vstack([tau[:1], np.exp(tau[1:])]), axis=0)
    x = tau - eta[0]
    if name == "adjacent":
        u = np.exp(np.cumsum(np.vstack([np.zeros(eta.shape[1]), -x]), axis=0))
        return u / u.sum(axis=0)
    F = CDF[link](x)
    if name == "cumulative":
        return np.diff(np.vstack([np.zeros(eta.shape[1]), F, np.ones(eta.shape[1])]), axis=0)
    still = np.cumprod(np.vstack([np.ones(eta.shape[1]), 1 - F]), axis=0)
    return np.vstack([still[:-1] * F, still[-1:]])


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_probabilities_follow_the_definition_and_sum_to_one(cell):
    rng = np.random.default_rng(2)
    for C in (2, 3, 5):
        eta = predictors(cell, C, 60, rng, 1.0)
        y = np.arange(60) % C
        rows = build(cell, C, y)
        p = rows.mean(eta)
        np.testing.assert_allclose(p.sum(axis=0), 1.0, atol=1e-13)
        np.testing.assert_allclose(p, textbook(cell, eta), atol=1e-13)
        mine = p[y, np.arange(60)]
        np.testing.assert_allclose(np.exp(rows.value(eta[:, None])[0]), mine, rtol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("C", [2, 3, 4])
def test_derivatives_equal_differences_for_every_choice_of_random_parts(cell, C):
    rng = np.random.default_rng(C)
    y = np.arange(20) % C
    D = C - 1 if cell[0] == "nominal" else C
    for k in range(D + 1):
        for random in itertools.combinations(range(D), k):
            check_derivatives(build(cell, C, y, random), predictors(cell, C, y.size, rng), 2e-6)


@given(data=st.data(), y=st.integers(0, 2), cell=st.sampled_from(CELLS))
def test_derivatives_equal_differences_anywhere(data, y, cell):
    number = st.floats(-6, 6, allow_nan=False)
    D = 2 if cell[0] == "nominal" else 3
    eta = np.array([[data.draw(number)] for _ in range(D)])
    if cell[2] == "free":
        eta[2] = eta[1] + math.exp(eta[2, 0] / 2)
    if cell[1] == "cloglog":
        eta /= 3.0
    if cell[2] == "increasing":
        eta[2] /= 3.0
    check_derivatives(build(cell, 3, [y], tuple(range(D))), eta, 2e-5)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_concave_where_it_says_so(cell):
    rng = np.random.default_rng(5)
    D = 3 if cell[0] == "nominal" else 4
    y = np.arange(400) % 4
    for random in [(0,), (0, 1), tuple(range(D))]:
        rows = build(cell, 4, y, random)
        curve = rows.newton(predictors(cell, 4, y.size, rng))[2]
        largest = np.linalg.eigvalsh(np.moveaxis(curve, -1, 0))[:, -1]
        if rows.log_concave:
            assert largest.max() < 1e-9
        else:
            assert cell[2] == "increasing"
            assert largest.max() > 1e-3


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_two_categories_are_binomial(cell):
    rng = np.random.default_rng(3)
    y = np.arange(30) % 2
    eta = predictors(cell, 2, 30, rng)
    p_low = 1 - special.expit(eta[0]) if cell[0] == "nominal" else CDF[cell[1]](eta[1] - eta[0])
    rows = build(cell, 2, y)
    expected = np.where(y == 0, p_low, 1 - p_low)
    np.testing.assert_allclose(np.exp(rows.value(eta[:, None])[0]), expected, atol=1e-14)
    if cell[0] != "nominal":
        np.testing.assert_allclose(rows.variance(eta), p_low * (1 - p_low), atol=1e-14)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_start_gives_the_observed_shares(cell):
    y = np.repeat([0, 1, 2, 3], [400, 100, 250, 50])
    rows = build(cell, 4, y)
    p = rows.mean(np.repeat(rows.start()[:, None], y.size, axis=1))[:, 0]
    np.testing.assert_allclose(p, np.array([400.5, 100.5, 250.5, 50.5]) / 802, rtol=1e-9)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_weights_are_repeated_rows(cell):
    rng = np.random.default_rng(4)
    y, weights = np.array([0, 1, 2, 1]), np.array([2.0, 0.0, 3.0, 1.0])
    eta = predictors(cell, 3, 4, rng)
    D = eta.shape[0]
    again = np.repeat(np.arange(4), weights.astype(int))
    one = build(cell, 3, y, tuple(range(D)), weights)
    many = build(cell, 3, y[again], tuple(range(D)))
    a, b = one.derivatives(eta), many.derivatives(eta[:, again])
    for field in ("value", "first", "second", "third"):
        x, z = getattr(a, field), getattr(b, field)
        np.testing.assert_allclose(x.sum(axis=-1), z.sum(axis=-1), atol=1e-12)
    np.testing.assert_allclose(one.value(eta[:, None]).sum(), many.value(eta[:, None, again]).sum())
    np.testing.assert_allclose(one.start(), many.start())
    for x, z in zip(one.newton(eta), many.newton(eta[:, again]), strict=True):
        np.testing.assert_allclose(x.sum(axis=-1), z.sum(axis=-1), atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_rows_and_several_predictors_at_once(cell):
    rng = np.random.default_rng(6)
    y = np.arange(12) % 3
    rows = build(cell, 3, y, (0,), np.arange(12) / 4.0)
    eta = np.stack([predictors(cell, 3, 12, rng) for _ in range(4)], axis=1)
    value, first = rows.first(eta)
    part = slice(3, 8)
    np.testing.assert_allclose(rows.value(eta[:, :, part], part), value[:, part], rtol=1e-12)
    np.testing.assert_array_equal(rows.first(eta[:, :, part], part)[1], first[:, :, part])
    for k in range(4):
        found = rows.derivatives(eta[:, k, part], part)
        np.testing.assert_allclose(found.value, value[k, part], rtol=1e-12)
        np.testing.assert_allclose(found.first, first[:, k, part], rtol=1e-9, atol=1e-13)
        slope, curve = rows.newton(eta[:, k, part], part)[1:]
        np.testing.assert_allclose(slope, found.first[:1], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(curve, found.second[:, :1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cumulative_variance_and_draws_agree_with_probabilities(cell):
    rng = np.random.default_rng(7)
    n = 20000
    eta = np.repeat(predictors(cell, 4, 1, rng, 0.7), n, axis=1)
    y = np.arange(n) % 4
    rows = build(cell, 4, y)
    p = rows.mean(eta)
    below, up_to = rows.cumulative(eta)
    np.testing.assert_allclose(up_to - below, p[y, np.arange(n)], atol=1e-13)
    np.testing.assert_allclose(below[2], p[:2, 0].sum(), atol=1e-13)
    draws = rows.draw(eta, rng)
    shares = np.bincount(draws.astype(int), minlength=4) / n
    assert np.all(np.abs(shares - p[:, 0]) < 5 * np.sqrt(p[:, 0] * (1 - p[:, 0]) / n) + 1e-9)
    if cell[0] == "nominal":
        assert np.isnan(rows.variance(eta)).all()
    else:
        assert abs(rows.variance(eta)[0] - draws.var()) < 0.1 * draws.var()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_extremes_are_finite_or_minus_infinity(cell):
    D = 2 if cell[0] == "nominal" else 3
    corners = [-700.0, -40.0, -9.0, 0.0, 9.0, 40.0, 700.0]
    eta = np.array(list(itertools.product(corners, repeat=D))).T
    for y in range(3):
        rows = build(cell, 3, np.full(eta.shape[1], y), tuple(range(D)))
        found = rows.derivatives(eta)
        assert np.all(found.value <= 0)
        for field in (found.first, found.second, found.third, *rows.newton(eta)[1:]):
            assert np.isfinite(field).all()
        if cell[1] == "logit" and cell[2] != "free":
            assert np.isfinite(found.value).all()


def test_probit_matches_the_normal_distribution_where_it_cancels():
    # log(Phi(a) - Phi(b)) by scipy's log_ndtr in the tail; by density times width when narrow
    for b, d in [(3.0, 1e-9), (-8.0, 1e-6), (0.3, 1e-12)]:
        eta = np.array([[0.0], [b], [math.log(d)]])
        value = build(("cumulative", "probit", "increasing"), 3, [1]).value(eta[:, None])[0, 0]
        assert value == pytest.approx(stats.norm.logpdf(b + d / 2) + math.log(d), rel=1e-12)
    for b, d in [(5.0, 3.0), (30.0, 1.0), (-32.0, 2.0)]:
        lo, hi = (b, b + d) if b > 0 else (-b - d, -b)
        expected = special.log_ndtr(-lo) + np.log1p(
            -np.exp(special.log_ndtr(-hi) - special.log_ndtr(-lo))
        )
        eta = np.array([[0.0], [b], [math.log(d)]])
        value = build(("cumulative", "probit", "increasing"), 3, [1]).value(eta[:, None])[0, 0]
        assert value == pytest.approx(expected, rel=1e-12)


def test_cumulative_and_continuation_ratio_are_one_model_under_cloglog():
    # Laara & Matthews 1985: e^tau_c of the former is the sum of e^tau_k, k <= c, of the latter
    rng = np.random.default_rng(8)
    eta = rng.normal(size=(4, 20))
    sums = np.vstack([eta[:1], np.log(np.cumsum(np.exp(eta[1:]), axis=0))])
    one = build(("continuation_ratio", "cloglog", None), 4, np.arange(20) % 4).mean(eta)
    other = build(("cumulative", "cloglog", "free"), 4, np.arange(20) % 4).mean(sums)
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-15)


def test_crossed_thresholds_have_no_likelihood():
    rows = build(("cumulative", "logit", "free"), 3, [1, 0], (0, 1))
    eta = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 2.0]])
    assert rows.value(eta[:, None])[0, 0] == -np.inf
    assert np.isfinite(rows.value(eta[:, None])[0, 1])
    assert np.all(rows.derivatives(eta).third[..., 0] == 0.0)


def test_higher_predictor_means_higher_category():
    for cell in ORDERED:
        rows = build(cell, 3, [0, 0])
        eta = np.array([[0.0, 1.0], [0.0, 0.0], [0.5, 0.5]])
        p = rows.mean(eta)
        assert np.arange(3) @ p[:, 1] > np.arange(3) @ p[:, 0]


def test_natural_thresholds_and_their_jacobian():
    family = category_family("cumulative", "logit", ("low", "mid", "high", "top"))
    parts = np.array([-0.5, 0.3, -1.2])
    tau, J = natural_thresholds(family, parts)
    np.testing.assert_allclose(tau, -0.5 + np.cumsum([0.0, math.exp(0.3), math.exp(-1.2)]))
    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        up, down = (natural_thresholds(family, parts + s)[0] for s in (step, -step))
        np.testing.assert_allclose((up - down) / 2e-6, J[:, k], atol=1e-8)
    free = category_family("adjacent", "logit", ("a", "b", "c"))
    tau, J = natural_thresholds(free, np.array([1.0, -2.0]))
    np.testing.assert_array_equal(tau, [1.0, -2.0])
    np.testing.assert_array_equal(J, np.eye(2))
    assert threshold_names(("a", "b", "c")) == ("a|b", "b|c")
    with pytest.raises(ModelError, match="Only ordered"):
        natural_thresholds(category_family("nominal", "logit", ("a", "b")), parts)


def test_adjacent_categories_are_the_partial_credit_model():
    # Masters 1982: P(Y = c) proportional to exp(sum_{k <= c} (theta - delta_k))
    theta, delta = 0.7, np.array([-0.4, 1.1, 0.2])
    rows = build(("adjacent", "logit", None), 4, [0])
    p = rows.mean(np.concatenate([[theta], delta])[:, None])[:, 0]
    u = np.exp([0.0, *np.cumsum(theta - delta)])
    np.testing.assert_allclose(p, u / u.sum(), rtol=1e-13)
    # Andrich 1978: delta_k = beta + tau_k, so easiness -beta moves to the mean part
    tau, beta = delta - 0.3, 0.3
    rating = rows.mean(np.concatenate([[theta - beta], tau])[:, None])[:, 0]
    np.testing.assert_allclose(rating, p, rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "link", "options", "match"),
    [
        ("ordered", "logit", {}, "must be one of"),
        ("nominal", "probit", {}, "has the links"),
        ("adjacent", "logit", {"thresholds": "increasing"}, "are free"),
        ("cumulative", "logit", {"categories": ("a",)}, "at least two"),
    ],
)
def test_families_that_do_not_exist_are_refused(name, link, options, match):
    with pytest.raises(ModelError, match=match):
        category_family(name, link, **options)


def test_responses_that_do_not_fit_are_refused():
    family = category_family("cumulative", "logit", ("a", "b", "c"))
    with pytest.raises(LikelihoodError, match="whole numbers"):
        category_rows(family, Response(np.array([0.0, 3.0]), categories=("a", "b", "c")), None, ())
    with pytest.raises(LikelihoodError, match="at least two"):
        category_rows(family, Response(np.array([0.0]), categories=("a", "b")), None, ())
    rows = build(("cumulative", "logit", "increasing"), 3, [0, 1])
    with pytest.raises(LikelihoodError, match="column for each row"):
        rows.mean(np.zeros((3, 5)))
