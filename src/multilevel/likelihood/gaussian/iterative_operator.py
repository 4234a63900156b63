"""The operator of the iterative crossed engine: leaf eliminated, core scaled to unit diagonal.

With the leaf (block 0) eliminated, ``V_0 = I + Z_0 Psi_0 Z_0'``, the core (all other blocks) has
the Gram matrix ``C = Z_c'V_0^-1 Z_c = A_cc - sum_g b_g N_g b_g'``, ``N_g = L (I + L'A_gL)^-1 L'``.
It splits into its diagonal blocks ``Delta`` (one per level) and the rest ``O``. With
``D = I + L'Delta L = F F'`` and ``H = L F^-T`` per level,

    ``|I + L'C L| = |D| |I + H'O H|``,   ``(I + L'C L)^-1 = F^-T (I + H'O H)^-1 F^-1``.

``I + H'O H`` has unit diagonal blocks, so its conjugate gradients are those of the core with the
block-Jacobi preconditioner. Nothing is divided by ``L``: factors may be singular or zero.
Source: own derivation from Woodbury's identity and block elimination (Bates et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import iterative_kernels as kernels
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.gaussian.dense_core import leaf_rows

Array = NDArray[np.float64]
PARALLEL_ENTRIES = 50_000  # below this the threads cost more than they save


@dataclass(frozen=True)
class CrossedLayout:
    """Sparse arrays of a crossed design, built once (see ``iterative_kernels`` for the layout).

    Attributes
    ----------
    leaf : (n_core, J_0 q_0) ``Z_core'Z_leaf``; ``leaf_transposed`` its transpose.
    off_diagonal : core rows of ``Z_core'Z_core`` without the blocks on the diagonal.
    slices : rows of each core block; ``leaf_edges``, ``core_edges``: fixed ranges of work.
    """

    indptr: NDArray[np.int64]
    index: NDArray[np.int32]
    value: Array
    leaf: csr_array
    leaf_transposed: csr_array
    off_diagonal: tuple[NDArray[np.int64], NDArray[np.int32], Array]
    off_matrix: csr_array
    first: NDArray[np.int32]
    width: NDArray[np.int32]
    slices: tuple[slice, ...]
    leaf_edges: tuple[int, ...]
    core_edges: tuple[int, ...]

    @property
    def n_core(self) -> int:
        """Rows of the core."""
        return len(self.first)


def crossed_layout(cross: CrossProducts, parts: int) -> CrossedLayout:
    """Arrange the cross-products for the iterative engine, in ``parts`` ranges of equal work.

    Raises
    ------
    LikelihoodError : fewer than two grouping factors.
    """
    if cross.n_blocks < 2:
        raise LikelihoodError(
            "The iterative engine needs at least two grouping factors.",
            f"{cross.n_blocks} factor",
            "use the nested engine",
        )
    J0, q0 = cross.sizes[0]
    indptr, index, value = leaf_rows(cross)
    starts = np.concatenate([[0], np.cumsum([J * q for J, q in cross.sizes[1:]])]).astype(int)
    transposed = csr_array((value[:, 0], index, indptr), shape=(J0, int(starts[-1])))
    if q0 > 1:
        rows = np.repeat(np.arange(J0), np.diff(indptr))[:, None] * q0 + np.arange(q0)
        columns = np.repeat(index, q0)
        transposed = csr_array(
            coo_array((value.ravel(), (rows.ravel(), columns)), shape=(J0 * q0, int(starts[-1])))
        )
    off = _off_diagonal(cross, starts)
    width = np.concatenate([np.full(J * q, q) for J, q in cross.sizes[1:]]).astype(np.int32)
    first = np.concatenate(
        [
            s + np.repeat(np.arange(J) * q, q)
            for s, (J, q) in zip(starts[:-1], cross.sizes[1:], strict=True)
        ]
    ).astype(np.int32)
    marks = np.arange(1, parts) / parts
    leaf_cuts = np.searchsorted(indptr, marks * indptr[-1])
    core_cuts = first[np.minimum((marks * starts[-1]).astype(int), len(first) - 1)]
    return CrossedLayout(
        indptr,
        index,
        value,
        csr_array(transposed.T),
        transposed,
        (off.indptr.astype(np.int64), off.indices.astype(np.int32), off.data),
        off,
        first,
        width,
        tuple(slice(int(a), int(b)) for a, b in pairwise(starts)),
        (0, *(int(c) for c in leaf_cuts), J0),
        (0, *(int(c) for c in core_cuts), len(first)),
    )


def _off_diagonal(cross: CrossProducts, starts: NDArray[np.int64]) -> csr_array:
    """``Z_t'Z_s`` of all pairs of core blocks, both triangles."""
    n = int(starts[-1])
    total = csr_array((n, n))
    for (t, s), pair in cross.pairs.items():
        if t == 0:
            continue
        (J, q), (_, r) = cross.sizes[t], cross.sizes[s]
        level = np.repeat(np.arange(J), np.diff(pair.indptr))
        rows = starts[t - 1] + level[:, None, None] * q + np.arange(q)[:, None]
        columns = starts[s - 1] + pair.indices[:, None, None] * r + np.arange(r)
        at = np.broadcast_arrays(rows, columns)
        upper = coo_array((pair.values.ravel(), (at[0].ravel(), at[1].ravel())), shape=(n, n))
        total = csr_array(total + upper + upper.T)
    total.sort_indices()
    return total


def small_cholesky(M: Array) -> Array:
    """Lower Cholesky factors of (J, q, q) positive definite blocks."""
    if M.shape[1] == 1:
        return np.sqrt(M)
    return np.asarray(np.linalg.cholesky(M))


