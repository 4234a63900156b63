"""Curves along the person axis: category probabilities, expected scores, information.

Information of an item is ``sum_c P_c'^2 / P_c`` (Samejima 1969); of a test the sum over items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.interpret.irt.parameters import ItemParameters
from multilevel.likelihood.generalized.irt_categories import CategoryTables, category_tables

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ItemCurves:
    """Curves of I items at K points; categories beyond those of an item are NaN.

    Attributes
    ----------
    theta : (K,).
    probabilities : (I, C, K).
    expected : (I, K) expected scores.
    information : (I, K).
    """

    theta: Array
    probabilities: Array
    expected: Array
    information: Array

    @property
    def test_information(self) -> Array:
        """(K,)."""
        return np.asarray(self.information.sum(axis=0))

    @property
    def test_score(self) -> Array:
        """(K,) expected sum of the scores."""
        return np.asarray(self.expected.sum(axis=0))


def tables_of_item(
    parameters: ItemParameters, item: int, t: Array, *, derivatives: bool = False
) -> CategoryTables:
    """Tables of one item at predictors of a theta-dependent part ``t`` (K,): ``t + d_s``."""
    at = parameters.item_of == item
    predictors = t[None] + parameters.steps[at][:, None]
    return category_tables(
        predictors[None], parameters.kind, parameters.link, derivatives=derivatives
    )


def item_curves(parameters: ItemParameters, theta: Array) -> ItemCurves:
    """Curves of all items at ``theta`` (K,)."""
    n_items, K = len(parameters.items), len(theta)
    C = max(parameters.n_categories)
    probabilities = np.full((n_items, C, K), np.nan)
    expected, information = np.empty((n_items, K)), np.empty((n_items, K))
    for i in range(n_items):
        a = parameters.slopes[i]
        table = tables_of_item(parameters, i, a * theta, derivatives=True)
        p = table.probabilities[0]
        probabilities[i, : len(p)] = p
        expected[i] = np.arange(len(p)) @ p
        if table.first is not None:
            slope = a * table.first[0].sum(axis=1)
            information[i] = (p * slope**2).sum(axis=0)
    return ItemCurves(theta, probabilities, expected, information)


def default_theta(parameters: ItemParameters, points: int = 121) -> Array:
    """An axis that covers four standard deviations of persons and all difficulties in reach."""
    sd = float(np.sqrt(parameters.theta_variance)) or 1.0
    difficulty = parameters.difficulty
    inside = difficulty[np.abs(difficulty) < 8.0 * sd]
    low = min(-4.0 * sd, float(inside.min(initial=0.0)) - sd)
    high = max(4.0 * sd, float(inside.max(initial=0.0)) + sd)
    return np.linspace(low, high, points)
