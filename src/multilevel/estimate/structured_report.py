"""Residual parameters as they are reported, with their standard errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_layout import ResidualLayout
from multilevel.estimate.records import ResidualFit
from multilevel.estimate.trust_region import Path
from multilevel.model.covariance.correlation import natural_names
from multilevel.model.scale_power import POWER_OF_MEAN

Array = NDArray[np.float64]
#: A log standard deviation with a larger error has run off to a limit: no error is reported.
LARGEST_ERROR = 100.0


def residual_fit(layout: ResidualLayout, path: Path, logdet: float, r: int) -> ResidualFit:
    """The residual parameters as they are reported, with their standard errors."""
    phi = path.theta[r:]
    names, estimates = reported(layout, phi)
    k = len(phi)
    covariance = covariance_of(path.curvature)[r:, r:]
    jacobian = np.empty((len(estimates), k))
    for a in range(k):
        shift = np.zeros(k)
        shift[a] = 1e-6
        jacobian[:, a] = (
            reported(layout, phi + shift)[1] - reported(layout, phi - shift)[1]
        ) / 2e-6
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.einsum("ia,ab,ib->i", jacobian, covariance, jacobian))
    is_scale = np.array([name.startswith("log_sd(") for name in names], dtype=bool)
    runs_off = is_scale & (errors > LARGEST_ERROR)
    errors = np.where(runs_off, np.nan, errors)
    term = layout.term
    return ResidualFit(
        title="independent, unequal variances" if term is None else term.title,
        sentence=layout.sentence,
        names=names,
        estimates=estimates,
        phi=phi,
        curvature=path.curvature,
        std_errors=errors,
        n_variances=len(layout.variance_names),
        logdet=logdet,
    )


def covariance_of(curvature: Array) -> Array:
    """Twice the inverse Hessian; NaN where it is not positive definite."""
    try:
        np.linalg.cholesky(curvature)
        return np.asarray(2.0 * np.linalg.inv(curvature))
    except np.linalg.LinAlgError:
        return np.full_like(curvature, np.nan)


def reported(layout: ResidualLayout, phi: Array) -> tuple[tuple[str, ...], Array]:
    """Names and values of the reported parameters: log-variance coefficients, correlations."""
    n_variances = len(layout.variance_names)
    values, at = [phi[:n_variances]], n_variances
    for m in layout.maps:
        values.append(m.natural(phi[at : at + m.n_parameters]))
        at += m.n_parameters
    names = (
        *(
            name if name == POWER_OF_MEAN else f"log_variance({name})"
            for name in layout.variance_names
        ),
        *natural_names(layout.maps, layout.groups),
        *(name for name, _ in layout.random_scale),
    )
    values += [phi[at : at + len(layout.random_scale)] / [s for _, s in layout.random_scale]]
    return names, np.concatenate(values)
