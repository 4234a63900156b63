"""Sparse grids for adaptive quadrature in many dimensions.

Smolyak's combination of one-dimensional Gauss-Hermite rules with 1, 3, 3, 5, 5, 7, 7, ... points,
each rule held for two levels (a delayed sequence, Petras 2003): level k integrates polynomials of
total degree 2 k - 1 exactly. Rules that grow by one point at every level (Heiss & Winschel 2008)
were tried and set aside: their weights cancel far more (for six effects the sum of absolute terms
is 100 to 1,500 times the integral, here 3 to 13 times), and on random logistic and Poisson clusters
their errors are often larger than those of Laplace's approximation. The delayed ones come close to
full grids with 5 to 30 times as many nodes.

Some weights are negative, so an integral can come out negative where the integrand is far from a
Gaussian; whoever sums checks that. Sources: Smolyak 1963; Novak & Ritter 1999; Petras 2003.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.grid import MAX_NODES, Grid

Array = NDArray[np.float64]

TENSOR_DIMENSIONS = 3  # up to which a full grid is used whenever it is small enough
TENSOR_NODES = 1024  # nodes of a full grid above those dimensions from which a sparse one is used
MAX_PRODUCTS = 400_000  # nodes before equal ones are merged


@dataclass(frozen=True)
class SparseGrid(Grid):
    """Nodes and weights, some of them negative.

    Attributes
    ----------
    nodes, log_weights, points : as in ``Grid``; ``log_weights`` of absolute weights.
    signs : (N,) 1 or -1.
    """

    signs: Array


def is_sparse(points: int, q: int) -> bool:
    """Whether ``points`` per dimension over ``q`` dimensions means a sparse grid."""
    if points == 1:
        return False
    full = points**q
    if q <= TENSOR_DIMENSIONS or points % 2 == 0:
        return False
    return bool(full > TENSOR_NODES)


def _size(level: int) -> int:
    """Points of the one-dimensional rule of a level: 1, 3, 3, 5, 5, ..."""
    return 2 * (level // 2) + 1


def _level(points: int) -> int:
    """The level that stands for ``points`` per dimension: the lowest with that many on an axis, but
    never less than total degree five."""
    return max(3, points - 1)


def _compositions(total: int, q: int) -> Iterator[tuple[int, ...]]:
    """All (i_1, ..., i_q) of positive whole numbers with this sum."""
    if q == 1:
        yield (total,)
        return
    for first in range(1, total - q + 2):
        for rest in _compositions(total - first, q - 1):
            yield (first, *rest)


def _products(level: int, q: int) -> int:
    """Nodes of all product rules together, equal ones counted apart."""
    one = np.array([0.0, *(_size(i) for i in range(1, level + 1))])
    power = np.ones(1)
    for _ in range(q):
        power = np.convolve(power, one)[: level + q]
    return int(power[max(q, level) :].sum())


@lru_cache(maxsize=16)
def sparse_grid(points: int, q: int) -> SparseGrid:
    """The sparse grid with up to ``points`` (odd) on each of ``q`` axes.

    Raises
    ------
    LikelihoodError : an even number of points, or more than ``grid.MAX_NODES`` nodes.
    """
    if points < 3 or points % 2 == 0:
        raise LikelihoodError(
            "Sparse quadrature grids have an odd number of points on each axis.",
            f"{points} points for each of {q} random effects",
            f"use {points + 1 if points > 1 else 3} points",
        )
    level = _level(points)
    if _products(level, q) > MAX_PRODUCTS:
        raise _too_large(points, q, f"{_products(level, q):,} products of points")
    nodes, weights = _combined(level, q)
    if len(weights) > MAX_NODES:
        raise _too_large(points, q, f"{len(weights):,} nodes")
    log_weights = np.log(np.abs(weights)) + 0.5 * np.einsum("nq,nq->n", nodes, nodes)
    signs = np.sign(weights)
    for array in (nodes, log_weights, signs):
        array.setflags(write=False)
    return SparseGrid(nodes, log_weights, points, signs)


def _too_large(points: int, q: int, what: str) -> LikelihoodError:
    return LikelihoodError(
        f"Quadrature is limited to {MAX_NODES:,} nodes in each cluster.",
        f"{points} points for each of {q} random effects, {points**q:.3g} on a full grid, need "
        f"{what} on a sparse one",
        "use fewer points (3 or 5), or the Laplace approximation, n_quad=1"
        if points > 3
        else "use the Laplace approximation, n_quad=1",
    )


def _combined(level: int, q: int) -> tuple[Array, Array]:
    """Nodes (N, q) and weights (N,) of Smolyak's formula, equal nodes merged."""
    rules = {}
    for i in range(1, level + 1):
        t, w = hermegauss(_size(i))
        t[_size(i) // 2] = 0.0
        rules[i] = (t, w / w.sum())
    pieces, weights = [], []
    for total in range(max(q, level), level + q):
        sign = (-1.0) ** (level + q - 1 - total) * comb(q - 1, level + q - 1 - total)
        for levels in _compositions(total, q):
            axes = [rules[i][0] for i in levels]
            mesh = np.meshgrid(*axes, indexing="ij")
            pieces.append(np.stack(mesh, axis=-1).reshape(-1, q))
            product = np.full(1, sign)
            for i in levels:
                product = np.multiply.outer(product, rules[i][1]).ravel()
            weights.append(product)
    everything, all_weights = np.concatenate(pieces), np.concatenate(weights)
    _, first, place = np.unique(
        np.round(everything, 9) + 0.0, axis=0, return_index=True, return_inverse=True
    )
    merged: Array = np.bincount(place.ravel(), all_weights, len(first)).astype(float)
    kept = np.abs(merged) > 1e-12
    return np.ascontiguousarray(everything[first][kept]), merged[kept]
