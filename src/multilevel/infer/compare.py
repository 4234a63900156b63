"""Comparisons of fitted models: likelihood-ratio tests and information criteria.

Refused with a reason: REML fits with different model for the means, other rows, responses,
weights or offsets, a likelihood that falls when parameters are added; some may be lifted by name
(``ALLOWABLE``), then without a test. Models that are not nested get AIC and BIC only.
Sources: Snijders & Bosker 2012, section 6.2; Stram & Lee 1994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated
from multilevel.estimate.prepare import Prepared, prepare, with_method
from multilevel.infer.compare_conditional import ConditionalAic, conditional_aic
from multilevel.infer.compare_distribution import null_distribution
from multilevel.infer.compare_nesting import (
    Nesting,
    column_space_within,
    random_nesting,
    same_column_space,
)
from multilevel.infer.compare_reduce import take_rows
from multilevel.infer.compare_residual import refuse_row_refits, residual_relation, structured_by_ml
from multilevel.infer.conventions import InformationCriteria, Program, information_criteria
from multilevel.infer.distributions import chi_square_tail

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
#: Refusals that a caller may lift by name: the models are listed, but not tested.
OTHER_MEANS = "reml_with_other_means"
OTHER_ROWS = "other_rows"
FALLING = "falling_likelihood"
ALLOWABLE = (OTHER_MEANS, OTHER_ROWS, FALLING)
SIGNIFICANT = 0.05
ROUNDING = 1e-4


@dataclass(frozen=True)
class Candidate:
    """One model of a comparison: what to call it, its problem and its fit."""

    label: str
    prepared: Prepared
    fit: Fit

    @property
    def design(self) -> Design:
        """The arrays that were analysed."""
        return self.prepared.design

    @property
    def text(self) -> str:
        """The model in words."""
        return self.design.model.text


@dataclass(frozen=True)
class LikelihoodRatio:
    """One test of a model against the next larger.

    Attributes
    ----------
    fewer, more : labels of the two models.
    statistic : -2 delta LL (NaN if the models are not nested).
    df : parameters more.
    p_naive : from chi2(df).
    p_value : from the right null distribution.
    distribution : that distribution in words.
    sentence : the verdict.
    """

    fewer: str
    more: str
    statistic: float
    df: int
    p_naive: float
    p_value: float
    distribution: str
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Models ordered by their number of parameters, each tested against the one before.

    Attributes
    ----------
    candidates : the models, fewest parameters first (refitted ones if a refit was asked for).
    criteria, conditional : information criteria, one per model.
    tests : one per model but the first.
    notes : what was done to make them comparable.
    """

    candidates: tuple[Candidate, ...]
    criteria: tuple[InformationCriteria, ...]
    conditional: tuple[ConditionalAic, ...]
    tests: tuple[LikelihoodRatio, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All verdicts, one after the other."""
        return " ".join([*(t.sentence for t in self.tests), *self.notes])


def compare_fits(
    candidates: Sequence[Candidate],
    rng: np.random.Generator,
    *,
    program: Program = "ours",
    refit: bool = False,
    allow: Sequence[str] = (),
) -> Comparison:
    """Compare two or more fits of the same rows.

    Parameters
    ----------
    candidates : in any order; they are ordered by their number of parameters.
    rng : used only where the null distribution has no closed form.
    program : whose rules AIC and BIC follow.
    refit : make the models comparable: by ML if the model for the means differs, on the rows that
        all of them have.
    allow : names of refusals to lift (``ALLOWABLE``); what they concern is listed, not tested.

    Raises
    ------
    InferenceError : models that cannot be compared, with the reason and the remedy.
    """
    if len(candidates) < 2:
        raise InferenceError(
            "A comparison needs at least two models.", f"{len(candidates)}", "pass another fit"
        )
    allowed = check_allowed(allow)
    models, notes = _on_same_rows(list(candidates), refit, allowed)
    _check_same_data(models)
    models, more = _by_same_method(models, refit, allowed)
    models.sort(key=lambda c: c.fit.n_parameters)
    tests = tuple(_test(a, b, rng, allowed) for a, b in pairwise(models))
    criteria = tuple(information_criteria(c.design, c.fit, program) for c in models)
    conditional = tuple(
        conditional_aic(c.prepared, evaluated(c.prepared, c.fit), c.fit) for c in models
    )
    notes = [*notes, *more, criteria[0].sentence, conditional[0].sentence]
    return Comparison(tuple(models), criteria, conditional, tests, tuple(notes))


def check_allowed(allow: Sequence[str]) -> tuple[str, ...]:
    """Return the names in ``allow`` as a tuple, or raise ``InferenceError`` for an unknown one."""
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    for name in names:
        if name not in ALLOWABLE:
            raise InferenceError(
                f"allow may name {', '.join(map(repr, ALLOWABLE))}.",
                f"allow={name!r}",
                "leave it out",
            )
    return names


def _same_rows(one: Candidate, two: Candidate) -> bool:
    return np.array_equal(one.design.rows.kept, two.design.rows.kept)


def _comparable_means(one: Candidate, two: Candidate) -> bool:
    """Whether two criteria of the same rows are likelihoods of the same data."""
    if one.fit.method != two.fit.method:
        return False
    return one.fit.method == "ml" or same_column_space(one.design.X, two.design.X)


def _on_same_rows(
    models: list[Candidate], refit: bool, allow: tuple[str, ...]
) -> tuple[list[Candidate], list[str]]:
    first = models[0]
    if len({c.design.rows.n_table for c in models}) > 1:
        raise InferenceError(
            "Models must be fitted to the same table.",
            "tables of " + ", ".join(f"{c.design.rows.n_table} rows ({c.label})" for c in models),
            "fit all models to the same table",
        )
    kept = [c.design.rows.kept for c in models]
    if all(_same_rows(c, first) for c in models) or (OTHER_ROWS in allow and not refit):
        return models, []
    common = kept[0]
    for k in kept[1:]:
        common = np.intersect1d(common, k)
    lost = [np.setdiff1d(k, common) for k in kept]
    if not refit:
        which = []
        for c, rows in zip(models, lost, strict=True):
            if len(rows):
                shown = ", ".join(str(int(r)) for r in rows[:5]) + ("..." if len(rows) > 5 else "")
                which.append(f"{c.label} has {len(rows)} row(s) that others lack (rows {shown})")
        raise InferenceError(
            "Models must be fitted to the same rows; the likelihoods of other rows cannot be "
            "compared.",
            "; ".join(which),
            "pass refit=True to refit all models on the "
            f"{len(common)} rows they share, or drop these rows before fitting; "
            f'allow=("{OTHER_ROWS}",) lists the models without a test',
        )
    refuse_row_refits([c.design for c in models])
    out = []
    for c, k in zip(models, kept, strict=True):
        where = np.flatnonzero(np.isin(k, common))
        prepared = prepare(take_rows(c.design, where), method=c.prepared.method)
        out.append(replace(c, prepared=prepared, fit=solve(prepared)))
    note = f"All models were refitted on the {len(common)} rows they share."
    return out, [note]


def _check_same_data(models: list[Candidate]) -> None:
    for first, other in combinations(models, 2):
        if not _same_rows(first, other):
            continue
        for what, a, b in (
            ("response", first.design.y, other.design.y),
            ("precision weights", first.design.weights, other.design.weights),
            ("offset", first.design.offset, other.design.offset),
        ):
            same = a is b or (a is not None and b is not None and np.array_equal(a, b))
            if not same:
                raise InferenceError(
                    f"Models must have the same {what}.",
                    f"{first.label} and {other.label} differ in it",
                    f"fit both models with the same {what}",
                )


def _by_same_method(
    models: list[Candidate], refit: bool, allow: tuple[str, ...]
) -> tuple[list[Candidate], list[str]]:
    """All by ML, or all by REML with one column space of the fixed effects."""
    methods = {c.fit.method for c in models}
    first = models[0]
    if methods == {"ml"}:
        return models, []
    same = all(_comparable_means(c, first) for c in models[1:] if _same_rows(c, first))
    if same or (OTHER_MEANS in allow and not refit):
        return models, []
    if not refit:
        if len(methods) > 1:
            must = "Models must be fitted by the same method."
            found = ", ".join(f"{c.label} by {c.fit.method.upper()}" for c in models)
        else:
            must = (
                "REML criteria may be compared only between models with the same fixed effects: "
                "each is the likelihood of what its own fixed effects leave over."
            )
            found = "models for the means that span different columns"
        raise InferenceError(
            must,
            found,
            "pass refit=True to refit all models by ML, or use Wald tests; "
            f'allow=("{OTHER_MEANS}",) lists the models without a test',
        )
    return [_by_ml(c) for c in models], ["All models were refitted by ML."]


def _by_ml(c: Candidate) -> Candidate:
    if c.fit.method == "ml":
        return c
    if c.fit.residual is not None:
        prepared, fit = structured_by_ml(c.design, c.fit)
        return replace(c, prepared=prepared, fit=fit)
    prepared = with_method(c.prepared, "ml")
    model = replace(prepared.design.model, method="ml")
    prepared = replace(prepared, design=replace(prepared.design, model=model))
    return replace(c, prepared=prepared, fit=solve(prepared, theta_start=c.fit.theta))


def _basis_shift(small: Candidate, large: Candidate) -> float:
    """REML: what the choice of columns for one space adds to the larger model's criterion."""
    X0, X1 = small.design.X, large.design.X
    if small.fit.method == "ml" or X0.shape[1] == 0 or np.array_equal(X0, X1):
        return 0.0
    C = np.linalg.lstsq(X0, X1, rcond=None)[0]
    return 2.0 * float(np.linalg.slogdet(C)[1])


def _nesting(small: Candidate, large: Candidate) -> Nesting | None:
    if not column_space_within(small.design.X, large.design.X):
        return None
    relation = residual_relation(small.design, large.design)
    if relation == "other":
        return None
    nesting = random_nesting(small.design, large.design)
    structured = large.design.residual is not None
    if structured and nesting is not None and nesting.n_new_variances > 1:
        return None  # the weights of the mixture are not derived for structured residuals
    return nesting


def _untested(small: Candidate, large: Candidate, why: str, words: str) -> LikelihoodRatio:
    """A pair without a test, and the reason."""
    df = large.fit.n_parameters - small.fit.n_parameters
    nan = float("nan")
    return LikelihoodRatio(small.label, large.label, nan, df, nan, nan, words, why)


def _test(
    small: Candidate, large: Candidate, rng: np.random.Generator, allow: tuple[str, ...]
) -> LikelihoodRatio:
    """Test one model against a larger one."""
    df = large.fit.n_parameters - small.fit.n_parameters
    pair = f"{small.label} and {large.label}"
    if not _same_rows(small, large):
        why = f"{pair} have other rows: no test, and AIC and BIC may not be compared."
        return _untested(small, large, why, "other rows")
    if not _comparable_means(small, large):
        why = (
            f"{pair} differ in the method or, under REML, in their fixed effects: no test, and "
            "AIC and BIC may not be compared."
        )
        return _untested(small, large, why, "other criterion")
    statistic = small.fit.criterion - (large.fit.criterion - _basis_shift(small, large))
    nesting = _nesting(small, large) if df > 0 else None
    if nesting is None:
        why = (
            f"{pair} have the same number of parameters"
            if df == 0
            else f"{small.label} is not a special case of {large.label} with a known distribution"
            if large.design.residual is not None
            else f"{small.label} is not a special case of {large.label}"
        )
        text = f"{why}: no likelihood-ratio test, compare AIC and BIC (smaller is better)."
        return _untested(small, large, text, "not nested")
    noise = small.fit.certificate.monte_carlo_error + large.fit.certificate.monte_carlo_error
    limit = ROUNDING + 1e-10 * abs(small.fit.criterion) + 3.0 * noise
    if statistic < -limit:
        return _falling(small, large, statistic, allow)
    statistic = max(statistic, 0.0)
    null = null_distribution(small.fit, large.prepared, nesting, df, rng)
    naive, right = float(chi_square_tail(statistic, df)), null.p_value(statistic)
    text = _sentence(small, large, statistic, df, naive, right, null.sentence, nesting)
    return LikelihoodRatio(
        small.label, large.label, statistic, df, naive, right, null.sentence, text
    )


def _falling(
    small: Candidate, large: Candidate, statistic: float, allow: tuple[str, ...]
) -> LikelihoodRatio:
    """A likelihood that falls when parameters are added: refused unless allowed by name."""
    found = (
        f"-2 delta LL = {statistic:.4g} from {small.label} to {large.label}: at least one of "
        "them is not at its optimum"
    )
    if FALLING not in allow:
        raise InferenceError(
            "Adding parameters cannot make the likelihood smaller.",
            found,
            "look at the certificate of each fit and fit again; "
            f'allow=("{FALLING}",) lists the models without a test',
        )
    return _untested(small, large, f"{found}: no test.", "not at the optimum")


def shown_p(p: float) -> str:
    """``p = .032`` or ``p < .001``."""
    return "p < .001" if p < 0.0005 else f"p = {p:.3f}".replace("0.", ".", 1)


def _sentence(
    small: Candidate,
    large: Candidate,
    statistic: float,
    df: int,
    naive: float,
    right: float,
    distribution: str,
    nesting: Nesting,
) -> str:
    verdict = (
        "significantly improved fit"
        if right < SIGNIFICANT
        else ("did not significantly improve fit")
    )
    one_sided = nesting.n_new_variances > 0
    what = "parameter" if df == 1 else "parameters"
    text = (
        f"Adding {df} {what} ({large.label} over {small.label}) {verdict}: "
        f"-2 delta LL({df}) = {statistic:.2f}, {shown_p(right)}"
    )
    if one_sided:
        text += f" by the {distribution}; the naive chi2({df}) gives {shown_p(naive)}, conservative"
    return text + "."
