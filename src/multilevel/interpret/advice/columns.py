"""Facts about columns that the checks share: parts by level, ICC, what the fixed effects span.

The ICC of a predictor is the analysis-of-variance estimate (Donner 1986, International
Statistical Review 54:67), ``(MSB - MSW) / (MSB + (n0 - 1) MSW)``; it may be negative.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"

#: A variable, or an indicator of one of its categories. Not products and not transformed
#: variables, whose cluster means nobody enters.
_VARIABLE = re.compile(r"^[^\W\d][\w.]*$")
_INDICATOR = re.compile(r"^[^\W\d][\w.]*\[[^\]]+\]$")
_SHIFTED = re.compile(r"^(?:center|scale)\(([^\W\d][\w.]*)[,)].*$")
_WITHIN = re.compile(r"^within\(([^\W\d][\w.]*),.*\)$")


@dataclass(frozen=True)
class Parts:
    """One column split into its parts between and within the levels of a factor.

    Attributes
    ----------
    means : (J,) mean by level.
    between, within : sums of squares; ``total`` is their sum.
    icc : analysis-of-variance estimate; NaN where it is not defined.
    """

    means: Array
    between: float
    within: float
    icc: float

    @property
    def total(self) -> float:
        """Sum of squares about the grand mean."""
        return self.between + self.within

    @property
    def varies_within(self) -> bool:
        """Whether the column varies within levels (beyond rounding)."""
        return self.within > 1e-12 * self.total and self.within > 0

    @property
    def varies_between(self) -> bool:
        """Whether the means of the levels differ (beyond rounding)."""
        return self.between > 1e-12 * self.total and self.between > 0


def variable_of(name: str) -> str | None:
    """The variable behind a column: ``ses`` for ``ses``, ``center(ses)`` and ``scale(ses)``."""
    if _VARIABLE.match(name):
        return name
    shifted = _SHIFTED.match(name)
    return shifted.group(1) if shifted else None


def is_plain(name: str) -> bool:
    """Whether a column is a (shifted) variable or an indicator, not a product or transformed."""
    return variable_of(name) is not None or _INDICATOR.match(name) is not None


def within_variable(name: str) -> str | None:
    """The variable of a ``within(x, g)`` column, None for any other column."""
    found = _WITHIN.match(name)
    return found.group(1) if found else None


def split(x: Array, block: RandomBlock) -> Parts:
    """Split ``x`` (n,) by the levels of ``block``; levels have at least one row each."""
    J, n = block.n_levels, len(x)
    counts = np.bincount(block.codes, minlength=J)
    centre = float(x.mean())
    shifted = x - centre
    means = np.bincount(block.codes, weights=shifted, minlength=J) / counts
    between = float(counts @ means**2)
    deviations = shifted - means[block.codes]
    within = float(deviations @ deviations)
    icc = float("nan")
    if 1 < J < n and between + within > 0:
        msb, msw = between / (J - 1), within / (n - J)
        n0 = (n - float(counts @ counts) / n) / (J - 1)
        denominator = msb + (n0 - 1) * msw
        icc = (msb - msw) / denominator if denominator > 0 else float("nan")
    return Parts(means + centre, between, within, icc)


class Span:
    """The space spanned by fixed-effect columns, to ask what lies outside it.

    Columns are centred where a constant is among them, then scaled to length one, so that the
    cross-products used here lose nothing to a large mean or an odd unit.
    """

    def __init__(self, X: Array) -> None:
        self.has_constant = any(bool(np.all(X[:, j] == 1.0)) for j in range(X.shape[1]))
        centred = X - X.mean(axis=0) if self.has_constant else X.copy()
        lengths = np.sqrt(np.einsum("ij,ij->j", centred, centred))
        keep = lengths > 0
        self.columns = centred[:, keep] / lengths[keep]
        self.inverse = np.linalg.pinv(self.columns.T @ self.columns, rcond=1e-12, hermitian=True)

    def outside(self, v: Array) -> float:
        """Sum of squares of ``v`` (n,) that no combination of the columns reproduces."""
        v = v - v.mean() if self.has_constant else v
        if not self.columns.shape[1]:
            return float(v @ v)
        rest = v - self.columns @ (self.inverse @ (self.columns.T @ v))
        return float(rest @ rest)
