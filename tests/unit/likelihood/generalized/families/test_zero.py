"""Zero-inflated, hurdle and two-part rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from multilevel.errors import LikelihoodError, ModelError
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.families.zero import zero_rows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.zero import COUNTS, WITHOUT_ZEROS, base_family, with_zero
from tests.unit.likelihood.generalized.families.differences import check_derivatives

CELLS = [
    *itertools.product(COUNTS, ("inflated", "hurdle")),
    *itertools.product(WITHOUT_ZEROS, ("hurdle",)),
]
Y = {
    **{name: np.array([0, 0, 1, 2, 0, 7, 3, 1, 0, 12.0]) for name in COUNTS},
    **{name: np.array([0, 0.3, 1.7, 0, 4.0, 0.9]) for name in WITHOUT_ZEROS},
    "beta": np.array([0, 0.3, 0.7, 0, 0.02, 0.95]),
}


def build(name, kind, y, random=(), weights=None):
    family = with_zero(family_of(name), kind)
    return zero_rows(
        family, Response(np.asarray(y, float)), None, random, frequency_weights=weights
    )


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_derivatives_equal_differences_for_every_choice_of_random_parts(cell):
    rng = np.random.default_rng(1)
    y = Y[cell[0]]
    D = len(with_zero(family_of(cell[0]), cell[1]).parts)
    for k in range(D + 1):
        for random in itertools.combinations(range(D), k):
            eta = rng.normal(size=(D, y.size)) * 0.7
            check_derivatives(build(*cell, y, random), eta, 5e-6)


@given(
    y=st.integers(0, 6),
    mean=st.floats(-3, 3),
    z=st.floats(-6, 6),
    kind=st.sampled_from(["inflated", "hurdle"]),
)
def test_derivatives_equal_differences_anywhere(y, mean, z, kind):
    check_derivatives(build("poisson", kind, [y], (0, 1)), np.array([[mean], [z]]), 1e-5)


def test_poisson_values_by_the_definition():
    y = np.array([0, 0, 1, 4])
    eta = np.array([[0.3, -1.0, 0.5, 1.2], [0.4, -2.0, 1.0, -0.5]])
    mu, pi = np.exp(eta[0]), special.expit(eta[1])
    f = stats.poisson.pmf(y, mu)
    inflated = np.where(y == 0, pi + (1 - pi) * f, (1 - pi) * f)
    hurdle = np.where(y == 0, pi, (1 - pi) * f / (1 - np.exp(-mu)))
    for kind, expected in [("inflated", inflated), ("hurdle", hurdle)]:
        value = build("poisson", kind, y).value(eta[:, None])[0]
        np.testing.assert_allclose(value, np.log(expected), rtol=1e-12)


@pytest.mark.parametrize("name", [*COUNTS, *WITHOUT_ZEROS])
def test_a_hurdle_is_the_sum_of_its_two_parts(name):
    y = Y[name]
    family = with_zero(family_of(name), "hurdle")
    rows = build(name, "hurdle", y)
    eta = np.random.default_rng(2).normal(size=(rows.n_parts, y.size)) * 0.5
    binary = row_likelihood(family_of("binomial"), Response((y == 0).astype(float)), None, ())
    seen = np.flatnonzero(y > 0)
    rest = row_likelihood(base_family(family), Response(y[seen]), None, ())
    total = binary.value(eta[-1:, None]).sum() + rest.value(eta[:-1, None][:, :, seen]).sum()
    assert rows.value(eta[:, None]).sum() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("name", COUNTS)
def test_no_inflation_is_the_plain_family(name):
    y = Y[name]
    plain = row_likelihood(family_of(name), Response(y), None, (0,))
    eta = np.random.default_rng(3).normal(size=(plain.n_parts + 1, y.size))
    for z in (-700.0, -np.inf):
        eta[-1] = z
        rows = build(name, "inflated", y, (0,))
        np.testing.assert_allclose(
            rows.value(eta[:, None]), plain.value(eta[:-1, None]), rtol=1e-13, atol=1e-13
        )
    eta[-1] = -700.0
    a, b = rows.derivatives(eta), plain.derivatives(eta[:-1])
    np.testing.assert_allclose(a.first[:-1], b.first, atol=1e-12)
    np.testing.assert_allclose(a.third[:, :, :-1], b.third, atol=1e-12)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("kind", ["inflated", "hurdle"])
def test_mean_variance_cumulative_and_draws_agree_with_probabilities(name, kind):
    rng = np.random.default_rng(4)
    y = np.arange(400.0)
    rows = build(name, kind, y)
    eta = np.repeat(np.array([0.6, -0.8, -0.3])[[0, -1] if rows.n_parts == 2 else slice(None)],
                    y.size).reshape(rows.n_parts, y.size)  # fmt: skip
    p = np.exp(rows.value(eta[:, None])[0])
    assert p.sum() == pytest.approx(1.0, abs=1e-10)
    mean = y @ p
    np.testing.assert_allclose(rows.mean(eta), mean, rtol=1e-8)
    np.testing.assert_allclose(rows.variance(eta), (y - mean) ** 2 @ p, rtol=1e-7)
    below, up_to = rows.cumulative(eta)
    np.testing.assert_allclose(up_to, np.cumsum(p), atol=1e-9)
    np.testing.assert_allclose(below, np.cumsum(p) - p, atol=1e-9)
    many = build(name, kind, np.zeros(20000))
    draws = many.draw(np.repeat(eta[:, :1], 20000, axis=1), rng)
    error = np.sqrt(rows.variance(eta)[0] / 20000)
    assert abs(draws.mean() - mean) < 5 * error
    assert abs(np.mean(draws == 0) - p[0]) < 5 * np.sqrt(p[0] * (1 - p[0]) / 20000)


@pytest.mark.parametrize("name", WITHOUT_ZEROS)
def test_two_part_moments_agree_with_draws(name):
    rng = np.random.default_rng(5)
    n = 40000
    rows = build(name, "hurdle", np.zeros(n))
    eta = np.repeat(np.array([[0.2], [-1.0], [-0.5]]), n, axis=1)
    draws = rows.draw(eta, rng)
    assert abs(draws.mean() - rows.mean(eta)[0]) < 5 * draws.std() / np.sqrt(n)
    assert abs(draws.var() / rows.variance(eta)[0] - 1) < 0.15
    assert abs(np.mean(draws == 0) - special.expit(-0.5)) < 5 * 0.5 / np.sqrt(n)
    below, up_to = build(name, "hurdle", draws).cumulative(eta)
    u = below + rng.random(n) * (up_to - below)
    assert stats.kstest(u, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_weights_are_repeated_rows_and_runs_are_parts_of_all(cell):
    y = Y[cell[0]]
    weights = np.arange(y.size) % 3.0
    again = np.repeat(np.arange(y.size), weights.astype(int))
    one = build(*cell, y, (0,), weights)
    many = build(*cell, y[again], (0,))
    eta = np.random.default_rng(6).normal(size=(one.n_parts, y.size)) * 0.5
    a, b = one.derivatives(eta), many.derivatives(eta[:, again])
    for field in ("value", "first", "second", "third"):
        x, z = getattr(a, field).sum(axis=-1), getattr(b, field).sum(axis=-1)
        np.testing.assert_allclose(x, z, atol=1e-10)
    run = slice(2, 5)
    np.testing.assert_allclose(one.value(eta[:, None, run], run)[0], a.value[run], rtol=1e-13)
    np.testing.assert_allclose(one.first(eta[:, None, run], run)[1][:, 0], a.first[:, run])
    np.testing.assert_allclose(one.derivatives(eta[:, run], run).third, a.third[..., run])
    assert np.isfinite(one.start()).all()


@pytest.mark.parametrize("kind", ["inflated", "hurdle"])
def test_extremes_are_finite(kind):
    corners = [-700.0, -40.0, 0.0, 40.0, 700.0]
    eta = np.array(list(itertools.product(corners, repeat=2))).T
    for y in (0, 1, 5):
        rows = build("poisson", kind, np.full(eta.shape[1], y), (0, 1))
        found = rows.derivatives(eta)
        for field in (found.value, found.first, found.second, found.third):
            assert np.isfinite(field).all()
        np.testing.assert_array_equal(rows.value(eta[:, None])[0], found.value)


def test_order_concavity_and_refusals():
    family = with_zero(family_of("poisson"), "inflated")
    y, order = np.array([0.0, 3.0, 1.0]), np.array([2, 0], dtype=np.intp)
    eta = np.array([[0.2, 0.4], [0.1, -0.3]])
    some = zero_rows(family, Response(y), order, (0,), frequency_weights=np.array([1.0, 2, 3]))
    expected = np.array([3.0, 1.0]) * build("poisson", "inflated", y[order]).value(eta[:, None])[0]
    np.testing.assert_allclose(some.value(eta[:, None])[0], expected)
    assert not some.log_concave
    assert build("poisson", "hurdle", y, (0,)).log_concave
    with pytest.raises(LikelihoodError, match="zero or positive"):
        build("poisson", "hurdle", [-1.0])
    with pytest.raises(ModelError, match="Zero inflation can be added"):
        with_zero(family_of("gamma"), "inflated")
    with pytest.raises(ModelError, match="one of inflated, hurdle"):
        with_zero(family_of("poisson"), "twice")
    with pytest.raises(ModelError, match="base family"):
        base_family(family_of("poisson"))
