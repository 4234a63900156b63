"""Censored and interval responses of a Gaussian, or of a lognormal, with fixed bounds by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import DesignError
from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_continuous as kernels
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
Bools = NDArray[np.bool_]

#: Points of the Gauss-Legendre rule for narrow intervals.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class CensoredGaussian(JetRows):
    """``log P(y <= Y <= upper)`` with ``Y ~ N(eta_0, exp(eta_1))``; a density where they are equal.

    Infinite bounds are censoring: ``y = -inf`` left, ``upper = inf`` right. The lognormal takes
    logs of both bounds (a lower bound of 0 is left censoring) and adds the Jacobian of exact rows.
    Questions of ``OutcomeDistribution`` are about the response before censoring, but
    ``cumulative``: ``P(Y < y)`` and ``P(Y <= upper)``. Source: Tobin 1958; Pratt 1981 (concavity).
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
    ) -> None:
        super().__init__(response, 2, random, frequency)
        self.log_concave = self.random in ((), (0,))
        self.is_log = family.name == "censored_lognormal"
        upper = self.y if response.upper is None else np.asarray(response.upper, dtype=np.float64)
        self._check(upper)
        exact = upper == self.y
        self._constant = np.zeros(self.n)
        self._low, self._high = self.y, np.ascontiguousarray(upper)
        if self.is_log:
            with np.errstate(divide="ignore"):
                self._low, self._high = np.log(np.maximum(self.y, 0.0)), np.log(upper)
            self._constant = np.where(exact, -self._high, 0.0)
        self._exact = exact

    def _check(self, upper: Array) -> None:
        if upper.shape != self.y.shape:
            raise DesignError(
                "Interval responses have an upper bound per row",
                f"{upper.size} upper bounds for {self.y.size} rows",
                "pass both bounds as columns",
            )
        remedy = "put -inf or inf for a bound that is not known, equal numbers for exact responses"
        ok = (self.y <= upper) & (self.y < np.inf) & (upper > -np.inf)
        require(ok, self.y, "A lower bound is at most its upper bound", remedy)
        if self.is_log:
            ok = (upper > 0) & ((self.y >= 0) | np.isneginf(self.y))
            ok &= ~((self.y == upper) & (upper <= 0))
            require(ok, self.y, "Bounds of lognormal responses are not negative", remedy)

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        low, high = self._low[rows], self._high[rows]
        exact = self._exact[rows]
        kernels.gaussian(eta, np.where(exact, high, 0.0), self._constant[rows], level, out)
        if exact.all():
            return
        where = np.flatnonzero(~exact)
        part = _interval_jet(np.ascontiguousarray(eta[:, :, where]), low[where], high[where], level)
        for place in jets.filled(2, level):
            out[place][:, where] = part[place]

    def _mean(self, eta: Array, _rows: slice) -> Array:
        return exp(eta[0] + exp(eta[1]) / 2) if self.is_log else np.array(eta[0])

    def _variance(self, eta: Array, rows: slice) -> Array:
        variance = exp(eta[1])
        if not self.is_log:
            return variance
        return np.asarray(np.expm1(variance) * self._mean(eta, rows) ** 2)

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        scale = exp(-eta[1] / 2)
        below = special.ndtr((self._low[rows] - eta[0]) * scale)
        return np.asarray(below), np.asarray(special.ndtr((self._high[rows] - eta[0]) * scale))

    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array:
        z = eta[0] + exp(eta[1] / 2) * rng.standard_normal(eta.shape[1])
        return exp(z) if self.is_log else np.asarray(z)

    def _start(self, weights: Array) -> list[float]:
        # Midpoints of intervals, the known bound of censored rows.
        low = np.where(np.isfinite(self._low), self._low, self._high)
        high = np.where(np.isfinite(self._high), self._high, self._low)
        middle = np.where(np.isfinite(low), (low + high) / 2, 0.0)
        spread = weighted_variance(middle, weights)
        return [weighted_mean(middle, weights), float(np.log(spread))]


