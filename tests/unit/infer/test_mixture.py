"""Null distributions of variance tests: closed forms, geometry, and uniform p values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, f, kstest

from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare, with_response
from multilevel.infer.compare_reduce import removals, without
from multilevel.infer.exact_rlrt import exact_null
from multilevel.infer.mixture import (
    _n_positive,
    chi_square,
    cone_of_matrices,
    one_variance,
    several_variances,
)
from tests.support.designs import design_of
from tests.support.oracle import Rows, random_rows


def balanced(J: int, n_j: int, seed: int):
    """A balanced one-way layout without group differences."""
    rng = np.random.default_rng(seed)
    codes, n = np.repeat(np.arange(J), n_j).astype(np.int32), J * n_j
    rows = Rows(rng.standard_normal(n), np.ones((n, 1)), ((codes, np.ones((n, 1))),))
    return design_of(rows)


def test_published_critical_values():
    """5% points: 2.71 for one variance, 5.14 for a slope with its covariance (Self & Liang 1987;
    Snijders & Bosker 2012, table 6.2: 2.71 and 5.14; 7.05 for chi2(2), chi2(3))."""
    for null, point in (
        (one_variance(0), 2.706),
        (one_variance(1), 5.138),
        (one_variance(2), 7.045),
    ):
        assert null.p_value(point) == pytest.approx(0.05, abs=1e-4)
    assert one_variance(0).p_value(0.0) == 1.0
    assert chi_square(3).p_value(7.815) == pytest.approx(0.05, abs=1e-4)


def test_weights_of_several_variances():
    rng = np.random.default_rng(1)
    assert several_variances(0, np.eye(3) * 4, rng).weights == (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    R = np.array([[1.0, 0.6], [0.6, 1.0]])
    closed = several_variances(1, R, rng)
    z = rng.multivariate_normal(np.zeros(2), np.linalg.inv(R), 200_000)
    share = np.bincount(_n_positive(z, R), minlength=3) / len(z)
    assert closed.weights == pytest.approx(share, abs=0.004)
    assert closed.df == (1, 2, 3)
    R3 = np.eye(3) + 0.4 * (1 - np.eye(3))
    drawn = several_variances(0, R3, rng)
    # for three: the top and bottom weights are orthant probabilities (Shapiro 1988)
    V = np.linalg.inv(R3)
    corr = V[0, 1] / V[0, 0]
    top = (2 * np.pi - 3 * np.arccos(corr)) / (4 * np.pi)
    assert drawn.weights[3] == pytest.approx(top, abs=0.01)
    assert sum(drawn.weights) == pytest.approx(1.0)
    assert drawn.weights[1] + drawn.weights[3] == pytest.approx(0.5, abs=0.01)


def test_cone_of_matrices_agrees_with_known_cones():
    """1x1 parts are half-lines; the 2x2 cone is a circular cone with known projection."""
    rng = np.random.default_rng(3)
    half_lines = cone_of_matrices(1, (1, 1), np.diag([2.0, 5.0]), rng)
    exact = several_variances(1, np.diag([2.0, 5.0]), rng)
    for x in (1.0, 4.0, 8.0):
        assert half_lines.p_value(x) == pytest.approx(exact.p_value(x), abs=0.015)
    # Frobenius metric: intrinsic volumes of the right circular cone of half-angle 45 degrees
    side = np.sqrt(2) / 4
    weights = (0.5 - side, side, side, 0.5 - side)
    found = cone_of_matrices(0, (2,), np.diag([1.0, 2.0, 1.0]), rng)
    for x in (1.0, 3.0, 6.0):
        right = sum(w * chi2.sf(x, d) for d, w in enumerate(weights) if d)
        assert found.p_value(x) == pytest.approx(right, abs=0.012)


@pytest.mark.parametrize(("J", "n_j"), [(5, 5), (10, 3), (20, 10)])
def test_exact_probability_of_zero_is_an_f_probability(J, n_j):
    """Balanced one-way: the variance is zero iff F <= 1 (REML) or F <= J/(J-1) (ML)."""
    cross = prepare(balanced(J, n_j, 0), method="reml").cross
    law = f(J - 1, J * (n_j - 1))
    for reml, bound in ((True, 1.0), (False, J / (J - 1))):
        drawn = exact_null(cross, np.random.default_rng(4), reml=reml, n_sim=10_000)
        assert drawn.probability_zero == pytest.approx(law.cdf(bound), abs=0.015)


def test_exact_distribution_is_that_of_refits():
    """Statistics of fits to responses drawn without group differences, unbalanced with a slope."""
    rows = random_rows("one", 3)
    design = design_of(rows)
    large = prepare(design, method="reml")
    small = prepare(without(design, removals(design)[0]), method="reml")
    rng = np.random.default_rng(8)
    found = []
    for _ in range(250):
        y = rng.standard_normal(design.n)
        pair = [solve(with_response(p, y)).criterion for p in (small, large)]
        found.append(max(pair[0] - pair[1], 0.0))
    drawn = exact_null(large.cross, rng, n_sim=10_000)
    zero = np.mean(np.array(found) < 1e-6)
    assert zero == pytest.approx(drawn.probability_zero, abs=0.1)
    for q in (0.8, 0.9, 0.95):
        assert np.mean(np.array(found) > np.quantile(drawn.draws, q)) == pytest.approx(
            1 - q, abs=3.3 * np.sqrt(q * (1 - q) / 250)
        )


def test_exact_test_refuses_other_designs():
    cross = prepare(design_of(random_rows("slope", 1)), method="reml").cross
    with pytest.raises(InferenceError, match="one variance component"):
        exact_null(cross, np.random.default_rng(0))


@pytest.mark.slow
def test_p_values_of_a_slope_variance_are_uniform_under_the_null():
    """60 groups, no slope variance: mixture p values uniform below .5, naive ones too large."""
    rng = np.random.default_rng(12)
    J, n_j = 60, 12
    codes, n = np.repeat(np.arange(J), n_j).astype(np.int32), J * n_j
    x = rng.standard_normal(n)
    columns = np.column_stack([np.ones(n), x])
    design = design_of(Rows(rng.standard_normal(n), columns, ((codes, columns),)))
    large = prepare(design, method="reml")
    small = prepare(without(design, removals(design)[0]), method="reml")
    null, right, naive = one_variance(1), [], []
    for _ in range(800):
        y = rng.standard_normal(J)[codes] + rng.standard_normal(n)
        pair = [solve(with_response(p, y)).criterion for p in (small, large)]
        statistic = max(pair[0] - pair[1], 0.0)
        right.append(null.p_value(statistic))
        naive.append(chi2.sf(statistic, 2))
    assert kstest(right, "uniform").pvalue > 0.01
    assert kstest(naive, "uniform").pvalue < 0.001
    assert np.mean(np.array(right) < 0.05) == pytest.approx(0.05, abs=0.025)
