"""Rows of a chain of nested factors, sorted by coarsest cluster and by unit within it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.arrow import Shape
from multilevel.likelihood.generalized.clusters import Chunk, SortedRows, cut, sort_rows
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Branch:
    """A run of coarsest clusters: the units of every level, finest first, and the rows."""

    units: tuple[slice, ...]
    rows: slice
    shape: Shape

    @property
    def clusters(self) -> slice:
        """The coarsest units."""
        return self.units[-1]


@dataclass(frozen=True)
class TreeRows:
    """Everything the engine of nested factors reads; tuples by level, finest first.

    Attributes
    ----------
    sorted : fixed effects and response.
    ptrs : (J_t + 1,) where the units of the next finer level begin in each unit; for the finest
        level where its rows begin. Levels without rows are left out.
    levels : (J_t,) levels of the problem.
    Z : (Q, n) columns of the finest factor first, of the coarsest last.
    widths : columns of each factor.
    column_part : (Q,) place among the random parts; random : (R,) the random parts.
    """

    sorted: SortedRows
    ptrs: tuple[Index, ...]
    levels: tuple[Index, ...]
    Z: Array
    widths: tuple[int, ...]
    column_part: Index
    random: Index

    @property
    def ptr(self) -> Index:
        """Where the rows of each finest unit begin."""
        return self.ptrs[0]

    @property
    def first_units(self) -> Index:
        """The first finest unit of each coarsest cluster, and their number (G + 1,)."""
        place = np.arange(len(self.levels[-1]) + 1)
        for ptr in reversed(self.ptrs[1:]):
            place = ptr[place]
        return np.asarray(place, dtype=np.int64)

    def branches(self, numbers_per_row: int) -> list[Branch]:
        """Runs of whole coarsest clusters that stay in cache."""
        chunks: list[Chunk] = cut(self.ptr[self.first_units], numbers_per_row)
        return [self._branch(c) for c in chunks]

    def _branch(self, chunk: Chunk) -> Branch:
        units = [slice(chunk.start, chunk.stop)]
        for ptr in reversed(self.ptrs[1:]):
            here = units[0]
            units.insert(0, slice(int(ptr[here.start]), int(ptr[here.stop])))
        starts: list[Index] = []
        parents: list[Index] = []
        for t, ptr in enumerate(self.ptrs[1:]):
            own = units[t + 1]
            starts.append(ptr[own] - units[t].start)
            counts = np.diff(ptr[own.start : own.stop + 1])
            home: Index = np.repeat(np.arange(counts.size), counts)
            parents.append(home)
        shape = Shape(self.widths, tuple(starts), tuple(parents))
        return Branch(tuple(units), chunk.rows, shape)


def is_chain(problem: GeneralizedProblem) -> bool:
    """Whether every grouping factor is nested in the next."""
    for fine, coarse in pairwise(problem.blocks):
        home = np.full(fine.n_levels, -1, dtype=np.int64)
        home[fine.codes] = coarse.codes
        if np.any(home[fine.codes] != coarse.codes):
            return False
    return True


def sort_by_tree(problem: GeneralizedProblem) -> TreeRows:
    """Sort the rows of a problem whose factors form a chain.

    Raises
    ------
    LikelihoodError : fewer than two factors, or some factor is not nested in the next.
    """
    blocks = problem.blocks
    if len(blocks) < 2 or not is_chain(problem):
        raise LikelihoodError(
            "Nested quadrature needs two or more grouping factors, each nested in the next.",
            f"{len(blocks)} factors" + (" that are not nested" if len(blocks) > 1 else ""),
            "use the Laplace approximation (1 point)",
        )
    order = np.lexsort([block.codes for block in blocks])
    before = np.arange(problem.n + 1)  # where the units of the next finer level begin, by row
    ptrs: list[Index] = []
    levels: list[Index] = []
    for block in blocks:
        codes = block.codes[order]
        first = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        begins: Index = np.searchsorted(before, np.append(first, problem.n)).astype(np.int64)
        ptrs.append(begins)
        levels.append(codes[first].astype(np.int64))
        before = np.append(first, problem.n)
    random = problem.random_parts
    columns = np.concatenate([block.columns for block in blocks], axis=1)[order]
    return TreeRows(
        sorted=sort_rows(problem, order),
        ptrs=tuple(ptrs),
        levels=tuple(levels),
        Z=np.ascontiguousarray(columns.T),
        widths=tuple(int(block.columns.shape[1]) for block in blocks),
        column_part=np.array([random.index(p) for block in blocks for p in block.parts]),
        random=np.array(random, dtype=np.int64),
    )
