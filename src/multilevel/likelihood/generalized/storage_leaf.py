"""``H`` with the finest factor eliminated first and the rest, the core, dense.

The *leaf*'s part of ``H`` is block-diagonal, ``D_g`` by level; each level touches some core
unknowns through its panel ``b_g``. ``S = H_core - sum_g b_g D_g^-1 b_g'`` is factorised by LAPACK,
and of the inverse only the panels, the leaf's blocks and the core are formed:

    (H^-1)_core = S^-1,   (H^-1)_cg = -S^-1 b_g D_g^-1,
    (H^-1)_gg   = D_g^-1 + D_g^-1 b_g'S^-1 b_g D_g^-1

Cost ``n2^3/3`` and ``sum_g n_g^2`` per factorisation, as in the Gaussian engine of that kind
(Bates et al. 2015 for the elimination; the inverse is our own derivation).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray

from multilevel.likelihood.blocks import leaf_kernels as kernels
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import (
    clique_pairs,
    fill,
    natural_effects,
    ordered_places,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class LeafStorage:
    """Block elimination of the finest factor, dense core (``Storage``)."""

    name = "leaf"

    def __init__(self, layout: RowLayout) -> None:
        J, q = layout.sizes[0]
        self.effects = natural_effects(layout.sizes)
        self.n_independent = layout.n_effects
        self._n_leaf, self._n_core = J * q, layout.n_effects - J * q
        self._shape = (J, q)
        index = layout.index(self.effects).astype(np.int64)
        self._indptr, self._column, panel_at = _panels(layout, index)
        self._bounds = np.cumsum([J * q * q, self._column.size * q])
        self.at_inverse: Places = self._clique_places(layout, index, panel_at)
        core_diagonal = self._bounds[1] + np.arange(self._n_core) * (self._n_core + 1)
        leaf_diagonal = np.arange(J)[:, None] * (q * q) + np.arange(q) * (q + 1)
        self._diagonal = np.concatenate([leaf_diagonal.reshape(-1), core_diagonal])
        size = int(self._bounds[1]) + self._n_core**2
        self._store, self._held = np.empty(size), np.empty(0)
        self._leaf_inverse = np.empty((J, q, q))
        self._scaled = np.empty((self._column.size, q))
        self._factor: Array = np.empty((0, 0))
        self._has_inverse = False
        self.logdet = float("nan")
        self.is_set = False

    def _clique_places(self, layout: RowLayout, index: Places, panel_at: Places) -> Places:
        q, n2 = self._shape[1], self._n_core
        code = layout.codes[0].astype(np.int64)
        columns = []
        for a, b in zip(*clique_pairs(index.shape[1]), strict=True):
            if a < q:
                columns.append(code * (q * q) + a * q + b)
            elif b < q:
                columns.append(self._bounds[0] + panel_at[:, a - q] * q + b)
            else:
                row, column = index[:, a] - self._n_leaf, index[:, b] - self._n_leaf
                columns.append(self._bounds[1] + row * n2 + column)
        return np.ascontiguousarray(np.stack(columns, axis=1), np.int64)

    def _views(self, flat: Array) -> tuple[Array, Array, Array]:
        """Leaf blocks (J, q, q), panels (nnz, q) and core (n2, n2) inside a flat array."""
        J, q = self._shape
        first, second = self._bounds
        own, panel = flat[:first].reshape(J, q, q), flat[first:second].reshape(-1, q)
        return own, panel, flat[second:].reshape(self._n_core, self._n_core)

    def factorise(self, Z: Array, W: Array) -> bool:
        """See ``Storage``."""
        self._has_inverse, self.is_set = False, False
        fill(self._store, self._diagonal, self.at_inverse, Z, W)
        own, panel, core = self._views(self._store)
        logdet = kernels.eliminate_leaves(
            own, self._indptr, self._column, panel, self._leaf_inverse, self._scaled, core
        )
        if not np.isfinite(logdet):
            return False
        if self._n_core:
            factor, info = sl.lapack.dpotrf(core.T, lower=0, overwrite_a=1, clean=0)
            if info != 0:
                return False
            self._factor = factor
            logdet += 2.0 * float(np.log(np.diag(factor)).sum())
        self.logdet = float(logdet)
        self.is_set = True
        return True

    def solve(self, right: Array) -> Array:
        """See ``Storage``."""
        J, q = self._shape
        out = np.array(right, np.float64).reshape(right.shape[0], -1)
        leaf, core = out[: self._n_leaf].reshape(J, q, -1), out[self._n_leaf :]
        where = (self._indptr, self._column, self._scaled)
        kernels.leaf_forward(*where, leaf, core)
        if self._n_core:
            core[:] = sl.lapack.dpotrs(self._factor, core, lower=0)[0]
        kernels.leaf_backward(self._leaf_inverse, *where, leaf, core)
        return out.reshape(right.shape)

    def inverse(self) -> Array:
        """See ``Storage``."""
        if not self._has_inverse:
            if self._held.size == 0:
                self._held = np.empty_like(self._store)
            own, cross, core = self._views(self._held)
            if self._n_core:
                core[:] = sl.lapack.dpotri(self._factor, lower=0)[0].T
            kernels.leaf_inverses(
                self._indptr, self._column, self._scaled, core, self._leaf_inverse, own, cross
            )
            self._has_inverse = True
        return self._held

    def own_places(self, block: int) -> Places:
        """See ``Storage``."""
        J, q = self._shape
        if block == 0:
            return np.arange(J * q * q, dtype=np.int64).reshape(J, q, q)
        places = ordered_places(self.effects[block] - self._n_leaf, self._n_core)
        return np.asarray(self._bounds[1] + places)

    def colour(self, noise: Array) -> Array:
        """See ``Storage``: the core first, then the leaf given the core."""
        J, q = self._shape
        out = np.array(noise, np.float64)
        leaf, core = out[: self._n_leaf].reshape(J, q, -1), out[self._n_leaf :]
        if self._n_core:
            core[:] = sl.lapack.dtrtrs(self._factor, core, lower=0)[0]
        coloured = np.linalg.cholesky(self._leaf_inverse) @ leaf
        leaf[:] = 0.0
        where = (self._indptr, self._column, self._scaled)
        kernels.leaf_backward(self._leaf_inverse, *where, leaf, core)
        leaf += coloured
        return out


def _panels(layout: RowLayout, index: Places) -> tuple[Places, NDArray[np.int32], Places]:
    """Core columns of each leaf level, and where each core column of a row stands among them.

    Returns ``indptr`` (J + 1,), ``column`` (nnz,) ascending within a level, and (n, Q - q).
    """
    J, q = layout.sizes[0]
    n_core = max(layout.n_effects - J * q, 1)
    core = index[:, q:] - J * q
    key = layout.codes[0].astype(np.int64)[:, None] * n_core + core
    distinct, place = np.unique(key, return_inverse=True)
    per_level = np.bincount(distinct // n_core, minlength=J)
    indptr = np.concatenate([[0], np.cumsum(per_level)]).astype(np.int64)
    return indptr, (distinct % n_core).astype(np.int32), place.reshape(core.shape).astype(np.int64)
