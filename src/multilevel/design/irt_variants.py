"""Items that work differently for different persons (DIF) in models with slopes.

An item becomes one column of responses for each value of the person predictor, all with the slope
of the item; their intercepts differ by the value times a parameter. The first item is the anchor:
its difference is the effect of the predictor on the person, and others are relative to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError
from multilevel.tables.responses import ResponseMatrix

Array = NDArray[np.float64]
MOST_VALUES = 12
MISSING = -1


@dataclass(frozen=True)
class ItemVariants:
    """Columns of responses when I items stand once for each of L values; T = sum of (C_i - 1).

    Attributes
    ----------
    codes : (n_persons, L I), missing but for the value of the person.
    n_categories : L I numbers of categories.
    slopes : (L I, I) which item each column belongs to.
    easiness : (L T, T + (I - 1) q) intercepts of the steps: those of the item, and differences.
    effects : (n_persons, I, (I - 1) q) what multiplies the differences in each response.
    names : (I - 1) q names of the differences.
    """

    codes: NDArray[np.int64]
    n_categories: tuple[int, ...]
    slopes: Array
    easiness: Array
    effects: Array
    names: tuple[str, ...]


def item_variants(
    matrix: ResponseMatrix, x: Array, names: Sequence[str], dif: str, item: str
) -> ItemVariants:
    """Lay items out for differential functioning by the columns ``x`` (n_persons, q) of ``dif``.

    Raises
    ------
    DesignError : a predictor with one value only, or more than ``MOST_VALUES``.
    """
    values, level = np.unique(x, axis=0, return_inverse=True)
    level = level.reshape(-1)
    if not 2 <= len(values) <= MOST_VALUES:
        raise DesignError(
            f"DIF in models with slopes needs a predictor with 2 to {MOST_VALUES} values.",
            f"{dif} has {len(values)}",
            'group its values first, or use model="rasch", which takes any predictor',
        )
    n_persons, n_items = matrix.codes.shape
    counts = tuple(len(own) for own in matrix.categories)
    n_values, q = len(values), x.shape[1]
    codes = np.full((n_persons, n_values, n_items), MISSING, dtype=np.int64)
    codes[np.arange(n_persons), level] = matrix.codes
    item_of = np.repeat(np.arange(n_items), np.asarray(counts) - 1)
    steps = np.eye(len(item_of))
    rows = []
    for value in values:
        moved = np.zeros((n_items, (n_items - 1) * q))
        for i in range(1, n_items):
            moved[i, (i - 1) * q : i * q] = value
        rows.append(np.concatenate([steps, moved[item_of]], axis=1))
    effects = np.zeros((n_persons, n_items, (n_items - 1) * q))
    for i in range(1, n_items):
        effects[:, i, (i - 1) * q : i * q] = x
    return ItemVariants(
        codes.reshape(n_persons, -1),
        counts * n_values,
        np.tile(np.eye(n_items), (n_values, 1)),
        np.concatenate(rows),
        effects,
        tuple(f"{item}[{label}]:{name}" for label in matrix.items[1:] for name in names),
    )
