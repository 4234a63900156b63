"""Gaussian responses (identity and log link) and lognormal ones; part 1 is the log variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_continuous as kernels
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


class Gaussian(JetRows):
    """``y ~ N(mean, exp(eta_1))``; lognormal: the same for ``log y``, with its Jacobian."""

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
        precision: Array | None = None,
    ) -> None:
        super().__init__(response, 2, random, frequency, precision)
        self.link = family.link
        self.is_log = family.name == "lognormal"
        self.log_concave = self.link == "identity" and self.random in ((), (0,))
        require(np.isfinite(self.y), self.y, "Responses are numbers", "leave out these rows")
        self._z, self._constant = self.y, np.zeros(self.n)
        if self.is_log:
            require(
                self.y > 0,
                self.y,
                "Lognormal responses are positive",
                "leave out these rows, or choose a family with zeros (Tweedie)",
            )
            self._z = np.log(self.y)
            self._constant = -self._z

    @property
    def is_direct(self) -> bool:
        """Whether ``y`` itself is normal around its linear predictor."""
        return self.link == "identity" and not self.is_log

    def log_variance(self, eta: Array) -> Array:
        """Log residual variances (n,) at the predictor of part 1, precision weights taken off."""
        return eta if self._log_precision is None else eta - self._log_precision

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        if self.link == "identity":
            kernels.gaussian(eta, self._z[rows], self._constant[rows], level, out)
            return
        mean = np.exp(np.minimum(eta[0], 709.0))
        with np.errstate(over="ignore", invalid="ignore"):
            inner = np.stack([mean, eta[1]])
            kernels.gaussian(inner, self._z[rows], self._constant[rows], level, out)
            jets.through_link(out, (mean, mean, mean), 2, level)

    def _location(self, eta: Array) -> Array:
        return np.array(eta[0]) if self.link == "identity" else exp(np.minimum(eta[0], 709.0))

    def _mean(self, eta: Array, _rows: slice) -> Array:
        centre = self._location(eta)
        if not self.is_log:
            return centre
        return exp(centre + exp(eta[1]) / 2)

    def _variance(self, eta: Array, rows: slice) -> Array:
        with np.errstate(over="ignore"):
            variance = exp(eta[1])
            if not self.is_log:
                return variance
            return np.asarray(np.expm1(variance) * self._mean(eta, rows) ** 2)

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        z = (self._z[rows] - self._location(eta)) * np.exp(-eta[1] / 2)
        p = np.asarray(special.ndtr(z))
        return p, p

    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array:
        centre = self._location(eta)
        z = centre + np.exp(eta[1] / 2) * rng.standard_normal(centre.shape)
        return exp(z) if self.is_log else np.asarray(z)

    def _start(self, weights: Array) -> list[float]:
        mean = weighted_mean(self._z, weights)
        spread = float(np.log(weighted_variance(self._z, weights)))
        if self.link == "log":
            mean = float(np.log(max(mean, 0.1 * float(np.exp(spread / 2)))))
        return [mean, spread]


def build_gaussian(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> Gaussian:
    """The rows of a Gaussian or lognormal response (see ``catalogue``)."""
    return Gaussian(family, response, random, frequency, precision)
