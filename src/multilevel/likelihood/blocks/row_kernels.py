"""Compiled kernels that go through the rows of a generalized model with any random effects.

A row touches Q random effects: ``index[i]`` (Q,) are their places among the N unknowns, ``Z[r, i]``
(Q,) their coefficients in random part r, already times ``Lambda``. Matrices over the unknowns are
flat arrays; ``at[i]`` (Q (Q + 1) / 2,) says where the entries (a, b), b <= a, of the row's clique
stand in them (row by row of the lower triangle). So the same kernels serve every storage.

A cached kernel does not see changes in other files, so all that is inlined stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]
Places = NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])

KERNEL_VERSION = 1  # raise when a helper changes: cached callers are not recompiled otherwise


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def add_predictor(Z: Array, index: Index, u: Array, eta: Array) -> None:
    """``eta[r, i] += z~_ir u``: Z (R, n, Q), index (n, Q), u (N,), eta (R, n)."""
    R, n, Q = Z.shape
    for r in range(R):
        for i in range(n):
            s = 0.0
            for a in range(Q):
                s += Z[r, i, a] * u[index[i, a]]
            eta[r, i] += s


@_compiled
def add_transposed(Z: Array, index: Index, first: Array, out: Array) -> None:
    """``out += Z~' first``: first (R, n), out (N,)."""
    R, n, Q = Z.shape
    for r in range(R):
        for i in range(n):
            f = first[r, i]
            for a in range(Q):
                out[index[i, a]] += f * Z[r, i, a]


@_compiled
def add_weighted_gram(Z: Array, W: Array, at: Places, store: Array) -> None:
    """``store += Z~' W Z~`` on the cliques of the rows: W (R, R, n) symmetric."""
    R, n, Q = Z.shape
    if R == 1:
        for i in range(n):
            k = 0
            w = W[0, 0, i]
            for a in range(Q):
                v = w * Z[0, i, a]
                for b in range(a + 1):
                    store[at[i, k]] += v * Z[0, i, b]
                    k += 1
        return
    left = np.empty(R)
    for i in range(n):
        k = 0
        for a in range(Q):
            for s in range(R):
                left[s] = 0.0
                for r in range(R):
                    left[s] += Z[r, i, a] * W[r, s, i]
            for b in range(a + 1):
                v = 0.0
                for s in range(R):
                    v += left[s] * Z[s, i, b]
                store[at[i, k]] += v
                k += 1


@_compiled
def leverages(
    Z: Array,
    W: Array,
    at: Places,
    inverse: Array,
    raw: Array,
    part: Index,
    starts: Index,
    group: Index,
    leverage: Array,
    moved: Array,
) -> None:
    """``leverage = z~ H^-1 z~'`` (R, R, n) by row and ``moved += z' (W z~ H^-1)`` by group.

    ``inverse``: flat entries of ``H^-1`` at ``at``; ``raw`` (n, Q): coefficients before
    ``Lambda``, column a in part ``part[a]``; ``starts`` (T + 1,): first column of each block;
    ``moved`` (G, Q, Q), filled within the diagonal blocks; ``group`` (n,) in 0..G-1.
    """
    R, n, Q = Z.shape
    if R == 1 and Q == 2 and starts.size == 3:
        _leverages_of_two(Z, W, at, inverse, raw, group, leverage, moved)
        return
    C = np.empty((Q, Q))
    f = np.empty((R, Q))
    v = np.empty((R, Q))
    for i in range(n):
        k = 0
        for a in range(Q):
            for b in range(a + 1):
                C[a, b] = inverse[at[i, k]]
                C[b, a] = C[a, b]
                k += 1
        for r in range(R):
            for b in range(Q):
                s = 0.0
                for a in range(Q):
                    s += Z[r, i, a] * C[a, b]
                f[r, b] = s
        for r in range(R):
            for s in range(R):
                t = 0.0
                for b in range(Q):
                    t += f[r, b] * Z[s, i, b]
                leverage[r, s, i] = t
        for r in range(R):
            for b in range(Q):
                t = 0.0
                for s in range(R):
                    t += W[r, s, i] * f[s, b]
                v[r, b] = t
        g = group[i]
        for t in range(starts.size - 1):
            for a in range(starts[t], starts[t + 1]):
                for b in range(starts[t], starts[t + 1]):
                    moved[g, a, b] += raw[i, a] * v[part[a], b]


