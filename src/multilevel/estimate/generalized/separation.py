r"""Separation: predictors that foretell an outcome without error, so that no finite slope is best.

A direction ``d`` of the coefficients separates if moving along it never lowers the likelihood of
any row and raises that of some. That is a linear programme (Albert & Anderson 1984; Konis 2007):
maximise ``sum a_i'd`` subject to ``a_i'd >= 0`` and ``|d| <= 1``, with one row ``a_i`` for every
inequality that an outcome implies:

* success ``x'd >= 0``, failure ``x'd <= 0``, both seen ``x'd = 0``;
* counts: zero ``x'd <= 0``, more ``x'd = 0``;
* ordered, category c: ``t_c - x'd >= 0`` and ``x'd - t_{c-1} >= 0``;
* nominal, category k: ``x'd_k - x'd_j >= 0`` for every other j.

Random effects do not cure separation by fixed effects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import EstimationError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.starts import Pooled

Array = NDArray[np.float64]

LARGE_SLOPE = 8.0  # scaled slopes beyond which separation is looked for
_TINY = 1e-7


def check_separation(prepared: GeneralizedPrepared, first: Pooled) -> None:
    """Raise if fixed effects separate the outcomes; a look is taken only where slopes are large.

    Raises
    ------
    EstimationError : names the columns and what they foretell, and the penalty that would help.
    """
    slopes = first.phi[first_slopes(prepared)]
    suspicious = not first.path.converged or (len(slopes) and np.abs(slopes).max() > LARGE_SLOPE)
    if not suspicious:
        return
    found = separating_direction(prepared.design)
    if found is None:
        return
    names, example = found
    raise EstimationError(
        "Every slope must have a finite best value.",
        f"{' and '.join(names)}: " + example + " (separation), so the likelihood rises without "
        "end as the slope grows",
        'merge categories or leave the predictor out, or write penalty="slopes" for a weakly '
        "informative penalty that keeps slopes finite",
    )


def first_slopes(prepared: GeneralizedPrepared) -> NDArray[np.intp]:
    """Positions of the slopes of the parts that take the model's formula."""
    problem = prepared.problem
    out: list[int] = []
    for part, fixed, s in zip(
        prepared.design.parts, problem.fixed, problem.fixed_slices, strict=True
    ):
        if part.design is not None:
            out += [s.start + int(j) for j in np.flatnonzero(fixed.X.std(axis=0) > 1e-12)]
    return np.array(out, dtype=np.intp)


def separating_direction(design: GeneralizedDesign) -> tuple[list[str], str] | None:
    """Columns that separate, and what they foretell in words; None without separation."""
    X = design.parts[0].X
    spread = X.std(axis=0)
    Xs = X / np.where(spread > 0.0, spread, np.where(np.abs(X).max(axis=0) > 0, 1.0, 1.0))
    built = _inequalities(design, Xs)
    if built is None:
        return None
    at_least, equal = built
    if len(at_least) == 0:
        return None
    at_least = np.unique(at_least, axis=0)
    equal = np.unique(equal, axis=0)
    answer = linprog(
        -at_least.sum(axis=0),
        A_ub=-at_least,
        b_ub=np.zeros(len(at_least)),
        A_eq=equal if len(equal) else None,
        b_eq=np.zeros(len(equal)) if len(equal) else None,
        bounds=(-1.0, 1.0),
        method="highs",
    )
    if answer.status != 0 or answer.x is None or answer.fun is None or answer.fun > -1e-6:
        return None
    p = X.shape[1]
    direction = answer.x.reshape(-1, p)[0] if design.response.categories == () else answer.x[:p]
    places = [j for j in range(p) if abs(direction[j]) > _TINY and spread[j] > 0.0]
    if not places:
        places = [j for j in range(p) if spread[j] > 0.0]
    names = [design.parts[0].names[j] for j in places]
    return names, _example(design, X, places)


def _inequalities(design: GeneralizedDesign, X: Array) -> tuple[Array, Array] | None:
    """Rows ``a`` with ``a'd >= 0``, and rows with ``a'd = 0``; None for families without any."""
    kind, y = design.family.response, design.response.y
    n, p = X.shape
    if kind == "binary":
        trials = design.response.trials if design.response.trials is not None else np.ones(n)
        seen = trials > 0
        ones, zeros = seen & (y == trials), seen & (y == 0)
        return np.vstack([X[ones], -X[zeros]]), X[seen & ~ones & ~zeros]
    if kind == "count":
        return -X[y == 0], X[y > 0]
    C = len(design.response.categories)
    if kind == "ordered":
        rows = []
        for c in range(C):
            at = X[y == c]
            if c < C - 1:
                above = np.zeros((len(at), C - 1))
                above[:, c] = 1.0
                rows.append(np.hstack([-at, above]))
            if c > 0:
                below = np.zeros((len(at), C - 1))
                below[:, c - 1] = -1.0
                rows.append(np.hstack([at, below]))
        return np.vstack(rows), np.zeros((0, p + C - 1))
    if kind == "nominal":
        rows = []
        for k in range(C):
            at = X[y == k]
            for j in range(C):
                if j == k:
                    continue
                wide = np.zeros((len(at), p * (C - 1)))
                if k > 0:
                    wide[:, (k - 1) * p : k * p] = at
                if j > 0:
                    wide[:, (j - 1) * p : j * p] = -at
                rows.append(wide)
        return np.vstack(rows), np.zeros((0, p * (C - 1)))
    return None


def _example(design: GeneralizedDesign, X: Array, places: list[int]) -> str:
    """What a separating column foretells, if one column shows it; else a general sentence."""
    y = design.response.y
    labels = design.response.categories
    for j in places:
        column, name = X[:, j], design.parts[0].names[j]
        values = np.unique(column)
        if len(values) == 2:
            for value in values:
                inside = y[column == value]
                if len(inside) and inside.min() == inside.max():
                    outcome = labels[int(inside[0])] if labels and inside[0] < len(labels) else (
                        f"{inside[0]:g}")  # fmt: skip
                    return f"all {len(inside)} rows with {name} = {value:g} have {outcome}"
    return "together they foretell the outcome of some rows without error"
