"""Standard errors of any function of the parameters, by differences (delta method)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.records import GeneralizedFit

Array = NDArray[np.float64]
#: Steps of central differences, in standard errors of the parameter.
STEP = 1e-2


def jacobian(function: Callable[[Array], Array], fit: GeneralizedFit) -> tuple[Array, Array]:
    """Value (k,) at the estimates and derivatives (k, P) of a function of ``psi``.

    Parameters without a standard error (at a limit) count as known.
    """
    value = np.asarray(function(fit.psi), dtype=np.float64)
    out = np.zeros((len(value), fit.n_parameters))
    errors = np.sqrt(np.maximum(np.diag(fit.vcov), 0.0))
    for k in np.flatnonzero(errors > 0.0):
        step = np.zeros(fit.n_parameters)
        step[k] = STEP * errors[k]
        out[:, k] = (function(fit.psi + step) - function(fit.psi - step)) / (2.0 * step[k])
    return value, out


def delta_covariance(
    function: Callable[[Array], Array], fit: GeneralizedFit
) -> tuple[Array, Array]:
    """Value (k,) of a function of ``psi`` and its covariance (k, k)."""
    value, J = jacobian(function, fit)
    return value, np.asarray(J @ fit.vcov @ J.T)
