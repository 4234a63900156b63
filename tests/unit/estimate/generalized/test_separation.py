"""Separation is found before the search, named with its columns, and cured by a named penalty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import multilevel as mlm
from multilevel.errors import EstimationError


def sample(seed=0, J=20, m=12):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), m)
    x = rng.normal(size=J * m)
    z = rng.integers(0, 3, size=J * m)
    return rng, {"g": g, "x": x, "z": np.array(["a", "b", "c"])[z]}


def test_complete_separation():
    _, data = sample()
    data["y"] = (data["x"] > 0.1).astype(float)
    with pytest.raises(EstimationError, match=r"x: .*foretell.*separation"):
        mlm.fit("y ~ x + (1 | g)", data, family="binomial")


def test_quasi_separation_by_an_empty_cell_names_the_cell():
    rng, data = sample()
    y = rng.integers(0, 2, size=len(data["x"]))
    y[data["z"] == "c"] = 1
    data["y"] = y
    n = int((data["z"] == "c").sum())
    with pytest.raises(EstimationError, match=rf"all {n} rows with z\[c\] = 1 have 1"):
        mlm.fit("y ~ x + z + (1 | g)", data, family="binomial")


def test_a_cell_of_zero_counts():
    rng, data = sample()
    y = rng.poisson(2.0, size=len(data["x"]))
    y[data["z"] == "b"] = 0
    data["y"] = y
    with pytest.raises(EstimationError, match=r"z\[b\]"):
        mlm.fit("y ~ x + z + (1 | g)", data, family="poisson")


@pytest.mark.parametrize("family", ["cumulative", "nominal"])
def test_categories(family):
    rng, data = sample()
    y = rng.integers(0, 3, size=len(data["x"]))
    y[data["z"] == "c"] = 2
    data["y"] = y
    with pytest.raises(EstimationError, match=r"z\[c\]"):
        mlm.fit("y ~ x + z + (1 | g)", data, family=family)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_false_alarm(seed):
    """Strong but overlapping effects are no separation."""
    rng, data = sample(seed)
    eta = 4.0 * data["x"]
    y = (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
    data["y"] = y
    fit = mlm.fit("y ~ x + (1 | g)", data, family="binomial", n_quad=1)
    assert np.all(np.isfinite(np.diag(fit.vcov_fixed)))


def test_the_penalty_keeps_slopes_finite_and_is_named():
    _, data = sample()
    data["y"] = (data["x"] > 0.1).astype(float)
    fit = mlm.fit("y ~ x + (1 | g)", data, family="binomial", penalty="slopes", n_quad=1)
    assert fit.certificate.is_certified
    assert np.all(np.isfinite(np.diag(fit.vcov_fixed)))
    assert fit.fixed_effects["x"] > 2.0
    assert "t(3, 0, 2.5)" in fit.fit.penalty


def test_an_unknown_penalty_is_refused():
    rng, data = sample()
    data["y"] = rng.integers(0, 2, size=len(data["x"]))
    with pytest.raises(EstimationError, match="slopes"):
        mlm.fit("y ~ x + (1 | g)", data, family="binomial", penalty="ridge")
