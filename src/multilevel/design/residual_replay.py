"""New rows through a learnt residual structure: unit, place and log standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.centring import match_levels
from multilevel.design.encode import replay_columns
from multilevel.design.residual_layout import ResidualLayout, log_square
from multilevel.design.residual_time import new_positions, raw_times
from multilevel.design.variables import Positions, Source, take
from multilevel.errors import DesignError
from multilevel.tables.table import as_table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NewResiduals:
    """Where new rows stand.

    Attributes
    ----------
    units : (n,) unit of each row, -1 for one without data (or without a place in time).
    places : (n, d) coordinates.
    variance_columns : (n, a).
    is_known : (n,) whether the residual variance of the row is known: its category of ``by`` and
        its occasion were observed.
    """

    units: NDArray[np.int64]
    places: Array
    variance_columns: Array
    is_known: NDArray[np.bool_]


def new_residuals(layout: ResidualLayout, data: Any, kept: Positions, means: Array) -> NewResiduals:
    """Lay a residual structure over the rows ``kept`` of a new table.

    ``means`` (n,) of these rows, random effects zero: where the variance is a power of them.

    Raises
    ------
    DesignError : a missing column, a time of another kind, a scale formula with a centred variable.
    """
    source, n, term = Source(as_table(data)), len(kept), layout.term
    if term is None or not term.factors:
        units = np.full(n, -1)
        columns, known = _variances(layout, source, kept, units, means)
        return NewResiduals(units, np.zeros((n, 1)), columns, known)
    source.check([*term.coordinates, *term.factors], term.text)
    codes, levels = source.group_codes(term.factors, kept)
    units = np.append(match_levels(levels, layout.units), -1)[codes]
    if term.coordinates and term.structure != "cs":
        values = [take(source.values(name), kept) for name in term.coordinates]
        places, known = new_positions(term, layout.time, values)
        units = np.where(known, units, -1)
    else:
        places = np.full((n, 1), -1.0)
    return NewResiduals(units, places, *_variances(layout, source, kept, units, means))


def _variances(
    layout: ResidualLayout, source: Source, kept: Positions, units: NDArray[np.int64],
    means: Array,
) -> tuple[Array, NDArray[np.bool_]]:  # fmt: skip
    """Columns of the log variance, the power of the mean last, and whether the cell is known."""
    columns, known = _linear_variances(layout, source, kept, units)
    if layout.has_power_of_mean:
        columns = np.column_stack([columns, log_square(means)])
    return columns, known


def _linear_variances(
    layout: ResidualLayout, source: Source, kept: Positions, units: NDArray[np.int64]
) -> tuple[Array, NDArray[np.bool_]]:
    """Columns of the log variance, and whether the row's cell is known (else the reference)."""
    n, term = len(kept), layout.term
    parts, known = np.zeros((n, 0)), np.ones(n, dtype=bool)
    if term is not None and len(layout.cells) > 1:
        labels, known = _categories(layout, source, kept, units)
        if layout.time.occasions:
            values = take(source.values(term.coordinates[0]), kept)
            raw = raw_times(term, layout.time, [values])[:, 0]
            place, observed = layout.time.occasion(raw)
            known = known & observed
            names = [layout.time.occasions[k] for k in place]
            labels = [f"{g}, {o}" if g else o for g, o in zip(labels, names, strict=True)]
        number = {label: k for k, label in enumerate(layout.cells)}
        cell = np.array([number.get(label, -1) for label in labels], dtype=np.intp)
        known = known & (cell >= 0)
        parts = np.eye(len(layout.cells))[np.maximum(cell, 0)][:, 1:]
    recipe = layout.scale_recipe
    if recipe is None:
        return parts, known
    if recipe.compiled.centring:
        raise DesignError(
            "Predictions from correlated residuals need a scale formula of plain columns.",
            "a centred variable in scale=",
            "centre the variable in the table first",
        )
    source.check([name for _, name in recipe.compiled.columns], "scale=")
    columns = {i: take(source.values(name), kept) for i, name in recipe.compiled.columns}
    matrix = replay_columns(recipe, columns, n, kept)
    keep = [j for j, name in enumerate(recipe.names) if name != "(Intercept)"]
    return np.hstack([parts, matrix[:, keep]]), known


def _categories(
    layout: ResidualLayout, source: Source, kept: Positions, units: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.bool_]]:
    """Category of ``by`` of each row: that of its unit, else what the table says."""
    own = [layout.groups[g] for g in layout.group_of[np.maximum(units, 0)]]
    term = layout.term
    if term is None or term.by is None:
        return own, np.ones(len(kept), dtype=bool)
    if term.by not in source.table.columns:
        return own, units >= 0
    codes, levels = source.group_codes((term.by,), kept)
    told = [str(levels[k]) if k >= 0 else "" for k in codes]
    labels = [a if u >= 0 else b for a, b, u in zip(own, told, units, strict=True)]
    return labels, np.array([label in layout.groups for label in labels], dtype=bool)
