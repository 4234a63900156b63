"""Random-effect variances that depend on groups or predictors: equations, sections, sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.design.random_scale import by_groups_of, effect_of
from multilevel.design.records import Design, RandomBlock
from multilevel.estimate.records import Fit
from multilevel.interpret.random_scale import random_scale_effects
from multilevel.report.layout import Grid, Section, count, decimals_for, join_words, number
from multilevel.report.symbols import Equation, Symbol, Term

HEADING = "Model for the standard deviations of random effects"
_MOST = 6


def effects_of(block: RandomBlock) -> tuple[str, ...]:
    """The effects of a block, those of several groups of ``by=`` once."""
    return tuple(dict.fromkeys(effect_of(name) for name in block.names))


def scale_equations(design: Design) -> tuple[Equation, ...]:
    """``log SD(U_0c) = alpha_00 + alpha_01 sector_c`` for every scaled effect."""
    out: list[Equation] = []
    is_two_level = len(design.blocks) == 1
    for t, block in enumerate(design.blocks):
        if block.scale is None:
            continue
        where = "" if len(design.blocks) == 1 else str(t)
        for a in range(len(block.names)):
            index, of = (f"{a}c", "") if is_two_level else (str(a), block.group)
            left = Symbol("U", index, of, before="log SD(", after=")")
            right: list[Term] = [(Symbol("alpha", f"{where}{a}0"),)]
            right += [
                (
                    Symbol("alpha", f"{where}{a}{k}"),
                    Symbol(name, "c" if is_two_level else "", is_variable=True),
                )
                for k, name in enumerate(block.scale.names, 1)
            ]
            out.append(Equation("" if out else "Variance", left, tuple(right)))
    return tuple(out)


def by_notes(block: RandomBlock) -> list[str]:
    """``school: a covariance matrix of its own for each of 0 and 1 of sector``."""
    found = by_groups_of(block.names)
    return [
        f"{block.group}: a covariance matrix of its own for each {name} ({join_words(values)})."
        for name, values in found.items()
    ]


def reference_notes(block: RandomBlock) -> list[str]:
    """For which levels the variances hold where they depend on predictors."""
    if block.scale is None:
        return []
    zero = join_words([f"{name} = 0" for name in block.scale.names])
    return [f"{block.group}: variances of a {block.group} with {zero}; correlations of all."]


def scale_section(fit: Fit, design: Design) -> list[Section]:
    """Coefficients of log standard deviations, and what they say; empty without any."""
    found = random_scale_effects(design, fit, 0.95)
    if not found:
        return []
    decimals = decimals_for([e.std_error for e in found if np.isfinite(e.std_error)])
    body = tuple(
        (
            e.group, e.effect, e.term, number(e.estimate, decimals), number(e.std_error, decimals),
            number(e.statistic, 2), _p_text(e.p_value),
        )
        for e in found
    )  # fmt: skip
    header = ("Group", "Effect", "Predictor", "Estimate", "Std. error", "z", "p")
    sentences = tuple(e.sentence for e in found[:_MOST])
    return [Section(HEADING, grid=Grid(header, body, 3), sentences=sentences)]


def _p_text(p: float) -> str:
    if not np.isfinite(p):
        return ""
    return "<.001" if p < 0.0005 else f"{p:.3f}".replace("0.", ".", 1)


def scale_methods_sentence(fit: Fit, design: Design) -> str:
    """The model for standard deviations and covariance matrices by group, for a methods section."""
    parts = []
    for block in design.blocks:
        parts += [
            f"The covariance matrix of the random effects of {block.group} was estimated "
            f"separately for each {name}."
            for name in by_groups_of(block.names)
        ]
        if block.scale is not None:
            parts.append(
                f"The log standard deviations of the random effects of {block.group} depended on "
                f"{join_words(block.scale.names)} (correlations constant)."
            )
    found = random_scale_effects(design, fit, 0.95)
    if found:
        listed = "; ".join(
            f"{e.effect} by {e.term} = {number(e.estimate, 3)} (SE = {number(e.std_error, 3)}, "
            f"{_p_words(e.p_value)})"
            if np.isfinite(e.std_error)
            else f"{e.effect} by {e.term} has no bound (a variance of zero, no standard error)"
            for e in found
        )
        parts.append(f"Effects on the log standard deviations: {listed}.")
    return " ".join(parts)


def _p_words(p: float) -> str:
    if not np.isfinite(p):
        return "no p-value"
    return "p < .001" if p < 0.0005 else f"p = {p:.3f}".replace("0.", ".", 1)


def parameter_words(fit: Fit) -> Sequence[str]:
    """``2 coefficients of standard deviations`` for the count of parameters."""
    if fit.residual is None:
        return []
    k = sum(name.startswith("log_sd(") for name in fit.residual.names)
    return [f"{count(k, 'coefficient')} of standard deviations of random effects"] if k else []
