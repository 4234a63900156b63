"""Tails and quantiles of the four distributions that tests use.

Thin names over ``scipy.special``: importing ``scipy.stats`` takes longer than most fits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Numbers = float | Sequence[float] | NDArray[np.float64] | NDArray[np.int64]


def _floats(values: Numbers) -> Array:
    return np.asarray(values, dtype=np.float64)


def normal_tail(x: Numbers) -> Array:
    """``P(Z > x)``."""
    return np.asarray(special.ndtr(-_floats(x)))


def normal_quantile(p: Numbers) -> Array:
    """``x`` with ``P(Z <= x) = p``."""
    return np.asarray(special.ndtri(_floats(p)))


def log_normal_tail(x: Numbers) -> Array:
    """``log P(Z > x)``."""
    return np.asarray(special.log_ndtr(-_floats(x)))


def t_tail(x: Numbers, df: Numbers) -> Array:
    """``P(T > x)`` on ``df`` degrees of freedom."""
    return np.asarray(special.stdtr(_floats(df), -_floats(x)))


def t_quantile(p: Numbers, df: Numbers) -> Array:
    """``x`` with ``P(T <= x) = p`` on ``df`` degrees of freedom."""
    return np.asarray(special.stdtrit(_floats(df), _floats(p)))


def f_tail(x: Numbers, df_num: Numbers, df: Numbers) -> Array:
    """``P(F > x)`` on ``df_num`` and ``df`` degrees of freedom."""
    return np.asarray(special.fdtrc(_floats(df_num), _floats(df), np.maximum(_floats(x), 0.0)))


def f_quantile(p: Numbers, df_num: Numbers, df: Numbers) -> Array:
    """``x`` with ``P(F <= x) = p`` on ``df_num`` and ``df`` degrees of freedom."""
    return np.asarray(special.fdtri(_floats(df_num), _floats(df), _floats(p)))


def chi_square_tail(x: Numbers, df: Numbers) -> Array:
    """``P(X > x)`` for chi-square on ``df`` degrees of freedom."""
    return np.asarray(special.chdtrc(_floats(df), np.maximum(_floats(x), 0.0)))
