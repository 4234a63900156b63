"""Compiled kernels of one-factor models: inner Newton steps to the modes of all clusters.

Plain twins in ``cluster_plain``. Row work is done on raw columns ``Z`` (``A_j = Z'WZ``,
``score_j = Z'l'``); the factor ``Lambda`` enters only in (q, q) matrices by cluster.

Shapes: Z (q, n), ptr (J + 1,), part (q,) = place of a column among the random parts, clusters
``a..b``; arrays by row that end in ``_m`` hold the rows of these clusters only. Source of the
algebra: the room's docstring (own derivation by the implicit function theorem; adjoint of the
Cholesky factor: Murray 2016).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks.vectors import add_scaled, copy_to, dot, dot3, total

KERNEL_VERSION = 2

START, MOVED, NEAR, FAILED = 0, 1, 2, 3
NEAR_DECREMENT = 1e-8
FINAL_DECREMENT = 1e-14
LEAST_SCALE = 1e-12

Arr = NDArray[Any]
compiled = numba.njit(cache=True, error_model="numpy", nogil=True)


@compiled  # type: ignore[untyped-decorator]
def cholesky(H: Arr, L: Arr) -> bool:
    """Lower factor of ``H`` (q, q) into ``L``; False where a pivot is not positive."""
    q = H.shape[0]
    for a in range(q):
        for b in range(a + 1):
            s = H[a, b]
            for c in range(b):
                s -= L[a, c] * L[b, c]
            if a == b:
                if not s > 0.0 or s == np.inf:
                    return False
                L[a, a] = np.sqrt(s)
            else:
                L[a, b] = s / L[b, b]
        for b in range(a + 1, q):
            L[a, b] = 0.0
    return True


@compiled  # type: ignore[untyped-decorator]
def invert_lower(L: Arr, out: Arr) -> None:
    """Inverse of a lower-triangular matrix."""
    q = L.shape[0]
    for b in range(q):
        for a in range(q):
            if a < b:
                out[a, b] = 0.0
                continue
            s = 1.0 if a == b else 0.0
            for c in range(b, a):
                s -= L[a, c] * out[c, b]
            out[a, b] = s / L[a, a]


@compiled  # type: ignore[untyped-decorator]
def gather(
    value: Arr, first: Arr, second: Arr, at: Arr, Z: Arr, part: Arr, s0: int, m0: int, m1: int,
    score: Arr, A: Arr,
) -> float:  # fmt: skip
    """``sum l``, ``Z'l'`` and ``Z'WZ`` of the rows ``m0..m1`` of a chunk that begins at ``s0``."""
    q = Z.shape[0]
    for c in range(q):
        r = part[c]
        z = Z[c, s0 + m0 : s0 + m1]
        score[c] = dot(z, first[at[r], m0:m1])
        for k in range(c + 1):
            t = at[part[k]]
            A[c, k] = -dot3(z, Z[k, s0 + m0 : s0 + m1], second[r, t, m0:m1])
            A[k, c] = A[c, k]
    return float(total(value[m0:m1]))


@compiled  # type: ignore[untyped-decorator]
def hessian(A: Arr, Lam: Arr, H: Arr) -> None:
    """``H = I + Lambda' A Lambda``."""
    q = A.shape[0]
    for a in range(q):
        for b in range(a + 1):
            s = 1.0 if a == b else 0.0
            for c in range(q):
                t = 0.0
                for d in range(q):
                    t += A[c, d] * Lam[d, b]
                s += Lam[c, a] * t
            H[a, b] = s
            H[b, a] = s


@compiled  # type: ignore[untyped-decorator]
def shifted_cholesky(H: Arr, L: Arr) -> bool:
    """Factor ``H``, shifted by a multiple of I until it is positive definite; True if shifted."""
    if cholesky(H, L):
        return False
    size = 1.0
    for a in range(H.shape[0]):
        size = max(size, abs(H[a, a]))
    shift = 1e-3 * size
    for _ in range(60):
        for a in range(H.shape[0]):
            H[a, a] += shift
        if cholesky(H, L):
            break
        shift *= 2.0
    return True


@compiled  # type: ignore[untyped-decorator]
def newton_direction(L: Arr, g: Arr, step: Arr) -> float:
    """``step = (LL')^-1 g``; returns the decrement ``g'step``."""
    q = g.shape[0]
    for a in range(q):
        s = g[a]
        for c in range(a):
            s -= L[a, c] * step[c]
        step[a] = s / L[a, a]
    decrement = 0.0
    for a in range(q):
        decrement += step[a] * step[a]
    for a in range(q - 1, -1, -1):
        s = step[a]
        for c in range(a + 1, q):
            s -= L[c, a] * step[c]
        step[a] = s / L[a, a]
    return decrement


@compiled  # type: ignore[untyped-decorator]
def place(
    fixed: Arr, Z: Arr, part: Arr, random: Arr, Lam: Arr, u: Arr, s0: int, m0: int, m1: int,
    eta_m: Arr,
) -> None:  # fmt: skip
    """Write the random parts of ``eta_m`` for the rows of one cluster."""
    for r in range(random.shape[0]):
        d = random[r]
        copy_to(fixed[d, s0 + m0 : s0 + m1], eta_m[d, m0:m1])
    q = u.shape[0]
    for c in range(q):
        b = 0.0
        for k in range(q):
            b += Lam[c, k] * u[k]
        d = random[part[c]]
        add_scaled(b, Z[c, s0 + m0 : s0 + m1], eta_m[d, m0:m1])


