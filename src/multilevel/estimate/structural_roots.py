"""Covariance matrices as ``L L'`` of some rank: parameters as functions of the entries of L."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.model.structural.boundary import CovarianceBlock

Array = NDArray[np.float64]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Root:
    """One block with its order of variables, the rank r of its matrix ``L L'``, and (k,) units."""

    block: CovarianceBlock
    order: tuple[int, ...]
    rank: int
    unit: Array

    def matrix(self, theta: Array) -> Array:
        """(k, k) the matrix in these units, in the order of the block."""
        names = self.block.names
        S = np.array([[theta[self.block.free[a, b]] for b in names] for a in names])
        return np.asarray(S / np.outer(self.unit, self.unit))

    @property
    def entries(self) -> list[tuple[int, int]]:
        """Rows and columns of the free entries of L, (k, r) lower trapezoidal."""
        k = len(self.order)
        return [(a, b) for a in range(k) for b in range(min(a + 1, self.rank))]

    @property
    def places(self) -> NDArray[np.intp]:
        """(k, k) index of the free parameter of each entry of S, in the order of L."""
        names = [self.block.names[i] for i in self.order]
        return np.array([[self.block.free[a, b] for b in names] for a in names], dtype=np.intp)


class RootMap:
    """Free parameters theta (q,) as a function of phi: those outside the blocks, then entries."""

    def __init__(self, n_free: int, roots: tuple[Root, ...]) -> None:
        self.roots, self.n_free = roots, n_free
        inside = {int(k) for root in roots for k in root.places.ravel()}
        self.outside = np.array([k for k in range(n_free) if k not in inside], dtype=np.intp)
        self.size = len(self.outside) + sum(len(r.entries) for r in roots)

    def factors(self, phi: Numbers) -> list[tuple[Root, Numbers]]:
        """Every block with its L at ``phi`` (m,)."""
        at, out = len(self.outside), []
        for root in self.roots:
            L = np.zeros((len(root.order), root.rank), dtype=phi.dtype)
            for a, b in root.entries:
                L[a, b] = phi[at]
                at += 1
            out.append((root, L))
        return out

    def theta(self, phi: Numbers) -> Numbers:
        """(q,) parameters; real or complex."""
        out = np.zeros(self.n_free, dtype=phi.dtype)
        out[self.outside] = phi[: len(self.outside)]
        for root, L in self.factors(phi):
            out[root.places] = L @ L.T
        return out

    def phi(self, theta: Array, factors: list[Array]) -> Array:
        """(m,) the point with these factors L."""
        parts = [theta[self.outside]]
        for root, L in zip(self.roots, factors, strict=True):
            parts.append(np.array([L[a, b] for a, b in root.entries]))
        return np.concatenate(parts)

    def tangent(self, phi: Array) -> Array:
        """(q, m) derivative of theta."""
        out = np.zeros((self.n_free, self.size))
        out[self.outside, np.arange(len(self.outside))] = 1.0
        at = len(self.outside)
        for root, L in self.factors(phi):
            for a, b in root.entries:
                half = np.zeros((len(L), len(L)))
                half[a] = L[:, b]
                out[root.places, at] = half + half.T
                at += 1
        return out


def pivoted_root(S: Array, zero: float) -> tuple[tuple[int, ...], Array]:
    """Pivoted Cholesky factor (k, r) of a semidefinite matrix, and the order of its rows."""
    left, order, columns = S.copy(), list(range(len(S))), []
    for step in range(len(S)):
        rest = order[step:]
        best = max(rest, key=lambda i: left[i, i])
        if left[best, best] <= zero:
            break
        order[step:] = [best, *(i for i in rest if i != best)]
        column = left[:, best] / np.sqrt(left[best, best])
        columns.append(column)
        left = left - np.outer(column, column)
    L = np.column_stack(columns) if columns else np.zeros((len(S), 0))
    return tuple(order), L[order]
