"""Compiled inner loops over contiguous runs of rows, for other kernels to inline.

Sums may be reassociated, so that several are carried at once; infinities and NaN stay what they
are. A cached kernel does not see changes in this file: raise the ``KERNEL_VERSION`` of the files
that inline these functions when one changes. All arguments are one-dimensional, C-contiguous.
"""

from __future__ import annotations

from typing import Any

import numba
from numpy.typing import NDArray

Arr = NDArray[Any]
reassociated = numba.njit(
    cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"}
)


@reassociated  # type: ignore[untyped-decorator]
def total(x: Arr) -> float:
    """``sum x``."""
    s = 0.0
    for i in range(x.size):
        s += x[i]
    return s


@reassociated  # type: ignore[untyped-decorator]
def dot(x: Arr, y: Arr) -> float:
    """``sum x y``."""
    s = 0.0
    for i in range(x.size):
        s += x[i] * y[i]
    return s


@reassociated  # type: ignore[untyped-decorator]
def dot3(x: Arr, y: Arr, z: Arr) -> float:
    """``sum x y z``."""
    s = 0.0
    for i in range(x.size):
        s += x[i] * y[i] * z[i]
    return s


@reassociated  # type: ignore[untyped-decorator]
def add_scaled(a: float, x: Arr, out: Arr) -> None:
    """``out += a x``."""
    for i in range(x.size):
        out[i] += a * x[i]


@reassociated  # type: ignore[untyped-decorator]
def add_product(a: float, x: Arr, y: Arr, out: Arr) -> None:
    """``out += a x y``."""
    for i in range(x.size):
        out[i] += a * x[i] * y[i]


@reassociated  # type: ignore[untyped-decorator]
def copy_to(x: Arr, out: Arr) -> None:
    """``out = x``."""
    for i in range(x.size):
        out[i] = x[i]


@reassociated  # type: ignore[untyped-decorator]
def set_line(x: Arr, a: float, z: Arr, out: Arr) -> None:
    """``out = x + a z``."""
    for i in range(x.size):
        out[i] = x[i] + a * z[i]


@reassociated  # type: ignore[untyped-decorator]
def add_scaled_dot(a: float, x: Arr, z: Arr, out: Arr) -> float:
    """``out += a x``; returns ``sum x z``."""
    s = 0.0
    for i in range(x.size):
        out[i] += a * x[i]
        s += x[i] * z[i]
    return s
