"""Positive responses and proportions: gamma, inverse Gaussian, beta; part 1 is a log dispersion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_gamma as kernels
from multilevel.likelihood.generalized.families.base import (
    JetRows,
    Pair,
    exp,
    refuse_precision,
    require,
    weighted_mean,
    weighted_variance,
)
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class Gamma(JetRows):
    """Gamma responses, ``Var = phi mu^2``; links log and inverse."""

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
        self.log_concave = family.name == "gamma" and self.random in ((), (0,))
        require(
            (self.y > 0) & np.isfinite(self.y),
            self.y,
            f"Responses of family {family.name} are positive",
            "leave out these rows, or choose a family with zeros (Tweedie)",
        )
        self._log_y = np.log(self.y)

    def _kernel(self, eta: Array, log_y: Array, level: int, out: Array) -> None:
        kernels.gamma(eta, log_y, level, out)

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        if self.link == "log":
            self._kernel(eta, self._log_y[rows], level, out)
            return
        inside = eta[0] > 0
        x = np.where(inside, eta[0], 1.0)
        self._kernel(np.stack([-np.log(x), eta[1]]), self._log_y[rows], level, out)
        jets.through_link(out, (-1 / x, 1 / x**2, -2 / x**3), 2, level)
        out[0] = np.where(inside, out[0], -np.inf)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        if self.link == "log":
            return exp(eta[0])
        return np.asarray(1 / np.where(eta[0] > 0, eta[0], np.nan))

    def _variance(self, eta: Array, rows: slice) -> Array:
        return np.asarray(exp(eta[1]) * self._mean(eta, rows) ** 2)

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        shape = exp(-eta[1])
        p = np.asarray(special.gammainc(shape, shape * self.y[rows] / self._mean(eta, rows)))
        return p, p

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        shape = exp(-eta[1])
        return np.asarray(rng.standard_gamma(shape) / shape * self._mean(eta, rows))

    def _start(self, weights: Array) -> list[float]:
        mean = weighted_mean(self.y, weights)
        centre = -np.log(mean) if self.link == "log" else mean
        return [-float(centre) if self.link == "log" else 1 / mean, self._log_spread(weights, 2)]

    def _log_spread(self, weights: Array, power: int) -> float:
        """log of ``Var / mean^power``."""
        mean = weighted_mean(self.y, weights)
        return float(np.log(weighted_variance(self.y / mean, weights)) + (2 - power) * np.log(mean))


class InverseGaussian(Gamma):
    """Inverse Gaussian responses with log link, ``Var = phi mu^3``."""

    def _kernel(self, eta: Array, log_y: Array, level: int, out: Array) -> None:
        kernels.inverse_gaussian(eta, log_y, level, out)

    def _variance(self, eta: Array, rows: slice) -> Array:
        return np.asarray(exp(eta[1]) * self._mean(eta, rows) ** 3)

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        # Chhikara & Folks 1989, 2.2; the second term in logs, its factor overflows alone.
        y, mean = self.y[rows], self._mean(eta, rows)
        root = exp(-eta[1] / 2) / np.sqrt(y)
        second = 2 * exp(-eta[1]) / mean + special.log_ndtr(-root * (y / mean + 1))
        first = np.asarray(special.ndtr(root * (y / mean - 1)), dtype=np.float64)
        p = np.asarray(np.clip(first + exp(second), 0.0, 1.0), dtype=np.float64)
        return p, p

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        return rng.wald(self._mean(eta, rows), exp(-eta[1]))

    def _start(self, weights: Array) -> list[float]:
        return [float(np.log(weighted_mean(self.y, weights))), self._log_spread(weights, 3)]


class Beta(JetRows):
    """Proportions strictly between 0 and 1, ``Var = mu (1 - mu) / (1 + phi)``, part 1 log phi.

    Links logit, probit, cloglog. The mean enters the kernel as its logit; the other links by the
    chain rule through ``logit F(eta) = log F - log(1 - F)``.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
    ) -> None:
        super().__init__(response, 2, random, frequency)
        self.link = family.link
        require(
            (self.y > 0) & (self.y < 1),
            self.y,
            "Responses of family beta lie strictly between 0 and 1",
            "choose a family with exact zeros and ones (ordered beta, zero-one-inflated beta), or "
            "leave out these rows",
        )
        self._log_y, self._log_rest = np.log(self.y), np.log1p(-self.y)

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        log_y, log_rest = self._log_y[rows], self._log_rest[rows]
        if self.link == "logit":
            kernels.beta(eta, log_y, log_rest, level, out)
            return
        g = _logit_of(self.link, eta[0])
        kernels.beta(np.stack([g[0], eta[1]]), log_y, log_rest, level, out)
        jets.through_link(out, (g[1], g[2], g[3]), 2, level)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        from multilevel.likelihood.generalized.families.binomial import probability

        return probability(self.link, eta[0])

    def _variance(self, eta: Array, rows: slice) -> Array:
        mean = self._mean(eta, rows)
        return np.asarray(mean * (1 - mean) / (1 + exp(eta[1])))

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        mean, phi = self._mean(eta, rows), exp(eta[1])
        a, b = phi * mean, phi * (1 - mean)
        p = np.asarray(special.betainc(a, b, self.y[rows]), dtype=np.float64)
        return p, p

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        mean, phi = self._mean(eta, rows), exp(eta[1])
        tiny = np.finfo(float).tiny
        y = rng.beta(np.maximum(phi * mean, tiny), np.maximum(phi * (1 - mean), tiny))
        # A draw that rounds to 0 or 1 is moved to the next number inside.
        return np.asarray(np.clip(y, tiny, 1 - 2**-53), dtype=np.float64)

    def _start(self, weights: Array) -> list[float]:
        from multilevel.likelihood.generalized.families.binomial import predictor

        mean = weighted_mean(self.y, weights)
        precision = mean * (1 - mean) / weighted_variance(self.y, weights) - 1
        return [predictor(self.link, mean), float(np.log(max(precision, 0.1)))]


def _logit_of(link: str, eta: Array) -> Array:
    """``logit F(eta)`` with three derivatives (4, ...)."""
    from multilevel.likelihood.generalized.families import kernels_binomial as links

    code = {"probit": links.PROBIT, "cloglog": links.CLOGLOG}[link]
    out = np.empty((4, eta.size))
    links.log_odds(code, eta.ravel(), out)
    return out.reshape(4, *eta.shape)


def build_positive(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> JetRows:
    """The rows of a gamma, inverse Gaussian or beta response (see ``catalogue``)."""
    if family.name == "beta":
        refuse_precision(family, precision)
        return Beta(family, response, random, frequency)
    kind = Gamma if family.name == "gamma" else InverseGaussian
    return kind(family, response, random, frequency, precision)
