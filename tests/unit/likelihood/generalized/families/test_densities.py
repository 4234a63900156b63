"""Values against scipy.stats; probabilities that sum to one; limits; extremes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

from multilevel.likelihood.generalized.families.kernels_binomial import exp_unit, log1p_unit
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.catalogue import family_of
from tests.unit.likelihood.generalized.families.cases import Case, every_case, scipy_of

CASES = every_case()
UNCENSORED = [c for c in CASES if c.family.response != "interval"]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def values(name, y, eta, **options):
    """Log densities at predictors (D, m), one row per column."""
    family = family_of(name, options.pop("link", None), **options)
    y = np.broadcast_to(np.asarray(y, dtype=float), eta.shape[1:]).copy()
    return Case(family).rows(Response(y)).value(eta[:, None])[0]


@pytest.mark.parametrize(
    "case",
    [c for c in UNCENSORED if c.family.name not in ("tweedie", "generalized_poisson")],
    ids=lambda case: case.name,
)
def test_values_are_those_of_scipy(case):
    rng = np.random.default_rng(1)
    response, eta = case.response(rng, 200), case.eta(rng, 200, 1.5)
    if case.family.link == "log" and case.family.name == "binomial":
        eta[0] = -np.abs(eta[0])
    reference = scipy_of(case.family, eta, response.trials)
    discrete = hasattr(reference.dist, "pmf")
    expected = (reference.logpmf if discrete else reference.logpdf)(response.y)
    if case.truncated:
        expected = expected - np.log1p(-reference.pmf(0))
    found = case.rows(response).value(eta[:, None])[0]
    np.testing.assert_allclose(found, expected, rtol=2e-9, atol=2e-9)


@by_name
def test_probabilities_sum_to_one(case):
    rng = np.random.default_rng(2)
    for eta in tame(case, case.eta(rng, 3, 0.4)).T:
        if case.family.response == "count":
            y = np.arange(1.0 if case.truncated else 0.0, 3000.0)
            total = np.exp(values_at(case, Response(y), eta)).sum()
        elif case.family.name == "binomial":
            y = np.arange(8.0)
            total = np.exp(values_at(case, Response(y, np.full(8, 7.0)), eta)).sum()
        elif case.family.response == "interval":
            cuts = np.array([-np.inf, -1.0, -0.99, 0.5, 1.7, 9.0, np.inf])
            if "log" in case.family.name:
                cuts = np.exp(cuts)
            total = np.exp(values_at(case, Response(cuts[:-1], upper=cuts[1:]), eta)).sum()
        else:
            total = integral(case, eta, lambda y: 1.0)
        assert total == pytest.approx(1.0, abs=2e-9)


def tame(case, eta):
    """Predictors whose distribution has a variance and no singular end."""
    if case.family.name in ("student", "beta"):
        eta[-1] += 2.5
    return eta


def values_at(case, response, eta):
    return case.rows(response).value(np.repeat(eta[:, None], response.y.size, axis=1)[:, None])[0]


def density(case, eta, y):
    return float(np.exp(values_at(case, Response(np.array([y])), eta)[0]))


def integral(case, eta, f):
    """``E f(Y)`` by adaptive quadrature, plus the mass at zero of a Tweedie."""
    kind = case.family.response
    if kind == "unit_interval" or case.family.name == "beta":
        # On the logit scale the density has no singular ends.
        g = lambda x: (  # noqa: E731
            f(special.expit(x))
            * density(case, eta, special.expit(x))
            * special.expit(x)
            * special.expit(-x)
        )
        return integrate.quad(g, -34, 34, epsabs=1e-12, limit=400)[0]
    if kind == "number":
        g = lambda y: f(y) * density(case, eta, y)  # noqa: E731
        ends = (-np.inf, eta[0], np.inf)
        return sum(integrate.quad(g, a, b, epsabs=1e-12, limit=400)[0] for a, b in pairwise(ends))
    g = lambda x: f(np.exp(x)) * density(case, eta, np.exp(x)) * np.exp(x)  # noqa: E731
    mass = f(0.0) * density(case, eta, 0.0) if kind == "nonnegative" else 0.0
    return mass + integrate.quad(g, -60, 30, epsabs=1e-12, limit=800, points=(-5, 0, 5))[0]


@pytest.mark.parametrize(
    "case",
    [c for c in UNCENSORED if c.family.response != "count" and c.family.name != "binomial"],
    ids=lambda case: case.name,
)
def test_moments_and_distribution_of_continuous_families(case):
    rng = np.random.default_rng(3)
    eta = tame(case, case.eta(rng, 1, 0.3))
    response = case.response(rng, 1)
    rows = case.rows(response)
    mean = integral(case, eta[:, 0], lambda y: y)
    second = integral(case, eta[:, 0], lambda y: y**2)
    below, at_most = rows.cumulative(eta)
    assert rows.mean(eta)[0] == pytest.approx(mean, rel=2e-7)
    assert rows.variance(eta)[0] == pytest.approx(second - mean**2, rel=2e-6)
    probability = integral(case, eta[:, 0], lambda y: float(y <= response.y[0]))
    assert at_most[0] == pytest.approx(probability, abs=2e-4)
    assert below[0] <= at_most[0]


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.family.response == "count" or c.family.name == "binomial"],
    ids=lambda case: case.name,
)
def test_moments_and_distribution_of_counts(case):
    rng = np.random.default_rng(4)
    eta = case.eta(rng, 1, 0.3)[:, 0]
    top = 7 if case.family.name == "binomial" else 2000
    y = np.arange(1.0 if case.truncated else 0.0, top + 1.0)
    response = Response(y, np.full(y.size, 7.0) if case.family.name == "binomial" else None)
    p = np.exp(values_at(case, response, eta))
    rows, all_eta = case.rows(response), np.repeat(eta[:, None], y.size, axis=1)
    scale = 7 if case.family.name == "binomial" else 1
    mean = p @ y / scale
    np.testing.assert_allclose(rows.mean(all_eta), mean, rtol=1e-9)
    np.testing.assert_allclose(rows.variance(all_eta), p @ (y / scale - mean) ** 2, rtol=1e-8)
    below, at_most = rows.cumulative(all_eta)
    np.testing.assert_allclose(at_most, np.cumsum(p), atol=1e-10)
    np.testing.assert_allclose(below, np.cumsum(p) - p, atol=1e-10)


@by_name
def test_draws_have_the_mean_and_the_distribution(case):
    rng = np.random.default_rng(5)
    m = 20_000
    eta = np.repeat(tame(case, case.eta(rng, 1, 0.3)), m, axis=1)
    like = case.response(rng, 1)
    trials = None if like.trials is None else np.full(m, 5.0)
    upper = None if like.upper is None else np.full(m, np.inf)
    rows = case.rows(Response(np.full(m, like.y[0] if trials is None else 1.0), trials, upper))
    drawn = rows.draw(eta, rng)
    scaled = drawn if trials is None else drawn / trials
    error = np.sqrt(rows.variance(eta)[0] / m)
    assert abs(scaled.mean() - rows.mean(eta)[0]) < 5 * error
    # Uniform where continuous; where not, the share at or below a value is its probability.
    value = float(np.median(drawn))
    at = case.rows(
        Response(np.full(m, value), trials, None if upper is None else np.full(m, value))
    )
    probability = at.cumulative(eta)[1][0]
    assert abs((drawn <= value).mean() - probability) < 5 * np.sqrt(0.25 / m)


@pytest.mark.parametrize("name", ["nb2", "nb1", "genpois"])
@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("alpha", [1e-6, 1e-9, 1e-12, 1e-200])
def test_counts_tend_to_the_poisson(name, truncated, alpha):
    y = np.array([1.0, 2.0, 7.0, 39.0, 60.0, 5000.0])
    eta = np.stack([np.log(y) + 0.1, np.full(y.size, np.log(alpha))])
    near = Case(family_of(name, truncated=truncated)).rows(Response(y), (0,)).derivatives(eta)
    limit = Case(family_of("poisson", truncated=truncated)).rows(Response(y)).derivatives(eta[:1])
    wide = 5 * alpha * y**2 + 4e-15 * y
    for found, expected in (
        (near.value, limit.value),
        (near.first[0], limit.first[0]),
        (near.second[0, 0], limit.second[0, 0]),
        (near.third[0, 0, 0], limit.third[0, 0, 0]),
    ):
        np.testing.assert_array_less(np.abs(found - expected), wide + 1e-14)
    # The slope in log alpha is of the order of alpha: exactly ((y - mu)^2 - y) alpha / 2 for NB2.
    assert np.all(np.abs(near.first[1]) <= wide)
    if name == "nb2" and not truncated:
        slope = alpha * ((y - np.exp(eta[0])) ** 2 - y) / 2
        np.testing.assert_allclose(near.first[1], slope, atol=1e-14 * y.max() + 1e-2 * wide.max())


def test_many_rows_with_one_alpha_equal_single_rows():
    y = np.concatenate([np.arange(80.0), [999.0, 1000.0, 1001.0, 5000.0]])
    eta = np.stack([np.linspace(-2, 6, 84), np.full(84, 0.4)])
    family = family_of("nb2")
    many = Case(family).rows(Response(y), (0, 1)).derivatives(eta)
    for i in range(84):
        one = Case(family).rows(Response(y[i : i + 1]), (0, 1)).derivatives(eta[:, i : i + 1])
        np.testing.assert_allclose(many.value[i], one.value[0], rtol=1e-14)
        np.testing.assert_allclose(many.third[..., i], one.third[..., 0], rtol=1e-14)


@pytest.mark.parametrize("df", [1e5, 1e8, 1e12, 1e200])
def test_student_tends_to_the_gaussian(df):
    y = np.linspace(-4, 4, 9)
    eta = np.zeros((3, 9))
    eta[2] = np.log(df)
    near = Case(family_of("t")).rows(Response(y), (0, 1)).derivatives(eta)
    limit = Case(family_of("gaussian")).rows(Response(y), (0, 1)).derivatives(eta[:2])
    tolerance = 300 / df + 1e-13
    np.testing.assert_allclose(near.value, limit.value, atol=tolerance)
    np.testing.assert_allclose(near.first[:2], limit.first, atol=tolerance)
    np.testing.assert_allclose(near.second[:, :2], limit.second, atol=5 * tolerance)
    np.testing.assert_allclose(near.third[:, :, :2], limit.third, atol=10 * tolerance)
    # log t - log normal = (y^4 - 2 y^2 - 1) / (4 df) + ...
    slope = -(y**4 - 2 * y**2 - 1) / (4 * df)
    np.testing.assert_allclose(near.first[2], slope, rtol=0, atol=1e4 / df / df + 1e-15)


def test_tweedie_is_a_poisson_sum_of_gammas():
    y = np.array([0.0, 0.01, 0.4, 1.0, 3.0, 40.0])
    for mu, phi, p in ((1.5, 0.8, 1.5), (0.3, 2.0, 1.2), (8.0, 0.5, 1.9), (2.0, 0.05, 1.05)):
        eta = np.repeat(np.array([[np.log(mu)], [np.log(phi)], [special.logit(p - 1)]]), 6, axis=1)
        rate = mu ** (2 - p) / (phi * (2 - p))
        shape, scale = (2 - p) / (p - 1), phi * (p - 1) * mu ** (p - 1)
        expected = np.array(
            [np.exp(-rate)]
            + [
                sum(
                    stats.poisson.pmf(n, rate) * stats.gamma.pdf(x, n * shape, scale=scale)
                    for n in range(1, 400)
                )
                for x in y[1:]
            ]
        )
        keep = expected > 1e-290
        found = np.exp(values("tweedie", y, eta))
        np.testing.assert_allclose(found[keep], expected[keep], rtol=1e-9)


def test_gamma_with_small_dispersion_tends_to_a_lognormal_shape():
    phi = 1e-8
    eta = np.array([[0.3], [np.log(phi)]])
    y = np.exp(0.3 + np.sqrt(phi) * 0.7)
    found = values("gamma", y, eta)[0]
    assert found == pytest.approx(stats.norm.logpdf(0.7) - 0.5 * np.log(phi) - np.log(y), abs=2e-4)
    exact = stats.gamma.logpdf(y, 1e4, scale=np.exp(0.3) / 1e4)
    assert values("gamma", y, np.array([[0.3], [np.log(1e-4)]]))[0] == pytest.approx(
        exact, abs=1e-8
    )


@by_name
def test_extremes_are_never_nan(case):
    rng = np.random.default_rng(8)
    response = case.response(rng, 16)
    rows = case.rows(response, (0,))
    for part in range(case.n_parts):
        for size in (-1e4, -700.0, -40.0, 40.0, 700.0, 1e4):
            eta = case.eta(rng, 16, 0.2)
            eta[part] = size
            with np.errstate(over="ignore"):
                value = rows.value(eta[:, None])
            assert not np.isnan(value).any()
            assert not np.isposinf(value).any()


@pytest.mark.parametrize("name", ["logit", "probit", "cloglog", "poisson", "nb2", "nb1", "gamma"])
@pytest.mark.parametrize("size", [-700.0, 700.0])
def test_all_derivatives_are_finite_far_out(name, size):
    family = family_of(name)
    y = np.array([1.0, 1.0] if family.name == "gamma" else [0.0, 1.0])
    eta = np.zeros((len(family.parts), 2))
    eta[0] = size
    d = Case(family).rows(Response(y)).derivatives(eta)
    assert all(np.isfinite(a).all() for a in (d.value, d.first, d.second, d.third))
    np.testing.assert_array_less(d.second[0, 0], 1e-300)


def test_probit_tail_follows_its_asymptotic_expansion():
    for z in (7.0, 20.0, 49.0, 51.0, 200.0):
        d = Case(family_of("probit")).rows(Response(np.ones(1))).derivatives(np.array([[-z]]))
        q = z**-2
        third = (2 - 24 * q + 300 * q**2 - 4144 * q**3) / z**3
        assert d.value[0] == pytest.approx(special.log_ndtr(-z), rel=1e-14)
        assert d.third[0, 0, 0, 0] == pytest.approx(third, rel=1e5 * q**4 + 1e-9)


def test_fast_exp_and_log1p_equal_those_of_the_library():
    x = -np.concatenate([np.linspace(0, 3, 4001), np.geomspace(1e-300, 708, 4000)])
    found = np.array([exp_unit(v) for v in x])
    np.testing.assert_allclose(found, np.exp(x), rtol=4e-16)
    t = np.concatenate([np.linspace(0, 1, 4001), np.geomspace(1e-300, 1, 4000)])
    found = np.array([log1p_unit(v) for v in t])
    np.testing.assert_allclose(found, np.log1p(t), rtol=7e-16)
