"""Advice on the optimum: not certified, or on the boundary of the parameter space."""

from __future__ import annotations

from multilevel.design.records import Design, RandomBlock
from multilevel.estimate.records import Fit
from multilevel.interpret.advice.columns import INTERCEPT
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.variance import variance_components

#: Correlations beyond this are read as 1 or -1.
TIED = 0.99


def about_certificate(fit: Fit) -> list[Advice]:
    """Mistake 27: estimates that are not shown to be the optimum."""
    if fit.certificate.is_certified:
        return []
    return [
        Advice(
            "not_certified",
            "error",
            f"The estimates are not shown to be the optimum. {fit.certificate.sentence}",
            "Rescale and centre the predictors, fit again, then take out random slopes one at a "
            "time, smallest variance first.",
        )
    ]


def about_boundary(design: Design, fit: Fit) -> list[Advice]:
    """Mistake 26: variances of zero and correlations of 1 or -1."""
    out: list[Advice] = []
    redundant: dict[str, list[str]] = {}
    for direction in fit.certificate.redundant:
        redundant.setdefault(direction.group, []).append(direction.sentence)
    tied = {
        c.group: c
        for c in variance_components(design, fit)
        if c.term2 and abs(c.correlation) > TIED
    }
    for block in design.blocks:
        if block.group in redundant:
            out.append(
                Advice(
                    "boundary",
                    "warning",
                    " ".join(redundant[block.group]),
                    _simplify(block),
                )
            )
        elif block.group in tied:
            pair = tied[block.group]
            out.append(
                Advice(
                    "boundary",
                    "warning",
                    f"The random effects of {pair.term} and {pair.term2} over {block.group} "
                    f"correlate {pair.correlation:.3f}: the data do not tell them apart.",
                    _simplify(block),
                )
            )
    return out


def _simplify(block: RandomBlock) -> str:
    if len(block.names) == 1:
        return (
            f"The term may stay if {block.group} belongs to the sampling design; without it the "
            "fit is the same."
        )
    if any(structure == "unstructured" for _, _, structure in block.structure.terms):
        columns = " + ".join("1" if name == INTERCEPT else name for name in block.names)
        return (
            f"Simplify one step at a time: first ({columns} || {block.group}), then without the "
            "random slope of the smallest variance. Do not report a correlation of 1 or -1."
        )
    return "Take out the random effect whose variance is zero."
