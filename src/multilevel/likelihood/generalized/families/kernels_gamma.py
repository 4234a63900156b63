"""Kernels of positive responses and proportions: gamma, inverse Gaussian, beta.

``eta`` (2, K, m) -> ``out`` (J, K, m), packed as in ``jets``; derivatives in the log or logit of
the mean, other links go through ``jets.through_link``. Gamma functions enter through
``g(x) = x log x - x - log Gamma(x)``, which stays of the order of log x, so that large shapes lose
no digits. Sources: Stirling's series and polygammas, Abramowitz & Stegun 6.1.40, 6.3.18, 6.4.11;
Ferrari & Cribari-Neto 2004 (beta). A cached kernel does not see changes in other files.
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

_LOG_2PI = math.log(2.0 * math.pi)


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def gamma_excess(t: float) -> Four:
    """``g(x) = x log x - x - log Gamma(x)`` at ``x = e^t`` with three derivatives in t."""
    x = math.exp(min(max(t, -700.0), 700.0))
    if x >= 16.0:
        q = 1.0 / x
        s = q * q
        c1, c3, c5 = q / 12.0, q * s / 360.0, q * s * s / 1260.0
        c7, c9 = q * s**3 / 1680.0, q * s**4 / 1188.0
        c11 = q * s**5 * 691.0 / 360360.0
        value = 0.5 * (t - _LOG_2PI) - (c1 - c3 + c5 - c7 + c9 - c11)
        first = 0.5 + (c1 - 3.0 * c3 + 5.0 * c5 - 7.0 * c7 + 9.0 * c9 - 11.0 * c11)
        second = -(c1 - 9.0 * c3 + 25.0 * c5 - 49.0 * c7 + 81.0 * c9 - 121.0 * c11)
        third = c1 - 27.0 * c3 + 125.0 * c5 - 343.0 * c7 + 729.0 * c9 - 1331.0 * c11
        return value, first, second, third
    # Polygammas times powers of x: recurrence up to z >= 16, then their asymptotic series.
    p1 = p2 = p3 = 0.0
    z = x
    while z < 16.0:
        r = x / z
        p1 -= r
        p2 += r * r
        p3 -= 2.0 * r * r * r
        z += 1.0
    q = 1.0 / z
    s = q * q
    psi = (
        math.log(z)
        - q / 2.0
        - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))
    )
    psi1 = q + s / 2.0 + q * s * (1 / 6 - s * (1 / 30 - s * (1 / 42 - s * (1 / 30 - s * 5 / 66))))
    psi2 = -s - q * s - s * s * (1 / 2 - s * (1 / 6 - s * (1 / 6 - s * (3 / 10 - s * 5 / 6))))
    p1 += x * psi
    p2 += x * x * psi1
    p3 += x * x * x * psi2
    xt = x * t
    return xt - x - math.lgamma(x), xt - p1, xt + x - p1 - p2, xt + 2.0 * x - p1 - 3.0 * p2 - p3


@_compiled
def _below_exp(z: float) -> float:
    """``z + 1 - e^z``, accurate for small z."""
    if abs(z) > 0.05:
        return z - math.expm1(z)
    total = 0.0
    for n in range(9, 1, -1):
        total = (1.0 + total) * z / n
    return -z * total


@_compiled
def gamma(eta: Array, log_y: Array, level: int, out: Array) -> None:
    """``l = nu (z + 1 - e^z) + g(nu) - log y``, z = log y - eta_0, nu = e^-eta_1, log link."""
    last, g0, g1, g2, g3 = math.nan, 0.0, 0.0, 0.0, 0.0
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            z, a = log_y[i] - eta[0, k, i], eta[1, k, i]
            if a != last:
                g0, g1, g2, g3 = gamma_excess(-a)
                last = a
            nu = math.exp(min(-a, 700.0))
            h = nu * _below_exp(z)
            out[0, k, i] = h + g0 - log_y[i]
            if level >= 1:
                up = nu * math.expm1(z)
                out[1, k, i] = up
                if level != 2:
                    out[2, k, i] = -h - g1
                if level >= 2:
                    w = nu * math.exp(z)
                    out[3, k, i] = -w
                    if level >= 3:
                        out[4, k, i] = -up
                        out[6, k, i] = w
                        out[7, k, i] = w
                        if level >= 4:
                            out[5, k, i] = h + g2
                            out[8, k, i] = up
                            out[9, k, i] = -h - g3


@_compiled
def inverse_gaussian(eta: Array, log_y: Array, level: int, out: Array) -> None:
    """``l = -(log 2 pi + 3 log y + a + e^-a d) / 2``, d = (e^z - 1)^2 / y, z = log y - eta_0."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            z, a = log_y[i] - eta[0, k, i], eta[1, k, i]
            up, down = math.expm1(z), math.exp(z)
            v = 0.5 * math.exp(-log_y[i] - a)
            half = v * up * up
            out[0, k, i] = -0.5 * (_LOG_2PI + 3.0 * log_y[i] + a) - half
            if level >= 1:
                l0 = 2.0 * v * down * up
                out[1, k, i] = l0
                if level != 2:
                    out[2, k, i] = half - 0.5
                if level >= 2:
                    l00 = -v * down * (4.0 * down - 2.0)
                    out[3, k, i] = l00
                    if level >= 3:
                        out[4, k, i] = -l0
                        out[6, k, i] = v * down * (8.0 * down - 2.0)
                        out[7, k, i] = -l00
                        if level >= 4:
                            out[5, k, i] = -half
                            out[8, k, i] = l0
                            out[9, k, i] = half


