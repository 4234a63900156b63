"""The judge: recomputes any program's criterion from the estimates it returned.

Programs use other constants, other parametrisations, or an approximate likelihood; so the value a
program prints is not what is compared. From its covariance matrices ``G_t``, its residual variance
and (under ML) its fixed effects, the exact -2 log-likelihood or REML criterion is computed here
with NumPy and SciPy alone. With ``V = I + Z Psi Z'`` and ``Psi = G / sigma2``:

    ML    n log(2 pi sigma2) + log|V| + (y - Xb)'V^-1(y - Xb) / sigma2
    REML  (n - p) log(2 pi sigma2) + log|V| + log|X'V^-1X| + min_b (y - Xb)'V^-1(y - Xb) / sigma2

(Laird and Ware 1982; Bates et al. 2015, equations 34 and 41, before profiling.) The term with most
columns is eliminated as a block-diagonal matrix, the others through a dense Schur complement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, pi
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.columns import Column
from benchmarks.levels import level_codes
from benchmarks.models import Model, Term

Array = NDArray[np.float64]
_SLICE = 2_000


@dataclass(frozen=True)
class Estimates:
    """What a program found: fixed effects (p,), residual variance, one ``G`` (q, q) a term.

    ``extra``: thresholds (C - 1,), or the overdispersion alpha (1,) of a negative binomial model.
    ``parameters`` of a structural model: level from 1, left side, operator, right side, value.
    """

    beta: Array
    sigma2: float
    G: tuple[Array, ...]
    extra: Array = field(default_factory=lambda: np.zeros(0))
    parameters: tuple[tuple[int, str, str, str, float], ...] = ()

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Estimates:
        """Read a worker's JSON."""
        return Estimates(
            np.asarray(raw["beta"], float),
            float(raw["sigma2"]),
            tuple(np.atleast_2d(np.asarray(g, float)) for g in raw["G"]),
            np.asarray(raw.get("extra", []), float).ravel(),
            tuple((int(a), str(b), str(c), str(d), float(e))
                  for a, b, c, d, e in raw.get("parameters", [])),
        )  # fmt: skip


class Judge:
    """Evaluates criteria of one model on one table."""

    def __init__(self, table: dict[str, Column], model: Model) -> None:
        n = len(table[model.response])
        X = np.column_stack([np.ones(n), *(table[name] for name in model.fixed)])
        self.model, self.n, self.p = model, n, int(X.shape[1])
        self.W = np.column_stack([X, table[model.response]])
        self.Z = [_indicator(table, term) for term in model.terms]
        self.leaf = max(range(len(self.Z)), key=lambda t: self.Z[t].shape[1])

    def criterion(self, found: Estimates) -> float:
        """-2 log-likelihood or REML criterion (``model.method``) at the estimates."""
        T, logdet = self._eliminate([_factor(g / found.sigma2) for g in found.G])
        p = self.p
        if self.model.method == "ml":
            contrast = np.append(-found.beta, 1.0)
            rss = float(contrast @ T @ contrast)
            return self.n * log(2 * pi * found.sigma2) + logdet + rss / found.sigma2
        L = np.linalg.cholesky(T)
        logdet += 2.0 * float(np.log(np.diag(L)[:p]).sum())
        rss = float(L[-1, -1] ** 2)
        return (self.n - p) * log(2 * pi * found.sigma2) + logdet + rss / found.sigma2

    def _eliminate(self, factors: list[Array]) -> tuple[Array, float]:
        """``W'V^-1 W`` (m, m) and ``log|V|``."""
        scaled = [_times_factor(Z, L) for Z, L in zip(self.Z, factors, strict=True)]
        leaf = scaled.pop(self.leaf)
        q = factors[self.leaf].shape[0]
        root, logdet = _block_root((leaf.T @ leaf).tocsr(), q)
        UW = root @ (leaf.T @ self.W)
        T = self.W.T @ self.W - UW.T @ UW
        if scaled:
            rest = sp.hstack(scaled).tocsc()
            U = (root @ (leaf.T @ rest)).tocsc()
            schur = _schur(rest, U)
            right = rest.T @ self.W - U.T @ UW
            L = scipy.linalg.cholesky(schur, lower=True, overwrite_a=True, check_finite=False)
            logdet += 2.0 * float(np.log(np.diag(L)).sum())
            half = scipy.linalg.solve_triangular(L, right, lower=True, check_finite=False)
            T = T - half.T @ half
        return T, logdet


def _indicator(table: dict[str, Column], term: Term) -> sp.csr_matrix:
    """(n, J q) random-effect columns, the q of a level side by side."""
    codes = level_codes(table, term.group)
    n, q, J = len(codes), term.size, int(codes.max()) + 1
    values = np.column_stack([np.ones(n), *(table[name] for name in term.slopes)])
    where = codes[:, None] * q + np.arange(q)
    start = np.arange(0, n * q + 1, q)
    return sp.csr_matrix((values.ravel(), where.ravel(), start), shape=(n, J * q))


def _factor(psi: Array) -> Array:
    """``Lambda`` with ``Lambda Lambda' = psi``, for semi-definite ``psi`` too."""
    values, vectors = np.linalg.eigh((psi + psi.T) / 2.0)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _times_factor(Z: sp.csr_matrix, factor: Array) -> sp.csc_matrix:
    J = Z.shape[1] // factor.shape[0]
    return (Z @ sp.kron(sp.identity(J), sp.csr_matrix(factor), format="csr")).tocsc()


def _block_root(gram: sp.csr_matrix, q: int) -> tuple[sp.csr_matrix, float]:
    """Inverse Cholesky factor of the block-diagonal ``I + gram``, and its log-determinant."""
    J = gram.shape[0] // q
    blocks = np.zeros((J, q, q))
    triples = gram.tocoo()
    blocks[triples.row // q, triples.row % q, triples.col % q] = triples.data
    L = np.linalg.cholesky(blocks + np.eye(q))
    logdet = 2.0 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
    inverse = np.linalg.inv(L)
    bsr = sp.bsr_matrix((inverse, np.arange(J), np.arange(J + 1)), shape=gram.shape)
    return bsr.tocsr(), logdet


def _schur(rest: sp.csc_matrix, U: sp.csc_matrix) -> Array:
    """Dense ``I + rest'rest - U'U``, some columns at a time to keep sparse products small."""
    K = rest.shape[1]
    schur = np.empty((K, K), order="F")
    rest_t, U_t = rest.T.tocsr(), U.T.tocsr()
    for start in range(0, K, _SLICE):
        part = slice(start, min(start + _SLICE, K))
        schur[:, part] = (rest_t @ rest[:, part] - U_t @ U[:, part]).toarray()
    schur.flat[:: K + 1] += 1.0
    return schur
