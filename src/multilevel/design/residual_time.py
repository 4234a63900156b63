"""Time of residual structures: occasions, whole steps, lags.

Structures that count steps (``ar1``, ``toep``, ...) take as one step the greatest common divisor
of the gaps between all time values, so a missed occasion is a gap of two steps and not a shift.
Categories of time stand at their position in the order of all categories that occur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.variables import Values
from multilevel.errors import DesignError
from multilevel.model.residual import CONTINUOUS, HETEROGENEOUS, STEPPED, ResidualTerm

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MAX_OCCASIONS = 60
MAX_STEPS = 100_000
_ROUNDING = 1e-6


def positions(
    term: ResidualTerm | None, n: int, take: Callable[[str], Values]
) -> tuple[Array, TimeScale]:
    """Coordinates (n, d) and the scale that they were learnt with."""
    if term is None or not term.coordinates:
        return np.zeros((n, 1)), TimeScale()
    values = [_as_time(take(name), name, term) for name in term.coordinates]
    raw = np.column_stack([v for v, _ in values])
    labels: tuple[str, ...] = ()
    distinct, origin, step = np.zeros(0), 0.0, float("nan")
    if term.structure in HETEROGENEOUS:
        distinct = np.unique(raw[:, 0])
        if len(distinct) > MAX_OCCASIONS:
            raise DesignError(
                f"{term.structure} has parameters for every occasion, at most {MAX_OCCASIONS}.",
                f"{len(distinct)} distinct values of {term.coordinates[0]}",
                "use the number of the visit as time, or car1(time | id)",
            )
        names = values[0][1]
        labels = tuple(names[int(d)] if names else f"{d:g}" for d in distinct)
    if term.structure in STEPPED:
        origin = float(raw.min())
        step = common_step(raw[:, 0], term.structure, term.coordinates[0], term.group, term.order)
    scale = TimeScale(values[0][1], labels, distinct, origin, step)
    return scale.place(raw, term.structure)[0], scale


def new_positions(
    term: ResidualTerm, scale: TimeScale, values: list[Values]
) -> tuple[Array, NDArray[np.bool_]]:
    """Coordinates (n, d) of new rows, and which of them have a place on the learnt scale."""
    return scale.place(raw_times(term, scale, values), term.structure)


def raw_times(term: ResidualTerm, scale: TimeScale, values: list[Values]) -> Array:
    """Times of new rows as numbers (n, d); NaN for a category that was not learnt."""
    raw = []
    for name, column in zip(term.coordinates, values, strict=True):
        if isinstance(column, pd.Categorical) and scale.categories:
            codes = pd.Index(scale.categories).get_indexer(pd.Index(np.asarray(column, dtype=str)))
            raw.append(np.where(codes >= 0, codes, np.nan).astype(np.float64))
        elif isinstance(column, pd.Categorical) or scale.categories:
            raise DesignError(
                "Time must be of the same kind as in the data of the model.",
                f"{name} is of another kind",
                f"convert {name} before predicting",
            )
        else:
            raw.append(column.astype(np.float64))
    return np.column_stack(raw)


@dataclass(frozen=True)
class TimeScale:
    """How values of time become coordinates.

    Attributes
    ----------
    categories : labels of a time that is categories, in order.
    occasions : labels of the occasions of heterogeneous structures; ``distinct`` their times.
    origin, step : of structures that count steps (``step`` is NaN elsewhere).
    """

    categories: tuple[str, ...] = ()
    occasions: tuple[str, ...] = ()
    distinct: Array = field(default_factory=lambda: np.zeros(0))
    origin: float = 0.0
    step: float = float("nan")

    def occasion(self, time: Array) -> tuple[IntArray, NDArray[np.bool_]]:
        """Occasion of each time (n,), and whether it is one."""
        place = np.searchsorted(self.distinct, time).clip(0, max(len(self.distinct) - 1, 0))
        return place, self.distinct[place] == time

    def place(self, raw: Array, structure: str) -> tuple[Array, NDArray[np.bool_]]:
        """Coordinates of raw times (n, d), and which have a place."""
        if structure in ("un", "fa"):
            place, known = self.occasion(raw[:, 0])
            return place[:, None].astype(np.float64), known
        if not np.isfinite(self.step):
            return raw, np.asarray(np.isfinite(raw).all(axis=1))
        steps = (raw - self.origin) / self.step
        whole = np.rint(steps)
        return whole, np.asarray((np.abs(steps - whole) < 1e-3).all(axis=1))


def _as_time(values: Values, name: str, term: ResidualTerm) -> tuple[Array, tuple[str, ...]]:
    """Time as numbers; categories as positions with their labels."""
    if isinstance(values, pd.Categorical):
        if term.structure in CONTINUOUS:
            raise DesignError(
                f"{term.structure} needs distances in time.",
                f"{name} holds categories",
                "give the time as a number, or use ar1",
            )
        return values.codes.astype(np.float64), tuple(map(str, values.categories))
    return values.astype(np.float64), ()


def common_step(
    time: Array, structure: str, name: str, group: str, order: int, prefix: str = ""
) -> float:
    """Greatest common divisor of the gaps between the distinct times of column ``name``.

    ``order`` : band of ``toep``; ``prefix`` : what stands before the name in a formula.

    Raises
    ------
    DesignError : one time only, no common step, or more lags than ``toep`` has room for.
    """
    distinct = np.unique(time)
    if len(distinct) < 2:
        raise DesignError(
            "A structure in time needs at least two times.",
            f"{name} has one value, {distinct[0]:g}",
            "check the column of time",
        )
    gaps = np.diff(distinct)
    limit = _ROUNDING * float(gaps.max())
    step = float(gaps[0])
    for gap in gaps[1:]:
        a, b = max(step, float(gap)), min(step, float(gap))
        while b > limit:
            a, b = b, a % b
            if a - b < limit:  # a remainder just below its divisor is a rounded zero
                b = 0.0
        step = a
    n_steps = float((distinct[-1] - distinct[0]) / step)
    off = np.abs((distinct - distinct[0]) / step - np.rint((distinct - distinct[0]) / step))
    if n_steps > MAX_STEPS or float(off.max()) > 1e-3:
        raise DesignError(
            f"{structure} counts whole steps of time.",
            f"the values of {name} have no common step",
            f"use continuous time: car1({prefix}{name} | {group})",
        )
    if structure in ("toep", "toeph") and not order and n_steps > MAX_OCCASIONS:
        raise DesignError(
            f"toep has a correlation for each lag, at most {MAX_OCCASIONS}.",
            f"{name} spans {n_steps:.0f} steps of {step:g}",
            f"write band=, as in toep({prefix}{name} | {group}, band=3), or use ar1",
        )
    return step


def is_markov(term: ResidualTerm | None, position: Array) -> bool:
    """Whether a row depends on its past through the row before it only."""
    if term is None or term.structure not in ("ar1", "arh1", "car1", "exp"):
        return False
    return bool(position.shape[1] == 1)


def distance(first: Array, second: Array) -> Array:
    """Euclidean distances of places (..., d): (...,)."""
    return np.asarray(np.sqrt(((first - second) ** 2).sum(-1)))


def all_lags(
    position: Array, order: NDArray[np.intp], starts: IntArray, furthest: int
) -> list[Array]:
    """Distinct lags inside units, by difference of rank (no n_j x n_j array is made)."""
    sorted_position, unit = position[order], np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    out = []
    for k in range(1, furthest + 1):
        same = unit[k:] == unit[:-k]
        out.append(np.unique(distance(sorted_position[k:][same], sorted_position[:-k][same])))
    return out
