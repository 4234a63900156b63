"""Comparisons of generalized fits: likelihood-ratio tests and information criteria.

Refused with a reason: other rows, responses, events or weights; other approximations of the
likelihood (a refit is offered); penalised fits; a likelihood that falls when parameters are added.
Models that are not nested get AIC and BIC only. Sources: Self & Liang 1987; Stram & Lee 1994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared, prepare_generalized
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.generalized.solve import solve_generalized
from multilevel.infer.compare import (
    FALLING,
    OTHER_ROWS,
    ROUNDING,
    SIGNIFICANT,
    LikelihoodRatio,
    check_allowed,
    shown_p,
)
from multilevel.infer.conventions import InformationCriteria, Program, information_criteria
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.generalized.compare_distribution import outcome_null
from multilevel.infer.generalized.compare_nesting import OutcomeNesting, outcome_nesting
from multilevel.infer.generalized.compare_reduce import take_outcome_rows
from multilevel.infer.generalized.draws import start_from
from multilevel.infer.generalized.effects import is_nested_chain, with_blocks
from multilevel.infer.mixture import NullDistribution

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OutcomeCandidate:
    """One generalized model of a comparison: what to call it, its problem and its fit."""

    label: str
    prepared: GeneralizedPrepared
    fit: GeneralizedFit

    @property
    def design(self) -> GeneralizedDesign:
        """The arrays that were analysed."""
        return self.prepared.design

    @property
    def text(self) -> str:
        """The model in words."""
        return f"{self.design.mean.model.text} [{self.design.family.label}]"


@dataclass(frozen=True)
class OutcomeComparison:
    """Models ordered by their number of parameters, each tested against the one before.

    Attributes
    ----------
    candidates : the models, fewest parameters first.
    criteria : information criteria, one per model.
    tests : one per model but the first.
    notes : what was done, whose rules were followed.
    """

    candidates: tuple[OutcomeCandidate, ...]
    criteria: tuple[InformationCriteria, ...]
    tests: tuple[LikelihoodRatio, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All verdicts, one after the other."""
        return " ".join([*(t.sentence for t in self.tests), *self.notes])


@dataclass(frozen=True)
class _Counted:
    """What information criteria need of a fit."""

    n: int
    n_parameters: int
    n_fixed: int
    criterion: float
    method: str = "ml"


def compare_outcomes(
    candidates: Sequence[OutcomeCandidate],
    rng: np.random.Generator,
    *,
    program: Program = "ours",
    refit: bool = False,
    allow: Sequence[str] = (),
) -> OutcomeComparison:
    """Compare two or more generalized fits of the same rows.

    Parameters
    ----------
    candidates : in any order; they are ordered by their number of parameters.
    rng : used only where the null distribution has no closed form.
    program : whose rules AIC and BIC follow.
    refit : refit all models to the rows that all have, and by one approximation, where theirs
        differ.
    allow : names of refusals to lift (``infer.compare.ALLOWABLE``).

    Raises
    ------
    InferenceError : models that cannot be compared, with the reason and the remedy.
    """
    if len(candidates) < 2:
        raise InferenceError(
            "A comparison needs at least two models.", f"{len(candidates)}", "pass another fit"
        )
    allowed = check_allowed(allow)
    models = list(candidates)
    _check_penalties(models)
    shared: list[str] = []
    if refit and OTHER_ROWS not in allowed:
        models, shared = _on_common_rows(models)
    _check_rows(models, allowed)
    _check_data(models)
    models, notes = _by_same_approximation(models, refit)
    notes = [*shared, *notes]
    models.sort(key=lambda c: c.fit.n_parameters)
    tests = tuple(outcome_test(a, b, rng, allowed) for a, b in pairwise(models))
    criteria = tuple(outcome_criteria(c.design, c.fit, program) for c in models)
    notes = [*notes, _approximation_note(models), criteria[0].sentence]
    return OutcomeComparison(tuple(models), criteria, tests, tuple(notes))


def outcome_criteria(
    design: GeneralizedDesign, fit: GeneralizedFit, program: Program = "ours"
) -> InformationCriteria:
    """AIC, AICc and BIC by the rules of a program."""
    n, fixed = fit.n_observations, fit.fixed_slices[-1].stop
    counted = _Counted(n, fit.n_parameters, fixed, fit.criterion)
    return information_criteria(with_blocks(design), counted, program)