@compiled  # type: ignore[untyped-decorator]
def predict(
    fixed: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr, a: int, b: int, Lam: Arr, u: Arr,
    eta_m: Arr,
) -> None:  # fmt: skip
    """``eta_m`` (D, m) of clusters ``a..b`` at ``u`` (J, q)."""
    s0 = ptr[a]
    for d in range(eta_m.shape[0]):
        for i in range(eta_m.shape[1]):
            eta_m[d, i] = fixed[d, s0 + i]
    for j in range(a, b):
        place(fixed, Z, part, random, Lam, u[j], s0, ptr[j] - s0, ptr[j + 1] - s0, eta_m)


@compiled  # type: ignore[untyped-decorator]
def _settle_start(h: float, h_old: float, status: int, u: Arr) -> int:
    """What to do with an evaluated point: 0 go on, 1 halve the step, 2 restart at 0, 3 fail."""
    if status == MOVED:
        return 0 if h >= h_old - 1e-11 * (1.0 + abs(h_old)) and h < np.inf else 1
    if h > -np.inf and h < np.inf:
        return 0
    for a in range(u.shape[0]):
        if u[a] != 0.0:
            return 2
    return 3


@compiled  # type: ignore[untyped-decorator]
def _advance_one(
    h: float, score: Arr, A: Arr, Lam: Arr, u: Arr, base: Arr, step: Arr, record: Arr,
    status: int, work: Arr,
) -> int:  # fmt: skip
    """Decide on one evaluated cluster and move its ``u``; returns its new status.

    ``record`` is ``(h at base, scale)``; ``work`` (3, q, q).
    """
    q = u.shape[0]
    choice = _settle_start(h, record[0], status, u)
    if choice == 1:
        record[1] *= 0.5
        if record[1] < LEAST_SCALE:
            return FAILED
        for a in range(q):
            u[a] = base[a] + record[1] * step[a]
        return MOVED
    if choice == 2:
        u[:] = 0.0
        return START
    if choice == 3:
        return FAILED
    H, L, g = work[0], work[1], work[2, 0]
    hessian(A, Lam, H)
    for a in range(q):
        s = -u[a]
        for c in range(q):
            s += Lam[c, a] * score[c]
        g[a] = s
    shifted = shifted_cholesky(H, L)
    decrement = newton_direction(L, g, step)
    if not decrement < np.inf or (shifted and decrement < FINAL_DECREMENT):
        return FAILED
    record[0], record[1] = h, 1.0
    for a in range(q):
        base[a] = u[a]
        u[a] += step[a]
    return NEAR if decrement < NEAR_DECREMENT and not shifted else MOVED


@compiled  # type: ignore[untyped-decorator]
def advance(
    value_m: Arr, first_m: Arr, second_m: Arr, fixed: Arr, Z: Arr, ptr: Arr, part: Arr,
    random: Arr, a: int, b: int, Lam: Arr, u: Arr, base: Arr, step: Arr, record: Arr,
    status: Arr, eta_m: Arr,
) -> int:  # fmt: skip
    """One Newton step for every cluster of ``a..b`` that still moves.

    ``value_m`` (m,), ``first_m`` (R, m), ``second_m`` (R, R, m) were evaluated at ``eta_m`` (D, m),
    which moves on with ``u`` (J, q). ``base``, ``step`` (J, q), ``record`` (J, 2) and ``status``
    (J,) keep the search. Returns how many clusters still move (-1 - j where cluster j fails).
    """
    q, s0 = Z.shape[0], ptr[a]
    at = np.arange(random.shape[0])
    score = np.empty(q)
    A = np.empty((q, q))
    work = np.empty((3, q, q))
    left = 0
    for j in range(a, b):
        if status[j] == NEAR:
            continue
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        h = gather(value_m, first_m, second_m, at, Z, part, s0, m0, m1, score, A)
        for k in range(q):
            h -= 0.5 * u[j, k] * u[j, k]
        status[j] = _advance_one(
            h, score, A, Lam, u[j], base[j], step[j], record[j], status[j], work
        )
        if status[j] == FAILED:
            return -1 - j
        if status[j] != NEAR:
            left += 1
        place(fixed, Z, part, random, Lam, u[j], s0, m0, m1, eta_m)
    return left


@compiled  # type: ignore[untyped-decorator]
def settle(
    value_m: Arr, first_m: Arr, second_m: Arr, Z: Arr, ptr: Arr, part: Arr, random: Arr,
    a: int, b: int, Lam: Arr, u: Arr, status: Arr, h: Arr, score: Arr, A: Arr, L: Arr, Linv: Arr,
) -> int:  # fmt: skip
    """Fill ``h`` (J,), ``score`` (J, q), ``A``, ``L``, ``Linv`` (J, q, q) at the modes.

    ``first_m`` (D, m) and ``second_m`` (R, D, m) as in ``RowDerivatives``. Returns how many
    clusters are not at their mode after all; their search starts again (status START).
    """
    q, s0 = Z.shape[0], ptr[a]
    H = np.empty((q, q))
    g = np.empty(q)
    step = np.empty(q)
    left = 0
    for j in range(a, b):
        m0, m1 = ptr[j] - s0, ptr[j + 1] - s0
        h[j] = gather(value_m, first_m, second_m, random, Z, part, s0, m0, m1, score[j], A[j])
        for k in range(q):
            h[j] -= 0.5 * u[j, k] * u[j, k]
            s = -u[j, k]
            for c in range(q):
                s += Lam[c, k] * score[j, c]
            g[k] = s
        hessian(A[j], Lam, H)
        if cholesky(H, L[j]) and newton_direction(L[j], g, step) < FINAL_DECREMENT:
            invert_lower(L[j], Linv[j])
        else:
            status[j] = START
            left += 1
    return left
