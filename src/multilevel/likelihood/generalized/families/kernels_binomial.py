"""Kernels of binomial log densities: logit by itself, the other links by log F and log(1 - F).

``eta`` (1, K, m) -> ``out`` (J, K, m), packed as in ``jets``. Sources: derivatives of the logit by
McCullagh & Nelder 1989, 4.4; Mills ratio of the normal by Laplace's continued fraction
(Abramowitz & Stegun 26.2.14). A cached kernel does not see changes in other files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Four = tuple[float, float, float, float]

#: Codes of the links of ``linked``.
PROBIT, CLOGLOG, CAUCHIT, LOG = range(4)

_SQRT_2PI = math.sqrt(2.0 * math.pi)


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def logit(eta: Array, y: Array, trials: Array, constant: Array, level: int, out: Array) -> None:
    """``l = log C(N, y) + y eta - N log(1 + e^eta)``: one exp and one log1p per row."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e = eta[0, k, i]
            t = math.exp(-abs(e))
            n = trials[i]
            out[0, k, i] = constant[i] + y[i] * e - n * (max(e, 0.0) + math.log1p(t))
            if level >= 1:
                r = 1.0 / (1.0 + t)
                p = r if e >= 0.0 else t * r
                out[1, k, i] = y[i] - n * p
                if level >= 2:
                    w = n * t * r * r
                    out[2, k, i] = -w
                    if level >= 3:
                        out[3, k, i] = w * (2.0 * p - 1.0)


@_compiled
def _log_normal(x: float) -> Four:
    """log of the standard normal distribution function with three derivatives."""
    if x > -6.0:
        cdf = 0.5 * math.erfc(-x / math.sqrt(2.0))
        r = math.exp(-0.5 * x * x) / _SQRT_2PI / cdf
        d = r + x
        value = math.log(cdf) if x < 0.0 else math.log1p(-0.5 * math.erfc(x / math.sqrt(2.0)))
        return value, r, -r * d, r * (x * x - 1.0 + 3.0 * x * r + 2.0 * r * r)
    # r = z + 1/(z + 2/(z + 3/(z + ...))), z = -x; d = r - z comes without cancellation.
    z = -x
    tail = z
    for j in range(60, 1, -1):
        tail = z + j / tail
    d = 1.0 / tail
    r = z + d
    value = -0.5 * z * z - math.log(_SQRT_2PI * r)
    third = r * (d * d + d * r - 1.0)
    if z > 50.0:
        # Asymptotic series of log Phi (Abramowitz & Stegun 26.2.12): the form above cancels here.
        q = 1.0 / (z * z)
        third = (2.0 - q * (24.0 - q * (300.0 - q * 4144.0))) * q / z
    return value, r, -r * d, third


@_compiled
def _log_sure(e: float) -> Four:
    """log(1 - exp(-t)) with three derivatives in e = log t."""
    t = math.exp(min(e, 709.0))
    if t < 0.05:
        s = t * t
        v = e - t / 2.0 + s / 24.0 - s * s / 2880.0 + s**3 / 181440.0
        a = 1.0 - t / 2.0 + s / 12.0 - s * s / 720.0 + s**3 / 30240.0
        b = -t / 2.0 + s / 6.0 - s * s / 180.0 + s**3 / 5040.0
        c = -t / 2.0 + s / 3.0 - s * s / 45.0 + s**3 / 840.0
        return v, a, b, c
    small = math.exp(-t)
    r = t * small / (1.0 - small)
    b = r * (1.0 - t - r)
    return math.log1p(-small), r, b, b * (1.0 - t - 2.0 * r) - r * t


@_compiled
def _log_cauchy(x: float) -> Four:
    """log of the Cauchy distribution function with three derivatives."""
    q = 1.0 / (1.0 + x * x)
    cdf = math.atan(-1.0 / x) / math.pi if x < -1.0 else 0.5 + math.atan(x) / math.pi
    upper = math.atan(1.0 / x) / math.pi if x > 1.0 else 1.0 - cdf
    a = q / math.pi / cdf
    b = -2.0 * x * q * a
    c = (6.0 * x * x - 2.0) * q * q * a
    value = math.log(cdf) if x < 0.0 else math.log1p(-upper)
    return value, a, b - a * a, c - 3.0 * a * b + 2.0 * a**3


@_compiled
def _log_rest(e: float) -> Four:
    """log(1 - exp(e)), e < 0, with three derivatives; -inf outside."""
    if e >= 0.0:
        return -math.inf, 0.0, 0.0, 0.0
    q = 1.0 / math.expm1(-e) if e > -700.0 else math.exp(e)
    value = math.log(-math.expm1(e)) if e > -0.69 else math.log1p(-math.exp(e))
    return value, -q, -q * (1.0 + q), -q * (1.0 + q) * (1.0 + 2.0 * q)


@_compiled
def log_probability(link: int, e: float) -> Four:
    """``log F(eta)`` with three derivatives in eta."""
    if link == PROBIT:
        return _log_normal(e)
    if link == CLOGLOG:
        return _log_sure(e)
    if link == CAUCHIT:
        return _log_cauchy(e)
    if e > 0.0:
        return -math.inf, 0.0, 0.0, 0.0
    return e, 1.0, 0.0, 0.0


@_compiled
def log_complement(link: int, e: float) -> Four:
    """``log(1 - F(eta))`` with three derivatives in eta."""
    if link in (PROBIT, CAUCHIT):
        a, b, c, d = _log_normal(-e) if link == PROBIT else _log_cauchy(-e)
        return a, -b, c, -d
    if link == CLOGLOG:
        t = math.exp(min(e, 709.0))
        return -t, -t, -t, -t
    return _log_rest(e)


@_compiled
def linked(
    link: int, eta: Array, y: Array, trials: Array, constant: Array, level: int, out: Array
) -> None:
    """``l = log C(N, y) + y log F + (N - y) log(1 - F)`` for the links coded above."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            l0 = constant[i]
            l1 = l2 = l3 = 0.0
            yes, no = y[i], trials[i] - y[i]
            if yes > 0.0:
                a, b, c, d = log_probability(link, eta[0, k, i])
                l0 += yes * a
                l1 += yes * b
                l2 += yes * c
                l3 += yes * d
            if no > 0.0:
                a, b, c, d = log_complement(link, eta[0, k, i])
                l0 += no * a
                l1 += no * b
                l2 += no * c
                l3 += no * d
            out[0, k, i] = l0
            if level >= 1:
                out[1, k, i] = l1
                if level >= 2:
                    out[2, k, i] = l2
                    if level >= 3:
                        out[3, k, i] = l3


@_compiled
def log_sure(e: Array, out: Array) -> None:
    """``log(1 - exp(-e^e))`` with three derivatives in e (N,) -> (4, N)."""
    for i in range(e.size):
        out[0, i], out[1, i], out[2, i], out[3, i] = _log_sure(e[i])


@_compiled
def log_odds(link: int, e: Array, out: Array) -> None:
    """``log F - log(1 - F)`` with three derivatives in the predictor (N,) -> (4, N)."""
    for i in range(e.size):
        a, b, c, d = log_probability(link, e[i])
        p, q, r, s = log_complement(link, e[i])
        out[0, i], out[1, i], out[2, i], out[3, i] = a - p, b - q, c - r, d - s
