"""Sentences of a summary: shares of the variance, ranges of slopes."""

from __future__ import annotations

from multilevel.design.records import Design
from multilevel.design.related import is_related
from multilevel.estimate.records import Fit
from multilevel.interpret.related import share_sentences
from multilevel.report.facts import intraclass, is_unconditional, slope_ranges
from multilevel.report.layout import join_words, percent, share, short


def icc_sentences(fit: Fit, design: Design) -> list[str]:
    """What share of the variance is due to each factor."""
    out: list[str] = []
    if is_related(design.blocks):
        return list(share_sentences(design, fit))
    if fit.residual is not None:
        return out  # shares of variance need one residual variance and independent residuals
    empty = is_unconditional(design)
    start = "" if empty else "Given the predictors, "
    weight = "" if design.weights is None else " (rows of weight 1)"
    tag = "" if len(design.blocks) > 1 else " (the ICC)" if empty else " (the conditional ICC)"
    for icc in intraclass(fit, design):
        others = [b.group for b in design.blocks if b.group not in icc.within]
        apart = f" but different {join_words(others)}" if others else ""
        also = f", as they share {join_words(icc.within[1:])} too" if len(icc.within) > 1 else ""
        out.append(
            f"{start}{percent(icc.proportion)} of the variance is due to {icc.group} mean"
            f" differences; two rows of one {icc.group}{apart} correlate"
            f" {share(icc.correlation)} on average{weight}{also}{tag}."
        )
    return out


def slope_sentences(fit: Fit, design: Design) -> list[str]:
    """Where 95% of the slopes of each random slope lie."""
    out = []
    for s in slope_ranges(fit, design):
        where = f" where {join_words(s.conditional_on)} = 0" if s.conditional_on else ""
        out.append(
            f"The slope of {s.term} is {short(s.mean)} on average{where}; 95% of the levels of"
            f" {s.group} are predicted to have slopes from {short(s.low)} to {short(s.high)}."
        )
    return out
