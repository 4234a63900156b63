"""Intervals from the replicates of a bootstrap.

Percentile: quantiles of the replicates. Basic: the same reflected at the estimate. Bias-corrected:
quantiles at ``Phi(2 z0 + z)``, where ``Phi(z0)`` is the share of replicates below the estimate
(ties count half); it serves quantities whose replicates lie off the estimate on the whole, such as
explained variance.
Sources: Efron & Tibshirani 1993, chapters 13 and 14; Efron 1987, JASA 82:171 (bias correction);
Davison & Hinkley 1997, section 5.2 (basic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.infer.variance_intervals import Interval, Quantity, value_of

if TYPE_CHECKING:
    from multilevel.estimate.records import Fit
    from multilevel.infer.bootstrap import Bootstrap

Array = NDArray[np.float64]
IntervalKind = Literal["percentile", "basic", "bias-corrected"]
FEWEST = 20


@dataclass(frozen=True)
class Limits:
    """What replicates of one number give.

    Attributes
    ----------
    std_error : standard deviation of the replicates; NaN with the limits below 20 of them.
    low, high : the interval.
    n_undefined : fitted replicates in which the number is not defined.
    """

    std_error: float
    low: float
    high: float
    n_undefined: int


def check_interval(interval: str) -> IntervalKind:
    """A kind of interval that exists."""
    if interval in get_args(IntervalKind):
        return cast(IntervalKind, interval)
    raise InferenceError(
        "A bootstrap interval must be 'percentile', 'basic' or 'bias-corrected'.",
        f"interval={interval!r}",
        "write interval='percentile'",
    )


def check_enough(replicates: Bootstrap) -> None:
    """At least 20 replicates that were fitted, or ``InferenceError``."""
    used = replicates.is_used
    if int(used.sum()) < FEWEST:
        raise InferenceError(
            f"A bootstrap interval needs at least {FEWEST} fitted replicates.",
            f"{int(used.sum())} of {len(used)}. {replicates.sentence}",
            "ask for more replicates, n_boot=1000",
        )


def limits(
    drawn: Array,
    estimate: float,
    conf_level: float,
    interval: IntervalKind,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Limits:
    """Interval of one number from its fitted replicates.

    Parameters
    ----------
    drawn : (R,) the number in every fitted replicate; NaN where it is not defined.
    bounds : smallest and largest value that the number can have (cuts off basic limits).
    """
    x = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(x)
    if len(x) < FEWEST:
        return Limits(float("nan"), float("nan"), float("nan"), undefined)
    tails = np.array([(1.0 - conf_level) / 2.0, (1.0 + conf_level) / 2.0])
    if interval == "bias-corrected":
        share = (np.sum(x < estimate) + 0.5 * np.sum(x == estimate)) / len(x)
        # an estimate beyond all replicates: as if half a replicate lay behind it
        share = float(np.clip(share, 0.5 / len(x), 1.0 - 0.5 / len(x)))
        tails = normal_tail(-(2.0 * normal_quantile(share) + normal_quantile(tails)))
    low, high = (float(v) for v in np.quantile(x, tails))
    if interval == "basic":
        low, high = 2.0 * estimate - high, 2.0 * estimate - low
        low, high = (float(np.clip(v, *bounds)) for v in (low, high))
    return Limits(float(x.std(ddof=1)), low, high, undefined)


def _bounds(q: Quantity) -> tuple[float, float]:
    if q.component in ("sd", "variance"):
        return 0.0, np.inf
    return (-1.0, 1.0) if q.component == "correlation" else (-np.inf, np.inf)


def bootstrap_intervals(
    replicates: Bootstrap,
    fit: Fit,
    which: Sequence[Quantity],
    conf_level: float,
    interval: str = "percentile",
) -> tuple[Interval, ...]:
    """Bootstrap intervals; ``std_error`` is the standard deviation of the replicates.

    Parameters
    ----------
    interval : ``"percentile"``, ``"basic"`` or ``"bias-corrected"``.

    Raises
    ------
    InferenceError : an unknown interval, fewer than 20 replicates that were fitted, variances of a
        pigeonhole bootstrap.
    """
    checked = check_interval(interval)
    check_enough(replicates)
    used = replicates.is_used
    out = []
    for q in which:
        estimate = value_of(q, fit.beta, fit.random_covariance, fit.sigma2)
        found = limits(replicates.values(q)[used], estimate, conf_level, checked, _bounds(q))
        note = ""
        if found.n_undefined:
            note = f"{found.n_undefined} replicates have a variance of zero, where {q.component} "
            note += f"of {q.term} is not defined; they are left out here."
        out.append(Interval(q, estimate, found.std_error, found.low, found.high, note))
    return tuple(out)
