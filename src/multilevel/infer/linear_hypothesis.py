"""Hypotheses in words to rows of numbers: ``"sector = 0, between - within = 0"``.

Grammar: hypotheses separated by commas; each ``side = side [= side]``; a side is a sum of
numbers, names and ``number * name`` (or ``name * number``, ``name / number``). A name that stands
alone against a number may be a term with several columns, and then means each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.names import EffectNames, split_top

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hypothesis:
    """``L beta = rhs``.

    Attributes
    ----------
    labels : k texts, one per row.
    L : (k, p) on the user's fixed effects.
    rhs : (k,).
    """

    labels: tuple[str, ...]
    L: Array
    rhs: Array


def parse_hypotheses(text: str, names: Sequence[str]) -> Hypothesis:
    """Read hypotheses on fixed effects (see the module's text for the grammar).

    Raises
    ------
    InferenceError : text that is no hypothesis, or a name that the model does not have.
    """
    effects = EffectNames(names)
    labels: list[str] = []
    rows: list[Array] = []
    rhs: list[float] = []
    for _, piece in split_top(text, ",;\n"):
        if not piece.strip():
            continue
        sides = [side for _, side in split_top(piece, "=")]
        if len(sides) < 2 or not all(side.strip() for side in sides):
            raise InferenceError(
                "A hypothesis must have the form 'effect = number' or 'effect - effect = 0'.",
                repr(piece.strip()),
                "write for example 'ses = 0'",
            )
        for left, right in pairwise(sides):
            for label, row, value in _equation(left, right, effects):
                labels.append(label)
                rows.append(row)
                rhs.append(value)
    if not rows:
        raise InferenceError("A test needs a hypothesis.", repr(text), "write 'ses = 0'")
    return Hypothesis(tuple(labels), np.array(rows), np.array(rhs))


def _equation(left: str, right: str, effects: EffectNames) -> list[tuple[str, Array, float]]:
    alone = _several(left, effects)
    constant = _number(right)
    if alone and constant is not None:
        unit = np.eye(len(effects.names))
        return [(f"{effects.names[k]} = {right.strip()}", unit[k], constant) for k in alone]
    row_left, at_left = _side(left, effects)
    row_right, at_right = _side(right, effects)
    row = row_left - row_right
    label = f"{left.strip()} = {right.strip()}"
    if not np.any(row):
        raise InferenceError(
            "A hypothesis must involve a fixed effect.", label, "name one on the left side"
        )
    return [(label, row, at_right - at_left)]


def _several(side: str, effects: EffectNames) -> list[int]:
    """Columns of a side that is one name of a term with several columns, else nothing."""
    pieces = [piece for _, piece in split_top(side, "+-*/")]
    if len(pieces) != 1 or _number(side) is not None:
        return []
    found = effects.find(side)
    return found if len(found) > 1 else []


def _number(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _side(text: str, effects: EffectNames) -> tuple[Array, float]:
    """``(row (p,), constant)`` of a sum."""
    row, constant = np.zeros(len(effects.names)), 0.0
    whole = _number(text)
    if whole is not None:
        return row, whole
    sign = 1.0
    for before, piece in split_top(text, "+-"):
        sign = -sign if before == "-" else sign
        if not piece.strip():
            continue  # a sign in front of another
        name, amount = _product(piece, effects)
        if name is None:
            constant += sign * amount
        else:
            row[name] += sign * amount
        sign = 1.0
    return row, constant


def _product(piece: str, effects: EffectNames) -> tuple[int | None, float]:
    """One summand: ``(column or None, number)``."""
    name, amount = None, 1.0
    for before, factor in split_top(piece, "*/"):
        value = _number(factor)
        if value is not None:
            if before == "/" and value == 0.0:
                raise InferenceError(
                    "A number must not be divided by zero.", piece.strip(), "write another number"
                )
            amount = amount / value if before == "/" else amount * value
        elif name is None and before != "/":
            name = effects.one(factor)
        else:
            raise InferenceError(
                "A hypothesis must be linear: a sum of numbers times fixed effects.",
                repr(piece.strip()),
                "name interactions with a colon, as in ses:sector",
            )
    return name, amount


def combination_rows(
    combinations: Mapping[str, Mapping[str, float]], names: Sequence[str]
) -> Hypothesis:
    """Rows from ``{label: {fixed effect: weight}}``; right sides are zero.

    Raises
    ------
    InferenceError : an unknown effect, or a weight that is not a finite number.
    """
    effects = EffectNames(names)
    rows = np.zeros((len(combinations), len(effects.names)))
    for k, (label, weights) in enumerate(combinations.items()):
        for name, weight in weights.items():
            value = float(weight)
            if not np.isfinite(value):
                raise InferenceError(
                    "Weights of a contrast must be finite numbers.",
                    f"{weight!r} for {name} in {label!r}",
                    "correct the weight",
                )
            rows[k, effects.one(name)] += value
    return Hypothesis(tuple(map(str, combinations)), rows, np.zeros(len(rows)))


def matrix_rows(L: Array, labels: Sequence[str] | None, n_fixed: int) -> Hypothesis:
    """Rows from a matrix (k, p) (or one row (p,)) and their labels.

    Raises
    ------
    InferenceError : another shape, numbers that are not finite, or labels of another length.
    """
    matrix = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if matrix.ndim != 2 or matrix.shape[1] != n_fixed or not np.all(np.isfinite(matrix)):
        raise InferenceError(
            "A contrast matrix must have one finite number per fixed effect in each row.",
            f"shape {np.shape(L)} for {n_fixed} fixed effects",
            "give an array of shape (rows, fixed effects), in the order of coefficients()",
        )
    texts = [f"contrast {k + 1}" for k in range(len(matrix))] if labels is None else list(labels)
    if len(texts) != len(matrix):
        raise InferenceError(
            "A contrast matrix needs one label per row.",
            f"{len(texts)} labels for {len(matrix)} rows",
            "give as many labels as rows, or none",
        )
    return Hypothesis(tuple(map(str, texts)), matrix, np.zeros(len(matrix)))
