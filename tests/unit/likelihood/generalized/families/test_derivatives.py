"""First, second and third derivatives against differences of order eight, any random parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.likelihood.generalized.families.cases import Case, every_case, every_random

STENCIL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
CASES = every_case()
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def difference(f, eta, part, step=4e-3):
    shift = np.zeros((len(eta), 1))
    shift[part] = step
    return sum(c * (f(eta + k * shift) - f(eta - k * shift)) for k, c in STENCIL) / step


def assert_close(found, expected, tolerance=2e-8):
    scale = 1 + np.abs(expected)
    np.testing.assert_array_less(np.abs(found - expected) / scale, tolerance)


@by_name
@settings(max_examples=6)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.0, 2.5))
def test_derivatives_equal_differences(case: Case, seed, spread):
    rng = np.random.default_rng(seed)
    rows = case.rows(case.response(rng, 24), tuple(range(case.n_parts)))
    eta = case.eta(rng, 24, spread if case.family.link not in ("identity", "inverse") else 0.7)
    if case.n_parts == 3:
        eta[2] = np.clip(eta[2], -1.5, 1.5)
    if (case.family.name, case.family.link) in (("poisson", "identity"), ("binomial", "log")):
        eta[0] = np.sign(eta[0]) * np.maximum(np.abs(eta[0]), 0.4)
    all_of = rows.derivatives(eta)
    assert np.isfinite(all_of.value).all()
    for d in range(case.n_parts):
        assert_close(all_of.first[d], difference(lambda e: rows.value(e[:, None])[0], eta, d))
        second = difference(lambda e: rows.first(e[:, None])[1][:, 0], eta, d)
        assert_close(all_of.second[:, d], second)
        third = difference(lambda e: rows.derivatives(e).second, eta, d)
        assert_close(all_of.third[:, :, d], third)


@by_name
def test_random_parts_choose_from_the_same_derivatives(case: Case):
    rng = np.random.default_rng(5)
    response, eta = case.response(rng, 30), case.eta(rng, 30)
    full = case.rows(response, tuple(range(case.n_parts))).derivatives(eta)
    for random in every_random(case.n_parts):
        rows, r = case.rows(response, random), list(random)
        found, newton = rows.derivatives(eta), rows.newton(eta)
        assert found.second.shape == (len(r), case.n_parts, 30)
        np.testing.assert_allclose(found.value, full.value, rtol=1e-13)
        np.testing.assert_allclose(found.first, full.first, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.second, full.second[r], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found.third, full.third[r][:, r], rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(newton[0], full.value, rtol=1e-13)
        np.testing.assert_allclose(newton[1], full.first[r], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(newton[2], full.second[r][:, r], rtol=1e-12, atol=1e-13)
        assert newton[2].shape == (len(r), len(r), 30)


@by_name
def test_sets_of_predictors_and_runs_of_rows(case: Case):
    rng = np.random.default_rng(6)
    rows = case.rows(case.response(rng, 30))
    sets = np.stack([case.eta(rng, 30) for _ in range(3)], axis=1)
    value, first = rows.first(sets)
    np.testing.assert_allclose(rows.value(sets), value, rtol=1e-13)
    run = slice(7, 19)
    for k in range(3):
        single = rows.derivatives(np.ascontiguousarray(sets[:, k]))
        np.testing.assert_allclose(value[k], single.value, rtol=1e-13)
        np.testing.assert_allclose(first[:, k], single.first, rtol=1e-13)
        part = rows.derivatives(sets[:, k, run], run)
        np.testing.assert_allclose(part.value, single.value[run], rtol=1e-13)
        np.testing.assert_allclose(part.third, single.third[..., run], rtol=1e-12, atol=1e-14)


CONCAVE = {
    ("binomial", "logit"),
    ("binomial", "probit"),
    ("binomial", "cloglog"),
    ("binomial", "log"),
    ("poisson", "log"),
    ("poisson", "identity"),
    ("poisson", "sqrt"),
    ("negative_binomial", "log"),
    ("gaussian", "identity"),
    ("lognormal", "identity"),
    ("censored_gaussian", "identity"),
    ("censored_lognormal", "identity"),
    ("gamma", "log"),
    ("gamma", "inverse"),
    ("tweedie", "log"),
}


@by_name
def test_families_that_say_so_are_log_concave_in_the_mean(case: Case):
    rng = np.random.default_rng(7)
    rows = case.rows(case.response(rng, 400), (0,))
    curvature = -rows.newton(case.eta(rng, 400, 2.5))[2][0, 0]
    known = (case.family.name, case.family.link) in CONCAVE
    assert rows.log_concave == (
        known if not case.truncated else case.name == "truncated poisson-log"
    )
    assert curvature.min() >= (-1e-12 if rows.log_concave else -np.inf)
