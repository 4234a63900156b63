"""Fitted values and residuals on numbers small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import InferenceError
from multilevel.interpret import fitted as room
from multilevel.interpret.fitted import fitted_values, residuals
from tests.unit.interpret.support import block, design, fit

Y = np.array([5.0, 7.0, 1.0, 4.0])
X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
OFFSET = np.array([0.5, 0.5, 0.0, 0.0])
WEIGHTS = np.array([1.0, 4.0, 1.0, 4.0])
B = np.array([[1.0, 0.1], [-2.0, 0.2]])


@pytest.fixture
def small():
    g = block("g", [0, 0, 1, 1], X, ("(Intercept)", "x"))
    return design(Y, X, ("(Intercept)", "x"), [g], offset=OFFSET, weights=WEIGHTS), fit(
        [2.0, 1.0], [np.eye(2)], 4.0
    )


def test_population_and_marginal_are_the_fixed_part_with_offset(small):
    expected = [2.5, 3.5, 4.0, 5.0]
    np.testing.assert_allclose(fitted_values(*small, kind="population"), expected)
    np.testing.assert_allclose(fitted_values(*small, kind="marginal"), expected)


def test_conditional_adds_the_random_effects_of_each_row(small):
    expected = [2.5 + 1.0, 3.5 + 1.1, 4.0 - 1.6, 5.0 - 1.4]
    np.testing.assert_allclose(fitted_values(*small, [B]), expected)


def test_residuals(small):
    conditional = np.array([1.5, 2.4, -1.4, 0.4])
    np.testing.assert_allclose(residuals(*small, [B]), conditional)
    np.testing.assert_allclose(residuals(*small, kind="marginal"), [2.5, 3.5, -3.0, -1.0])
    np.testing.assert_allclose(
        residuals(*small, [B], "standardised"), conditional * [1, 2, 1, 2] / 2.0
    )


def test_chunks_change_nothing(small, monkeypatch):
    whole = fitted_values(*small, [B])
    monkeypatch.setattr(room, "CHUNK", 3)
    np.testing.assert_array_equal(fitted_values(*small, [B]), whole)


def test_unknown_levels_get_nothing():
    out = np.zeros(2)
    room.add_random_part(out, np.array([-1, 1], dtype=np.int32), np.ones((2, 1)), B[:, :1])
    np.testing.assert_allclose(out, [0.0, -2.0])


@pytest.mark.parametrize("call", [fitted_values, residuals])
def test_an_unknown_kind_names_the_allowed_ones(small, call):
    with pytest.raises(InferenceError, match="'conditional'"):
        call(*small, [B], "fancy")
