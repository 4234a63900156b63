"""Intervals of functions of structural parameters by Monte Carlo.

The estimates are taken as normal with their covariance; the functions are computed at draws of the
parameters that enter them, and the interval holds the middle of the draws. Right for products,
whose own distribution is skew (MacKinnon, Lockwood & Williams 2004; Preacher & Selig 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit
from multilevel.infer.structural import StructuralCovariance, defined_values

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MonteCarloIntervals:
    """Percentile intervals of the defined parameters, (k,), and what was done in words."""

    conf_low: Array
    conf_high: Array
    conf_level: float
    n_draws: int
    sentence: str


def defined_draws(
    fit: StructuralFit, covariance: StructuralCovariance, n_draws: int, rng: np.random.Generator
) -> dict[str, Array]:
    """(n_draws,) draws of every defined parameter, by name.

    Raises
    ------
    InferenceError : fewer than 100 draws, or estimates without a covariance.
    """
    if n_draws < 100:
        raise InferenceError("n_draws is at least 100.", f"{n_draws}", "write n_draws=20000")
    labels = {p.label: p for p in fit.model.parameters if p.label}
    used = {n for d in fit.model.defined for n in d.expression.names if n in labels}
    enter = sorted({labels[n].free for n in used if labels[n].is_free})
    block = covariance.vcov[np.ix_(enter, enter)]
    if not np.all(np.isfinite(block)):
        raise InferenceError(
            "Monte Carlo intervals need the covariance of the estimates.",
            covariance.sentence,
            "simplify the model",
        )
    values, vectors = np.linalg.eigh(block)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = fit.theta[enter] + rng.standard_normal((n_draws, len(enter))) @ root.T
    column = {free: k for k, free in enumerate(enter)}
    known: dict[str, Array] = {}
    for name in used:
        p = labels[name]
        known[name] = draws[:, column[p.free]] if p.is_free else np.full(n_draws, p.value)
    for d in fit.model.defined:
        known[d.name] = np.broadcast_to(d.expression.over(known), (n_draws,))
    return {d.name: known[d.name] for d in fit.model.defined}


def monte_carlo_intervals(
    fit: StructuralFit,
    covariance: StructuralCovariance,
    *,
    conf_level: float,
    n_draws: int,
    rng: np.random.Generator,
) -> MonteCarloIntervals:
    """Percentile intervals of all defined parameters (see the module).

    Raises
    ------
    InferenceError : as ``defined_draws``; a definition that does not exist at some draws; a
        confidence level outside (0, 1).
    """
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "conf_level lies between 0 and 1.", f"{conf_level!r}", "write conf_level=0.95"
        )
    draws = defined_draws(fit, covariance, n_draws, rng)
    known = covariance.is_determined(defined_values(fit)[1])
    bounds = []
    for (name, values), is_known in zip(draws.items(), known, strict=True):
        if not is_known:
            bounds.append(np.full(2, np.nan))
            continue
        if not np.all(np.isfinite(values)):
            raise InferenceError(
                "A Monte Carlo interval needs a definition that exists near the estimates.",
                f"{name} does not exist at {np.sum(~np.isfinite(values))} of {n_draws} draws",
                "use the delta method, or define another function",
            )
        bounds.append(np.quantile(values, [0.5 - 0.5 * conf_level, 0.5 + 0.5 * conf_level]))
    low, high = np.array(bounds).reshape(len(draws), 2).T
    sentence = (
        f"{100 * conf_level:g}% Monte Carlo intervals: {n_draws} draws of the estimates from their"
        " normal distribution."
    )
    return MonteCarloIntervals(low, high, conf_level, n_draws, sentence)
