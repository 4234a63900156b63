"""Simple slopes, simple intercepts and differences of slopes: ``L beta`` with its test.

Source: Bauer & Curran 2005 (Multivariate Behavioral Research 40:373); degrees of freedom of each
combination by the chosen method (``infer``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.grid import Grid
from multilevel.errors import InferenceError
from multilevel.infer.degrees_of_freedom import DfApproach
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import RowTests, row_tests
from multilevel.interpret.moderators import Points, points, slope_rows
from multilevel.interpret.variance_share import Evidence

Array = NDArray[np.float64]
#: Up to this many points every pair is compared, beyond it neighbours only.
MOST_PAIRED = 4


@dataclass(frozen=True)
class EffectRow:
    """One tested combination; columns as in every table, ``at`` says where it holds."""

    term: str
    component: str
    at: str
    estimate: float
    std_error: float
    df: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float


@dataclass(frozen=True)
class EffectTable:
    """Tested combinations and what to know about them."""

    rows: tuple[EffectRow, ...]
    sentence: str


def tested(
    evidence: Evidence,
    approach: DfApproach,
    term: str,
    pieces: list[tuple[str, str, Array]],
    conf_level: float,
    was_default: bool,
) -> tuple[list[EffectRow], RowTests]:
    """Test rows ``(component, at, L row)`` in one call."""
    hypothesis = Hypothesis(
        tuple(at for _, at, _ in pieces),
        np.array([row for *_, row in pieces]),
        np.zeros(len(pieces)),
    )
    tests = row_tests(
        evidence.fit, approach, hypothesis, conf_level=conf_level, was_default=was_default
    )
    out = [
        EffectRow(
            term, component, at, t.estimate, t.std_error, t.df, t.statistic, t.p_value,
            t.conf_low, t.conf_high,
        )
        for (component, at, _), t in zip(pieces, tests.rows, strict=True)
    ]  # fmt: skip
    return out, tests


def simple_slopes(
    evidence: Evidence,
    focal: str,
    at: Mapping[str, Any] | None = None,
    df: str | None = None,
    conf_level: float = 0.95,
) -> EffectTable:
    """Slopes of a predictor at values of its moderators, intercepts there, and differences.

    Parameters
    ----------
    evidence : the fit.
    focal : a numeric predictor: a column, or ``within(x, g)`` / ``between(x, g)``.
    at : values of the moderators (``points``); ``{focal: value}`` says where a curved effect is
        differentiated (default its mean).
    df : method of the degrees of freedom; None takes the default.
    conf_level : of the intervals.

    Returns
    -------
    Rows with ``component`` ``"slope"``, ``"intercept"`` (at 0 of the predictor and of every other
    one that is not a moderator; straight effects only), ``"difference"`` (of two slopes).

    Raises
    ------
    InferenceError, DesignError : unknown predictors or values, a categorical predictor.
    """
    grid = Grid(evidence.prepared.design)
    focal = grid.find(focal)
    asked = dict(at or {})
    own = next((v for name, v in asked.items() if grid.find(name) == focal), None)
    if own is not None and np.ndim(own) != 0:
        raise InferenceError(
            "A curved effect is differentiated at one value of its predictor.",
            f"{focal}: {own!r}",
            "give one number",
        )
    where = points(grid, focal, asked)
    slopes = slope_rows(grid, focal, where.values, own)
    pieces = [("slope", label, row) for label, row in zip(where.labels, slopes.L, strict=True)]
    if slopes.is_exact:
        zero = grid.rows({**where.values, focal: [0.0] * where.n})
        pieces += [("intercept", label, row) for label, row in zip(where.labels, zero, strict=True)]
    pieces += _differences(where, slopes.L)
    approach = evidence.approach(df)
    rows, tests = tested(evidence, approach, focal, pieces, conf_level, df is None)
    return EffectTable(
        tuple(rows),
        " ".join(
            [
                _words(rows, focal, slopes.is_exact, slopes.where),
                *_intercept_words(grid, focal, where, slopes.is_exact),
                tests.sentence,
            ]
        ),
    )


def _differences(where: Points, L: Array) -> list[tuple[str, str, Array]]:
    if where.n < 2:
        return []
    index = range(where.n)
    pairs = combinations(index, 2) if where.n <= MOST_PAIRED else pairwise(index)
    return [
        ("difference", f"({where.labels[b]}) - ({where.labels[a]})", L[b] - L[a])
        for a, b in pairs
        if np.any(L[b] != L[a])
    ]


def _intercept_words(grid: Grid, focal: str, where: Points, has_intercepts: bool) -> list[str]:
    """Name the zero point of every predictor of the simple intercepts."""
    if not has_intercepts:
        return []
    held = [f"{focal} = 0"]
    held += [
        f"{name} = {_text(variable.default)}"
        for name, variable in grid.variables.items()
        if name != focal and name not in where.values
    ]
    return [f"Intercepts are expected outcomes at {', '.join(held)}."]


def p_words(p: float) -> str:
    """``"p = .012"`` in words that a report uses."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"


