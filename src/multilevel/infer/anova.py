"""Tests of whole terms: Type III and Type II.

Type III of a term averages over the categories of every other factor with equal weights and
compares those of its own, whatever coding the fit used: the hypotheses of SAS, and those that
sum-to-zero coding would test. Numeric predictors are not averaged over: an effect that is part of
a product with one is tested where that predictor is zero.
Type II of a term adjusts it for all terms that do not contain it and ignores those that do, in the
metric of the fitted ``V`` (Fox & Weisberg's choice).
Sources: Searle 1987, Linear Models for Unbalanced Data; SAS/STAT, The Four Types of Estimable
Functions; Kuznetsova, Brockhoff & Christensen 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.infer.degrees_of_freedom import DfApproach, FixedEffects, method_sentence
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import JointTest, joint_test
from multilevel.infer.names import canonical, without_category
from multilevel.infer.terms import (
    Term,
    TermTable,
    check_grid,
    generic_values,
    grid_rows,
    term_table,
)

Array = NDArray[np.float64]
TYPES = (3, 2)
SENTENCES = {
    3: "Type III: each term is tested with all others in the model, averaged over the categories of"
    " other factors with equal weights; an effect in a product with a numeric predictor is tested"
    " where that predictor is zero.",
    2: "Type II: each term is adjusted for all terms that do not contain it; terms that contain it"
    " are ignored.",
}


@dataclass(frozen=True)
class Anova:
    """Tests of terms.

    Attributes
    ----------
    tests : one per term, in the order of the formula, without the intercept.
    sentence : what the tests mean, and which degrees of freedom.
    """

    tests: tuple[JointTest, ...]
    sentence: str


def anova(
    design: Design,
    fit: FixedEffects,
    approach: DfApproach,
    *,
    kind: int = 3,
    was_default: bool = False,
) -> Anova:
    """Test every term of the model for the means.

    Parameters
    ----------
    kind : 3 or 2 (see the module's text).

    Raises
    ------
    InferenceError : another kind, or Type III hypotheses that the data cannot estimate.
    """
    if kind not in TYPES:
        raise InferenceError("type must be 3 or 2.", f"type={kind!r}", "write type=3")
    table = term_table(design)
    tests = []
    for term in table.terms:
        if term.label == "(Intercept)" or not term.columns:
            continue
        L = type3_rows(design, table, term) if kind == 3 else type2_rows(fit, table, term)
        hypothesis = Hypothesis(tuple(f"{term.label} {k}" for k in range(len(L))), L, _zeros(L))
        tests.append(joint_test(fit, approach, hypothesis, term.label))
    sentence = method_sentence(approach, fit.method, was_default)
    return Anova(tuple(tests), " ".join([SENTENCES[kind], sentence, *approach.notes]))


def _zeros(L: Array) -> Array:
    return np.zeros(len(L))


def type2_rows(fit: FixedEffects, table: TermTable, term: Term) -> Array:
    """Rows (k, p): the Schur complement of ``vcov^-1`` after all terms that do not contain it."""
    own = term.numeric | term.categorical
    containing = [k for t in table.terms if own < (t.numeric | t.categorical) for k in t.columns]
    mine = list(term.columns)
    used = mine + containing
    others = [k for k in range(fit.n_fixed) if k not in set(used)]
    d = np.sqrt(np.diag(fit.vcov_beta))
    P = np.linalg.inv(fit.vcov_beta / np.outer(d, d)) / np.outer(d, d)
    rows = P[np.ix_(mine, used)]
    if others:
        solved = np.linalg.solve(P[np.ix_(others, others)], P[np.ix_(others, used)])
        rows = rows - P[np.ix_(mine, others)] @ solved
    L = np.zeros((len(mine), fit.n_fixed))
    L[:, used] = rows
    return L


def type3_rows(design: Design, table: TermTable, term: Term) -> Array:
    """Rows (k, p) of the Type III hypothesis of a term.

    Raises
    ------
    InferenceError : interactions of factors with empty cells (columns were left out).
    """
    relatives = [t for t in table.terms if t.numeric == term.numeric]
    factors = tuple(sorted({table.owners[e] for t in relatives for e in t.categorical}))
    if not factors:
        return np.eye(len(design.names))[list(term.columns)]
    if any(len(_columns_left_out(design, t)) for t in relatives):
        raise InferenceError(
            "Type III tests need data in every combination of categories.",
            "columns that were left out: " + ", ".join(design.dropped_columns),
            "use anova(type=2), or test() on the coefficients",
        )
    own = {table.owners[e] for e in term.categorical}
    rows: list[Array] = []
    for key in dict.fromkeys(term.keys):
        pairs = [pair for t in relatives for pair in zip(t.columns, t.keys, strict=True)]
        columns = [k for k, of in pairs if of == key]
        grid = _coded(design, table, term, factors, columns)
        rows += [_averaged(grid, factors, subset) for subset in _own_subsets(table, term, own)]
    return np.concatenate(rows)


def _coded(
    design: Design, table: TermTable, term: Term, factors: tuple[str, ...], columns: list[int]
) -> Array:
    """The coding of the categories in ``columns`` on the grid, zero elsewhere: (k_1, ..., p).

    The columns share one numeric factor, so any value will do at which that is not zero.
    """
    check_grid(table, factors)
    first = {i: c[0] for i, c in table.categories.items()}
    for value in generic_values(design):
        try:
            X = grid_rows(design, table, factors, dict.fromkeys(table.shown, value) | first)
        except InferenceError:
            continue  # outside the range of a spline: try the next value
        if np.all(np.any(X[..., columns].reshape(-1, len(columns)), axis=0)):
            out = np.zeros(X.shape)
            out[..., columns] = X[..., columns]
            return out
    raise InferenceError(
        "Type III tests need a value at which the numeric part of a term is not zero.",
        term.label,
        "use test() on the coefficients",
    )


def _columns_left_out(design: Design, term: Term) -> list[str]:
    """Columns of interactions of factors that were dropped and belong to a term."""
    own = canonical(term.label)
    found = []
    for name in design.dropped_columns:
        plain = frozenset(without_category(part) for part in canonical(name))
        if term.categorical and plain == own:
            found.append(name)
    return found


def _own_subsets(table: TermTable, term: Term, own: set[str]) -> list[frozenset[str]]:
    """Sets of factors whose contrasts a term carries: its own, and margins that no other term has.

    In ``y ~ a + a:b`` the term ``a:b`` carries the contrasts of ``b`` too.
    """
    smaller = [
        {table.owners[e] for e in t.categorical}
        for t in table.terms
        if t.numeric == term.numeric and t.categorical < term.categorical
    ]
    return [
        frozenset(subset)
        for size in range(len(own), -1, -1)
        for subset in combinations(sorted(own), size)
        if not any(set(subset) <= s for s in smaller)
    ]


def _averaged(grid: Array, factors: tuple[str, ...], compared: frozenset[str]) -> Array:
    """Contrast the axes of ``compared`` against their last category, average the others."""
    out = grid
    for axis, factor in enumerate(factors):
        if factor in compared:
            last = np.take(out, [-1], axis=axis)
            out = np.delete(out, -1, axis=axis) - last
        else:
            out = out.mean(axis=axis, keepdims=True)
    return out.reshape(-1, grid.shape[-1])
