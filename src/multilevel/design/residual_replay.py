"""New rows through a learnt residual structure: unit, place and log standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.centring import match_levels
from multilevel.design.encode import replay_columns
from multilevel.design.residual_layout import ResidualLayout
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
    """

    units: NDArray[np.int64]
    places: Array
    variance_columns: Array


def new_residuals(layout: ResidualLayout, data: Any, kept: Positions) -> NewResiduals:
    """Lay a residual structure over the rows ``kept`` of a new table.

    Raises
    ------
    DesignError : a missing column, a time of another kind, a scale formula with a centred variable.
    """
    source, n, term = Source(as_table(data)), len(kept), layout.term
    if term is None or not term.factors:
        return NewResiduals(np.full(n, -1), np.zeros((n, 1)), np.zeros((n, 0)))
    source.check([*term.coordinates, *term.factors], term.text)
    codes, levels = source.group_codes(term.factors, kept)
    units = np.append(match_levels(levels, layout.units), -1)[codes]
    if term.coordinates and term.structure != "cs":
        values = [take(source.values(name), kept) for name in term.coordinates]
        places, known = new_positions(term, layout.time, values)
        units = np.where(known, units, -1)
    else:
        places = np.full((n, 1), -1.0)
    return NewResiduals(units, places, _variance_columns(layout, source, kept, units))


def _variance_columns(
    layout: ResidualLayout, source: Source, kept: Positions, units: NDArray[np.int64]
) -> Array:
    """Columns of the log variance; rows of unknown units get the reference."""
    n, term = len(kept), layout.term
    if term is None:
        return np.zeros((n, 0))
    labels = [layout.groups[g] for g in layout.group_of[np.maximum(units, 0)]]
    if layout.time.occasions:
        values = take(source.values(term.coordinates[0]), kept)
        place, _ = layout.time.occasion(raw_times(term, layout.time, [values])[:, 0])
        names = [layout.time.occasions[k] for k in place]
        labels = [f"{g}, {o}" if g else o for g, o in zip(labels, names, strict=True)]
    known = {label: k for k, label in enumerate(layout.cells)}
    cell = np.array([known.get(label, 0) for label in labels], dtype=np.intp)
    parts = np.eye(len(layout.cells))[cell][:, 1:]
    recipe = layout.scale_recipe
    if recipe is None:
        return parts
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
    return np.hstack([parts, matrix[:, keep]])
