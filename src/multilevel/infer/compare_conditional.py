"""Conditional AIC: how well the model predicts new rows of the same clusters.

``cAIC = -2 log f(y | beta, b) + 2 (rho + 1)`` with ``rho`` the trace of the map from ``y`` to the
conditional fitted values, the variances taken as known. Source: Vaida & Blanchard 2005, Biometrika
92, eq. 10 (known variances). Greven & Kneib 2010 show that it favours the larger of two models
when a variance is near zero; the sentence says so. From cross-products only:

    rho = p + sum_t tr(Psi_t sum_g G_gg) - sum_t sum_g tr(Y_g' Psi_t Y_g),  Y = H_X R^-1
    |y - X beta - Z b|^2 = r^2 - sum_t sum_g g_g' Psi_t g_g.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.gaussian.objective import GaussianObjective


@dataclass(frozen=True)
class ConditionalAic:
    """Conditional AIC of one fit.

    Attributes
    ----------
    caic : the criterion.
    minus2_conditional : -2 log density of the rows given the random effects.
    effective_df : ``rho``, between p and p + all random effects; the residual variance not counted.
    sentence : which conditional AIC this is.
    """

    caic: float
    minus2_conditional: float
    effective_df: float
    sentence: str


def conditional_aic(
    prepared: Prepared, objective: GaussianObjective, fit: Fit | None = None
) -> ConditionalAic:
    """Conditional AIC from an objective that is set at the fit.

    Parameters of the residual covariance of ``fit`` are counted as the residual variance is: they
    belong to the density of the rows given the random effects.

    Raises
    ------
    InferenceError : the objective was never set.
    """
    profile = objective.profile
    if profile is None:
        raise InferenceError("The objective must be set at the fit.", "unset", "call set(theta)")
    rho, inside = float(objective.p), profile.r2
    for t, (Y, g) in enumerate(objective.projections()):
        L = objective.factors[t]
        rho += float(np.sum((L @ L.T) * objective.engine.information_sum(t)))
        rho -= float(np.sum((L.T @ Y) ** 2))
        inside -= float(np.sum((g @ L) ** 2))
    n = objective.n
    sigma2 = profile.sigma2 * prepared.scaling.y_scale**2
    minus2 = n * float(np.log(2.0 * np.pi * sigma2)) - objective.sum_log_weights
    minus2 += inside / profile.sigma2
    return ConditionalAic(
        caic=minus2 + 2.0 * (rho + 1.0 + _n_residual(fit)),
        minus2_conditional=minus2,
        effective_df=rho,
        sentence="Conditional AIC of Vaida & Blanchard (2005), variances taken as known: it leans "
        "towards the larger model when a variance is near zero.",
    )


def _n_residual(fit: Fit | None) -> int:
    """Parameters of the residual covariance besides sigma2 (none of random effects)."""
    if fit is None or fit.residual is None:
        return 0
    scales = sum(name.startswith("log_sd(") for name in fit.residual.names)
    return len(fit.residual.phi) - scales
