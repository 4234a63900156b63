"""All checks of one fit, in order of severity.

The numbers in the functions' texts are those of the list of mistakes in the docs.
"""

from __future__ import annotations

from multilevel.design.records import Design
from multilevel.design.related import is_related
from multilevel.estimate.records import Fit
from multilevel.interpret.advice.between import about_between
from multilevel.interpret.advice.centring import (
    about_predictors,
    about_random_slopes,
    about_scales,
)
from multilevel.interpret.advice.clusters import about_numbers, about_sizes
from multilevel.interpret.advice.deviations import about_deviations
from multilevel.interpret.advice.ids import about_ids
from multilevel.interpret.advice.interactions import about_products
from multilevel.interpret.advice.means import (
    about_contextual,
    about_reliability,
    about_rows_of_means,
    about_standardised,
)
from multilevel.interpret.advice.optimum import about_boundary, about_certificate
from multilevel.interpret.advice.record import SEVERITIES, Advice
from multilevel.interpret.advice.residuals import about_residuals


def advise(design: Design, fit: Fit) -> tuple[Advice, ...]:
    """Run every check that the design and the fit alone can decide.

    Parameters
    ----------
    design, fit : the design and its fit.

    Returns
    -------
    Pieces of advice, errors first, then warnings, then notes; empty if nothing was found.
    A check that fires states what it saw, in numbers; none of them guesses at intentions.
    """
    if is_related(design.blocks):  # the others know rows with one level, and independent levels
        return tuple(sorted(
            [*about_certificate(fit), *about_boundary(design, fit), *about_scales(design)],
            key=lambda advice: SEVERITIES.index(advice.severity),
        ))  # fmt: skip
    found = [
        *about_certificate(fit),
        *about_boundary(design, fit),
        *about_predictors(design),
        *about_random_slopes(design),
        *about_sizes(design),
        *about_numbers(design),
        *about_scales(design),
        *about_deviations(design),
        *about_contextual(design, fit),
        *about_reliability(design),
        *about_rows_of_means(design),
        *about_standardised(design),
        *about_products(design),
        *about_ids(design),
        *about_residuals(design, fit),
        *about_between(design, fit),
    ]
    return tuple(sorted(found, key=lambda advice: SEVERITIES.index(advice.severity)))
