r"""General random effects with one dense matrix: up to a few thousand effects.

In the independent coordinates, with ``A~ = (C' (x) I) Z'Z (C (x) I)`` formed once,

    M = I + L'A~L,   N = L M^-1 L',   G~ = A~ - A~ N A~,   H~ = S~ - A~ N S~,
    (A (x) Psi) Z'V^-1 W = (C (x) I) N S~,    Var(b|y)/sigma2 = (C (x) I) N (C' (x) I).

Source: Bates et al. 2015 (JSS 67:1), section 3; Henderson 1984, Applications of Linear Models in
Animal Breeding, for the relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.related.products import RelatedProducts

Array = NDArray[np.float64]


def _times_levels(C: Array, X: Array, q: int) -> Array:
    """``(C (x) I_q) X`` for X (J q, k)."""
    k = X.shape[1]
    return np.asarray(C @ X.reshape(C.shape[1], q * k)).reshape(-1, k)


class DenseRelatedEngine(GaussianEngine):
    """Dense engine for any random effects (``RelatedEngine``); cost ``O(Q^3)``."""

    name = "related, dense"
    exact = True
    couples_levels = True

    def __init__(self, products: RelatedProducts) -> None:
        self.products = products
        if products.gram is None:
            raise LikelihoodError("A Gram matrix is needed.", "none", "use related_products")
        if "spreads" not in products.kept:
            products.kept["spreads"] = [
                None if r is None else r.dense_spread() for r in products.relations
            ]
        self._spreads: list[Array | None] = products.kept["spreads"]
        self._sizes = [
            (J if C is None else C.shape[1], q)
            for (J, q), C in zip(products.sizes, self._spreads, strict=True)
        ]
        starts = np.cumsum([0, *(J * q for J, q in self._sizes)])
        self._slices = [slice(int(a), int(b)) for a, b in pairwise(starts)]
        side = np.concatenate([r.reshape(-1, products.n_columns) for r in products.rhs])
        self._S = self._to_independent(side)
        if "dense" not in products.kept:
            half = self._to_independent(products.gram.toarray())
            products.kept["dense"] = self._to_independent(np.ascontiguousarray(half.T))
        self._A: Array = products.kept["dense"]
        self.n_evaluations = 0
        self.T: Array = products.total
        self.logdet = 0.0
        self._factors: list[Array] = []
        self._C: Array | None = None
        self._B: Array | None = None
        self._D: Array | None = None

    @property
    def independent_sizes(self) -> tuple[tuple[int, int], ...]:
        """``(r_t, q_t)`` by block: independent levels, columns."""
        return tuple(self._sizes)

    def _to_independent(self, X: Array) -> Array:
        """``(C' (x) I) X`` for X (Q, k) in b."""
        if all(C is None for C in self._spreads):
            return X
        parts = []
        pieces = zip(self.products.slices, self.products.sizes, self._spreads, strict=True)
        for where, (_, q), C in pieces:
            parts.append(X[where] if C is None else _times_levels(C.T, X[where], q))
        return np.concatenate(parts)

    def _to_levels(self, X: Array) -> Array:
        """``(C (x) I) X`` for X in u."""
        if all(C is None for C in self._spreads):
            return X
        parts = []
        for where, (_, q), C in zip(self._slices, self._sizes, self._spreads, strict=True):
            parts.append(X[where] if C is None else _times_levels(C, X[where], q))
        return np.concatenate(parts)

    def _times_factor(self, X: Array, transpose: bool) -> Array:
        """``L X`` or ``L'X`` with L block-diagonal over all independent levels."""
        out = np.empty_like(X)
        for where, (J, q), L in zip(self._slices, self._sizes, self._factors, strict=True):
            F = L.T if transpose else L
            if q == 1:
                out[where] = F[0, 0] * X[where]
            else:
                out[where] = (F @ X[where].reshape(J, q, -1)).reshape(J * q, -1)
        return out

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors and factorise M."""
        self._factors = [np.asarray(f, np.float64) for f in factors]
        self._D = None
        M = self._times_factor(self._times_factor(self._A, True).T, True)
        M.flat[:: M.shape[0] + 1] += 1.0
        C, info = sl.lapack.dpotrf(M.T, lower=1, overwrite_a=1, clean=0)
        if info != 0:
            raise LikelihoodError(
                "I + L'Z'ZL must be positive definite.",
                f"pivot {info} of {len(M)} is not",
                "rescale the predictors with random slopes",
            )
        self._C = C
        self._B = self._half(self._times_factor(self._S, True))
        self.T = self.products.total - self._B.T @ self._B
        self.logdet = 2.0 * float(np.log(np.diag(C)).sum())
        self.n_evaluations += 1

    def _half(self, X: Array) -> Array:
        """``chol(M)^-1 X``."""
        return np.asarray(sl.solve_triangular(self._ready(), X, lower=True, check_finite=False))

    def _back(self, X: Array) -> Array:
        """``chol(M)^-T X``."""
        return np.asarray(
            sl.solve_triangular(self._ready(), X, lower=True, trans="T", check_finite=False)
        )

    def _ready(self) -> Array:
        if self._C is None:
            raise LikelihoodError(
                "The engine must be factorised before its products are read.",
                "no factorisation",
                "call factorise(factors) first",
            )
        return self._C

    def _halves(self) -> Array:
        """``chol(M)^-1 L'A~`` (Q, Q)."""
        if self._D is None:
            self._D = self._half(self._times_factor(self._A, True))
        return self._D

    def cross(self, block: int) -> Array:
        """``Z~_t'V^-1 W`` by independent level: (r_t, q_t, m)."""
        self._ready()
        J, q = self._sizes[block]
        where = self._slices[block]
        if self._B is None:
            raise LikelihoodError("The engine must be factorised.", "not yet", "call factorise")
        H = self._S[where] - self._halves()[:, where].T @ self._B
        return H.reshape(J, q, -1)

    def information_blocks(self, block: int) -> Array:
        """``(Z~_t'V^-1 Z~_t)_gg`` by independent level: (r_t, q_t, q_t)."""
        J, q = self._sizes[block]
        where = self._slices[block]
        D = self._halves()[:, where].reshape(-1, J, q)
        full = self._A[where, where].reshape(J, q, J, q)
        own = full[np.arange(J), :, np.arange(J), :]
        return np.asarray(own - np.einsum("kja,kjb->jab", D, D, optimize=True))

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z~_t'V^-1 Z~_t)_gg``: (q_t, q_t)."""
        J, q = self._sizes[block]
        where = self._slices[block]
        D = self._halves()[:, where].reshape(-1, q)
        own = np.einsum("jajb->ab", self._A[where, where].reshape(J, q, J, q))
        return np.asarray(own - D.T @ D)

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z~'V^-1 Z~ C`` by block; ``C_t`` is (r_t, q_t, k)."""
        stacked = np.concatenate([c.reshape(-1, c.shape[-1]) for c in coefficients])
        AC = self._A @ stacked
        inner = self._back(self._half(self._times_factor(AC, True)))
        out = AC - self._A @ self._times_factor(inner, False)
        return [
            out[where].reshape(c.shape) for where, c in zip(self._slices, coefficients, strict=True)
        ]

    def solution(self, block: int) -> Array:
        """``(A (x) Psi) Z_t'V^-1 W`` by level, in b: (J_t, q_t, m)."""
        self._ready()
        if self._B is None:
            raise LikelihoodError("The engine must be factorised.", "not yet", "call factorise")
        full = self._to_levels(self._times_factor(self._back(self._B), False))
        return full[self.products.slices[block]].reshape(*self.products.sizes[block], -1)

    def posterior_blocks(self, block: int) -> Array:
        """``Var(b_g | y) / sigma2`` by level: (J_t, q_t, q_t)."""
        J, q = self.products.sizes[block]
        r = self._sizes[block][0]
        C, L = self._spreads[block], self._factors[block]
        loads = np.zeros((self._A.shape[0], J * q))
        spread = np.eye(r) if C is None else C.T
        loads[self._slices[block]] = np.einsum("ij,ba->iajb", spread, L).reshape(r * q, J * q)
        X = self._half(loads).reshape(-1, J, q)
        return np.asarray(np.einsum("kja,kjb->jab", X, X, optimize=True))

    def posterior_product(self, loadings: Sequence[Array]) -> list[Array]:
        """``Var(b | y) X / sigma2`` for X by block in b, (J_t, q_t, k); the same shapes."""
        k = loadings[0].shape[2]
        X = self._to_independent(np.concatenate([x.reshape(-1, k) for x in loadings]))
        inner = self._back(self._half(self._times_factor(X, True)))
        out = self._to_levels(self._times_factor(inner, False))
        return [
            out[where].reshape(x.shape)
            for where, x in zip(self.products.slices, loadings, strict=True)
        ]
