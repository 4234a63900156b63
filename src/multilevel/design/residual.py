"""A residual structure laid over the rows: units, order in time, lags, variance columns.

Rows of a unit are ordered by the value of time. Structures that count steps (``ar1``, ``toep``,
...) take as one step the greatest common divisor of the gaps between all time values, so a missed
occasion is a gap of two steps and not a shift. Categories of time stand at their position in the
order of all categories that occur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.encode import learn_columns, replay_columns
from multilevel.design.rank import find_dependent
from multilevel.design.recipe import LearntColumns
from multilevel.design.variables import Positions, Source, Values, row_words
from multilevel.errors import DesignError
from multilevel.model.covariance.correlation import CorrelationMap
from multilevel.model.formula.compile import Compiled, compile_columns
from multilevel.model.residual import CONTINUOUS, HETEROGENEOUS, STEPPED, ResidualTerm

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MAX_OCCASIONS = 60
MAX_STEPS = 100_000
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ResidualLayout:
    """Where each row stands in the residual covariance matrix of its unit.

    ``log variance = log sigma2 + variance_columns @ alpha - log weight``; correlations by
    ``maps``, one for each category of ``by``.

    Attributes
    ----------
    term : the structure; None where only the variance is modelled.
    order : (n,) analysed rows sorted by unit, then time.
    starts : (J + 1,) first sorted row of each unit.
    units : (J,) labels; row positions where every row is its own unit.
    codes : (n,) unit of each analysed row.
    position : (n, d) coordinates (whole steps for stepped structures, the occasion for ``un``
        and ``fa``), unsorted.
    maps : correlation structure of each category of ``by``.
    group_of : (J,) category of each unit.
    groups : labels of the categories of ``by`` ("" where there are none).
    variance_columns : (n, a), unsorted; ``variance_names`` their names.
    occasions : labels of the occasions of heterogeneous structures.
    step : length of one step in units of time; NaN where none is counted.
    weights : (n,) precision weights or None.
    sentence : the structure in words.
    scale_recipe : encoding of the scale columns, for new rows.
    """

    term: ResidualTerm | None
    order: NDArray[np.intp]
    starts: IntArray
    units: NDArray[Any]
    codes: NDArray[np.int32]
    position: Array
    maps: tuple[CorrelationMap, ...]
    group_of: IntArray
    groups: tuple[str, ...]
    variance_columns: Array
    variance_names: tuple[str, ...]
    occasions: tuple[str, ...]
    step: float
    weights: Array | None
    sentence: str
    scale_recipe: LearntColumns | None = None

    @property
    def has_correlation(self) -> bool:
        """Whether rows of one unit may be correlated."""
        return any(m.n_parameters for m in self.maps)

    @property
    def n_parameters(self) -> int:
        """Variance and correlation parameters, without sigma2."""
        return len(self.variance_names) + sum(m.n_parameters for m in self.maps)


@dataclass(frozen=True)
class _Workbench:
    source: Source
    kept: Positions | None
    n: int
    columns: Callable[[Compiled], dict[str, Values]]
    take: Callable[[str], Values]


def scale_part(scale: str | None) -> Compiled | None:
    """The compiled model for the log residual variance."""
    return None if scale is None else compile_columns(scale)


def residual_layout(
    term: ResidualTerm | None,
    scale: str | None,
    source: Source,
    kept: Positions | None,
    n: int,
    columns: Callable[[Compiled], dict[str, Values]],
    take: Callable[[str], Values],
    weights: Array | None,
) -> ResidualLayout:
    """Lay a residual structure and a scale formula over the analysed rows.

    Parameters
    ----------
    term, scale : the structure and the right-hand side of ``scale=``; at least one is given.
    source, kept, n, columns, take : the rows, as ``build_design`` holds them.
    weights : (n,) precision weights or None.

    Raises
    ------
    DesignError : two rows of one unit at the same time, a category of ``by`` that changes inside
        a unit, times without a common step, too many occasions, scale columns that repeat others.
    """
    bench = _Workbench(source, kept, n, columns, take)
    codes, units = _unit_codes(term, bench)
    position, occasions, step = _positions(term, bench)
    order = np.lexsort((*position.T[::-1], codes)) if term is not None else np.arange(n)
    counts = np.bincount(codes, minlength=len(units))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if term is not None and term.structure not in ("ind", "cs"):
        _check_distinct(term, position, codes, order, units, kept)
    by_codes, groups = _categories(term, bench)
    group_of = _unit_groups(term, by_codes, codes, units)
    matrix, names, recipe = _variance_columns(term, scale, bench, by_codes, groups, occasions,
                                              position)  # fmt: skip
    maps = _maps(term, position, codes, order, starts, group_of, groups, occasions)
    return ResidualLayout(
        term, order, starts, units, codes, position, maps, group_of, groups, matrix, names,
        occasions, step, weights, _sentence(term, scale, step, len(units)), recipe,
    )  # fmt: skip


def _unit_codes(
    term: ResidualTerm | None, bench: _Workbench
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    if term is None or not term.factors:
        return np.arange(bench.n, dtype=np.int32), np.arange(bench.n)
    return bench.source.group_codes(term.factors, bench.kept)


def _positions(
    term: ResidualTerm | None, bench: _Workbench
) -> tuple[Array, tuple[str, ...], float]:
    """Coordinates (n, d), labels of occasions, and the length of a step."""
    if term is None or not term.coordinates:
        return np.zeros((bench.n, 1)), (), float("nan")
    values = [_as_time(bench.take(name), name, term) for name in term.coordinates]
    raw = np.column_stack([v for v, _ in values])
    step = float("nan")
    labels: tuple[str, ...] = ()
    if term.structure in HETEROGENEOUS:
        distinct, place = np.unique(raw[:, 0], return_inverse=True)
        if len(distinct) > MAX_OCCASIONS:
            raise DesignError(
                f"{term.structure} has parameters for every occasion, at most {MAX_OCCASIONS}.",
                f"{len(distinct)} distinct values of {term.coordinates[0]}",
                "use the number of the visit as time, or car1(time | id)",
            )
        names = values[0][1]
        labels = tuple(names[int(d)] if names else f"{d:g}" for d in distinct)
        if term.structure in ("un", "fa"):
            return place[:, None].astype(np.float64), labels, step
    if term.structure in STEPPED:
        step = _common_step(raw[:, 0], term)
        raw = np.rint((raw - raw.min()) / step)
    return raw, labels, step


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


def _common_step(time: Array, term: ResidualTerm) -> float:
    """Greatest common divisor of the gaps between the distinct times."""
    distinct = np.unique(time)
    if len(distinct) < 2:
        raise DesignError(
            "A structure in time needs at least two times.",
            f"{term.coordinates[0]} has one value, {distinct[0]:g}",
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
            f"{term.structure} counts whole steps of time.",
            f"the values of {term.coordinates[0]} have no common step",
            f"use continuous time: car1({term.coordinates[0]} | {term.group})",
        )
    if term.structure in ("toep", "toeph") and not term.order and n_steps > MAX_OCCASIONS:
        raise DesignError(
            f"toep has a correlation for each lag, at most {MAX_OCCASIONS}.",
            f"{term.coordinates[0]} spans {n_steps:.0f} steps of {step:g}",
            f"write band=, as in toep({term.coordinates[0]} | {term.group}, band=3), or use ar1",
        )
    return step


def _check_distinct(
    term: ResidualTerm, position: Array, codes: NDArray[np.int32], order: NDArray[np.intp],
    units: NDArray[Any], kept: Positions | None,
) -> None:  # fmt: skip
    """Refuse two rows of one unit at the same place."""
    same = codes[order[1:]] == codes[order[:-1]]
    same &= (position[order[1:]] == position[order[:-1]]).all(axis=1)
    hits = np.flatnonzero(same)
    if len(hits):
        pair = order[hits[0] : hits[0] + 2]
        rows = np.sort(pair if kept is None else kept[pair])
        raise DesignError(
            f"{term.text}: each row of a unit needs a time of its own.",
            f"{term.group} {units[codes[pair[0]]]} has the same {', '.join(term.coordinates)} in"
            f" {row_words(rows)}",
            "correct the column of time, or name the finer unit right of the bar",
        )


def _categories(
    term: ResidualTerm | None, bench: _Workbench
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if term is None or term.by is None:
        return np.zeros(bench.n, dtype=np.int32), ("",)
    codes, levels = bench.source.group_codes((term.by,), bench.kept)
    if len(levels) > MAX_OCCASIONS:
        raise DesignError(
            f"by= gives each category its own parameters, at most {MAX_OCCASIONS}.",
            f"{term.by} has {len(levels)} values",
            'model the variance by a number with scale="~ x"',
        )
    return codes, tuple(map(str, levels))


def _unit_groups(
    term: ResidualTerm | None, by_codes: NDArray[np.int32], codes: NDArray[np.int32],
    units: NDArray[Any],
) -> IntArray:  # fmt: skip
    """Category of each unit."""
    out = np.zeros(len(units), dtype=np.int64)
    out[codes] = by_codes
    changed = np.flatnonzero(out[codes] != by_codes)
    if len(changed) and term is not None:
        raise DesignError(
            "by= needs a column that is constant inside each unit.",
            f"{term.by} changes inside {term.group} {units[codes[changed[0]]]}",
            f'write scale="~ {term.by}" for variances that change inside a unit',
        )
    return out


def _variance_columns(
    term: ResidualTerm | None, scale: str | None, bench: _Workbench, by_codes: NDArray[np.int32],
    groups: tuple[str, ...], occasions: tuple[str, ...], position: Array,
) -> tuple[Array, tuple[str, ...], LearntColumns | None]:  # fmt: skip
    """Columns of the log variance, without its constant."""
    parts: list[Array] = []
    names: list[str] = []
    place = by_codes.astype(np.int64)
    labels = [g for g in groups]
    if occasions:
        time = np.unique(position[:, 0], return_inverse=True)[1]
        place = place * len(occasions) + time
        labels = [f"{g}, {o}" if g else o for g in groups for o in occasions]
    present = np.unique(place)
    for cell in present[1:]:
        parts.append((place == cell).astype(np.float64))
        names.append(labels[int(cell)])
    recipe = None
    if scale is not None:
        compiled = compile_columns(scale)
        matrix, recipe = learn_columns(compiled, bench.columns(compiled), bench.n, bench.kept)
        for j, name in enumerate(recipe.names):
            if name != "(Intercept)":
                parts.append(matrix[:, j])
                names.append(name)
    if not parts:
        return np.zeros((bench.n, 0)), (), recipe
    columns = np.column_stack(parts)
    whole = np.column_stack([np.ones(bench.n), columns])
    dependent = find_dependent(np.asfortranarray(whole), ("(Intercept)", *names)).dropped
    if dependent:
        raise DesignError(
            "Every column of the model for the residual variance must add something.",
            "; ".join(dependent.values()),
            "leave these terms out of scale= or residual=",
        )
    return columns, tuple(names), recipe


def _maps(
    term: ResidualTerm | None, position: Array, codes: NDArray[np.int32],
    order: NDArray[np.intp], starts: IntArray, group_of: IntArray, groups: tuple[str, ...],
    occasions: tuple[str, ...],
) -> tuple[CorrelationMap, ...]:  # fmt: skip
    """One correlation map for each category of ``by``, over the lags that occur anywhere."""
    if term is None or term.structure in ("ind", "diag"):
        return ()
    largest = int(np.diff(starts).max())
    if largest < 2:
        raise DesignError(
            "A residual correlation needs units with several rows.",
            f"every {term.group} has one row",
            "leave out residual=, or name the coarser unit",
        )
    if term.structure in ("un", "fa"):
        if len(occasions) < 2:
            raise DesignError("At least two occasions are needed.", "one", "check the time column")
        _check_pairs(term, position, codes, order, starts, occasions, group_of, groups)
        return tuple(CorrelationMap(term.structure, np.zeros(0), occasions, term.order)
                     for _ in groups)  # fmt: skip
    if term.structure in ("cs", "csh"):
        lags = np.array([0.0, 1.0])
    else:
        furthest = 1 if is_markov(term, position) else largest - 1
        found = _all_lags(position, order, starts, furthest)
        lags = np.unique(np.concatenate([[0.0], *found]))
    unit = float(np.median(lags[1:])) if len(lags) > 1 else 1.0
    return tuple(
        CorrelationMap(term.structure, lags, (), term.order, largest, unit) for _ in groups
    )


def is_markov(term: ResidualTerm | None, position: Array) -> bool:
    """Whether a row depends on its past through the row before it only."""
    if term is None or term.structure not in ("ar1", "arh1", "car1", "exp"):
        return False
    return position.shape[1] == 1


def distance(first: Array, second: Array) -> Array:
    """Euclidean distances of places (..., d): (...,)."""
    return np.asarray(np.sqrt(((first - second) ** 2).sum(-1)))


def _all_lags(
    position: Array, order: NDArray[np.intp], starts: IntArray, furthest: int
) -> list[Array]:
    """Distinct lags inside units, by difference of rank (no n_j x n_j array is made)."""
    sorted_position, unit = position[order], np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    out = []
    for k in range(1, furthest + 1):
        same = unit[k:] == unit[:-k]
        out.append(np.unique(distance(sorted_position[k:][same], sorted_position[:-k][same])))
    return out


def _check_pairs(
    term: ResidualTerm, position: Array, codes: NDArray[np.int32], order: NDArray[np.intp],
    starts: IntArray, occasions: tuple[str, ...], group_of: IntArray, groups: tuple[str, ...],
) -> None:  # fmt: skip
    """Refuse correlations of occasions that no unit has both of (``un``)."""
    if term.structure != "un":
        return
    T = len(occasions)
    for g, label in enumerate(groups):
        present = np.zeros((len(starts) - 1, T))
        present[codes, position[:, 0].astype(np.intp)] = 1.0
        both = present[group_of == g].T @ present[group_of == g]
        rows, columns = np.nonzero(both == 0.0)
        if len(rows):
            where = f" with {term.by} = {label}" if label else ""
            raise DesignError(
                "An unstructured correlation needs units that have both occasions.",
                f"no {term.group}{where} has {occasions[columns[0]]} and {occasions[rows[0]]}",
                "use ar1, toep or car1, or leave these occasions out",
            )


def _sentence(term: ResidualTerm | None, scale: str | None, step: float, n_units: int) -> str:
    parts = []
    if term is not None:
        where = f" within {n_units} units of {term.group}" if term.factors else ""
        apart = f", separately by {term.by}" if term.by else ""
        parts.append(f"Residuals: {term.title}{where}{apart}.")
        if np.isfinite(step):
            parts.append(f"One step of {term.coordinates[0]} is {step:g}.")
    if scale is not None:
        parts.append(f"The log of the residual variance depends on {scale}.")
    return " ".join(parts)


def scale_columns_of(
    recipe: LearntColumns, columns: Mapping[str, Values], n: int, kept: Positions | None
) -> Array:
    """Scale columns of new rows, without the constant."""
    matrix = replay_columns(recipe, dict(columns), n, kept)
    keep = [j for j, name in enumerate(recipe.names) if name != "(Intercept)"]
    return matrix[:, keep]
