"""What all families share: weights, row slices, and the contract on top of packed jets."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError
from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.row import ALL, Response, RowDerivatives
from multilevel.model.families.records import Family

Array = NDArray[np.float64]
Pair = tuple[Array, Array]


class JetRows(ABC):
    """A row likelihood and outcome distribution from packed jets (see ``jets``).

    A family implements ``_jets`` (log density with derivatives) and the five questions of
    ``OutcomeDistribution``; all get predictors (D, K, m) or (D, m) in which precision weights are
    already taken from the dispersion (part 1 is a log dispersion: ``- log w``).

    Attributes
    ----------
    y : (n,) responses.
    frequency : (n,) frequency weights or None; they multiply log densities.
    """

    log_concave: bool = False

    def __init__(
        self,
        response: Response,
        n_parts: int,
        random: tuple[int, ...],
        frequency: Array | None = None,
        precision: Array | None = None,
    ) -> None:
        self.response = response
        self.y = np.ascontiguousarray(response.y, dtype=np.float64)
        self.n = self.y.size
        self.n_parts = n_parts
        self.random = tuple(sorted(random))
        self.frequency = frequency
        self._log_precision = None if precision is None else np.log(precision)

    # What a family implements.

    @abstractmethod
    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        """Fill ``out`` (J, K, m) at ``eta`` (D, K, m), both C-contiguous, to a level of ``jets``;
        values outside the domain are ``-inf``."""

    @abstractmethod
    def _mean(self, eta: Array, _rows: slice) -> Array: ...

    @abstractmethod
    def _variance(self, eta: Array, _rows: slice) -> Array: ...

    @abstractmethod
    def _cumulative(self, eta: Array, rows: slice) -> Pair: ...

    @abstractmethod
    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array: ...

    @abstractmethod
    def _start(self, weights: Array) -> list[float]:
        """Intercepts of the parts from ``y`` with weights of rows (n,)."""

    # The contract.

    def jet(self, eta: Array, rows: slice = ALL, level: int = jets.FULL) -> Array:
        """Packed derivatives (J, K, m) at eta (D, K, m), weights applied.

        Only the places named by ``jets.filled(n_parts, level)`` hold numbers.
        """
        eta = np.ascontiguousarray(self._shifted(eta, rows), dtype=np.float64)
        out = np.empty((jets.length(self.n_parts, level), *eta.shape[1:]))
        self._jets(eta, rows, level, out)
        if self.frequency is not None:
            w = self.frequency[rows]
            for where in jets.filled(self.n_parts, level):
                # A weight of 0 removes a row even where its density is 0.
                np.multiply(out[where], w, out=out[where], where=w > 0)
                out[where][..., w == 0] = 0.0
        return out

    def value(self, eta: Array, rows: slice = ALL) -> Array:
        """``l`` (K, m) at eta (D, K, m)."""
        value: Array = self.jet(eta, rows, jets.VALUE)[0]
        return value

    def first(self, eta: Array, rows: slice = ALL) -> Pair:
        """``l`` (K, m) and ``dl/deta`` (D, K, m) at eta (D, K, m)."""
        out = self.jet(eta, rows, jets.FIRST)
        return out[0], out[1:]

    def newton(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array, Array]:
        """``l`` (m,), ``dl/deta_r`` (R, m) and ``d2l/deta_r deta_s`` (R, R, m) at eta (D, m)."""
        if self.random == (0,):
            out = self.jet(eta[:, None], rows, jets.NEWTON)[:, 0]
            return out[0], out[1:2], out[self.n_parts + 1 : self.n_parts + 2][None]
        out = self.jet(eta[:, None], rows, jets.FULL)[:, 0]
        random = list(self.random)
        second = jets.gather_second(self.n_parts, self.random)[:, random]
        return out[0], out[1:][random], out[second]

    def derivatives(self, eta: Array, rows: slice = ALL) -> RowDerivatives:
        """Log density with first, second and third derivatives at eta (D, m)."""
        d = self.n_parts
        if self.random == (0,):
            out = self.jet(eta[:, None], rows, jets.MEAN)[:, 0]
            third = 1 + d + d * (d + 1) // 2
            return RowDerivatives(
                out[0],
                out[1 : 1 + d],
                out[1 + d : 1 + 2 * d][None],
                out[third : third + d][None, None],
            )
        out = self.jet(eta[:, None], rows, jets.FULL)[:, 0]
        second = out[jets.gather_second(d, self.random)]
        third_places = jets.gather_third(d, self.random)
        return RowDerivatives(out[0], out[1 : 1 + d], second, out[third_places])

    def start(self) -> Array:
        """(D,) intercepts of the parts that suit the response."""
        weights = np.ones(self.n) if self.frequency is None else self.frequency
        return np.array(self._start(weights))

    def mean(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) expected response at eta (D, m)."""
        return self._mean(self._shifted(eta, rows), rows)

    def variance(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) variance of the response at eta (D, m)."""
        return self._variance(self._shifted(eta, rows), rows)

    def cumulative(self, eta: Array, rows: slice = ALL) -> Pair:
        """``P(Y < y)`` and ``P(Y <= y)`` (m,) at eta (D, m)."""
        return self._cumulative(self._shifted(eta, rows), rows)

    def draw(self, eta: Array, rng: np.random.Generator, rows: slice = ALL) -> Array:
        """(m,) simulated responses at eta (D, m)."""
        return self._draw(self._shifted(eta, rows), rng, rows)

    def _shifted(self, eta: Array, rows: slice) -> Array:
        if self._log_precision is None:
            return eta
        eta = eta.copy()
        eta[1] -= self._log_precision[rows]
        return eta


def refuse_precision(family: Family, precision: Array | None) -> None:
    """Raise where precision weights have nothing to divide."""
    if precision is not None:
        raise DesignError(
            "Precision weights divide a dispersion (Gaussian, lognormal, Student t, gamma, "
            "inverse Gaussian, Tweedie)",
            f"precision_weights= with family {family.label}, which has no such dispersion",
            "pass numbers of trials as trials=, weights that repeat rows as frequency_weights=",
        )


def exp(x: Array) -> Array:
    """``e^x``; infinite, without a warning, where it overflows."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(x))


def require(ok: NDArray[np.bool_], y: Array, must: str, remedy: str) -> None:
    """Raise a ``DesignError`` that names the first row where ``ok`` (n,) does not hold."""
    bad = np.flatnonzero(~ok)
    if bad.size:
        found = f"{y[bad[0]]:g} in row {bad[0] + 1} of the rows used"
        if bad.size > 1:
            found += f", and {bad.size - 1} more such rows"
        raise DesignError(must, found, remedy)


def require_counts(y: Array, lowest: int = 0) -> None:
    """Counts are whole numbers from ``lowest`` on."""
    what = "0, 1, 2, ..." if lowest == 0 else "1, 2, 3, ... where zeros are cut off"
    require(
        (y >= lowest) & (np.floor(y) == y) & np.isfinite(y),
        y,
        f"Counts are whole numbers {what}",
        "correct or leave out these rows, or choose another family",
    )


def weighted_mean(y: Array, weights: Array) -> float:
    """Mean of ``y`` with row weights."""
    return float(np.average(y, weights=weights))


def weighted_variance(y: Array, weights: Array) -> float:
    """Variance of ``y`` with row weights, never 0."""
    centre = weighted_mean(y, weights)
    return max(float(np.average((y - centre) ** 2, weights=weights)), 1e-8)