def _check_penalties(models: Sequence[OutcomeCandidate]) -> None:
    for c in models:
        if c.fit.penalty:
            raise InferenceError(
                "Penalised fits are not at the maximum of the likelihood: they cannot be compared.",
                f"{c.label}: {c.fit.penalty}",
                "fit without penalty=",
            )


def _check_rows(models: Sequence[OutcomeCandidate], allow: tuple[str, ...]) -> None:
    first = models[0].design.mean.rows
    for c in models[1:]:
        rows = c.design.mean.rows
        if rows.n_table != first.n_table:
            raise InferenceError(
                "Models must be fitted to the same table.",
                f"{models[0].label} has {first.n_table} rows, {c.label} has {rows.n_table}",
                "fit all models to the same table",
            )
        if np.array_equal(rows.kept, first.kept) or OTHER_ROWS in allow:
            continue
        only = np.setxor1d(rows.kept, first.kept)
        shown = ", ".join(str(int(r)) for r in only[:5]) + ("..." if len(only) > 5 else "")
        raise InferenceError(
            "Models must be fitted to the same rows; the likelihoods of other rows cannot be "
            "compared.",
            f"{len(only)} row(s) are in one of {models[0].label} and {c.label} only (rows {shown})",
            "pass refit=True to refit all models to the rows that all have; "
            f'allow=("{OTHER_ROWS}",) lists the models without a test',
        )


def _on_common_rows(
    models: list[OutcomeCandidate],
) -> tuple[list[OutcomeCandidate], list[str]]:
    """Refit the models that have rows which another lacks."""
    if len({c.design.mean.rows.n_table for c in models}) > 1:
        return models, []
    common = models[0].design.mean.rows.kept
    for c in models[1:]:
        common = np.intersect1d(common, c.design.mean.rows.kept)
    if not len(common):
        raise InferenceError(
            "The models must have rows in common.", "none", "compare models of the same rows"
        )
    out, changed = [], []
    for c in models:
        kept = c.design.mean.rows.kept
        if len(kept) == len(common):
            out.append(c)
            continue
        prepared = prepare_generalized(
            take_outcome_rows(c.design, np.flatnonzero(np.isin(kept, common)))
        )
        fit = solve_generalized(
            prepared,
            points=c.fit.approximation.points if prepared.problem.blocks else None,
            psi_start=start_from(prepared.problem, c.fit.psi),
            check=False,
        )
        out.append(OutcomeCandidate(c.label, prepared, fit))
        changed.append(f"{c.label} (of {len(kept)})")
    if not changed:
        return out, []
    return out, [f"Refitted to the {len(common)} rows that all models have: {', '.join(changed)}."]


def _same_rows(one: OutcomeCandidate, two: OutcomeCandidate) -> bool:
    return np.array_equal(one.design.mean.rows.kept, two.design.mean.rows.kept)


def _check_data(models: Sequence[OutcomeCandidate]) -> None:
    first = models[0]
    for c in (m for m in models[1:] if _same_rows(m, first)):
        a, b = first.design.response, c.design.response
        if a.categories != b.categories:
            raise InferenceError(
                "Models must have the same categories and the same event.",
                f"{first.label}: {', '.join(a.categories)}; {c.label}: {', '.join(b.categories)}",
                "use the same event= and categories= in both",
            )
        for what, x, y in (
            ("response", a.y, b.y),
            ("numbers of trials", a.trials, b.trials),
            ("upper bounds", a.upper, b.upper),
            ("frequency weights", first.design.frequency_weights, c.design.frequency_weights),
            ("precision weights", first.design.precision_weights, c.design.precision_weights),
        ):
            same = x is y or (x is not None and y is not None and np.array_equal(x, y))
            if not same:
                raise InferenceError(
                    f"Models must have the same {what}.",
                    f"{first.label} and {c.label} differ in it",
                    f"fit both models with the same {what}",
                )


def _points(c: OutcomeCandidate) -> set[int]:
    """Quadrature points of a model; empty where the likelihood is exact."""
    return set(c.fit.approximation.points) if c.prepared.problem.blocks else set()


