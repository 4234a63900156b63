"""Kernels of count families with a log link: Poisson, NB2, NB1, generalized Poisson.

``eta`` (D, K, m) -> ``out`` (J, K, m), packed as in ``jets``; ``constant`` is ``-log y!``.
All tend smoothly to the Poisson as alpha -> 0, because Gamma(y + 1/alpha) / Gamma(1/alpha) is
written as the product of ``1 + alpha j``. Sources: Cameron & Trivedi 2013, 3.3 (NB1, NB2);
Consul & Famoye 1992 (generalized Poisson); Stirling's series, Abramowitz & Stegun 6.1.40.
A cached kernel does not see changes in other files, so all that is inlined stands here.
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

#: Counts up to here are summed term by term, larger ones by Stirling's series.
_DIRECT = 40


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def poisson(eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
    """``l = y eta - e^eta - log y!``."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e = eta[0, k, i]
            mu = math.exp(e)
            out[0, k, i] = y[i] * e - mu + constant[i]
            if level >= 1:
                out[1, k, i] = y[i] - mu
                if level >= 2:
                    out[2, k, i] = -mu
                    if level >= 3:
                        out[3, k, i] = -mu


@_compiled
def poisson_power(
    power: int, eta: Array, y: Array, constant: Array, level: int, out: Array
) -> None:
    """Mean ``eta^power``, eta > 0: identity link (1), square-root link (2)."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e = eta[0, k, i]
            c = power * y[i]
            inside = e > 0.0 or (e == 0.0 and y[i] == 0.0)
            q = c / e if e > 0.0 else 0.0
            mu = e if power == 1 else e * e
            value = constant[i] - mu
            if y[i] > 0.0 and inside:
                value += c * math.log(e)
            out[0, k, i] = value if inside else -math.inf
            if level >= 1:
                out[1, k, i] = q - (1.0 if power == 1 else 2.0 * e)
                if level >= 2:
                    out[2, k, i] = (-q / e if e > 0.0 else 0.0) - (0.0 if power == 1 else 2.0)
                    if level >= 3:
                        out[3, k, i] = 2.0 * q / (e * e) if e > 0.0 else 0.0


@_compiled
def _stirling(y: float, k: float) -> Four:
    """``S(y) = sum_{j<y} log(1 + j/k)``, k >= 10, with derivatives in a = -log k.

    Stirling: ``S = (k + y - 1/2) log(1 + y/k) - y + B(k + y) - B(k)``, differentiated in k.
    """
    p, q = 1.0 / (k + y), 1.0 / k
    big = math.log1p(y * q)
    p2, q2 = p * p, q * q
    # B(x) = 1/(12 x) - 1/(360 x^3) + 1/(1260 x^5) - 1/(1680 x^7) + 1/(1188 x^9)
    b0 = p * (1 / 12 - p2 * (1 / 360 - p2 * (1 / 1260 - p2 * (1 / 1680 - p2 / 1188))))
    b0 -= q * (1 / 12 - q2 * (1 / 360 - q2 * (1 / 1260 - q2 * (1 / 1680 - q2 / 1188))))
    b1 = -p2 * (1 / 12 - p2 * (3 / 360 - p2 * (5 / 1260 - p2 * (7 / 1680 - p2 * 9 / 1188))))
    b1 += q2 * (1 / 12 - q2 * (3 / 360 - q2 * (5 / 1260 - q2 * (7 / 1680 - q2 * 9 / 1188))))
    b2 = p * p2 * (2 / 12 - p2 * (12 / 360 - p2 * (30 / 1260 - p2 * (56 / 1680 - p2 * 90 / 1188))))
    b2 -= q * q2 * (2 / 12 - q2 * (12 / 360 - q2 * (30 / 1260 - q2 * (56 / 1680 - q2 * 90 / 1188))))
    b3 = -p2 * p2 * (6 / 12 - p2 * (60 / 360 - p2 * (210 / 1260 - p2 * 504 / 1680)))
    b3 += q2 * q2 * (6 / 12 - q2 * (60 / 360 - q2 * (210 / 1260 - q2 * 504 / 1680)))
    b3 += -(p2**4) * p2 * 990 / 1188 + q2**4 * q2 * 990 / 1188
    difference = -y * p * q  # 1/(k+y) - 1/k
    half = k + y - 0.5
    s0 = half * big - y + b0
    s1 = big + half * difference + b1
    squares = (q - p) * (q + p)  # -(p^2 - q^2)
    s2 = 2.0 * difference + half * squares + b2
    s3 = 3.0 * squares + 2.0 * half * (p2 * p - q2 * q) + b3
    return s0, -k * s1, k * s1 + k * k * s2, -(k * s1 + 3.0 * k * k * s2 + k**3 * s3)


@_compiled
def rising(y: float, alpha: float) -> Four:
    """``S = sum_{j<y} log(1 + alpha j)`` with derivatives in ``log alpha``."""
    s0 = s1 = s2 = s3 = 0.0
    product = 1.0
    direct = y
    if y > _DIRECT:
        if alpha * y < 1e-4:
            # Powers of alpha with the sums of j, j^2, j^3: Stirling's series cancels here.
            first = alpha * y * (y - 1.0) / 2.0
            second = alpha * first * (2.0 * y - 1.0) / 3.0
            third = first * first * alpha
            s0 = first - second / 2.0 + third / 3.0
            s1, s2 = first - second + third, first - 2.0 * second + 3.0 * third
            return s0, s1, s2, first - 4.0 * second + 9.0 * third
        # Stirling's series needs 1/alpha + j of 10 or more; what comes before is summed.
        direct = max(0.0, math.ceil(10.0 - 1.0 / alpha))
    for j in range(1, int(direct)):
        x = alpha * j
        if x < 1e-3 or x > 1e50:
            # Alone: 1 + x would round small terms away, large ones would overflow the product.
            s0 += math.log1p(x)
        else:
            product *= 1.0 + x
            if product > 1e200:
                s0 += math.log(product)
                product = 1.0
        r = x / (1.0 + x)
        w = r / (1.0 + x)
        s1 += r
        s2 += w
        s3 += w * (1.0 - 2.0 * r)
    s0 += math.log(product)
    if y > direct:
        if direct == 0.0:
            t0, t1, t2, t3 = _stirling(y, 1.0 / alpha)
            return t0, t1, t2, t3
        # 1 + alpha j = (1 + alpha d) (1 + b (j - d)), b = alpha / (1 + alpha d); db in logs:
        rest, shift = y - direct, alpha * direct
        t0, t1, t2, t3 = _stirling(rest, (1.0 + shift) / alpha)
        r = shift / (1.0 + shift)
        g1, g2, g3 = 1.0 - r, -r * (1.0 - r), -r * (1.0 - r) * (1.0 - 2.0 * r)
        s0 += rest * math.log1p(shift) + t0
        s1 += rest * r + t1 * g1
        s2 += rest * r * (1.0 - r) + t2 * g1 * g1 + t1 * g2
        s3 += rest * r * (1.0 - r) * (1.0 - 2.0 * r)
        s3 += t3 * g1**3 + 3.0 * t2 * g1 * g2 + t1 * g3
    return s0, s1, s2, s3


@_compiled
def _log_excess(x: float) -> float:
    """``log(1 + x) - x / (1 + x)``, accurate for small x."""
    if x > 0.03:
        return math.log1p(x) - x / (1.0 + x)
    total = 0.0
    for n in range(11, 1, -1):
        total = (n - 1.0) / n - x * total
    return x * x * total


@_compiled
def _remembered(y: float, alpha: float, round_: int, stamp: Array, table: Array) -> Four:
    """``rising``, computed once per count while alpha stays (``round_``)."""
    j = int(y)
    if j >= stamp.size:
        return rising(y, alpha)
    if stamp[j] != round_:
        stamp[j] = round_
        table[0, j], table[1, j], table[2, j], table[3, j] = rising(y, alpha)
    return table[0, j], table[1, j], table[2, j], table[3, j]


@_compiled
def nb2(eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
    """``l = S(y, alpha) + y eta_0 - (y + 1/alpha) log(1 + alpha mu) - log y!``, a = log alpha."""
    # Most models have one alpha: a table of counts up to 1000 pays from a few dozen rows on.
    n_remembered = int(min(np.max(y), 1000.0)) + 1 if eta[0].size > 64 else 0
    stamp, table = np.zeros(n_remembered), np.empty((4, n_remembered))
    last, round_, alpha, size = math.nan, 0, 0.0, 0.0
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e, a = eta[0, k, i], eta[1, k, i]
            if a != last:
                last, round_ = a, round_ + 1
                alpha, size = math.exp(min(a, 700.0)), math.exp(min(-a, 700.0))
            s0, s1, s2, s3 = _remembered(y[i], alpha, round_, stamp, table)
            t, mu = e + a, math.exp(e)
            x = alpha * mu
            if 1e-200 < x < 1e200:
                q = 1.0 / (1.0 + x)
                r, soft = x * q, math.log1p(x)
            else:
                small = math.exp(-abs(t))
                r, q = (1.0, small) if t > 0.0 else (small, 1.0)
                soft = max(t, 0.0) + small
            # size * log(1 + x): as mu * log(1 + x)/x where x underflows.
            scaled = size * soft if t > -36.0 else mu
            out[0, k, i] = s0 + y[i] * e - y[i] * soft - scaled + constant[i]
            if level >= 1:
                kr = mu * q if t < 0.0 else size * r
                v = r * q
                out[1, k, i] = y[i] - y[i] * r - kr
                if level != 2:
                    excess = size * _log_excess(x) if t < -3.5 else size * (soft - r)
                    if t < -300.0:
                        excess = 0.5 * r * kr
                    out[2, k, i] = s1 - y[i] * r + excess
                if level >= 2:
                    yv, krr = y[i] * v, kr * r
                    skew = q - r
                    out[3, k, i] = -yv - kr * q
                    if level >= 3:
                        out[4, k, i] = -yv + krr
                        out[6, k, i] = -(yv + kr * q) * skew
                        out[7, k, i] = -yv * skew + 2.0 * krr * q
                        if level >= 4:
                            out[5, k, i] = s2 - yv - excess + krr
                            out[8, k, i] = -yv * skew + krr * skew
                            out[9, k, i] = s3 - yv * skew + excess - 2.0 * krr * r


@_compiled
def nb1(eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
    """``l = y eta_0 + S(y, alpha/mu) - y log(1 + alpha) - mu log(1 + alpha)/alpha - log y!``."""
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e, a = eta[0, k, i], eta[1, k, i]
            ratio = math.exp(min(max(a - e, -700.0), 700.0))
            s0, s1, s2, s3 = rising(y[i], ratio)
            alpha = math.exp(min(a, 700.0))
            small = math.exp(-abs(a))
            q = 1.0 / (1.0 + small) if a >= 0.0 else small / (1.0 + small)
            soft = max(a, 0.0) + math.log1p(small)
            mean = math.exp(e)
            c0 = soft / alpha if a > -36.0 else 1.0
            out[0, k, i] = y[i] * (e - soft) + s0 - mean * c0 + constant[i]
            if level >= 1:
                out[1, k, i] = y[i] - s1 - mean * c0
                excess = _log_excess(alpha) / alpha if a > -300.0 else 0.5 * alpha
                if level != 2:
                    out[2, k, i] = s1 - y[i] * q + mean * excess
                if level >= 2:
                    out[3, k, i] = s2 - mean * c0
                    if level >= 3:
                        out[4, k, i] = -s2 + mean * excess
                        out[6, k, i] = -s3 - mean * c0
                        out[7, k, i] = s3 + mean * excess
                        if level >= 4:
                            v = q * (1.0 - q)
                            kqq = q * q / alpha
                            c2 = excess - kqq
                            out[5, k, i] = s2 - y[i] * v - mean * c2
                            out[8, k, i] = -s3 - mean * c2
                            out[9, k, i] = (
                                s3 - y[i] * v * (1.0 - 2.0 * q) - mean * (2.0 * kqq * q - excess)
                            )


@_compiled
def generalized_poisson(eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
    """Generalized Poisson with mean mu and variance ``mu (1 + alpha)^2``, a = log alpha.

    ``l = eta_0 + (y - 1) log(mu + alpha y) - y log(1 + alpha) - (mu + alpha y)/(1 + alpha)``.
    """
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e, a, c = eta[0, k, i], eta[1, k, i], y[i] - 1.0
            gap = a + math.log(y[i]) - e if y[i] > 0.0 else -math.inf
            tail = math.exp(-abs(gap))
            big = 1.0 / (1.0 + tail)
            p, s = (tail * big, big) if gap > 0.0 else (big, tail * big)
            log_m = e + max(gap, 0.0) + math.log1p(tail)
            small = math.exp(-abs(a))
            big = 1.0 / (1.0 + small)
            q, rest = (big, small * big) if a > 0.0 else (small * big, big)
            soft = max(a, 0.0) + math.log1p(small)
            mean = math.exp(e) * rest
            out[0, k, i] = e + c * log_m - y[i] * (soft + q) - mean + constant[i]
            if level >= 1:
                cps = c * p * s
                out[1, k, i] = 1.0 + c * p - mean
                yq = (y[i] - math.exp(e)) * q * rest
                if level != 2:
                    out[2, k, i] = c * s - y[i] * q - yq
                if level >= 2:
                    out[3, k, i] = cps - mean
                    if level >= 3:
                        out[4, k, i] = -cps + mean * q
                        out[6, k, i] = cps * (s - p) - mean
                        out[7, k, i] = cps * (p - s) + mean * q
                        if level >= 4:
                            v = y[i] * q * rest
                            turn = rest - q
                            out[5, k, i] = cps - v - yq * turn
                            out[8, k, i] = cps * (s - p) + mean * q * turn
                            out[9, k, i] = cps * (p - s) - v * turn - yq * (1.0 - 6.0 * q * rest)
