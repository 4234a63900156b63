"""Exponentials of coefficients: odds ratios, rate ratios and the like, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from multilevel.design.generalized import GeneralizedDesign
from multilevel.infer.means_tests import RowTest
from multilevel.interpret.variance import INTERCEPT
from multilevel.report.generalized.words import ratio_of
from multilevel.report.layout import Grid, Section, decimals_for, number

_LARGEST = 700.0


def exponential(value: float) -> float:
    """``exp(value)``; infinite instead of an overflow."""
    return math.exp(value) if value < _LARGEST else math.inf


def ratio_section(
    design: GeneralizedDesign, part: int, rows: Sequence[RowTest], conf_level: float = 0.95
) -> Section:
    """Ratios of one part; empty where its link has none or it has no predictor.

    Limits are exp of the limits of the coefficients. The intercept is no ratio and is left out.
    """
    ratio = ratio_of(design, part)
    slopes = [row for row in rows if row.term != INTERCEPT]
    if ratio is None or not slopes:
        return Section("")
    cells = [[exponential(v) for v in (r.estimate, r.conf_low, r.conf_high)] for r in slopes]
    places = min(3, decimals_for([values[0] for values in cells], 3))
    body = tuple(
        (row.term, *(number(v, places) for v in values))
        for row, values in zip(slopes, cells, strict=True)
    )
    header = ("Term", ratio.name, f"{100 * conf_level:g}% low", "high")
    equal = "other predictors and the random effects" if design.blocks else "other predictors"
    note = (
        f"exp(estimate): the factor for {ratio.meaning} where the predictor is one unit higher,"
        f" {equal} equal."
    )
    return Section(ratio.plural, grid=Grid(header, body), sentences=(note,))
