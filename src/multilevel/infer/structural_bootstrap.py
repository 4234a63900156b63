"""Percentile intervals of defined parameters by the bootstrap of clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, ModelError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.estimate.structural_resample import resample_clusters
from multilevel.infer.structural import defined_at, require_inside

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BootstrapIntervals:
    """Intervals of the defined parameters, (k,), with what they rest on.

    ``draws`` (n, k) values at the refits, NaN where a refit failed.
    """

    conf_low: Array
    conf_high: Array
    conf_level: float
    draws: Array
    n_failed: int
    sentence: str


def bootstrap_intervals(
    problem: StructuralProblem,
    fit: StructuralFit,
    *,
    conf_level: float,
    n_draws: int,
    rng: np.random.Generator,
) -> BootstrapIntervals:
    """Refit on resampled clusters; the interval holds the middle of the values.

    Raises
    ------
    InferenceError : a model without clusters, a confidence level outside (0, 1), fewer than 50
        draws, more than one in five refits without a certified optimum, or estimates at the
        boundary.
    """
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "conf_level lies between 0 and 1.", f"{conf_level!r}", "write conf_level=0.95"
        )
    if n_draws < 50:
        raise InferenceError("A bootstrap has at least 50 draws.", f"{n_draws}",
                             "write n_draws=1000")  # fmt: skip
    if not fit.model.cluster:
        raise InferenceError("The bootstrap draws clusters.", "a model without clusters",
                             'write interval="monte_carlo" or "profile"')  # fmt: skip
    require_inside(fit, "The bootstrap")
    refits = resample_clusters(problem, fit.theta, n_draws, rng)
    draws = np.full((n_draws, len(fit.model.defined)), np.nan)
    n_undefined = 0
    for k in np.flatnonzero(np.all(np.isfinite(refits.theta), axis=1)):
        try:
            draws[k] = defined_at(fit.model, refits.theta[k])[0]
        except ModelError:
            n_undefined += 1
    failed = refits.n_failed + n_undefined
    if failed > 0.2 * n_draws:
        why = "; ".join(f"{reason} ({n})" for reason, n in refits.failures.items())
        raise InferenceError(
            "Nearly all refits of a bootstrap must reach an optimum.",
            f"{failed} of {n_draws} did not: {why or 'a definition does not exist there'}",
            'use interval="monte_carlo" or "profile", or a simpler model',
        )
    tails = [0.5 - 0.5 * conf_level, 0.5 + 0.5 * conf_level]
    low, high = np.nanquantile(draws, tails, axis=0)
    sentence = (
        f"{100 * conf_level:g}% percentile intervals from {n_draws} bootstrap samples of"
        f" {fit.n_clusters} clusters."
    )
    if failed:
        sentence += f" {failed} refits had no certified optimum and are left out."
    return BootstrapIntervals(low, high, conf_level, draws, failed, sentence)
