"""Mediation at three levels or more in words: through m, and at which level?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from multilevel.interpret.mediation import MediationEffect, excludes_zero, not_determined
from multilevel.model.structural.mediation import MediationPlan


def nested_mediation_sentences(
    plan: MediationPlan,
    effects: Sequence[MediationEffect],
    clusters: Sequence[str],
    conf_level: float,
) -> tuple[str, ...]:
    """The answer, one sentence per level, and how the levels differ.

    Parameters
    ----------
    clusters : columns of the units from level 2 upwards.
    """
    by = {(e.effect, e.level): e for e in effects}
    percent = f"{100 * conf_level:g}%"
    places = {"within": f"Within {clusters[0]}"}
    for k, name in enumerate(clusters):
        inside = f" of one {clusters[k + 1]}" if k + 1 < len(clusters) else ""
        places[f"level{k + 2}"] = f"Between {name}{inside}"
    out = []
    for key, place in places.items():
        if key not in plan.levels:
            out.append(
                f"{place}, no indirect effect exists in this {plan.design} design: not all of"
                f" {plan.x}, {plan.m} and {plan.y} vary there."
            )
            continue
        level = plan.title(key)
        indirect, direct, total = (by[e, level] for e in ("indirect", "direct", "total"))
        if not np.isfinite(indirect.std_error):
            out.append(not_determined(place, plan))
            continue
        runs = excludes_zero(indirect.conf_low, indirect.conf_high)
        verdict = "runs" if runs else "is not shown to run"
        out.append(
            f"{place}, the effect of {plan.x} on {plan.y} {verdict} through {plan.m}: the"
            f" indirect effect is {indirect.estimate:.4g} ({percent} interval"
            f" {indirect.conf_low:.4g} to {indirect.conf_high:.4g}), the direct effect"
            f" {direct.estimate:.4g} ({direct.conf_low:.4g} to {direct.conf_high:.4g}), the total"
            f" {total.estimate:.4g}."
        )
    out += _covariances(plan, by) + _contrasts(plan, by)
    return tuple(out)


def _covariances(plan: MediationPlan, by: dict[tuple[str, str], MediationEffect]) -> list[str]:
    """What the covariance of two random slopes adds at each level at which they vary."""
    found = [e for (effect, _), e in by.items() if effect == "slope_covariance"]
    out = []
    for tau in found:
        said = f"{tau.estimate:.4g} ({tau.conf_low:.4g} to {tau.conf_high:.4g})"
        if not np.isfinite(tau.std_error):
            said = f"{tau.estimate:.4g} (at the boundary)"
        out.append(
            f"The slopes of {plan.x} to {plan.m} and of {plan.m} to {plan.y} differ between"
            f" {tau.level}; their covariance there, {said}, is part of the indirect effect within."
        )
    return out


def _contrasts(plan: MediationPlan, by: dict[tuple[str, str], MediationEffect]) -> list[str]:
    out = []
    for lower, upper in pairwise(plan.levels):
        title = plan.title(upper.replace("level", "contextual"))
        b, i = by["b", title], by["indirect", title]
        if not np.isfinite(i.std_error):
            continue
        differ = "differ" if excludes_zero(i.conf_low, i.conf_high) else "are not shown to differ"
        why = "variables of lower levels are split into latent parts"
        if plan.random:
            why = f"{plan.x} is split at its observed means and {plan.m} into latent parts"
        out.append(
            f"The slopes at {plan.title(upper)} are between slopes, because {why}. The contextual"
            f" slope of {plan.m} there (less the slope {_at(plan, lower)}) is {b.estimate:.4g}"
            f" ({b.conf_low:.4g} to {b.conf_high:.4g}); the indirect effects of the two levels"
            f" {differ} ({i.estimate:.4g}, {i.conf_low:.4g} to {i.conf_high:.4g})."
        )
    return out


def _at(plan: MediationPlan, key: str) -> str:
    return "within" if key == "within" else f"at {plan.title(key)}"
