"""What must not change a fit, or must change it in a known way; through the public door."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.identities.tables import (
    assert_same_fit,
    effects_by_level,
    few,
    fit,
    formulas,
    make,
    methods,
    seeds,
    standard_errors,
)

scales = st.sampled_from([1e-4, 0.03, -2.0, 50.0, 1e5])


@few
@given(seeds, formulas, methods)
def test_row_order(seed, formula, method):
    table = make(seed)
    shuffled = table.sample(frac=1.0, random_state=seed % 2**32)
    first, second = fit(formula, table, method), fit(formula, shuffled, method)
    assert_same_fit(first, second, method)
    spread = math.sqrt(max(np.diag(g).max() for g in first.random_covariance.values()))
    pd.testing.assert_series_equal(
        effects_by_level(first), effects_by_level(second), rtol=0, atol=1e-3 * spread + 1e-6
    )


@few
@given(seeds, formulas, methods)
def test_labels_of_groups(seed, formula, method):
    table = make(seed)
    renamed = table.copy()
    rng = np.random.default_rng(seed)
    for column in ("top", "unit", "unique", "other"):
        old = table[column].unique()
        new = [f"level {i}" for i in rng.permutation(len(old))]
        renamed[column] = table[column].map(dict(zip(old, new, strict=True)))
    assert_same_fit(fit(formula, table, method), fit(formula, renamed, method), method)


@few
@given(seeds, formulas, methods)
def test_integer_labels_equal_text_labels(seed, formula, method):
    table = make(seed)
    numbered = table.copy()
    for column in ("top", "unique", "other"):
        numbered[column] = np.unique(table[column], return_inverse=True)[1] + 1001
    assert_same_fit(fit(formula, table, method), fit(formula, numbered, method), method)


@few
@given(seeds, formulas, methods)
def test_an_empty_category_changes_nothing(seed, formula, method):
    table = make(seed)
    wider = table.copy()
    for column in ("top", "other"):
        levels = [*sorted(table[column].unique()), "nobody"]
        wider[column] = pd.Categorical(table[column], categories=levels)
    first, second = fit(formula, table, method), fit(formula, wider, method)
    assert_same_fit(first, second, method)
    assert first.groups == second.groups


@few
@given(seeds, formulas, methods)
def test_rows_without_an_outcome_change_nothing(seed, formula, method):
    table = make(seed)
    extra = table.head(7).assign(y=np.nan)
    longer = pd.concat([extra, table], ignore_index=True)
    second = fit(formula, longer, method)
    assert second.n == len(table)
    assert second.rows.tolist() == list(range(7, len(longer)))
    assert_same_fit(fit(formula, table, method), second, method)


@few
@given(seeds, methods, scales)
def test_units_of_a_predictor(seed, method, scale):
    table = make(seed)
    first = fit("y ~ x + z + (x | top)", table, method)
    scaled = table.assign(x=scale * table["x"])
    second = fit("y ~ x + z + (x | top)", scaled, method)
    # REML integrates beta out: log|X'V^-1X| grows by 2 log|scale|
    shift = 2 * math.log(abs(scale)) if method == "reml" else 0.0
    back = np.array([1.0, scale])
    matrix = second.random_covariance["top"].to_numpy() * np.outer(back, back)
    expected = first.random_covariance["top"].to_numpy()
    assert matrix == pytest.approx(expected, rel=0, abs=5e-4 * np.diag(expected).max())
    slopes = second.fixed_effects.to_numpy() * [1.0, scale, 1.0]
    errors = standard_errors(second) * [1.0, abs(scale), 1.0]
    assert np.max(np.abs(slopes - first.fixed_effects.to_numpy()) / errors) < 1e-4
    assert errors == pytest.approx(standard_errors(first), rel=1e-4)
    ours, theirs = (
        (f.reml_criterion if method == "reml" else f.minus2_loglik) for f in (first, second)
    )
    assert theirs == pytest.approx(ours + shift, abs=2e-6)


@few
@given(seeds, formulas, methods, scales)
def test_units_of_the_outcome(seed, formula, method, scale):
    table = make(seed)
    first = fit(formula, table, method)
    second = fit(formula, table.assign(y=scale * table["y"]), method)
    degrees = len(table) - (len(first.fixed_effects) if method == "reml" else 0)
    shift = 2 * degrees * math.log(abs(scale))
    ours, theirs = (
        (f.reml_criterion if method == "reml" else f.minus2_loglik) for f in (first, second)
    )
    assert theirs == pytest.approx(ours + shift, abs=5e-6)
    errors = standard_errors(first)
    difference = second.fixed_effects.to_numpy() / scale - first.fixed_effects.to_numpy()
    assert np.max(np.abs(difference) / errors) < 1e-4
    assert second.residual_variance / scale**2 == pytest.approx(first.residual_variance, rel=1e-4)


@few
@given(seeds, methods, st.floats(-20, 20))
def test_origin_of_a_covariate_with_a_random_slope(seed, method, shift):
    """With an unstructured covariance the origin of x does not matter; G turns with it."""
    table = make(seed)
    first = fit("y ~ x + (x | top)", table, method)
    second = fit("y ~ x + (x | top)", table.assign(x=table["x"] + shift), method)
    turn = np.array([[1.0, shift], [0.0, 1.0]])  # b0 = b0' + shift b1
    matrix = turn @ second.random_covariance["top"].to_numpy() @ turn.T
    expected = first.random_covariance["top"].to_numpy()
    assert matrix == pytest.approx(expected, rel=0, abs=1e-3 * np.diag(expected).max())
    moved = turn @ second.fixed_effects.to_numpy()
    difference = np.abs(moved - first.fixed_effects.to_numpy()) / standard_errors(first)
    assert difference.max() < 1e-4
    ours, theirs = (
        (f.reml_criterion if method == "reml" else f.minus2_loglik) for f in (first, second)
    )
    assert theirs == pytest.approx(ours, abs=2e-6)


@few
@given(seeds, methods)
def test_nesting_is_shorthand(seed, method):
    table = make(seed)
    first = fit("y ~ x + (1 | top/unit)", table, method)
    second = fit("y ~ x + (1 | top) + (1 | top:unit)", table, method)
    assert_same_fit(first, second, method)
    assert first.groups == second.groups


@few
@given(seeds, methods)
def test_unique_ids_make_crossed_and_nested_the_same(seed, method):
    table = make(seed)
    first = fit("y ~ x + (1 | top/unit)", table, method)
    second = fit("y ~ x + (1 | top) + (1 | unique)", table, method)
    assert_same_fit(first, second, method)
    third = fit("y ~ x + (1 | top/unique)", table, method)
    assert_same_fit(first, third, method)


@few
@given(seeds, formulas, methods)
def test_an_offset_is_subtracted_from_the_outcome(seed, formula, method):
    table = make(seed).assign(known=lambda d: 3.0 * d["z"] ** 2)
    left, right = formula.split("~")
    first = fit(formula, table, method)
    raised = table.assign(y=table["y"] + table["known"])
    second = fit(f"{left} ~ offset(known) + {right}", raised, method)
    assert_same_fit(first, second, method)


@few
@given(seeds, formulas, methods, st.sampled_from([0.25, 3.0, 100.0]))
def test_equal_precision_weights_only_rename_the_residual_variance(seed, formula, method, weight):
    table = make(seed).assign(weight=weight)
    plain = fit(formula, table, method)
    weighted = fit(formula, table, method, weights="weight")
    ours, theirs = (
        (f.reml_criterion if method == "reml" else f.minus2_loglik) for f in (plain, weighted)
    )
    assert theirs == pytest.approx(ours, abs=2e-6)
    assert weighted.residual_variance / weight == pytest.approx(plain.residual_variance, rel=1e-4)
    errors = standard_errors(plain)
    difference = weighted.fixed_effects.to_numpy() - plain.fixed_effects.to_numpy()
    assert np.max(np.abs(difference) / errors) < 1e-4


@few
@given(seeds, formulas, methods)
def test_two_rows_are_their_mean_with_weight_two(seed, formula, method):
    """A pair of rows with the same predictors is its mean (weight 2) and its difference.

    The difference has variance sigma2 (after division by root 2) and knows nothing else. If it is
    given the size that the fit to the means estimates, the pairs have the same optimum, and their
    criterion is higher by n (1 + log(2 pi sigma2)) + n log 2; the last term is the Jacobian.
    """
    means = make(seed).assign(weight=2.0)
    first = fit(formula, means, method, weights="weight")
    sigma2, n = first.residual_variance, len(means)
    half = math.sqrt(sigma2 / 2)
    pairs = pd.concat([means.assign(y=means["y"] + half), means.assign(y=means["y"] - half)])
    second = fit(formula, pairs, method)
    shift = n * (1 + math.log(2 * math.pi * sigma2)) + n * math.log(2)
    assert_same_fit(first, second, method, shift=shift)
