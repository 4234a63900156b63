"""The response of a generalized model as numbers, and in words what is modelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.build import Parts, Workshop, compile_model
from multilevel.design.encode import evaluate_expression, evaluate_number
from multilevel.design.records import Response
from multilevel.design.variables import Values, row_words
from multilevel.errors import DesignError
from multilevel.model.families.records import ResponseKind
from multilevel.model.specification import Model

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ResponseRequest:
    """What the caller said about the response.

    Attributes
    ----------
    kind : kind of response that the family needs.
    event : the category that counts as success (binary responses), or None for the last.
    categories : order of the categories (ordered, nominal: the first is the reference), or empty.
    trials : (n,) numbers of trials of the analysed rows, or None.
    trials_name : how messages name them.
    """

    kind: ResponseKind
    event: Any = None
    categories: Sequence[Any] = ()
    trials: Array | None = None
    trials_name: str = "trials"


def read_response(model: Model, workshop: Workshop, request: ResponseRequest) -> Response:
    """Read the response of the analysed rows.

    Raises
    ------
    DesignError : values that the kind of response does not allow, named with their rows.
    """
    parts = compile_model(model)
    shown = model.response
    if request.kind == "binary":
        return _binary(model, parts, workshop, request)
    if request.kind in ("ordered", "nominal"):
        _one_column(model, parts, request.kind)
        return _categories(_bare(parts, workshop), shown, workshop, request)
    if request.kind == "interval" and parts.second is not None:
        return _interval(model, parts, workshop)
    _one_column(model, parts, request.kind)
    y = _number(parts, workshop, shown)
    _check_range(y, request.kind, shown, workshop)
    _check_varies(y, shown)
    upper = y if request.kind == "interval" else None
    return Response(y, None, upper, (), f"modelled: the mean of {shown}")


def _one_column(model: Model, parts: Parts, kind: str) -> None:
    if parts.second is not None:
        needs = "family='binomial'" if model.response.startswith("cbind") else "a Gaussian family"
        raise DesignError(
            f"This family needs a response of one column ({kind}).",
            model.response,
            f"{model.response.split('(')[0]}(a, b) goes with {needs}",
        )


def _bare(parts: Parts, workshop: Workshop) -> Values:
    """The response column as it is, or the numbers of an expression."""
    columns = workshop.columns(parts.response)
    found = columns.get(parts.response.text)
    if found is not None:
        return found
    return evaluate_number(parts.response, columns, workshop.n, workshop.kept)


def _number(parts: Parts, workshop: Workshop, shown: str) -> Array:
    """The response as numbers."""
    values = _bare(parts, workshop)
    if isinstance(values, pd.Categorical):
        listed = ", ".join(map(str, list(values.categories)[:5]))
        raise DesignError(
            "The response of this family must be a number.",
            f"{shown} has the categories {listed}",
            'write family="binomial" (two categories), "cumulative" (ordered) or "nominal"',
        )
    return np.asarray(values, dtype=np.float64)


def _where(bad: NDArray[np.bool_], workshop: Workshop) -> str:
    """Rows of the table in words."""
    places = np.flatnonzero(bad)
    return row_words(places if workshop.kept is None else workshop.kept[places])


def _check_varies(y: Array, shown: str) -> None:
    if len(y) > 1 and y.min() == y.max():
        raise DesignError(
            "The response must vary.",
            f"{shown} is {y[0]:g} in all {len(y)} analysed rows",
            "check the column",
        )


_RANGES: dict[str, tuple[str, str]] = {
    "positive": ("be positive", "use another family (tweedie or a hurdle model allow zeros)"),
    "proportion": (
        "lie strictly between 0 and 1",
        'use family="ordered_beta" or "zero_one_inflated_beta" if 0 or 1 occur, or divide by the '
        "range",
    ),
    "count": ("be whole numbers, not negative", "check the column, or use another family"),
    "nonnegative": ("not be negative", "check the column"),
    "unit_interval": ("lie between 0 and 1", "divide by the range of the scale"),
}


def _check_range(y: Array, kind: str, shown: str, workshop: Workshop) -> None:
    if kind not in _RANGES:
        return
    found = _outside(y, kind)
    if found.any():
        must, remedy = _RANGES[kind]
        first = y[np.flatnonzero(found)[0]]
        raise DesignError(
            f"The response of this family must {must}.",
            f"{shown} is {first:g} in {_where(found, workshop)}",
            remedy,
        )


def _outside(y: Array, kind: str) -> NDArray[np.bool_]:
    """Which values a kind of response does not allow."""
    if kind == "positive":
        return np.asarray(y <= 0.0)
    if kind == "proportion":
        return np.asarray((y <= 0.0) | (y >= 1.0))
    if kind == "count":
        return np.asarray((y < 0.0) | (y != np.floor(y)))
    if kind == "unit_interval":
        return np.asarray((y < 0.0) | (y > 1.0))
    return np.asarray(y < 0.0)


def _interval(model: Model, parts: Parts, workshop: Workshop) -> Response:
    """Bounds; a missing or infinite bound means that the value is censored on that side."""
    if parts.second is None:
        raise DesignError("An interval needs two bounds.", model.response, "write interval(a, b)")
    bounds = []
    for compiled, fill in ((parts.response, -np.inf), (parts.second, np.inf)):
        values = evaluate_expression(
            compiled.text, workshop.columns(compiled), workshop.n, dict(compiled.display)
        )
        bounds.append(np.where(np.isnan(values), fill, values))
    lower, upper = bounds
    bad = lower > upper
    if bad.any():
        raise DesignError(
            "The lower bound of an interval must not exceed the upper.",
            f"{model.response} in {_where(bad, workshop)}",
            "exchange or correct the bounds",
        )
    empty = np.isinf(lower) & np.isinf(upper)
    if empty.any():
        raise DesignError(
            "An interval needs at least one finite bound.",
            f"{model.response} has none in {_where(empty, workshop)}",
            "leave these rows out",
        )
    exact = int(np.sum(lower == upper))
    left, right = int(np.sum(np.isinf(lower))), int(np.sum(np.isinf(upper)))
    inside = len(lower) - exact - left - right
    sentence = (
        f"modelled: the mean of the value behind {model.response}: {exact} rows exact, {left} "
        f"left-censored, {right} right-censored, {inside} in intervals"
    )
    return Response(lower, None, upper, (), sentence)


def _binary(model: Model, parts: Parts, workshop: Workshop, request: ResponseRequest) -> Response:
    """Successes and trials, 0/1, or two categories."""
    shown = model.response
    if parts.second is not None:
        if not shown.startswith("cbind"):
            _one_column(model, parts, "binary")
        good = evaluate_number(parts.response, workshop.columns(parts.response), workshop.n,
                               workshop.kept)  # fmt: skip
        bad = evaluate_number(parts.second, workshop.columns(parts.second), workshop.n,
                              workshop.kept)  # fmt: skip
        _check_range(good, "count", model.response_parts[0], workshop)
        _check_range(bad, "count", model.response_parts[1], workshop)
        words = f"the probability of {model.response_parts[0]} (successes), with "
        words += f"{model.response_parts[1]} as failures"
        return _successes(good, good + bad, words, shown, workshop)
    values = _bare(parts, workshop)
    if request.trials is not None:
        if isinstance(values, pd.Categorical):
            values = _two(values, shown, request)[0]
        y = np.asarray(values, dtype=np.float64)
        if np.all((y >= 0.0) & (y <= 1.0)) and np.any(y != np.floor(y)):
            counts = y * request.trials
            off = np.abs(counts - np.round(counts)) > 1e-6 * np.maximum(1.0, counts)
            if off.any():
                raise DesignError(
                    "A proportion times its number of trials must be a whole number.",
                    f"{shown} times {request.trials_name} is "
                    f"{counts[np.flatnonzero(off)[0]]:g} in {_where(off, workshop)}",
                    "give the numbers of successes, or the right numbers of trials; for "
                    'proportions that are no counts use family="beta"',
                )
            y = np.round(counts)
        elif request.trials_name == "weights":
            _check_trials(request.trials, workshop)
            y = y * request.trials
        _check_range(y, "count", shown, workshop)
        words = f"the probability of success in {shown} out of {request.trials_name}"
        return _successes(y, request.trials, words, shown, workshop)
    y, event, others = _two(values, shown, request)
    _check_varies(y, f"{shown} = {event}")
    sentence = f"modelled: the probability that {shown} = {event} (against {others})"
    return Response(y, None, None, (others, event), sentence)


def _check_trials(weights: Array, workshop: Workshop) -> None:
    """Weights of a 0/1 response count trials; they have no dispersion to divide."""
    parts = weights != np.floor(weights)
    if parts.any():
        first = weights[np.flatnonzero(parts)[0]]
        raise DesignError(
            "Weights of a binomial response are numbers of trials, so whole numbers.",
            f"a weight of {first:g} in {_where(parts, workshop)}",
            "write frequency_weights= for rows that stand for several, trials= for counts of "
            "successes; binomial responses have no dispersion that precision weights could divide",
        )


def _successes(y: Array, trials: Array, words: str, shown: str, workshop: Workshop) -> Response:
    too_many = y > trials
    if too_many.any():
        raise DesignError(
            "There cannot be more successes than trials.",
            f"{shown} in {_where(too_many, workshop)}",
            "check the two columns",
        )
    _check_range(trials, "count", f"trials of {shown}", workshop)
    if y.sum() in (0.0, trials.sum()):
        raise DesignError(
            "The response must vary.", f"{shown}: all trials end alike", "check the columns"
        )
    return Response(y, np.ascontiguousarray(trials), None, ("failure", "success"),
                    f"modelled: {words}")  # fmt: skip


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _two(values: Values, shown: str, request: ResponseRequest) -> tuple[Array, str, str]:
    """0/1 codes, the label of the event and of what it is held against."""
    if isinstance(values, pd.Categorical):
        levels = list(values.categories)
        codes = np.asarray(values.codes)
    else:
        found, inverse = np.unique(np.asarray(values), return_inverse=True)
        levels, codes = found.tolist(), inverse
    is_01 = not isinstance(values, pd.Categorical) and set(levels) <= {0, 1}
    if request.event is not None:
        matches = [
            i
            for i, v in enumerate(levels)
            if v == request.event or _label(v) == _label(request.event)
        ]
        if not matches:
            raise DesignError(
                "event= must be one of the categories of the response.",
                f"event={request.event!r}; {shown} has {', '.join(map(_label, levels[:8]))}",
                "write one of these",
            )
        y = (codes == matches[0]).astype(np.float64)
        rest = [_label(v) for i, v in enumerate(levels) if i != matches[0]]
        return y, _label(levels[matches[0]]), " or ".join(rest) or "nothing else"
    if len(levels) > 2 or not (is_01 or isinstance(values, pd.Categorical)):
        listed = ", ".join(map(_label, levels[:5])) + (", ..." if len(levels) > 5 else "")
        raise DesignError(
            "A binary response must be 0/1, True/False, or have two categories.",
            f"{shown} has the values {listed}",
            "write event=... for the one that counts as success, trials=... for counts or "
            'proportions of successes, family="cumulative" or "nominal" for more categories, '
            'family="beta" for proportions that are no counts',
        )
    y = codes.astype(np.float64) if not is_01 else np.asarray(values, dtype=np.float64)
    last = _label(levels[-1])
    first = _label(levels[0]) if len(levels) > 1 else "nothing else"
    return y, last, first


def _categories(
    values: Values, shown: str, workshop: Workshop, request: ResponseRequest
) -> Response:
    """Codes of three or more ordered or unordered categories (two are allowed)."""
    if isinstance(values, pd.Categorical):
        levels, codes = list(values.categories), np.asarray(values.codes)
    else:
        numbers = np.asarray(values)
        found, codes = np.unique(numbers, return_inverse=True)
        levels = found.tolist()
        if len(levels) > 50:
            raise DesignError(
                "A response of categories may have at most 50 of them.",
                f"{shown} has {len(levels)} different numbers",
                "use a family for numbers",
            )
    if request.categories:
        wanted = list(request.categories)
        names = [_label(v) for v in wanted]
        lost = [v for v in levels if _label(v) not in names]
        if lost:
            raise DesignError(
                "categories= must list every category of the response.",
                f"{_label(lost[0])} is not in it",
                "add it",
            )
        empty = [v for v in names if v not in set(map(_label, levels))]
        if empty:
            raise DesignError(
                "Every category must occur in the analysed rows.",
                f"{empty[0]} of {shown} does not",
                "leave it out of categories=, or merge categories",
            )
        place = np.array([names.index(_label(v)) for v in levels])
        codes, levels = place[codes], wanted
    elif request.kind == "ordered" and _is_text(values, shown, workshop):
        listed = ", ".join(map(_label, levels))
        raise DesignError(
            "The order of the categories must be known.",
            f"{shown} is text: {listed}",
            "write categories=[...] from the lowest to the highest, or make the column an "
            "ordered categorical",
        )
    if len(levels) < 2:
        raise DesignError("The response must vary.", f"{shown} is always {levels}", "check it")
    labels = tuple(map(_label, levels))
    if request.kind == "ordered":
        sentence = f"modelled: the tendency to higher categories of {shown}: {' < '.join(labels)}"
    else:
        sentence = (
            f"modelled: {', '.join(labels[1:])} of {shown}, each against {labels[0]} (reference)"
        )
    return Response(codes.astype(np.float64), None, None, labels, sentence)


def _is_text(values: Values, shown: str, workshop: Workshop) -> bool:
    """Whether a column is plain text, whose order means nothing."""
    if not isinstance(values, pd.Categorical) or shown not in workshop.source.table.columns:
        return False
    if shown in workshop.source.levels:
        return False
    return not isinstance(workshop.source.table.series(shown).dtype, pd.CategoricalDtype)
