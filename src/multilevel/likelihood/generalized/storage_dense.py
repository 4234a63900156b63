"""``H`` as one dense matrix: for up to a few hundred random effects, or where all meet all."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray

from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import (
    clique_pairs,
    fill,
    natural_effects,
    ordered_places,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class DenseStorage:
    """Dense Cholesky by LAPACK (``Storage``). The lower triangle in C order is what counts."""

    name = "dense"

    def __init__(self, layout: RowLayout) -> None:
        N = layout.n_effects
        self.order = self.n_independent = N
        self.effects = natural_effects(layout.sizes)
        index = layout.index(self.effects).astype(np.int64)
        a, b = clique_pairs(index.shape[1])
        # columns of later blocks have later unknowns, so (a, b) with b <= a is lower
        self.at_inverse: Places = np.ascontiguousarray(index[:, a] * N + index[:, b])
        self._diagonal = np.arange(N, dtype=np.int64) * (N + 1)
        self._store = np.empty(N * N)
        self._factor: Array = np.empty((0, 0))
        self._inverse: Array | None = None
        self.logdet = float("nan")
        self.is_set = False

    def factorise(self, Z: Array, W: Array) -> bool:
        """See ``Storage``."""
        self._inverse, self.is_set = None, False
        fill(self._store, self._diagonal, self.at_inverse, Z, W)
        square = self._store.reshape(self.order, self.order)
        factor, info = sl.lapack.dpotrf(square.T, lower=0, overwrite_a=1, clean=0)
        if info != 0:
            return False
        self._factor = factor
        self.logdet = 2.0 * float(np.log(np.diag(factor)).sum())
        self.is_set = True
        return True

    def solve(self, right: Array) -> Array:
        """See ``Storage``."""
        solution, _ = sl.lapack.dpotrs(self._factor, right, lower=0)
        return np.asarray(solution)

    def inverse(self) -> Array:
        """See ``Storage``."""
        if self._inverse is None:
            inverse, _ = sl.lapack.dpotri(self._factor, lower=0)
            self._inverse = np.asarray(inverse.T).reshape(-1)
        return self._inverse

    def own_places(self, block: int) -> Places:
        """See ``Storage``."""
        return ordered_places(self.effects[block], self.order)

    def colour(self, noise: Array) -> Array:
        """See ``Storage``."""
        out, _ = sl.lapack.dtrtrs(self._factor, noise, lower=0)
        return np.asarray(out)
