"""Tweedie responses with 1 < p < 2: positive amounts with exact zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import kernels_tweedie as kernels
from multilevel.likelihood.generalized.families.base import (
    JetRows,
    Pair,
    exp,
    require,
    weighted_mean,
    weighted_variance,
)
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class Tweedie(JetRows):
    """``Var = phi mu^p``, log link; part 1 ``log phi``, part 2 ``logit(p - 1)``.

    A compound Poisson sum of gammas (Jorgensen 1987): Poisson rate
    ``mu^(2-p) / (phi (2-p))``, gamma shape ``(2-p)/(p-1)``, scale ``phi (p-1) mu^(p-1)``.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
        precision: Array | None = None,
    ) -> None:
        super().__init__(response, len(family.parts), random, frequency, precision)
        self.log_concave = self.random in ((), (0,))
        require(
            (self.y >= 0) & np.isfinite(self.y),
            self.y,
            "Responses of family tweedie are numbers from 0 on",
            "leave out these rows, or choose family gaussian",
        )

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        kernels.tweedie(eta, self.y[rows], level, out)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        return exp(eta[0])

    def _variance(self, eta: Array, _rows: slice) -> Array:
        return exp(eta[1] + (1 + special.expit(eta[2])) * eta[0])

    def _compound(self, eta: Array) -> tuple[Array, Array, Array]:
        """Poisson rate, gamma shape, gamma scale (m,) each."""
        r, c = special.expit(eta[2]), special.expit(-eta[2])
        return exp(c * eta[0] - eta[1]) / c, np.asarray(c / r), exp(eta[1] + r * eta[0]) * r

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        rate, shape, scale = self._compound(eta)
        y = self.y[rows]
        total = exp(-rate)
        most = int(np.ceil(np.max(rate + 10 * np.sqrt(rate), initial=0.0))) + 40
        for n in range(1, most):
            weight = special.xlogy(n, rate) - rate - special.gammaln(n + 1)
            total = total + exp(weight) * special.gammainc(n * shape, y / scale)
        total = np.minimum(total, 1.0)
        return np.where(y > 0, total, 0.0), total

    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array:
        rate, shape, scale = self._compound(eta)
        return np.asarray(rng.standard_gamma(rng.poisson(rate) * shape) * scale)

    def _start(self, weights: Array) -> list[float]:
        mean = max(weighted_mean(self.y, weights), 1e-8)
        spread = weighted_variance(self.y, weights)
        return [float(np.log(mean)), float(np.log(spread / mean**1.5)), 0.0]


def build_tweedie(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> Tweedie:
    """The rows of a Tweedie response (see ``catalogue``)."""
    return Tweedie(family, response, random, frequency, precision)
