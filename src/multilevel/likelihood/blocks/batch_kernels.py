"""Compiled fits of many responses on one design with one grouping factor.

Value, gradient and exact Hessian are those of ``gaussian.objective``; the step is Newton's with a
growing multiple of the identity where the Hessian is not positive definite or a step fails. The
plain twin is ``estimate.fit.solve`` on the same cross-products.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1
TOLERANCE = 1e-11  # Newton decrement
MAX_ITERATIONS = 60


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _dot(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Inner product."""
    s = 0.0
    for i in range(len(a)):
        s += a[i] * b[i]
    return s


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _cholesky(M: NDArray[Any], size: int, out: NDArray[Any]) -> bool:
    """Lower Cholesky factor of the leading block; False where a pivot is not positive."""
    for a in range(size):
        for b in range(a + 1):
            s = M[a, b]
            for c in range(b):
                s -= out[a, c] * out[b, c]
            if a == b:
                if not s > 0.0:
                    return False
                out[a, a] = np.sqrt(s)
            else:
                out[a, b] = s / out[b, b]
    return True


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _eliminate(
    A: NDArray[Any], S: NDArray[Any], L: NDArray[Any], T: NDArray[Any], G: NDArray[Any],
    H: NDArray[Any],
) -> float:  # fmt: skip
    """``T -= sum S'NS``; ``G = A - ANA``, ``H = S - ANS`` by level; returns ``log|V|`` or NaN."""
    J, q, m = S.shape
    AL, M, C = np.empty((q, q)), np.empty((q, q)), np.empty((q, q))
    X, W = np.empty((q, q)), np.empty((q, m))
    logdet = 0.0
    for j in range(J):
        for a in range(q):
            for b in range(q):
                s = 0.0
                for c in range(q):
                    s += A[j, a, c] * L[c, b]
                AL[a, b] = s
        for a in range(q):
            for b in range(q):
                s = 1.0 if a == b else 0.0
                for c in range(q):
                    s += L[c, a] * AL[c, b]
                M[a, b] = s
        if not _cholesky(M, len(M), C):
            return np.nan
        for a in range(q):
            logdet += 2.0 * np.log(C[a, a])
            for k in range(q):  # X = C^-1 (AL)'
                s = AL[k, a]
                for c in range(a):
                    s -= C[a, c] * X[c, k]
                X[a, k] = s / C[a, a]
            for k in range(m):  # W = C^-1 L'S
                s = 0.0
                for c in range(q):
                    s += L[c, a] * S[j, c, k]
                for c in range(a):
                    s -= C[a, c] * W[c, k]
                W[a, k] = s / C[a, a]
        for a in range(q):
            for b in range(q):
                s = A[j, a, b]
                for c in range(q):
                    s -= X[c, a] * X[c, b]
                G[j, a, b] = s
            for k in range(m):
                s = S[j, a, k]
                for c in range(q):
                    s -= X[c, a] * W[c, k]
                H[j, a, k] = s
                v = W[a, k]
                for i in range(k + 1):
                    T[k, i] -= v * W[a, i]
    return logdet


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _profile(
    T: NDArray[Any], p: int, nu: int, reml: bool, beta: NDArray[Any], R: NDArray[Any]
) -> tuple[float, float]:
    """``(r2, criterion without log|V|)``, beta and ``R`` lower, ``T_XX = R R'``; NaN if none."""
    if p and not _cholesky(T, p, R):
        return np.nan, np.nan
    r2 = T[p, p]
    for a in range(p):
        s = T[p, a]
        for c in range(a):
            s -= R[a, c] * beta[c]
        beta[a] = s / R[a, a]
        r2 -= beta[a] * beta[a]
    for a in range(p - 1, -1, -1):
        s = beta[a]
        for c in range(a + 1, p):
            s -= R[c, a] * beta[c]
        beta[a] = s / R[a, a]
    if not r2 > 0.0:
        return np.nan, np.nan
    d = nu * (1.0 + np.log(2.0 * np.pi * r2 / nu))
    if reml:
        for a in range(p):
            d += 2.0 * np.log(R[a, a])
    return r2, d


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _directions(E: NDArray[Any], L: NDArray[Any], D: NDArray[Any]) -> None:
    """``D_a = E_a L' + L E_a'``: (r, q, q)."""
    r, q = E.shape[0], E.shape[1]
    for x in range(r):
        for a in range(q):
            for b in range(q):
                t = 0.0
                for c in range(q):
                    t += E[x, a, c] * L[b, c] + L[a, c] * E[x, b, c]
                D[x, a, b] = t


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _project_unit(
    H: NDArray[Any], beta: NDArray[Any], R: NDArray[Any], g: NDArray[Any], Y: NDArray[Any]
) -> None:
    """``g = H [-beta; 1]`` (q,) and ``Y = H_X R^-T`` (q, p) of one level."""
    q, p = H.shape[0], H.shape[1] - 1
    for a in range(q):
        s = H[a, p]
        for k in range(p):
            s -= H[a, k] * beta[k]
        g[a] = s
        for k in range(p):
            s = H[a, k]
            for c in range(k):
                s -= Y[a, c] * R[k, c]
            Y[a, k] = s / R[k, k]


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _finish(
    E: NDArray[Any], D: NDArray[Any], Q: NDArray[Any], gamma: NDArray[Any], h: NDArray[Any],
    P: NDArray[Any], r2: float, nu: int, reml: bool, gradient: NDArray[Any],
    hessian: NDArray[Any],
) -> None:  # fmt: skip
    """Add the parts that are products of sums over levels; fill the upper triangle."""
    r, q, p = E.shape[0], E.shape[1], h.shape[1]
    for x in range(r):
        t = 0.0
        for a in range(q):
            for b in range(q):
                t += Q[a, b] * D[x, a, b]
        gradient[x] = t
        for y in range(x + 1):
            t = -gamma[x] * gamma[y] * nu / (r2 * r2)
            for k in range(p):
                t -= 2.0 * nu / r2 * h[x, k] * h[y, k]
                if reml:
                    for i in range(p):
                        t -= P[x, k, i] * P[y, i, k]
            for a in range(q):
                for b in range(q):
                    for c in range(q):
                        t += 2.0 * E[x, a, b] * Q[a, c] * E[y, c, b]
            hessian[x, y] += t
            hessian[y, x] = hessian[x, y]


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _derivatives(
    G: NDArray[Any], H: NDArray[Any], L: NDArray[Any], E: NDArray[Any], beta: NDArray[Any],
    R: NDArray[Any], r2: float, nu: int, reml: bool, gradient: NDArray[Any],
    hessian: NDArray[Any],
) -> None:  # fmt: skip
    """Gradient (r,) and exact Hessian (r, r) in theta (see ``objective.exact_hessian``)."""
    J, q, m = H.shape
    p, r = m - 1, E.shape[0]
    sigma2 = r2 / nu
    D = np.empty((r, q, q))
    _directions(E, L, D)
    Q, g, Y = np.zeros((q, q)), np.empty(q), np.empty((q, p))
    GD, Dg, DY = np.empty((r, q, q)), np.empty((r, q)), np.empty((r, q, p))
    gamma, h, P = np.zeros(r), np.zeros((r, p)), np.zeros((r, p, p))
    for x in range(r):
        for y in range(r):
            hessian[x, y] = 0.0
    for j in range(J):
        _project_unit(H[j], beta, R, g, Y)
        for a in range(q):
            for b in range(q):
                s = G[j, a, b] - g[a] * g[b] / sigma2
                if reml:
                    for k in range(p):
                        s -= Y[a, k] * Y[b, k]
                Q[a, b] += s
        for x in range(r):
            for a in range(q):
                s = 0.0
                for b in range(q):
                    s += D[x, a, b] * g[b]
                Dg[x, a] = s
                gamma[x] += g[a] * s
                for b in range(q):
                    s = 0.0
                    for c in range(q):
                        s += G[j, a, c] * D[x, c, b]
                    GD[x, a, b] = s
                for k in range(p):
                    s = 0.0
                    for b in range(q):
                        s += D[x, a, b] * Y[b, k]
                    DY[x, a, k] = s
                    h[x, k] += s * g[a]
                    if reml:
                        for i in range(p):
                            P[x, k, i] += s * Y[a, i]
        for x in range(r):
            for y in range(x + 1):
                t = 0.0
                for a in range(q):
                    for b in range(q):
                        t -= GD[x, a, b] * GD[y, b, a]
                        t += 2.0 / sigma2 * Dg[x, a] * G[j, a, b] * Dg[y, b]
                        if reml:
                            s = 0.0
                            for k in range(p):
                                s += DY[x, a, k] * DY[y, b, k]
                            t += 2.0 * G[j, a, b] * s
                hessian[x, y] += t
    _finish(E, D, Q, gamma, h, P, r2, nu, reml, gradient, hessian)


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _step(hessian: NDArray[Any], gradient: NDArray[Any], shift: float, s: NDArray[Any]) -> bool:
    """``s = -(H + shift I)^-1 g``; False where that is not positive definite."""
    r = len(gradient)
    C, M = np.empty((r, r)), np.empty((r, r))
    for a in range(r):
        for b in range(r):
            M[a, b] = hessian[a, b]
        M[a, a] += shift
    if not _cholesky(M, len(M), C):
        return False
    for a in range(r):
        v = -gradient[a]
        for c in range(a):
            v -= C[a, c] * s[c]
        s[a] = v / C[a, a]
    for a in range(r - 1, -1, -1):
        v = s[a]
        for c in range(a + 1, r):
            v -= C[c, a] * s[c]
        s[a] = v / C[a, a]
    return True


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _raise_shift(hessian: NDArray[Any], shift: float, times: float, least: float) -> float:
    """A larger multiple of the identity, at least a share of the largest diagonal entry."""
    size = 0.0
    for x in range(len(hessian)):
        size = max(size, np.abs(hessian[x, x]))
    return max(times * shift, least * size)


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def _load(
    E: NDArray[Any], theta: NDArray[Any], XX: NDArray[Any], xy: NDArray[Any], yy: float,
    L: NDArray[Any], T: NDArray[Any],
) -> None:  # fmt: skip
    """``L = sum theta_a E_a`` and ``T = W'W`` of one response."""
    r, q, p = E.shape[0], E.shape[1], len(xy)
    for a in range(q):
        for c in range(q):
            t = 0.0
            for x in range(r):
                t += theta[x] * E[x, a, c]
            L[a, c] = t
    for a in range(p):
        for c in range(p):
            T[a, c] = XX[a, c]
        T[p, a] = T[a, p] = xy[a]
    T[p, p] = yy