def _words(rows: list[EffectRow], focal: str, exact: bool, where: float) -> str:
    out = []
    for row in rows:
        if row.component != "slope":
            continue
        place = f"At {row.at}, one" if row.at else "One"
        point = "" if exact else f" (slope at {focal} = {where:.4g}, by central differences)"
        direction = "a higher" if row.estimate >= 0 else "a lower"
        out.append(
            f"{place} unit more of {focal} goes with {direction} outcome by "
            f"{abs(row.estimate):.3f} ({p_words(row.p_value)}){point}."
        )
    return " ".join(out)


def comparisons(
    evidence: Evidence,
    variable: str,
    at: Mapping[str, Any] | None = None,
    df: str | None = None,
    conf_level: float = 0.95,
) -> EffectTable:
    """Differences of the expected outcome between values of one predictor.

    Parameters
    ----------
    variable : a categorical predictor (every pair of categories), a two-valued number (its two
        values) or another number (one unit more than its mean).
    at : ``{variable: [a, b, ...]}`` names the values to compare; others are moderators, by
        default at every category, both values, or the mean.
    df, conf_level : as in ``simple_slopes``.

    Raises
    ------
    InferenceError, DesignError : unknown predictors or values.
    """
    grid = Grid(evidence.prepared.design)
    name = grid.find(variable)
    asked = dict(at or {})
    own = next((v for key, v in asked.items() if grid.find(key) == name), None)
    values = list(own) if own is not None and np.ndim(own) == 1 else _compared(grid, name)
    if len(values) < 2 or (own is not None and np.ndim(own) != 1):
        raise InferenceError(
            "A comparison needs at least two values of the predictor.",
            f"{name}: {own!r}",
            f'write at={{"{name}": [a, b]}}',
        )
    where = points(grid, name, asked, wide=False)
    blocks = [grid.rows({**where.values, name: [value] * where.n}) for value in values]
    pieces = [
        (f"{_text(values[b])} - {_text(values[a])}", label, blocks[b][k] - blocks[a][k])
        for a, b in combinations(range(len(values)), 2)
        for k, label in enumerate(where.labels)
    ]
    approach = evidence.approach(df)
    rows, tests = tested(evidence, approach, name, pieces, conf_level, df is None)
    words = [
        f"{name} {row.component}{', at ' + row.at if row.at else ''}: the expected outcome differs "
        f"by {row.estimate:.3f} ({p_words(row.p_value)})."
        for row in rows
    ]
    return EffectTable(tuple(rows), " ".join([*words, tests.sentence]))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _compared(grid: Grid, name: str) -> list[Any]:
    """Values to compare where none are named."""
    variable = grid.variables[name]
    if variable.is_category:
        return list(variable.categories)
    if variable.observed is None:
        raise InferenceError(
            "The values of a predictor must be known to compare two of them.",
            f"{name} enters the model only inside a function or a product",
            f'name values, at={{"{name}": [a, b]}}',
        )
    distinct = np.unique(variable.observed)
    if len(distinct) == 2:
        return [float(v) for v in distinct]
    mean = float(variable.observed.mean())
    return [mean, mean + 1.0]
