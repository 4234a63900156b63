"""Gauss-Hermite grids for adaptive quadrature.

Product rules of the probabilists' Gauss-Hermite rule (Golub & Welsch 1969, through NumPy). Nodes
with a product weight below ``PRUNE`` are left out (after Jaeckel 2005). His own, much higher
threshold is not used: at 7 x 7 points it drops a quarter of the nodes, but loses the exactness of
the rule for polynomials of degree four, which is what makes adaptive quadrature better than
Laplace; a full grid with fewer points is more accurate for the same work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError

Array = NDArray[np.float64]

PRUNE = 1e-12
MAX_NODES = 4096


@dataclass(frozen=True)
class Grid:
    """Nodes for integrals over N(0, I).

    Attributes
    ----------
    nodes : (N, q).
    log_weights : (N,) ``log w + t't/2``: weights of adaptive quadrature.
    points : points per dimension.
    """

    nodes: Array
    log_weights: Array
    points: int

    @property
    def n(self) -> int:
        """Number of nodes N."""
        return int(self.log_weights.size)


@lru_cache(maxsize=32)
def gauss_hermite(points: int, q: int) -> Grid:
    """Product grid of ``points`` per dimension over ``q`` dimensions.

    Raises
    ------
    LikelihoodError : more than ``MAX_NODES`` nodes.
    """
    if points < 1 or points**q > MAX_NODES:
        largest = int(MAX_NODES ** (1.0 / q) + 1e-9)
        raise LikelihoodError(
            f"Quadrature is limited to {MAX_NODES} nodes in each cluster.",
            f"{points} points for each of {q} random effects: {float(points**q):.3g} nodes",
            (f"use at most {largest} points" if largest > 1 else "use the Laplace approximation")
            + (", or an odd number: sparse grids take 5 or 7" if q > 3 and points % 2 == 0 else ""),
        )
    t, w = hermegauss(points)
    w = w / w.sum()
    mesh = np.stack(np.meshgrid(*([t] * q), indexing="ij"), axis=-1).reshape(-1, q)
    weights = np.ones(1)
    for _ in range(q):
        weights = np.multiply.outer(weights, w).ravel()
    keep = weights > PRUNE
    nodes = np.ascontiguousarray(mesh[keep])
    log_weights = np.log(weights[keep]) + 0.5 * np.einsum("nq,nq->n", nodes, nodes)
    nodes.setflags(write=False)
    log_weights.setflags(write=False)
    return Grid(nodes, log_weights, points)


def log_sum(terms: Array) -> tuple[Array, Array]:
    """``log sum exp`` over the last axis and the weights of its terms, safe for any size."""
    top = terms.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(terms - top)
    total = weights.sum(axis=-1, keepdims=True)
    log_total = np.log(total) + top
    return log_total[..., 0], weights / np.where(total > 0.0, total, 1.0)
