"""Compiled loops over rows of cumulative and of continuation ratio families.

Parts: 0 the mean ``eta``; ``c = 1..C-1`` the thresholds, ``tau_c`` itself (free) or, from the
second on, ``log(tau_c - tau_{c-1})`` (increasing). A row of category ``y`` needs the threshold
below it, ``b = tau_y - eta``, and the width ``d = tau_{y+1} - tau_y`` only.
``kernels_category_terms`` gives the derivatives in ``b`` and ``log d``; those in the parts follow
by the chain rule. Where thresholds increase, ``log d`` is a part and ``b`` a sum of functions of
one part each, whose second and third derivatives equal the first for a log distance and vanish
otherwise; free thresholds enter ``b`` and ``d`` linearly.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.kernels_category_terms import (
    above,
    below,
    between_all,
    between_first,
    between_shift,
    between_value,
    log_of_width,
)

_FLAGS: dict[str, Any] = {"cache": True, "error_model": "numpy", "nogil": True}

Vector = NDArray[np.float64]
Three = tuple[float, float, float]
Four = tuple[float, float, float, float]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _cut(
    link: int,
    increasing: bool,
    c: int,
    last: int,
    eta: Vector,
    memory: Vector,
) -> tuple[float, float, float]:
    """``(x, d, log width)`` of category ``c`` of ``0..last``; eta (D,) of one row.

    ``x`` is the threshold below minus the mean, above for the lowest category; ``d`` is 0 in the
    end categories. ``memory`` (3, D) keeps the last parts with their exp and log width: predictors
    of thresholds seldom change from row to row.
    """
    if not increasing:
        if c == 0 or c == last:
            return eta[max(c, 1)] - eta[0], 0.0, 0.0
        d = eta[c + 1] - eta[c]
        if d != memory[1, c + 1]:
            memory[1, c + 1] = d
            memory[2, c + 1] = log_of_width(link, d)
        return eta[c] - eta[0], d, memory[2, c + 1]
    x = eta[1] - eta[0]
    for k in range(2, min(c + 1, last) + 1):
        if eta[k] != memory[0, k]:
            memory[0, k] = eta[k]
            memory[1, k] = np.exp(eta[k])
            memory[2, k] = log_of_width(link, memory[1, k])
        if k <= c:
            x += memory[1, k]
    if c == 0 or c == last:
        return x, 0.0, 0.0
    return x, memory[1, c + 1], memory[2, c + 1]


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def cumulative_values(
    link: int, increasing: bool, y: NDArray[Any], eta: NDArray[Any], out: NDArray[Any]
) -> None:
    """Log probabilities (K, m) of categories y (m,) at eta (D, K, m)."""
    D, K, m = eta.shape
    memory = np.full((3, D), np.nan)
    row = np.empty(D)
    for k in range(K):
        for i in range(m):
            c = y[i]
            for d in range(min(c + 1, D - 1) + 1):
                row[d] = eta[d, k, i]
            x, width, log_width = _cut(link, increasing, c, D - 1, row, memory)
            if c == 0:
                value, _, _, _ = below(link, x)
            elif c == D - 1:
                value, _, _, _ = above(link, x)
            else:
                value = between_value(link, x, width, log_width)
            out[k, i] = value if value <= 0.0 else -np.inf


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def cumulative_first(
    link: int,
    increasing: bool,
    y: NDArray[Any],
    eta: NDArray[Any],
    out: NDArray[Any],
    slope: NDArray[Any],
) -> None:
    """Log probabilities (K, m) and their first derivatives (D, K, m)."""
    D, K, m = eta.shape
    memory = np.full((3, D), np.nan)
    row = np.empty(D)
    for k in range(K):
        for i in range(m):
            c = y[i]
            for d in range(D):
                row[d] = eta[d, k, i]
                slope[d, k, i] = 0.0
            x, width, log_width = _cut(link, increasing, c, D - 1, row, memory)
            end = 0.0
            if c == 0:
                value, t, _, _ = below(link, x)
            elif c == D - 1:
                value, t, _, _ = above(link, x)
            else:
                value, t, end = between_first(link, x, width, log_width)
            if not value > -np.inf:
                out[k, i] = -np.inf
                continue
            out[k, i] = value
            slope[0, k, i] = -t
            if not increasing:
                slope[max(c, 1), k, i] = t
                if 0 < c < D - 1:
                    slope[c, k, i] -= end / width
                    slope[c + 1, k, i] = end / width
                continue
            slope[1, k, i] = t
            for d in range(2, min(c, D - 1) + 1):
                slope[d, k, i] = t * memory[1, d]
            if 0 < c < D - 1:
                slope[c + 1, k, i] = end


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def cumulative_newton(
    link: int,
    increasing: bool,
    y: NDArray[Any],
    eta: NDArray[Any],
    out: NDArray[Any],
    slope: NDArray[Any],
    curve: NDArray[Any],
) -> None:
    """Log probabilities and two derivatives in the mean part, (m,) each, at eta (D, m)."""
    D, m = eta.shape
    memory = np.full((3, D), np.nan)
    row = np.empty(D)
    for i in range(m):
        c = y[i]
        for d in range(min(c + 1, D - 1) + 1):
            row[d] = eta[d, i]
        x, width, log_width = _cut(link, increasing, c, D - 1, row, memory)
        if c == 0:
            value, t, tt, _ = below(link, x)
        elif c == D - 1:
            value, t, tt, _ = above(link, x)
        else:
            value, t, tt, _ = between_shift(link, x, width, log_width)
        alive = value > -np.inf
        out[i] = value if alive else -np.inf
        slope[i] = -t if alive else 0.0
        curve[i] = tt if alive else 0.0


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _jacobian(increasing: bool, c: int, last: int, memory: Vector, J: Vector, log: Vector) -> None:
    """Derivatives ``J`` (2, D) of ``x`` and of ``log d`` (increasing) or ``d`` (free).

    ``log`` (D,) is 1 at the log distances that ``x`` contains.
    """
    J[:] = 0.0
    log[:] = 0.0
    J[0, 0] = -1.0
    inner = 0 < c < last
    if not increasing:
        J[0, max(c, 1)] = 1.0
        if inner:
            J[1, c] = -1.0
            J[1, c + 1] = 1.0
        return
    J[0, 1] = 1.0
    for k in range(2, c + 1):
        J[0, k] = memory[1, k]
        log[k] = 1.0
    if inner:
        J[1, c + 1] = 1.0


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def _chain(
    two: Three,
    three: Four,
    random: NDArray[Any],
    J: Vector,
    log: Vector,
    first: NDArray[Any],
    second: NDArray[Any],
    third: NDArray[Any],
) -> None:
    """Fill second (R, D) and third (R, R, D) of one row from its derivatives in ``x`` and width.

    ``two`` are ``tt, td, dd``, ``three`` are ``ttt, ttd, tdd, ddd``; J and log as ``_jacobian``
    left them, first (D,) the first derivatives. Products run from left to right: a derivative of
    zero times a huge Jacobian stays zero.
    """
    tt, td, dd = two
    ttt, ttd, tdd, ddd = three
    R, D = second.shape
    for r in range(R):
        jr, kr, lr = J[0, random[r]], J[1, random[r]], log[random[r]]
        at, au = tt * jr + td * kr, td * jr + dd * kr
        for d in range(D):
            v = at * J[0, d] + au * J[1, d]
            if d == random[r]:
                v += lr * first[d]
            second[r, d] = v
    for r in range(R):
        pr = random[r]
        jr, kr, lr = J[0, pr], J[1, pr], log[pr]
        for s in range(R):
            ps = random[s]
            js, ks, ls = J[0, ps], J[1, ps], log[ps]
            at = (ttt * jr + ttd * kr) * js + (ttd * jr + tdd * kr) * ks
            au = (ttd * jr + tdd * kr) * js + (tdd * jr + ddd * kr) * ks
            bt, bu = tt * jr + td * kr, td * jr + dd * kr
            for d in range(D):
                v = at * J[0, d] + au * J[1, d]
                pair = bt * J[0, d] + bu * J[1, d]
                if pr == ps:
                    v += lr * pair
                if d == ps:
                    v += ls * (bt * js + bu * ks)
                if d == pr:
                    v += lr * ((tt * js + td * ks) * J[0, d] + (td * js + dd * ks) * J[1, d])
                    if pr == ps:
                        v += lr * first[d]
                third[r, s, d] = v


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def cumulative_all(
    link: int,
    increasing: bool,
    y: NDArray[Any],
    eta: NDArray[Any],
    random: NDArray[Any],
    out: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    third: NDArray[Any],
) -> None:
    """Everything: value (m,), first (D, m), second (R, D, m), third (R, R, D, m); eta (D, m)."""
    D, m = eta.shape
    memory = np.full((3, D), np.nan)
    row = np.empty(D)
    J = np.empty((2, D))
    log = np.empty(D)
    for i in range(m):
        c = y[i]
        for d in range(D):
            row[d] = eta[d, i]
        x, width, log_width = _cut(link, increasing, c, D - 1, row, memory)
        u, dd, ddd, td, ttd, tdd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        if c == 0:
            value, t, tt, ttt = below(link, x)
        elif c == D - 1:
            value, t, tt, ttt = above(link, x)
        else:
            value, t, u, tt, td, dd, ttt, ttd, tdd, ddd = between_all(link, x, width, log_width)
            if not increasing:  # from log d to d
                ddd = (ddd - 3.0 * dd + 2.0 * u) / width / width / width
                tdd, dd = (tdd - td) / width / width, (dd - u) / width / width
                u, td, ttd = u / width, td / width, ttd / width
        if not value > -np.inf:
            out[i] = -np.inf
            first[:, i] = 0.0
            second[:, :, i] = 0.0
            third[:, :, :, i] = 0.0
            continue
        out[i] = value
        _jacobian(increasing, c, D - 1, memory, J, log)
        for d in range(D):
            first[d, i] = t * J[0, d] + u * J[1, d]
        _chain(
            (tt, td, dd),
            (ttt, ttd, tdd, ddd),
            random,
            J,
            log,
            first[:, i],
            second[:, :, i],
            third[:, :, :, i],
        )


@numba.njit(**_FLAGS)  # type: ignore[untyped-decorator]
def sequential_all(
    link: int,
    y: NDArray[Any],
    eta: NDArray[Any],
    order: int,
    out: NDArray[Any],
    terms: NDArray[Any],
) -> None:
    """Continuation ratio: values (N,) and derivatives of each step's term.

    ``terms`` (order, C-1, N) are the derivatives of the term of ``x_c = tau_c - eta``:
    ``log(1 - F(x_c))`` below the category reached, ``log F`` at it; zero beyond. Shapes: y (N,),
    eta (D, N).
    """
    D, m = eta.shape
    for i in range(m):
        total = 0.0
        for c in range(D - 1):
            one = two = three = 0.0
            if c < y[i]:
                value, one, two, three = above(link, eta[c + 1, i] - eta[0, i])
                total += value
            elif c == y[i]:
                value, one, two, three = below(link, eta[c + 1, i] - eta[0, i])
                total += value
            if order > 0:
                terms[0, c, i] = one
            if order > 1:
                terms[1, c, i] = two
            if order > 2:
                terms[2, c, i] = three
        out[i] = total if total > -np.inf else -np.inf
