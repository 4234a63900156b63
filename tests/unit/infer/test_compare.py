"""Comparisons: what is refused, what is nested, and numbers against definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.reference.lme4_fits import table as reference_table


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    group, other = np.repeat(np.arange(25), 8), np.tile(np.arange(10), 20)
    x, z = rng.standard_normal((2, 200))
    y = 1 + x + rng.standard_normal(25)[group] + 0.5 * rng.standard_normal(25)[group] * x
    y += 0.7 * rng.standard_normal(10)[other] + rng.standard_normal(200)
    return pd.DataFrame(
        {"y": y, "x": x, "z": z, "g": group, "h": other, "u": other // 3, "x10": 10 * x + 3}
    )


def fit(formula, data, **options):
    return mlm.fit(formula, data, advice=False, **options)


def one_test(small, large, **options):
    (test,) = mlm.compare(small, large, **options).result.tests
    return test


def test_hsb_criteria_of_four_programs():
    """Printed by Stata, SAS and SPSS for the same REML fit (HSB, -2LL 46714.23)."""
    m = fit("mAch ~ cses + (cses | school)", reference_table("Hsb82"))
    assert round(m.reml_criterion, 2) == 46714.23
    printed = {"stata": (46726.2, 46767.5), "r": (46726.2, 46767.5)}
    printed |= {"sas": (46722.2, 46734.5), "spss": (46722.2, 46749.8)}
    for program, (aic, bic) in printed.items():
        found = m.information_criteria(as_in=program)
        assert (round(found.aic, 1), round(found.bic, 1)) == (aic, bic), program
    frame = mlm.compare(fit("mAch ~ cses + (1 | school)", reference_table("Hsb82")), m, as_in="sas")
    assert round(frame.to_frame()["bic"][1], 1) == 46734.5
    with pytest.raises(InferenceError, match="as_in must be"):
        m.information_criteria(as_in="hlm")


def test_units_of_bic_under_crossing(rows):
    m = fit("y ~ x + (1 | h) + (1 | g)", rows)
    assert m.information_criteria(as_in="sas").n_bic == 10  # first random term as written
    nested = fit("y ~ x + (1 | g) + (1 | g:u)", rows)
    assert nested.information_criteria(as_in="sas").n_bic == 25


@pytest.mark.parametrize(
    ("small", "large", "df", "weights"),
    [
        ("y ~ x", "y ~ x + (1 | g)", 1, (0.5, 0.5)),
        ("y ~ x + (1 | g)", "y ~ x + (x | g)", 2, (0.0, 0.5, 0.5)),
        ("y ~ x + (1 | g)", "y ~ x + (x10 || g)", 1, (0.5, 0.5)),
        ("y ~ x + (x || g)", "y ~ x + (x10 | g)", 1, (0.0, 1.0)),
        ("y ~ x + (1 | g)", "y ~ x + (x || g)", 1, (0.5, 0.5)),
        ("y ~ x + (x || g)", "y ~ x + (x | g)", 1, (0.0, 1.0)),
        ("y ~ x + (x | g)", "y ~ x + (x10 | g)", 0, None),
        ("y ~ x + (x | g)", "y ~ x + (x10 + z | g)", 3, (0.0, 0.0, 0.5, 0.5)),
        ("y ~ x + (x | g)", "y ~ x + (x | g) + (1 | h)", 1, (0.5, 0.5)),
        ("y ~ x + (1 | h)", "y ~ x + (1 | g) + (1 | g:u)", 1, None),
        ("y ~ x + id(1 + x | g)", "y ~ x + cs(1 + x | g)", 1, (0.0, 1.0)),
        ("y ~ x + (1 | g)", "y ~ x + cs(1 + x | g)", 1, None),
    ],
)
def test_nesting_and_mixture(rows, small, large, df, weights):
    """The p value is the mixture of chi-squares that the pair of models calls for."""
    test = one_test(fit(small, rows), fit(large, rows))
    assert test.df == df
    if weights is None:
        assert np.isnan(test.p_value)
        assert "no likelihood-ratio test" in test.sentence
        return
    tails = [float(test.statistic <= 0), *(chi2.sf(test.statistic, d) for d in range(1, 5))]
    assert test.p_value == pytest.approx(sum(w * t for w, t in zip(weights, tails, strict=False)))
    assert test.p_naive == pytest.approx(chi2.sf(test.statistic, df))
    assert ("conservative" in test.sentence) == (weights[-1] == 0.5)


def test_order_of_the_arguments_does_not_matter(rows):
    m = [fit(f, rows) for f in ("y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x")]
    forward, backward = mlm.compare(*m), mlm.compare(*m[::-1])
    a, b = (c.to_frame().drop(columns="model") for c in (forward, backward))
    pd.testing.assert_frame_equal(a, b)
    assert "significantly improved fit" in forward.sentence
    assert "m0: y ~ x + (1 | g)" in repr(forward)


def test_reml_with_other_fixed_effects_is_refused_and_refitted(rows):
    small, large = fit("y ~ x + (1 | g)", rows), fit("y ~ x + z + (1 | g)", rows)
    with pytest.raises(InferenceError, match="same fixed effects"):
        mlm.compare(small, large)
    test = one_test(small, large, refit=True)
    by_hand = [m.update(method="ml").minus2_loglik for m in (small, large)]
    assert test.statistic == pytest.approx(by_hand[0] - by_hand[1])
    assert test.p_value == pytest.approx(chi2.sf(test.statistic, 1))
    with pytest.raises(InferenceError, match="same method"):
        mlm.compare(small, large.update(method="ml"))


def test_reml_compares_column_spaces_and_not_names(rows):
    """Another basis of the same space shifts the REML criterion; the test must not move."""
    same = one_test(fit("y ~ x + (1 | g)", rows), fit("y ~ x + (x | g)", rows))
    other = one_test(fit("y ~ x + (1 | g)", rows), fit("y ~ x10 + (x | g)", rows))
    assert other.statistic == pytest.approx(same.statistic, abs=1e-6)


def test_other_rows_are_refused_named_and_refitted(rows):
    holes = rows.copy()
    holes.loc[[3, 50, 117], "z"] = np.nan
    small = fit("y ~ x + (1 | g)", holes, method="ml")
    large = fit("y ~ x + z + (1 | g)", holes, method="ml")
    with pytest.raises(InferenceError, match=r"m0 has 3 row.s. that others lack .rows 3, 50, 117"):
        mlm.compare(small, large)
    test = one_test(small, large, refit=True)
    complete = holes.dropna()
    parts = [fit(m.design.model.formula, complete, method="ml") for m in (small, large)]
    assert test.statistic == pytest.approx(parts[0].minus2_loglik - parts[1].minus2_loglik)
    with pytest.raises(InferenceError, match="same table"):
        mlm.compare(small, parts[1])


def test_refusals_name_what_lifts_them_and_then_nothing_is_tested(rows):
    a, b = fit("y ~ x + (1 | g)", rows), fit("y ~ x + z + (1 | g)", rows)
    with pytest.raises(InferenceError, match="reml_with_other_means"):
        mlm.compare(a, b)
    found = mlm.compare(a, b, allow=("reml_with_other_means",))
    (test,) = found.result.tests
    assert np.isnan(test.p_value)
    assert np.isnan(test.statistic)
    assert "no test" in found.sentence
    assert found.to_frame()["criterion"].tolist() == [a.reml_criterion, b.reml_criterion]
    holes = rows.copy()
    holes.loc[[3, 50], "z"] = np.nan
    c = fit("y ~ x + z + (1 | g)", holes)
    with pytest.raises(InferenceError, match="other_rows"):
        mlm.compare(a, c)
    (test,) = mlm.compare(a, c, allow="other_rows").result.tests
    assert test.distribution == "other rows"
    with pytest.raises(InferenceError, match="allow may name"):
        mlm.compare(a, b, allow=["everything"])


def test_other_data_and_non_models_are_refused(rows):
    m = fit("y ~ x + (1 | g)", rows)
    with pytest.raises(InferenceError, match="same response"):
        mlm.compare(m, fit("z ~ x + (1 | g)", rows))
    with pytest.raises(InferenceError, match="same precision weights"):
        mlm.compare(m, fit("y ~ x + (x | g)", rows, weights=np.linspace(1, 2, 200)))
    with pytest.raises(InferenceError, match="at least two"):
        mlm.compare(m)
    with pytest.raises(InferenceError, match="argument 2 is a str"):
        mlm.compare(m, "y ~ x")
    with pytest.raises(InferenceError, match="one name per model"):
        mlm.compare(m, m, names=["a", "a"])


def test_a_likelihood_that_falls_is_an_error(rows):
    """A larger model whose fit stopped early is not compared, the user is told."""
    from dataclasses import replace

    from multilevel.infer.compare import Candidate, compare_fits

    small, large = fit("y ~ x + (1 | g)", rows), fit("y ~ x + (x | g)", rows)
    worse = replace(large.fit, criterion=small.fit.criterion + 0.01)
    pair = [Candidate("a", small._prepared, small.fit), Candidate("b", large._prepared, worse)]
    with pytest.raises(InferenceError, match="cannot make the likelihood smaller") as refused:
        compare_fits(pair, np.random.default_rng(0))
    assert "falling_likelihood" in refused.value.remedy
    found = compare_fits(pair, np.random.default_rng(0), allow=("falling_likelihood",))
    assert np.isnan(found.tests[0].p_value)
    assert "not at its optimum" in found.sentence


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + (1 | g) + (x || h)", "y ~ x"])
def test_conditional_aic_by_its_definition(rows, formula):
    """Trace of the hat matrix and conditional density, with dense matrices."""
    w = np.random.default_rng(2).uniform(0.5, 2.0, len(rows))
    m = fit(formula, rows, weights=w)
    V = np.diag(m.residual_variance / w)
    R = V.copy()
    for block, G in zip(m.design.blocks, m.fit.random_covariance, strict=True):
        Z = block.columns
        V += (Z @ G @ Z.T) * (block.codes[:, None] == block.codes[None, :])
    Vi, X = np.linalg.inv(V), m.design.X
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    hat = np.eye(len(rows)) - R @ P
    e = m.residuals()
    density = len(e) * np.log(2 * np.pi) + np.log(np.diag(R)).sum() + (e**2 / np.diag(R)).sum()
    found = m.conditional_aic()
    assert found.effective_df == pytest.approx(np.trace(hat), rel=1e-8)
    assert found.minus2_conditional == pytest.approx(density, rel=1e-8)
    assert found.caic == pytest.approx(density + 2 * (np.trace(hat) + 1), rel=1e-8)


def test_random_tests_leave_out_each_random_effect(rows):
    m = fit("y ~ x + (x | g) + (1 | h)", rows)
    found = m.random_tests()
    assert found[["term", "group", "df"]].to_numpy().tolist() == [
        ["x", "g", 2],
        ["(Intercept)", "h", 1],
    ]
    without = [fit("y ~ x + (1 | g) + (1 | h)", rows), fit("y ~ x + (x | g)", rows)]
    assert found["statistic"].tolist() == pytest.approx(
        [w.reml_criterion - m.reml_criterion for w in without]
    )
    assert found["p_value"][1] == pytest.approx(found["p_naive"][1] / 2)
    assert found["p_exact"].isna().all()
    with pytest.raises(InferenceError, match="must have random effects"):
        fit("y ~ x", rows).random_tests()


def test_two_crossed_variances_have_binomial_weights_where_balanced():
    """Balanced crossed factors: the information of their variances is uncorrelated but for sigma2.

    By hand at zero variances: ``tr(J_a J_b) - tr(J_a) tr(J_b) / n`` with ``J`` the co-membership
    matrices is ``n - n = 0`` where every pair of levels meets once.
    """
    pen = reference_table("Penicillin")
    test = one_test(fit("diameter ~ 1", pen), fit("diameter ~ 1 + (1 | plate) + (1 | sample)", pen))
    assert "binomial weights" in test.distribution
    tails = 0.5 * chi2.sf(test.statistic, 1) + 0.25 * chi2.sf(test.statistic, 2)
    assert test.p_value == pytest.approx(tails)


@pytest.mark.parametrize("large", ["y ~ x + (x | g)", "y ~ x + (1 | g) + (1 | u)"])
def test_expected_information_by_its_definition(rows, large):
    """``tr(V^-1 V_a V^-1 V_b) / 2`` with dense matrices, sigma2 projected out."""
    from multilevel.infer.compare_distribution import efficient_information
    from multilevel.infer.compare_nesting import random_nesting

    small, big = fit("y ~ x", rows), fit(large, rows)
    nesting = random_nesting(small.design, big.design)
    found, kind = efficient_information(small.fit, big._prepared, nesting)
    assert kind == "expected"
    slopes = [np.eye(len(rows))]
    for part in nesting.parts:
        block = big.design.blocks[part.block]
        same = block.codes[:, None] == block.codes[None, :]
        d = len(part.cone)
        for a in range(d):
            for b in range(a + 1):
                u, v = part.cone[a], part.cone[b]
                S = np.outer(u, u) if a == b else np.outer(u, v) + np.outer(v, u)
                slopes.append((block.columns @ S @ block.columns.T) * same)
    full = np.array([[np.sum(A * B) / 2 for B in slopes] for A in slopes])
    expected = full[1:, 1:] - np.outer(full[1:, 0], full[0, 1:]) / full[0, 0]
    assert found == pytest.approx(expected, rel=1e-8)
