"""The nested engine: any chain of grouping factors, each nested in the next.

Random effects are eliminated from the finest factor upwards; each elimination changes only the
cross-products of the units above. Cost ``O(J q (q + m) m)`` per evaluation, whatever the rows.
Large problems run compiled kernels; the NumPy code below is their plain twin and serves small
problems, where nothing is compiled.

With ``A``, ``R`` a unit's cross-products after the elimination of all factors below it:
``N = L (I + L'AL)^-1 L'``, up: ``(A, R)_parent -= R_l'N [R_l R]``; down:
``G = A - ANA``, ``H = R - ANR``, then for each ancestor ``G -= H_l N_up H_l'``,
``H -= H_l N_up R_up``.

Source: own derivation; checked against dense brute force for every kind of design.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts

Array = NDArray[np.float64]
COMPILED_FROM = 20_000  # units x columns above which kernels are compiled


def _scatter_sub(target: Array, index: NDArray[np.int64], values: Array) -> None:
    """``target[index] -= values`` with repeated indices."""
    np.subtract.at(target, index, values)


class NestedEngine:
    """Engine for nested factors (``GaussianEngine``)."""

    name = "nested"
    exact = True

    def __init__(self, cross: CrossProducts, *, compiled: bool | None = None) -> None:
        if not cross.is_chain:
            raise LikelihoodError(
                "The nested engine needs every grouping factor nested in the next.",
                f"{cross.n_blocks} factors that are not a chain",
                "let the engine be chosen automatically",
            )
        self.cross_products = cross
        self.m = cross.n_columns
        self.widths = [q for _, q in cross.sizes]
        self.n_evaluations = 0
        self.T: Array = cross.total
        self.logdet = 0.0
        K = cross.n_blocks
        work = max((J * (q + self.m) for J, q in cross.sizes), default=0)
        self.compiled = work > COMPILED_FROM if compiled is None else compiled
        self._parents = [{t: self._ancestor(k, t) for t in range(k + 1, K)} for k in range(K)]
        self._right0 = [
            np.ascontiguousarray(
                np.concatenate(
                    [*(cross.pairs[k, t].values for t in range(k + 1, K)), cross.rhs[k]], axis=2
                )
            )
            for k in range(K)
        ]
        self._N: list[Array] = []
        self._A: list[Array] = []
        self._right: list[Array] = []
        self._projected: dict[int, tuple[Array, Array]] = {}

    def _ancestor(self, k: int, t: int) -> NDArray[np.int64]:
        """Level of block t that holds each level of block k."""
        return np.ascontiguousarray(self.cross_products.pairs[k, t].indices)

    def _offset(self, k: int, t: int) -> int:
        """First column of block t inside ``right`` of block k."""
        return sum(self.widths[k + 1 : t])

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors (q_t, q_t) and eliminate, finest factor first."""
        cross = self.cross_products
        K = cross.n_blocks
        self._A = [a if k == 0 else a.copy() for k, a in enumerate(cross.own)]
        self._right = [r if k == 0 else r.copy() for k, r in enumerate(self._right0)]
        self._N, self._projected = [], {}
        T = cross.total.copy()
        log_det = 0.0
        for k in range(K):
            factor = np.ascontiguousarray(factors[k])
            N, part = self._eliminate(self._A[k], self._right[k], factor, T)
            self._N.append(N)
            log_det += part
            for t in range(k + 1, K):
                self._push(k, t)
        self.T = np.tril(T) + np.tril(T, -1).T
        self.logdet = log_det
        self.n_evaluations += 1
        if not np.isfinite(log_det):
            raise LikelihoodError(
                "The relative covariance factors must be finite.",
                "a covariance of one unit that is not positive definite",
                "rescale the predictors with random slopes",
            )

    def _eliminate(self, A: Array, right: Array, factor: Array, T: Array) -> tuple[Array, float]:
        if self.compiled:
            from multilevel.likelihood.blocks.nested_kernels import eliminate_units

            N = np.empty_like(A)
            return N, float(eliminate_units(A, right, factor, N, T))
        M = np.eye(A.shape[1]) + factor.T @ A @ factor
        L = np.linalg.cholesky(M)
        X = np.linalg.solve(L, np.broadcast_to(factor.T, A.shape))
        own = right[:, :, right.shape[2] - self.m :]
        C = (X @ own).reshape(-1, self.m)
        T -= C.T @ C
        diagonal = np.einsum("jaa->ja", L)
        return X.transpose(0, 2, 1) @ X, float(2.0 * np.log(diagonal).sum())

    def _push(self, k: int, t: int) -> None:
        at, parent = self._offset(k, t), self._parents[k][t]
        right, N = self._right[k], self._N[k]
        if self.compiled:
            from multilevel.likelihood.blocks.nested_kernels import push_to_parents

            push_to_parents(right, N, parent, at, self._A[t], self._right[t])
            return
        q = self.widths[t]
        left = right[:, :, at : at + q].transpose(0, 2, 1) @ N
        _scatter_sub(self._A[t], parent, left @ right[:, :, at : at + q])
        _scatter_sub(self._right[t], parent, left @ right[:, :, at + q :])

    def _project(self, k: int) -> tuple[Array, Array]:
        """``(G, [Z_k'V^-1 Z_above, Z_k'V^-1 W])`` by level of block k, all factors in V."""
        if k in self._projected:
            return self._projected[k]
        A, right, N = self._A[k], self._right[k], self._N[k]
        if self.compiled:
            from multilevel.likelihood.blocks.nested_kernels import (
                correct_by_parents,
                project_units,
            )

            G, H = np.empty_like(A), np.empty_like(right)
            project_units(A, right, N, G, H)
        else:
            P = A @ N
            G, H = A - P @ A, right - P @ right
        for t in range(k + 1, self.cross_products.n_blocks):
            at, parent, q = self._offset(k, t), self._parents[k][t], self.widths[t]
            if self.compiled:
                correct_by_parents(G, H, parent, at, self._N[t], self._right[t])
                continue
            HN = H[:, :, at : at + q] @ self._N[t][parent]
            G = G - HN @ H[:, :, at : at + q].transpose(0, 2, 1)
            H[:, :, at + q :] -= HN @ self._right[t][parent]
        self._projected[k] = (G, H)
        return G, H

    def cross(self, block: int) -> Array:
        """``Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        return self._project(block)[1][:, :, -self.m :]

    def information_blocks(self, block: int) -> Array:
        """``(Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t)."""
        return self._project(block)[0]

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        return np.asarray(self._project(block)[0].sum(axis=0))

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` by block; ``C_t`` is (J_t, q_t, k)."""
        cross, K = self.cross_products, self.cross_products.n_blocks
        # Z'ZC, then the same elimination with C's columns as further right-hand sides
        F = [cross.own[t] @ coefficients[t] for t in range(K)]
        for k in range(K):
            for t in range(k + 1, K):
                parent, D = self._parents[k][t], cross.pairs[k, t].values
                F[k] = F[k] + D @ coefficients[t][parent]
                np.add.at(F[t], parent, D.transpose(0, 2, 1) @ coefficients[k])
        for k in range(K):
            for t in range(k + 1, K):
                at, q = self._offset(k, t), self.widths[t]
                R = self._right[k][:, :, at : at + q]
                _scatter_sub(F[t], self._parents[k][t], R.transpose(0, 2, 1) @ (self._N[k] @ F[k]))
        out: list[Array] = []
        for k in range(K):
            value = F[k] - self._A[k] @ (self._N[k] @ F[k])
            base = self._right[k] - self._A[k] @ (self._N[k] @ self._right[k])
            for t in range(k + 1, K):
                at, q, parent = self._offset(k, t), self.widths[t], self._parents[k][t]
                HN = base[:, :, at : at + q] @ self._N[t][parent]
                value = value - HN @ F[t][parent]
                base[:, :, at + q :] -= HN @ self._right[t][parent]
            out.append(value)
        return out

    def conditional_moments(self) -> tuple[Array, Array]:
        """Effects on a finest unit given the data, finest factor first, Q columns in all.

        Returns
        -------
        B : (J_0, Q, m) with ``E(b | y, beta) = B [beta; -1]``; so ``[Z W] [B; I]`` is what the
            effects leave of the columns ``W``.
        S : (J_0, Q, Q) ``Var(b | y, beta) / sigma2``.

        From the coarsest factor down: ``b_k = -N (R_P b_P + R_W w)`` plus noise of variance ``N``,
        with P all factors above. No effects: both are empty.
        """
        K, m = self.cross_products.n_blocks, self.m
        B, S = np.zeros((1, 0, m)), np.zeros((1, 0, 0))
        for k in reversed(range(K)):
            N, right = self._N[k], self._right[k]
            if k < K - 1:
                home = self._parents[k][k + 1]
                B, S = B[home], S[home]
            else:
                B, S = (np.broadcast_to(x, (len(N), *x.shape[1:])) for x in (B, S))
            above = right[:, :, : right.shape[2] - m]
            own = -N @ (right[:, :, right.shape[2] - m :] + above @ B)
            lean = -N @ above
            cross = lean @ S
            var = N + cross @ lean.transpose(0, 2, 1)
            B = np.concatenate([own, B], axis=1)
            top = np.concatenate([var, cross], axis=2)
            S = np.concatenate([top, np.concatenate([cross.transpose(0, 2, 1), S], axis=2)], axis=1)
        return B, S
