"""Counts whose zeros cannot be observed, on top of any count family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families import kernels_binomial as links
from multilevel.likelihood.generalized.families.base import JetRows, Pair, require_counts
from multilevel.likelihood.generalized.families.counts import CountRows

Array = NDArray[np.float64]


class Truncated(JetRows):
    """``l = l_base - log(1 - P(Y = 0))`` for counts from 1 on.

    With ``v = log(-log P(Y = 0))`` the correction is ``-log(1 - exp(-e^v))``, which keeps its
    digits where zeros are nearly certain and where they are nearly impossible.
    """

    def __init__(self, base: CountRows) -> None:
        super().__init__(base.response, base.n_parts, base.random, base.frequency)
        require_counts(self.y, lowest=1)
        self.base = base
        # A Poisson cut at zero is an exponential family in the log mean.
        self.log_concave = base.n_parts == 1 and base.link == "log"

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        self.base._jets(eta, rows, level, out)
        d = self.n_parts
        zero = self.base.zero_jet(eta, rows, level)
        minus = -zero[0]
        with np.errstate(all="ignore"):
            scaled = -zero / minus
            one = np.ones_like(minus)
            v = jets.compose(scaled, (np.log(minus), one, -one, 2 * one), d, level)
            sure = np.empty((4, minus.size))
            links.log_sure(v[0].ravel(), sure)
            f0, f1, f2, f3 = sure.reshape(4, *minus.shape)
            kept = jets.compose(v, (f0, f1, f2, f3), d, level)
            for where in jets.filled(d, level):
                out[where] -= kept[where]
        out[0] = np.where((minus > 0) & ~np.isnan(out[0]), out[0], -np.inf)

    def _log_zero(self, eta: Array) -> Array:
        zero: Array = self.base.zero_jet(eta[:, None], slice(0, eta.shape[1]), jets.VALUE)[0, 0]
        return zero

    def _mean(self, eta: Array, rows: slice) -> Array:
        positive = -np.expm1(self._log_zero(eta))
        with np.errstate(invalid="ignore"):
            mean = self.base._mean(eta, rows) / positive
        return np.where(positive > 0, mean, 1.0)

    def _variance(self, eta: Array, rows: slice) -> Array:
        # E[Y^2 | Y > 0] = (Var Y + mean^2) / P(Y > 0).
        positive = -np.expm1(self._log_zero(eta))
        mean = self.base._mean(eta, rows)
        second = self.base._variance(eta, rows) + mean**2
        with np.errstate(invalid="ignore"):
            return np.where(positive > 0, second / positive - (mean / positive) ** 2, 0.0)

    def _at_most(self, eta: Array, y: Array) -> Array:
        zero = self._log_zero(eta)
        p = (self.base._at_most(eta, y) - np.exp(zero)) / -np.expm1(zero)
        return np.asarray(np.clip(np.where(y >= 1, p, 0.0), 0.0, 1.0))

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        y = self.y[rows]
        return self._at_most(eta, y - 1), self._at_most(eta, y)

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        # By inversion: the lowest count whose cumulative probability reaches a uniform number.
        u = np.asarray(rng.random(eta.shape[1]))
        low = np.zeros(u.size)
        high = np.ceil(self._mean(eta, rows)) + 1
        for _ in range(60):
            short = self._at_most(eta, high) < u
            if not short.any():
                break
            low, high = np.where(short, high, low), np.where(short, 2 * high, high)
        while np.any(high - low > 1):
            middle = np.floor((low + high) / 2)
            short = self._at_most(eta, middle) < u
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return high

    def _start(self, weights: Array) -> list[float]:
        return self.base._start(weights)
