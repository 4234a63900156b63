"""What reports of a location-scale model add: how clusters differ in their variability."""

from __future__ import annotations

import math
from typing import Any

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.location_scale import RandomScaleTest, ScaleCorrelationTest
from multilevel.interpret.location_scale.clusters import ClusterVariance
from multilevel.interpret.location_scale.effects import (
    ScaleCorrelation,
    VarianceEffect,
    VarianceRange,
    has_scale_effects,
    is_precision,
    quantity_of,
    scale_correlations,
    variance_effects,
    variance_ranges,
    with_article,
)
from multilevel.report.json import plain_number
from multilevel.report.layout import Section, join_words, short

HEADING = "Variability across clusters"
PARAGRAPH = "Who varies more"
_NAMED = 3


def with_variability(
    sections: list[Section], fit: GeneralizedFit, design: GeneralizedDesign
) -> list[Section]:
    """The sections of a summary, and before ``Fit`` the one about scale effects."""
    if not has_scale_effects(design):
        return sections
    _, ranges = variance_ranges(design, fit)
    _, correlations = scale_correlations(design, fit)
    own = Section(HEADING, sentences=(ranges, correlations))
    at = next((i for i, s in enumerate(sections) if s.heading == "Fit"), len(sections))
    return [*sections[:at], own, *sections[at:]]


def p_words(p: float) -> str:
    """``p = .032`` or ``p < .001``."""
    return "p < .001" if p < 0.0005 else f"p = {p:.3f}".replace("0.", ".", 1)


def _change(row: VarianceEffect, level: str = "95%") -> str:
    way = "larger" if row.percent >= 0.0 else "smaller"
    return (
        f"{abs(row.percent):.1f}% {way} per unit of {row.term} ({level} CI {row.percent_low:+.1f}%"
        f" to {row.percent_high:+.1f}%, {p_words(row.p_value)})"
    )


def _ranges_words(found: tuple[VarianceRange, ...]) -> list[str]:
    """The range of the standard deviation where there is one, else of the dispersion."""
    out = []
    for group in dict.fromkeys(one.group for one in found):
        own = [one for one in found if one.group == group]
        last = own[-1]
        out.append(
            f"95% of clusters of {group} have {with_article(last.quantity)} between"
            f" {short(last.range_low)} and {short(last.range_high)}"
        )
    return out


def variability_methods(fit: GeneralizedFit, design: GeneralizedDesign) -> str:
    """Effects on the variance, its range over clusters and correlations, for a methods section."""
    quantity = quantity_of(design)
    effects, _ = variance_effects(design, fit)
    changes = [_change(row) for row in effects if not math.isnan(row.percent)]
    out = []
    if changes:
        out.append(f"The {quantity} was {join_words(changes)}, other predictors equal.")
    if has_scale_effects(design):
        ranges, _ = variance_ranges(design, fit)
        out += [f"{text}, predictors at their means." for text in _ranges_words(ranges)]
        out += [_correlation_words(row) for row in scale_correlations(design, fit)[0]
                if math.isfinite(row.estimate)]  # fmt: skip
    return " ".join(out)


def _correlation_words(row: ScaleCorrelation) -> str:
    p = f", Wald {p_words(row.p_value)}" if math.isfinite(row.p_value) else ""
    return (
        f"Random effects of {row.group} on {row.with_term} and on the log variance"
        f" ({row.term.removeprefix('dispersion: ')}) correlated {row.estimate:.2f}{p}."
    )


