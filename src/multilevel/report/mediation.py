"""The summary of a mediation question as sections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.interpret.mediation import MediationEffect
from multilevel.model.structural.mediation import MediationPlan
from multilevel.report.layout import Grid, Section, decimals_for, number
from multilevel.report.summary import p_text


def mediation_title(plan: MediationPlan, cluster: str) -> tuple[str, ...]:
    """Title lines: the question and the design."""
    return (
        f"Multilevel mediation {plan.x} -> {plan.m} -> {plan.y}, design {plan.design}, clusters:"
        f" {cluster}",
    )


def mediation_sections(
    effects: Sequence[MediationEffect],
    sentences: Sequence[str],
    notes: Sequence[str],
    model: Sequence[Section],
) -> list[Section]:
    """The answer, the effects, and the model behind them (its own sections)."""
    decimals = decimals_for([e.std_error for e in effects])
    body = tuple(
        (
            e.effect,
            e.level,
            number(e.estimate, decimals),
            number(e.std_error, decimals),
            number(e.statistic, 2),
            p_text(e.p_value) if np.isfinite(e.p_value) else "",
            number(e.conf_low, decimals),
            number(e.conf_high, decimals),
        )
        for e in effects
    )
    header = ("Effect", "Level", "Estimate", "Std. error", "z", "p", "Low", "High")
    kept = [s for s in model if not s.heading.startswith("Defined parameters")]
    return [
        Section("Answer", sentences=tuple(sentences)),
        Section("Effects", grid=Grid(header, body, 2), sentences=tuple(notes)),
        *kept,
    ]
