"""Design rows along a predictor: one column moves, those made from it follow, the rest stand.

Interactions follow as products of their parts. Columns that are functions of the predictor
(``I(x ** 2)``, ``np.log(x)``) are read off the data, where their value at each x is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.grid import Grid
from multilevel.design.recipe import Recipe
from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.interpret.advice.columns import INTERCEPT
from multilevel.report.facts import split_interaction

Array = NDArray[np.float64]
_CENTRED = re.compile(r"^(within|between|center|scale)\(")
_CODED = re.compile(r"^C\((?P<variable>[^\W\d][\w.]*)[,)]")
_DUMMY = re.compile(r"^(?P<factor>.+)\[(T\.)?(?P<level>[^\]]*)\]$")


@dataclass(frozen=True)
class Moving:
    """A column that takes new values.

    Attributes
    ----------
    observed : (n,) its values among the analysed rows.
    new : (m,) the values to take.
    """

    observed: Array
    new: Array


def main_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Names that are neither the constant nor an interaction."""
    return tuple(n for n in names if n != INTERCEPT and len(split_interaction(n)) == 1)


def factor_of(name: str) -> tuple[str, str] | None:
    """``("sector", "Catholic")`` of the indicator column ``sector[T.Catholic]``, else None."""
    found = _DUMMY.match(name)
    return (found["factor"], found["level"]) if found else None


def factor_words(factor: str) -> str:
    """The variable of a factor as written: ``sector`` for ``C(sector)``."""
    found = _CODED.match(factor)
    return found["variable"] if found else factor


def reference_category(design: Design, factor: str, coded: Sequence[str]) -> str:
    """The category of a factor that no indicator column stands for.

    Parameters
    ----------
    factor : as in column names, ``"sector"`` or ``"C(sector)"``.
    coded : categories that have a column.

    Returns
    -------
    Its name; ``"reference"`` where the design does not hold it.
    """
    if not isinstance(design.recipe, Recipe):
        return "reference"
    variable = Grid(design).variables.get(factor_words(factor))
    left = [str(c) for c in variable.categories if str(c) not in coded] if variable else []
    return left[0] if len(left) == 1 else "reference"


def is_curve(names: Sequence[str], predictor: str) -> bool:
    """Whether some column is a transformation of ``predictor``, so that its line bends."""
    return any(
        _is_transformed(part, predictor) for name in names for part in split_interaction(name)
    )


def rows_along(
    names: Sequence[str], columns: Array, base: Array, moving: Mapping[str, Moving]
) -> Array:
    """Design rows (m, k) in which the named columns take new values.

    Parameters
    ----------
    names : k column names.
    columns : (n, k) the columns among the analysed rows.
    base : (m, k) or (k,) the values of columns that stand still.
    moving : ``{name: Moving}``; each has m new values.

    Raises
    ------
    InferenceError : an interaction whose other part is not a column of its own, or a column made
        from the predictor together with others.
    """
    m = max((len(v.new) for v in moving.values()), default=1)
    out = np.broadcast_to(base, (m, len(names))).copy()
    for j, name in enumerate(names):
        parts = split_interaction(name)
        if not any(_follows(part, moving) for part in parts):
            continue
        value = np.ones(m)
        for part in parts:
            value = value * _part(part, names, columns, base, moving)
        out[:, j] = value
    return out


def _follows(part: str, moving: Mapping[str, Moving]) -> bool:
    return part in moving or any(_is_transformed(part, name) for name in moving)


def _is_transformed(part: str, name: str) -> bool:
    """Whether ``part`` is a function of the variable ``name`` (centring calls are not)."""
    if part == name or not name.isidentifier() or _CENTRED.match(part):
        return False
    return "(" in part and re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.(])", part) is not None


def _part(
    part: str,
    names: Sequence[str],
    columns: Array,
    base: Array,
    moving: Mapping[str, Moving],
) -> Array:
    if part in moving:
        return moving[part].new
    if part not in names:
        raise InferenceError(
            "Both parts of an interaction must be effects of their own to draw its slopes.",
            f"{part} occurs in an interaction only",
            f"add {part} to the model for the means",
        )
    at = list(names).index(part)
    for name, move in moving.items():
        if _is_transformed(part, name):
            return _read_off(part, name, move, columns[:, at])
    return np.asarray(base[..., at])


def _read_off(part: str, name: str, move: Moving, values: Array) -> Array:
    x, first, inverse = np.unique(move.observed, return_index=True, return_inverse=True)
    g = values[first]
    spread = float(np.ptp(values)) or 1.0
    if float(np.max(np.abs(values - g[inverse]))) > 1e-9 * spread:
        raise InferenceError(
            f"A line along {name} needs every column made from it to depend on nothing else.",
            f"{part} differs between rows of equal {name}",
            "draw predict() on a table of your own",
        )
    return np.asarray(np.interp(move.new, x, g))
