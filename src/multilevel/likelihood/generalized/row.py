"""The contract between families and engines: log densities by row and their derivatives.

A row likelihood holds the response of some rows, in one order, and evaluates on all of them or on
a run of neighbours (``rows``). Engines sort the rows first and build the row likelihood after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Response

__all__ = ["ALL", "OutcomeDistribution", "Response", "RowDerivatives", "RowLikelihood"]

Array = NDArray[np.float64]
ALL = slice(None)


@dataclass(frozen=True)
class RowDerivatives:
    """Log density and derivatives at one ``eta`` (D, m); r, s run over the R random parts.

    Attributes
    ----------
    value : (m,).
    first : (D, m) ``dl/deta_d``.
    second : (R, D, m) ``d2l/deta_r deta_d``.
    third : (R, R, D, m) ``d3l/deta_r deta_s deta_d``.
    """

    value: Array
    first: Array
    second: Array
    third: Array


class RowLikelihood(Protocol):
    """Log densities of the rows of one response.

    Outside its domain (a dispersion that overflows, crossed thresholds) a value is ``-inf``; it is
    never NaN. Row weights (frequency weights; precision weights where the family has a dispersion)
    are inside.

    Attributes
    ----------
    n : rows.
    n_parts : D.
    random : indices of the random parts, ascending; R = len(random). May be empty or all.
    log_concave : whether ``-second`` over the random parts is never indefinite.
    """

    n: int
    n_parts: int
    random: tuple[int, ...]
    log_concave: bool

    def value(self, eta: Array, rows: slice = ALL) -> Array:
        """``l`` (K, m) at eta (D, K, m): K sets of predictors for the m rows of ``rows``."""
        ...

    def first(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``l`` (K, m) and ``dl/deta`` (D, K, m) at eta (D, K, m)."""
        ...

    def newton(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array, Array]:
        """``l`` (m,), ``dl/deta_r`` (R, m) and ``d2l/deta_r deta_s`` (R, R, m) at eta (D, m)."""
        ...

    def derivatives(self, eta: Array, rows: slice = ALL) -> RowDerivatives:
        """Everything that a Laplace gradient needs, at eta (D, m)."""
        ...

    def start(self) -> Array:
        """(D,) sensible intercepts of the parts, from the response alone."""
        ...


class OutcomeDistribution(Protocol):
    """What interpretation and simulation need of a family, at eta (D, m) for m rows.

    Implemented by the same classes as ``RowLikelihood``. ``mean`` of a family of categories is
    (C, m) probabilities, else (m,) on the response's scale (a probability for binary responses, a
    count of successes per trial for binomial ones).
    """

    def mean(self, eta: Array, rows: slice = ALL) -> Array:
        """Expected response given the predictors."""
        ...

    def variance(self, eta: Array, rows: slice = ALL) -> Array:
        """(m,) variance of the response given the predictors (of a proportion for binomials);
        NaN where it does not exist (nominal)."""
        ...

    def cumulative(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``P(Y < y)`` and ``P(Y <= y)`` (m,) each, for randomised quantile residuals."""
        ...

    def draw(self, eta: Array, rng: np.random.Generator, rows: slice = ALL) -> Array:
        """(m,) simulated responses in the units of ``Response.y``."""
        ...
