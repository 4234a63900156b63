r"""Residuals of every level, raw and divided by their own standard deviation.

Over sigma2, with ``P`` of ``leverage.py``: ``Var(conditional residual_i) = P_ii / w_i^2``,
``Var(marginal residual_i) = V_ii - x_i'M x_i``, and the EBLUP of a level has
``Var(b^) = G - Var(b^ - b)``, the "diagnostic" variance. A standardised value beyond 3 is rare if
the model is right.

Sources: Nobre & Singer 2007 (Biometrical Journal 49:863); Goldstein 2011, Multilevel Statistical
Models, section 2.9 (diagnostic variance of level-2 residuals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.records import Fit
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.leverage import Leverage

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowResiduals:
    """Residuals of the n analysed rows; ``*_std`` are divided by their standard deviation.

    Attributes
    ----------
    conditional, marginal : (n,) response units, with and without the random effects.
    conditional_std, marginal_std : (n,) without unit; NaN for a row that is fitted exactly.
    """

    conditional: Array
    marginal: Array
    conditional_std: Array
    marginal_std: Array


@dataclass(frozen=True)
class EffectResiduals:
    """Standardised EBLUPs of one grouping factor.

    Attributes
    ----------
    group : the factor.
    levels : (J,) labels.
    names : q names of the effects.
    estimates : (J, q) EBLUPs, response units.
    std : (J, q) EBLUPs over their standard deviation; NaN where it is zero.
    distance : (J,) ``b^' Var(b^)^+ b^``: chi-squared with ``rank`` degrees of freedom.
    rank : (J,) effects of the level that the data say something about.
    """

    group: str
    levels: NDArray[Any]
    names: tuple[str, ...]
    estimates: Array
    std: Array
    distance: Array
    rank: NDArray[np.intp]


def over(values: Array, variance: Array, scale: float) -> Array:
    """``values / sqrt(variance)``; NaN where the variance is no more than rounding of ``scale``."""
    known = variance > 1e-10 * scale
    return np.divide(
        values,
        np.sqrt(np.where(known, variance, 1.0)),
        out=np.full_like(values, np.nan),
        where=known,
    )


def row_residuals(rows: WorkingRows, leverage: Leverage) -> RowResiduals:
    """Conditional and marginal residuals of the analysed rows."""
    conditional_variance = (1.0 - leverage.total) / rows.weights
    marginal_variance = 1.0 / rows.weights
    for z, psi in zip(rows.Z, rows.psis, strict=True):
        marginal_variance = marginal_variance + np.einsum("ia,ab,ib->i", z, psi, z, optimize=True)
    scale = marginal_variance.copy()
    marginal_variance = marginal_variance - np.einsum(
        "ia,ab,ib->i", rows.X, rows.M, rows.X, optimize=True
    )
    sigma = np.sqrt(rows.sigma2)
    return RowResiduals(
        rows.conditional * rows.y_scale,
        rows.marginal * rows.y_scale,
        over(rows.conditional / sigma, conditional_variance, float(np.median(1.0 / rows.weights))),
        over(rows.marginal / sigma, marginal_variance, float(np.median(scale))),
    )


def effect_residuals(
    design: Design, fit: Fit, effects: Sequence[BlockEffects]
) -> tuple[EffectResiduals, ...]:
    """Standardised EBLUPs of every grouping factor."""
    return tuple(
        standardised_effects(
            block.group,
            block.levels,
            block.names,
            effect.estimates,
            G,
            G - effect.prediction_covariance(),
        )
        for block, G, effect in zip(design.blocks, fit.random_covariance, effects, strict=True)
    )


def standardised_effects(
    group: str,
    levels: NDArray[Any],
    names: tuple[str, ...],
    estimates: Array,
    G: Array,
    variance: Array,
) -> EffectResiduals:
    """Predicted effects (J, q) over the standard deviation of their predictions.

    ``variance`` (J, q, q): covariance of the predictions, ``G`` less that of their errors.
    """
    variance = (variance + variance.transpose(0, 2, 1)) / 2.0
    diagonal = np.diagonal(variance, axis1=1, axis2=2)
    std = np.full_like(estimates, np.nan)
    for a in range(estimates.shape[1]):
        std[:, a] = over(estimates[:, a], diagonal[:, a], float(G[a, a]))
    size = np.sqrt(np.where(np.diag(G) > 0, np.diag(G), 1.0))
    values, vectors = np.linalg.eigh(variance / (size[:, None] * size[None, :]))
    kept = values > 1e-9
    turned = np.einsum("jab,ja->jb", vectors, estimates / size)
    distance = np.sum(np.where(kept, turned**2 / np.where(kept, values, 1.0), 0.0), axis=1)
    return EffectResiduals(group, levels, names, estimates, std, distance, kept.sum(axis=1))
