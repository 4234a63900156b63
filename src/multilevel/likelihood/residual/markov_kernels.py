"""The score of first-order Markov correlations in one pass over the rows, compiled.

The plain twin is ``Whitener.score`` on the columns of ``StructuredObjective``.
A cached kernel does not see changes in other files, so all that is inlined stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def markov_score(
    scaled: Array, r: Array, s: Array, code: NDArray[np.int32], top: Array, B: Array, S: Array
) -> tuple[Array, Array]:
    """Derivatives in the log variance of each row, and in its correlation with the row before.

    Parameters
    ----------
    scaled : (n, Q + m) rows ``[Z X y]`` over their standard deviations.
    r, s : (n,) correlation with the row before (0 for a first row), ``1 / sqrt(1 - r^2)``.
    code : (n,) level of the first block of each row.
    top : (m, c) projection of ``[X y]``; ``B`` (J, Q, c) that of Z, ``S`` (J, Q, Q) the
        conditional covariance of the effects.

    Returns
    -------
    (n,) ``1 - (L^-T U)_i Y_i`` before whitening; (n,) slopes in r, zero for first rows.
    """
    n, width = scaled.shape
    m, c = top.shape
    Q = width - m
    per_row, slope = np.empty(n), np.zeros(n)
    before, last = np.zeros(c), np.zeros(c)
    Y, w = np.empty(c), np.empty(width)
    some = np.empty(Q, dtype=np.int64)  # effects on this row or the one before; others add nothing
    for i in range(n):
        g, ri, si = code[i], r[i], s[i]
        for a in range(c):
            last[a] = before[a]
            before[a] = 0.0
            Y[a] = 0.0
        for k in range(width):
            w[k] = si * scaled[i, k]
            if ri != 0.0:
                w[k] -= si * ri * scaled[i - 1, k]
        n_some = 0
        for k in range(Q):
            if scaled[i, k] != 0.0 or (i > 0 and scaled[i - 1, k] != 0.0):
                some[n_some] = k
                n_some += 1
        for j in range(n_some):
            k = some[j]
            for a in range(c):
                before[a] += scaled[i, k] * B[g, k, a]
                Y[a] += w[k] * B[g, k, a]
        for k in range(m):
            for a in range(c):
                before[a] += scaled[i, Q + k] * top[k, a]
                Y[a] += w[Q + k] * top[k, a]
        own, behind, square = 0.0, 0.0, 0.0
        for a in range(c):
            own += Y[a] * before[a]
            behind += Y[a] * last[a]
            square += Y[a] * Y[a]
        for j in range(n_some):
            k = some[j]
            u = 0.0
            for b in range(n_some):
                u += w[some[b]] * S[g, some[b], k]
            own += u * scaled[i, k]
            square += u * w[k]
            if i > 0:
                behind += u * scaled[i - 1, k]
        per_row[i] = 1.0 - si * own
        if ri != 0.0:
            per_row[i - 1] += ri * si * behind
        if i > 0:
            slope[i] = 2.0 * si * ((square - 1.0) * ri * si - behind)
    return per_row, slope
