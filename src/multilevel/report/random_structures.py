"""Structured random effects in print: a table of their parameters, and the structure in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.design.records import RandomBlock
from multilevel.design.structured_terms import occasions
from multilevel.interpret.random_structures import StructureParameter
from multilevel.model.covariance.curves import Curve
from multilevel.report.layout import Grid, Section, number
from multilevel.report.symbols import Equation, Symbol, Term

_WORDS = {
    "ar1": "autoregressive, correlation rho^h of occasions h steps apart",
    "arh1": "autoregressive, correlation rho^h of occasions h steps apart, own variances",
    "arma11": "autoregressive and moving average of first order",
    "toep": "a correlation for each number of steps apart (Toeplitz)",
    "toeph": "a correlation for each number of steps apart (Toeplitz), own variances",
    "csh": "one correlation, own variances",
    "car1": "autoregressive in continuous time, correlation phi^d at distance d",
    "exp": "exponential decay, correlation exp(-d/range) at distance d",
    "gau": "Gaussian decay, correlation exp(-(d/range)^2) at distance d",
    "sph": "spherical decay, no correlation beyond the range",
    "fa": "common factors and own (unique) variances",
    "rr": "common factors only (reduced rank)",
}


def structure_words(curve: Curve) -> str:
    """The structure of one term in words, with the number of its effects."""
    words = _WORDS[curve.structure]
    if curve.structure in ("toep", "toeph") and curve.order:
        words += f", zero beyond {curve.order} steps"
    if curve.structure in ("fa", "rr"):
        words = f"{curve.order} {words}".replace("1 common factors", "1 common factor")
    step = ""
    if np.isfinite(curve.step) and curve.step != 1.0:
        step = f"; one step is {curve.step:g}"
    return f"{words}; {curve.width} effects{step}"


def structure_sections(found: Sequence[StructureParameter]) -> list[Section]:
    """A section of the parameters; none without structured terms."""
    if not found:
        return []
    body, before = [], ("", "")
    for p in found:
        here = (p.group, p.term)
        label = here if here != before else ("", "")
        before = here
        limits = (
            "" if not np.isfinite(p.conf_low) else f"[{_cell(p.conf_low)}, {_cell(p.conf_high)}]"
        )
        name = p.parameter if p.kind == "correlation" else f"{p.kind}: {p.parameter}"
        name = p.parameter if p.parameter == p.kind else name
        error = _cell(p.std_error) if np.isfinite(p.std_error) else ""
        body.append((*label, name, _cell(p.estimate), error, limits))
    header = ("Group", "Term", "Parameter", "Estimate", "Std. error", "95% interval")
    notes = ("Wald intervals, symmetric on the unconstrained scale.",)
    return [
        Section(
            "Structure of the random effects", grid=Grid(header, tuple(body), 3), sentences=notes
        )
    ]


def _cell(value: float) -> str:
    return number(value, 3)


def occasion_terms(blocks: Sequence[RandomBlock]) -> list[Term]:
    """One symbol for each structure in time: the effect of a level at the time of the row."""
    return [
        (Symbol("U", stem, block.group),)
        for block in blocks
        for stem in dict.fromkeys(occasions(block).values())
    ]


def with_occasions(found: tuple[Equation, ...], terms: Sequence[Term]) -> tuple[Equation, ...]:
    """Equations with these terms before the residual of the first one."""
    first, *others = found
    has_residual = bool(first.right) and first.right[-1][0].name == "e"
    at = len(first.right) - (1 if has_residual else 0)
    right = (*first.right[:at], *terms, *first.right[at:])
    signs = first.signs and (*first.signs[:at], *("+" for _ in terms), *first.signs[at:])
    return (replace(first, right=right, signs=signs), *others)


def occasion_note(blocks: Sequence[RandomBlock]) -> str:
    """What these symbols stand for, after a semicolon; empty without any."""
    return "".join(
        f"; {term[0].text}: effect of the {term[0].of} at the {term[0].index} of the row"
        for term in occasion_terms(blocks)
    )


def structured_words(block: RandomBlock) -> list[str]:
    """Effects by occasion with their structures, for a methods section."""
    out = []
    for k, (start, _, _) in enumerate(block.structure.terms):
        curve = block.structure.curve(k)
        if curve is not None and start in occasions(block):
            out.append(f"effects by {curve.stem} ({structure_words(curve)})")
    return out
