"""The direct engine for crossed factors: eliminate the largest factor, factorise the rest densely.

The *leaf* is the factor with most levels: its part of ``M`` is block-diagonal and goes first,
``N_g = L (I + L'A_gL)^-1 L'``. What remains, the *core*, is the Schur complement
``C = A_22 - sum_g b_g N_g b_g'``, ``M_2 = I + L_2'C L_2`` (n2 x n2), factorised by LAPACK.
Gradients need only the diagonal blocks of ``M_2^-1`` and the forms ``b_g'M_2^-1 b_g``.

Cost: ``n2^3/3`` (value), ``n2^3`` (with gradient), ``sum_g n_g^2`` scatters; memory ``8 n2^2``
bytes and as much again for the inverse.
Sources: Bates et al. 2015 (block elimination); selected inverse: own derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import dense_core_kernels as kernels
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.threads import step_of

Array = NDArray[np.float64]
THREADED_FROM = 50_000  # nonzeros of the leaf panels from which threads pay
SINGULAR = 1e-3  # ratio of singular values of a factor below which I - M^-1 loses digits


def leaf_rows(cross: CrossProducts) -> tuple[NDArray[np.int64], NDArray[np.int32], Array]:
    """``Z_core'Z_leaf`` by leaf level: pointers, core columns (ascending), values (nnz, q_0)."""
    J, q0 = cross.sizes[0]
    starts = np.concatenate([[0], np.cumsum([k * q for k, q in cross.sizes[1:]])])
    level, column, value = [], [], []
    for s in range(1, cross.n_blocks):
        pair, q = cross.pairs[0, s], cross.sizes[s][1]
        rows = np.repeat(np.arange(J), np.diff(pair.indptr))
        cols = starts[s - 1] + pair.indices[:, None] * q + np.arange(q)
        level.append(np.repeat(rows, q))
        column.append(cols.reshape(-1))
        value.append(pair.values.transpose(0, 2, 1).reshape(-1, q0))
    if cross.n_blocks == 2:
        rows_all, cols_all, values = level[0], column[0], value[0]
    else:
        rows_all, cols_all = np.concatenate(level), np.concatenate(column)
        order = np.lexsort((cols_all, rows_all))
        rows_all, cols_all = rows_all[order], cols_all[order]
        values = np.concatenate(value)[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows_all, minlength=J))])
    return indptr.astype(np.int64), cols_all.astype(np.int32), np.ascontiguousarray(values)


def core_gram(cross: CrossProducts) -> csr_array:
    """``Z_core'Z_core`` (n2, n2), symmetric and sparse: blocks 1, 2, ... of the design."""
    starts = np.concatenate([[0], np.cumsum([J * q for J, q in cross.sizes[1:]])])
    row, col, value = [], [], []
    for t in range(1, cross.n_blocks):
        J, q = cross.sizes[t]
        at = starts[t - 1] + np.arange(J)[:, None] * q + np.arange(q)
        row.append(np.broadcast_to(at[:, :, None], (J, q, q)).reshape(-1))
        col.append(np.broadcast_to(at[:, None, :], (J, q, q)).reshape(-1))
        value.append(cross.own[t].reshape(-1))
        for s in range(t + 1, cross.n_blocks):
            pair, qs = cross.pairs[t, s], cross.sizes[s][1]
            i = at[np.repeat(np.arange(J), np.diff(pair.indptr))]
            j = starts[s - 1] + pair.indices[:, None] * qs + np.arange(qs)
            wide_i = np.broadcast_to(i[:, :, None], pair.values.shape).reshape(-1)
            wide_j = np.broadcast_to(j[:, None, :], pair.values.shape).reshape(-1)
            flat = pair.values.reshape(-1)
            row += [wide_i, wide_j]
            col += [wide_j, wide_i]
            value += [flat, flat]
    n2 = int(starts[-1])
    where = (np.concatenate(row), np.concatenate(col))
    return csr_array((np.concatenate(value), where), shape=(n2, n2))


