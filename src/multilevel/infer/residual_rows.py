r"""Rows of a fit with structured residuals, in two coordinates.

* As they are: ``V^-1 X`` and ``V^-1 (y - X beta)`` row by row, so that leaving out a row or a
  cluster is exact (variances held).
* Whitened: ``L^-1 D^-1`` of each unit's rows, in the order of time, ``R = D L L' D``. A whitened
  row is what the row adds to the earlier rows of its unit; these are independent with variance one
  (over sigma), and have leverages between 0 and 1 that sum to the effective degrees of freedom.

With ``P = V^-1 - V^-1 X M X'V^-1`` relative to sigma2 and, within units, ``L'D P D L = I - UY'``:
``Var(y - X beta^ - Z b^) = R P R``, whitened ``I - UY'``, and ``V^-1(y - X beta^)`` has ``P``.
Sources: Pinheiro & Bates 2000, section 5.1.2 (normalised residuals); Nobre & Singer 2007
(Biometrical Journal 49:863); Demidenko & Stukel 2005 (Statistics in Medicine 24:893).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structured import StructuredPrepared
from multilevel.infer.robust_rows import WorkingRows
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StructuredRows:
    """Analysed rows (n,) of a fit with structured residuals at its estimates.

    Attributes
    ----------
    working : rows as they are; its ``weights`` are the diagonal of ``R^-1`` and its ``conditional``
        is ``V^-1 (y - X beta)`` over them, so that deletion formulas hold as they stand.
    conditional, marginal, normalised : residuals: ``y - X beta - Z b`` and ``y - X beta`` in
        units of the response; whitened, over sigma.
    conditional_variance, marginal_variance : of these residuals, over sigma2; ``residual_variance``
        the diagonal of R over sigma2.
    leverage_fixed, leverage : of the whitened rows.
    deletion_leverage : ``1 - P_ii / (R^-1)_ii``: of the row given all others of its unit.
    whitened : (n, Q + p) whitened columns ``[Z X]``, scaled problem.
    whitened_y : (n,) the whitened response less a combination of the columns of X, in units of the
        response; ``whitened_one`` (n,) a whitened column of ones.
    """

    working: WorkingRows
    conditional: Array
    marginal: Array
    normalised: Array
    conditional_variance: Array
    marginal_variance: Array
    residual_variance: Array
    leverage_fixed: Array
    leverage: Array
    deletion_leverage: Array
    whitened: Array
    whitened_y: Array
    whitened_one: Array


def structured_rows(
    prepared: StructuredPrepared, objective: StructuredObjective, psi: Array
) -> StructuredRows:
    """Rows of a fit in both coordinates.

    Parameters
    ----------
    prepared : at the estimates (``at_estimates``).
    objective : of ``prepared``; left set at ``psi`` (r + K,).

    Raises
    ------
    InferenceError : the objective could not be set.
    """
    inner = objective.ensure(psi)
    profile, whitener = inner.profile, objective.whitener
    if profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(psi)")
    design, scaling, p = prepared.plain.design, prepared.plain.scaling, inner.p
    Q, order, sd = objective.problem.n_random, prepared.layout.order, whitener.sd
    W, (U, Y) = objective.whitened(psi), objective.projection(psi)
    e = objective.conditional_residuals(psi)

    def back(values: Array) -> Array:
        """Sorted rows in the order of the analysed ones."""
        out = np.empty_like(values)
        out[order] = values
        return out

    def untransposed(values: Array) -> Array:
        """``D^-1 L^-T`` of sorted rows (n, c)."""
        return whitener.decorrelate_transposed(values) / sd[:, None]

    half = np.linalg.solve(profile.R, np.eye(p)) if p else np.zeros((0, 0))
    M = half @ half.T
    w, v = Y[:, :p] @ profile.R, W[:, Q : Q + p]
    own = whitener.inverse_diagonal()
    P = own - np.einsum("ic,ic->i", untransposed(U), untransposed(Y))
    spread = sd**2 - np.einsum("ic,ic->i", whitener.colour(U), whitener.colour(Y))
    X = design.X @ scaling.U[:p, :p]
    y = design.y if design.offset is None else design.y - design.offset
    marginal = design.X @ scaling.U[:p, p] + y * scaling.U[p, p] - X @ profile.beta
    Z = tuple(b.columns @ B for b, B in zip(design.blocks, scaling.random, strict=True))
    psis = tuple(L @ L.T for L in inner.factors)
    total = back(sd**2)
    for z, Psi in zip(Z, psis, strict=True):
        total = total + np.einsum("ia,ab,ib->i", z, Psi, z, optimize=True)
    score = back(untransposed(e[:, None])[:, 0])
    weights = back(own)
    working = WorkingRows(
        X, Z, back(untransposed(w)), marginal, score / weights, weights, M, profile.sigma2, psis,
        scaling.y_scale * scaling.U[:p, :p], scaling.y_scale,
    )  # fmt: skip
    return StructuredRows(
        working=working,
        conditional=back(whitener.colour(e[:, None])[:, 0]) * scaling.y_scale,
        marginal=marginal * scaling.y_scale,
        normalised=back(e) / np.sqrt(profile.sigma2),
        conditional_variance=back(spread),
        marginal_variance=total - np.einsum("ia,ab,ib->i", X, M, X, optimize=True),
        residual_variance=back(sd**2),
        leverage_fixed=back(np.einsum("ia,ab,ib->i", v, M, w, optimize=True)),
        leverage=back(np.einsum("ic,ic->i", U, Y)),
        deletion_leverage=1.0 - back(P) / weights,
        whitened=back(W[:, : Q + p]),
        whitened_y=back(W[:, -1]) * scaling.y_scale,
        whitened_one=back(whitener.decorrelate(1.0 / sd[:, None])[:, 0]),
    )