def who_varies_more(
    fit: GeneralizedFit,
    design: GeneralizedDesign,
    tests: tuple[RandomScaleTest, ScaleCorrelationTest | None] | None,
    clusters: tuple[ClusterVariance, ...],
) -> str:
    """A paragraph for readers who never saw such a model: who varies more, and how much.

    Parameters
    ----------
    tests : likelihood-ratio tests of the scale effects and of their correlation; None leaves them
        out.
    clusters : the clusters of one factor, most variable first; may be empty.
    """
    quantity = quantity_of(design)
    effects = [row for row in variance_effects(design, fit)[0] if not math.isnan(row.percent)]
    out = []
    if has_scale_effects(design):
        ranges, _ = variance_ranges(design, fit)
        group = ranges[0].group
        out.append(_opening(group, tests[0] if tests else None))
        out += [f"{text}." for text in _ranges_words(ranges)]
    for row in effects:
        sure = row.percent_low > 0.0 or row.percent_high < 0.0
        way = "larger" if row.percent >= 0.0 else "smaller"
        said = (
            f"Per unit of {row.term} the {quantity} is {abs(row.percent):.1f}% {way} (95% interval"
            f" {row.percent_low:+.1f}% to {row.percent_high:+.1f}%)"
        )
        out.append(f"{said}." if sure else f"{said}, which may be chance.")
    if tests and tests[1] is not None:
        out += _together(fit, design, tests[1])
    out += _unusual(clusters, design)
    return " ".join(out)


def _opening(group: str, test: RandomScaleTest | None) -> str:
    start = (
        f"Clusters of {group} can differ not only in their level but in how much their rows vary"
    )
    if test is None:
        return f"{start}."
    verdict = "they do" if test.p_value < 0.05 else "these data do not show that they do"
    return (
        f"{start}: {verdict} (likelihood-ratio test of the random scale effect, -2 delta LL ="
        f" {test.statistic:.1f}, {p_words(test.p_value)})."
    )


def _together(
    fit: GeneralizedFit, design: GeneralizedDesign, test: ScaleCorrelationTest
) -> list[str]:
    """Whether level and spread go together, by the likelihood-ratio test."""
    found = [r for r in scale_correlations(design, fit)[0]
             if r.group == test.group and math.isfinite(r.estimate)]  # fmt: skip
    if not found:
        return []
    row = found[0]
    way = "vary more" if (row.estimate > 0.0) != is_precision(design) else "are more even"
    sure = "" if test.p_value < 0.05 else ", which may be chance"
    who = "higher mean" if row.with_term == "(Intercept)" else f"larger effect of {row.with_term}"
    return [
        f"Clusters with a {who} {way} (correlation {row.estimate:.2f},"
        f" {p_words(test.p_value)}){sure}."
    ]


def _unusual(clusters: tuple[ClusterVariance, ...], design: GeneralizedDesign) -> list[str]:
    """The most and least variable clusters whose intervals leave the average out."""
    marked = [one for one in clusters if one.is_unusual]
    if not clusters:
        return []
    if not marked:
        return ["No single cluster is shown to differ from the average in its variability."]
    more = [one for one in marked if one.ratio > 1.0][:_NAMED]
    less = [one for one in reversed(marked) if one.ratio < 1.0][:_NAMED]
    first, last = "most variable", "most even"
    if is_precision(design):  # a larger precision is less variance
        first, last = last, first
    parts = [f"{len(marked)} of {len(clusters)} clusters stand out"]
    if more:
        listed = join_words([f"{one.level} ({one.ratio:.2f} times)" for one in more])
        parts.append(f"{first}: {listed}")
    if less:
        listed = join_words([f"{one.level} ({one.ratio:.2f} times)" for one in less])
        parts.append(f"{last}: {listed}")
    what = quantity_of(design).replace("residual variance", "variance")
    return ["; ".join(parts) + f" the {what} that is expected of them (shrunken estimates)."]


def variability_json(fit: GeneralizedFit, design: GeneralizedDesign) -> dict[str, Any]:
    """Effects on the variance, ranges and correlations under stable keys."""
    plain = [
        {k: plain_number(v) if isinstance(v, float) else v for k, v in vars(row).items()}
        for row in variance_effects(design, fit)[0]
    ]
    if not has_scale_effects(design):
        return {"quantity": quantity_of(design), "effects": plain}
    rest = [
        [
            {k: plain_number(v) if isinstance(v, float) else v for k, v in vars(row).items()}
            for row in found
        ]
        for found in (variance_ranges(design, fit)[0], scale_correlations(design, fit)[0])
    ]
    return {
        "quantity": quantity_of(design), "effects": plain, "ranges": rest[0],
        "correlations": rest[1],
    }  # fmt: skip
