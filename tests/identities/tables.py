"""Small random tables, and how two fits of the same model are compared."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st

import multilevel as mlm

#: Few, reproducible examples: each one is two fits.
few = settings(max_examples=6, deadline=None, derandomize=True, database=None)

seeds = st.integers(0, 2**31 - 1)
methods = st.sampled_from(["reml", "ml"])

#: Formulas over the columns of ``make``: one factor, slopes, nested, crossed, mixed.
FORMULAS = (
    "y ~ x + (1 | top)",
    "y ~ x + z + (x | top)",
    "y ~ x + (x || top)",
    "y ~ x * w + (1 | top/unit)",
    "y ~ x + (1 | unique) + (1 | other)",
    "y ~ x + (x | top) + (1 | other)",
)
formulas = st.sampled_from(FORMULAS)


def make(seed: int, n: int = 96) -> pd.DataFrame:
    """Rows with nested (``top``; ``unit`` numbered within it; ``unique``) and crossed factors."""
    rng = np.random.default_rng(seed)
    top = rng.integers(0, 8, n)
    unit = rng.integers(0, 3, n)
    other = rng.integers(0, 6, n)
    x, z = rng.standard_normal((2, n))
    w = rng.standard_normal(8)[top]
    y = 1.0 + 0.5 * x + 0.3 * w + rng.standard_normal(n)
    y += 1.2 * rng.standard_normal(8)[top] + 0.8 * rng.standard_normal(8)[top] * x
    y += 0.9 * rng.standard_normal((8, 3))[top, unit] + 0.8 * rng.standard_normal(6)[other]
    return pd.DataFrame(
        {
            "y": y,
            "x": x,
            "z": z,
            "w": w,
            "top": [f"t{i}" for i in top],
            "unit": unit,
            "unique": [f"t{i}-{j}" for i, j in zip(top, unit, strict=True)],
            "other": [f"o{i}" for i in other],
        }
    )


def fit(formula: str, table, method: str, **options) -> mlm.MultilevelFit:
    """Fit; a singular optimum is allowed, an uncertified one is not."""
    result = mlm.fit(formula, table, method=method, **options)
    assert result.certificate.is_certified, result.certificate.sentence
    return result


def criterion(result: mlm.MultilevelFit, method: str) -> float:
    return result.reml_criterion if method == "reml" else result.minus2_loglik


def standard_errors(result: mlm.MultilevelFit) -> np.ndarray:
    return result.coefficients()["std_error"].to_numpy()


def assert_same_fit(first, second, method, *, names_may_differ=False, shift=0.0) -> None:
    """Same criterion (up to ``shift``), fixed effects, their errors, and variance components.

    A Newton decrement of 1e-9 leaves 5e-5 standard errors of a parameter; a variance has a
    standard error of about its own size here.
    """
    np.testing.assert_allclose(
        criterion(second, method), criterion(first, method) + shift, rtol=0, atol=2e-6
    )
    errors = standard_errors(first)
    if not names_may_differ:
        assert list(first.fixed_effects.index) == list(second.fixed_effects.index)
    difference = first.fixed_effects.to_numpy() - second.fixed_effects.to_numpy()
    assert np.max(np.abs(difference) / errors) < 1e-4
    np.testing.assert_allclose(standard_errors(second), errors, rtol=1e-4)
    sigma2 = first.residual_variance
    np.testing.assert_allclose(second.residual_variance, sigma2, rtol=1e-4)
    ours = [g.to_numpy() for g in first.random_covariance.values()]
    theirs = [g.to_numpy() for g in second.random_covariance.values()]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=5e-4 * (np.diag(a).max() + 0.01 * sigma2))


def effects_by_level(result: mlm.MultilevelFit) -> pd.Series:
    return result.random_effects().set_index(["group", "level", "term"])["estimate"].sort_index()