def small_solve(M: Array, B: Array) -> Array:
    """``M^-1 B`` for blocks M (J, q, q), B (J, q, k)."""
    if M.shape[1] == 1:
        return B / M
    return np.asarray(np.linalg.solve(M, B))


class CrossedOperator:
    """The eliminated leaf and the scaled core at one set of relative factors.

    Attributes
    ----------
    N, U, information : per leaf level (J_0, q_0, q_0): ``N_g``, ``U_g = (I + A_g Psi_0)^-1``,
        ``U_g A_g`` (the information of the leaf alone).
    Delta, H, core_U : per core block (J_t, q_t, q_t); ``core_U = (I + Psi_t Delta)^-1``.
    F : per core block, Cholesky factors of ``D``.
    logdet : ``log|D_leaf| + log|D_core|``.
    """

    def __init__(
        self, cross: CrossProducts, layout: CrossedLayout, factors: Sequence[Array]
    ) -> None:
        self.layout = layout
        A0, L0 = cross.own[0], factors[0]
        q0 = L0.shape[0]
        C0 = small_cholesky(np.eye(q0) + L0.T @ A0 @ L0)
        half = small_solve(C0, np.broadcast_to(L0.T, A0.shape))
        self.N = np.ascontiguousarray(half.transpose(0, 2, 1) @ half)
        psi = L0 @ L0.T
        self.U = small_solve(np.eye(q0) + A0 @ psi, np.broadcast_to(np.eye(q0), A0.shape))
        self.information = self.U @ A0
        self.logdet = 2.0 * float(np.log(np.einsum("jaa->ja", C0)).sum())
        widest = int(layout.width.max())
        self.leaf_part = np.zeros((layout.n_core, widest))
        empty = np.zeros((0, q0, q0))
        self._diagonals(self.leaf_part, self.leaf_part, empty, to_core=True)
        self.Delta: list[Array] = []
        self.H: list[Array] = []
        self.F: list[Array] = []
        self.core_U: list[Array] = []
        for where, A, L in zip(layout.slices, cross.own[1:], factors[1:], strict=True):
            q = L.shape[0]
            Delta = A - self.leaf_part[where, :q].reshape(A.shape)
            Delta = (Delta + Delta.transpose(0, 2, 1)) / 2.0
            F = small_cholesky(np.eye(q) + L.T @ Delta @ L)
            H = small_solve(F, np.broadcast_to(L.T, A.shape)).transpose(0, 2, 1)
            self.logdet += 2.0 * float(np.log(np.einsum("jaa->ja", F)).sum())
            self.Delta.append(Delta)
            self.F.append(F)
            self.H.append(H)
            unit = np.broadcast_to(np.eye(q), A.shape)
            self.core_U.append(small_solve(np.eye(q) + (L @ L.T) @ Delta, unit))
        self.H_rows = self._by_rows(self.H)

    def _diagonals(self, core: Array, Theta: Array, leaf: Array, to_core: bool) -> None:
        a = self.layout
        kernels.leaf_diagonals(
            a.indptr, a.index, a.value, a.first, a.width, self.N, core, Theta, leaf, to_core
        )

    def _by_rows(self, blocks: Sequence[Array]) -> Array:
        out = np.zeros((self.layout.n_core, int(self.layout.width.max())))
        for where, block in zip(self.layout.slices, blocks, strict=True):
            out[where, : block.shape[1]] = block.reshape(-1, block.shape[1])
        return out

    def leaf_first_order(self) -> Array:
        """``b_g'H H'b_g`` by leaf level (J_0, q_0, q_0): the forms of the diagonal core."""
        theta = self._by_rows([H @ H.transpose(0, 2, 1) for H in self.H])
        out = np.zeros_like(self.N)
        self._diagonals(self.leaf_part[:0], theta, out, to_core=False)
        return out

    def times(self, blocks: Sequence[Array], X: Array, transpose: bool = False) -> Array:
        """Block-diagonal product with X (n_core, k)."""
        out = np.empty_like(X)
        for where, B in zip(self.layout.slices, blocks, strict=True):
            J, q = B.shape[:2]
            if q == 1:
                np.multiply(B[:, 0], X[where], out=out[where])
                continue
            M = B.transpose(0, 2, 1) if transpose else B
            out[where] = (M @ X[where].reshape(J, q, -1)).reshape(J * q, -1)
        return out

    def leaf_gather(self, X: Array) -> Array:
        """``b_g'X`` by leaf level: (J_0, q_0, k)."""
        J0, q0 = self.N.shape[:2]
        return np.asarray(self.layout.leaf_transposed @ X).reshape(J0, q0, -1)

    def leaf_scatter(self, X: Array) -> Array:
        """``sum_g b_g X_g``: (n_core, k), from X (J_0, q_0, k)."""
        return np.asarray(self.layout.leaf @ X.reshape(-1, X.shape[2]))


class Workers:
    """Runs a kernel over fixed ranges; results do not depend on how many threads there are."""

    def __init__(self, layout: CrossedLayout, threads: int) -> None:
        busy = threads > 1 and len(layout.index) >= PARALLEL_ENTRIES
        self._pool = ThreadPoolExecutor(threads) if busy else None
        self.leaf = list(zip(layout.leaf_edges[:-1], layout.leaf_edges[1:], strict=True))
        self.core = list(zip(layout.core_edges[:-1], layout.core_edges[1:], strict=True))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_details: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, task: Callable[[int, int, int], None], ranges: Iterable[tuple[int, int]]) -> None:
        """``task(i, first, last)`` for each range i."""
        if self._pool is None:
            for i, (first, last) in enumerate(ranges):
                task(i, first, last)
            return
        waiting = [self._pool.submit(task, i, a, b) for i, (a, b) in enumerate(ranges)]
        for one in waiting:
            one.result()