class DenseCoreEngine:
    """Engine for crossed factors with a dense core (``GaussianEngine``)."""

    name = "crossed, dense core"
    exact = True

    def __init__(self, cross: CrossProducts, threads: int = 2) -> None:
        self.cross_products, self.threads = cross, threads
        self.q0 = cross.sizes[0][1]
        self.indptr, self.index, self.value = leaf_rows(cross)
        self._A22 = core_gram(cross)
        self._S2 = np.concatenate([r.reshape(-1, cross.n_columns) for r in cross.rhs[1:]])
        self.n2 = self._A22.shape[0]
        J = cross.sizes[0][0]
        leaf = np.repeat(np.arange(J), np.diff(self.indptr))
        # Z_core'Z_leaf as one sparse matrix (n2, J q0)
        cols = leaf[:, None] * self.q0 + np.arange(self.q0)
        self._B = csr_array(
            (self.value.reshape(-1), (np.repeat(self.index, self.q0), cols.reshape(-1))),
            shape=(self.n2, J * self.q0),
        )
        self._Bt = csr_array(self._B.T)
        starts = np.concatenate([[0], np.cumsum([k * q for k, q in cross.sizes[1:]])])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(starts)]
        self._bounds = self._balanced_columns()
        self.n_evaluations = 0
        self.T: Array = cross.total
        self.logdet = 0.0
        self._factors: list[Array] = []
        self._clear()

    def _clear(self) -> None:
        self._inverse: Array | None = None
        self._products: tuple[Array, Array] | None = None
        self._blocks: dict[int, Array] = {}

    def _balanced_columns(self) -> NDArray[np.int64]:
        """Column ranges of about equal scatter work, one per thread."""
        lengths = np.diff(self.indptr)
        ahead = np.repeat(self.indptr[1:], lengths) - np.arange(len(self.index))
        work = np.cumsum(np.bincount(self.index, weights=ahead, minlength=self.n2))
        marks = work[-1] * np.arange(1, self.threads) / self.threads
        return np.concatenate([[0], np.searchsorted(work, marks), [self.n2]]).astype(np.int64)

    # -- factorisation -------------------------------------------------------------------------

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors, eliminate the leaf, factorise the core."""
        self._clear()
        self._factors = [np.ascontiguousarray(f) for f in factors]
        A0, L0 = self.cross_products.own[0], self._factors[0]
        M0 = np.eye(self.q0) + L0.T @ A0 @ L0
        C0 = np.linalg.cholesky(M0)
        X = np.linalg.solve(C0, np.broadcast_to(L0.T, A0.shape))
        self._N0 = np.ascontiguousarray(X.transpose(0, 2, 1) @ X)
        log_det = 2.0 * float(np.log(np.einsum("jaa->ja", C0)).sum())
        U = np.zeros((self.n2, self.n2))
        entries = self._A22.tocoo()
        U[entries.row, entries.col] = entries.data
        self._scatter(U)
        self._apply_core_factors(U)
        with step_of(self.n2):
            C, info = sl.lapack.dpotrf(U.T, lower=1, overwrite_a=1, clean=0)
        if info != 0:
            raise LikelihoodError(
                "The core of the crossed design must be positive definite.",
                f"pivot {info} of {self.n2} is not",
                "rescale the predictors with random slopes",
            )
        self._C = C
        self.logdet = log_det + 2.0 * float(np.log(np.diag(C)).sum())
        R0 = self.cross_products.rhs[0]
        NR = self._N0 @ R0
        self._rest = self._S2 - self._B @ NR.reshape(-1, NR.shape[2])
        half = sl.solve_triangular(
            C, self._times_core(self._rest, transpose=True), lower=True, check_finite=False
        )
        T = self.cross_products.total - np.tensordot(R0, NR, axes=([0, 1], [0, 1]))
        T = T - half.T @ half
        self.T = (T + T.T) / 2.0
        self.n_evaluations += 1

    def _scatter(self, U: Array) -> None:
        parts = [(int(a), int(b)) for a, b in pairwise(self._bounds)]

        def run(part: tuple[int, int]) -> None:
            kernels.subtract_leaf_products(
                self.indptr, self.index, self.value, self._N0, U, part[0], part[1]
            )

        if len(parts) == 1 or len(self.index) < THREADED_FROM:
            run((0, self.n2))
            return
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(run, parts))

    def _apply_core_factors(self, U: Array) -> None:
        """``U <- I + L_2'U L_2``."""
        sizes = self.cross_products.sizes[1:]
        if all(q == 1 for _, q in sizes):
            scale = np.concatenate(
                [np.full(J, f[0, 0]) for (J, _), f in zip(sizes, self._factors[1:], strict=True)]
            )
            kernels.scale_core(U, scale)
            return
        qmax = max(q for _, q in sizes)
        padded = np.zeros((len(sizes), qmax, qmax))
        for k, f in enumerate(self._factors[1:]):
            padded[k, : f.shape[0], : f.shape[1]] = f
        width = np.repeat([q for _, q in sizes], [J for J, _ in sizes]).astype(np.int64)
        block = np.repeat(np.arange(len(sizes)), [J for J, _ in sizes]).astype(np.int64)
        first = np.concatenate([[0], np.cumsum(width)[:-1]]).astype(np.int64)
        kernels.transform_core(U, padded, first, width, block)

    def _times_core(self, X: Array, transpose: bool = False) -> Array:
        """``L_2 X`` or ``L_2'X`` for X (n2, k)."""
        out = np.empty_like(X)
        sizes = self.cross_products.sizes[1:]
        for where, (J, q), f in zip(self._slices, sizes, self._factors[1:], strict=True):
            F = f.T if transpose else f
            out[where] = (F @ X[where].reshape(J, q, -1)).reshape(J * q, -1)
        return out

    def _core_solve(self, X: Array) -> Array:
        """``N_2 X = L_2 M_2^-1 L_2' X``."""
        inner, info = sl.lapack.dpotrs(
            self._C, np.asfortranarray(self._times_core(X, transpose=True)), lower=1
        )
        if info != 0:
            raise LikelihoodError("The core solve must succeed.", f"LAPACK info {info}", "")
        return self._times_core(np.ascontiguousarray(inner))

    def _leaf_times(self, X: Array) -> Array:
        """``Z_leaf'Z_core X``: (J q0, k)."""
        return np.asarray(self._Bt @ X)

    def _core_times(self, X: Array) -> Array:
        """``C X = A_22 X - B N_0 (B'X)`` without the dense Schur complement."""
        J, k = self.cross_products.sizes[0][0], X.shape[1]
        inner = self._N0 @ self._leaf_times(X).reshape(J, self.q0, k)
        return np.asarray(self._A22 @ X - self._B @ inner.reshape(-1, k))

    def _eliminate(self, leaf: Array, core: Array) -> tuple[Array, Array]:
        """``Z'V^-1 f`` from ``Z'f``: leaf (J, q0, k), core (n2, k) with the leaf eliminated."""
        J, k = leaf.shape[0], leaf.shape[2]
        v = self._core_solve(core)
        left = leaf - self._leaf_times(v).reshape(J, self.q0, k)
        A0 = self.cross_products.own[0]
        return left - A0 @ (self._N0 @ left), core - self._core_times(v)

    # -- products ------------------------------------------------------------------------------

    def cross(self, block: int) -> Array:
        """``Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        if self._products is None:
            self._products = self._eliminate(self.cross_products.rhs[0], self._rest)
        leaf, core = self._products
        if block == 0:
            return leaf
        J, q = self.cross_products.sizes[block]
        return core[self._slices[block - 1]].reshape(J, q, -1)

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` by block; ``C_t`` is (J_t, q_t, k)."""
        k = coefficients[0].shape[2]
        J = self.cross_products.sizes[0][0]
        leaf_c = coefficients[0]
        core_c = np.concatenate([c.reshape(-1, k) for c in coefficients[1:]])
        leaf = self.cross_products.own[0] @ leaf_c + self._leaf_times(core_c).reshape(J, self.q0, k)
        core = np.asarray(self._B @ leaf_c.reshape(-1, k) + self._A22 @ core_c)
        core = core - self._B @ (self._N0 @ leaf).reshape(-1, k)
        H0, H2 = self._eliminate(leaf, core)
        out = [H0]
        for where, (Jt, q) in zip(self._slices, self.cross_products.sizes[1:], strict=True):
            out.append(H2[where].reshape(Jt, q, k))
        return out

    def _core_inverse(self) -> Array:
        """``M_2^-1``, upper triangle in C order."""
        if self._inverse is None:
            with step_of(self.n2):
                inverse, info = sl.lapack.dpotri(self._C, lower=1)
            if info != 0:
                raise LikelihoodError("The core must be invertible.", f"LAPACK info {info}", "")
            self._inverse = inverse.T
        return self._inverse

    def information_blocks(self, block: int) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t)."""
        if block not in self._blocks:
            self._blocks[block] = (
                self._leaf_information() if block == 0 else self._core_information(block)
            )
        return self._blocks[block]

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        return np.asarray(self.information_blocks(block).sum(axis=0))

    def _leaf_information(self) -> Array:
        A, N = self.cross_products.own[0], self._N0
        forms = np.zeros_like(A)
        # rows of b_g in the basis of M_2: L_2'b
        value = np.empty_like(self.value)
        scaled = self._scaled_values(value)
        U = self._core_inverse()
        J = A.shape[0]
        cuts = np.searchsorted(
            np.cumsum(np.diff(self.indptr) ** 2.0),
            np.arange(1, self.threads) / self.threads * float((np.diff(self.indptr) ** 2.0).sum()),
        )
        edges = [0, *(int(c) for c in cuts), J]

        def run(i: int) -> None:
            kernels.gather_leaf_forms(
                self.indptr, self.index, scaled, U, forms, edges[i], edges[i + 1]
            )

        if len(self.index) < THREADED_FROM:
            for i in range(self.threads):
                run(i)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(run, range(self.threads)))
        P = np.eye(self.q0) - A @ N
        return np.asarray(A - A @ N @ A - P @ forms @ P.transpose(0, 2, 1))

    def _scaled_values(self, out: Array) -> Array:
        """Core rows of every leaf panel times ``L_2'`` (levels of one block are complete)."""
        for where, (_, q), f in zip(
            self._slices, self.cross_products.sizes[1:], self._factors[1:], strict=True
        ):
            held = np.flatnonzero((self.index >= where.start) & (self.index < where.stop))
            panel = self.value[held].reshape(-1, q, self.q0)
            out[held] = (f.T @ panel).reshape(-1, self.q0)
        return out

    def _core_information(self, block: int) -> Array:
        J, q = self.cross_products.sizes[block]
        where = self._slices[block - 1]
        L = self._factors[block]
        singular = np.linalg.svd(L, compute_uv=False)
        if singular[-1] < SINGULAR * max(float(singular[0]), SINGULAR):
            return self._core_information_by_columns(block)
        U = self._core_inverse()
        at = where.start + np.arange(J)[:, None] * q + np.arange(q)
        low = np.minimum(at[:, :, None], at[:, None, :])
        high = np.maximum(at[:, :, None], at[:, None, :])
        inverse = np.linalg.inv(L)
        return np.asarray(inverse.T @ (np.eye(q) - U[low, high]) @ inverse)

    def _core_information_by_columns(self, block: int, batch: int = 512) -> Array:
        """``C_gg - C_g.N_2 C_.g`` column by column: exact where L_t is (nearly) singular."""
        J, q = self.cross_products.sizes[block]
        start = self._slices[block - 1].start
        out = np.empty((J, q, q))
        step = max(1, batch // q)
        for first in range(0, J, step):
            last = min(first + step, J)
            width = (last - first) * q
            E = np.zeros((self.n2, width))
            at = start + first * q + np.arange(width)
            E[at, np.arange(width)] = 1.0
            columns = self._core_times(E)
            G = columns - self._core_times(self._core_solve(columns))
            local = G[at].reshape(last - first, q, last - first, q)
            out[first:last] = local[np.arange(last - first), :, np.arange(last - first), :]
        return out
