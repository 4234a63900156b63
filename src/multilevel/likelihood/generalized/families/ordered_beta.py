"""Proportions from 0 to 1 with both bounds: ordered beta, zero-one-inflated beta.

Both are sums: which of {zero, between, one} occurs, and the beta log density of the responses
between. Sources: Kubinec 2022 (ordered beta); Ospina & Ferrari 2010 (zero-one-inflated).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import LikelihoodError, ModelError
from multilevel.likelihood.generalized.families.catalogue import row_likelihood
from multilevel.likelihood.generalized.families.category_catalogue import category_rows
from multilevel.likelihood.generalized.families.part_rows import predictors_of
from multilevel.likelihood.generalized.families.pieces import Piece, SumRows, local_random
from multilevel.likelihood.generalized.row import ALL, Response, RowLikelihood
from multilevel.model.families.bounded import BOUNDED
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.categories import category_family
from multilevel.model.families.records import Family

Array = NDArray[np.float64]
Parts = tuple[int, ...]
Pieces = list[tuple[Piece[RowLikelihood], Parts]]

_KINDS = ("zero", "between", "one")


class BoundedRows(SumRows):
    """Rows of proportions with zeros and ones; parts 0 and 1 are mean and log precision.

    Raises
    ------
    LikelihoodError : a response outside 0 to 1.
    """

    def __init__(
        self, response: Response, random: tuple[int, ...], frequency_weights: Array | None = None
    ) -> None:
        y = np.asarray(response.y, dtype=np.float64)
        bad = np.flatnonzero(~((y >= 0) & (y <= 1)))
        if bad.size:
            raise LikelihoodError(
                "Proportions must be from 0 to 1.",
                f"{y[bad[0]]} in row {bad[0] + 1} of the rows used",
                "divide percentages by 100, or correct these rows",
            )
        self._y = y
        self._kind = np.where(y == 0, 0, np.where(y == 1, 2, 1))
        super().__init__(y.size, 4, random, False, frequency_weights)
        between = np.flatnonzero(self._kind == 1)
        beta = row_likelihood(
            family_of("beta"), Response(y[between]), None, local_random(random, (0, 1))
        )
        self._between: tuple[Piece[RowLikelihood], Parts] = (Piece(between, beta), (0, 1))

    @abstractmethod
    def _shares(self, eta: Array) -> Array:
        """(3, m) probabilities of zero, between, one."""

    @abstractmethod
    def _kind_start(self, _mean: float, shares: Array) -> list[float]:
        """Parts 2 and 3 that give these shares (3,) at this mean part."""

    def start(self) -> Array:
        """(D,) parts from the moments of the responses between and the observed shares."""
        weights = np.ones(self.n) if self._weights is None else self._weights
        counts = np.bincount(self._kind, weights=weights, minlength=3) + 0.5
        inside = self._kind == 1
        mean, precision = 0.0, 1.0
        if float(weights[inside].sum()) > 0:
            centre = float(np.average(self._y[inside], weights=weights[inside]))
            spread = float(np.average((self._y[inside] - centre) ** 2, weights=weights[inside]))
            mean = float(special.logit(centre))
            precision = max(centre * (1 - centre) / max(spread, 1e-8) - 1.0, 0.1)
        rest = self._kind_start(mean, counts / counts.sum())
        return np.array([mean, float(np.log(precision)), *rest])

    def _beta(self, eta: Array) -> tuple[Array, Array, Array]:
        """Mean and the two shapes (m,) of responses between."""
        mean = special.expit(eta[0])
        precision = np.exp(np.minimum(eta[1], 700.0))
        return mean, mean * precision, special.expit(-eta[0]) * precision

    def mean(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) ``P(1) + P(between) mu``."""
        eta = predictors_of(eta, self._y[rows].size)
        shares = self._shares(eta)
        return np.asarray(shares[2] + shares[1] * self._beta(eta)[0])

    def variance(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) variance of the response."""
        shares, (mean, a, b) = self._shares(eta), self._beta(eta)
        inside = mean * special.expit(-eta[0]) / (1.0 + a + b)
        total = self.mean(eta, rows)
        spread = shares[1] * (inside + (mean - total) ** 2)
        return np.asarray(spread + shares[0] * total**2 + shares[2] * (1.0 - total) ** 2)

    def cumulative(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``P(Y < y)`` and ``P(Y <= y)`` (m,); equal between the bounds."""
        shares, (_, a, b) = self._shares(eta), self._beta(eta)
        kind, y = self._kind[rows], self._y[rows]
        inside = shares[0] + shares[1] * special.betainc(a, b, y)
        below = np.where(kind == 0, 0.0, np.where(kind == 1, inside, 1.0 - shares[2]))
        up_to = np.where(kind == 0, shares[0], np.where(kind == 1, inside, 1.0))
        return below, up_to

    def draw(self, eta: Array, rng: np.random.Generator, rows: slice = ALL) -> Array:
        """(m,) simulated proportions."""
        eta = predictors_of(eta, self._y[rows].size)
        shares, (_, a, b) = self._shares(eta), self._beta(eta)
        tiny = np.finfo(float).tiny
        inside = rng.beta(np.maximum(a, tiny), np.maximum(b, tiny))
        inside = np.clip(inside, tiny, 1.0 - 2.0**-53)
        u = rng.random(eta.shape[1])
        return np.where(u < shares[0], 0.0, np.where(u < shares[0] + shares[1], inside, 1.0))


