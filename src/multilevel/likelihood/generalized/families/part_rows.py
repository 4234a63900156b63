"""What all families with several parts share: shapes, slices of rows, weights, the domain."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.row import ALL, RowDerivatives, RowLikelihood

Array = NDArray[np.float64]


def only_where(alive: NDArray[np.bool_], values: Array) -> Array:
    """``values`` (..., m) with zeros where a row has no likelihood, in place."""
    if not alive.all():
        values[..., ~alive] = 0.0
    return values


def predictors_of(eta: Array, n_rows: int) -> Array:
    """``eta`` (D, m), refused if it is not that of ``n_rows`` rows.

    Raises
    ------
    LikelihoodError : another number of columns.
    """
    if eta.shape[1] != n_rows:
        raise LikelihoodError(
            "Predictors must have a column for each row asked for.",
            f"{eta.shape[1]} columns for {n_rows} rows",
            "pass the predictors of these rows",
        )
    return eta


class PartRows(RowLikelihood):
    """Rows of a family whose log density and derivatives are given by three hooks.

    Hooks work on the rows of ``rows`` without weights. Here weights multiply everything, and a log
    density that is not a number (outside the domain) becomes ``-inf`` with zero derivatives.

    Parameters
    ----------
    n, n_parts, random, log_concave : see ``RowLikelihood``.
    weights : (n,) frequency weights in the order of the rows, or None.
    """

    def __init__(
        self,
        n: int,
        n_parts: int,
        random: tuple[int, ...],
        log_concave: bool,
        weights: Array | None = None,
    ) -> None:
        self.n = n
        self.n_parts = n_parts
        self.random = tuple(random)
        self.log_concave = log_concave
        self._weights = weights

    @abstractmethod
    def _values(self, eta: Array, rows: slice) -> Array:
        """``l`` (K, m) at eta (D, K, m)."""

    @abstractmethod
    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        """``l`` (K, m) and first derivatives (D, K, m) at eta (D, K, m)."""

    @abstractmethod
    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        """Everything at eta (D, m)."""

    def value(self, eta: Array, rows: slice = ALL) -> Array:
        """``l`` (K, m) at eta (D, K, m); see ``RowLikelihood``."""
        value = self._values(eta, rows)
        value[np.isnan(value) | (value == np.inf)] = -np.inf
        return self._weighted(rows, value)

    def first(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``l`` (K, m) and ``dl/deta`` (D, K, m) at eta (D, K, m); see ``RowLikelihood``."""
        value, slope = self._firsts(eta, rows)
        alive = np.isfinite(value)
        value[~alive] = -np.inf
        return self._weighted(rows, value), self._weighted(rows, only_where(alive, slope))

    def newton(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array, Array]:
        """``l`` (m,), slopes (R, m) and curvatures (R, R, m) of the random parts."""
        found = self.derivatives(eta, rows)
        parts = list(self.random)
        return found.value, found.first[parts], found.second[:, parts]

    def derivatives(self, eta: Array, rows: slice = ALL) -> RowDerivatives:
        """Everything that a Laplace gradient needs, at eta (D, m); see ``RowLikelihood``."""
        found = self._all(eta, rows)
        value = found.value
        alive = np.isfinite(value)
        value[~alive] = -np.inf
        return RowDerivatives(
            self._weighted(rows, value),
            self._weighted(rows, only_where(alive, found.first)),
            self._weighted(rows, only_where(alive, found.second)),
            self._weighted(rows, only_where(alive, found.third)),
        )

    def _weighted(self, rows: slice, values: Array) -> Array:
        """Values (..., m) times the weights of their rows; a row of weight zero counts nothing."""
        if self._weights is None:
            return values
        weights = self._weights[rows]
        with np.errstate(invalid="ignore"):
            values *= weights
        values[..., weights == 0.0] = 0.0
        return values
