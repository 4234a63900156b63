"""Which fixed-effect columns repeat others.

Columns are centred (where an intercept is present) and scaled to unit length. If a Cholesky pivot
of their Gram matrix is tiny, Gram-Schmidt on the rows, in the order of the formula, decides. Hence
the first of two equal columns stays, as in R's ``lm``.
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
#: Deviations from the mean, relative to the size of a column, below which it is constant.
FLAT = 1e-12
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

    An intercept column counts as coming first wherever it stands. Cost: one pass of ``n p^2``, and
    a second one (with a copy of X) only if a column looks dependent.
    """
    intercept = names.index("(Intercept)") if "(Intercept)" in names else None
    order = [j for j in range(X.shape[1]) if j != intercept]
    first = [] if intercept is None else [intercept]
    if not order:
        return RankReport(tuple(first), {})
    is_centred = intercept is not None
    center, gram = _moments(X, order, is_centred)
    length = np.sqrt(np.diagonal(gram))
    scale = np.sqrt(np.diagonal(gram) + X.shape[0] * center**2)
    is_flat = length <= (FLAT * scale if is_centred else 0.0)
    dropped = {j: _constant(names[j], float(X[0, j]), is_centred)
               for j, flat in zip(order, is_flat.tolist(), strict=True) if flat}  # fmt: skip
    moving = np.flatnonzero(~is_flat)
    correlation = gram[np.ix_(moving, moving)] / np.outer(length[moving], length[moving])
    candidates = [order[k] for k in moving]
    if _looks_dependent(correlation):
        for j, others in _dependent_rows(X, candidates, is_centred):
            coefficients = _coefficients(X, others, j, is_centred)
            dropped[j] = _describe(j, others, coefficients, names, is_centred)
    kept = first + [j for j in candidates if j not in dropped]
    return RankReport(tuple(sorted(kept)), dict(sorted(dropped.items())))


def _looks_dependent(correlation: Array) -> bool:
    """Whether a Cholesky pivot of the correlation matrix falls below the tolerance."""
    try:
        factor = np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        return True
    return bool((np.diagonal(factor) ** 2).min(initial=1.0) < GRAM_TOLERANCE)


def _dependent_rows(
    X: Array, candidates: list[int], is_centred: bool
) -> list[tuple[int, list[int]]]:
    """Find dependent columns by Gram-Schmidt on the rows, each step done twice to stay exact.

    Returns pairs (column, independent columns before it).
    """
    basis = np.empty((X.shape[0], len(candidates)), order="F")
    kept: list[int] = []
    found: list[tuple[int, list[int]]] = []
    for j in candidates:
        column = X[:, j] - (X[:, j].mean() if is_centred else 0.0)
        column /= np.linalg.norm(column)
        known = basis[:, : len(kept)]
        for _ in range(2):
            column -= known @ (known.T @ column)
        rest = float(np.linalg.norm(column))
        if rest < TOLERANCE:
            found.append((j, list(kept)))
        else:
            basis[:, len(kept)] = column / rest
            kept.append(j)
    return found


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


def _coefficients(X: Array, others: list[int], j: int, is_centred: bool) -> Array:
    """Coefficients of column j on the others, the constant last."""
    columns = X[:, others].copy()
    target = X[:, j].copy()
    means = np.zeros(len(others))
    own = 0.0
    if is_centred:
        means, own = columns.mean(axis=0), float(target.mean())
        columns -= means
        target -= own
    lengths = np.linalg.norm(columns, axis=0)
    slopes = np.linalg.lstsq(columns / lengths, target, rcond=None)[0] / lengths
    return np.append(slopes, own - float(means @ slopes))


def _constant(name: str, value: float, has_intercept: bool) -> str:
    """Why a column without variance is dropped."""
    if has_intercept and value != 0.0:
        return f"{name} is {value:.6g} in every row, which the intercept already is"
    return f"{name} is 0 in every row" if value == 0.0 else f"{name} is constant"


def _describe(
    j: int, others: list[int], coefficients: Array, names: tuple[str, ...], is_centred: bool
) -> str:
    """Write the combination, e.g. ``"b = 2 * a"``."""
    slopes, constant = coefficients[:-1], float(coefficients[-1])
    top = float(np.abs(slopes).max(initial=0.0))
    used = [(others[i], float(slopes[i])) for i in np.flatnonzero(np.abs(slopes) > 1e-8 * top)]
    has_constant = is_centred and abs(constant) > 1e-8 * max(top, 1e-300)
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
