"""Predictions for new rows, against the training rows and against dense formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.design.build import build_design
from multilevel.errors import DesignError, InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import random_effects
from multilevel.estimate.prepare import prepare
from multilevel.interpret.fitted import fitted_values
from multilevel.interpret.predict import predict_rows
from multilevel.model.formula.parse import parse_formula

FORMULAS = (
    "y ~ x + (1 | g)",
    "y ~ x * k + (x | g)",
    "y ~ x + offset(o) + (x | g) + (1 | h)",
    "y ~ within(x, g) + between(x, g) + (1 | h/g)",
    "y ~ 0 + x + (0 + x | h) + (1 | g)",
)


def table(n=90, seed=0):
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 12, n), rng.integers(0, 5, n)
    x = 50 + 3 * rng.standard_normal(n) + g
    y = 2 * g + h + (x - 50) * (1 + 0.3 * rng.standard_normal(12)[g]) + rng.standard_normal(n)
    k = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    return pd.DataFrame(
        {"y": y, "x": x, "k": k, "g": g, "h": h, "o": rng.uniform(0, 1, n),
         "w": rng.uniform(0.5, 2, n)}
    )  # fmt: skip


def fitted_model(formula, data, weights=None):
    design = build_design(parse_formula(formula), data, weights=weights)
    prepared = prepare(design, method="reml")
    fit = solve(prepared)
    return prepared, fit, [e.estimates for e in random_effects(prepared, fit)]


def dense_error(prepared, fit, formula, new, data):
    """Variance of the predicted mean by brute force: all rows laid out, V inverted."""
    both = build_design(parse_formula(formula), pd.concat([data, new], ignore_index=True))
    n, d = len(data), prepared.design
    X, X0 = d.X, both.X[n:]
    V = np.diag(np.full(n, fit.sigma2) if d.weights is None else fit.sigma2 / d.weights)
    C, S = np.zeros((n, len(new))), np.zeros(len(new))
    groups = [block.group for block in both.blocks]
    for block, G in zip(d.blocks, fit.random_covariance, strict=True):
        other = both.blocks[groups.index(block.group)]
        Z, Z0, c, c0 = other.columns[:n], other.columns[n:], other.codes[:n], other.codes[n:]
        V += (Z @ G @ Z.T) * np.equal.outer(c, c)
        C += (Z @ G @ Z0.T) * np.equal.outer(c, c0)
        S += np.einsum("ia,ab,ib->i", Z0, G, Z0)
    Vi = np.linalg.inv(V)
    gap = X0.T - X.T @ Vi @ C
    return (
        S
        - np.einsum("ni,nm,mi->i", C, Vi, C)
        + np.einsum("pi,pq,qi->i", gap, np.linalg.inv(X.T @ Vi @ X), gap)
    )


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("weights", [None, "w"])
def test_prediction_of_the_analysed_rows_is_the_fitted_value(formula, weights):
    data = table()
    prepared, fit, b = fitted_model(formula, data, weights)
    for kind in ("conditional", "population", "marginal"):
        got = predict_rows(prepared, fit, data, b, kind=kind)
        np.testing.assert_allclose(
            got.estimate, fitted_values(prepared.design, fit, b, kind), atol=1e-9
        )


@pytest.mark.parametrize("formula", [f for f in FORMULAS if "within" not in f])
@pytest.mark.parametrize("weights", [None, "w"])
def test_standard_errors_equal_the_dense_formula(formula, weights):
    data = table()
    new = table(12, seed=1)
    new["h"] = [0, 1, 2, 3, 4, 77, 0, 1, 78, 2, 3, 4]
    new["g"] = [0, 1, 2, 3, 4, 5, 99, 98, 97, 8, 9, 10]
    prepared, fit, b = fitted_model(formula, data, weights)
    got = predict_rows(prepared, fit, new, b, std_error=True)
    expected = dense_error(prepared, fit, formula, new, data)
    np.testing.assert_allclose(got.std_error**2, expected, rtol=1e-7)
    np.testing.assert_allclose(got.prediction_std_error**2, expected + fit.sigma2, rtol=1e-7)
    assert set(got.new_levels["g"]) == {97, 98, 99}


def test_population_and_marginal_errors():
    data = table()
    prepared, fit, b = fitted_model("y ~ x + (x | g)", data)
    new = table(5, seed=2)
    X = np.column_stack([np.ones(5), new["x"]])
    fixed = np.einsum("ia,ab,ib->i", X, fit.vcov_beta, X)
    random = np.einsum("ia,ab,ib->i", X, fit.random_covariance[0], X)
    one = predict_rows(prepared, fit, new, b, kind="population", std_error=True)
    two = predict_rows(prepared, fit, new, b, kind="marginal", std_error=True)
    np.testing.assert_allclose(one.std_error**2, fixed, rtol=1e-8)
    np.testing.assert_allclose(two.std_error, one.std_error)
    np.testing.assert_allclose(one.prediction_std_error**2, fixed + fit.sigma2, rtol=1e-8)
    np.testing.assert_allclose(two.prediction_std_error**2, fixed + random + fit.sigma2, rtol=1e-8)
    assert "random effects of a new group" in two.sentence


def test_population_needs_no_group_column():
    data = table()
    prepared, fit, b = fitted_model("y ~ x + (x | g)", data)
    new = table(5, seed=2).drop(columns="g")
    predict_rows(prepared, fit, new, b, kind="population")
    with pytest.raises(DesignError, match="g"):
        predict_rows(prepared, fit, new, b)


def test_new_levels_get_zero_or_an_error():
    data = table()
    prepared, fit, b = fitted_model("y ~ x + (1 | g)", data)
    new = table(4, seed=3).assign(g=[0, 55, 1, 56])
    got = predict_rows(prepared, fit, new, b)
    fixed = predict_rows(prepared, fit, new, kind="population")
    np.testing.assert_allclose(got.estimate[[1, 3]], fixed.estimate[[1, 3]])
    assert abs(got.estimate[0] - fixed.estimate[0]) > 0.1
    assert set(got.new_levels["g"]) == {55, 56}
    with pytest.raises(InferenceError, match=r"2 new: 55, 56 \(first in row 1\)"):
        predict_rows(prepared, fit, new, b, new_levels="error")
    known = predict_rows(prepared, fit, new.iloc[[0, 2]], b, new_levels="error")
    np.testing.assert_allclose(known.estimate, got.estimate[[0, 2]])


def test_rows_with_a_missing_predictor_are_nan_and_counted():
    data = table()
    prepared, fit, b = fitted_model("y ~ x + (1 | g)", data)
    new = table(5, seed=4)
    whole = predict_rows(prepared, fit, new, b, std_error=True)
    new.loc[[1, 3], "x"] = np.nan
    got = predict_rows(prepared, fit, new, b, std_error=True)
    assert np.isnan(got.estimate).tolist() == [False, True, False, True, False]
    assert np.isnan(got.std_error).tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(got.estimate[[0, 2, 4]], whole.estimate[[0, 2, 4]])
    assert (got.n_missing, got.missing) == (2, {"x": 2})


def test_options_are_checked():
    data = table()
    prepared, fit, b = fitted_model("y ~ x + (1 | g)", data)
    with pytest.raises(InferenceError, match="'population'"):
        predict_rows(prepared, fit, data, b, kind="fixed")
    with pytest.raises(InferenceError, match="'zero', 'error'"):
        predict_rows(prepared, fit, data, b, new_levels="allow")
