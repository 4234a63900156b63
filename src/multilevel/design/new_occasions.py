"""New times under a structure of random effects in time: which rows, and where they stand.

``ar1(0 + time | g)`` has a column for each time of the data. A row at another time has no column;
its effect is predicted from those of the known times once the correlations are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.recipe import LearntColumns
from multilevel.design.records import RandomBlock
from multilevel.design.variables import Values
from multilevel.errors import DesignError
from multilevel.model.covariance.curves import HOMOGENEOUS, STEPPED, TIMED, Curve

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NewOccasions:
    """Rows of a new table at times that a term has not seen.

    Attributes
    ----------
    term : number of the term in its block.
    rows : (m,) positions among the new rows.
    positions : (m,) their places on the scale of ``Curve.positions``.
    """

    term: int
    rows: NDArray[np.intp]
    positions: Array


def without_new(
    learnt: LearntColumns, found: dict[str, Values], block: RandomBlock | None, number: int
) -> tuple[dict[str, Values], NewOccasions | None]:
    """The variables of a term with known times in place of new ones, and where those stood.

    Parameters
    ----------
    block : the block of the design; None leaves new times for the encoding to refuse.

    Raises
    ------
    DesignError : a structure whose occasions have variances of their own, or a time between steps.
    """
    curve = None if block is None else block.structure.curve(number)
    if block is None or curve is None or curve.structure not in TIMED or not curve.times:
        return found, None
    identifier, name = learnt.compiled.columns[0]
    values = found[identifier]
    if isinstance(values, pd.Categorical) or len(values) == 0:
        return found, None
    times = np.asarray(values, dtype=np.float64)
    rows = np.flatnonzero(~np.isin(times, curve.times))
    if len(rows) == 0:
        return found, None
    places = _places(curve, name, block.group, times[rows])
    known = times.copy()
    known[rows] = curve.times[0]
    return {**found, identifier: known}, NewOccasions(number, rows, places)


def _places(curve: Curve, name: str, group: str, times: Array) -> Array:
    if curve.structure not in HOMOGENEOUS:
        raise DesignError(
            f"{curve.structure} predicts at the occasions of the data: each has a variance of its "
            "own.",
            f"{name} = {times[0]:g}",
            f"fit {curve.structure.replace('arh1', 'ar1').replace('toeph', 'toep')}(0 + {name} | "
            f"{group}), which has one variance, or leave these rows out",
        )
    if curve.structure not in STEPPED:
        return times
    places: Array = (times - curve.times[0]) / curve.step
    whole = np.rint(places)
    off = np.flatnonzero(np.abs(places - whole) > 1e-6)
    if len(off):
        raise DesignError(
            f"{curve.structure} counts whole steps of {curve.step:g} in {name}.",
            f"{name} = {times[off[0]]:g} stands between two of them",
            f"fit car1(0 + {name} | {group}), which has every time between, or leave the rows out",
        )
    return np.asarray(whole)
