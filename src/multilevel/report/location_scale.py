"""What the summary of a location-scale model adds: how clusters differ in their variability."""

from __future__ import annotations

from multilevel.design.generalized import GeneralizedDesign
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.interpret.location_scale.effects import (
    has_scale_effects,
    scale_correlations,
    variance_ranges,
)
from multilevel.report.layout import Section

HEADING = "Variability across clusters"


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
