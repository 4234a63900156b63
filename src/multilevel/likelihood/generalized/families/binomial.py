"""Binomial responses: 0/1 or successes out of trials, five links."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import DesignError
from multilevel.likelihood.generalized.families import kernels_binomial as kernels
from multilevel.likelihood.generalized.families.base import (
    JetRows,
    Pair,
    refuse_precision,
    require,
)
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]

_CODES = {
    "probit": kernels.PROBIT,
    "cloglog": kernels.CLOGLOG,
    "cauchit": kernels.CAUCHIT,
    "log": kernels.LOG,
}


def probability(link: str, eta: Array) -> Array:
    """Inverse link; more than 1 (log link outside its domain) is cut to 1."""
    if link == "logit":
        return np.asarray(special.expit(eta))
    if link == "probit":
        return np.asarray(special.ndtr(eta))
    if link == "cloglog":
        return np.asarray(-np.expm1(-np.exp(np.minimum(eta, 700.0))))
    if link == "cauchit":
        return 0.5 + np.arctan(eta) / np.pi
    return np.exp(np.minimum(eta, 0.0))


def predictor(link: str, p: float) -> float:
    """The link at a probability strictly between 0 and 1."""
    if link == "logit":
        return float(special.logit(p))
    if link == "probit":
        return float(special.ndtri(p))
    if link == "cloglog":
        return float(np.log(-np.log1p(-p)))
    if link == "cauchit":
        return float(np.tan(np.pi * (p - 0.5)))
    return float(np.log(p))


class Binomial(JetRows):
    """``y`` successes out of ``trials`` (1 each by default); part 0 is the link of the probability.

    The log density contains ``log C(trials, y)``.
    """

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None,
    ) -> None:
        super().__init__(response, 1, random, frequency)
        self.link = family.link
        self.log_concave = self.link != "cauchit"
        trials = np.ones(self.n) if response.trials is None else response.trials
        self.trials = np.ascontiguousarray(trials, dtype=np.float64)
        self._check()
        self._constant = np.zeros(self.n)
        if response.trials is not None:
            self._constant = np.asarray(
                special.gammaln(self.trials + 1)
                - special.gammaln(self.y + 1)
                - special.gammaln(self.trials - self.y + 1)
            )

    def _check(self) -> None:
        n, y = self.trials, self.y
        if n.shape != y.shape:
            raise DesignError(
                "trials= holds one number per row",
                f"{n.size} numbers of trials for {y.size} rows",
                "pass the name of a column, or as many numbers as the table has rows",
            )
        require(
            (n >= 0) & (np.floor(n) == n) & np.isfinite(n),
            n,
            "Numbers of trials are whole numbers",
            "correct trials=, or pass weights of rows as frequency_weights=",
        )
        require(
            (y >= 0) & (y <= n) & (np.floor(y) == y),
            y,
            "Successes are whole numbers between 0 and the number of trials (1 without trials=)",
            "pass numbers of trials as trials=; proportions are multiplied by them first",
        )

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        arguments = (eta, self.y[rows], self.trials[rows], self._constant[rows], level, out)
        if self.link == "logit":
            kernels.logit(*arguments)
        else:
            kernels.linked(_CODES[self.link], *arguments)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        return probability(self.link, eta[0])

    def _variance(self, eta: Array, rows: slice) -> Array:
        p = probability(self.link, eta[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            return p * (1 - p) / self.trials[rows]

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        p, y, n = probability(self.link, eta[0]), self.y[rows], self.trials[rows]
        below = np.where(y > 0, special.bdtr(np.maximum(y - 1, 0), n.astype(int), p), 0.0)
        return below, np.where(y < n, special.bdtr(y, n.astype(int), p), 1.0)

    def _draw(self, eta: Array, rng: np.random.Generator, rows: slice) -> Array:
        counts = rng.binomial(self.trials[rows].astype(int), probability(self.link, eta[0]))
        return counts.astype(float)

    def _start(self, weights: Array) -> list[float]:
        successes = float(weights @ self.y) + 0.5
        return [predictor(self.link, successes / (float(weights @ self.trials) + 1.0))]


def build_binomial(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> Binomial:
    """The rows of a binomial response (see ``catalogue``)."""
    refuse_precision(family, precision)
    return Binomial(family, response, random, frequency)
