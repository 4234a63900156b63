"""Two grouping factors: nested, crossed or in between, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from multilevel.tables.description import PairDescription, Relation, ReusedIds
from multilevel.tables.levels import Codes, integer_codes

# From this share of upper units that number their lower ids from the first on, ask the user.
_SHARE_FROM_FIRST = 0.9


@dataclass(frozen=True, eq=False)
class _Cells:
    """The combinations that occur: (c,) code of each factor, and rows in each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    count: NDArray[np.int64]

    def swapped(self) -> _Cells:
        return _Cells(self.second, self.first, self.count)


def describe_pair(
    names: tuple[str, str], first: Codes, second: Codes, sizes: tuple[int, int]
) -> PairDescription:
    """Describe how two factors lie to each other.

    Parameters
    ----------
    names : of the factors.
    first, second : (n,) codes, -1 where missing.
    sizes : numbers of levels; levels without a row where both are known do not count.
    """
    known = (first >= 0) & (second >= 0)
    if not known.all():
        first, second = first[known], second[known]
    cells = _count_cells(first, second, sizes[1])
    n_units = np.bincount(cells.first, minlength=sizes[0])  # units of second per id of first
    n_ids = np.bincount(cells.second, minlength=sizes[1])
    n_first, n_second = int((n_units > 0).sum()), int((n_ids > 0).sum())
    first_in_many, second_in_many = int((n_units > 1).sum()), int((n_ids > 1).sum())
    n_cells, n_possible = len(cells.count), n_first * n_second
    relation, lower, upper = _relation(names, first_in_many, second_in_many, n_cells == n_possible)
    n_components, largest = _components(cells, sizes)
    has_cells = n_cells > 0
    return PairDescription(
        first=names[0],
        second=names[1],
        relation=relation,
        lower=lower,
        upper=upper,
        n_rows=len(first),
        n_first_in_many=first_in_many,
        n_second_in_many=second_in_many,
        n_cells=n_cells,
        n_cells_possible=n_possible,
        share_cells=n_cells / n_possible if has_cells else float("nan"),
        cell_min=int(cells.count.min()) if has_cells else 0,
        cell_median=float(np.median(cells.count)) if has_cells else float("nan"),
        cell_mean=float(cells.count.mean()) if has_cells else float("nan"),
        cell_max=int(cells.count.max()) if has_cells else 0,
        n_components=n_components,
        largest_component=largest,
        reused=_reused(names, cells) if lower is None and has_cells else None,
    )


def _count_cells(first: Codes, second: Codes, n_second: int) -> _Cells:
    """Count the rows of every combination that occurs."""
    key = first.astype(np.int64) * max(n_second, 1) + second
    cell, keys = integer_codes(key)
    count = np.bincount(cell, minlength=len(keys))
    keys = keys.astype(np.int64)
    return _Cells(keys // max(n_second, 1), keys % max(n_second, 1), count)


def _relation(
    names: tuple[str, str], first_in_many: int, second_in_many: int, is_full: bool
) -> tuple[Relation, str | None, str | None]:
    """Name the relation; where nested also the lower and the upper factor."""
    if first_in_many == 0 and second_in_many == 0:
        return "identical", None, None
    if first_in_many == 0:
        return "nested", names[0], names[1]
    if second_in_many == 0:
        return "nested", names[1], names[0]
    return ("crossed" if is_full else "partially crossed"), None, None


def _components(cells: _Cells, sizes: tuple[int, int]) -> tuple[int, float]:
    """Count the connected parts, and the share of rows in the largest."""
    if len(cells.count) == 0:
        return 0, float("nan")
    n_nodes = sizes[0] + sizes[1]
    ones = np.ones(len(cells.count), dtype=np.int8)
    graph = coo_array((ones, (cells.first, cells.second + sizes[0])), shape=(n_nodes, n_nodes))
    _, part = connected_components(graph.tocsr(), directed=False)
    rows = np.bincount(part[cells.first], weights=cells.count)
    rows = rows[rows > 0]  # levels without a row are no part of the design
    return len(rows), float(rows.max() / rows.sum())


def _reused(names: tuple[str, str], cells: _Cells) -> ReusedIds | None:
    """Find ids that start again in every unit of the other factor.

    Cells of one row mostly are left alone: units of one row cannot be units of a level.
    """
    if np.median(cells.count) < 2:
        return None
    found = [
        _numbering(names[0], names[1], cells),
        _numbering(names[1], names[0], cells.swapped()),
    ]
    usable = [one for one in found if one is not None]
    # Both ways only in full crossings: the factor with fewer ids is then the likelier lower one.
    return min(usable, key=lambda one: (not one.is_numbering_uneven, one.n_ids), default=None)


def _numbering(lower: str, upper: str, cells: _Cells) -> ReusedIds | None:
    """See whether the ids of ``lower`` (first in the cells) run from the first in each unit."""
    used, id_rank = np.unique(cells.first, return_inverse=True)
    units, unit = np.unique(cells.second, return_inverse=True)
    n_ids = np.bincount(unit)
    last = np.zeros(len(units), dtype=np.int64)
    np.maximum.at(last, unit, id_rank)
    share = float(np.mean(last + 1 == n_ids))
    # A factor crossed with a unit of one id says nothing about numbering.
    if share < _SHARE_FROM_FIRST or np.median(n_ids) < 2:
        return None
    return ReusedIds(
        lower=lower,
        upper=upper,
        n_ids=len(used),
        n_units=len(units),
        share_from_first=share,
        is_numbering_uneven=bool(n_ids.min() < n_ids.max()),
        n_cells=len(cells.count),
        formula=f"(1 | {upper}/{lower})",
    )
