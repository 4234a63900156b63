r"""Rows that have several levels of a factor, and levels that are correlated in a known way.

A row has a *slot* for each level that it may belong to: the slot's coefficients are the weight of
the membership times the random-effect columns. Ordinary factors have one slot. Unused slots repeat
the row's last level with weight zero.

The random effects are ``b = Lambda c`` with ``c ~ N(0, A (x) I)``, so ``Lambda`` stays a factor of
the coefficients and the prior of ``c`` does not depend on the parameters: the formulas of the room
hold with ``u`` read as ``c`` and ``I`` in ``H`` replaced by ``A^-1 (x) I``. Source: Henderson 1984,
Applications of Linear Models in Animal Breeding, for the prior; own derivation otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.relations import Relation
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.generalized.problem import EffectBlock, GeneralizedProblem
from multilevel.likelihood.generalized.row_layout import Index, RowLayout

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RelatedEffects(EffectBlock):
    """Random effects of one factor of the general kind; ``codes`` holds each row's main level.

    Attributes
    ----------
    loadings : (n, J) sparse weights of the rows on the levels.
    relation : known covariance A of the levels, or None for independent ones.
    """

    loadings: sparse.csr_array = field(default_factory=lambda: sparse.csr_array((0, 0)))
    relation: Relation | None = None


def is_general(problem: GeneralizedProblem) -> bool:
    """Whether rows may have several levels of a factor, or levels are correlated."""
    return any(isinstance(block, RelatedEffects) for block in problem.blocks)


def relation_of(block: EffectBlock) -> Relation | None:
    """The known covariance of the levels, if there is one."""
    return block.relation if isinstance(block, RelatedEffects) else None


@dataclass(frozen=True)
class RelatedLayout(RowLayout):
    """Random effects by row; ``codes`` and ``starts`` are by slot, ``sizes`` by block.

    Attributes
    ----------
    slot_block : block of each slot.
    """

    slot_block: tuple[int, ...] = ()

    def slots(self, block: int) -> list[tuple[slice, Index]]:
        """Columns and levels of each slot of a block."""
        return [
            (self.slot_columns(k), self.codes[k])
            for k, t in enumerate(self.slot_block)
            if t == block
        ]

    def slot_columns(self, slot: int) -> slice:
        """The columns of one slot."""
        return slice(int(self.starts[slot]), int(self.starts[slot + 1]))

    def scaled(self, factors: Sequence[Array]) -> Array:
        """``Z~ = Z Lambda`` (R, n, Q)."""
        out = np.empty((self.n_random, *self.raw.shape))
        for k, t in enumerate(self.slot_block):
            at = self.slot_columns(k)
            for r in range(self.n_random):
                here = factors[t] * (self.part[at] == r)[:, None]
                out[r, :, at] = self.raw[:, at] @ here
        return out

    def index(self, effects: Sequence[NDArray[np.int64]]) -> Index:
        """Unknown of each column of each row (n, Q), from ``effects[t]`` (J_t, q_t)."""
        picked = [effects[t][c] for t, c in zip(self.slot_block, self.codes, strict=True)]
        return np.ascontiguousarray(np.concatenate(picked, axis=1), np.int32)

    def level_loadings(self) -> list[sparse.csr_array]:
        """Per block (n, J_t): 1 where a row has a level with a weight that is not zero."""
        out = []
        for t, (J, _) in enumerate(self.sizes):
            held = [np.any(self.raw[:, at] != 0.0, axis=1) for at, _ in self.slots(t)]
            row = np.concatenate([np.flatnonzero(h) for h in held])
            level = np.concatenate([c[h] for h, (_, c) in zip(held, self.slots(t), strict=True)])
            ones = np.ones(row.size, np.int32)
            out.append(sparse.csr_array((ones, (row, level)), shape=(self.n, J)))
        return out


def lay_out_related(problem: GeneralizedProblem) -> RelatedLayout:
    """Sort the rows of a problem with at least one factor of the general kind."""
    blocks = problem.blocks
    order = np.lexsort([b.codes for b in reversed(blocks)])
    random = problem.random_parts
    codes, raw, parts, owners, widths = [], [], [], list[int](), [0]
    for t, block in enumerate(blocks):
        columns = block.columns[order]
        for level, weight in slots_of(block, order):
            codes.append(level)
            raw.append(columns * weight[:, None])
            parts += [random.index(p) for p in block.parts]
            owners.append(t)
            widths.append(columns.shape[1])
    return RelatedLayout(
        order=order,
        codes=tuple(codes),
        sizes=tuple((b.n_levels, b.columns.shape[1]) for b in blocks),
        raw=np.ascontiguousarray(np.concatenate(raw, axis=1), np.float64),
        part=np.array(parts, np.int32),
        starts=np.cumsum(widths).astype(np.int32),
        n_random=len(random),
        pattern=CrossProducts(problem.n, 0, np.zeros((1, 1)), (), (), {}),
        slot_block=tuple(owners),
        relations=tuple(relation_of(b) for b in blocks),
    )


def slots_of(block: EffectBlock, order: NDArray[np.intp]) -> list[tuple[Index, Array]]:
    """Level and weight (n,) of every slot, rows in this order."""
    if not isinstance(block, RelatedEffects):
        return [(np.ascontiguousarray(block.codes[order]), np.ones(len(order)))]
    L = sparse.csr_array(block.loadings[order])
    L.sum_duplicates()
    held = np.diff(L.indptr)
    out = []
    for k in range(int(held.max())):
        at = L.indptr[:-1] + np.minimum(k, held - 1)
        weight = np.where(k < held, L.data[at], 0.0)
        out.append((np.ascontiguousarray(L.indices[at], np.int32), weight))
    return out


class Prior:
    """``A^-1 (x) I`` of all random effects, applied; of a singular A its generalised inverse.

    ``relations``: per block A, or None; ``effects``: per block (J, q) unknowns.
    """

    def __init__(
        self, relations: Sequence[Relation | None], effects: Sequence[NDArray[np.int64]]
    ) -> None:
        self._pieces = [(e, r) for e, r in zip(effects, relations, strict=True) if r is not None]

    def apply(self, c: Array) -> Array:
        """``(A^-1 (x) I) c`` for (N,) or (N, K)."""
        out = c.copy()
        for effects, relation in self._pieces:
            J, _ = effects.shape
            own = c[effects].reshape(J, -1)
            out[effects] = precision_times(relation, own).reshape(c[effects].shape)
        return out


def precision_times(relation: Relation, X: Array) -> Array:
    """``A^-1 X`` for X (J, k); the generalised inverse of a singular A."""
    C = relation.spread
    if C is None:
        R = relation.sparse_root()
        return np.asarray(R.T @ (R @ X))
    if C.shape[0] == C.shape[1] and not np.triu(C, 1).any():
        half = sl.solve_triangular(C, X, lower=True, check_finite=False)
        return np.asarray(sl.solve_triangular(C, half, lower=True, trans="T", check_finite=False))
    sizes = np.einsum("ij,ij->j", C, C)  # eigenvectors times roots of the eigenvalues
    return np.asarray(C @ ((C.T @ X) / sizes[:, None] ** 2))
