"""Tests of whole terms of a generalized model, and its marginal means on either scale.

Responses: a marginal mean on the response scale is the inverse link of the mean on the link scale
(for families with several predictors, the expected response at those predictors), random effects at
zero, its standard error by the delta method. Intervals: where the response depends on one predictor
only, its value at the limits of the link scale; else symmetric for the log (positive responses) or
the logit (probabilities). Source: Searle, Speed & Milliken 1980; Lenth 2016, JSS 69:1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.anova import SENTENCES, TYPES, Anova, type2_rows, type3_rows
from multilevel.infer.degrees_of_freedom import DfMethod, method_sentence
from multilevel.infer.generalized.effects import Effects, effects_df, full_effects, part_effects
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.marginal_means import MeansGrid
from multilevel.infer.means_tests import check_level, critical_values, joint_test
from multilevel.infer.terms import Term, term_table
from multilevel.likelihood.generalized.row import OutcomeDistribution

Array = NDArray[np.float64]
STEP = 1e-5
MOVES = 1e-9  # slope of the response below which a predictor does not matter


def shared_parts(design: GeneralizedDesign, part: str) -> list[str]:
    """The parts that a formula's terms extend over: all categories of a nominal response."""
    names = [p.spec.name for p in design.parts]
    shared = [names[0], *(p.spec.name for p in design.parts[1:] if p.spec.argument == "formula")]
    return shared if part == names[0] else [part]


def chosen_effects(
    design: GeneralizedDesign, fit: GeneralizedFit, part: str | None, vcov: Array | None = None
) -> Effects:
    """The coefficients of a part; None: of the mean (of all categories for nominal responses)."""
    first = design.parts[0].spec.name
    parts = shared_parts(design, first) if part is None else [part]
    pieces = [part_effects(design, fit, name, vcov) for name in parts]
    return pieces[0] if len(pieces) == 1 else _stacked(design, fit, parts, pieces, vcov)


def anova_of_part(
    design: GeneralizedDesign,
    fit: GeneralizedFit,
    part: str,
    *,
    kind: int = 3,
    df: DfMethod = "none",
    vcov: Array | None = None,
    counted: float | None = None,
) -> Anova:
    """Wald tests of every term of the formula of a part (of all categories for nominal responses).

    Parameters
    ----------
    vcov : (P, P) another covariance of all parameters; ``counted``: its degrees of freedom.

    Raises
    ------
    InferenceError : another kind than 2 or 3; hypotheses that the data cannot estimate.
    """
    if kind not in TYPES:
        raise InferenceError("type must be 3 or 2.", f"type={kind!r}", "write type=3")
    parts = shared_parts(design, part)
    pieces = [full_effects(design, fit, name, vcov) for name in parts]
    effects = pieces[0] if len(pieces) == 1 else _stacked(design, fit, parts, pieces, vcov)
    approach = effects_df(effects, df)
    if counted is not None:
        approach = replace(approach, column_df=np.full(effects.n_fixed, counted))
    table = term_table(pieces[0].design)
    p, K = pieces[0].n_fixed, len(pieces)
    wide = replace(table, terms=tuple(_repeated(t, p, K) for t in table.terms))
    tests = []
    for term, whole in zip(table.terms, wide.terms, strict=True):
        if term.label == "(Intercept)" or not term.columns:
            continue
        if kind == 3:
            L = np.asarray(
                np.kron(np.eye(K), type3_rows(pieces[0].design, table, term)), np.float64
            )
        else:
            L = type2_rows(effects, wide, whole)
        labels = tuple(f"{term.label} {k}" for k in range(len(L)))
        hypothesis = Hypothesis(labels, L, np.zeros(len(L)))
        tests.append(joint_test(effects, approach, hypothesis, term.label))
    words = [SENTENCES[kind], *approach.notes]
    if counted is None:
        words.insert(1, method_sentence(approach, "ml", False))
    if K > 1:
        words.insert(1, f"Each term is tested in all {K} categories at once.")
    return Anova(tuple(tests), " ".join(words))


def _repeated(term: Term, p: int, K: int) -> Term:
    return replace(
        term,
        columns=tuple(k * p + c for k in range(K) for c in term.columns),
        keys=term.keys * K,
    )


def _stacked(
    design: GeneralizedDesign,
    fit: GeneralizedFit,
    parts: list[str],
    pieces: list[Effects],
    vcov: Array | None,
) -> Effects:
    """The effects of several parts side by side."""
    V = fit.vcov if vcov is None else vcov
    names = [p.spec.name for p in design.parts]
    where = np.concatenate(
        [np.arange(len(fit.psi))[fit.fixed_slices[names.index(part)]] for part in parts]
    )
    first = pieces[0].design
    laid = replace(
        first,
        X=np.asfortranarray(np.hstack([e.design.X for e in pieces])),
        names=tuple(f"{part}: {n}" for part, e in zip(parts, pieces, strict=True) for n in e.names),
    )
    return Effects(laid.names, fit.psi[where], V[np.ix_(where, where)], laid)


