"""Kernels of continuous families: Gaussian.

``eta`` (2, K, m) -> ``out`` (J, K, m), packed as in ``jets``.
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

_LOG_2PI = math.log(2.0 * math.pi)


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, numba.njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def gaussian(eta: Array, y: Array, constant: Array, level: int, out: Array) -> None:
    """``l = -(log 2 pi + s + (y - eta_0)^2 e^-s) / 2 + constant``, s = eta_1 the log variance.

    The derivatives are in the mean; another link goes through ``jets.through_link``.
    """
    for k in range(eta.shape[1]):
        for i in range(eta.shape[2]):
            s = eta[1, k, i]
            e = y[i] - eta[0, k, i]
            v = math.exp(-max(s, -700.0))
            ev = e * v
            half = 0.5 * e * ev
            out[0, k, i] = -0.5 * (_LOG_2PI + s) - half + constant[i]
            if level >= 1:
                out[1, k, i] = ev
                if level != 2:
                    out[2, k, i] = half - 0.5
                if level >= 2:
                    out[3, k, i] = -v
                    if level >= 3:
                        out[4, k, i] = -ev
                        out[6, k, i] = 0.0
                        out[7, k, i] = v
                        if level >= 4:
                            out[5, k, i] = -half
                            out[8, k, i] = ev
                            out[9, k, i] = half
