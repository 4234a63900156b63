"""Marginal (least-squares) means of categorical predictors, and their pairwise comparisons.

The mean of a category is the predicted mean of the outcome (random effects zero) on the grid of
all categories, averaged over the other factors with equal weights; numeric predictors are held at
their means over the analysed rows, or where ``at`` says.
Source: Searle, Speed & Milliken 1980 (American Statistician 34:216).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.infer.adjust import adjusted_p, check_adjustment, simultaneous_critical
from multilevel.infer.degrees_of_freedom import DfApproach, FixedEffects
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import RowTests, row_tests
from multilevel.infer.names import canonical
from multilevel.infer.terms import TermTable, find_variable, grid_rows, term_table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeansGrid:
    """The combinations of fixed effects that are marginal means.

    Attributes
    ----------
    factors : names of the variables whose means these are.
    cells : their categories, one tuple per mean.
    L : (k, p).
    sentence : what was averaged over and held where.
    """

    factors: tuple[str, ...]
    cells: tuple[tuple[Any, ...], ...]
    L: Array
    sentence: str

    @property
    def labels(self) -> tuple[str, ...]:
        """``sector[Public]`` for each mean."""
        return tuple(
            ", ".join(f"{f}[{c}]" for f, c in zip(self.factors, cell, strict=True))
            for cell in self.cells
        )


def means_grid(
    design: Design, variables: str | Sequence[str], at: Mapping[str, Any] | None = None
) -> MeansGrid:
    """Set up the marginal means of one categorical variable, or of the cells of several.

    Parameters
    ----------
    variables : a name, or several.
    at : ``{variable: value}``: where numeric variables are held, or one category of a factor.

    Raises
    ------
    InferenceError : an unknown or numeric variable, an impossible value, empty cells.
    """
    if design.dropped_columns:
        raise InferenceError(
            "Marginal means need data in every combination of categories.",
            "columns that were left out: " + ", ".join(design.dropped_columns),
            "leave the redundant terms out of the formula, or use contrast()",
        )
    table = term_table(design)
    wanted = [variables] if isinstance(variables, str) else list(variables)
    own = tuple(dict.fromkeys(find_variable(table, name) for name in wanted))
    for identifier in own:
        if identifier not in table.categories:
            raise InferenceError(
                "Marginal means are for categorical predictors.",
                f"{table.shown[identifier]} is numeric",
                "use contrast() for a numeric predictor, or C(...) in the formula",
            )
    if not own:
        raise InferenceError("Marginal means need a variable.", "none", "name one")
    held = _held(design, table, own, at or {})
    others = tuple(i for i in table.categories if i not in own and i not in held)
    X = grid_rows(design, table, own + others, held)
    L = X.mean(axis=tuple(range(len(own), X.ndim - 1))).reshape(-1, X.shape[-1])
    cells = tuple(product(*(table.categories[i] for i in own)))
    return MeansGrid(
        tuple(table.shown[i] for i in own), cells, L, _sentence(design, table, held, others)
    )


def _held(
    design: Design, table: TermTable, own: Sequence[str], at: Mapping[str, Any]
) -> dict[str, Any]:
    """``{identifier: value}`` of the variables that are held at one value."""
    held: dict[str, Any] = {}
    for name, value in at.items():
        identifier = find_variable(table, name)
        known = table.categories.get(identifier)
        if identifier in own or (known is not None and value not in known):
            raise InferenceError(
                "at must give values of the other variables.",
                f"{name}={value!r}",
                "its categories are " + ", ".join(map(str, known or ())),
            )
        held[identifier] = value if known is not None else _finite(name, value)
    for identifier in table.numbers:
        if identifier not in held:
            held[identifier] = _mean_of(design, table.shown[identifier])
    return held


def _finite(name: str, value: Any) -> float:
    if isinstance(value, (int, float, np.integer, np.floating)) and np.isfinite(value):
        return float(value)
    raise InferenceError(
        "at must give one finite number for a numeric variable.", f"{name}={value!r}", "correct it"
    )


def _mean_of(design: Design, shown: str) -> float:
    """Mean of a variable over the analysed rows, from its own column or its learnt centring."""
    for k, name in enumerate(design.names):
        if canonical(name) == canonical(shown):
            column = design.X[:, k]
            mean = float(column.mean())
            return mean if abs(mean) > 1e-10 * float(np.abs(column).max()) else 0.0
    for learnt in design.recipe.centring:
        if learnt.call.text == shown and learnt.call.kind in ("within", "center", "scale"):
            return 0.0
    raise InferenceError(
        "The mean of every numeric variable must be known.",
        f"{shown} is in the model only inside other terms",
        f"give a value: at={{{shown!r}: ...}}",
    )


def _sentence(
    design: Design, table: TermTable, held: Mapping[str, Any], others: Sequence[str]
) -> str:
    parts = ["Predicted means with random effects at zero"]
    if others:
        shown = ", ".join(table.shown[i] for i in others)
        parts.append(f"averaged over the categories of {shown} with equal weights")
    if held:
        values = [
            f"{table.shown[i]} = {v:.4g}" if isinstance(v, float) else f"{table.shown[i]} = {v}"
            for i, v in held.items()
        ]
        parts.append("at " + ", ".join(values))
    text = ", ".join(parts) + "."
    return text + (" The offset is left out." if design.offset is not None else "")


def marginal_means(
    fit: FixedEffects,
    approach: DfApproach,
    grid: MeansGrid,
    *,
    conf_level: float = 0.95,
    was_default: bool = False,
) -> RowTests:
    """The marginal means of a grid with their intervals."""
    hypothesis = Hypothesis(grid.labels, grid.L, np.zeros(len(grid.L)))
    found = row_tests(fit, approach, hypothesis, conf_level=conf_level, was_default=was_default)
    return replace(found, sentence=f"{grid.sentence} {found.sentence}")


def pairwise(
    fit: FixedEffects,
    approach: DfApproach,
    grid: MeansGrid,
    *,
    adjust: str = "tukey",
    conf_level: float = 0.95,
    was_default: bool = False,
) -> RowTests:
    """All differences between the marginal means of a grid, adjusted for their number.

    Raises
    ------
    InferenceError : an unknown adjustment.
    """
    chosen = check_adjustment(adjust)
    k = len(grid.cells)
    pairs = list(combinations(range(k), 2))
    rows = np.array([grid.L[i] - grid.L[j] for i, j in pairs]).reshape(-1, grid.L.shape[1])
    labels = tuple(f"{grid.labels[i]} - {grid.labels[j]}" for i, j in pairs)
    found = row_tests(
        fit,
        approach,
        Hypothesis(labels, rows, np.zeros(len(rows))),
        conf_level=conf_level,
        was_default=was_default,
    )
    p, t, df = (
        np.array([getattr(row, name) for row in found.rows])
        for name in ("p_value", "statistic", "df")
    )
    p = adjusted_p(p, t, df, k, chosen)
    critical = simultaneous_critical(df, found.conf_level, k, chosen)
    tests = tuple(
        replace(
            row,
            p_value=float(p[i]),
            conf_low=row.estimate - float(critical[i]) * row.std_error,
            conf_high=row.estimate + float(critical[i]) * row.std_error,
        )
        for i, row in enumerate(found.rows)
    )
    many = {
        "none": "P-values and intervals are not adjusted for the number of comparisons.",
        "tukey": f"Tukey's adjustment for {len(pairs)} comparisons of {k} means.",
        "bonferroni": f"Bonferroni's adjustment for {len(pairs)} comparisons.",
        "holm": f"Holm's adjustment for {len(pairs)} comparisons; intervals are Bonferroni's.",
    }[chosen]
    return replace(found, rows=tests, sentence=f"{grid.sentence} {many} {found.sentence}")