@numba.njit(cache=True, error_model="numpy", nogil=True)  # type: ignore[untyped-decorator]
def fit_batch(
    A: NDArray[Any], S_X: NDArray[Any], XX: NDArray[Any], zy: NDArray[Any], xy: NDArray[Any],
    yy: NDArray[Any], E: NDArray[Any], start: NDArray[Any], nu: int, reml: bool,
    theta: NDArray[Any], beta: NDArray[Any], sigma2: NDArray[Any], criterion: NDArray[Any],
    converged: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Fit every response; results are written to the last five arguments.

    Shapes: A (J, q, q), S_X (J, q, p), XX (p, p), zy (R, J, q), xy (R, p), yy (R,), E (r, q, q),
    start (r,), theta (R, r), beta (R, p), sigma2, criterion, converged (R,).
    """
    J, q, p = S_X.shape
    n_rep, r, m = zy.shape[0], E.shape[0], p + 1
    S, T = np.empty((J, q, m)), np.empty((m, m))
    G, H = np.empty((J, q, q)), np.empty((J, q, m))
    R, b, L = np.zeros((p, p)), np.empty(p), np.empty((q, q))
    g, hessian, s = np.empty(r), np.empty((r, r)), np.empty(r)
    for j in range(J):
        for a in range(q):
            for c in range(p):
                S[j, a, c] = S_X[j, a, c]
    for k in range(n_rep):
        for j in range(J):
            for a in range(q):
                S[j, a, p] = zy[k, j, a]
        at, trial = start.copy(), start.copy()
        d, shift, done = np.inf, 0.0, False
        for _ in range(MAX_ITERATIONS):
            _load(E, trial, XX, xy[k], yy[k], L, T)
            logdet = _eliminate(A, S, L, T, G, H)
            r2, rest = _profile(T, p, nu, reml, b, R)
            new = logdet + rest
            if new <= d + 1e-11 * np.abs(d):
                for x in range(r):
                    at[x] = trial[x]
                for a in range(p):
                    beta[k, a] = b[a]
                d = new
                sigma2[k] = r2 / nu
                _derivatives(G, H, L, E, b, R, r2, nu, reml, g, hessian)
                if _step(hessian, g, 0.0, s) and -0.5 * _dot(g, s) < TOLERANCE:
                    done = True
                    break
                shift = shift / 10.0 if shift > 1e-6 else 0.0
            else:
                shift = _raise_shift(hessian, shift, 10.0, 1e-3)
            while not _step(hessian, g, shift, s):
                shift = _raise_shift(hessian, shift, 4.0, 1e-2)
                if not shift < 1e15:
                    break
            if not shift < 1e15:
                break
            limit = max(1.0, np.sqrt(_dot(at, at)))
            share = min(1.0, limit / np.sqrt(_dot(s, s)))
            for x in range(r):
                trial[x] = at[x] + share * s[x]
        for x in range(r):
            theta[k, x] = at[x]
        criterion[k] = d
        converged[k] = done
