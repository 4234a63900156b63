"""What the residuals of a unit's own rows say about a new row of it (kriging).

With ``c`` the covariances of the new residual and those of the unit's rows, the best prediction of
the new residual is ``c'R^-1(y - X beta - Z b)``, b the predicted random effects.
Source: Goldberger 1962 (JASA 57:369); Henderson 1975.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_replay import new_residuals
from multilevel.design.variables import Positions
from multilevel.estimate.structured import StructuredPrepared
from multilevel.likelihood.residual.dense import correlations, log_sd, places_of
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]


def predicted_residuals(
    prepared: StructuredPrepared, objective: StructuredObjective, psi: Array, data: Any,
    kept: Positions, means: Array,
) -> Array:  # fmt: skip
    """Predicted residuals of the rows ``kept`` of a new table: (n,), response units.

    Zero for a unit without data, and for a row without a place in time (an occasion that was not
    observed, for structures by occasion). ``means`` (n,) of these rows, random effects zero.
    """
    layout = prepared.layout
    out = np.zeros(len(kept))
    if not layout.has_correlation:
        return out
    new = new_residuals(layout, data, kept, means)
    phi = psi[objective.n_theta :]
    whitened = objective.conditional_residuals(psi)[:, None]
    # R^-1 e, relative, in the order of the sorted rows, response units
    weights = objective.whitener.decorrelate_transposed(whitened)[:, 0] / objective.whitener.sd
    weights *= prepared.plain.scaling.y_scale
    sd, places = np.exp(log_sd(layout, phi)), places_of(layout)
    own = np.exp(0.5 * (new.variance_columns @ phi[: len(layout.variance_names)]))
    for unit in np.unique(new.units[new.units >= 0]):
        rows = np.flatnonzero(new.units == unit)
        span = slice(layout.starts[unit], layout.starts[unit + 1])
        old = layout.order[span]
        C, _ = correlations(
            layout,
            phi,
            (np.full(len(rows), unit), np.full(len(old), unit)),
            (new.places[rows], places[old]),
        )
        out[rows] = own[rows] * (C @ (sd[old] * weights[span]))
    return out
