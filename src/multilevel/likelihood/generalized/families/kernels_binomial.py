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

_MAGIC = 1.5 * 2.0**52
_LOG_2_HIGH, _LOG_2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_EXP = tuple(1.0 / math.factorial(i) for i in range(14))
_ATANH = (
    1.0,
    0.33333333333333337,
    0.1999999999999801,
    0.14285714286133633,
    0.11111111070412151,
    0.09090911306164927,
    0.07692233269540713,
    0.0666828439218932,
    0.05859229625992957,
    0.05477949114532133,
    0.03528679177851945,
    0.08181899017078946,
)
_SQRT_2PI = math.sqrt(2.0 * math.pi)


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


def _contracted(kernel: Kernel) -> Kernel:
    # A product and a sum may be one instruction; nothing else is reordered.
    flags = {"cache": True, "error_model": "numpy", "nogil": True, "fastmath": {"contract"}}
    return cast(Kernel, numba.njit(**flags)(kernel))


@_contracted
def exp_unit(x: float) -> float:
    """``e^x`` for x in [-708, 0], relative error below 3e-16, without a branch.

    ``x = n log 2 + r``, Taylor's polynomial of degree 13 in r; adding 1.5 * 2^52 leaves n in the
    last bits, from where it goes to the exponent.
    """
    m = x * 1.4426950408889634 + _MAGIC
    n = m - _MAGIC
    r = (x - n * _LOG_2_HIGH) - n * _LOG_2_LOW
    p = _EXP[13]
    p = ((p * r + _EXP[12]) * r + _EXP[11]) * r + _EXP[10]
    p = ((p * r + _EXP[9]) * r + _EXP[8]) * r + _EXP[7]
    p = ((p * r + _EXP[6]) * r + _EXP[5]) * r + _EXP[4]
    p = (((p * r + _EXP[3]) * r + 0.5) * r + 1.0) * r + 1.0
    bits = (np.float64(m).view(np.int64) + np.int64(1023)) << np.int64(52)
    return float(p * np.int64(bits).view(np.float64))


@_contracted
def log1p_unit(t: float) -> float:
    """``log(1 + t)`` for t in [0, 1], relative error below 6e-16, without a branch.

    ``2 atanh(s)``, s = t / (2 + t); atanh(s)/s by its Chebyshev interpolant in s^2 on [0, 1/9].
    """
    s = t / (2.0 + t)
    z = s * s
    p = _ATANH[11]
    p = ((p * z + _ATANH[10]) * z + _ATANH[9]) * z + _ATANH[8]
    p = ((p * z + _ATANH[7]) * z + _ATANH[6]) * z + _ATANH[5]
    p = ((p * z + _ATANH[4]) * z + _ATANH[3]) * z + _ATANH[2]
    return 2.0 * s * ((p * z + _ATANH[1]) * z + _ATANH[0])


@_contracted
def logit(eta: Array, y: Array, trials: Array, constant: Array, level: int, out: Array) -> None:
    """``l = log C(N, y) + y eta - N log(1 + e^eta)``.

    A loop per level and exp and log1p without branches: the compiler evaluates rows side by side.
    """
    for k in range(eta.shape[1]):
        es, value = eta[0, k], out[0, k]
        if level == 0:
            for i in range(es.size):
                e = es[i]
                soft = max(e, 0.0) + log1p_unit(exp_unit(max(-abs(e), -708.0)))
                value[i] = constant[i] + y[i] * e - trials[i] * soft
            continue
        first = out[1, k]
        if level == 1:
            for i in range(es.size):
                e = es[i]
                t = exp_unit(max(-abs(e), -708.0))
                r = 1.0 / (1.0 + t)
                value[i] = constant[i] + y[i] * e - trials[i] * (max(e, 0.0) + log1p_unit(t))
                first[i] = y[i] - trials[i] * (r if e >= 0.0 else t * r)
            continue
        second = out[2, k]
        if level == 2:
            for i in range(es.size):
                e = es[i]
                t = exp_unit(max(-abs(e), -708.0))
                r = 1.0 / (1.0 + t)
                value[i] = constant[i] + y[i] * e - trials[i] * (max(e, 0.0) + log1p_unit(t))
                first[i] = y[i] - trials[i] * (r if e >= 0.0 else t * r)
                second[i] = -trials[i] * t * r * r
            continue
        third = out[3, k]
        for i in range(es.size):
            e = es[i]
            t = exp_unit(max(-abs(e), -708.0))
            r = 1.0 / (1.0 + t)
            p = r if e >= 0.0 else t * r
            w = trials[i] * t * r * r
            value[i] = constant[i] + y[i] * e - trials[i] * (max(e, 0.0) + log1p_unit(t))
            first[i] = y[i] - trials[i] * p
            second[i] = -w
            third[i] = w * (2.0 * p - 1.0)


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
