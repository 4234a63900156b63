"""Compiled kernels that add up cross-products by group (plain twins in ``accumulate``)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 1  # raise when a helper changes: cached callers are not recompiled otherwise


@numba.njit(cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def add_outer_by_code(
    codes: NDArray[np.int32], left: NDArray[Any], right: NDArray[Any], out: NDArray[Any]
) -> None:
    """``out[codes[r]] += left[r] (x) right[r]`` by row; equal codes in a run are summed first.

    Shapes: codes (n,), left (n, a), right (n, b), out (J, a, b).
    """
    n = codes.shape[0]
    a, b = left.shape[1], right.shape[1]
    held = np.zeros((a, b))
    if n == 0:
        return
    current = codes[0]
    for r in range(n):
        code = codes[r]
        if code != current:
            for i in range(a):
                for k in range(b):
                    out[current, i, k] += held[i, k]
                    held[i, k] = 0.0
            current = code
        for i in range(a):
            v = left[r, i]
            for k in range(b):
                held[i, k] += v * right[r, k]
    for i in range(a):
        for k in range(b):
            out[current, i, k] += held[i, k]
