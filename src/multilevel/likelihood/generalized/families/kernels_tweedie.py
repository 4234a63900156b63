"""The Tweedie log density for 1 < p < 2 by the series of Dunn & Smyth 2005, with derivatives.

Parts: eta_0 = log mean, a = log phi, t = logit(p - 1); r = p - 1, c = 2 - p. Then with
``W_j = z^j / (j! Gamma(j c/r))`` and ``log z = (c/r)(log y - log r - a) - a - log c``

    l = -(y e^{-r eta}/r + e^{c eta}/c) / phi + log sum_j W_j - log y        (y > 0)

and without the series at y = 0. Derivatives of the series are cumulants of the derivatives of
``log W_j`` over weights ``W_j``; own derivation. A cached kernel does not see other files.
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
Three = tuple[float, float, float]

#: Terms below e^-40 of the largest are left out. Outside the domain are sums that peak beyond term
#: e^28, and powers nearer to 1 or 2 than e^-28.
_DEPTH, _MOST = 40.0, 28.0


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def _gamma_slopes(x: float) -> Three:
    """First three derivatives of ``log Gamma(e^s)`` in s at ``x = e^s``."""
    p1 = p2 = p3 = 0.0
    z = x
    while z < 14.0:
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
    return p1, p1 + p2, p1 + 3.0 * p2 + p3


@_compiled
def _series(y: float, a: float, t: float, full: bool, s: Array) -> None:
    """``log sum_j W_j`` in s[0]; s[1..9]: derivatives a, t, aa, at, tt, aaa, aat, att, ttt."""
    alpha = math.exp(-t)
    r, c = 1.0 / (1.0 + alpha), alpha / (1.0 + alpha)
    log_c = -max(t, 0.0) - math.log1p(math.exp(-abs(t)))
    u = math.log(y) + max(-t, 0.0) + math.log1p(math.exp(-abs(t))) - a
    z = alpha * u - a - log_c
    za = -(1.0 + alpha)
    zt = -alpha * u - alpha * c + r
    ztt = alpha * u + 2.0 * alpha * c + c
    zttt = -alpha * u - 3.0 * alpha * c - c * c - c
    top = math.floor(max(1.0, math.exp(c * math.log(y) - a - log_c)))
    peak = top * z - math.lgamma(top + 1.0) - math.lgamma(top * alpha)
    d1, d2, d3 = _gamma_slopes(top * alpha)
    t_top, q_top = top * zt + d1, top * ztt - d2
    n = np.zeros(13)
    for side in range(2):
        j = top if side == 0 else top - 1.0
        while j >= 1.0:
            gap = j * z - math.lgamma(j + 1.0) - math.lgamma(j * alpha) - peak
            if gap < -_DEPTH:
                break
            w = math.exp(gap)
            d1, d2, d3 = _gamma_slopes(j * alpha)
            m, v = j - top, j * zt + d1 - t_top
            n[0] += w
            n[1] += w * m
            n[2] += w * v
            if full:
                q = j * ztt - d2 - q_top
                n[3] += w * m * m
                n[4] += w * m * v
                n[5] += w * v * v
                n[6] += w * m * m * m
                n[7] += w * m * m * v
                n[8] += w * m * v * v
                n[9] += w * v * v * v
                n[10] += w * q
                n[11] += w * (m * q)
                n[12] += w * (v * q)
                s[9] += w * (j * zttt + d3)
            j += 1.0 if side == 0 else -1.0
    total = n[0]
    n /= total
    s[0], m, v = peak + math.log(total), n[1], n[2]
    s[1], s[2] = (top + m) * za, t_top + v
    if full:
        cmm, cmv, cvv = n[3] - m * m, n[4] - m * v, n[5] - v * v
        kmmm = n[6] - 3.0 * m * n[3] + 2.0 * m**3
        kmmv = n[7] - 2.0 * m * n[4] - v * n[3] + 2.0 * m * m * v
        kmvv = n[8] - 2.0 * v * n[4] - m * n[5] + 2.0 * m * v * v
        kvvv = n[9] - 3.0 * v * n[5] + 2.0 * v**3
        cmq, cvq = n[11] - m * n[10], n[12] - v * n[10]
        s[3] = za * za * cmm
        s[4] = alpha * (top + m) + za * cmv
        s[5] = q_top + n[10] + cvv
        s[6] = za**3 * kmmm
        s[7] = 2.0 * alpha * za * cmm + za * za * kmmv
        s[8] = -alpha * (top + m) + 2.0 * alpha * cmv + za * cmq + za * kmvv
        s[9] = s[9] / total + 3.0 * cvq + kvvv


@_compiled
def _power(y: float, e: float, a: float, t: float, level: int, o: Array) -> None:
    """``-(y e^{-r e}/r + e^{c e}/c) / phi`` as a jet of three parts (20,)."""
    small = math.exp(-abs(t))
    big = 1.0 / (1.0 + small)
    r, c = (big, small * big) if t > 0.0 else (small * big, big)
    p, q = y * math.exp(-r * e - a) / r, math.exp(c * e - a) / c
    f, g = -c * (1.0 + r * e), r * (1.0 - c * e)
    rc = r * c
    d = rc * (1.0 + (r - c) * e)
    dd = rc * (c - r) * (1.0 + (r - c) * e) + 2.0 * rc * rc * e
    k, kt = -(p + q), -(p * f + q * g)
    ke, kee = r * p - c * q, -(r * r * p + c * c * q)
    ket = r * p * (f + c) - c * q * (g - r)
    o[0], o[1], o[2], o[3] = k, ke, -k, kt
    if level >= 2:
        o[4], o[5], o[6] = kee, -ke, ket
        keee = r**3 * p - c**3 * q
        keet = -(r * r * p * (f + 2.0 * c) + c * c * q * (g - 2.0 * r))
        o[10], o[11], o[12] = keee, -kee, keet
        ktt = -(p * (f * f + d) + q * (g * g + d))
        o[7], o[8], o[9] = k, -kt, ktt
        o[13], o[14] = ke, -ket
        o[15] = r * p * ((f + c) ** 2 + d - rc) - c * q * ((g - r) ** 2 + d - rc)
        o[16], o[17], o[18] = -k, kt, -ktt
        o[19] = -(p * (f**3 + 3.0 * f * d + dd) + q * (g**3 + 3.0 * g * d + dd))


@_compiled
def tweedie(eta: Array, y: Array, level: int, out: Array) -> None:
    """The log density for the rows; jets of three parts."""
    o, s = np.zeros(20), np.zeros(10)
    last = out.shape[0]
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            e, a, t = eta[0, k, i], eta[1, k, i], eta[2, k, i]
            _power(y[i], e, a, t, level, o)
            if y[i] > 0.0:
                s[:] = 0.0
                log_c = -max(t, 0.0) - math.log1p(math.exp(-abs(t)))
                if math.exp(log_c) * math.log(y[i]) - a - log_c > _MOST or abs(t) > _MOST:
                    o[0] = -math.inf
                else:
                    _series(y[i], a, t, level >= 4, s)
                    o[0] += s[0] - math.log(y[i])
                    o[2] += s[1]
                    o[3] += s[2]
                    o[7] += s[3]
                    o[8] += s[4]
                    o[9] += s[5]
                    for j in range(4):
                        o[16 + j] += s[6 + j]
            if abs(t) > _MOST or math.isnan(o[0]):
                o[0] = -math.inf
            for j in range(last):
                out[j, k, i] = o[j]
