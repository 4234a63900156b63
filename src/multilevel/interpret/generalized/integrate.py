r"""Averages over normal random effects by numerical integration.

``E q(eta + S^(1/2) x)``, ``x ~ N(0, I_R)``: however many random effects a row has, each linear
predictor sees one normal number, so the integral has as many dimensions as there are parts with
random effects (one, for most models).

The rule is the trapezoidal rule on an even grid. For functions that are analytic around the real
line its error falls like ``exp(-2 pi d / h)``, d the distance of the nearest singularity (``pi /
sd`` for the logistic function), where Gauss-Hermite rules slow down for large variances; the step
``h`` follows from the largest standard deviation. Source: Trefethen & Weideman 2014 (SIAM Review
56:385).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Quantity = Callable[[Array], Array]
#: Steps for standard deviation ``sd``: FINENESS / sqrt(1 + sd^2); coarser in several dimensions.
FINENESS = {1: 0.8, 2: 1.0, 3: 1.3}
REACH = {1: 8.0, 2: 6.5, 3: 5.0}
MOST_NODES = 20_000
NEGLIGIBLE = {1: 0.0, 2: 1e-13, 3: 1e-8}


def grid(R: int, sd: float) -> tuple[Array, Array]:
    """Nodes (N, R) and weights (N,) for ``N(0, I_R)``, fine enough for predictors of this SD."""
    if R == 0 or sd == 0.0:
        return np.zeros((1, R)), np.ones(1)
    level = min(R, 3)
    step = FINENESS[level] / np.sqrt(1.0 + sd**2)
    reach = REACH[level] + (min(sd, 8.0) if R == 1 else 0.5 * min(sd, 4.0))
    half = int(np.ceil(reach / step))
    if (2 * half + 1) ** R > MOST_NODES:
        half = max(2, (int(MOST_NODES ** (1.0 / R)) - 1) // 2)
        step = reach / half
    x = step * np.arange(-half, half + 1)
    w = np.exp(-(x**2) / 2.0)
    w /= w.sum()
    nodes = np.array(list(product(x, repeat=R)))
    weights = np.prod(np.array(list(product(w, repeat=R))), axis=1)
    used = weights > NEGLIGIBLE[level] * weights.max()  # corners of the grid
    return nodes[used], weights[used] / weights[used].sum()


def roots(S: Array) -> Array:
    """Symmetric square roots of covariance matrices (m, R, R)."""
    if S.shape[1] <= 1:
        return np.sqrt(np.maximum(S, 0.0))
    values, vectors = np.linalg.eigh(S)
    half = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    return np.asarray(half @ vectors.transpose(0, 2, 1))


def average(quantity: Quantity, eta: Array, S: Array, random: Sequence[int]) -> Array:
    """``E quantity(eta + noise)`` (C, m), noise ``~ N(0, S)`` in the random parts.

    Parameters
    ----------
    quantity : function of predictors (D, m) that returns (C, m).
    eta : (D, m).
    S : (m, R, R) covariance of the random parts of each row's predictors.
    random : the R random parts.
    """
    largest = float(np.sqrt(np.max(np.einsum("mrr->mr", S), initial=0.0))) if S.size else 0.0
    nodes, weights = grid(len(random), largest)
    half = roots(S)
    at = list(random)
    out: Array | None = None
    for x, w in zip(nodes, weights, strict=True):
        shifted = eta.copy()
        if at:
            shifted[at] += (half @ x).T
        value = w * quantity(shifted)
        out = value if out is None else out + value
    return np.asarray(out)
