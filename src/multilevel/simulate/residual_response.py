"""New responses with structured residuals.

``y = X beta + offset + Z b + e``, ``e = sigma D L z`` with z independent standard normal.
Source: Efron & Tibshirani 1993, chapter 6 (parametric bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.residual_draws import draw_random_part, draw_residuals, fixed_mean
from multilevel.simulate.response import SIMULATION_KINDS

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit
    from multilevel.likelihood.residual.whiten import Whitener

Array = NDArray[np.float64]


def simulate_structured(
    design: Design,
    fit: Fit,
    whitener: Whitener,
    n_sim: int,
    rng: np.random.Generator,
    *,
    kind: str = "new",
    estimates: Sequence[Array] = (),
) -> Array:
    """Draw responses from a fit with structured residuals: (n, n_sim), response units.

    Parameters
    ----------
    whitener : the residual covariance, set at the fit.
    kind, estimates, rng : as in ``simulate_responses``; residuals are drawn anew in both kinds.

    Raises
    ------
    InferenceError : an unknown kind, or ``n_sim`` below 1.
    """
    if kind not in SIMULATION_KINDS or n_sim < 1:
        raise InferenceError(
            f"kind must be one of {', '.join(map(repr, SIMULATION_KINDS))}, n_sim at least 1.",
            f"kind={kind!r}, n_sim={n_sim}",
            "write kind='new', n_sim=1",
        )
    mean = fixed_mean(design, fit)
    if kind == "conditional":
        for block, b in zip(design.blocks, estimates, strict=True):
            mean = mean + np.einsum("iq,iq->i", block.columns, b[block.codes])
    out = np.empty((design.n, n_sim), order="F")
    for k in range(n_sim):
        effects = draw_random_part(design, fit, rng) if kind == "new" else 0.0
        out[:, k] = mean + effects + draw_residuals(fit, whitener, rng)
    return out
