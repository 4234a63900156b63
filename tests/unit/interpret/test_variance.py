"""Variance components, intraclass correlations and V of one cluster."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multilevel.errors import InferenceError
from multilevel.interpret.variance import (
    cluster_covariance,
    intraclass_correlations,
    is_nested,
    variance_components,
)
from tests.unit.interpret.support import block, design, fit

ONE = np.ones((6, 1))
Z = np.column_stack([np.ones(6), np.arange(6.0)])
L = np.array([[2.0, 0.0], [1.0, 3.0]])


def slope_design(structure="unstructured", weights=None):
    g = block("g", [0, 0, 0, 1, 1, 1], Z, ("(Intercept)", "x"), structure)
    return design(np.zeros(6), ONE, ("(Intercept)",), [g], weights=weights)


def test_components_of_a_random_slope():
    found = variance_components(slope_design(), fit([0.0], [L], 0.5))
    G = 0.5 * L @ L.T
    intercept, slope, covariance, residual = found
    assert (intercept.term, intercept.variance, intercept.sd) == (
        "(Intercept)",
        G[0, 0],
        math.sqrt(G[0, 0]),
    )
    assert slope.variance == G[1, 1]
    assert (covariance.term, covariance.term2) == ("(Intercept)", "x")
    assert covariance.variance == G[1, 0]
    assert covariance.correlation == pytest.approx(G[1, 0] / math.sqrt(G[0, 0] * G[1, 1]))
    assert math.isnan(covariance.sd)
    assert (residual.group, residual.variance) == ("Residual", 0.5)


def test_covariances_fixed_at_zero_are_not_listed():
    found = variance_components(slope_design("diagonal"), fit([0.0], [np.diag([1.0, 2.0])], 1.0))
    assert [c.term2 for c in found] == ["", "", ""]


def test_a_zero_variance_has_no_correlation():
    found = variance_components(slope_design(), fit([0.0], [np.diag([1.0, 0.0])], 1.0))
    assert math.isnan(found[2].correlation)


def three_level():
    fine = block("c", [0, 0, 1, 1, 2, 2], ONE)
    coarse = block("s", [0, 0, 0, 0, 1, 1], ONE)
    return design(np.zeros(6), ONE, ("(Intercept)",), [fine, coarse])


def test_icc_of_three_levels_adds_what_lies_above():
    found = intraclass_correlations(three_level(), fit([0.0], [[[2.0]], [[1.0]]], 1.0))
    fine, coarse = found
    assert fine.proportion == pytest.approx(4 / 6)
    assert fine.correlation == pytest.approx(5 / 6)
    assert fine.within == ("c", "s")
    assert coarse.proportion == coarse.correlation == pytest.approx(1 / 6)
    assert "66.7% of the variance" in fine.sentence


def test_icc_of_crossed_factors_adds_nothing():
    a, b = block("a", [0, 0, 1, 1, 2, 2], ONE), block("b", [0, 1, 0, 1, 0, 1], ONE)
    assert not is_nested(a, b)
    crossed = design(np.zeros(6), ONE, ("(Intercept)",), [a, b])
    found = intraclass_correlations(crossed, fit([0.0], [[[1.0]], [[1.0]]], 2.0))
    assert [icc.correlation for icc in found] == pytest.approx([1 / 3, 1 / 3])


def test_icc_is_refused_with_a_random_slope():
    with pytest.raises(InferenceError, match="random effect\\(s\\) of x over g"):
        intraclass_correlations(slope_design(), fit([0.0], [L], 1.0))


def test_cluster_covariance_is_z_g_z_plus_r():
    weights = np.array([1.0, 2.0, 4.0, 1.0, 1.0, 1.0])
    found = cluster_covariance(slope_design(weights=weights), fit([0.0], [L], 0.5), level="g0")
    expected = Z[:3] @ (0.5 * L @ L.T) @ Z[:3].T + np.diag(0.5 / weights[:3])
    np.testing.assert_allclose(found.covariance, expected)
    np.testing.assert_allclose(np.diag(found.correlation), 1.0)
    assert found.rows.tolist() == [0, 1, 2]


def test_cluster_covariance_of_the_top_unit_holds_the_blocks_below():
    found = cluster_covariance(three_level(), fit([0.0], [[[2.0]], [[1.0]]], 1.0))
    assert found.group == "s"
    np.testing.assert_allclose(found.covariance[0], [6, 5, 1, 1])


def test_cluster_covariance_says_what_it_cannot_do():
    d, f = slope_design(), fit([0.0], [L], 1.0)
    with pytest.raises(InferenceError, match="one of the model's: g"):
        cluster_covariance(d, f, "h")
    with pytest.raises(InferenceError, match="such as g0, g1"):
        cluster_covariance(d, f, "g", "g7")
    with pytest.raises(InferenceError, match="g g1 has 3 rows"):
        cluster_covariance(d, f, "g", "g1", max_rows=2)
    with pytest.raises(InferenceError, match="must have random effects"):
        cluster_covariance(design(np.zeros(6), ONE, ("a",), []), fit([0.0], [], 1.0))