@_compiled
def _leverages_of_two(
    Z: Array,
    W: Array,
    at: Places,
    inverse: Array,
    raw: Array,
    group: Index,
    leverage: Array,
    moved: Array,
) -> None:
    """The same for two random intercepts or slopes of two factors in one part."""
    for i in range(Z.shape[1]):
        x, y = Z[0, i, 0], Z[0, i, 1]
        c = inverse[at[i, 1]]
        f = x * inverse[at[i, 0]] + y * c
        e = x * c + y * inverse[at[i, 2]]
        leverage[0, 0, i] = x * f + y * e
        w = W[0, 0, i]
        moved[group[i], 0, 0] += raw[i, 0] * w * f
        moved[group[i], 1, 1] += raw[i, 1] * w * e


@_compiled
def factor_scores(
    raw: Array,
    index: Index,
    part: Index,
    starts: Index,
    group: Index,
    rho: Array,
    u: Array,
    first: Array,
    s: Array,
    out: Array,
) -> None:
    """``out += sum_i z_i'(rho_i u + l'_i s)`` within blocks, by group.

    ``rho, first`` (R, n); ``u, s`` (N,); ``out`` (G, Q, Q).
    """
    for i in range(raw.shape[0]):
        g = group[i]
        for t in range(starts.size - 1):
            for a in range(starts[t], starts[t + 1]):
                left = raw[i, a] * rho[part[a], i]
                right = raw[i, a] * first[part[a], i]
                for b in range(starts[t], starts[t + 1]):
                    j = index[i, b]
                    out[g, a, b] += left * u[j] + right * s[j]


@_compiled
def pair_cubes(Z: Array, index: Index, whole: Array, third: Array) -> float:
    """``sum_{i,j} l'''_i l'''_j a_ij^3`` over all pairs of rows, ``a_ij = z~_i H^-1 z~_j'``.

    ``whole`` (N, N) is ``H^-1``; ``third`` (R, R, R, n). Time ``n (n + N) Q``.
    """
    R, n, Q = Z.shape
    N = whole.shape[0]
    seen = np.empty((R, N))
    A = np.empty((R, R))
    total = 0.0
    for i in range(n):
        for r in range(R):
            for k in range(N):
                seen[r, k] = 0.0
            for a in range(Q):
                v = Z[r, i, a]
                if v != 0.0:
                    line = whole[index[i, a]]
                    for k in range(N):
                        seen[r, k] += v * line[k]
        inner = 0.0
        for j in range(i + 1):
            twice = 1.0 if j == i else 2.0
            if R == 1:
                x = 0.0
                for a in range(Q):
                    x += seen[0, index[j, a]] * Z[0, j, a]
                inner += twice * third[0, 0, 0, j] * x * x * x
                continue
            for r in range(R):
                for s in range(R):
                    x = 0.0
                    for a in range(Q):
                        x += seen[r, index[j, a]] * Z[s, j, a]
                    A[r, s] = x
            inner += twice * _contract(third[:, :, :, i], third[:, :, :, j], A)
        total += inner * third[0, 0, 0, i] if R == 1 else inner
    return total


@_compiled
def _contract(left: Array, right: Array, A: Array) -> float:
    """``sum left_abc right_def A_ad A_be A_cf``."""
    R = A.shape[0]
    total = 0.0
    for a in range(R):
        for d in range(R):
            for b in range(R):
                for e in range(R):
                    x = A[a, d] * A[b, e]
                    for c in range(R):
                        for f in range(R):
                            total += left[a, b, c] * right[d, e, f] * x * A[c, f]
    return total
