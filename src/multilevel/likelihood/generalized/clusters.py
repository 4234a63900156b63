"""The rows of a problem sorted by cluster, once, and cut into chunks that stay in cache."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.row import Response, RowLikelihood

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CHUNK_NUMBERS = 65_536  # numbers in the largest array of one chunk (half a megabyte)
MIN_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Chunk:
    """A run of clusters ``start..stop`` and of their rows."""

    start: int
    stop: int
    rows: slice

    @property
    def n_rows(self) -> int:
        """Rows of the chunk."""
        return int(self.rows.stop - self.rows.start)


@dataclass(frozen=True)
class SortedRows:
    """Fixed effects and response of a problem in sorted order.

    Attributes
    ----------
    order : (n,) the row of the problem at each sorted place, or None if nothing moves.
    X : per part (n, p_d), Fortran order.
    offsets : per part (n,) or None.
    likelihood : the row likelihood in sorted order.
    """

    order: NDArray[np.intp] | None
    X: tuple[Array, ...]
    offsets: tuple[Array | None, ...]
    likelihood: RowLikelihood

    def fixed_predictors(self, beta: list[Array]) -> Array:
        """``X_d beta_d + offset_d`` (D, n), sorted."""
        n = self.X[0].shape[0]
        out = np.empty((len(self.X), n))
        for d, (X, offset) in enumerate(zip(self.X, self.offsets, strict=True)):
            out[d] = X @ beta[d]
            if offset is not None:
                out[d] += offset
        return out

    def total(self, rho: Array) -> Array:
        """``X_d' rho_d`` of all parts, stacked (p,)."""
        return np.concatenate([X.T @ rho[d] for d, X in enumerate(self.X)])

    def by_cluster(self, rho: Array, starts: Index) -> Array:
        """``X_d' rho_d`` (J, p) over runs of rows that begin at ``starts``."""
        pieces = []
        for d, X in enumerate(self.X):
            piece = np.empty((starts.size, X.shape[1]))
            for a in range(X.shape[1]):
                piece[:, a] = np.add.reduceat(X[:, a] * rho[d], starts)
            pieces.append(piece)
        return np.concatenate(pieces, axis=1)


def sort_rows(problem: GeneralizedProblem, order: NDArray[np.intp] | None) -> SortedRows:
    """Take fixed effects and response in the given order (None: as they are)."""
    if order is None:
        X = tuple(part.X for part in problem.fixed)
        offsets = tuple(part.offset for part in problem.fixed)
    else:
        X = tuple(_rows_of(part.X, order) for part in problem.fixed)
        offsets = tuple(
            None if part.offset is None else part.offset[order] for part in problem.fixed
        )
    return SortedRows(order, X, offsets, problem.row_likelihood(order))


def _rows_of(X: Array, order: NDArray[np.intp]) -> Array:
    """``X[order]`` in Fortran order, a column at a time: a column stays in cache."""
    out = np.empty(X.shape, order="F")
    for k in range(X.shape[1]):
        out[:, k] = X[:, k][order]
    return out


@dataclass(frozen=True)
class ClusterRows:
    """Everything a one-factor engine reads: sorted rows and random-effect columns.

    Attributes
    ----------
    sorted : fixed effects and response.
    ptr : (J + 1,) where each cluster's rows begin; clusters without rows are left out.
    levels : (J,) the level of the problem that each cluster is.
    n_levels : levels of the problem, those without rows included.
    Z : (q, n) random-effect columns, a column contiguous.
    column_part : (q,) each column's place among the random parts, 0..R-1.
    random : (R,) the random parts.
    """

    sorted: SortedRows
    ptr: Index
    levels: Index
    n_levels: int
    Z: Array
    column_part: Index
    random: Index

    @property
    def n_clusters(self) -> int:
        """Clusters with rows."""
        return self.ptr.size - 1

    def chunks(self, numbers_per_row: int) -> list[Chunk]:
        """Runs of whole clusters whose largest array has about ``CHUNK_NUMBERS`` numbers."""
        return cut(self.ptr, numbers_per_row)

    def response_of(self, response: Response) -> Response:
        """Another response of the same rows, sorted as here."""
        return response if self.sorted.order is None else response.take(self.sorted.order)


def cut(ptr: Index, numbers_per_row: int) -> list[Chunk]:
    """Cut clusters (rows ``ptr[j]..ptr[j+1]``) into runs that stay in cache."""
    rows = max(MIN_CHUNK_ROWS, CHUNK_NUMBERS // max(1, numbers_per_row))
    ends = [0]
    J = ptr.size - 1
    while ends[-1] < J:
        stop = int(np.searchsorted(ptr, ptr[ends[-1]] + rows, side="right")) - 1
        ends.append(min(J, max(stop, ends[-1] + 1)))
    return [Chunk(a, b, slice(int(ptr[a]), int(ptr[b]))) for a, b in pairwise(ends)]


def _counting_sort(codes: NDArray[np.integer[Any]], n_levels: int) -> NDArray[np.intp]:
    """``argsort(codes, kind="stable")`` of levels 0..n_levels-1, in one pass over the rows."""
    n = codes.size
    indicator = csr_array((np.ones(n, np.int8), codes, np.arange(n + 1)), shape=(n, n_levels))
    return np.asarray(indicator.tocsc().indices, dtype=np.intp)


def sort_by_cluster(problem: GeneralizedProblem) -> ClusterRows:
    """Sort the rows of a problem with one grouping factor."""
    block = problem.blocks[0]
    codes = np.asarray(block.codes)
    moved = bool(np.any(codes[1:] < codes[:-1]))
    order = _counting_sort(codes, block.n_levels) if moved else None
    counts = np.bincount(codes, minlength=block.n_levels)
    levels = np.flatnonzero(counts).astype(np.int64)
    ptr = np.concatenate([[0], np.cumsum(counts[levels])]).astype(np.int64)
    columns = block.columns if order is None else _rows_of(block.columns, order)
    random = problem.random_parts
    return ClusterRows(
        sorted=sort_rows(problem, order),
        ptr=ptr,
        levels=levels,
        n_levels=block.n_levels,
        Z=np.ascontiguousarray(columns.T),
        column_part=np.array([random.index(part) for part in block.parts], dtype=np.int64),
        random=np.array(random, dtype=np.int64),
    )
