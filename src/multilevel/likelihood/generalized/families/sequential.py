"""Continuation ratio families, forward: ``P(Y = c | Y >= c) = F(tau_c - eta)``.

A row climbs one category after the other; each step is a binary response, so its log density is
``sum_{c < y} log(1 - F(tau_c - eta)) + log F(tau_y - eta)`` (the last term absent in the highest
category). Thresholds are in no order. Source: Fienberg 1980; Tutz 1991.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families import kernels_cumulative as kernels
from multilevel.likelihood.generalized.families.category_rows import CategoryRows
from multilevel.likelihood.generalized.families.cumulative import quantiles
from multilevel.likelihood.generalized.families.kernels_category_terms import LINK_CODES
from multilevel.likelihood.generalized.row import Response, RowDerivatives
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class SequentialRows(CategoryRows):
    """Rows of a continuation ratio family: part 0 the mean, part c the threshold ``tau_c``.

    Log-concave in all parts: every term is concave in ``tau_c - eta``.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency_weights: Array | None = None,
    ) -> None:
        super().__init__(family, response, random, True, frequency_weights)
        self._link = LINK_CODES[family.link]

    def _terms(self, eta: Array, y: NDArray[np.int64], order: int) -> tuple[Array, Array]:
        """Values (N,) and derivatives of the terms (order, C-1, N) at eta (D, N)."""
        out = np.empty(y.size)
        terms = np.empty((order, self.n_categories - 1, y.size))
        kernels.sequential_all(self._link, y, np.ascontiguousarray(eta), order, out, terms)
        return out, terms

    def _values(self, eta: Array, rows: slice) -> Array:
        return self._firsts_to(eta, rows, 0)[0]

    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        value, terms = self._firsts_to(eta, rows, 1)
        return value, np.concatenate([-terms[0].sum(axis=0)[None], terms[0]])

    def _firsts_to(self, eta: Array, rows: slice, order: int) -> tuple[Array, Array]:
        D, K, m = eta.shape
        y = np.tile(self._y[rows], K)
        value, terms = self._terms(eta.reshape(D, K * m), y, order)
        return value.reshape(K, m), terms.reshape(order, D - 1, K, m)

    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        D, m = eta.shape
        R = len(self.random)
        value, terms = self._terms(eta, self._y[rows], 3)
        first = np.concatenate([-terms[0].sum(axis=0)[None], terms[0]])
        second, third = np.zeros((R, D, m)), np.zeros((R, R, D, m))
        two, three = terms[1].sum(axis=0), terms[2].sum(axis=0)
        for i, r in enumerate(self.random):
            second[i] = _pair(r, terms[1], two)
            for j, s in enumerate(self.random):
                if r == 0 and s == 0:
                    third[i, j, 0] = -three
                    third[i, j, 1:] = terms[2]
                elif r == s or r == 0 or s == 0:
                    # the term of one threshold only; each mean among the indices turns the sign
                    c, sign = max(r, s), -1.0 if r != s else 1.0
                    third[i, j, 0] = -sign * terms[2, c - 1]
                    third[i, j, c] = sign * terms[2, c - 1]
        return RowDerivatives(value, first, second, third)

    def probabilities(self, eta: Array) -> Array:
        """(C, m) probabilities."""
        m = eta.shape[1]
        codes = range(self.n_categories)
        logs = [self._terms(eta, np.full(m, c, dtype=np.int64), 0)[0] for c in codes]
        return np.exp(np.stack(logs))

    def _intercepts(self, shares: Array) -> Array:
        reached = np.cumsum(shares[::-1])[::-1][:-1]
        return np.concatenate([[0.0], quantiles(self.family.link, shares[:-1] / reached)])


def _pair(part: int, two: Array, total: Array) -> Array:
    """Second derivatives (D, m) of one part with all; two (C-1, m) by term, total (m,) summed."""
    out = np.zeros((two.shape[0] + 1, two.shape[1]))
    if part == 0:
        out[0] = total
        out[1:] = -two
    else:
        out[0] = -two[part - 1]
        out[part] = two[part - 1]
    return out
