"""New responses from a fitted generalized model, and refits to them from its estimates.

Source: Efron & Tibshirani 1993, chapter 6 (parametric bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.penalty import PENALTIES
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.generalized.solve import solve_generalized
from multilevel.likelihood.generalized.problem import EffectBlock, GeneralizedProblem
from multilevel.likelihood.generalized.related_layout import RelatedEffects, relation_of
from multilevel.likelihood.generalized.row import OutcomeDistribution

Array = NDArray[np.float64]
DrawKind = Literal["new", "conditional"]
SMALL = 0.1  # standard deviation (scaled) that stands in for zero in start values


def drawn_responses(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    n_sim: int,
    rng: np.random.Generator,
    *,
    kind: str = "new",
) -> Array:
    """Draw responses from the fitted model: (n, n_sim), Fortran order, units of ``Response.y``.

    Each column uses the next draws of ``rng``: more columns leave the first ones unchanged.

    Parameters
    ----------
    kind : ``"new"`` draws ``b ~ N(0, G)`` for every column; ``"conditional"`` keeps the modes.

    Raises
    ------
    InferenceError : an unknown kind, or ``n_sim`` below 1.
    """
    if kind not in get_args(DrawKind):
        raise InferenceError(
            f"The kind of simulation must be one of {', '.join(map(repr, get_args(DrawKind)))}.",
            f"kind={kind!r}",
            "write kind='new'",
        )
    if n_sim < 1:
        raise InferenceError(
            "At least one response must be asked for.", f"n_sim={n_sim}", "write n_sim=1 or more"
        )
    problem = prepared.problem
    rows = cast(OutcomeDistribution, problem.row_likelihood())
    fixed = problem.fixed_predictors(fit.psi)
    out = np.empty((problem.n, n_sim), order="F")
    for k in range(n_sim):
        eta = fixed.copy()
        for t, block in enumerate(problem.blocks):
            u = new_effects(block, rng) if kind == "new" else fit.modes[t]
            b = on_rows(block, u @ fit.relative_factors[t].T)
            for a, part in enumerate(block.parts):
                eta[part] += block.columns[:, a] * b[:, a]
        out[:, k] = rows.draw(eta, rng)
    return out


def new_effects(block: EffectBlock, rng: np.random.Generator) -> Array:
    """Random effects (J, q) before ``Lambda``, correlated as the levels are."""
    relation = relation_of(block)
    if relation is None:
        return rng.standard_normal((block.n_levels, block.columns.shape[1]))
    J = block.n_levels if relation.spread is None else relation.spread.shape[1]
    return relation.colour(rng.standard_normal((J, block.columns.shape[1])))


def on_rows(block: EffectBlock, b: Array) -> Array:
    """Sums (n, q) of effects (J, q) over the levels of each row."""
    if isinstance(block, RelatedEffects):
        return np.asarray(block.loadings @ b)
    return np.asarray(b[block.codes])


def check_outcome(design: GeneralizedDesign, y: Array) -> None:
    """Refuse responses that the family does not allow.

    Raises
    ------
    InferenceError : another length, or a value outside the range of the family, with its row.
    """
    old, kind = design.response, design.family.response
    if y.shape != old.y.shape:
        raise InferenceError(
            "A new response must have one value per analysed row.",
            f"shape {y.shape} for {len(old.y)} rows",
            "pass the response of the analysed rows, in their order",
        )
    bad, must = ~np.isfinite(y), "finite"
    if kind in ("ordered", "nominal"):
        C = len(old.categories)
        bad, must = bad | (y < 0) | (y >= C) | (y != np.floor(y)), f"a code from 0 to {C - 1}"
    elif kind == "binary":
        top = np.ones(len(y)) if old.trials is None else old.trials
        bad, must = bad | (y < 0) | (y > top) | (y != np.floor(y)), "0, 1, ... up to the trials"
    elif kind == "count":
        lowest = 1.0 if design.family.option("truncated") == "yes" else 0.0
        bad, must = bad | (y < lowest) | (y != np.floor(y)), f"a whole number from {lowest:g}"
    elif kind == "proportion":
        bad, must = bad | (y <= 0) | (y >= 1), "strictly between 0 and 1"
    elif kind == "unit_interval":
        bad, must = bad | (y < 0) | (y > 1), "from 0 to 1"
    elif kind in ("positive", "nonnegative"):
        zero_ok = kind == "nonnegative" or design.family.option("zero") != ""
        bad = bad | ((y < 0) if zero_ok else (y <= 0))
        must = "zero or positive" if zero_ok else "positive"
    if np.any(bad):
        row = int(np.flatnonzero(bad)[0])
        raise InferenceError(
            f"A response of this family must be {must}.",
            f"the value {y[row]} at analysed row {row}",
            "pass values in the units of design.response.y, as simulate() gives them",
        )


def penalty_names(fit: GeneralizedFit) -> tuple[str, ...] | None:
    """The penalties of a fit by the names that ``fit`` takes, or None."""
    return tuple(k for k, text in PENALTIES.items() if text in fit.penalty) or None


def start_from(problem: GeneralizedProblem, psi: Array) -> Array:
    """``psi`` with zero standard deviations made small: a zero would hide its own gradient."""
    out = psi.copy()
    for block, where in zip(problem.blocks, problem.theta_slices, strict=True):
        size = float(np.sqrt(np.mean(block.columns**2))) or 1.0
        diagonal = block.structure.scales()
        theta = out[where]
        theta[diagonal & (np.abs(theta) * size < 1e-3)] = SMALL / size
        out[where] = theta
    return out


def refitted(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    *,
    modes: Sequence[Array] | None = None,
) -> GeneralizedFit:
    """Fit a problem by the approximation and penalties of ``fit``, from its estimates.

    Parameters
    ----------
    prepared : the same model on another response or other rows.
    modes : start values of the modes; None takes those of ``fit``.

    Raises
    ------
    EstimationError, LikelihoodError : the likelihood does not exist at the estimates of ``fit``.
    """
    return solve_generalized(
        prepared,
        points=fit.approximation.points if prepared.problem.blocks else None,
        penalty=penalty_names(fit),
        psi_start=start_from(prepared.problem, fit.psi),
        modes_start=fit.modes if modes is None else modes,
        check=False,
    )
