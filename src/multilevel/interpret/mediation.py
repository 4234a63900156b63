"""Mediation in words: does the effect run through the mediator, and at which level?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multilevel.infer.structural import ParameterTests
from multilevel.infer.structural_bootstrap import BootstrapIntervals
from multilevel.infer.structural_monte_carlo import MonteCarloIntervals
from multilevel.infer.structural_profile import ProfileIntervals
from multilevel.model.structural.mediation import MediationPlan

Intervals = MonteCarloIntervals | ProfileIntervals | BootstrapIntervals


@dataclass(frozen=True)
class MediationEffect:
    """One effect of the mediation question.

    Attributes
    ----------
    effect : ``indirect``, ``direct``, ``total``, ``b`` (the path from m to y) or, with random
        slopes, ``slope_covariance`` (tau_ab, a part of the indirect effect).
    level : ``within``, ``between`` or ``contextual``.
    estimate, std_error, statistic, p_value : delta method, z test.
    conf_low, conf_high : Monte Carlo, profile or bootstrap interval.
    delta_low, delta_high : interval of the delta method.
    """

    effect: str
    level: str
    estimate: float
    std_error: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float
    delta_low: float
    delta_high: float


def mediation_effects(
    names: Sequence[str], tests: ParameterTests, intervals: Intervals
) -> tuple[MediationEffect, ...]:
    """Tests and intervals of the defined parameters ``names`` (``<effect>_<level>``), in order."""
    out = []
    for k, name in enumerate(names):
        effect, level = name.rsplit("_", 1)
        numbers = (tests.estimate, tests.std_error, tests.statistic, tests.p_value,
                   intervals.conf_low, intervals.conf_high,
                   tests.conf_low, tests.conf_high)  # fmt: skip
        out.append(MediationEffect(effect, level, *(float(a[k]) for a in numbers)))
    return tuple(out)


def mediation_sentences(
    plan: MediationPlan, effects: Sequence[MediationEffect], cluster: str, conf_level: float
) -> tuple[str, ...]:
    """The answer, one sentence per level, and what cannot be asked."""
    by = {(e.effect, e.level): e for e in effects}
    out = []
    percent = f"{100 * conf_level:g}%"
    place = {"within": f"Within {cluster}", "between": f"Between {cluster}"}
    for level in plan.levels:
        indirect, direct = by["indirect", level], by["direct", level]
        total = by["total", level]
        if not np.isfinite(indirect.std_error):
            out.append(not_determined(place[level], plan))
            continue
        runs = excludes_zero(indirect.conf_low, indirect.conf_high)
        verdict = "runs" if runs else "is not shown to run"
        out.append(
            f"{place[level]}, the effect of {plan.x} on {plan.y} {verdict} through {plan.m}: the"
            f" indirect effect is {indirect.estimate:.4g} ({percent} interval"
            f" {indirect.conf_low:.4g} to {indirect.conf_high:.4g}), the direct effect"
            f" {direct.estimate:.4g} ({direct.conf_low:.4g} to {direct.conf_high:.4g}), the total"
            f" {total.estimate:.4g}."
        )
    if len(plan.levels) == 2:
        out.insert(0, _verdict(plan, by, cluster))
    if ("slope_covariance", "within") in by:
        tau = by["slope_covariance", "within"]
        out.append(
            f"The slopes of {plan.x} to {plan.m} and of {plan.m} to {plan.y} differ between"
            f" {cluster}; their covariance, {tau.estimate:.4g} ({tau.conf_low:.4g} to"
            f" {tau.conf_high:.4g}), is part of the indirect effect within."
        )
    if "within" not in plan.levels:
        out.append(
            f"In a {plan.design} design no indirect effect exists within {cluster}: a variable"
            " without variation there cannot cause any."
        )
    if "between" not in plan.levels:
        out.append(
            f"No indirect effect exists between {cluster}: a variable was centred at its cluster"
            " means."
        )
    if ("b", "contextual") in by and np.isfinite(by["indirect", "contextual"].std_error):
        out.append(_contextual(plan, by))
    return tuple(out)


def _contextual(plan: MediationPlan, by: dict[tuple[str, str], MediationEffect]) -> str:
    """Which slopes the model holds, and how far the indirect effects of the levels differ."""
    b, i = by["b", "contextual"], by["indirect", "contextual"]
    differ = "differ" if excludes_zero(i.conf_low, i.conf_high) else "are not shown to differ"
    if plan.random:
        how = (
            f"The level-2 slope of {plan.m} in the model is contextual, because the observed"
            f" {plan.m} stands in the product with its random slope; the slopes of {plan.x} are"
            f" between slopes, because {plan.x} is split at its observed cluster means."
        )
    else:
        how = (
            "The level-2 slopes are between slopes, because level-1 variables are split into"
            " latent parts."
        )
    return (
        f"{how} The contextual slope of {plan.m} (between minus within) is"
        f" {b.estimate:.4g} ({b.conf_low:.4g} to {b.conf_high:.4g}); the two indirect effects"
        f" {differ} ({i.estimate:.4g}, {i.conf_low:.4g} to {i.conf_high:.4g})."
    )


def _verdict(plan: MediationPlan, by: dict[tuple[str, str], MediationEffect], cluster: str) -> str:
    """Within, between, both or neither, in one sentence."""
    runs = {
        level: excludes_zero(by["indirect", level].conf_low, by["indirect", level].conf_high)
        for level in ("within", "between")
    }
    where = {
        (True, True): f"runs through {plan.m} both within and between {cluster}",
        (
            True,
            False,
        ): f"runs through {plan.m} within {cluster}; between {cluster} that is not shown",
        (
            False,
            True,
        ): f"runs through {plan.m} between {cluster}; within {cluster} that is not shown",
        (
            False,
            False,
        ): f"is not shown to run through {plan.m}, neither within nor between {cluster}",
    }[runs["within"], runs["between"]]
    return f"The effect of {plan.x} on {plan.y} {where}."


def not_determined(place: str, plan: MediationPlan) -> str:
    """What to say where the data do not tell the paths of a level apart."""
    return (
        f"{place}, the data do not tell whether the effect of {plan.x} on {plan.y} runs through"
        f" {plan.m}: its paths there have no standard errors (see what is at the boundary, below)."
        " More units of that level are needed."
    )


def excludes_zero(low: float, high: float) -> bool:
    """Whether an interval lies on one side of zero."""
    return bool(np.isfinite(low) and np.isfinite(high) and (low > 0.0 or high < 0.0))
