"""Where a variable varies: within clusters, between clusters, or both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
