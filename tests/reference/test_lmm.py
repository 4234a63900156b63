"""28 fits of linear mixed models, held against lme4.

Tolerances. lme4 searches without derivatives; two runs of the reference script differ by up to
3e-6 in a standard error and 1e-5 in a variance (InstEval). So fixed effects and their standard
errors are compared to 1e-5 and variance components to 1e-4. Relative to what:

* a fixed effect: to the larger of its size and its standard error (an effect near zero has no
  relative accuracy, its standard error has);
* a variance: to itself, plus 1e-6 of the residual variance, so that zero can be compared;
* a covariance: to the product of the two standard deviations;
* a random effect: to its standard deviation, plus 1e-6 of the residual standard deviation.

The criterion has no tolerance for being worse than 1e-6: lme4's optimum is a point that we could
have reported, so a higher value is an error of ours. Lower values are printed at the end.
"""

from __future__ import annotations

import math

import pytest

from tests.reference.lme4_fits import (
    REFERENCES,
    by_key,
    column_key,
    components,
    criterion,
    group_key,
    label,
    ours,
)

pytestmark = pytest.mark.parametrize("reference", REFERENCES, ids=label)


def test_criterion_is_never_above_lme4(reference, record_property):
    gap = criterion(ours(reference), reference["method"]) - reference["minus2ll"]
    if gap < -1e-6:
        record_property("lower than lme4", f"{label(reference)}: {gap:.3g}")
    assert gap <= 1e-6


def test_criterion_is_the_same_optimum(reference):
    # Lower by more than 1e-3 would not be a better optimum of the same model but another constant.
    assert criterion(ours(reference), reference["method"]) == pytest.approx(
        reference["minus2ll"], abs=1e-3
    )


def test_fixed_effects(reference):
    estimates = by_key(ours(reference).fixed_effects, column_key)
    expected = by_key(reference["fixef"], column_key)
    errors = by_key(reference["se"], column_key)
    assert estimates.keys() == expected.keys()
    for name, value in expected.items():
        allowed = 1e-5 * max(abs(value), errors[name])
        assert estimates[name] == pytest.approx(value, abs=allowed, rel=0), sorted(name)


def test_standard_errors(reference):
    coefficients = ours(reference).coefficients()
    errors = by_key(
        dict(zip(coefficients["term"], coefficients["std_error"], strict=True)), column_key
    )
    expected = by_key(reference["se"], column_key)
    assert errors.keys() == expected.keys()
    for name, value in expected.items():
        assert errors[name] == pytest.approx(value, rel=1e-5), sorted(name)


def test_variance_components(reference):
    fit, expected = ours(reference), components(reference)
    matrices = by_key(fit.random_covariance, group_key)
    assert fit.residual_variance == pytest.approx(expected.residual, rel=1e-4)
    seen = 0
    for group, matrix in matrices.items():
        position = {column_key(name): i for i, name in enumerate(matrix.index)}
        assert list(matrix.index) == list(matrix.columns)
        seen += len(position)
        for (other, name), value in expected.variances.items():
            if other == group:
                i = position[name]
                assert matrix.iloc[i, i] == pytest.approx(
                    value, rel=1e-4, abs=1e-6 * expected.residual
                )
    assert seen == len(expected.variances)
    for (group, first, second), value in expected.covariances.items():
        matrix = matrices[group]
        position = {column_key(name): i for i, name in enumerate(matrix.index)}
        scale = math.sqrt(expected.variances[group, first] * expected.variances[group, second])
        ij = position[first], position[second]
        assert matrix.iloc[ij] == pytest.approx(value, abs=1e-4 * scale, rel=0)
        assert matrix.iloc[ij] == matrix.iloc[ij[::-1]]


def test_terms_without_a_covariance_are_independent(reference):
    fit, expected = ours(reference), components(reference)
    for name, matrix in fit.random_covariance.items():
        keys = [column_key(column) for column in matrix.index]
        for i, first in enumerate(keys):
            for j, second in enumerate(keys[:i]):
                pair = (group_key(name), second, first)
                if pair not in expected.covariances:
                    assert matrix.iloc[i, j] == 0.0


def test_information_criteria_and_counts(reference):
    fit = ours(reference)
    assert fit.aic == pytest.approx(reference["AIC"], abs=1e-3)
    assert fit.bic == pytest.approx(reference["BIC"], abs=1e-3)
    assert fit.n == reference["n"]
    assert by_key(fit.groups, group_key) == by_key(reference["ngroups"], group_key)


def test_singular_flag_and_certificate(reference):
    fit = ours(reference)
    assert fit.is_singular == reference["singular"]
    assert fit.certificate.is_certified
    assert fit.certificate.status == ("singular" if reference["singular"] else "certified")


def test_random_effects(reference):
    fit, expected = ours(reference), components(reference)
    effects = {}
    for row in fit.random_effects().itertuples():
        level = frozenset(str(row.level).split(":"))
        effects[group_key(row.group), level, column_key(row.term)] = row.estimate
    n_compared = 0
    for group, rows in reference["ranef"].items():
        for row in rows:
            level = frozenset(str(row[".level"]).split(":"))
            for name, value in row.items():
                if name in (".level", "_row"):
                    continue
                key = group_key(group), level, column_key(name)
                spread = math.sqrt(expected.variances[key[0], key[2]])
                allowed = 1e-4 * spread + 1e-6 * math.sqrt(expected.residual)
                assert effects[key] == pytest.approx(value, abs=allowed, rel=0), key
                n_compared += 1
    assert n_compared >= 3
