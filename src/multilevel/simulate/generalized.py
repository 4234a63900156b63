"""Simulated responses of generalized models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.infer.generalized.draws import drawn_responses

if TYPE_CHECKING:
    from multilevel.estimate.generalized.prepare import GeneralizedPrepared
    from multilevel.estimate.generalized.records import GeneralizedFit

Array = NDArray[np.float64]


def simulate_outcomes(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    n_sim: int,
    seed: int | np.random.Generator | None,
    *,
    kind: str = "new",
) -> Array:
    """Draw responses (n, n_sim) from a fitted model in the units of ``Response.y``.

    Those are counts of successes for binomial responses, codes 0..C-1 for categories, uncensored
    values for censored ones; a row with a frequency weight gets one draw.

    Parameters
    ----------
    seed : of a new generator, or a generator.
    kind : ``"new"`` random effects, or ``"conditional"`` on their modes.

    Raises
    ------
    InferenceError : an unknown kind, or ``n_sim`` below 1.
    """
    return drawn_responses(prepared, fit, n_sim, np.random.default_rng(seed), kind=kind)
