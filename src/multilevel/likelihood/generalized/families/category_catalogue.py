"""The row likelihood of every family of categories, by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.families.adjacent import AdjacentRows
from multilevel.likelihood.generalized.families.category_rows import CategoryRows
from multilevel.likelihood.generalized.families.cumulative import CumulativeRows
from multilevel.likelihood.generalized.families.nominal import NominalRows
from multilevel.likelihood.generalized.families.sequential import SequentialRows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]

CATEGORY_ROWS: dict[str, type] = {
    "cumulative": CumulativeRows,
    "continuation_ratio": SequentialRows,
    "adjacent": AdjacentRows,
    "nominal": NominalRows,
}


def category_rows(
    family: Family,
    response: Response,
    order: NDArray[np.intp] | None,
    random: tuple[int, ...],
    *,
    frequency_weights: Array | None = None,
) -> CategoryRows:
    """Row likelihood (and outcome distribution) of a response of categories.

    Parameters
    ----------
    family : with all its parts (``with_categories``).
    response : codes 0..C-1 and the labels of all C categories.
    order : (m,) rows wanted, in the order wanted; None for all.
    random : the random parts, ascending.
    frequency_weights : (n,) in the order of ``response``, or None.

    Raises
    ------
    LikelihoodError : not a family of categories, or a response that does not fit it.
    """
    if family.name not in CATEGORY_ROWS:
        raise LikelihoodError(
            "category_rows needs one of " + ", ".join(CATEGORY_ROWS) + ".",
            f"family {family.name!r}",
            "build other families with their own catalogue",
        )
    if order is not None:
        response = response.take(order)
        if frequency_weights is not None:
            frequency_weights = np.ascontiguousarray(frequency_weights[order])
    rows: CategoryRows = CATEGORY_ROWS[family.name](family, response, random, frequency_weights)
    return rows
