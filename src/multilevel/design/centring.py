"""Centring calls of a formula: learn the means once, reuse them on new rows.

``within(x, g)`` is ``x`` minus its mean in the group, ``between(x, g, at=c)`` the mean of the group
minus ``c``; with both in a model their slopes are the within and the between effect (Enders &
Tofighi 2007, Psychological Methods 12:121). ``center(x)`` subtracts the grand mean or a constant,
``scale(x)`` also divides by the standard deviation (divisor n - 1).

Means are computed on the analysed rows, or with ``rows="all"`` on every row of the table that has
the variable and the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.encode import evaluate_expression
from multilevel.design.recipe import LearntCentring
from multilevel.design.variables import Positions, Source, take
from multilevel.errors import DesignError
from multilevel.model.formula.names import CentringCall

Array = NDArray[np.float64]
_NOISE = 1e-12


def learn_centring(
    call: CentringCall, source: Source, kept: Positions | None
) -> tuple[Array, LearntCentring]:
    """Compute the column of one call on the kept rows, and keep the means.

    Returns
    -------
    values : (n,) the centred variable.
    learnt : the means, with the rows and groups behind them.

    Raises
    ------
    DesignError : a variable that is not a number, or has no variance under ``scale``.
    """
    basis = None if call.rows == "all" else kept
    x = _variable(call, source, basis)
    if call.factors:
        codes, levels = source.group_codes(call.factors, basis)
        known = np.isfinite(x) & (codes >= 0)
        means, counts = _means(x[known], codes[known], len(levels))
        learnt = LearntCentring(
            call, int(known.sum()), int((counts > 0).sum()), levels, means, 0.0, 1.0
        )
        if call.rows == "all" and kept is not None:
            x, codes = x[kept], codes[kept]
        return _centred(learnt, x, means[codes]), learnt
    known = np.isfinite(x)
    location = float(x[known].mean()) if call.at is None else call.at
    spread = float(x[known].std(ddof=1)) if call.kind == "scale" and known.sum() > 1 else 1.0
    if not spread > _NOISE * max(abs(location), np.finfo(float).tiny):
        raise DesignError(
            "A variable must vary to be divided by its standard deviation.",
            f"{call.shown} is constant in {int(known.sum())} rows",
            f"leave {call.text} out of the model",
        )
    learnt = LearntCentring(
        call, int(known.sum()), 0, np.empty(0, dtype=object), np.empty(0), location, spread
    )
    if call.rows == "all" and kept is not None:
        x = x[kept]
    return _centred(learnt, x, np.full(1, location)), learnt


def replay_centring(
    learnt: LearntCentring, source: Source, kept: Positions | None
) -> tuple[Array, tuple[Any, ...]]:
    """Compute the column of a learnt call on new rows.

    A group that was not there when the means were learnt gets the mean of its own new rows.

    Returns
    -------
    values : (n,).
    new_groups : labels of such groups.
    """
    call = learnt.call
    x = _variable(call, source, kept)
    if not call.factors:
        return _centred(learnt, x, np.full(1, learnt.location)), ()
    codes, levels = source.group_codes(call.factors, kept)
    own, _ = _means(x, codes, len(levels))
    place = match_levels(levels, learnt.levels)
    known = place >= 0
    if len(learnt.means):
        known &= np.isfinite(learnt.means[place])
        own = np.where(known, learnt.means[place], own)
    new = tuple(levels[~known].tolist())
    return _centred(learnt, x, own[codes]), new


def match_levels(new: Sequence[Any] | NDArray[Any], known: NDArray[Any]) -> NDArray[np.intp]:
    """Return, for each new label, its position among the known ones, or -1."""
    place = {label: index for index, label in enumerate(known.tolist())}
    listed = new.tolist() if isinstance(new, np.ndarray) else list(new)
    return np.array([place.get(label, -1) for label in listed], dtype=np.intp)


def _variable(call: CentringCall, source: Source, kept: Positions | None) -> Array:
    """The variable on the kept rows."""
    n = source.n_rows if kept is None else len(kept)
    columns = {identifier: take(source.values(name), kept) for identifier, name in call.columns}
    return evaluate_expression(call.expression, columns, n, {call.expression: call.shown})


def _means(x: Array, codes: NDArray[np.int32], n_levels: int) -> tuple[Array, NDArray[np.intp]]:
    """Group means (NaN for empty groups), computed around the grand mean to keep digits."""
    shift = float(x.mean()) if len(x) else 0.0
    counts = np.bincount(codes, minlength=n_levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(codes, weights=x - shift, minlength=n_levels) / counts + shift
    return means, counts


def _centred(learnt: LearntCentring, x: Array, center: Array) -> Array:
    """Apply the kind of centring; ``center`` is (n,) or (1,)."""
    kind = learnt.call.kind
    if kind == "between":
        shifted = center - (learnt.call.at or 0.0)
        return np.ascontiguousarray(np.broadcast_to(shifted, x.shape))
    if kind == "within":
        values = x - center
        # A variable that is constant in every group leaves rounding noise, not variance.
        if len(x) and np.abs(values).max() <= _NOISE * np.abs(x).max():
            values = np.zeros_like(values)
        return values
    return (x - center) / learnt.spread