def _by_same_approximation(
    models: list[OutcomeCandidate], refit: bool
) -> tuple[list[OutcomeCandidate], list[str]]:
    used = set().union(*(_points(c) for c in models))
    if len(used) <= 1:
        return models, []
    able = all(len(c.design.blocks) <= 2 and is_nested_chain(c.design.blocks) for c in models)
    target = max(used) if able else 1
    if not refit:
        shown = "; ".join(
            f"{c.label} by {c.fit.approximation.method} with "
            f"{' x '.join(map(str, c.fit.approximation.points))} points"
            for c in models
            if _points(c)
        )
        raise InferenceError(
            "Likelihoods must be computed by the same approximation.",
            shown,
            f"pass refit=True to refit all models with {target} point(s), or write the same "
            "n_quad= in every fit",
        )
    out = []
    for c in models:
        if not _points(c) or _points(c) == {target}:
            out.append(c)
            continue
        fit = solve_generalized(
            c.prepared,
            points=target,
            psi_start=start_from(c.prepared.problem, c.fit.psi),
            modes_start=c.fit.modes,
            check=False,
        )
        out.append(replace(c, fit=fit))
    how = "the Laplace approximation" if target == 1 else f"quadrature with {target} points"
    return out, [f"All models were refitted by {how}."]


def _approximation_note(models: Sequence[OutcomeCandidate]) -> str:
    used = set().union(*(_points(c) for c in models))
    if not used:
        return "Likelihoods are exact: there are no random effects."
    points = max(used)
    how = "the Laplace approximation" if points == 1 else f"quadrature with {points} points"
    return f"Likelihoods are computed by {how}."


def outcome_test(
    small: OutcomeCandidate,
    large: OutcomeCandidate,
    rng: np.random.Generator,
    allow: tuple[str, ...] = (),
) -> LikelihoodRatio:
    """Test one model against a larger one of the same rows and approximation.

    Raises
    ------
    InferenceError : a likelihood that falls when parameters are added, unless allowed.
    """
    df = large.fit.n_parameters - small.fit.n_parameters
    pair = f"{small.label} and {large.label}"
    if not _same_rows(small, large):
        why = f"{pair} have other rows: no test, and AIC and BIC may not be compared."
        return _untested(small, large, why, "other rows")
    nesting = outcome_nesting(small.design, large.design) if df > 0 else None
    if nesting is None:
        why = (
            f"{pair} have the same number of parameters"
            if df == 0
            else f"{small.label} is not a special case of {large.label} with a known distribution"
        )
        text = f"{why}: no likelihood-ratio test, compare AIC and BIC (smaller is better)."
        return _untested(small, large, text, "not nested")
    statistic = small.fit.criterion - large.fit.criterion
    if statistic < -(ROUNDING + 1e-10 * abs(small.fit.criterion)):
        found = (
            f"-2 delta LL = {statistic:.4g} from {small.label} to {large.label}: one of them is "
            "not at its optimum, or the approximation of the likelihood is too coarse"
        )
        if FALLING in allow:
            return _untested(small, large, f"{found}: no test.", "not at the optimum")
        raise InferenceError(
            "Adding parameters cannot make the likelihood smaller.",
            found,
            "look at the certificate of each fit, use more quadrature points (n_quad=); "
            f'allow=("{FALLING}",) lists the models without a test',
        )
    statistic = max(statistic, 0.0)
    null = outcome_null(large.prepared, large.fit, nesting, df, rng)
    naive, right = float(chi_square_tail(statistic, df)), null.p_value(statistic)
    text = _sentence(small, large, statistic, df, (naive, right), null, nesting)
    return LikelihoodRatio(
        small.label, large.label, statistic, df, naive, right, null.sentence, text
    )


def _untested(
    small: OutcomeCandidate, large: OutcomeCandidate, why: str, words: str
) -> LikelihoodRatio:
    df = large.fit.n_parameters - small.fit.n_parameters
    nan = float("nan")
    return LikelihoodRatio(small.label, large.label, nan, df, nan, nan, words, why)


def _sentence(
    small: OutcomeCandidate,
    large: OutcomeCandidate,
    statistic: float,
    df: int,
    p: tuple[float, float],
    null: NullDistribution,
    nesting: OutcomeNesting,
) -> str:
    better = "significantly improved fit" if p[1] < SIGNIFICANT else (
        "did not significantly improve fit")  # fmt: skip
    what = "parameter" if df == 1 else "parameters"
    text = (
        f"Adding {df} {what} ({large.label} over {small.label}) {better}: "
        f"-2 delta LL({df}) = {statistic:.2f}, {shown_p(p[1])}"
    )
    if nesting.n_one_sided:
        text += f" by the {null.sentence}"
        if p[0] != p[1]:
            text += f"; the naive chi2({df}) gives {shown_p(p[0])}, conservative"
    return text + "."