@dataclass(frozen=True)
class ResponseMean:
    """One marginal mean on the response scale; ``category`` is empty for numbers."""

    cell: int
    category: str
    estimate: float
    std_error: float
    df: float
    conf_low: float
    conf_high: float


def response_means(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    grid: MeansGrid,
    *,
    df: DfMethod = "none",
    conf_level: float = 0.95,
    vcov: Array | None = None,
) -> tuple[ResponseMean, ...]:
    """Marginal means on the response scale: a mean, or the probability of each category.

    Parameters
    ----------
    grid : cells in the columns of the formula's design (``marginal_means.means_grid``).

    Raises
    ------
    InferenceError : a response that depends on a part with its own predictors, whose values the
        grid does not say.
    """
    design, level = prepared.design, check_level(conf_level)
    D, V = len(design.parts), fit.vcov if vcov is None else vcov
    maps = _predictor_rows(design, fit, grid)
    rows = cast(OutcomeDistribution, prepared.problem.row_likelihood())
    effects = full_effects(design, fit, design.parts[0].spec.name, vcov)
    cell_df = effects_df(effects, df).row_df(grid.L)
    margins = critical_values(cell_df, level)
    categories = design.response.categories if design.family.response in (
        "ordered", "nominal") else ("",)  # fmt: skip
    out = []
    for c in range(len(grid.cells)):
        eta = np.array([maps[d][c] @ fit.psi for d in range(D)])
        value, slopes = _response(rows, eta)
        moving = [d for d in range(D) if np.any(np.abs(slopes[:, d]) > MOVES)]
        _check_known(design, moving)
        A = np.array([maps[d][c] for d in range(D)])
        S = slopes @ A
        errors = np.sqrt(np.maximum(np.einsum("kp,pq,kq->k", S, V, S), 0.0))
        if len(value) == 1 and moving == [0]:
            se = float(np.sqrt(max(float(A[0] @ V @ A[0]), 0.0)))
            ends = [
                _response(rows, eta + np.eye(D)[0] * sign * margins[c] * se, slopes=False)[0][0]
                for sign in (-1.0, 1.0)
            ]
            limits = [(min(ends), max(ends))]
        else:
            kind = "logit" if len(value) > 1 else _scale_of(design)
            limits = [
                _limits(kind, float(v), float(s), float(margins[c]))
                for v, s in zip(value, errors, strict=True)
            ]
        out += [
            ResponseMean(c, name, float(v), float(s), float(cell_df[c]), *ends)
            for name, v, s, ends in zip(categories, value, errors, limits, strict=True)
        ]
    return tuple(out)


def _check_known(design: GeneralizedDesign, moving: list[int]) -> None:
    for d in moving:
        part = design.parts[d]
        if part.spec.argument == "formula" or d == 0 or part.names in ((), ("(Intercept)",)):
            continue
        raise InferenceError(
            "Marginal means on the response scale need one value of every part that matters.",
            f"the part {part.spec.name!r} has predictors of its own ({', '.join(part.names)})",
            'ask for scale="link", or use predict() on rows that you write',
        )


def _predictor_rows(design: GeneralizedDesign, fit: GeneralizedFit, grid: MeansGrid) -> list[Array]:
    """Per part (cells, P): rows that give its predictor from ``psi``."""
    out = []
    for d, part in enumerate(design.parts):
        rows = np.zeros((len(grid.cells), len(fit.psi)))
        where = fit.fixed_slices[d]
        if d == 0 or part.spec.argument == "formula":
            rows[:, where] = grid.L[:, list(part.columns)]
        else:
            at = [j for j, name in enumerate(part.names) if name == "(Intercept)"]
            rows[:, [where.start + j for j in at]] = 1.0
        out.append(rows)
    return out


def _response(rows: OutcomeDistribution, eta: Array, *, slopes: bool = True) -> tuple[Array, Array]:
    """Expected response (K,) at one ``eta`` (D,) and its slopes (K, D), by central differences."""
    one = slice(0, 1)

    def at(x: Array) -> Array:
        return np.atleast_1d(np.asarray(rows.mean(x[:, None], one)).reshape(-1))

    value = at(eta)
    J = np.zeros((len(value), len(eta)))
    if slopes:
        for d in range(len(eta)):
            h = np.zeros(len(eta))
            h[d] = STEP
            J[:, d] = (at(eta + h) - at(eta - h)) / (2.0 * STEP)
    return value, J


def _scale_of(design: GeneralizedDesign) -> str:
    kind = design.family.response
    if kind in ("count", "positive", "nonnegative"):
        return "log"
    return "logit" if kind in ("proportion", "unit_interval", "binary") else "identity"


def _limits(kind: str, value: float, error: float, z: float) -> tuple[float, float]:
    """Limits symmetric on a transformed scale (delta method)."""
    if kind == "log" and value > 0.0:
        width = float(np.exp(z * error / value))
        return value / width, value * width
    if kind == "logit" and 0.0 < value < 1.0:
        middle = float(np.log(value / (1.0 - value)))
        half = z * error / (value * (1.0 - value))
        return 1.0 / (1.0 + np.exp(half - middle)), 1.0 / (1.0 + np.exp(-half - middle))
    return value - z * error, value + z * error
