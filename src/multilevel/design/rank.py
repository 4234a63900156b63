"""Which fixed-effect columns repeat others.

Columns are centred (where an intercept is present) and scaled to unit length. A Cholesky
factorisation of their Gram matrix, in the order of the formula, finds columns that are almost a
combination of earlier ones; an orthogonal projection of the rows then decides. Hence the first of
two equal columns stays, as in R's ``lm``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: A Gram pivot (1 - R squared) below this calls for a second look at the rows.
GRAM_TOLERANCE = 1e-10
#: Length of what is left of a unit column below which it counts as a combination; as in R's lm.
TOLERANCE = 1e-7
_CHUNK = 65_536
_MAX_NAMED = 4


@dataclass(frozen=True)
class RankReport:
    """Result of `find_dependent`.

    Attributes
    ----------
    kept : positions of the columns that stay, ascending.
    dropped : ``{position: why}``.
    """

    kept: tuple[int, ...]
    dropped: dict[int, str]


def find_dependent(X: Array, names: tuple[str, ...]) -> RankReport:
    """Find columns of X (n, p) that are combinations of the columns before them.

    An intercept column counts as coming first wherever it stands. Cost: one pass, ``n p^2``.
    """
    p = X.shape[1]
    intercept = names.index("(Intercept)") if "(Intercept)" in names else None
    order = [j for j in range(p) if j != intercept]
    dropped: dict[int, str] = {}
    kept: list[int] = [] if intercept is None else [intercept]
    if not order:
        return RankReport(tuple(kept), dropped)
    center, gram = _moments(X, order, intercept is not None)
    length = np.sqrt(np.diagonal(gram))
    scale = np.sqrt(np.diagonal(gram) + X.shape[0] * center**2)
    live: list[int] = []  # indices into `order`
    factor = np.zeros((len(order), len(order)))
    for k, j in enumerate(order):
        if length[k] <= _zero(intercept is not None) * scale[k]:
            dropped[j] = _constant(names[j], float(X[0, j]), intercept is not None)
            continue
        row = _solve_lower(factor, live, gram[live, k] / (length[live] * length[k]))
        pivot = 1.0 - float(row @ row)
        if pivot < GRAM_TOLERANCE:
            coefficients, rest = _project(X, [order[i] for i in live], j, intercept)
            if rest < TOLERANCE:
                dropped[j] = _describe(j, [order[i] for i in live], coefficients, names, intercept)
                continue
            pivot = max(pivot, rest**2)
        factor[k, live] = row
        factor[k, k] = np.sqrt(pivot)
        live.append(k)
    kept += [order[i] for i in live]
    return RankReport(tuple(sorted(kept)), dropped)


def _zero(is_centred: bool) -> float:
    """Relative length under which a column is constant (centred) or zero (not centred)."""
    return 1e-12 if is_centred else 0.0


def _moments(X: Array, order: list[int], is_centred: bool) -> tuple[Array, Array]:
    """Column means (zero if not centred) and the Gram matrix around them, in chunks of rows."""
    n = X.shape[0]
    if not is_centred:
        part = X if len(order) == X.shape[1] else X[:, order]
        return np.zeros(len(order)), part.T @ part
    shift = X[: min(n, 4096), order].mean(axis=0)
    total = np.zeros(len(order))
    gram = np.zeros((len(order), len(order)))
    for start in range(0, n, _CHUNK):
        chunk = X[start : start + _CHUNK, order] - shift
        total += chunk.sum(axis=0)
        gram += chunk.T @ chunk
    mean = total / n
    return shift + mean, np.maximum(gram - n * np.outer(mean, mean), _floor(gram))


def _floor(gram: Array) -> Array:
    """Keep rounding from making a diagonal negative; off-diagonals are free."""
    floor = np.full_like(gram, -np.inf)
    np.fill_diagonal(floor, 0.0)
    return floor


def _solve_lower(factor: Array, live: list[int], right: Array) -> Array:
    """Forward substitution with the live rows of the factor."""
    out = np.zeros(len(live))
    for a, i in enumerate(live):
        out[a] = (right[a] - factor[i, live[:a]] @ out[:a]) / factor[i, i]
    return out


def _project(X: Array, others: list[int], j: int, intercept: int | None) -> tuple[Array, float]:
    """Coefficients of column j on the others (constant last), and the length of what is left."""
    columns = X[:, others].copy()
    target = X[:, j].copy()
    means = np.zeros(len(others))
    own = 0.0
    if intercept is not None:
        means, own = columns.mean(axis=0), float(target.mean())
        columns -= means
        target -= own
    lengths = np.linalg.norm(columns, axis=0)
    size = float(np.linalg.norm(target))
    solution = np.linalg.lstsq(columns / lengths, target / size, rcond=None)[0]
    rest = target / size - (columns / lengths) @ solution
    slopes = solution * size / lengths
    constant = own - float(means @ slopes)
    return np.append(slopes, constant), float(np.linalg.norm(rest))


def _constant(name: str, value: float, has_intercept: bool) -> str:
    """Why a column without variance is dropped."""
    if has_intercept and value != 0.0:
        return f"{name} is {value:.6g} in every row, which the intercept already is"
    return f"{name} is 0 in every row" if value == 0.0 else f"{name} is constant"


def _describe(
    j: int, others: list[int], coefficients: Array, names: tuple[str, ...], intercept: int | None
) -> str:
    """Write the combination, e.g. ``"b = 2 * a"``."""
    slopes, constant = coefficients[:-1], float(coefficients[-1])
    top = float(np.abs(slopes).max(initial=0.0))
    used = [(others[i], float(slopes[i])) for i in np.flatnonzero(np.abs(slopes) > 1e-8 * top)]
    has_constant = intercept is not None and abs(constant) > 1e-8 * max(top, 1e-300)
    if len(used) > _MAX_NAMED:
        listed = ", ".join(names[i] for i, _ in used[:_MAX_NAMED])
        return f"{names[j]} is a combination of {listed} and {len(used) - _MAX_NAMED} more"
    text = f"{constant:.6g}" if has_constant else ""
    for i, slope in used:
        size = abs(slope)
        times = "" if abs(size - 1.0) < 1e-8 else f"{size:.6g} * "
        sign = (" - " if slope < 0 else " + ") if text else ("-" if slope < 0 else "")
        text += f"{sign}{times}{names[i]}"
    return f"{names[j]} = {text}"