@_compiled
def beta(eta: Array, log_y: Array, log_rest: Array, level: int, out: Array) -> None:
    """Beta(phi mu, phi (1 - mu)) with eta_0 = logit mu, eta_1 = log phi.

    ``l = g(A) + g(B) - g(phi) + A log(y/mu) + B log((1 - y)/(1 - mu)) - log y(1 - y)``.
    """
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e, a = eta[0, k, i], eta[1, k, i]
            small = math.exp(-abs(e))
            soft = math.log1p(small)
            mu = 1.0 / (1.0 + small) if e >= 0.0 else small / (1.0 + small)
            rest = 1.0 / (1.0 + small) if e < 0.0 else small / (1.0 + small)
            log_mu, log_1mu = min(e, 0.0) - soft, -max(e, 0.0) - soft
            phi = math.exp(min(a, 700.0))
            f0, f1, f2, f3 = gamma_excess(a)
            a0, a1, a2, a3 = gamma_excess(a + log_mu)
            b0, b1, b2, b3 = gamma_excess(a + log_1mu)
            za, zb = log_y[i] - log_mu, log_rest[i] - log_1mu
            ma, mb = phi * mu * za, phi * rest * zb
            out[0, k, i] = a0 + b0 - f0 + ma + mb - log_y[i] - log_rest[i]
            if level >= 1:
                pull = phi * mu * rest * (za - zb)
                out[1, k, i] = rest * a1 - mu * b1 + pull
                if level != 2:
                    out[2, k, i] = a1 + b1 - f1 + ma + mb
                if level >= 2:
                    v = mu * rest
                    skew = rest - mu
                    out[3, k, i] = (
                        a2 * rest * rest + b2 * mu * mu - v * (a1 + b1 + phi) + pull * skew
                    )
                    if level >= 3:
                        out[4, k, i] = rest * a2 - mu * b2 + pull
                        out[6, k, i] = (
                            a3 * rest**3
                            - b3 * mu**3
                            - 3.0 * v * (a2 * rest - b2 * mu)
                            - v * skew * (a1 + b1)
                            + pull * (1.0 - 6.0 * v)
                            - 2.0 * phi * v * skew
                        )
                        out[7, k, i] = (
                            a3 * rest * rest + b3 * mu * mu - v * (a2 + b2 + phi) + pull * skew
                        )
                        if level >= 4:
                            out[5, k, i] = a2 + b2 - f2 + ma + mb
                            out[8, k, i] = rest * a3 - mu * b3 + pull
                            out[9, k, i] = a3 + b3 - f3 + ma + mb
