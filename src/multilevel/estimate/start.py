"""Start values: moments of the OLS residuals, then expectation-maximisation steps.

Moment start, per random-effect column ``a`` with OLS residuals ``e``: in the scaled problem
``E (z'e)^2 = sigma2 A_aa + tau2 A_aa^2`` for a single factor, so
``psi_a = sum_g ((z_g'e)^2 - s2 A_gaa) / (s2 sum_g A_gaa^2)``, clipped to [0.01, 20].
EM step: ``Psi+ = Psi - Psi Q Psi / J`` (numerics page; equals the posterior-moment form).
Sources: Henderson 1953 (moments); Laird & Ware 1982 (EM).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.prepare import Prepared
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.model.covariance.structures import parameters_from_covariance

Array = NDArray[np.float64]
SMALLEST, LARGEST = 0.01, 20.0


def moment_start(prepared: Prepared) -> Array:
    """``theta`` (r,) from moments of the OLS residuals."""
    cross = prepared.cross
    p = cross.n_fixed
    T = cross.total
    beta = np.linalg.lstsq(T[:p, :p], T[:p, p], rcond=None)[0] if p else np.zeros(0)
    b = np.append(-beta, 1.0)
    total = float(b @ T @ b) / max(cross.n - p, 1)
    total = max(total, 1e-12)
    between, shares = [], 0.0
    for own, rhs in zip(cross.own, cross.rhs, strict=True):
        A = np.einsum("jaa->ja", own)
        s = rhs @ b
        squares = np.maximum((A**2).sum(0), 1e-300)
        psi = np.maximum((s**2 - total * A).sum(0) / (total * squares), 0.0)
        between.append(psi)
        shares += float((psi * A.sum(0)).sum()) / cross.n
    inside = max(0.1, 1.0 - shares)
    parts = []
    for psi, block in zip(between, prepared.design.blocks, strict=True):
        clipped = np.clip(psi / inside, SMALLEST, LARGEST)
        parts.append(parameters_from_covariance(block.structure, np.diag(clipped)))
    return np.concatenate(parts) if parts else np.zeros(0)


def em_step(objective: GaussianObjective, theta: Array) -> Array:
    """One EM step from ``theta`` (the parameters last set); nonlinear maps stay where they are."""
    out = theta.copy()
    for t, (mapping, Q) in enumerate(zip(objective.maps, objective.scores(), strict=True)):
        if not mapping.is_linear:
            continue
        L = objective.factors[t]
        Psi = L @ L.T
        J = objective.residual_scores()[t].shape[0]
        new = Psi - Psi @ Q @ Psi / J
        out[objective.slices[t]] = parameters_from_covariance(mapping, (new + new.T) / 2.0)
    return out
