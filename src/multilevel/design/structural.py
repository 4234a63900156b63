"""A structural model laid over a table: numbers of rows and of clusters, by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_nested import (
    Labelled,
    UpperUnits,
    nested_codes,
    repeat_notes,
    upper_units,
)
from multilevel.design.structural_slopes import blank_downstream, check_slope_predictors
from multilevel.errors import DesignError
from multilevel.model.structural.records import StructuralModel
from multilevel.tables.table import Table

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Missing = Literal["fiml", "listwise"]
MISSING: tuple[str, ...] = get_args(Missing)


@dataclass(frozen=True)
class StructuralGroup:
    """The numbers of one group.

    Attributes
    ----------
    label : of the group, ``""`` if there is one only.
    y : (n, p) level-1 variables, NaN where missing; those on both levels first.
    codes : (n,) cluster of each row, 0..J-1.
    z : (J, p_z) level-2 variables, NaN where missing.
    clusters : (J,) labels of the clusters; row numbers if there are none.
    rows : (n,) row of the table of each row; empty in resampled groups.
    upper : units of the levels above the second, from below.
    """

    label: str
    y: Array
    codes: Codes
    z: Array
    clusters: NDArray[np.object_]
    rows: Codes = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    upper: tuple[UpperUnits, ...] = ()


@dataclass(frozen=True)
class StructuralDesign:
    """All groups, and what became of the rows.

    Attributes
    ----------
    model : the model.
    groups : one per group.
    n_table, n_rows, n_clusters : rows of the table; rows used; clusters used.
    missing : ``{variable: rows (or clusters, for level-2 variables) in which it is missing}``.
    notes : what a reader should know about the rows, one sentence each.
    n_higher : units used at each level above the second.
    """

    model: StructuralModel
    groups: tuple[StructuralGroup, ...]
    n_table: int
    n_rows: int
    n_clusters: int
    missing: dict[str, int]
    notes: tuple[str, ...]
    n_higher: tuple[int, ...] = ()

    @property
    def n_independent(self) -> int:
        """Units of the highest level: those that the likelihood takes as independent."""
        return self.n_higher[-1] if self.n_higher else self.n_clusters


def group_labels(table: Table, group: str | None) -> tuple[str, ...]:
    """Labels of the groups, in order; ``("",)`` without a group column."""
    if group is None:
        return ("",)
    table.check([group], "as the group")
    return tuple(str(level) for level in table.codes(group)[1].tolist())


def has_missing(
    table: Table, names: Sequence[str], clusters: Sequence[str], upper: Sequence[str]
) -> tuple[str, ...]:
    """Those of ``names`` that have missing values; of ``upper`` ones, units without any.

    Parameters
    ----------
    clusters : columns of the units of ``upper`` and of the levels above, from below.
    """
    table.check([*names, *clusters], "for the structural model")
    out = []
    for name in names:
        values = _numbers(table, name)
        if clusters and name in upper:
            values = _spread(values, nested_codes(table, clusters)[0][0])
        if np.any(np.isnan(values)):
            out.append(name)
    return tuple(out)


def _spread(values: Array, codes: NDArray[np.int32]) -> Array:
    """(n,) a level-2 column with its missing rows filled from other rows of their cluster."""
    known = ~np.isnan(values) & (codes >= 0)
    of_cluster = np.full(int(codes.max(initial=-1)) + 1, np.nan)
    of_cluster[codes[known]] = values[known]
    out = values.copy()
    empty = np.isnan(values) & (codes >= 0)
    out[empty] = of_cluster[codes[empty]]
    return out


def _numbers(table: Table, name: str) -> Array:
    """One numeric column, (n_table,)."""
    if table.kind(name) not in ("numeric", "boolean"):
        raise DesignError(
            "Variables of a structural model are numbers.",
            f"{name!r} is {table.kind(name)}",
            "code categories as 0/1 columns first",
        )
    values: Array = np.asarray(table.column(name), dtype=np.float64)
    if np.any(np.isinf(values)):
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DesignError("Values are finite.", f"{name!r} is infinite in row {row}",
                          "make it missing or correct it")  # fmt: skip
    return values


def build_structural_design(
    model: StructuralModel, table: Table, *, group: str | None = None, missing: Missing = "fiml"
) -> StructuralDesign:
    """Lay a structural model over a table.

    Rows without a cluster or group are left out, with ``"listwise"`` rows that miss any variable
    of the model, and with ``"fiml"`` rows that miss a predictor that is conditioned on.

    Raises
    ------
    TableError : a variable that is not a column.
    DesignError : columns that are not numbers or do not vary, level-2 variables that vary within
        a cluster, clusters in several groups, no cluster with two rows.
    """
    within, between = model.observed("within"), model.observed("between")
    names = tuple(dict.fromkeys((*within, *between, *(n for h in model.higher for n in h.only))))
    table.check([*names, *model.clusters], "for the structural model")
    columns = {name: _numbers(table, name) for name in names}
    levels = _clusters(model, table)
    codes = levels[0][0]
    for own, level in zip(
        (model.between_only, *(h.only for h in model.higher)), levels, strict=True
    ):
        for name in own:
            columns[name] = _spread(columns[name], level[0])
    group_codes = np.zeros(table.n_rows, dtype=np.int32)
    if group is not None:
        group_codes = table.codes(group)[0]
    keep = (codes >= 0) & (group_codes >= 0)
    needed = names if missing == "listwise" else model.fixed_exogenous
    for name in needed:
        keep &= ~np.isnan(columns[name])
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise DesignError("The model needs rows.", "none is left",
                          "look for missing values in " + ", ".join(needed))  # fmt: skip
    columns, blanked = blank_downstream(model, columns, rows)
    groups = []
    for g, label in enumerate(model.groups):
        mine = rows[group_codes[rows] == g]
        groups.append(_group(model, label, columns, levels, mine))
    _check_nesting(model, groups)
    absent = {n: int(np.isnan(columns[n][rows]).sum()) for n in within}
    for position, name in enumerate(model.between_only):
        absent[name] = int(sum(np.isnan(g.z[:, position]).sum() for g in groups))
    for k, high in enumerate(model.higher):
        for position, name in enumerate(high.only):
            absent[name] = int(sum(np.isnan(g.upper[k].z[:, position]).sum() for g in groups))
    return StructuralDesign(
        model=model,
        groups=tuple(groups),
        n_table=table.n_rows,
        n_rows=len(rows),
        n_clusters=sum(len(g.z) for g in groups),
        missing={name: n for name, n in absent.items() if n},
        notes=(
            *_notes(table.n_rows, len(rows), missing),
            *blanked,
            *repeat_notes(table, model.clusters, levels),
        ),
        n_higher=tuple(sum(len(g.upper[k].z) for g in groups) for k in range(len(model.higher))),
    )


def _clusters(model: StructuralModel, table: Table) -> list[Labelled]:
    """Codes and labels of the rows at each level from the second."""
    if not model.cluster:
        rows = np.arange(table.n_rows, dtype=np.int32)
        return [(rows, rows.astype(object))]
    return nested_codes(table, model.clusters)


def _notes(n_table: int, n_rows: int, missing: Missing) -> tuple[str, ...]:
    if n_table == n_rows:
        return ()
    why = "a variable of the model" if missing == "listwise" else "the cluster, the group or a "
    why += "" if missing == "listwise" else "predictor that is conditioned on"
    return (f"{n_table - n_rows} of {n_table} rows are left out: they miss {why}.",)


def _group(
    model: StructuralModel,
    label: str,
    columns: dict[str, Array],
    levels: Sequence[Labelled],
    rows: Codes,
) -> StructuralGroup:
    codes, labels = levels[0]
    where = f" in group {label!r}" if label else ""
    if len(rows) < 2:
        raise DesignError("Every group has rows.", f"{len(rows)}{where}", "leave the group out")
    used, compact = np.unique(codes[rows], return_inverse=True)
    compact = compact.ravel().astype(np.intp)
    if (model.both or model.between_only) and len(used) == len(rows):
        raise DesignError(
            "Some clusters have two rows or more.",
            f"every {model.cluster} has one{where}",
            "write a model without levels, or name another cluster column",
        )
    within = model.observed("within")
    y = np.column_stack([columns[n][rows] for n in within]) if within else np.zeros((len(rows), 0))
    for k, name in enumerate(within):
        _check_varies(name, y[:, k], compact, k < len(model.both), model.cluster, where)
    check_slope_predictors(model, y, compact, where)
    z = [_cluster_values(n, columns[n][rows], compact, labels[used]) for n in model.between_only]
    table_z = np.column_stack(z) if z else np.zeros((len(used), 0))
    for k, name in enumerate(model.between_only):
        _check_varies(name, table_z[:, k], np.arange(len(used)), False, model.cluster, where)
    upper = upper_units(
        model, levels, columns, rows, dict(zip(model.between_only, z, strict=True)), where
    )
    return StructuralGroup(label, y, compact, table_z, labels[used], rows, upper)


def _check_varies(
    name: str, values: Array, codes: Codes, is_both: bool, cluster: str, where: str
) -> None:
    known = ~np.isnan(values)
    if not np.any(known) or float(np.ptp(values[known])) == 0.0:
        raise DesignError("Every variable varies.", f"{name!r} has one value{where}",
                          "leave it out")  # fmt: skip
    if not is_both:
        return
    n = np.bincount(codes[known])
    mean = np.bincount(codes[known], values[known]) / np.maximum(n, 1)
    if float(np.max(np.abs(values[known] - mean[codes[known]]))) <= 1e-12 * np.ptp(values[known]):
        raise DesignError(
            "A variable that is named at the within level varies within clusters.",
            f"{name!r} has one value in every {cluster}{where}",
            f"name {name} at the between level only",
        )


def _cluster_values(name: str, values: Array, codes: Codes, labels: NDArray[np.object_]) -> Array:
    """(J,) the value of a level-2 variable in each cluster, NaN where all rows miss it."""
    out = np.full(len(labels), np.nan)
    known = ~np.isnan(values)
    out[codes[known]] = values[known]
    differs = known & (values != out[codes])
    if np.any(differs):
        label = labels[codes[int(np.flatnonzero(differs)[0])]]
        raise DesignError(
            "A variable that is named at the between level only has one value per cluster.",
            f"{name!r} has several values in cluster {label!r}",
            f"name it at the within level too, e.g. {name} ~~ {name}: its between part is then "
            "its latent cluster mean",
        )
    return out


def _check_nesting(model: StructuralModel, groups: Sequence[StructuralGroup]) -> None:
    seen: dict[object, str] = {}
    for group in groups:
        top = group.upper[-1].labels if group.upper else group.clusters
        for label in top.tolist():
            if label in seen and model.cluster:
                raise DesignError(
                    "Every cluster belongs to one group.",
                    f"{model.clusters[-1]} {label!r} has rows in {seen[label]!r} and"
                    f" {group.label!r}",
                    "compare groups of clusters, or use the group as a level-1 predictor",
                )
            seen[label] = group.label
