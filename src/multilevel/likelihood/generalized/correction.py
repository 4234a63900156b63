"""How the error of an approximation changes with the parameters: differences at common draws.

``error(psi) = criterion(psi) + 2 log L(psi)`` with ``log L`` by importance sampling from the
Gaussian of the approximation at ``psi``, or by its second-order term. With the same draws at two
points the randomness that the approximation captures cancels: for a Gaussian integrand the
difference has no noise at all. The Monte Carlo variance of the difference is that of the
differences of normalised weights (delta method). Sources: Glasserman & Yao 1992 (common random
numbers); Skaug 2002; own combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]

LEAST_EFFECTIVE, LEAST_SHARE = 10.0, 0.05  # effective draws below which an integral is not trusted
MOST_INTEGRALS = 0.95  # share of the integrals that must be trusted


@dataclass(frozen=True)
class Correction:
    """Error of a criterion at one point, with the draws that it comes from.

    Attributes
    ----------
    error : approximate minus exact criterion, estimated.
    log_weights : (G, pairs, 2) log importance weights of G independent integrals in antithetic
        pairs; None for a second-order term, which has no noise.
    """

    error: float
    log_weights: Array | None = None

    @property
    def normalised(self) -> Array:
        """Weights of the pairs (G, pairs), by integral divided by their mean."""
        if self.log_weights is None:
            return np.ones((1, 2))
        top = self.log_weights.max(axis=(1, 2), keepdims=True)
        weights = np.exp(self.log_weights - top).mean(axis=2)
        return np.asarray(weights / weights.mean(axis=1, keepdims=True))

    @property
    def is_reliable(self) -> bool:
        """Whether enough draws carry nearly every integral."""
        if not np.isfinite(self.error):
            return False
        if self.log_weights is None:
            return True
        weights = self.normalised
        effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
        needed = max(0.5 * LEAST_EFFECTIVE, LEAST_SHARE * weights.shape[1])
        return bool(np.mean(effective >= needed) >= MOST_INTEGRALS)


@runtime_checkable
class Correctable(GeneralizedObjective, Protocol):
    """An objective whose error can be followed from one point to another."""

    def correction(self, rng: np.random.Generator, draws: int) -> Correction:
        """The error at the point last set; the same state of ``rng`` gives the same draws."""
        ...


def difference(plus: Correction, minus: Correction) -> tuple[float, float]:
    """Difference of two errors at common draws and its Monte Carlo standard error."""
    value = plus.error - minus.error
    if plus.log_weights is None or minus.log_weights is None:
        return value, 0.0
    moved = plus.normalised - minus.normalised
    variance = moved.var(axis=1, ddof=1) / moved.shape[1]
    return value, 2.0 * float(np.sqrt(variance.sum()))
