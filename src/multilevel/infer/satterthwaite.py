r"""Satterthwaite degrees of freedom.

With ``Phi = sigma2 Txx^-1``, ``f = l'Phi l`` and ``W`` the covariance of ``(theta, log sigma2)``,

    df = 2 f^2 / (df/dphi' W df/dphi),   dPhi/dtheta_a = sigma2 Txx^-1 (sum H_X'D_a H_X) Txx^-1.

``W`` is twice the inverse of the observed Hessian of the criterion: exact for one grouping
factor, else differences of the exact gradient; average information where the engine is iterative.
Several rows: Fai & Cornelius 1996. Sources: Satterthwaite 1946; Giesbrecht & Burns 1985;
Kuznetsova, Brockhoff & Christensen 2017 (which differences the criterion instead).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.infer.degrees_of_freedom import (
    DfMethod,
    JointStatistic,
    independent_rows,
)
from multilevel.infer.face import Face, face_of
from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Satterthwaite:
    """Satterthwaite's method for one fit.

    Attributes
    ----------
    vcov : (p, p) model-based covariance of the fixed effects, user's units.
    derivatives : (r + 1, p, p) of ``vcov`` in the free covariance parameters.
    parameter_covariance : (r + 1, r + 1) of these parameters.
    notes : sentences.
    """

    vcov: Array
    derivatives: Array
    parameter_covariance: Array
    notes: tuple[str, ...]
    method: DfMethod = "satterthwaite"

    def row_df(self, L: Array) -> Array:
        """Degrees of freedom of each row of ``L`` (k, p): (k,)."""
        f = np.einsum("kp,pq,kq->k", L, self.vcov, L, optimize=True)
        g = np.einsum("kp,apq,kq->ka", L, self.derivatives, L, optimize=True)
        spread = np.einsum("ka,ab,kb->k", g, self.parameter_covariance, g, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread > 0.0, 2.0 * f**2 / spread, np.inf)

    def joint(self, L: Array, difference: Array) -> JointStatistic:
        """Fai and Cornelius's F test of several rows."""
        rows, gaps, variances = independent_rows(L, difference, self.vcov)
        l = len(rows)
        F = float(np.sum(gaps**2 / variances)) / l
        return JointStatistic(F, l, pooled_df(self.row_df(rows)))


def pooled_df(df: Array) -> float:
    """Denominator df of an average of independent squared t statistics with ``df`` (l,).

    ``2E / (E - l)`` with ``E = sum df / (df - 2)``; 2 if any df is 2 or less, where the mean of F
    does not exist. Source: Fai & Cornelius 1996.
    """
    if np.all(np.isinf(df)):
        return float("inf")
    if len(df) == 1 or float(np.max(df)) <= (1.0 + 1e-8) * float(np.min(df)):
        return float(df.mean())
    if np.any(df <= 2.0):
        return 2.0
    finite = df[np.isfinite(df)]
    excess = float(np.sum(2.0 / (finite - 2.0)))  # E - l
    return 2.0 * (excess + len(df)) / excess if excess > 0.0 else float("inf")


def satterthwaite(prepared: Prepared, fit: Fit, objective: GaussianObjective) -> Satterthwaite:
    """Satterthwaite's method; ``objective`` is factorised at the fit's parameters.

    Raises
    ------
    InferenceError : a curvature that is not positive definite (the fit is not at its optimum).
    """
    if fit.n_fixed == 0:
        raise InferenceError(
            "Tests of fixed effects need fixed effects.", "a model without any", "add one"
        )
    face = face_of(prepared, fit, objective)
    notes = []
    if face.n_null:
        what = "direction" if face.n_null == 1 else "directions"
        notes.append(
            f"The fit is singular: degrees of freedom leave out {face.n_null} {what} of zero"
            " variance, as if the model had been written without it."
        )
    H, kind = hessian(face)
    if kind == "average information":
        notes.append("The covariance of the variances is from the average information.")
    W = _inverse(H)
    derivatives = _derivatives(face.objective)
    raw = np.stack([prepared.scaling.vcov_beta(D) for D in derivatives])
    return Satterthwaite(fit.vcov_beta, raw, W, tuple(notes))


def hessian(face: Face) -> tuple[Array, str]:
    """Hessian of the criterion in ``(theta, log sigma2)`` (r + 1, r + 1), and how it was made."""
    objective = face.objective
    profile = objective.profile
    if profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(theta)")
    r, nu = objective.n_parameters, objective.nu
    if r == 0:
        return np.full((1, 1), float(nu)), "exact"
    if len(objective.maps) == 1:
        inner, kind = objective.exact_hessian(), "exact"
    elif objective.engine.exact:
        inner, kind = objective.differenced_hessian(face.theta), "differenced gradient"
    else:
        inner, kind = objective.average_information(), "average information"
    c = np.concatenate(
        [
            np.einsum("ab,rab->r", g.T @ g, D) / profile.sigma2
            for g, D in zip(objective.residual_scores(), objective.directions(), strict=True)
        ]
    )
    out = np.empty((r + 1, r + 1))
    out[:r, :r] = inner + np.outer(c, c) / nu
    out[:r, r] = out[r, :r] = c
    out[r, r] = nu
    return out, kind


def _inverse(H: Array) -> Array:
    """``2 H^-1`` of a positive definite Hessian, scaled to a unit diagonal first."""
    diagonal = np.diag(H)
    if np.all(diagonal > 0.0):
        d = 1.0 / np.sqrt(diagonal)
        scaled = H * d[:, None] * d
        values, vectors = np.linalg.eigh((scaled + scaled.T) / 2.0)
        if values[0] > 1e-10 * values[-1]:
            inverse = (vectors / values) @ vectors.T
            return np.asarray(2.0 * inverse * d[:, None] * d)
    raise InferenceError(
        "Satterthwaite degrees of freedom need a criterion that curves upwards at the optimum.",
        "a Hessian of the variances that is not positive definite",
        "write df='between-within', df='residual' or df='none', or simplify the random effects",
    )


def _derivatives(objective: GaussianObjective) -> Array:
    """Derivatives of ``Phi`` (scaled problem): (r + 1, p, p), the last by log sigma2."""
    profile, p = objective.profile, objective.p
    if profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(theta)")
    R_inverse = np.linalg.solve(profile.R, np.eye(p))
    parts = []
    for (Y, _), D in zip(objective.projections(), objective.directions(), strict=True):
        J, q, _p = Y.shape
        wide = Y.reshape(J, q * p)
        K = (wide.T @ wide).reshape(q, p, q, p)
        parts.append(np.einsum("apbs,rab->rps", K, D, optimize=True))
    parts.append(np.eye(p)[None])
    inside = np.concatenate(parts)
    return np.asarray(profile.sigma2 * (R_inverse @ inside @ R_inverse.T))
