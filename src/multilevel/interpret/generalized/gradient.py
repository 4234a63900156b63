r"""Expected responses and their gradients in all parameters, row by row.

With ``M(eta) = E q(eta + noise)``, ``noise ~ N(0, S)``: derivatives in a predictor are central
differences, and those in ``S`` follow from ``dM/dS_rr = M_rr / 2`` and ``dM/dS_rs = M_rs``
(Price 1958, IRE Transactions on Information Theory 4:69), so the same differences give both.
Population and conditional answers are the case ``S = 0`` without the second kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    block_covariance,
    theta_derivatives,
)
from multilevel.interpret.generalized.integrate import Quantity, average

Array = NDArray[np.float64]
STEP = 1e-3


@dataclass(frozen=True)
class Differences:
    """Values and derivatives of ``M`` by row.

    Attributes
    ----------
    value : (C, m).
    first : (D, C, m) in the predictors.
    second : (R, R, C, m) in ``S`` (upper triangle, each pair once); empty if not asked for.
    """

    value: Array
    first: Array
    second: Array


def differences(
    quantity: Quantity, eta: Array, S: Array | None, random: tuple[int, ...]
) -> Differences:
    """Values and derivatives; ``S`` None sets the noise to zero."""
    R = len(random)

    def at(moves: list[tuple[int, float]]) -> Array:
        moved = eta.copy()
        for d, h in moves:
            moved[d] += h
        if S is None:
            return quantity(moved)
        return average(quantity, moved, S, random)

    value = at([])
    first = np.empty((len(eta), *value.shape))
    second = np.zeros((R, R, *value.shape)) if S is not None else np.zeros((0, 0, *value.shape))
    for d in range(len(eta)):
        up, down = at([(d, STEP)]), at([(d, -STEP)])
        first[d] = (up - down) / (2.0 * STEP)
        if S is not None and d in random:
            r = random.index(d)
            second[r, r] = (up - 2.0 * value + down) / (2.0 * STEP**2)
    if S is not None:
        h = STEP
        for r in range(R):
            for s in range(r + 1, R):
                a, b = random[r], random[s]
                same = at([(a, h), (b, h)]) + at([(a, -h), (b, -h)])
                other = at([(a, h), (b, -h)]) + at([(a, -h), (b, h)])
                second[r, s] = (same - other) / (4.0 * h**2)
    return Differences(value, first, second)


def parameter_gradient(evidence: GeneralizedEvidence, rows: PartRows, found: Differences) -> Array:
    """``d M / d psi`` (P, C, m) of the rows."""
    fit = evidence.fit
    out = np.zeros((fit.n_parameters, *found.value.shape))
    for X, s, slope in zip(rows.X, fit.fixed_slices, found.first, strict=True):
        out[s] = X.T[:, None, :] * slope
    if found.second.size:
        random = evidence.random
        parts, spread = evidence.design.block_parts, rows.spread
        for k, t, dG in theta_derivatives(evidence):
            dS = block_covariance(spread[t], parts[t], random, dG)
            out[k] = np.einsum("mrs,rscm->cm", np.triu(dS), found.second)
    return out


def delta_variance(gradient: Array, vcov: Array) -> Array:
    """``g' V g`` for gradients (P, ...)."""
    found = np.einsum("p...,pq,q...->...", gradient, vcov, gradient, optimize=True)
    return np.asarray(np.maximum(found, 0.0))
