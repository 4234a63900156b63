"""Cross-products of a design: all that a Gaussian likelihood needs of the rows.

One record serves every engine. For each grouping factor ("block") ``t`` with ``J_t`` levels and
``q_t`` random-effect columns it holds ``Z_t'Z_t`` by level, ``Z_t'W`` by level, and for each pair
``t < s`` the sparse block matrix ``Z_t'Z_s`` over the pairs of levels that occur together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PairBlock:
    """``Z_t'Z_s`` as compressed sparse rows of dense blocks.

    Attributes
    ----------
    indptr : (J_t + 1,) int64, row pointers over the levels of block t.
    indices : (nnz,) int64, level of block s, ascending within each row.
    values : (nnz, q_t, q_s).
    """

    indptr: IntArray
    indices: IntArray
    values: Array

    @property
    def is_nested(self) -> bool:
        """Whether every level of block t lies in exactly one level of block s."""
        return bool(np.all(np.diff(self.indptr) == 1))


@dataclass(frozen=True)
class CrossProducts:
    """The Gram record. Blocks are ordered by decreasing number of levels (finest first).

    Attributes
    ----------
    n : number of rows.
    n_fixed : p, columns of X; ``m = p + 1``.
    total : (m, m) ``W'W`` with ``W = [X y]`` (precision-weighted).
    own : per block (J_t, q_t, q_t) ``Z_t'Z_t`` by level.
    rhs : per block (J_t, q_t, m) ``Z_t'W`` by level.
    pairs : ``{(t, s): PairBlock}`` for every t < s.
    sum_log_weights : ``sum log w`` of precision weights (0 without weights).
    """

    n: int
    n_fixed: int
    total: Array
    own: tuple[Array, ...]
    rhs: tuple[Array, ...]
    pairs: dict[tuple[int, int], PairBlock]
    sum_log_weights: float = 0.0

    @property
    def n_blocks(self) -> int:
        """Number of grouping factors."""
        return len(self.own)

    @property
    def n_columns(self) -> int:
        """``m = p + 1``."""
        return self.n_fixed + 1

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """``(J_t, q_t)`` by block."""
        return tuple((a.shape[0], a.shape[1]) for a in self.own)

    @property
    def is_chain(self) -> bool:
        """Whether the factors are nested one in the next (a tree of units)."""
        return all(self.pairs[t, t + 1].is_nested for t in range(self.n_blocks - 1))
