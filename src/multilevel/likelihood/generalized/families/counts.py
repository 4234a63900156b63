"""Counts with one mean predictor and, but for the Poisson, a dispersion: Poisson, NB2, NB1."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_counts as kernels
from multilevel.likelihood.generalized.families.base import (
    JetRows,
    Pair,
    exp,
    require_counts,
    weighted_mean,
    weighted_variance,
)
from multilevel.likelihood.generalized.row import ALL, Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class CountRows(JetRows):
    """A count family; zero-inflated, hurdle and truncated counts are built on it.

    Beside the contract of ``RowLikelihood`` it gives packed jets of ``log P(Y = 0)``.
    """

    #: Number of linear predictors.
    parts: ClassVar[int]

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
    ) -> None:
        super().__init__(response, self.parts, random, frequency)
        require_counts(self.y)
        self.link = family.link
        self._constant = np.asarray(-special.gammaln(self.y + 1))
        self._zeros = np.zeros(self.n)

    def zero_jet(self, eta: Array, rows: slice = ALL, level: int = jets.FULL) -> Array:
        """Packed derivatives (J, K, m) of ``log P(Y = 0)`` at eta (D, K, m), without weights.

        Only the places named by ``jets.filled(n_parts, level)`` hold numbers.
        """
        eta = np.ascontiguousarray(eta, dtype=np.float64)
        out = np.empty((jets.length(self.n_parts, level), *eta.shape[1:]))
        zeros = self._zeros[rows]
        self._kernel(eta, zeros, zeros, level, out)
        return out

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        self._kernel(eta, self.y[rows], self._constant[rows], level, out)

    @abstractmethod
    def _kernel(self, eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
        """Fill ``out`` for counts ``y`` (m,)."""

    @abstractmethod
    def _at_most(self, eta: Array, y: Array) -> Array:
        """``P(Y <= y)`` (m,) for whole ``y`` (m,) from -1 on."""

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        y = self.y[rows]
        return self._at_most(eta, y - 1), self._at_most(eta, y)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        if self.link == "log":
            return exp(eta[0])
        positive = np.maximum(eta[0], 0.0)
        return np.asarray(positive if self.link == "identity" else positive**2)

    def _log_mean_start(self, weights: Array) -> float:
        mean = max(weighted_mean(self.y, weights), 0.1 / max(float(weights.sum()), 1.0))
        return {"identity": mean, "sqrt": float(np.sqrt(mean))}.get(self.link, float(np.log(mean)))


class Poisson(CountRows):
    """Poisson counts; links log, identity and sqrt (the last two need a positive predictor)."""

    parts = 1
    log_concave = True

    def _kernel(self, eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
        if self.link == "log":
            kernels.poisson(eta, y, constant, level, out)
        else:
            kernels.poisson_power(
                {"identity": 1, "sqrt": 2}[self.link], eta, y, constant, level, out
            )

    def _variance(self, eta: Array, rows: slice) -> Array:
        return self._mean(eta, rows)

    def _at_most(self, eta: Array, y: Array) -> Array:
        p = special.pdtr(np.maximum(y, 0), self._mean(eta, ALL))
        return np.asarray(np.where(y >= 0, p, 0.0))

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        return rng.poisson(self._mean(eta, rows)).astype(float)

    def _start(self, weights: Array) -> list[float]:
        return [self._log_mean_start(weights)]


class NegativeBinomial(CountRows):
    """Negative binomial counts with log link; part 1 is ``log alpha``.

    Variance ``mu + alpha mu^2`` (NB2) or ``mu (1 + alpha)`` (NB1).
    """

    parts = 2

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
    ) -> None:
        super().__init__(family, response, random, frequency)
        self.linear = family.name == "negative_binomial_1"
        self.log_concave = self.random in ((), (0,)) and not self.linear

    def _kernel(self, eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
        (kernels.nb1 if self.linear else kernels.nb2)(eta, y, constant, level, out)

    def _variance(self, eta: Array, rows: slice) -> Array:
        mean, alpha = self._mean(eta, rows), exp(eta[1])
        return np.asarray(mean * (1 + (alpha if self.linear else alpha * mean)))

    def _size(self, eta: Array) -> tuple[Array, Array]:
        """Size and failure odds ``mean / size``."""
        log_ratio = eta[1] if self.linear else eta[0] + eta[1]
        return exp(np.clip(eta[0] - log_ratio, -700, 700)), exp(np.clip(log_ratio, -700, 700))

    def _at_most(self, eta: Array, y: Array) -> Array:
        size, odds = self._size(eta)
        # P(Y <= y) = I_{1/(1 + odds)}(size, y + 1) (Abramowitz & Stegun 26.5.26); a size this
        # large is a Poisson to the last digit, and beyond the incomplete beta.
        whole = np.maximum(y, 0)
        p = special.betaincc(whole + 1, np.minimum(size, 1e14), odds / (1 + odds))
        p = np.where(size > 1e14, special.pdtr(whole, self._mean(eta, ALL)), p)
        return np.asarray(np.where(y >= 0, p, 0.0))

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        size, odds = self._size(eta)
        mean = self._mean(eta, rows)
        gamma = np.where(size > 1e14, mean, rng.standard_gamma(size) * odds)
        return rng.poisson(gamma).astype(float)

    def _start(self, weights: Array) -> list[float]:
        mean = max(weighted_mean(self.y, weights), 1e-8)
        extra = max(weighted_variance(self.y, weights) / mean - 1, 0.05)
        return [
            self._log_mean_start(weights),
            float(np.log(extra if self.linear else extra / mean)),
        ]
