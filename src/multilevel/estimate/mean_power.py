r"""Fits of a design with structured residuals, the variance a power of the mean included.

With ``scale="~ power(mean)"`` the residual standard deviation of a row is ``sigma |mu|^delta``,
``mu = X beta + offset`` (random effects zero). The means are held, the model is fitted with the
column ``log(mu^2)`` among those of the log variance, the means are taken from that fit, and so on
until they stay. At the end ``beta`` solves the equations of generalised least squares, the other
parameters those of the (restricted) likelihood at their own means: "generalised least squares with
pseudo-likelihood" (Carroll & Ruppert 1988, chapters 2 and 3; Davidian & Carroll 1987), as nlme's
``varPower(form = ~ fitted(.))`` in ``gls``. It is not full maximum likelihood, in which the
variances would tell about ``beta`` too: that is a little more efficient if the power is right, and
biased for ``beta`` if it is not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import EstimationError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import (
    StructuredPrepared,
    prepare_structured,
    solve_structured,
)
from multilevel.model.specification import Method

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # change of the means relative to their size
ROUNDS = 60
NEAR_ZERO = 1e-6  # mean relative to the largest one


def fit_design(
    design: Design, *, method: Method, psi_start: Array | None = None
) -> tuple[StructuredPrepared, Prepared, Fit]:
    """Prepare and fit a design with structured residuals.

    Returns
    -------
    The frozen problem, the problem on whitened cross-products, the fit (``solve_structured``).

    Raises
    ------
    EstimationError : as ``prepare_structured``; a mean of zero where the variance is a power of it.
    LikelihoodError : the likelihood cannot be evaluated.
    """
    layout = design.residual
    if layout is None or not layout.has_power_of_mean:
        prepared = prepare_structured(design, method=method)
        return prepared, *solve_structured(prepared, psi_start=psi_start)
    first = np.asarray(
        np.linalg.lstsq(design.X, _without_offset(design), rcond=None)[0], dtype=np.float64
    )
    means = _means(design, first)
    for _ in range(ROUNDS):
        held = replace(design, residual=_at_means(layout, design, means))
        prepared = prepare_structured(held, method=method)
        whitened, fit = solve_structured(prepared, psi_start=psi_start)
        new = _means(design, fit.beta)
        change = float(np.abs(new - means).max())
        if change <= TOLERANCE * float(np.abs(new).max()):
            return prepared, whitened, fit
        means, psi_start = new, _psi(fit)
    raise EstimationError(
        "The means and the variances that are a power of them must settle.",
        f"a mean that still changes by {change:.2g} after {ROUNDS} rounds",
        'take the power of a column instead: scale="~ log(x)"',
    )


def _without_offset(design: Design) -> Array:
    return design.y if design.offset is None else design.y - design.offset


def _means(design: Design, beta: Array) -> Array:
    means = design.X @ beta
    return np.asarray(means if design.offset is None else means + design.offset)


def _psi(fit: Fit) -> Array:
    phi = np.zeros(0) if fit.residual is None else fit.residual.phi
    return np.concatenate([fit.theta, phi])


def _at_means(layout: ResidualLayout, design: Design, means: Array) -> ResidualLayout:
    """The layout at held means; refuses means of zero and means that are all equal."""
    size = np.abs(means)
    lowest = int(np.argmin(size))
    if size[lowest] <= NEAR_ZERO * float(size.max()):
        raise EstimationError(
            "A variance that is a power of the mean needs means away from zero.",
            f"a mean of {means[lowest]:.3g} in row {design.rows.kept[lowest]}",
            'take the power of a column instead: scale="~ log(x)"',
        )
    if float(np.ptp(np.log(size))) < 1e-8:
        raise EstimationError(
            "A variance that is a power of the mean needs means that differ.",
            f"all means are {means[0]:.3g}",
            "add a predictor to the formula, or leave power(mean) out",
        )
    return layout.with_means(means)
