"""Cumulative families: ``P(Y <= c) = F(tau_c - eta)``, logit, probit, cloglog.

Sources: McCullagh 1980; Peterson & Harrell 1990 (partial proportional odds); Pratt 1981 (the log
likelihood is concave in mean and thresholds together where the density of ``F`` is log-concave).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import kernels_cumulative as kernels
from multilevel.likelihood.generalized.families.category_rows import CategoryRows
from multilevel.likelihood.generalized.families.kernels_category_terms import LINK_CODES
from multilevel.likelihood.generalized.row import ALL, Response, RowDerivatives
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class CumulativeRows(CategoryRows):
    """Rows of a cumulative family; parts as in ``model.families.categories``.

    Log-concave in the mean part and ``tau_1``, and in all parts if thresholds are free; a log
    distance enters through its exponential, so with random effects in one it is not.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency_weights: Array | None = None,
    ) -> None:
        self._increasing = family.option("thresholds") == "increasing"
        concave = not self._increasing or all(part < 2 for part in random)
        super().__init__(family, response, random, concave, frequency_weights)
        self._link = LINK_CODES[family.link]

    def _values(self, eta: Array, rows: slice) -> Array:
        out = np.empty(eta.shape[1:])
        eta = np.ascontiguousarray(eta)
        kernels.cumulative_values(self._link, self._increasing, self._y[rows], eta, out)
        return out

    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        out, slope = np.empty(eta.shape[1:]), np.empty(eta.shape)
        eta = np.ascontiguousarray(eta)
        kernels.cumulative_first(self._link, self._increasing, self._y[rows], eta, out, slope)
        return out, slope

    def newton(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array, Array]:
        """``l`` (m,), slopes (R, m), curvatures (R, R, m); fast where only the mean is random."""
        if self.random != (0,):
            return super().newton(eta, rows)
        m = eta.shape[1]
        out, slope, curve = np.empty(m), np.empty(m), np.empty(m)
        y, eta = self._y[rows], np.ascontiguousarray(eta)
        kernels.cumulative_newton(self._link, self._increasing, y, eta, out, slope, curve)
        weighted = [self._weighted(rows, v) for v in (out, slope, curve)]
        return weighted[0], weighted[1][None], weighted[2][None, None]

    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        D, m = eta.shape
        R = len(self.random)
        found = RowDerivatives(
            np.empty(m), np.empty((D, m)), np.empty((R, D, m)), np.empty((R, R, D, m))
        )
        kernels.cumulative_all(
            self._link,
            self._increasing,
            self._y[rows],
            np.ascontiguousarray(eta),
            np.array(self.random, dtype=np.int64),
            found.value,
            found.first,
            found.second,
            found.third,
        )
        return found

    def probabilities(self, eta: Array) -> Array:
        """(C, m) probabilities; zeros between crossed thresholds (which no likelihood allows)."""
        C, m = self.n_categories, eta.shape[1]
        out = np.empty((C, 1, m))
        eta = np.ascontiguousarray(eta)[:, None]
        for c in range(C):
            codes = np.full(m, c)
            kernels.cumulative_values(self._link, self._increasing, codes, eta, out[c])
        return np.asarray(np.exp(out[:, 0]))

    def _intercepts(self, shares: Array) -> Array:
        tau = quantiles(self.family.link, np.cumsum(shares)[:-1])
        if self._increasing:
            tau = np.concatenate([tau[:1], np.log(np.diff(tau))])
        return np.concatenate([[0.0], tau])


def quantiles(link: str, p: Array) -> Array:
    """``F^-1(p)`` of a link."""
    if link == "logit":
        return np.asarray(special.logit(p))
    if link == "probit":
        return np.asarray(special.ndtri(p))
    return np.asarray(np.log(-np.log1p(-p)))
