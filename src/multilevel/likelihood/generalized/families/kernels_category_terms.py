r"""Compiled logs of category probabilities and their derivatives, one number at a time.

For a distribution function ``F`` (logit, probit, cloglog) three kinds of log probability occur:

* ``below(x) = log F(x)``, ``above(x) = log(1 - F(x))``, each with three derivatives in ``x``;
* ``between(b, d) = log(F(b + d) - F(b))``, ``d > 0``, with its derivatives in a common shift ``t``
  of both ends and in ``u = log d`` up to the third (in ``d`` they would overflow if it is tiny).

No difference of two nearly equal numbers is taken:

* logit: ``F(b+d) - F(b) = s(b+d) s(-b) (1 - e^-d)``, ``s`` the logistic function;
* cloglog: ``= exp(-e^b) (1 - e^-w)``, ``log w = b + log(e^d - 1)``;
* probit: Gauss-Legendre quadrature of the density where the interval is narrow (the derivatives in
  the shift are then minus the cumulants of a truncated normal distribution), else
  ``Q(b) (1 - Q(b+d) / Q(b))`` in the upper tail (mirrored in the lower one), with Mills' ratio by
  Laplace's continued fraction beyond 5 (Abramowitz & Stegun 1964, 26.2.14).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

LOGIT, PROBIT, CLOGLOG = 0, 1, 2
LINK_CODES = {"logit": LOGIT, "probit": PROBIT, "cloglog": CLOGLOG}

_FLAGS: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)

Four = tuple[float, float, float, float]
Three = tuple[float, float, float]
Ten = tuple[float, float, float, float, float, float, float, float, float, float]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def log_of_width(link: int, d: float) -> float:
    """``log(1 - e^-d)`` (logit, probit) or ``log(e^d - 1)`` (cloglog); -inf at ``d <= 0``."""
    if not d > 0.0:
        return -np.inf
    log_loss = math.log(-math.expm1(-d)) if d < 0.693 else math.log1p(-math.exp(-d))
    return d + log_loss if link == CLOGLOG else log_loss


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _log_one_minus_exp_exp(q: float) -> Four:
    """``log(1 - exp(-e^q))`` and its three derivatives.

    With ``w = e^q``: first ``g = w / (e^w - 1)``; ``D log g = a = 1 - w - g``, by its series where
    ``w`` is small (Bernoulli numbers).
    """
    if q > 6.6:
        return 0.0, 0.0, 0.0, 0.0
    w = math.exp(q)
    if w < 0.02:
        s = w * w
        a = -0.5 * w - s / 12.0 + s * s / 720.0 - s * s * s / 30240.0
        g = 1.0 - w - a
    else:
        g = w / math.expm1(w)
        a = 1.0 - w - g
    if w < 1e-9:
        value = q - 0.5 * w
    elif w < 0.693:
        value = math.log(-math.expm1(-w))
    else:
        value = math.log1p(-math.exp(-w))
    return value, g, g * a, g * (a * a - w - g * a)


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _hazard(x: float) -> tuple[float, float]:
    """``(h, h - x)``, ``h = phi(x) / Q(x)`` the normal hazard (Q the upper tail)."""
    if x < 5.0:
        tail = 0.5 * math.erfc(x / math.sqrt(2.0))
        h = math.exp(-0.5 * x * x - _HALF_LOG_2PI) / tail
        return h, h - x
    k = 0.0
    for i in range(int(14.0 + 700.0 / (x * x)), 0, -1):
        k = i / (x + k)
    return x + k, k


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _log_normal_tail(x: float) -> Four:
    """``log Q(x)`` and its three derivatives, Q the upper tail of the standard normal."""
    h, k = _hazard(x)
    if x < 5.0:
        if x < -1.0:
            value = math.log1p(-0.5 * math.erfc(-x / math.sqrt(2.0)))
        else:
            value = math.log(0.5 * math.erfc(x / math.sqrt(2.0)))
    else:
        value = -0.5 * x * x - _HALF_LOG_2PI - math.log(h)
    if x > 1e3:  # log Q = -x^2/2 - log x - 1/x^2 + ..., as the formula below cancels
        return value, -h, -h * k, -2.0 / (x * x * x) + 24.0 / (x * x * x * x * x)
    return value, -h, -h * k, -h * (k * (h + k) - 1.0)


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def below(link: int, x: float) -> Four:
    """``log F(x)`` and its three derivatives."""
    if link == LOGIT:
        e = math.exp(-abs(x))
        small = e / (1.0 + e)
        p = small if x < 0.0 else 1.0 / (1.0 + e)
        slope = small / (1.0 + e)
        return (
            min(x, 0.0) - math.log1p(e),
            1.0 - p if x < 0.0 else small,
            -slope,
            -slope * (1.0 - 2.0 * p),
        )
    if link == PROBIT:
        value, one, two, three = _log_normal_tail(-x)
        return value, -one, two, -three
    return _log_one_minus_exp_exp(x)  # type: ignore[no-any-return]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def above(link: int, x: float) -> Four:
    """``log(1 - F(x))`` and its three derivatives."""
    if link == CLOGLOG:
        e = -math.exp(x)
        return e, e, e, e
    if link == PROBIT:
        return _log_normal_tail(x)  # type: ignore[no-any-return]
    value, one, two, three = below(link, -x)
    return value, -one, two, -three


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _narrow_normal(b: float, d: float) -> tuple[float, float, float, float, float]:
    """``log P``, minus the mean, variance - 1, minus the third cumulant, and ``d phi(b+d)/P``.

    Of the standard normal between ``b`` and ``b + d``, by quadrature about the midpoint.
    """
    half = 0.5 * d
    middle = b + half
    s0 = s1 = s2 = s3 = 0.0
    for i in range(_NODES.size):
        t = half * _NODES[i]
        v = _WEIGHTS[i] * math.exp(-t * (middle + 0.5 * t))
        s0 += v
        s1 += v * t
        s2 += v * t * t
        s3 += v * t * t * t
    s1, s2, s3 = s1 / s0, s2 / s0, s3 / s0
    variance = s2 - s1 * s1
    third = s3 - 3.0 * s1 * s2 + 2.0 * s1 * s1 * s1
    value = -0.5 * middle * middle - _HALF_LOG_2PI + math.log(half * s0)
    end = math.exp(-half * (middle + 0.5 * half)) * 2.0 / s0
    return value, -(middle + s1), variance - 1.0, -third, end


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _upper_normal(b: float, d: float) -> tuple[float, float, float, float, float, float]:
    """The same for a wide interval with ``b + d / 2 >= 0``, and also ``d phi(b)/P``."""
    vb, b1, b2, b3 = _log_normal_tail(b)
    va, a1, a2, a3 = _log_normal_tail(b + d)
    q = math.exp(va - vb)  # Q(b+d) / Q(b), away from 1
    v1, v2, v3 = a1 - b1, a2 - b2, a3 - b3
    odds = q / (1.0 - q)
    c2 = odds / (1.0 - q)
    c3 = c2 * (1.0 + q) / (1.0 - q)
    one = b1 - odds * v1 if q > 0.0 else b1
    two = b2 - odds * v2 - c2 * v1 * v1 if q > 0.0 else b2
    three = b3 - odds * v3 - 3.0 * c2 * v1 * v2 - c3 * v1 * v1 * v1 if q > 0.0 else b3
    end = -a1 * odds * d if q > 0.0 else 0.0
    return vb + math.log1p(-q), one, two, three, end, -b1 / (1.0 - q) * d


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _between_normal(b: float, d: float) -> tuple[float, float, float, float, float]:
    """``log P``, its three derivatives in the shift, and ``d phi(b+d)/P``."""
    middle = b + 0.5 * d
    if d * (1.0 + abs(middle)) < 2.0:
        return _narrow_normal(b, d)  # type: ignore[no-any-return]
    if middle >= 0.0:
        value, one, two, three, end, _ = _upper_normal(b, d)
        return value, one, two, three, end
    value, one, two, three, _, end = _upper_normal(-(b + d), d)
    return value, -one, two, -three, end


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def between_value(link: int, b: float, d: float, log_width: float) -> float:
    """``log(F(b + d) - F(b))``; ``log_width = log_of_width(link, d)``."""
    if link == LOGIT:
        a = b + d
        top = min(a, 0.0) - max(b, 0.0)
        ends = (1.0 + math.exp(-abs(a))) * (1.0 + math.exp(-abs(b)))
        return top - math.log(ends) + log_width
    if link == PROBIT:
        value, _, _, _, _ = _between_normal(b, d)
        return value  # type: ignore[no-any-return]
    value, _, _, _ = _log_one_minus_exp_exp(b + log_width)
    return value - math.exp(b)  # type: ignore[no-any-return]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def between_shift(link: int, b: float, d: float, log_width: float) -> Four:
    """``log(F(b + d) - F(b))`` and its derivatives in a shift of both ends."""
    if link == LOGIT:
        a = b + d
        ea, eb = math.exp(-abs(a)), math.exp(-abs(b))
        ra, rb = 1.0 / (1.0 + ea), 1.0 / (1.0 + eb)
        qa = ra * ea if a > 0.0 else ra  # s(-a)
        pb = rb if b > 0.0 else rb * eb  # s(b)
        value = min(a, 0.0) - max(b, 0.0) + math.log(ra * rb) + log_width
        sa, sb = ea * ra * ra, eb * rb * rb
        return value, qa - pb, -sa - sb, -sa * (2.0 * qa - 1.0) - sb * (1.0 - 2.0 * pb)
    if link == PROBIT:
        value, one, two, three, _ = _between_normal(b, d)
        return value, one, two, three
    value, one, two, three = _log_one_minus_exp_exp(b + log_width)
    e = math.exp(b)
    return value - e, one - e, two - e, three - e


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def between_first(link: int, b: float, d: float, log_width: float) -> Three:
    """``log(F(b + d) - F(b))`` and its derivatives in the shift and in ``log d``."""
    if link == PROBIT:
        value, one, _, _, end = _between_normal(b, d)
        return value, one, end
    _, u1, _, _ = _log_one_minus_exp_exp(math.log(d))
    if link == LOGIT:
        value, one, _, _ = between_shift(link, b, d, log_width)
        _, top, _, _ = below(link, b + d)
        return value, one, top * d + u1
    value, one, _, _ = _log_one_minus_exp_exp(b + log_width)
    e = math.exp(b)
    return value - e, one - e, one * (d + u1)


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def between_all(link: int, b: float, d: float, log_width: float) -> Ten:
    """Value, then derivatives ``t, u, tt, tu, uu, ttt, ttu, tuu, uuu`` (t shift, u = log d)."""
    value, t, tt, ttt = between_shift(link, b, d, log_width)
    if link == PROBIT:
        a = b + d
        _, _, _, _, u = _between_normal(b, d)
        if u == 0.0:
            return value, t, 0.0, tt, 0.0, 0.0, ttt, 0.0, 0.0, 0.0
        m = 1.0 - d * a - u
        tu, uu = -u * (a + t), u * m
        ttu = u * (a + t) * (a + t) - u * (1.0 + tt)
        tuu = tu * m - u * (d + tu)
        uuu = uu * m - u * (d * a + d * d + uu)
        return value, t, u, tt, tu, uu, ttt, ttu, tuu, uuu
    _, w1, w2, w3 = _log_one_minus_exp_exp(math.log(d))
    if link == LOGIT:
        _, a1, a2, a3 = below(link, b + d)
        a1, a2, a3 = a1 * d, a2 * d, a3 * d
        uu = a2 * d + a1 + w2
        uuu = a3 * d * d + 3.0 * a2 * d + a1 + w3
        return value, t, a1 + w1, tt, a2, uu, ttt, a3, a3 * d + a2, uuu
    # the second term is log(1 - exp(-e^q)), q = b + log(e^d - 1); w1, w2, w3 become dq/du and so on
    _, v1, v2, v3 = _log_one_minus_exp_exp(b + log_width)
    w1, w2, w3 = w1 + d, w2 + d, w3 + d
    uu = v2 * w1 * w1 + v1 * w2
    uuu = v3 * w1 * w1 * w1 + 3.0 * v2 * w1 * w2 + v1 * w3
    return value, t, v1 * w1, tt, v2 * w1, uu, ttt, v3 * w1, v3 * w1 * w1 + v2 * w2, uuu
