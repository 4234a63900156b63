"""Student t responses: a Gaussian with heavy tails; part 1 log squared scale, part 2 log df."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.likelihood.generalized.families import jets
from multilevel.likelihood.generalized.families.base import (
    JetRows,
    Pair,
    exp,
    require,
    weighted_mean,
    weighted_variance,
)
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)

#: Coefficients of ``log Gamma(x + 1/2) - log Gamma(x) - log(x)/2`` in 1/x, 1/x^3, ... (Tricomi &
#: Erdelyi 1951).
_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432)


def log_ratio(n: Array) -> tuple[Array, Array, Array, Array]:
    """``log Gamma(x + 1/2) - log Gamma(x) - log(x) / 2``, ``x = e^n / 2``, with three derivatives
    in n; tends to 0 as n grows, without cancellation."""
    x = exp(np.clip(n, -600.0, 700.0)) / 2
    large = x > 30.0
    far, near = np.where(large, x, 30.0), np.where(large, 30.0, x)
    value, first, second, third = np.zeros((4, *x.shape))
    for i, c in enumerate(_SERIES):
        power = 2 * i + 1
        term = c / far**power
        value += term
        first -= power * term
        second += power**2 * term
        third -= power**3 * term
    d = [special.polygamma(k, near + 0.5) - special.polygamma(k, near + 1) for k in range(3)]
    # Gamma(x) = Gamma(x + 1) / x keeps the poles at 0 out of the differences.
    p1, p2, p3 = near * d[0] + 1, near**2 * d[1] - 1, near**3 * d[2] + 2
    plain = special.gammaln(near + 0.5) - special.gammaln(near) - np.log(near) / 2
    return (
        np.asarray(np.where(large, value, plain)),
        np.asarray(np.where(large, first, p1 - 0.5)),
        np.asarray(np.where(large, second, p1 + p2)),
        np.asarray(np.where(large, third, p1 + 3 * p2 + p3)),
    )


def _log_excess(w: Array) -> Array:
    """``log(1 + w) - w / (1 + w)``, accurate for small w."""
    small = np.minimum(w, 0.03)
    total = np.zeros_like(w)
    for n in range(11, 1, -1):
        total = (n - 1) / n - small * total
    return np.where(w > 0.03, np.log1p(w) - w / (1 + w), small**2 * total)


def _fill_derivatives(
    out: Array,
    parts: tuple[Array, Array, Array, Array],
    h: Array,
    nu: Array,
    ratio: tuple[Array, Array, Array, Array],
    level: int,
) -> None:
    """Derivatives of ``K(n) - s/2 - (nu + 1)/2 log(1 + w)``; ``t = s + n`` carries both scales."""
    x, w, r, g = parts
    up, half = (nu + 1) / 2, nu / 2
    # Derivatives of log(1 + w) in the mean (e) and in t.
    le, let = -2 * x * h, 2 * x * h * g
    lee, leet = 2 * (1 - w) * h * h, 2 * (3 * w - 1) * h * h * g
    rg, turn = r * g, r - g
    excess = half * _log_excess(w)
    out[1] = -up * le
    if level != jets.NEWTON:
        out[2] = up * r - 0.5
        out[3] = ratio[1] - excess + r / 2
    if level >= jets.NEWTON:
        out[4] = -up * lee
    if level >= jets.MEAN:
        out[5] = -up * let
        out[6] = -half * le - up * let
        out[10] = -4 * up * x * (3 - w) * h**3
        out[11] = -up * leet
        out[12] = -half * lee - up * leet
    if level >= jets.FULL:
        lett = let * turn
        out[7] = -up * rg
        out[8] = half * r - up * rg
        out[9] = ratio[2] - excess + half * r * r - rg / 2
        out[13] = -up * lett
        out[14] = -half * let - up * lett
        out[15] = -half * le - 2 * half * let - up * lett
        out[16] = -up * rg * turn
        out[17] = -half * rg - up * rg * turn
        out[18] = half * r - 2 * half * rg - up * rg * turn
        out[19] = ratio[3] - excess + 2 * half * r**3 - rg * turn / 2


class Student(JetRows):
    """``(y - eta_0) / exp(eta_1 / 2)`` is Student t with ``exp(eta_2)`` degrees of freedom."""

    def __init__(
        self,
        family: Family,
        response: Response,
        random: tuple[int, ...],
        frequency: Array | None = None,
        precision: Array | None = None,
    ) -> None:
        super().__init__(response, len(family.parts), random, frequency, precision)
        require(np.isfinite(self.y), self.y, "Responses are numbers", "leave out these rows")

    def _jets(self, eta: Array, rows: slice, level: int, out: Array) -> None:
        s, n = eta[1], np.minimum(eta[2], 700.0)
        e = self.y[rows] - eta[0]
        nu = exp(n)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            # In units of sqrt(df) scales, so that nothing overflows before its time.
            unit = exp((s + n) / 2)
            x = e / unit
            w = x * x
            r, g = w / (1 + w), 1 / (1 + w)
            r = np.where(np.isinf(w), 1.0, r)
            # Most models have one df: polygammas are then needed once.
            one = n.size > 0 and bool((n == n.flat[0]).all())
            ratio = log_ratio(n.flat[:1].reshape(1, 1) if one else n)
            value = ratio[0] - _HALF_LOG_2PI - s / 2 - (nu + 1) / 2 * np.log1p(w)
            out[0] = np.where(np.isnan(value), -np.inf, value)
            if level >= jets.FIRST:
                _fill_derivatives(out, (x, w, r, g), 1 / unit * g, nu, ratio, level)

    def _mean(self, eta: Array, _rows: slice) -> Array:
        return np.asarray(np.where(eta[2] > 0, eta[0], np.nan))

    def _variance(self, eta: Array, _rows: slice) -> Array:
        """Infinite up to 2 degrees of freedom, not defined up to 1."""
        nu = exp(eta[2])
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(nu > 2, 1 / (1 - 2 / nu), np.inf)
        return np.asarray(np.where(nu > 1, exp(eta[1]) * factor, np.nan))

    def _cumulative(self, eta: Array, rows: slice) -> Pair:
        p = special.stdtr(exp(eta[2]), (self.y[rows] - eta[0]) * exp(-eta[1] / 2))
        return np.asarray(p), np.asarray(p)

    def _draw(self, eta: Array, rng: np.random.Generator, _rows: slice) -> Array:
        return np.asarray(eta[0] + exp(eta[1] / 2) * rng.standard_t(exp(eta[2])))

    def _start(self, weights: Array) -> list[float]:
        spread = weighted_variance(self.y, weights)
        return [weighted_mean(self.y, weights), float(np.log(0.75 * spread)), float(np.log(8.0))]


def build_student(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> Student:
    """The rows of a Student t response (see ``catalogue``)."""
    return Student(family, response, random, frequency, precision)
