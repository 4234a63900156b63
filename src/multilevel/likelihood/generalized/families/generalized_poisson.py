"""Generalized Poisson counts: overdispersed, with a lighter variance function than NB2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_counts as kernels
from multilevel.likelihood.generalized.families.base import (
    exp,
    weighted_mean,
    weighted_variance,
)
from multilevel.likelihood.generalized.families.counts import CountRows
from multilevel.likelihood.generalized.row import ALL

Array = NDArray[np.float64]


class GeneralizedPoisson(CountRows):
    """Mean ``mu`` (log link), variance ``mu (1 + alpha)^2``, part 1 ``log alpha``.

    Consul & Famoye 1992 with ``theta = mu / (1 + alpha)``, ``lambda = alpha / (1 + alpha)``; only
    overdispersion (lambda > 0), where the probabilities sum to one.
    """

    parts = 2

    def _kernel(self, eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
        kernels.generalized_poisson(eta, y, constant, level, out)

    def _variance(self, eta: Array, rows: slice) -> Array:
        return np.asarray(self._mean(eta, rows) * (1 + exp(eta[1])) ** 2)

    def _at_most(self, eta: Array, y: Array) -> Array:
        # No closed form: probabilities summed from 0, one count for all rows at a time.
        total = np.zeros(y.shape)
        eta = np.ascontiguousarray(eta)[:, None]
        term, log_factorial = np.empty((1, 1, y.size)), 0.0
        for j in range(int(y.max(initial=-1.0)) + 1):
            log_factorial += float(np.log(max(j, 1)))
            at = np.full(y.size, float(j))
            self._kernel(eta, at, np.full(y.size, -log_factorial), jets.VALUE, term)
            total += np.where(y >= j, exp(term[0, 0]), 0.0)
        return np.minimum(total, 1.0)

    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array:
        # A generalized Poisson is the total progeny of a branching process with Poisson(theta)
        # founders and Poisson(lambda) children each (Consul & Shoukri 1988).
        alpha = exp(eta[1])
        share = alpha / (1 + alpha)
        generation = rng.poisson(self._mean(eta, ALL) / (1 + alpha))
        total = generation.astype(float)
        while generation.any():
            generation = rng.poisson(share * generation)
            total += generation
        return total

    def _start(self, weights: Array) -> list[float]:
        mean = max(weighted_mean(self.y, weights), 1e-8)
        extra = np.sqrt(max(weighted_variance(self.y, weights) / mean, 1.1)) - 1
        return [self._log_mean_start(weights), float(np.log(extra))]
