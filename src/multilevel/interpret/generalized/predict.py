"""Predictions for any rows: of the population, averaged over random effects, or of known groups.

* ``"population"``: random effects of zero (a typical cluster).
* ``"marginal"``: the average over the random effects of new clusters, ``E g^-1(eta + z'b)``.
* ``"conditional"``: with the estimated random effects of the row's own groups.

Source: Skrondal & Rabe-Hesketh 2009 (JRSS A 172:659). Standard errors by the delta method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows, replay_parts
from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.means_tests import check_level
from multilevel.interpret.fitted import check_kind
from multilevel.interpret.generalized.effect_variance import ConditionalVariance
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    any_rows,
    check_zero,
    fixed_predictors,
    predictor_covariance,
)
from multilevel.interpret.generalized.gradient import (
    delta_variance,
    differences,
    parameter_gradient,
)
from multilevel.interpret.generalized.integrate import Quantity, average

Array = NDArray[np.float64]
PredictionKind = Literal["population", "marginal", "conditional"]
PredictionScale = Literal["response", "link", "zero"]
NewLevels = Literal["zero", "error"]
KINDS: tuple[str, ...] = get_args(PredictionKind)
SCALES: tuple[str, ...] = get_args(PredictionScale)
CHUNK = 4096

KIND_WORDS = {
    "population": "for a cluster whose random effects are all zero (unit-specific)",
    "marginal": "averaged over the random effects of new clusters (population-averaged)",
    "conditional": "with the estimated random effects of the row's own clusters",
}
ERROR_WORDS = {
    "population": "std_error: delta method, uncertainty of the fixed effects (and of dispersions, "
    "thresholds...).",
    "marginal": "std_error: delta method, uncertainty of the fixed effects and of the random-effect"
    " variances.",
    "conditional": "std_error: delta method, uncertainty of the random effects given the data and "
    "of all parameters (whole random-effect variance for levels without data).",
}


@dataclass(frozen=True)
class GeneralizedPrediction:
    """Predictions, rows in the order of the table.

    Attributes
    ----------
    kind, scale : what was asked for.
    names : the C things predicted for each row: categories, or one empty text.
    estimate : (C, n); NaN where a predictor is missing.
    std_error, conf_low, conf_high : (C, n), or None if not asked for.
    n_missing, missing : rows with a missing predictor, by variable.
    new_levels : ``{group: levels that were not in the data}`` (conditional only).
    sentence : what is predicted; error_sentence : what the standard errors hold.
    """

    kind: str
    scale: str
    names: tuple[str, ...]
    estimate: Array
    std_error: Array | None
    conf_low: Array | None
    conf_high: Array | None
    n_missing: int
    missing: dict[str, int]
    new_levels: dict[str, tuple[Any, ...]]
    sentence: str
    error_sentence: str


def quantity_of(evidence: GeneralizedEvidence, scale: str, m: int) -> Callable[[int], Quantity]:
    """For a number of rows up to m: the function from predictors (D, k) to values (C, k)."""
    if scale == "link":
        shown = link_parts(evidence)
        return lambda k: lambda eta: eta[shown]
    rows = any_rows(evidence, m, zero=scale == "zero")

    def sized(k: int) -> Quantity:
        if scale == "zero":
            return lambda eta: rows.cumulative(eta, slice(0, k))[1][None]
        return lambda eta: np.atleast_2d(rows.mean(eta, slice(0, k)))

    return sized


def link_parts(evidence: GeneralizedEvidence) -> list[int]:
    """The parts that a prediction on the link scale shows: the mean, or one for each category."""
    if evidence.family.response == "nominal":
        return list(range(len(evidence.design.parts)))
    return [0]


def names_of(evidence: GeneralizedEvidence, scale: str) -> tuple[str, ...]:
    """Labels of the things predicted for each row."""
    if evidence.categories and scale == "response":
        return evidence.categories
    if evidence.family.response == "nominal" and scale == "link":
        return evidence.categories[1:]
    return ("",)


def check_marginal(evidence: GeneralizedEvidence) -> None:
    """Refuse averages over random effects that do not exist."""
    if evidence.family.link == "inverse" and 0 in evidence.random:
        raise InferenceError(
            "An average over normal random effects must exist.",
            "the inverse link: 1 / eta has no mean where eta can be zero",
            'write kind="population" or kind="conditional", or fit with link="log"',
        )


def check_request(evidence: GeneralizedEvidence, kind: str, scale: str) -> None:
    """Refuse unknown kinds and scales, and those that this family cannot give."""
    check_kind(kind, KINDS, "prediction")
    if scale not in SCALES:
        raise InferenceError(
            f"The scale of a prediction must be one of {', '.join(map(repr, SCALES))}.",
            f"scale={scale!r}",
            'write scale="response"',
        )
    if scale == "zero":
        check_zero(evidence)
    if kind == "marginal" and scale != "link":
        check_marginal(evidence)


def predict_table(
    evidence: GeneralizedEvidence,
    table: Any,
    *,
    kind: str = "conditional",
    scale: str = "response",
    new_levels: str = "zero",
    std_error: bool = False,
    interval: bool = False,
    conf_level: float = 0.95,
) -> GeneralizedPrediction:
    """Predict the rows of a new table.

    Parameters
    ----------
    table : new rows; they go through the encodings, centrings and levels of every part.
    kind : see the module's text.
    scale : ``"response"`` (a probability for binary responses, one for each category; a count...),
        ``"link"`` (the linear predictor of the mean) or ``"zero"`` (probability of a zero).
    new_levels : for ``"conditional"``: ``"zero"`` predicts levels without data at random effects
        of zero; ``"error"`` refuses them.
    std_error, interval, conf_level : what to add. Intervals are normal on the logit scale for
        probabilities and on the log scale for positive responses.

    Raises
    ------
    InferenceError : an unknown option, one that the family cannot give, or new levels under
        ``new_levels="error"``.
    DesignError : the table lacks a column, or a predictor has an unknown category.
    """
    check_request(evidence, kind, scale)
    if new_levels not in get_args(NewLevels):
        raise InferenceError(
            "new_levels must be 'zero' or 'error'.", f"{new_levels!r}", "write new_levels='zero'"
        )
    conditional = kind == "conditional"
    # how many levels a row has, and which, decides its variance where these are of the general kind
    needs = conditional or (kind == "marginal" and is_related(evidence.design.blocks))
    rows = replay_parts(evidence.design, table, groups="match" if needs else "ignore")
    unknown = rows.new_levels if conditional else {}
    if unknown and new_levels == "error":
        group, labels = next(iter(unknown.items()))
        raise InferenceError(
            f"Every level of {group} in the new table must be in the data of the model.",
            f"{len(labels)} new: {', '.join(map(str, labels[:5]))}" if labels else "a missing id",
            "write new_levels='zero' to predict new levels at random effects of zero",
        )
    found = predict_rows(evidence, rows, kind=kind, scale=scale, std_error=std_error or interval)
    low = high = None
    if interval and found.std_error is not None:
        low, high = bounds(evidence, scale, found.estimate, found.std_error, conf_level)

    def laid(values: Array | None) -> Array | None:
        return None if values is None else laid_out(values, rows)

    note = f" {found.note}" if found.note else ""
    return GeneralizedPrediction(
        kind, scale, names_of(evidence, scale), laid_out(found.estimate, rows),
        laid(found.std_error if std_error or interval else None), laid(low), laid(high),
        rows.rows.n_table - rows.n, dict(rows.rows.missing), dict(unknown),
        what_words(evidence, kind, scale), ERROR_WORDS[kind] + note,
    )  # fmt: skip


@dataclass(frozen=True)
class RowPredictions:
    """Estimates and standard errors (C, m) of complete rows."""

    estimate: Array
    std_error: Array | None
    note: str = ""


def predict_rows(
    evidence: GeneralizedEvidence, rows: PartRows, *, kind: str, scale: str, std_error: bool
) -> RowPredictions:
    """Predictions of replayed (or the analysed) rows, a run of rows at a time."""
    sized = quantity_of(evidence, scale, min(CHUNK, max(rows.n, 1)))
    helper = None
    if std_error and kind == "conditional" and evidence.design.blocks:
        helper = ConditionalVariance(evidence)
    values, errors = [], []
    for start in range(0, max(rows.n, 1), CHUNK):
        run = rows.take(slice(start, start + CHUNK))
        value, variance = _run(evidence, run, sized(run.n), kind, scale, std_error, helper)
        values.append(value)
        errors.append(variance)
    estimate = np.concatenate(values, axis=1)
    note = helper.note if helper is not None else ""
    if not std_error:
        return RowPredictions(estimate, None)
    return RowPredictions(estimate, np.sqrt(np.concatenate(errors, axis=1)), note)


def _run(
    evidence: GeneralizedEvidence,
    rows: PartRows,
    quantity: Quantity,
    kind: str,
    scale: str,
    std_error: bool,
    helper: ConditionalVariance | None,
) -> tuple[Array, Array]:
    """Values and variances (C, m) of one run of rows."""
    eta = fixed_predictors(rows, evidence.fit)
    S = None
    if kind == "marginal" and scale != "link" and evidence.random:
        S = predictor_covariance(rows, evidence)
    if kind == "conditional":
        eta = add_effects(eta, rows, evidence, evidence.effects)
    if not std_error:
        value = quantity(eta) if S is None else average(quantity, eta, S, evidence.random)
        return value, np.zeros_like(value)
    found = differences(quantity, eta, S, evidence.random)
    gradient = parameter_gradient(evidence, rows, found)
    if helper is None:
        return found.value, delta_variance(gradient, evidence.fit.vcov)
    gradient += np.einsum("pdm,dcm->pcm", helper.movement(rows), found.first)
    own = found.first[list(evidence.random)]
    given = np.einsum("rcm,mrs,scm->cm", own, helper.given_parameters(rows), own)
    return found.value, delta_variance(gradient, evidence.fit.vcov) + np.maximum(given, 0.0)


def range_of(evidence: GeneralizedEvidence, scale: str) -> str:
    """``"unit"``, ``"positive"`` or ``"line"``: what values a prediction can take."""
    if scale == "link":
        return "line"
    kind = evidence.family.response
    if scale == "zero" or kind in ("binary", "proportion", "unit_interval", "ordered", "nominal"):
        return "unit"
    if kind in ("count", "positive", "nonnegative"):
        return "positive"
    return "line"


def bounds(
    evidence: GeneralizedEvidence, scale: str, estimate: Array, error: Array, conf_level: float
) -> tuple[Array, Array]:
    """Normal limits on the logit, log or plain scale, whichever keeps them in the range."""
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    return limits(range_of(evidence, scale), estimate, error, z)


def limits(where: str, estimate: Array, error: Array, z: float) -> tuple[Array, Array]:
    """Limits ``z`` standard errors away, on the scale that suits the range ``where``."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if where == "unit":
            centre = np.log(estimate) - np.log1p(-estimate)
            margin = z * error / (estimate * (1.0 - estimate))
            low, high = (
                1.0 / (1.0 + np.exp(margin - centre)),
                1.0 / (1.0 + np.exp(-margin - centre)),
            )
        elif where == "positive":
            factor = np.exp(z * error / estimate)
            low, high = estimate / factor, estimate * factor
        else:
            low, high = estimate - z * error, estimate + z * error
    return np.asarray(low), np.asarray(high)


def laid_out(values: Array, rows: PartRows) -> Array:
    """Values (C, m) of complete rows at their places in the table, NaN elsewhere."""
    if rows.n == rows.rows.n_table:
        return values
    out = np.full((len(values), rows.rows.n_table), np.nan)
    out[:, rows.rows.kept] = values
    return out


def what_words(evidence: GeneralizedEvidence, kind: str, scale: str) -> str:
    """What a prediction is, in one sentence."""
    if scale == "link":
        what = f"the linear predictor ({evidence.family.link} scale)"
    elif scale == "zero":
        what = "the probability of a zero"
    elif evidence.categories:
        what = "the probability of each category"
    elif evidence.family.response == "binary":
        what = "the probability"
    else:
        what = "the expected response"
    return f"estimate is {what} {KIND_WORDS[kind]}."
