"""Predictions for new rows and new groups.

Sources: Henderson 1975 (Biometrics 31:423) for the variances; Skrondal & Rabe-Hesketh 2009
(JRSS A 172:659) for the kinds of prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.replay import Groups, NewRows, replay
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import evaluated
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.fitted import add_random_part, check_kind, fixed_part
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.new_occasions import SENTENCE as NEW_OCCASIONS
from multilevel.interpret.new_occasions import with_new_occasions
from multilevel.interpret.prediction_variance import PredictionRows, relative_variance

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
PredictionKind = Literal["conditional", "population", "marginal"]
NewLevels = Literal["zero", "error"]
PREDICTION_KINDS: tuple[str, ...] = get_args(PredictionKind)
NEW_LEVELS: tuple[str, ...] = get_args(NewLevels)
IntervalKind = Literal["confidence", "prediction"]
INTERVALS: tuple[str, ...] = get_args(IntervalKind)

STD_ERROR_SENTENCES = {
    "conditional": "std_error: error of the predicted mean of this row's own groups, from the "
    "estimated fixed effects and random effects (covariance of both included; for a level without "
    "data the whole random-effect variance).",
    "population": "std_error: uncertainty of the fixed effects only.",
    "marginal": "std_error: uncertainty of the fixed effects only.",
}
PREDICTION_SENTENCES = {
    "conditional": "prediction_std_error adds the residual variance of one new observation of "
    "weight 1.",
    "population": "prediction_std_error adds the residual variance of one new observation of "
    "weight 1, in a group whose random effects are zero.",
    "marginal": "prediction_std_error adds the variance of all random effects of a new group and "
    "the residual variance of one new observation of weight 1.",
}
CAVEAT = "Variances are taken as known."


@dataclass(frozen=True)
class Prediction:
    """Predictions, one per row of the new table, in its order.

    Attributes
    ----------
    kind : ``"conditional"``, ``"population"`` or ``"marginal"``.
    estimate : (n,) response units; NaN where a predictor is missing.
    std_error : (n,) standard error of the predicted mean, or None if not asked for.
    prediction_std_error : (n,) standard error for one new observation, or None.
    n_missing : rows with a missing predictor.
    missing : ``{variable: rows in which it is missing}``.
    new_levels : ``{group: levels that were not in the data}`` (conditional predictions only).
    sentence : what the standard errors include.
    """

    kind: str
    estimate: Array
    std_error: Array | None
    prediction_std_error: Array | None
    n_missing: int
    missing: dict[str, int]
    new_levels: dict[str, tuple[Any, ...]]
    sentence: str


@dataclass(frozen=True)
class PredictionInterval:
    """Bounds (n,) around predictions, and what they mean."""

    conf_low: Array
    conf_high: Array
    sentence: str


def check_interval(interval: str | None, conf_level: float) -> None:
    """Raise ``InferenceError`` for an unknown interval or a level outside (0, 1)."""
    if interval is not None and interval not in INTERVALS:
        raise InferenceError(
            f"The interval of a prediction must be one of {', '.join(map(repr, INTERVALS))}.",
            f"interval={interval!r}",
            "write interval='confidence' for the mean, 'prediction' for one new observation",
        )
    check_level(conf_level)


def prediction_interval(
    prediction: Prediction, interval: str, conf_level: float
) -> PredictionInterval:
    """Normal bounds around predictions that have standard errors.

    Parameters
    ----------
    prediction : from ``predict_rows(..., std_error=True)``.
    interval : ``"confidence"`` for the mean, ``"prediction"`` for one new observation.
    conf_level : between 0 and 1.

    Raises
    ------
    InferenceError : an unknown interval, or predictions without standard errors.
    """
    check_interval(interval, conf_level)
    is_mean = interval == "confidence"
    error = prediction.std_error if is_mean else prediction.prediction_std_error
    if error is None:
        raise InferenceError(
            "An interval needs the standard errors of the predictions.",
            "predictions without them",
            "predict with std_error=True",
        )
    margin = float(normal_quantile(0.5 + conf_level / 2.0)) * error
    what = "the predicted mean" if is_mean else "one new observation of weight 1"
    sentence = (
        f"{100 * conf_level:g}% interval for {what} (normal quantiles; variances are taken as "
        "known)."
    )
    return PredictionInterval(prediction.estimate - margin, prediction.estimate + margin, sentence)


def predict_rows(
    prepared: Prepared,
    fit: Fit,
    table: Any,
    estimates: Sequence[Array] = (),
    *,
    kind: str = "conditional",
    new_levels: str = "zero",
    std_error: bool = False,
) -> Prediction:
    """Predict the response for the rows of a new table.

    Parameters
    ----------
    prepared, fit : the problem and its fit.
    table : new rows; they go through the encodings, centrings and levels of the design.
    estimates : per block (J, q) random-effect estimates; needed for ``"conditional"`` only.
    kind : ``"conditional"`` adds the random effects of the row's groups; ``"population"`` sets
        all random effects to zero; ``"marginal"`` averages over them, which for the identity
        link is the same mean (the error of a single observation is not).
    new_levels : for ``"conditional"``: ``"zero"`` predicts a group without data (or with a
        missing id) at random effects of zero, their best prediction; ``"error"`` refuses.
    std_error : whether to compute the standard errors (see ``Prediction.sentence``).

    Returns
    -------
    Prediction : rows with a missing predictor hold NaN and are counted.

    Raises
    ------
    InferenceError : an unknown option, or new levels under ``new_levels="error"``.
    DesignError : the table lacks a column, or a predictor has an unknown category.
    """
    check_kind(kind, PREDICTION_KINDS, "prediction")
    if new_levels not in NEW_LEVELS:
        raise InferenceError(
            f"new_levels must be one of {', '.join(map(repr, NEW_LEVELS))}.",
            f"new_levels={new_levels!r}",
            "write new_levels='zero'",
        )
    design = prepared.design
    conditional = kind == "conditional"
    groups: Groups = "match" if conditional else "ignore"
    rows = replay(design, table, groups=groups, new_occasions=True)
    rows, between = with_new_occasions(design, fit, rows)
    unknown = _unknown_levels(rows) if conditional else {}
    if unknown and new_levels == "error":
        raise _new_level_error(design, rows, unknown)
    mean = fixed_part(rows.X, fit.beta, rows.offset)
    if conditional:
        for block, b in zip(rows.blocks, estimates, strict=True):
            add_random_part(mean, block.codes, block.columns, b)
    of_mean: Array | None = None
    of_row: Array | None = None
    sentence = ""
    if std_error:
        variance, extra = _variances(prepared, fit, rows, kind)
        if conditional:
            variance = variance + between
        elif kind == "marginal":
            extra = extra + between
        of_mean = _laid_out(np.sqrt(variance), rows)
        of_row = _laid_out(np.sqrt(variance + extra), rows)
        sentence = f"{STD_ERROR_SENTENCES[kind]} {PREDICTION_SENTENCES[kind]} {CAVEAT}"
        sentence += f" {NEW_OCCASIONS}" * bool(np.any(between))
    return Prediction(
        kind,
        _laid_out(mean, rows),
        of_mean,
        of_row,
        rows.rows.n_dropped,
        dict(rows.rows.missing),
        unknown,
        sentence,
    )


def _variances(prepared: Prepared, fit: Fit, rows: NewRows, kind: str) -> tuple[Array, Array]:
    """Variance of the predicted mean, and what one new observation adds to it: (n,) each."""
    extra = np.full(rows.n, fit.sigma2)
    if kind == "conditional":
        return _conditional_variance(prepared, fit, rows), extra
    if kind == "marginal":
        for block, G in zip(rows.blocks, fit.random_covariance, strict=True):
            extra += np.einsum("ia,ab,ib->i", block.columns, G, block.columns, optimize=True)
    variance = np.einsum("ia,ab,ib->i", rows.X, fit.vcov_beta, rows.X, optimize=True)
    return np.maximum(variance, 0.0), extra


def _conditional_variance(prepared: Prepared, fit: Fit, rows: NewRows) -> Array:
    """Exact variance of the error, by the engine, in the scaled coordinates it works in.

    Centring a column of ``Z`` needs no care here: ``z'b`` is the same in both coordinates.
    """
    p = fit.n_fixed
    objective = evaluated(prepared, fit)
    scaled = PredictionRows(
        rows.X @ prepared.scaling.U[:p, :p],
        tuple(block.codes for block in rows.blocks),
        tuple(
            block.columns @ B for block, B in zip(rows.blocks, prepared.scaling.random, strict=True)
        ),
    )
    psis = [L @ L.T for L in objective.factors]
    return fit.sigma2 * relative_variance(objective.engine, psis, scaled)


def _laid_out(values: Array, rows: NewRows) -> Array:
    """Values of the complete rows at their places in the new table, NaN elsewhere."""
    if rows.rows.n_dropped == 0:
        return values
    out = np.full(rows.rows.n_table, np.nan)
    out[rows.rows.kept] = values
    return out


def _unknown_levels(rows: NewRows) -> dict[str, tuple[Any, ...]]:
    return {block.group: block.new_levels for block in rows.blocks if bool(np.any(block.codes < 0))}


def _new_level_error(
    design: Design, rows: NewRows, unknown: dict[str, tuple[Any, ...]]
) -> InferenceError:
    group, labels = next(iter(unknown.items()))
    block = next(block for block in rows.blocks if block.group == group)
    first = int(rows.rows.kept[np.flatnonzero(block.codes < 0)[0]])
    known = next(b for b in design.blocks if b.group == group)
    shown = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
    return InferenceError(
        f"Every level of {group} in the new table must be one of the {known.n_levels} in the data.",
        f"{len(labels)} new: {shown} (first in row {first})" if labels else f"no id in row {first}",
        "write new_levels='zero' to predict new groups at random effects of zero",
    )