class OrderedBetaRows(BoundedRows):
    """Ordered beta: the kind of response is cumulative logit in the mean part and two cuts."""

    def __init__(
        self, response: Response, random: tuple[int, ...], frequency_weights: Array | None = None
    ) -> None:
        super().__init__(response, random, frequency_weights)
        family = category_family("cumulative", "logit", _KINDS)
        parts = (0, 2, 3)
        codes = Response(self._kind.astype(np.float64), categories=_KINDS)
        self._cut = category_rows(family, codes, None, local_random(random, parts))
        self._kinds = Piece[RowLikelihood](np.arange(self.n), self._cut), parts

    def _pieces(self) -> Pieces:
        return [self._kinds, self._between]

    def _shares(self, eta: Array) -> Array:
        return self._cut.probabilities(eta[[0, 2, 3]])

    def _kind_start(self, _mean: float, shares: Array) -> list[float]:
        low = float(special.logit(shares[0]))
        high = float(special.logit(shares[0] + shares[1]))
        return [low + _mean, float(np.log(high - low))]


class ZeroOneBetaRows(BoundedRows):
    """Zero-one-inflated beta: two binary choices beside the beta response."""

    def __init__(
        self, response: Response, random: tuple[int, ...], frequency_weights: Array | None = None
    ) -> None:
        super().__init__(response, random, frequency_weights)
        binary = family_of("binomial")
        at_bound = np.flatnonzero(self._kind != 1)
        bound, one = (self._kind != 1).astype(np.float64), (self._kind == 2).astype(np.float64)
        pieces: Pieces = [self._between]
        for places, y, part in ((np.arange(self.n), bound, 2), (at_bound, one, 3)):
            rows = row_likelihood(binary, Response(y[places]), None, local_random(random, (part,)))
            pieces.append((Piece(places, rows), (part,)))
        self._all_pieces = pieces

    def _pieces(self) -> Pieces:
        return self._all_pieces

    def _shares(self, eta: Array) -> Array:
        bound = special.expit(eta[2])
        zero, one = bound * special.expit(-eta[3]), bound * special.expit(eta[3])
        return np.stack([zero, special.expit(-eta[2]), one])

    def _kind_start(self, _mean: float, shares: Array) -> list[float]:
        bound = shares[0] + shares[2]
        return [float(special.logit(bound)), float(special.logit(shares[2] / bound))]


def bounded_rows(
    family: Family,
    response: Response,
    order: NDArray[np.intp] | None,
    random: tuple[int, ...],
    *,
    frequency_weights: Array | None = None,
) -> BoundedRows:
    """Row likelihood (and outcome distribution) of proportions with zeros and ones.

    Parameters as in ``category_rows``; ``family`` of ``model.families.bounded.bounded_family``.

    Raises
    ------
    ModelError : another family.
    LikelihoodError : a response outside 0 to 1.
    """
    if family.name not in BOUNDED:
        raise ModelError(
            "bounded_rows needs one of " + ", ".join(BOUNDED) + ".",
            f"family {family.name!r}",
            "build other families with their own catalogue",
        )
    if order is not None:
        response = replace(response, y=response.y[order])
        if frequency_weights is not None:
            frequency_weights = np.ascontiguousarray(frequency_weights[order])
    kind = OrderedBetaRows if family.name == "ordered_beta" else ZeroOneBetaRows
    return kind(response, tuple(sorted(random)), frequency_weights)
