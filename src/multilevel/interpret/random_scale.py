r"""Effects of predictors on variances of random effects, and what each cluster's ``G`` is.

``log SD(U_aj) = log sd_a + w_j'alpha_a``: one unit of w multiplies the standard deviation by
``exp(alpha)`` and the variance by ``exp(2 alpha)``. Wald tests; intervals on the log scale.
Source: Hedeker, Mermelstein & Demirtas 2008.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import (
    by_groups_of,
    effect_of,
    factors_by_level,
    unscaled_columns,
)
from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured_limit import WIDEST
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.interpret.variance import INTERCEPT, find_block, find_level

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RandomScaleEffect:
    """The effect of one predictor on the spread of one random effect.

    Attributes
    ----------
    group, effect : grouping factor and random effect.
    term : the predictor.
    estimate, std_error, statistic, p_value : of the log standard deviation, Wald z.
    sd_ratio, sd_ratio_low, sd_ratio_high : factor of the standard deviation per unit.
    percent_sd : change of the standard deviation per unit, in percent.
    percent_variance, percent_variance_low, percent_variance_high : the same for the variance.
    sentence : in words.
    """

    group: str
    effect: str
    term: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    sd_ratio: float
    sd_ratio_low: float
    sd_ratio_high: float
    percent_sd: float
    percent_variance: float
    percent_variance_low: float
    percent_variance_high: float
    sentence: str


def random_scale_effects(
    design: Design, fit: Fit, conf_level: float
) -> tuple[RandomScaleEffect, ...]:
    """Effects of all predictors of ``random_scale=``; empty without any."""
    record = fit.residual
    if record is None:
        return ()
    values = {n: (float(e), float(s)) for n, e, s in
              zip(record.names, record.estimates, record.std_errors, strict=True)}  # fmt: skip
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    out = []
    for block in design.blocks:
        for term in () if block.scale is None else block.scale.names:
            for effect in block.names:
                of = "" if effect == INTERCEPT else f"{effect}, "
                estimate, error = values[f"log_sd({of}{block.group}: {term})"]
                out.append(_effect((block.group, effect, term), estimate, error, z, conf_level))
    return tuple(out)


def _effect(
    where: tuple[str, str, str], estimate: float, error: float, z: float, conf_level: float
) -> RandomScaleEffect:
    group, effect, term = where
    if not np.isfinite(error) and abs(estimate) > WIDEST:
        return _limit(where, estimate)
    ratio = estimate / error if error > 0.0 else float("nan")
    p_value = 2.0 * float(normal_tail(np.abs(ratio)))
    low, high = estimate - z * error, estimate + z * error
    sd = [float(np.exp(v)) for v in (estimate, low, high)]
    variance = [100.0 * float(np.expm1(2.0 * v)) for v in (estimate, low, high)]
    what = "random intercepts" if effect == INTERCEPT else f"random slopes of {effect}"
    more = "larger" if estimate >= 0.0 else "smaller"
    text = (
        f"Per unit of {term} the variance of the {what} of {group} is {abs(variance[0]):.1f}% "
        f"{more} ({100 * conf_level:g}% interval {variance[1]:+.1f}% to {variance[2]:+.1f}%), "
        f"their standard deviation {abs(100.0 * (sd[0] - 1.0)):.1f}%."
    )
    return RandomScaleEffect(
        group, effect, term, estimate, error, ratio, p_value, sd[0], sd[1], sd[2],
        100.0 * (sd[0] - 1.0), variance[0], variance[1], variance[2], text,
    )  # fmt: skip


def _limit(where: tuple[str, str, str], estimate: float) -> RandomScaleEffect:
    """An effect without bounds: the standard deviation of some clusters is zero."""
    group, effect, term = where
    what = "random intercepts" if effect == INTERCEPT else f"random slopes of {effect}"
    none = float("nan")
    change, to = (0.0, "high") if estimate < 0.0 else (float("inf"), "low")
    text = (
        f"The variance of the {what} of {group} goes to zero where {term} is {to} (a boundary "
        "estimate: the coefficient has no bound, standard error or test)."
    )
    percent = -100.0 if estimate < 0.0 else float("inf")
    return RandomScaleEffect(
        group, effect, term, estimate, none, none, none, change, none, none,
        percent, percent, none, none, text,
    )  # fmt: skip


@dataclass(frozen=True)
class LevelCovariance:
    """``G`` of one cluster: its effects (those that occur in it), covariance and correlation."""

    group: str
    level: object
    effects: tuple[str, ...]
    covariance: Array
    correlation: Array


def level_covariance(
    design: Design, fit: Fit, group: str | None, level: Hashable
) -> LevelCovariance:
    """The covariance matrix of the random effects of one cluster, squared response units.

    With ``by=`` that of the cluster's group, with ``random_scale=`` at the cluster's predictors.

    Raises
    ------
    InferenceError : an unknown group or level, or no random effects.
    """
    block = find_block(design, group)
    code = find_level(block, level)
    G = fit.random_covariance[[b.group for b in design.blocks].index(block.group)]
    d = factors_by_level(block)[code]
    keep = list(range(len(block.names)))
    if by_groups_of(block.names):
        own = unscaled_columns(block)[block.codes == code]
        keep = [
            a for a, name in enumerate(block.names)
            if effect_of(name) == name or np.any(own[:, a] != 0.0)
        ]  # fmt: skip
    here = (G * np.outer(d, d))[np.ix_(keep, keep)]
    sd = np.sqrt(np.maximum(np.diag(here), 1e-300))
    names = tuple(effect_of(block.names[a]) for a in keep)
    return LevelCovariance(block.group, block.levels[code], names, here, here / np.outer(sd, sd))


def require_scale(found: tuple[RandomScaleEffect, ...]) -> tuple[RandomScaleEffect, ...]:
    """Refuse a model without predictors of standard deviations.

    Raises
    ------
    InferenceError : none.
    """
    if not found:
        raise InferenceError(
            "Effects on standard deviations of random effects need a model for them.",
            "a fit without random_scale=",
            'fit with random_scale={"school": "~ sector"}',
        )
    return found
