"""Units above the second level of a structural model: who belongs to whom, and their own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError
from multilevel.model.structural.records import StructuralModel
from multilevel.tables.levels import combine_codes
from multilevel.tables.table import Table

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Labelled = tuple[NDArray[np.int32], NDArray[np.object_]]


@dataclass(frozen=True)
class UpperUnits:
    """Units of one level above the second, in one group.

    Attributes
    ----------
    name : column of the units.
    codes : (J,) unit of each unit one level below, 0..K-1.
    z : (K, p_z) observed variables of this level only, NaN where missing.
    labels : (K,) labels of the units.
    """

    name: str
    codes: Codes
    z: Array
    labels: NDArray[np.object_]


def nested_codes(table: Table, clusters: Sequence[str]) -> list[Labelled]:
    """Codes and labels of the rows at each level; a unit is what is inside one unit above.

    Parameters
    ----------
    clusters : columns from the second level upwards.
    """
    out = []
    for k in range(len(clusters)):
        parts = [table.codes(name) for name in reversed(clusters[k:])]
        codes, labels = combine_codes(parts) if len(parts) > 1 else parts[0]
        out.append((codes, labels.astype(object)))
    return out


def repeat_notes(table: Table, clusters: Sequence[str], levels: Sequence[Labelled]) -> list[str]:
    """Say where the same label stands in several higher units, so that it means several units."""
    out = []
    for k, name in enumerate(clusters[:-1]):
        n_labels, n_units = len(table.codes(name)[1]), len(levels[k][1])
        if n_units > n_labels:
            out.append(
                f"Labels of {name} repeat across {clusters[k + 1]}: {n_labels} labels, {n_units}"
                f" units. The same label in two units of {clusters[k + 1]} is taken as two units."
            )
    return out


def upper_units(
    model: StructuralModel,
    levels: Sequence[Labelled],
    columns: Mapping[str, Array],
    rows: Codes,
    lower_values: Mapping[str, Array],
    where: str,
) -> tuple[UpperUnits, ...]:
    """The units above the second level of one group.

    Parameters
    ----------
    levels : codes and labels of all rows of the table, from the second level upwards.
    columns : variables of the model by row of the table.
    rows : rows of the group.
    lower_values : (J,) values of the observed variables of the second level only.
    where : the group, in words.

    Raises
    ------
    DesignError : a variable of a level that varies inside its units or not at all, or a level whose
        units hold one unit below each.
    """
    out: list[UpperUnits] = []
    below = np.unique(levels[0][0][rows], return_inverse=True)[1].ravel()
    known = dict(lower_values)
    for k, high in enumerate(model.higher):
        codes, labels = levels[k + 1]
        used, compact = np.unique(codes[rows], return_inverse=True)
        unit = np.zeros(int(below.max()) + 1, dtype=np.intp)
        unit[below] = compact.ravel()
        if len(used) == len(unit):
            raise DesignError(
                f"Some units of {high.name} hold two units of {model.clusters[k]} or more.",
                f"every {high.name} has one{where}",
                f"leave {model.clusters[k]} or {high.name} out of cluster",
            )
        for name in high.parts:
            if name in known:
                _check_inside(name, known[name], unit, high.name, model.clusters[k], where)
        values = [
            _unit_values(n, columns[n][rows], compact.ravel(), labels[used], high.name)
            for n in high.only
        ]
        for name, own in zip(high.only, values, strict=True):
            _check_not_constant(name, own, where)
        z = np.column_stack(values) if values else np.zeros((len(used), 0))
        out.append(UpperUnits(high.name, unit, z, labels[used]))
        known = dict(zip(high.only, values, strict=True))
        below = compact.ravel()
    return tuple(out)


def _check_not_constant(name: str, values: Array, where: str) -> None:
    seen = values[~np.isnan(values)]
    if not len(seen) or float(np.ptp(seen)) == 0.0:
        raise DesignError("Every variable varies.", f"{name!r} has one value{where}",
                          "leave it out")  # fmt: skip


def _check_inside(
    name: str, values: Array, unit: Codes, upper: str, lower: str, where: str
) -> None:
    """Refuse a variable with parts at two levels that is the same in all units of the lower."""
    known = ~np.isnan(values)
    n = np.bincount(unit[known], minlength=int(unit.max()) + 1)
    total = np.bincount(unit[known], values[known], minlength=len(n))
    mean = total / np.maximum(n, 1)
    gap = np.abs(values[known] - mean[unit[known]])
    if float(gap.max(initial=0.0)) <= 1e-12 * float(np.ptp(values[known])):
        raise DesignError(
            f"A variable that is named at the {lower} level varies within {upper}.",
            f"{name!r} has one value in every {upper}{where}",
            f"name {name} at the {upper} level only",
        )


def _unit_values(
    name: str, values: Array, codes: Codes, labels: NDArray[np.object_], level: str
) -> Array:
    """(K,) the value of a variable in each unit, NaN where all rows miss it."""
    out = np.full(len(labels), np.nan)
    known = ~np.isnan(values)
    out[codes[known]] = values[known]
    differs = known & (values != out[codes])
    if np.any(differs):
        label = labels[codes[int(np.flatnonzero(differs)[0])]]
        raise DesignError(
            f"A variable that is named at the {level} level only has one value per {level}.",
            f"{name!r} has several values in {level} {label!r}",
            f"name it at the levels below too, e.g. {name} ~~ {name}: its part at {level} is then"
            " latent",
        )
    return out
