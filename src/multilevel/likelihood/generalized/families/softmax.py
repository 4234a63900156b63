"""Families with utilities ``u_c`` linear in the parts: ``P(Y = c)`` proportional to ``e^u_c``.

With ``u = A eta`` (A (C, D)) and probabilities ``p``: ``dl/deta = A_y - E A``,
``d2l = -Cov(A_d, A_e)`` and ``d3l = -kappa3(A_d, A_e, A_f)``, moments over the categories with
weights ``p`` (cumulants of an exponential family). The log likelihood is concave in all parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.category_rows import CategoryRows
from multilevel.likelihood.generalized.row import Response, RowDerivatives
from multilevel.model.families.records import Family

Array = NDArray[np.float64]


class SoftmaxRows(CategoryRows):
    """Rows of a family with utilities ``A eta``; ``utilities`` is A (C, D)."""

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        utilities: Array,
        frequency_weights: Array | None = None,
    ) -> None:
        super().__init__(family, response, random, True, frequency_weights)
        self._A = utilities

    def _log_p(self, eta: Array) -> tuple[Array, Array]:
        """(C, ...) log probabilities and probabilities at eta (D, ...), one exponential each."""
        u: Array = np.tensordot(self._A, eta, axes=1)
        u -= u.max(axis=0)
        p = np.exp(u)
        total = p.sum(axis=0)
        u -= np.log(total)
        p /= total
        return u, p

    def _values(self, eta: Array, rows: slice) -> Array:
        y = self._y[rows]
        log_p, _ = self._log_p(eta)
        return np.ascontiguousarray(np.moveaxis(log_p, 0, -1)[:, np.arange(y.size), y])

    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        y = self._y[rows]
        log_p, p = self._log_p(eta)
        value = np.ascontiguousarray(np.moveaxis(log_p, 0, -1)[:, np.arange(y.size), y])
        return value, self._A.T[:, y][:, None] - np.tensordot(self._A.T, p, axes=1)

    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        y = self._y[rows]
        log_p, p = self._log_p(eta)
        mean = self._A.T @ p
        centred = self._A.T[:, :, None] - mean[:, None]  # (D, C, m)
        mine = centred[list(self.random)]
        weighted = p * mine
        return RowDerivatives(
            log_p[y, np.arange(y.size)],
            self._A.T[:, y] - mean,
            -np.einsum("rcm,dcm->rdm", weighted, centred),
            -np.einsum("rcm,scm,dcm->rsdm", weighted, mine, centred),
        )

    def probabilities(self, eta: Array) -> Array:
        """(C, m) probabilities."""
        return self._log_p(eta)[1]

    def _intercepts(self, shares: Array) -> Array:
        # Utilities are known up to a constant, which the reference category takes.
        log_ratio = np.log(shares[1:] / shares[0])
        if self.family.name == "nominal":
            return np.asarray(log_ratio)
        return np.concatenate([[0.0], -np.diff(log_ratio, prepend=0.0)])
