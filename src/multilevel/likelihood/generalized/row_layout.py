"""The rows of a generalized problem in the order in which an engine goes through them.

Rows are sorted so that rows of one level of the finest factor are neighbours (coarsest factor
first where the factors are nested, so that clusters are runs of rows). ``Lambda`` may mix columns
of different parts, so the coefficients of a row exist per random part: ``Z~`` is (R, n, Q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.relations import Relation
from multilevel.likelihood.blocks.accumulate import level_cells
from multilevel.likelihood.blocks.cross_products import CrossProducts, PairBlock
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class RowLayout:
    """Random effects by row, sorted. T blocks, Q columns in all, R random parts.

    Attributes
    ----------
    order : (n,) row of the design at each place.
    codes : per block (n,) level of each row.
    sizes : per block ``(J_t, q_t)``.
    raw : (n, Q) coefficients, block after block, C order.
    part : (Q,) random part (0..R-1) of each column.
    starts : (T + 1,) first column of each block.
    n_random : R.
    pattern : which levels occur together; its values are zeros that take no memory.
    relations : per block the known covariance of its levels, or None; empty where none has one.
    """

    order: NDArray[np.intp]
    codes: tuple[Index, ...]
    sizes: tuple[tuple[int, int], ...]
    raw: Array
    part: Index
    starts: Index
    n_random: int
    pattern: CrossProducts
    relations: tuple[Relation | None, ...] = ()

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.raw.shape[0])

    @property
    def n_effects(self) -> int:
        """N, random effects of all levels."""
        return sum(J * q for J, q in self.sizes)

    def block_columns(self, block: int) -> slice:
        """The columns of one block."""
        return slice(int(self.starts[block]), int(self.starts[block + 1]))

    def slots(self, block: int) -> list[tuple[slice, Index]]:
        """Columns and levels (n,) of each place in which a row has a level of the block."""
        return [(self.block_columns(block), self.codes[block])]

    def scaled(self, factors: Sequence[Array]) -> Array:
        """``Z~ = Z Lambda`` (R, n, Q), from ``Lambda_t`` (q_t, q_t) per block."""
        out = np.empty((self.n_random, *self.raw.shape))
        for t, factor in enumerate(factors):
            at = self.block_columns(t)
            for r in range(self.n_random):
                here = factor * (self.part[at] == r)[:, None]
                if here.shape[0] == 1:
                    np.multiply(self.raw[:, at], here[0, 0], out=out[r, :, at])
                else:
                    out[r, :, at] = self.raw[:, at] @ here
        return out

    def index(self, effects: Sequence[NDArray[np.int64]]) -> Index:
        """Unknown of each column of each row (n, Q), from ``effects[t]`` (J_t, q_t)."""
        picked = [effects[t][codes] for t, codes in enumerate(self.codes)]
        return np.ascontiguousarray(np.concatenate(picked, axis=1), np.int32)


def lay_out_rows(problem: GeneralizedProblem) -> RowLayout:
    """Sort the rows of a problem with at least one grouping factor."""
    blocks = problem.blocks
    sizes = tuple((b.n_levels, b.columns.shape[1]) for b in blocks)
    pattern = _pattern(problem, sizes)
    keys = [b.codes for b in blocks]  # the last key is the first to sort by
    order = np.lexsort(keys if pattern.is_chain else keys[::-1])
    random = problem.random_parts
    parts = [random.index(p) for b in blocks for p in b.parts]
    raw = np.concatenate([b.columns[order] for b in blocks], axis=1)
    return RowLayout(
        order=order,
        codes=tuple(np.ascontiguousarray(b.codes[order]) for b in blocks),
        sizes=sizes,
        raw=np.ascontiguousarray(raw, np.float64),
        part=np.array(parts, np.int32),
        starts=np.concatenate([[0], np.cumsum([q for _, q in sizes])]).astype(np.int32),
        n_random=len(random),
        pattern=pattern,
    )


def _pattern(problem: GeneralizedProblem, sizes: tuple[tuple[int, int], ...]) -> CrossProducts:
    pairs = {}
    for t, one in enumerate(problem.blocks):
        for s in range(t + 1, len(problem.blocks)):
            two = problem.blocks[s]
            indptr, indices, _ = level_cells(one.codes, two.codes, one.n_levels, two.n_levels)
            shape = (indices.size, sizes[t][1], sizes[s][1])
            pairs[t, s] = PairBlock(indptr, indices, np.broadcast_to(0.0, shape))
    own = tuple(np.broadcast_to(0.0, (J, q, q)) for J, q in sizes)
    rhs = tuple(np.broadcast_to(0.0, (J, q, 1)) for J, q in sizes)
    return CrossProducts(problem.n, 0, np.zeros((1, 1)), own, rhs, pairs)
