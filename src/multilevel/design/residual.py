"""A residual structure laid over the rows: units, order in time, lags, variance columns.

Rows of a unit are ordered by the value of time, not by their position (see ``residual_time``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.encode import learn_columns
from multilevel.design.rank import find_dependent
from multilevel.design.recipe import LearntColumns
from multilevel.design.residual_checks import check_distinct, check_pairs
from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.residual_time import MAX_OCCASIONS, all_lags, is_markov, positions
from multilevel.design.variables import Positions, Source, Values
from multilevel.errors import DesignError
from multilevel.model.covariance.correlation import CorrelationMap
from multilevel.model.formula.compile import Compiled, compile_columns
from multilevel.model.residual import ResidualTerm
from multilevel.model.scale_power import POWER_OF_MEAN, split_power

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class _Workbench:
    source: Source
    kept: Positions | None
    n: int
    columns: Callable[[Compiled], dict[str, Values]]
    take: Callable[[str], Values]


def scale_part(scale: str | None) -> Compiled | None:
    """The compiled model for the log residual variance."""
    rest = None if scale is None else split_power(scale)[0]
    return None if rest is None else compile_columns(rest)


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
    position, time = positions(term, n, take)
    occasions = time.occasions
    order = np.lexsort((*position.T[::-1], codes)) if term is not None else np.arange(n)
    counts = np.bincount(codes, minlength=len(units))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if term is not None and term.structure not in ("ind", "cs"):
        check_distinct(term, position, codes, order, units, kept)
    by_codes, groups = _categories(term, bench)
    group_of = _unit_groups(term, by_codes, codes, units)
    rest, has_power = (None, False) if scale is None else split_power(scale)
    matrix, names, cells, recipe = _variance_columns(rest, bench, by_codes, groups, occasions,
                                              position)  # fmt: skip
    if has_power:  # zeros until the means are estimated: see ResidualLayout.with_means
        matrix, names = np.column_stack([matrix, np.zeros(n)]), (*names, POWER_OF_MEAN)
    maps = _maps(term, position, codes, order, starts, group_of, groups, occasions)
    return ResidualLayout(
        term, order, starts, units, codes, position, maps, group_of, groups, matrix, names,
        time, weights, _sentence(term, scale, time.step, len(units)), cells, recipe,
    )  # fmt: skip


def _unit_codes(
    term: ResidualTerm | None, bench: _Workbench
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    if term is None or not term.factors:
        return np.arange(bench.n, dtype=np.int32), np.arange(bench.n)
    return bench.source.group_codes(term.factors, bench.kept)


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
    scale: str | None, bench: _Workbench, by_codes: NDArray[np.int32],
    groups: tuple[str, ...], occasions: tuple[str, ...], position: Array,
) -> tuple[Array, tuple[str, ...], tuple[str, ...], LearntColumns | None]:  # fmt: skip
    """Columns of the log variance without its constant, their names, all cells, the encoding."""
    parts: list[Array] = []
    names: list[str] = []
    place = by_codes.astype(np.int64)
    labels = list(groups)
    if occasions:
        time = np.unique(position[:, 0], return_inverse=True)[1]
        place = place * len(occasions) + time
        labels = [f"{g}, {o}" if g else o for g in groups for o in occasions]
    present = np.unique(place)
    cells = tuple(labels[int(cell)] for cell in present)
    for cell, label in zip(present[1:], cells[1:], strict=True):
        parts.append((place == cell).astype(np.float64))
        names.append(label)
    recipe = None
    if scale is not None:
        compiled = compile_columns(scale)
        matrix, recipe = learn_columns(compiled, bench.columns(compiled), bench.n, bench.kept)
        for j, name in enumerate(recipe.names):
            if name != "(Intercept)":
                parts.append(matrix[:, j])
                names.append(name)
    if not parts:
        return np.zeros((bench.n, 0)), (), cells, recipe
    columns = np.column_stack(parts)
    whole = np.column_stack([np.ones(bench.n), columns])
    dependent = find_dependent(np.asfortranarray(whole), ("(Intercept)", *names)).dropped
    if dependent:
        raise DesignError(
            "Every column of the model for the residual variance must add something.",
            "; ".join(dependent.values()),
            "leave these terms out of scale= or residual=",
        )
    return columns, tuple(names), cells, recipe


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
        check_pairs(term, position, codes, starts, occasions, group_of, groups)
        return tuple(CorrelationMap(term.structure, np.zeros(0), occasions, term.order)
                     for _ in groups)  # fmt: skip
    if term.structure in ("cs", "csh"):
        lags = np.array([0.0, 1.0])
    else:
        furthest = 1 if is_markov(term, position) else largest - 1
        found = all_lags(position, order, starts, furthest)
        lags = np.unique(np.concatenate([[0.0], *found]))
    unit = float(np.median(lags[1:])) if len(lags) > 1 else 1.0
    return tuple(
        CorrelationMap(term.structure, lags, (), term.order, largest, unit) for _ in groups
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
