r"""Rows as a robust analysis needs them: columns, their products with ``V^-1``, residuals.

Everything is in the scaled coordinates of the engine (``likelihood/blocks/scaling.py``), relative
to sigma2. Row by row ``V^-1 X = w (x - sum_t z_t Psi_t H_t)`` with ``H_t = Z_t'V^-1 X``.
Source: Woodbury's identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class WorkingRows:
    """Scaled rows of a fit at its estimates, n rows, p fixed effects.

    Attributes
    ----------
    X : (n, p) fixed-effect columns.
    Z : per block (n, q_t) random-effect columns.
    XV : (n, p) rows of ``V^-1 X``.
    marginal : (n,) ``y - X beta``.
    conditional : (n,) ``y - X beta - Z b``; ``V^-1 (y - X beta)`` is ``weights * conditional``.
    weights : (n,) precision weights (ones without any).
    M : (p, p) ``(X'V^-1 X)^-1``.
    sigma2 : residual variance.
    psis : per block (q_t, q_t) relative covariance.
    back : (p, p) takes scaled fixed effects to the user's units.
    y_scale : residuals times this are in units of the response.
    """

    X: Array
    Z: tuple[Array, ...]
    XV: Array
    marginal: Array
    conditional: Array
    weights: Array
    M: Array
    sigma2: float
    psis: tuple[Array, ...]
    back: Array
    y_scale: float

    @property
    def scores(self) -> Array:
        """(n, p) contributions ``(V^-1 X)_i (y - X beta)_i``; they sum to zero."""
        return self.XV * self.marginal[:, None]


def working_rows(prepared: Prepared, objective: GaussianObjective) -> WorkingRows:
    """Rows of a fit in scaled coordinates; ``objective`` is factorised at the estimates."""
    design, scaling = prepared.design, prepared.scaling
    profile, p = objective.profile, objective.p
    if profile is None:
        raise InferenceError(
            "The objective must be factorised at the estimates.", "no parameters", "call set(theta)"
        )
    U, y_scale = scaling.U, scaling.y_scale
    X = design.X @ U[:p, :p]
    y = design.y if design.offset is None else design.y - design.offset
    scaled_y = design.X @ U[:p, p] + y * U[p, p]
    weights = np.ones(design.n) if design.weights is None else design.weights
    Z = tuple(b.columns @ B for b, B in zip(design.blocks, scaling.random, strict=True))
    psis = tuple(L @ L.T for L in objective.factors)
    XV, marginal = X.copy(), scaled_y - X @ profile.beta
    conditional = marginal.copy()
    residual_scores = objective.residual_scores()
    for t, (block, z, psi) in enumerate(zip(design.blocks, Z, psis, strict=True)):
        H = psi @ objective.engine.cross(t)[:, :, :p]
        effects = residual_scores[t] @ psi
        for a in range(z.shape[1]):
            XV -= z[:, a, None] * H[block.codes, a]
            conditional -= z[:, a] * effects[block.codes, a]
    inverse = np.linalg.solve(profile.R, np.eye(p)) if p else np.zeros((0, 0))
    return WorkingRows(
        X,
        Z,
        XV * weights[:, None],
        marginal,
        conditional,
        weights,
        inverse @ inverse.T,
        profile.sigma2,
        psis,
        y_scale * U[:p, :p],
        y_scale,
    )


def sums_by_level(values: Array, codes: Codes, n_levels: int) -> Array:
    """Sum the rows of ``values`` (n, k) by level: (J, k)."""
    columns = [
        np.bincount(codes, weights=values[:, k], minlength=n_levels) for k in range(values.shape[1])
    ]
    return np.column_stack(columns) if columns else np.zeros((n_levels, 0))


def outer_sums_by_level(left: Array, right: Array, codes: Codes, n_levels: int) -> Array:
    """Sum ``left_i right_i'`` by level: (J, k, l) from (n, k) and (n, l)."""
    k, m = left.shape[1], right.shape[1]
    out = np.empty((n_levels, k, m))
    for a in range(k):
        out[:, a] = sums_by_level(left[:, a, None] * right, codes, n_levels)
    return out
