"""New responses from a fitted model, and refits to them.

Source: Efron & Tibshirani 1993, chapter 6 (parametric bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.design.related import drawn_effects, rows_part
from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
SimulationKind = Literal["new", "conditional"]
SIMULATION_KINDS: tuple[str, ...] = get_args(SimulationKind)


def simulate_responses(
    design: Design,
    fit: Fit,
    n_sim: int,
    rng: np.random.Generator,
    *,
    kind: str = "new",
    estimates: Sequence[Array] = (),
) -> Array:
    """Draw responses from the fitted model: (n, n_sim), Fortran order, response units.

    ``y = X beta + offset + Z b + e`` with ``e ~ N(0, sigma2 / weight)``. Each column uses the
    next draws of ``rng``, so asking for more columns leaves the first ones unchanged.

    Parameters
    ----------
    design, fit : what to simulate from.
    n_sim : number of simulated responses, at least 1.
    rng : source of randomness.
    kind : ``"new"`` draws new random effects ``b ~ N(0, G)`` for every column (parametric
        bootstrap); ``"conditional"`` keeps the estimated random effects and draws only residuals.
    estimates : per block (J, q) random-effect estimates; needed for ``"conditional"`` only.

    Raises
    ------
    InferenceError : an unknown kind, or ``n_sim`` below 1.
    """
    if kind not in SIMULATION_KINDS:
        raise InferenceError(
            f"The kind of simulation must be one of {', '.join(map(repr, SIMULATION_KINDS))}.",
            f"kind={kind!r}",
            "write kind='new'",
        )
    if n_sim < 1:
        raise InferenceError(
            "At least one response must be asked for.", f"n_sim={n_sim}", "write n_sim=1 or more"
        )
    mean = design.X @ fit.beta if fit.n_fixed else np.zeros(design.n)
    if design.offset is not None:
        mean = mean + design.offset
    if kind == "conditional":
        for block, b in zip(design.blocks, estimates, strict=True):
            mean = mean + rows_part(block, b)
    sigma = float(np.sqrt(fit.sigma2))
    noise = sigma if design.weights is None else sigma / np.sqrt(design.weights)
    out = np.empty((design.n, n_sim), order="F")
    for k in range(n_sim):
        column = out[:, k]
        column[:] = mean
        if kind == "new":
            for block, factor in zip(design.blocks, fit.relative_factors, strict=True):
                column += rows_part(block, sigma * drawn_effects(block, rng, factor))
        column += noise * rng.standard_normal(design.n)
    return out
