"""Infit and outfit: do items and persons answer as the model expects?

Outfit is the mean of ``z^2 = (y - E)^2 / W``, infit ``sum (y - E)^2 / sum W``, with E and W the
expected score and its variance at the person's place (Wright & Masters 1982, chapter 5). The place
of a person is not known: ``(y - E)^2``, W and z^2 are averaged over a normal approximation of its
posterior. For a model that holds, both mean squares then have expectation 1 (a draw from the
posterior and the response have the joint distribution of the model), which they have not at a
shrunken point estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from multilevel.interpret.irt.curves import tables_of_item
from multilevel.interpret.irt.parameters import ItemParameters

Array = NDArray[np.float64]
Codes = NDArray[np.int32] | NDArray[np.intp]
POINTS = 11
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ResponseMoments:
    """What every response says, averaged over the posterior of its person, (n,) each.

    Attributes
    ----------
    squared : ``(y - E)^2``; variance : W; standardised : ``(y - E)^2 / W``.
    kurtosis : ``E (y - E)^4 / W^2``; fourth : ``E (y - E)^4``.
    """

    squared: Array
    variance: Array
    standardised: Array
    kurtosis: Array
    fourth: Array


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of levels (items or persons), (J,) each.

    Attributes
    ----------
    n : responses.
    infit, outfit : mean squares; expected value 1.
    infit_sd, outfit_sd : their standard deviations under the model, persons known.
    """

    n: Array
    infit: Array
    outfit: Array
    infit_sd: Array
    outfit_sd: Array

    @property
    def infit_range(self) -> tuple[Array, Array]:
        """Where 95% of infit lies if the model holds."""
        half = _Z95 * self.infit_sd
        return np.maximum(1.0 - half, 0.0), 1.0 + half

    @property
    def outfit_range(self) -> tuple[Array, Array]:
        """Where 95% of outfit lies if the model holds."""
        half = _Z95 * self.outfit_sd
        return np.maximum(1.0 - half, 0.0), 1.0 + half


def response_moments(
    parameters: ItemParameters, item: Codes, score: Array, place: Array, spread: Array
) -> ResponseMoments:
    """Moments of every response.

    Parameters
    ----------
    item : (n,) item of each response.
    score : (n,) category number.
    place, spread : (n,) posterior mean and SD of the predictor without the steps (``a theta`` and
        whatever else the model adds for this person and item).
    """
    nodes, weights = hermegauss(POINTS)
    weights = weights / weights.sum()
    out = np.empty((5, len(score)))
    for i in range(len(parameters.items)):
        rows = np.flatnonzero(item == i)
        t = (place[rows, None] + spread[rows, None] * nodes).ravel()
        p = tables_of_item(parameters, i, t).probabilities[0]
        k = np.arange(len(p))[:, None]
        mean = (k * p).sum(axis=0)
        centred = k - mean
        variance = (p * centred**2).sum(axis=0)
        fourth = (p * centred**4).sum(axis=0)
        squared = (np.repeat(score[rows], POINTS) - mean) ** 2
        values = (squared, variance, squared / variance, fourth / variance**2, fourth)
        for j, value in enumerate(values):
            out[j, rows] = value.reshape(len(rows), POINTS) @ weights
    return ResponseMoments(*out)


def mean_squares(moments: ResponseMoments, codes: Codes, n_levels: int) -> MeanSquares:
    """Infit and outfit by level; levels without responses are NaN."""

    def total(values: Array) -> Array:
        return np.bincount(codes, weights=values, minlength=n_levels).astype(np.float64)

    n = np.bincount(codes, minlength=n_levels).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        information = total(moments.variance)
        return MeanSquares(
            n=n,
            infit=total(moments.squared) / information,
            outfit=total(moments.standardised) / n,
            infit_sd=np.sqrt(np.maximum(total(moments.fourth - moments.variance**2), 0.0))
            / information,
            outfit_sd=np.sqrt(np.maximum(total(moments.kurtosis - 1.0), 0.0)) / n,
        )
