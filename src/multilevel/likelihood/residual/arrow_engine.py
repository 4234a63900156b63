r"""The engine of an arrow layout: the leaf goes by cluster, the core is factorised densely.

By cluster, of whitened rows, ``A = Z1'Z1``, ``B = Z1'Z2``, ``E = Z2'Z2``, ``R1 = Z1'W``; with
``N1 = L1 (I + L1'A L1)^-1 L1'`` (block-diagonal by cluster) and ``V1 = I + Z1 Psi1 Z1'``,

    C  = Z2'V1^-1 Z2 = sum (E - B'N1 B),     S = I + L2'C L2,     N2 = L2 S^-1 L2',
    H2 = Z2'V1^-1 W  = R2 - sum B'N1 R1,     log|V| = sum log|I + L1'A L1| + log|S|,
    Var(u2|y) = N2,  u2 = N2 H2,  u1 = N1 (R1 - B u2),  Var(u1|y) = N1 + N1 B N2 B'N1,
    Z1'V^-1 Z1 = A - A N1 A - G N2 G',  G = B - A N1 B.

Cost by cluster and ``O(n2^3)`` for the n2 effects of the core. Source: block elimination as in
Bates et al. 2015 (JSS 67:1); Henderson 1975 for general R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.threads import step_of
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.related.products import RelatedProducts
from multilevel.likelihood.residual.arrow_layout import ArrowLayout, leaf_factor

Array = NDArray[np.float64]
CHUNK = 4_000_000  # entries scattered at a time
SINGULAR = 1e-3  # ratio of singular values of a factor below which I - S^-1 loses digits


@dataclass(frozen=True)
class ArrowProducts(RelatedProducts):
    """Cross-products by cluster: ``A`` (C, Q, Q), ``B`` (C, Q, K), ``E`` (C, K, K), ``R1``
    (C, Q, m), ``R2`` (n2, m) over all clusters. ``gram`` is None."""

    layout: ArrowLayout | None = None
    A: Array | None = None
    B: Array | None = None
    E: Array | None = None
    R1: Array | None = None
    R2: Array | None = None


def arrow_products(
    layout: ArrowLayout, sizes: Sequence[tuple[int, int]], rows: Array, logdet: float
) -> ArrowProducts:
    """Cross-products of whitened rows: Z in local columns, X and y (n, Q + K + m)."""
    Q, width = layout.n_leaf, layout.n_leaf + layout.n_core
    W, m = rows[:, width:], rows.shape[1] - width
    gram = layout.squares(rows[:, :width], rows)
    A, B = gram[:, :Q, :Q].copy(), gram[:, :Q, Q:-m].copy()
    E, R1 = gram[:, Q:, Q:-m].copy(), gram[:, :Q, -m:].copy()
    R2 = gather_sum(layout, gram[:, Q:, -m:])
    own, rhs = [], []
    for t, (J, q) in enumerate(sizes):
        a, b = np.zeros((J, q, q)), np.zeros((J, q, m))
        home = layout.homes[t]
        at = home.column[:, None] + np.arange(q)
        from_ = A if t in layout.leaf else E
        np.add.at(a, home.level, from_[home.cluster[:, None, None], at[:, :, None], at[:, None, :]])
        if t in layout.leaf:
            b[home.level] = R1[home.cluster[:, None], at]
        else:
            start = layout.starts[layout.core.index(t)]
            b = R2[start : start + J * q].reshape(J, q, m)
        own.append(a)
        rhs.append(b)
    return ArrowProducts(
        len(W), m - 1, W.T @ W, tuple(own), tuple(rhs), {}, -logdet, None,
        (None,) * len(own), {}, layout, A, B, E, R1, R2,
    )  # fmt: skip


def gather_sum(layout: ArrowLayout, values: Array) -> Array:
    """Sum of local core values (C, K, k) by effect: (n2, k)."""
    out = np.empty((layout.n_effects, values.shape[2]))
    flat = layout.index.ravel()
    for k in range(values.shape[2]):
        weights = np.ascontiguousarray(values[:, :, k]).ravel()
        out[:, k] = np.bincount(flat, weights, layout.n_effects + 1)[: layout.n_effects]
    return out


def _padded(X: Array) -> Array:
    """One more row of zeros, for local columns that stand for nothing."""
    return np.concatenate([X, np.zeros((1, X.shape[1]))])


class ArrowEngine(GaussianEngine):
    """Leaf by cluster, dense core (``RelatedEngine``: levels of the core share units)."""

    name = "crossed, leaf by cluster"
    exact = True
    couples_levels = True

    def __init__(self, products: ArrowProducts) -> None:
        p = products
        if (
            p.layout is None or p.A is None or p.B is None or p.E is None or p.R1 is None
            or p.R2 is None
        ):  # fmt: skip
            raise LikelihoodError("Products by cluster are needed.", "none", "use arrow_products")
        self.products, self.layout = products, p.layout
        self._A, self._B, self._E, self._R1, self._R2 = p.A, p.B, p.E, p.R1, p.R2
        self.n_evaluations = 0
        self.T: Array = products.total
        self.logdet = 0.0
        self._factors: list[Array] = []
        self._clear()

    @property
    def independent_sizes(self) -> tuple[tuple[int, int], ...]:
        """``(J_t, q_t)`` by block: levels, which are independent, and columns."""
        return self.products.sizes

    def _clear(self) -> None:
        self._N2: Array | None = None
        self._local: Array | None = None
        self._solved: tuple[Array, Array] | None = None
        self._crossed: tuple[Array, Array] | None = None
        self._halves: Array | None = None

    # -- factorisation -------------------------------------------------------------------------

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors, eliminate the leaf, factorise the core."""
        self._clear()
        layout = self.layout
        self._factors = [np.asarray(f, np.float64) for f in factors]
        L1 = leaf_factor(layout, [q for _, q in self.products.sizes], self._factors)
        root = np.linalg.cholesky(np.eye(layout.n_leaf) + L1.T @ self._A @ L1)
        X = np.linalg.solve(root, np.broadcast_to(L1.T, self._A.shape))
        self.N1 = X.transpose(0, 2, 1) @ X
        self.NB = self.N1 @ self._B
        self._C = self._scattered(self._E - self._B.transpose(0, 2, 1) @ self.NB)
        M = self._times_core(self._times_core(self._C, True).T, True)
        M.flat[:: len(M) + 1] += 1.0
        with step_of(layout.n_effects):
            S, info = sl.lapack.dpotrf(M.T, lower=1, overwrite_a=1, clean=1)
        log_leaf = 2.0 * float(np.log(np.einsum("jaa->ja", root)).sum())
        if info != 0 or not np.isfinite(log_leaf):
            raise LikelihoodError(
                "I + L'Z'ZL must be positive definite.",
                f"pivot {info} of {layout.n_effects} effects is not",
                "rescale the predictors with random slopes",
            )
        self._S = S
        NR = self.N1 @ self._R1
        self._H2 = self._R2 - gather_sum(layout, self._B.transpose(0, 2, 1) @ NR)
        half = self._half(self._times_core(self._H2, True))
        T = self.products.total - np.tensordot(self._R1, NR, axes=([0, 1], [0, 1])) - half.T @ half
        self.T = (T + T.T) / 2.0
        self.logdet = log_leaf + 2.0 * float(np.log(np.diag(S)).sum())
        self.n_evaluations += 1

    def _scattered(self, values: Array) -> Array:
        """Sum of local core matrices (C, K, K) over all clusters: (n2, n2)."""
        size, index = self.layout.n_effects + 1, self.layout.index
        out = np.zeros(size * size)
        step = max(1, CHUNK // max(1, index.shape[1] ** 2))
        for at in range(0, len(index), step):
            own = index[at : at + step]
            flat = (own[:, :, None] * size + own[:, None, :]).ravel()
            if flat.size * 4 > out.size:
                out += np.bincount(flat, values[at : at + step].ravel(), size * size)
            else:
                np.add.at(out, flat, values[at : at + step].ravel())
        return np.ascontiguousarray(out.reshape(size, size)[:-1, :-1])

    def _half(self, X: Array) -> Array:
        """``chol(S)^-1 X``."""
        return np.asarray(sl.solve_triangular(self._S, X, lower=True, check_finite=False))

    def _times_core(self, X: Array, transpose: bool = False) -> Array:
        """``L2 X`` or ``L2'X`` for X (n2, k)."""
        out = np.empty_like(X)
        for t, start in zip(self.layout.core, self.layout.starts, strict=False):
            J, q = self.products.sizes[t]
            F = self._factors[t].T if transpose else self._factors[t]
            part = X[start : start + J * q].reshape(J, q, -1)
            out[start : start + J * q] = (F @ part).reshape(J * q, -1)
        return out

    @property
    def N2(self) -> Array:
        """``Var(u2 | y) / sigma2`` (n2, n2)."""
        if self._N2 is None:
            inverse, info = self._S, 0
            if len(inverse):
                with step_of(len(inverse)):
                    inverse, info = sl.lapack.dpotri(inverse, lower=1)
            if info != 0:
                raise LikelihoodError("The core must be invertible.", f"LAPACK info {info}", "")
            below = np.tril(inverse, -1)
            inverse = below + below.T + np.diag(np.diag(inverse))
            self._N2 = self._times_core(self._times_core(inverse).T)
        return self._N2

    def local_core(self) -> Array:
        """``N2`` in local columns: (C, K, K), zero where a column stands for nothing."""
        if self._local is None:
            wide = np.pad(self.N2, ((0, 1), (0, 1)))
            index = self.layout.index
            self._local = wide[index[:, :, None], index[:, None, :]]
        return self._local

    def local_posterior(self) -> Array:
        """``Var(u | y) / sigma2`` in local columns: (C, Q + K, Q + K)."""
        Q, N2 = self.layout.n_leaf, self.local_core()
        out = np.empty((len(N2), Q + N2.shape[1], Q + N2.shape[1]))
        lean = self.NB @ N2
        out[:, :Q, :Q] = self.N1 + lean @ self.NB.transpose(0, 2, 1)
        out[:, :Q, Q:] = -lean
        out[:, Q:, :Q] = -lean.transpose(0, 2, 1)
        out[:, Q:, Q:] = N2
        return out

    # -- solves --------------------------------------------------------------------------------

    def solve(self, F1: Array, F2: Array) -> tuple[Array, Array]:
        """``Var(u | y) F / sigma2`` for F of the leaf (C, Q, k) and of the core (n2, k)."""
        NF = self.N1 @ F1
        rest = F2 - gather_sum(self.layout, self._B.transpose(0, 2, 1) @ NF)
        u2 = self.N2 @ rest
        return NF - self.NB @ _padded(u2)[self.layout.index], u2

    def solved(self) -> tuple[Array, Array]:
        """``Var(u | y) Z'W / sigma2``: leaf (C, Q, m), core (n2, m)."""
        if self._solved is None:
            self._solved = self.solve(self._R1, self._R2)
        return self._solved

    def grouped(self, X: Sequence[Array]) -> tuple[Array, Array]:
        """Values by block and level (J_t, q_t, k) as leaf (C, Q, k) and core (n2, k)."""
        layout, k = self.layout, X[0].shape[2]
        leaf = np.zeros((layout.n_clusters, layout.n_leaf, k))
        for t in layout.leaf:
            home, q = layout.homes[t], X[t].shape[1]
            for a in range(q):
                leaf[home.cluster, home.column + a] = X[t][home.level, a]
        parts = [X[t].reshape(-1, k) for t in layout.core]
        return leaf, np.concatenate(parts) if parts else np.zeros((0, k))

    def _by_level(self, block: int, leaf: Array, core: Array) -> Array:
        """Leaf (C, Q, k) and core (n2, k) values of one block: (J_t, q_t, k)."""
        layout, (J, q) = self.layout, self.products.sizes[block]
        if block in layout.core:
            start = layout.starts[layout.core.index(block)]
            return core[start : start + J * q].reshape(J, q, -1)
        home = layout.homes[block]
        out = np.zeros((J, q, leaf.shape[2]))
        for a in range(q):
            out[home.level, a] = leaf[home.cluster, home.column + a]
        return out

    def _leaf_blocks(self, block: int, values: Array) -> Array:
        """Blocks on the diagonal of leaf matrices (C, Q, Q) by level: (J_t, q_t, q_t)."""
        J, q = self.products.sizes[block]
        home, out = self.layout.homes[block], np.zeros((J, q, q))
        at = home.column[:, None] + np.arange(q)
        out[home.level] = values[home.cluster[:, None, None], at[:, :, None], at[:, None, :]]
        return out

    def _core_blocks(self, block: int, values: Array) -> Array:
        """Blocks on the diagonal of a core matrix (n2, n2) by level: (J_t, q_t, q_t)."""
        J, q = self.products.sizes[block]
        start = self.layout.starts[self.layout.core.index(block)]
        at = start + np.arange(J)[:, None] * q + np.arange(q)
        return np.asarray(values[at[:, :, None], at[:, None, :]])

    # -- products ------------------------------------------------------------------------------

    def _gram_times(self, c1: Array, c2: Array) -> tuple[Array, Array]:
        """``Z'Z c`` for leaf (C, Q, k) and core (n2, k)."""
        near = _padded(c2)[self.layout.index]
        inner = self._B.transpose(0, 2, 1) @ c1 + self._E @ near
        return self._A @ c1 + self._B @ near, gather_sum(self.layout, inner)

    def cross(self, block: int) -> Array:
        """``Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        if self._crossed is None:
            F1, F2 = self._gram_times(*self.solved())
            self._crossed = self._R1 - F1, self._R2 - F2
        return self._by_level(block, *self._crossed)

    def information_blocks(self, block: int) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t)."""
        if block in self.layout.core:
            return self._core_information(block)
        AN = self._A @ self.N1
        G = self._B - AN @ self._B
        full = self._A - AN @ self._A - G @ self.local_core() @ G.transpose(0, 2, 1)
        return self._leaf_blocks(block, full)

    def _core_information(self, block: int) -> Array:
        """From ``L'(Z'V^-1 Z)L = I - S^-1``; where L is nearly singular from ``C - C N2 C``."""
        L = self._factors[block]
        singular = np.linalg.svd(L, compute_uv=False)
        if singular[-1] >= SINGULAR * max(float(singular[0]), SINGULAR):
            inverse = np.linalg.inv(L)
            rest = inverse @ self._core_blocks(block, self.N2) @ inverse.T
            return np.asarray(inverse.T @ (np.eye(len(L)) - rest) @ inverse)
        if self._halves is None:
            self._halves = self._half(self._times_core(self._C, True))
        J, q = self.products.sizes[block]
        start = self.layout.starts[self.layout.core.index(block)]
        D = self._halves[:, start : start + J * q].reshape(-1, J, q)
        taken = np.einsum("kja,kjb->jab", D, D, optimize=True)
        return np.asarray(self._core_blocks(block, self._C) - taken)

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        return np.asarray(self.information_blocks(block).sum(axis=0))

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` by block; ``C_t`` is (J_t, q_t, k)."""
        F1, F2 = self._gram_times(*self.grouped(coefficients))
        G1, G2 = self._gram_times(*self.solve(F1, F2))
        return [self._by_level(t, F1 - G1, F2 - G2) for t in range(len(coefficients))]

    def solution(self, block: int) -> Array:
        """``Psi Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        return self._by_level(block, *self.solved())

    def posterior_blocks(self, block: int) -> Array:
        """``Var(b_g | y) / sigma2`` by level: (J_t, q_t, q_t)."""
        if block in self.layout.core:
            return self._core_blocks(block, self.N2)
        full = self.N1 + self.NB @ self.local_core() @ self.NB.transpose(0, 2, 1)
        return self._leaf_blocks(block, full)

    def posterior_product(self, loadings: Sequence[Array]) -> list[Array]:
        """``Var(b | y) X / sigma2`` for X by block, (J_t, q_t, k); the same shapes."""
        found = self.solve(*self.grouped(loadings))
        return [self._by_level(t, *found) for t in range(len(loadings))]


def make_arrow(cross: CrossProducts) -> GaussianEngine:
    """The engine of an arrow layout, for plans of engines."""
    if not isinstance(cross, ArrowProducts):
        raise LikelihoodError("Products by cluster are needed.", "others", "use arrow_products")
    return ArrowEngine(cross)
