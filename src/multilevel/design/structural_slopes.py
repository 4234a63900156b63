"""Rows for random slopes: the predictor must be seen, and must vary within clusters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError
from multilevel.model.structural.records import StructuralModel
from multilevel.model.structural.slopes import downstream

Array = NDArray[np.float64]


def blank_downstream(
    model: StructuralModel, columns: Mapping[str, Array], rows: NDArray[np.intp]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Take out what depends on a missing predictor with a random slope.

    A row that misses x says nothing in closed form about ``y = s_j x + ...``: given s_j, y would
    have a variance of its own in every cluster. The other variables of the row stay. Right if x is
    missing at random given these others.

    Returns
    -------
    columns : with NaN in the rows concerned.
    notes : one sentence for each slope that lost values.
    """
    out = dict(columns)
    notes = []
    for slope in model.random_slopes:
        gone = np.zeros(len(columns[slope.predictor]), dtype=np.bool_)
        gone[rows] = np.isnan(out[slope.predictor][rows])
        lost = 0
        for name in sorted(downstream(model, slope.outcome)):
            if name not in out:
                continue
            mine = gone & ~np.isnan(out[name])
            lost += int(mine.sum())
            out[name] = np.where(gone, np.nan, out[name])
        if lost:
            notes.append(
                f"{lost} values of {slope.outcome} and what depends on it are left out in the"
                f" {int(gone.sum())} rows that miss {slope.predictor}, the predictor of the random"
                f" slope {slope.name}: right if {slope.predictor} is missing at random given the"
                " other variables of the row."
            )
    return out, tuple(notes)


def check_slope_predictors(
    model: StructuralModel, y: Array, codes: NDArray[np.intp], where: str
) -> None:
    """Refuse predictors of random slopes that do not vary within clusters.

    Parameters
    ----------
    y : (n, p) level-1 variables of one group.
    codes : (n,) cluster of each row.

    Raises
    ------
    DesignError : names the predictor.
    """
    names = model.observed("within")
    for slope in model.random_slopes:
        x, outcome = (y[:, names.index(n)] for n in (slope.predictor, slope.outcome))
        keep = ~np.isnan(x) & ~np.isnan(outcome)
        used = np.unique(codes[keep], return_inverse=True)[1].ravel()
        n = np.bincount(used) if len(used) else np.zeros(0)
        mean = np.bincount(used, x[keep]) / np.maximum(n, 1) if len(used) else np.zeros(0)
        spread = np.abs(x[keep] - mean[used]) if len(used) else np.zeros(1)
        if float(spread.max(initial=0.0)) <= 1e-12 * max(float(np.ptp(x[keep])), 1e-300):
            raise DesignError(
                "The predictor of a random slope varies within clusters.",
                f"{slope.predictor} of {slope.name} has one value in every cluster{where}",
                f"write {slope.outcome} ~ {slope.predictor} at the between level",
            )
        several = np.bincount(used)
        if int(several.max(initial=0)) < 3:
            raise DesignError(
                "A random slope beside a random intercept needs clusters of three rows or more.",
                f"the largest cluster that sees {slope.outcome} and {slope.predictor} has"
                f" {int(several.max(initial=0))}{where}",
                f"make the slope fixed: {slope.outcome} ~ {slope.predictor}",
            )
