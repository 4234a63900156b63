"""The verdict on measurement invariance in words: how far it holds, and what breaks it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural_fit import FitMeasures
from multilevel.infer.structural_invariance import ConstraintTest, InvarianceTest
from multilevel.interpret.structural import inadmissible
from multilevel.model.structural.invariance import InvarianceStep

_CFI = 0.01  # Cheung & Rensvold 2002 (Struct. Equ. Modeling 9:233)
_MEANING = {
    ("levels", "configural"): "the latent variables of the two levels have different units, so that"
    " their variances cannot be compared and no intraclass correlation of them exists",
    ("levels", "weak"): "the latent variables have one unit at both levels, so that their variances"
    " may be compared (an intraclass correlation); some items differ between clusters for other"
    " reasons than the latent variables (cluster bias)",
    ("levels", "strong"): "the items differ between clusters because of the latent variables only",
    ("groups", "configural"): "neither slopes nor means of the latent variables can be compared"
    " across groups",
    ("groups", "weak"): "slopes and covariances of the latent variables may be compared across"
    " groups, their means may not",
    ("groups", "strong"): "means of the latent variables may be compared across groups",
    ("groups", "strict"): "means may be compared, and sums of the items too: they are equally"
    " reliable in all groups",
}


def highest_step(tests: Sequence[InvarianceTest]) -> str:
    """The last step that is not worse than the one before it, with all steps before it."""
    name = "configural"
    for test in tests:
        if not test.holds:
            break
        name = test.step
    return name


def invariance_sentences(
    kind: str,
    steps: Sequence[InvarianceStep],
    measures: Sequence[FitMeasures],
    tests: Sequence[InvarianceTest],
    faults: dict[str, tuple[ConstraintTest, ...]],
    alpha: float,
) -> tuple[str, ...]:
    """The verdict, its meaning, what is at fault, and what to beware of.

    Parameters
    ----------
    kind : ``"levels"`` or ``"groups"``.
    faults : score tests of the constraints of each step, largest first.
    """
    highest = highest_step(tests)
    words: dict[str, str] = {s.name: s.words for s in steps}
    place = list(words).index(highest)
    known = words[highest]
    out = [f"{highest.capitalize()} invariance across {kind} is the highest that holds ({known}):"
           f" {_MEANING[kind, highest]}."]  # fmt: skip
    if place < len(tests):
        out.append(_broken(tests[place], faults.get(tests[place].step, ()), words, alpha))
    if place and abs(tests[place - 1].change_cfi) > _CFI:
        out.append(
            f"CFI falls by {-tests[place - 1].change_cfi:.3f} at the {highest} step, more than the"
            f" {_CFI:g} that Cheung & Rensvold (2002) allow: few data may hide a difference."
        )
    first = measures[0]
    if first.model.df > 0 and (first.cfi < 0.90 or first.rmsea > 0.08):
        out.insert(
            0,
            f"The configural model itself fits badly (CFI {first.cfi:.3f}, RMSEA"
            f" {first.rmsea:.3f}): mend the definition of the latent variables first; the tests"
            " below compare models that are wrong.",
        )
    elif first.model.df == 0:
        out.append("The configural model is saturated, so that its own fit cannot be tested.")
    return tuple(out)


def below_zero(problem: StructuralProblem, fit: StructuralFit) -> tuple[str, ...]:
    """What no population can have, the negative variances of a step in one sentence."""
    negative = [
        p for p in fit.model.parameters
        if p.is_variance and p.is_free and fit.theta[p.free] < 0.0
    ]  # fmt: skip
    if not negative:
        return inadmissible(problem, fit)
    many = len(fit.model.groups) > 1
    names = [
        f"{p.lhs} ({fit.model.level_name(p.level)}{f', {fit.model.groups[p.group]}' * many}:"
        f" {fit.theta[p.free]:.2g})"
        for p in negative
    ]
    return (
        f"variances estimated below zero, which no population has: {', '.join(names)}. Where they"
        " are small they may be zero; where not, the model may be wrong.",
    )


def _broken(
    test: InvarianceTest,
    faults: Sequence[ConstraintTest],
    words: dict[str, str],
    alpha: float,
) -> str:
    """Which step fails, by how much, and the parameter most at fault."""
    if not np.isfinite(test.p_value):
        return (
            f"The {test.step} step ({words[test.step]}) could not be tested: its scaled statistic"
            ' does not exist here. Use std_errors="observed" for the unscaled test.'
        )
    p = "< .001" if test.p_value < 0.001 else f"= {test.p_value:.3f}"
    text = (
        f"The {test.step} step ({words[test.step]}) fits worse than the {test.against} one:"
        f" chi-square({test.df}) = {test.statistic:.2f}, p {p}"
    )
    text += f"; CFI changes by {test.change_cfi:+.3f}, RMSEA by {test.change_rmsea:+.3f}."
    if abs(test.change_cfi) <= _CFI:
        text += (
            f" The change of CFI is within the {_CFI:g} that Cheung & Rensvold (2002) let pass:"
            " with many rows a small difference is significant."
        )
    if faults and faults[0].p_value < alpha:
        worst = faults[0]
        where = ", ".join(x for x in (f"{worst.level} level" * bool(worst.level),
                                      f"group {worst.group}" * bool(worst.group)) if x)  # fmt: skip
        text += (
            f" Most at fault: {worst.parameter}{f' ({where})' if where else ''}, score test"
            f" chi-square(1) = {worst.statistic:.2f}, expected change {worst.expected_change:+.3f}."
            f" To leave it free, write free=[{worst.parameter!r}]."
        )
    return text
