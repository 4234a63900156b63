r"""Random effects at times without data: kriging from the effects of the known times.

With C the correlations of the known times, c those of a new time with them,

    E(b_new | b) = c'C^-1 b,    Var(b_new | b) = s^2 (1 - c'C^-1 c),

so a row at a new time has ``c'C^-1`` for its columns, and a variance of its own that no data
lower: beyond the data the effect goes to zero, and its variance to ``s^2``.
Source: Goldberger 1962, JASA 57:369; Rasmussen & Williams 2006, eq. 2.19.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.model.covariance.correlation import CorrelationMap
from multilevel.model.covariance.curves import Curve

if TYPE_CHECKING:
    from multilevel.design.new_occasions import NewOccasions
    from multilevel.design.records import Design
    from multilevel.design.replay import NewRows
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
SENTENCE = (
    "At times that the data do not have, random effects are predicted from those of the known "
    "times (kriging)."
)


def with_new_occasions(design: Design, fit: Fit, rows: NewRows) -> tuple[NewRows, Array]:
    """Rows whose columns at new times are kriging weights, and the variance (n,) that this adds.

    Raises
    ------
    InferenceError : correlations at lags that a Toeplitz structure has not estimated.
    """
    extra = np.zeros(rows.n)
    if not any(block.occasions for block in rows.blocks):
        return rows, extra
    blocks = list(rows.blocks)
    start = 0
    for k, (block, own) in enumerate(zip(rows.blocks, design.blocks, strict=True)):
        theta = fit.theta[start : start + own.structure.n_parameters]
        start += own.structure.n_parameters
        if not block.occasions:
            continue
        columns = block.columns.copy()
        for new in block.occasions:
            first, last, _ = own.structure.terms[new.term]
            curve = own.structure.curve(new.term)
            if curve is None:
                raise InferenceError("New times need a structure in time.", "none", "report this")
            part = theta[own.structure.parameter_slices()[new.term]]
            weights, share = kriging(curve, part, new)
            columns[new.rows, first:last] = weights
            extra[new.rows] += share * fit.random_covariance[k][first, first]
        blocks[k] = replace(block, columns=np.asfortranarray(columns))
    return replace(rows, blocks=tuple(blocks)), extra


def kriging(curve: Curve, theta: Array, new: NewOccasions) -> tuple[Array, Array]:
    """Weights (m, q) of the known occasions, and the share (m,) of the variance that is left."""
    known = np.asarray(curve.positions)
    C = curve.correlations(theta)[0]
    gaps = np.abs(new.positions[:, None] - known)
    c = _correlations(curve, theta[curve.n_scales :], gaps)
    weights = np.linalg.solve(C, c.T).T
    left = 1.0 - np.einsum("mq,mq->m", weights, c)
    if float(left.min()) < -1e-6:
        raise InferenceError(
            f"The correlations of {curve.structure} must hold at the new times too.",
            "a new time whose correlations with the known ones no set of variables can have",
            "predict at the occasions of the data, or fit ar1 or car1",
        )
    return np.asarray(weights, dtype=np.float64), np.asarray(np.maximum(left, 0.0))


def _correlations(curve: Curve, x: Array, gaps: Array) -> Array:
    """Correlations at any gaps (m, q)."""
    if curve.structure != "toep":
        lags, index = np.unique(gaps, return_inverse=True)
        one = CorrelationMap(curve.structure, lags, (), curve.order, curve.width, 1.0)
        return np.asarray(one.table(x)[0][index].reshape(gaps.shape))
    top = round(float(curve.correlation.lags.max()))
    if not curve.order and gaps.max() > top:
        raise InferenceError(
            "toep has a correlation for each number of steps between occasions of the data.",
            f"a new time {gaps.max():g} steps from one of them; the data reach {top}",
            "fit ar1, whose correlations go on",
        )
    full = CorrelationMap("toep", np.arange(top + 1.0), (), curve.order, curve.width, 1.0)
    table = np.append(full.table(x)[0], 0.0)
    return np.asarray(table[np.minimum(gaps, top + 1).astype(np.int64)])
