"""Rows of a chain of two factors, sorted by coarse cluster and by unit within it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.clusters import Chunk, SortedRows, cut, sort_rows
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Branch:
    """A run of coarse clusters with their units and rows."""

    clusters: slice
    units: slice
    rows: slice


@dataclass(frozen=True)
class TreeRows:
    """Everything the two-factor engine reads.

    Attributes
    ----------
    sorted : fixed effects and response.
    ptr : (J + 1,) where the rows of each unit begin; uptr : (G + 1,) where the units of each
        coarse cluster begin; both without levels that have no rows.
    unit_levels, cluster_levels : (J,), (G,) levels of the problem.
    Z : (Q, n) columns of the finer factor, then of the coarser one.
    q2 : columns of the finer factor.
    column_part : (Q,) place among the random parts; random : (R,) the random parts.
    """

    sorted: SortedRows
    ptr: Index
    uptr: Index
    unit_levels: Index
    cluster_levels: Index
    Z: Array
    q2: int
    column_part: Index
    random: Index

    def branches(self, numbers_per_row: int) -> list[Branch]:
        """Runs of whole coarse clusters that stay in cache."""
        chunks: list[Chunk] = cut(self.ptr[self.uptr], numbers_per_row)
        return [
            Branch(
                slice(c.start, c.stop),
                slice(int(self.uptr[c.start]), int(self.uptr[c.stop])),
                c.rows,
            )
            for c in chunks
        ]


def is_chain(problem: GeneralizedProblem) -> bool:
    """Whether every grouping factor is nested in the next."""
    for fine, coarse in pairwise(problem.blocks):
        home = np.full(fine.n_levels, -1, dtype=np.int64)
        home[fine.codes] = coarse.codes
        if np.any(home[fine.codes] != coarse.codes):
            return False
    return True


def sort_by_tree(problem: GeneralizedProblem) -> TreeRows:
    """Sort the rows of a problem with two nested factors.

    Raises
    ------
    LikelihoodError : not two factors, or the first is not nested in the second.
    """
    if len(problem.blocks) != 2 or not is_chain(problem):
        raise LikelihoodError(
            "Nested quadrature needs two grouping factors, the first nested in the second.",
            f"{len(problem.blocks)} factors"
            + (" that are not nested" if len(problem.blocks) == 2 else ""),
            "use the Laplace approximation (1 point)",
        )
    fine, coarse = problem.blocks
    order = np.lexsort((fine.codes, coarse.codes))
    codes2, codes3 = fine.codes[order], coarse.codes[order]
    unit_start = np.flatnonzero(np.r_[True, codes2[1:] != codes2[:-1]])
    unit_cluster = codes3[unit_start]
    cluster_start = np.flatnonzero(np.r_[True, unit_cluster[1:] != unit_cluster[:-1]])
    random = problem.random_parts
    columns = np.concatenate([fine.columns, coarse.columns], axis=1)[order]
    return TreeRows(
        sorted=sort_rows(problem, order),
        ptr=np.r_[unit_start, problem.n].astype(np.int64),
        uptr=np.r_[cluster_start, unit_start.size].astype(np.int64),
        unit_levels=codes2[unit_start].astype(np.int64),
        cluster_levels=unit_cluster[cluster_start].astype(np.int64),
        Z=np.ascontiguousarray(columns.T),
        q2=fine.columns.shape[1],
        column_part=np.array([random.index(p) for p in (*fine.parts, *coarse.parts)]),
        random=np.array(random, dtype=np.int64),
    )