def _interval_jet(eta: Array, low: Array, high: Array, level: int) -> Array:
    """Jet of ``log P(low <= Y <= high)`` for rows that are not exact, eta (2, K, m)."""
    with np.errstate(all="ignore"):
        scale = exp(-eta[1] / 2)
        a, b = (low - eta[0]) * scale, (high - eta[0]) * scale
        out = _from_tails(a, b, scale, level)
        nearest = np.minimum(np.abs(a), np.abs(b))
        narrow = (b - a) * np.maximum(nearest, 1.0) < 0.5
        if narrow.any():
            column = narrow.any(axis=0)
            some = np.flatnonzero(column)
            inner = _from_nodes(np.ascontiguousarray(eta[:, :, some]), low[some], high[some], level)
            for place in jets.filled(2, level):
                out[place][:, some] = np.where(narrow[:, some], inner[place], out[place][:, some])
    out[0] = np.where(np.isnan(out[0]), -np.inf, out[0])
    return out


def _from_tails(a: Array, b: Array, scale: Array, level: int) -> Array:
    """From ``Phi(b) - Phi(a)``, on the side of 0 where the difference keeps its digits."""
    flip = a > 0
    upper, lower = np.where(flip, -a, b), np.where(flip, -b, a)
    log_upper, log_lower = special.log_ndtr(upper), special.log_ndtr(lower)
    log_mass = log_upper + np.log(-np.expm1(np.minimum(log_lower - log_upper, 0.0)))
    jet = np.zeros((jets.length(2, level), *a.shape))
    for bound, sign in ((b, 1.0), (a, -1.0)):
        x = np.where(np.isfinite(bound), bound, 0.0)
        ratio = np.exp(-0.5 * x * x - 0.5 * np.log(2 * np.pi) - log_mass)
        ratio = np.where(np.isfinite(bound), sign * ratio, 0.0)
        chain = (np.zeros_like(x), ratio, -x * ratio, (x * x - 1) * ratio)
        part = jets.compose(_standardised(x, scale, level), chain, 2, level)
        for place in jets.filled(2, level)[1:]:
            jet[place] += part[place]
    one = np.ones_like(a)
    return jets.compose(jet, (log_mass, one, -one, 2 * one), 2, level)


def _standardised(x: Array, scale: Array, level: int) -> Array:
    """Jet of ``x = (bound - eta_0) exp(-eta_1 / 2)``."""
    out = np.zeros((jets.length(2, jets.FULL), *x.shape))
    out[0], out[1], out[2] = x, -scale, -x / 2
    out[4], out[5] = scale / 2, x / 4
    out[8], out[9] = -scale / 4, -x / 8
    return out[: jets.length(2, level)]


def _from_nodes(eta: Array, low: Array, high: Array, level: int) -> Array:
    """By Gauss-Legendre quadrature of the density, where the interval is narrow for its place."""
    half, middle = (high - low) / 2, (high + low) / 2
    parts, constant = [], np.zeros(low.size)
    for node in _NODES:
        part = np.zeros((jets.length(2, level), *eta.shape[1:]))
        kernels.gaussian(eta, middle + node * half, constant, level, part)
        parts.append(part)
    top = np.max([part[0] for part in parts], axis=0)
    total = np.zeros_like(parts[0])
    for part, weight in zip(parts, _WEIGHTS, strict=True):
        e = weight * np.exp(part[0] - top)
        total += jets.compose(part, (e, e, e, e), 2, level)
    s = total[0]
    value = np.log(s) + top + np.log(half)
    return jets.compose(total, (value, 1 / s, -1 / s**2, 2 / s**3), 2, level)


def build_censored(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> CensoredGaussian:
    """The rows of a censored or interval response (see ``catalogue``)."""
    refuse_precision(family, precision)
    return CensoredGaussian(family, response, random, frequency)
