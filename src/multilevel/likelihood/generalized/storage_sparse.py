"""``H`` as one sparse matrix: for nested chains of any depth and for designs that are nearly so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks import sparse_ldl
from multilevel.likelihood.blocks.ordering import SymbolicPlan
from multilevel.likelihood.blocks.sparse_layout import spread, unknown_tree, upper_triangle
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import clique_pairs, fill

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class SparseStorage:
    """Sparse LDL' with the selected inverse (``Storage``)."""

    name = "sparse"

    def __init__(self, layout: RowLayout, plan: SymbolicPlan) -> None:
        ends = np.concatenate([[0], np.cumsum(plan.weight)]).astype(np.int64)
        first = np.empty(plan.order.size, np.int64)
        first[plan.order] = ends[:-1]
        effects, begin = [], 0
        for J, q in layout.sizes:
            effects.append(first[begin : begin + J, None] + np.arange(q, dtype=np.int64))
            begin += J
        self.effects: tuple[Places, ...] = tuple(effects)
        index = layout.index(self.effects).astype(np.int64)
        spans = [spread(e, e) for e in effects]
        for (t, s), pair in layout.pattern.pairs.items():
            rows = np.repeat(np.arange(layout.sizes[t][0]), np.diff(pair.indptr))
            spans.append(spread(effects[t][rows], effects[s][pair.indices]))
        a, b = clique_pairs(index.shape[1])
        spans.append((index[:, a], index[:, b]))
        self._Up, self._Ui, places = upper_triangle(spans, plan.n_unknowns)
        own = places[: len(effects)]
        self._at = np.ascontiguousarray(places[-1])
        self._diagonal = np.concatenate([np.einsum("iig->ig", at).ravel() for at in own])
        self._parent, self._Lp = unknown_tree(plan, ends)
        self._Li, slots = sparse_ldl.factor_pattern(self._Up, self._Ui, self._parent, self._Lp)
        self.at_inverse: Places = np.ascontiguousarray(slots[self._at])
        self._own = tuple(np.ascontiguousarray(slots[at].transpose(2, 0, 1)) for at in own)
        self.n_independent = plan.n_unknowns
        self._store = np.empty(self._Ui.size)
        self._Lx, self._D = np.empty(self._Li.size), np.empty(plan.n_unknowns)
        self._inverse: Array | None = None
        self.logdet = float("nan")
        self.is_set = False

    def factorise(self, Z: Array, W: Array) -> bool:
        """See ``Storage``."""
        self._inverse, self.is_set = None, False
        self._fill(Z, W)
        failed = sparse_ldl.factorise(
            self._Up, self._Ui, self._store, self._parent, self._Lp, self._Li, self._Lx, self._D
        )
        if failed >= 0:
            return False
        self.logdet = float(np.log(self._D).sum())
        self.is_set = True
        return True

    def _fill(self, Z: Array, W: Array) -> None:
        fill(self._store, self._diagonal, self._at, Z, W)

    def solve(self, right: Array) -> Array:
        """See ``Storage``."""
        out = np.array(right, np.float64).reshape(right.shape[0], -1)
        sparse_ldl.solve_forward(self._Lp, self._Li, self._Lx, out)
        out /= self._D[:, None]
        sparse_ldl.solve_backward(self._Lp, self._Li, self._Lx, out)
        return out.reshape(right.shape)

    def inverse(self) -> Array:
        """See ``Storage``."""
        if self._inverse is None:
            inverse = np.empty(self._Li.size + self._D.size)
            sparse_ldl.selected_inverse(self._Lp, self._Li, self._Lx, self._D, inverse)
            self._inverse = inverse
        return self._inverse

    def own_places(self, block: int) -> Places:
        """See ``Storage``."""
        return self._own[block]

    def colour(self, noise: Array) -> Array:
        """See ``Storage``."""
        out = noise / np.sqrt(self._D)[:, None]
        sparse_ldl.solve_backward(self._Lp, self._Li, self._Lx, out)
        return np.asarray(out)
