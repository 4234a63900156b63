"""Where a variable varies: within clusters, between clusters, or both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_nested import nested_codes
from multilevel.errors import DesignError
from multilevel.model.structural.mediation import Home
from multilevel.tables.table import Table

Array = NDArray[np.float64]
_CENTRED = 1e-8  # range of cluster means, as a share of the range of values, that counts as none


def homes_of(table: Table, names: Sequence[str], cluster: str) -> dict[str, Home]:
    """Where each variable varies.

    ``"between"``: one value per cluster. ``"within"``: all cluster means are equal (the variable
    was centred at its cluster means). ``"both"`` otherwise. Missing values are left out.

    Raises
    ------
    TableError : a name that is not a column.
    DesignError : a column that is not numeric, or has one value only.
    """
    table.check([*names, cluster], "for the mediation model")
    codes, levels = table.codes(cluster)
    out: dict[str, Home] = {}
    for name in names:
        if table.kind(name) not in ("numeric", "boolean"):
            raise DesignError("Variables of a mediation model are numbers.",
                              f"{name!r} is {table.kind(name)}",
                              "code categories as 0/1 columns first")  # fmt: skip
        values = table.column(name)
        keep = (codes >= 0) & ~np.isnan(values)
        y, g = values[keep], codes[keep]
        if len(y) < 2 or float(np.ptp(y)) == 0.0:
            raise DesignError("Every variable varies.", f"{name!r} has one value",
                              "leave it out")  # fmt: skip
        n = np.bincount(g, minlength=len(levels))
        mean = np.bincount(g, y, minlength=len(levels)) / np.maximum(n, 1)
        spread = float(np.ptp(y))
        if float(np.max(np.abs(y - mean[g]))) <= 1e-12 * spread:
            out[name] = "between"
        elif float(np.ptp(mean[n > 0])) <= _CENTRED * spread:
            out[name] = "within"
        else:
            out[name] = "both"
    return out


def nested_homes_of(
    table: Table, names: Sequence[str], clusters: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Numbers of the levels at which each variable varies, with three levels or more.

    At level 1: inside units of level 2. At a higher level: means of its units inside units of the
    next level; at the highest: means of its units. Means that are all equal, with rows or with
    units below as weights, come from centring there. Missing values are left out.

    Parameters
    ----------
    clusters : columns of the units from level 2 upwards.

    Raises
    ------
    TableError : a name that is not a column.
    DesignError : a column that is not numeric, or has one value only.
    """
    table.check([*names, *clusters], "for the mediation model")
    levels = [codes for codes, _ in nested_codes(table, clusters)]
    out = {}
    for name in names:
        values, keep = _numeric(table, name), np.ones(table.n_rows, dtype=np.bool_)
        for codes in levels:
            keep &= codes >= 0
        keep &= ~np.isnan(values)
        y = values[keep]
        if len(y) < 2 or float(np.ptp(y)) == 0.0:
            raise DesignError("Every variable varies.", f"{name!r} has one value",
                              "leave it out")  # fmt: skip
        out[name] = _varying_levels(y, [codes[keep] for codes in levels])
    return out


def _numeric(table: Table, name: str) -> Array:
    if table.kind(name) not in ("numeric", "boolean"):
        raise DesignError("Variables of a mediation model are numbers.",
                          f"{name!r} is {table.kind(name)}",
                          "code categories as 0/1 columns first")  # fmt: skip
    return np.asarray(table.column(name), dtype=np.float64)


def _varying_levels(y: Array, levels: Sequence[NDArray[np.int32]]) -> tuple[int, ...]:
    spread = float(np.ptp(y))
    found = []
    below, values, rows = np.arange(len(y)), y, y
    for number, codes in enumerate((*levels, np.zeros(len(y), dtype=np.int32)), start=1):
        # one entry per unit below: its unit here
        unit = np.zeros(int(below.max()) + 1, dtype=np.intp)
        used = np.unique(codes, return_inverse=True)[1].ravel()
        unit[below] = used
        by_units = np.bincount(unit, values) / np.bincount(unit)
        by_rows = np.bincount(used, y) / np.bincount(used)
        limit = (1e-12 if number == 1 else _CENTRED) * spread
        gaps = (values - by_units[unit], rows - by_rows[unit])
        if min(float(np.max(np.abs(gap))) for gap in gaps) > limit:
            found.append(number)
        below, values, rows = used, by_units, by_rows
    return tuple(found)


def split_at_means(table: Table, name: str, cluster: str) -> tuple[Array, Array]:
    """A column less its observed cluster means, and these means: (n_table,) each.

    Missing values are left out of the means, and stay missing; NaN without a cluster.
    """
    codes, levels = table.codes(cluster)
    values = np.asarray(table.column(name), dtype=np.float64)
    keep = (codes >= 0) & ~np.isnan(values)
    n = np.bincount(codes[keep], minlength=len(levels))
    total = np.bincount(codes[keep], values[keep], minlength=len(levels))
    mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    of_row = np.where(codes >= 0, mean[codes], np.nan)
    return values - of_row, of_row


def split_by_level(
    table: Table, name: str, clusters: Sequence[str], numbers: Sequence[int]
) -> list[Array]:
    """A column split at its observed means: its part at each of the levels ``numbers``.

    At level 1 the value less the mean of its level-2 unit, at level k the mean of its unit less
    that of the unit above, at the highest of ``numbers`` the mean. Missing values are left out of
    means.

    Parameters
    ----------
    clusters : columns of the units from level 2 upwards.
    """
    values = np.asarray(table.column(name), dtype=np.float64)
    means = {1: values}
    for k, (codes, labels) in enumerate(nested_codes(table, clusters), start=2):
        keep = (codes >= 0) & ~np.isnan(values)
        n = np.bincount(codes[keep], minlength=len(labels))
        total = np.bincount(codes[keep], values[keep], minlength=len(labels))
        mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        means[k] = np.where(codes >= 0, mean[codes], np.nan)
    top = max(numbers)
    return [means[k] - means[k + 1] if k < top else means[k] for k in numbers]
