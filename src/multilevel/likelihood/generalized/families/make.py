"""One door to the row likelihoods of all families."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import ModelError
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.families.category_catalogue import (
    CATEGORY_ROWS,
    category_rows,
)
from multilevel.likelihood.generalized.families.ordered_beta import bounded_rows
from multilevel.likelihood.generalized.families.zero import zero_rows
from multilevel.likelihood.generalized.row import OutcomeDistribution, Response, RowLikelihood
from multilevel.model.families.bounded import BOUNDED
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class FamilyRows(RowLikelihood, OutcomeDistribution, Protocol):
    """Rows that can be fitted, predicted and simulated."""


def make_rows(
    family: Family,
    response: Response,
    order: NDArray[np.intp] | None,
    random: tuple[int, ...],
    *,
    precision_weights: Array | None = None,
    frequency_weights: Array | None = None,
) -> FamilyRows:
    """The row likelihood and outcome distribution of a response.

    Parameters
    ----------
    order : (m,) the rows wanted, in the order wanted; None: all.
    random : the parts that carry random effects.
    precision_weights, frequency_weights : (n,) in the order of ``response``, or None.

    Raises
    ------
    ModelError : precision weights for a family without a dispersion.
    """
    plain = family.name in CATEGORY_ROWS or family.name in BOUNDED
    if precision_weights is not None and plain:
        raise ModelError(
            "Precision weights divide a dispersion; this family has none that they could divide.",
            f"weights= with the {family.label} family",
            "write frequency_weights= for rows that stand for several",
        )
    if family.name in CATEGORY_ROWS:
        return category_rows(family, response, order, random, frequency_weights=frequency_weights)
    if family.name in BOUNDED:
        return bounded_rows(family, response, order, random, frequency_weights=frequency_weights)
    if family.option("zero"):
        return zero_rows(
            family, response, order, random,
            precision_weights=precision_weights, frequency_weights=frequency_weights,
        )  # fmt: skip
    return row_likelihood(
        family, response, order, random,
        precision_weights=precision_weights, frequency_weights=frequency_weights,
    )  # fmt: skip
