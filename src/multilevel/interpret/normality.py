r"""Whether residuals and random effects look normal: quantiles, shape, tests with their limits.

Values are standardised (``residual_diagnostics.py``) before they are pooled. Plotting positions
``(i - 1/2)/n`` (Hazen). Shapiro & Wilk 1965 up to 5000 values; Anderson & Darling with the mean and
the standard deviation estimated (Stephens 1974; p-value of D'Agostino & Stephens 1986, table 4.9).
EBLUPs are mixtures of the random effect and of noise and look more normal than the effects
(Verbeke & Lesaffre 1996, JASA 91:217): a test that finds nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.distributions import log_normal_tail, normal_quantile

if TYPE_CHECKING:
    from multilevel.interpret.residual_diagnostics import EffectResiduals, RowResiduals

Array = NDArray[np.float64]
MOST_FOR_SHAPIRO = 5000
FEW, MANY = 30, 1000
RESIDUAL = "residual"


@dataclass(frozen=True)
class Normality:
    """One set of standardised values against the normal distribution.

    Attributes
    ----------
    group : grouping factor, or ``"residual"``.
    term : random effect, or empty.
    n : values.
    skewness, excess_kurtosis : zero for a normal distribution.
    shapiro, shapiro_p : NaN below 3 and above 5000 values.
    anderson, anderson_p : NaN below 8 values.
    sentence : the finding, with what this sample size can show.
    """

    group: str
    term: str
    n: int
    skewness: float
    excess_kurtosis: float
    shapiro: float
    shapiro_p: float
    anderson: float
    anderson_p: float
    sentence: str


@dataclass(frozen=True)
class Quantiles:
    """Points of a normal quantile plot.

    Attributes
    ----------
    group, term : as in ``Normality``.
    positions : (n,) which row or level each point is.
    theoretical, sample : (n,) ascending.
    """

    group: str
    term: str
    positions: NDArray[np.intp]
    theoretical: Array
    sample: Array


def standardised_sets(
    rows: RowResiduals, effects: Sequence[EffectResiduals]
) -> list[tuple[str, str, Array]]:
    """``(group, term, values)`` of the residuals and of every random effect; NaN where undefined.

    An effect with two levels or fewer that have a value is left out.
    """
    sets = [(RESIDUAL, "", rows.conditional_std)]
    for effect in effects:
        for a, name in enumerate(effect.names):
            if int(np.isfinite(effect.std[:, a]).sum()) > 2:
                sets.append((effect.group, name, effect.std[:, a]))
    return sets


def anderson_darling(values: Array) -> tuple[float, float]:
    """``A^2`` for normality with estimated mean and standard deviation, and its p-value."""
    n = len(values)
    if n < 8 or float(values.std()) == 0.0:
        return float("nan"), float("nan")
    z = np.sort((values - values.mean()) / values.std(ddof=1))
    i = np.arange(1, n + 1)
    a2 = float(-n - np.mean((2 * i - 1) * (log_normal_tail(-z) + log_normal_tail(z[::-1]))))
    a = a2 * (1.0 + 0.75 / n + 2.25 / n**2)
    if a >= 0.6:
        # the parabola turns up again beyond 153, where p is zero for any purpose
        p = np.exp(1.2937 - 5.709 * a + 0.0186 * a**2) if a < 100.0 else 0.0
    elif a >= 0.34:
        p = np.exp(0.9177 - 4.279 * a - 1.38 * a**2)
    elif a >= 0.2:
        p = 1.0 - np.exp(-8.318 + 42.796 * a - 59.938 * a**2)
    else:
        p = 1.0 - np.exp(-13.436 + 101.14 * a - 223.73 * a**2)
    return a2, float(min(max(p, 0.0), 1.0))


def normality(group: str, term: str, values: Array) -> Normality:
    """Describe and test one set of standardised values; NaN are left out."""
    from scipy import stats  # slow to import, and only wanted here

    known = values[np.isfinite(values)]
    n = len(known)
    spread = float(known.std()) if n else 0.0
    skew = float(stats.skew(known)) if spread > 0 else float("nan")
    kurtosis = float(stats.kurtosis(known)) if spread > 0 else float("nan")
    w = w_p = float("nan")
    if 3 <= n <= MOST_FOR_SHAPIRO and spread > 0:
        found = stats.shapiro(known)
        w, w_p = float(found.statistic), float(found.pvalue)
    a2, a2_p = anderson_darling(known)
    p = a2_p if np.isnan(w_p) else w_p
    sentence = _sentence(group, term, n, skew, kurtosis, p)
    return Normality(group, term, n, skew, kurtosis, w, w_p, a2, a2_p, sentence)


def _sentence(group: str, term: str, n: int, skew: float, kurtosis: float, p: float) -> str:
    what = "The residuals" if group == RESIDUAL else f"The effects of {term} over {group}"
    if np.isnan(p):
        return f"{what}: {n} values are too few to judge their distribution."
    finding = "depart from" if p < 0.05 else "are compatible with"
    text = (
        f"{what} {finding} a normal distribution (p = {p:.3f}, skewness {skew:.2f}, excess "
        f"kurtosis {kurtosis:.2f}, {n} values)."
        if p >= 0.001
        else f"{what} {finding} a normal distribution (p < .001, skewness {skew:.2f}, excess "
        f"kurtosis {kurtosis:.2f}, {n} values)."
    )
    if n < FEW:
        text += " With so few values the test misses much."
    elif n > MANY and p < 0.05:
        text += (
            " With so many values the test finds departures too small to matter: judge by the "
            "skewness, the kurtosis and the quantile plot."
        )
    if group != RESIDUAL and p >= 0.05:
        text += " Estimated effects look more normal than the true ones."
    return text


def quantiles(group: str, term: str, values: Array) -> Quantiles:
    """Points of the normal quantile plot of one set of standardised values."""
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    n = len(order)
    theoretical = np.asarray(normal_quantile((np.arange(n) + 0.5) / max(n, 1)))
    return Quantiles(group, term, order, theoretical, values[order])
