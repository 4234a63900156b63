"""Wald and profile intervals of residual parameters, made on the unconstrained scale.

A parameter that depends on one unconstrained parameter gets that one's bounds, carried over (so a
correlation stays between its limits); others are symmetric on Fisher's scale for correlations and
on their own scale for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.estimate.structured_limit import WIDEST
from multilevel.estimate.structured_profile import profile_limits
from multilevel.estimate.structured_report import covariance_of, reported
from multilevel.infer.distributions import normal_quantile
from multilevel.model.scale_power import POWER_OF_MEAN

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ResidualParameter:
    """One reported residual parameter.

    Attributes
    ----------
    term : its name.
    estimate, std_error, conf_low, conf_high : on its own scale; NaN where the curvature does not
        give them.
    sentence : what it says, in words.
    """

    term: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


def residual_parameters(
    prepared: StructuredPrepared, fit: Fit, conf_level: float
) -> tuple[ResidualParameter, ...]:
    """Residual parameters with Wald intervals; empty for a fit without a residual structure."""
    record = fit.residual
    if record is None:
        return ()
    z = normal_quantile(0.5 + conf_level / 2.0)
    r, layout, phi = len(fit.theta), prepared.layout, record.phi
    spread = np.sqrt(np.diag(covariance_of(record.curvature))[r:])
    low = record.estimates - z * record.std_errors
    high = record.estimates + z * record.std_errors
    moves = np.zeros((len(phi), len(record.estimates)))
    for a in range(len(phi)):
        shift = np.zeros(len(phi))
        shift[a] = 1e-4
        moves[a] = reported(layout, phi + shift)[1] - record.estimates
    for i, name in enumerate(record.names):
        own = np.flatnonzero(np.abs(moves[:, i]) > 1e-12)
        if not np.isfinite(record.std_errors[i]):
            low[i] = high[i] = np.nan
        elif len(own) == 1:
            step = np.zeros(len(phi))
            step[own[0]] = z * spread[own[0]]
            ends = reported(layout, phi - step)[1][i], reported(layout, phi + step)[1][i]
            low[i], high[i] = min(ends), max(ends)
        elif name.startswith(("cor(", "rho")):
            center = np.arctanh(record.estimates[i])
            half = z * record.std_errors[i] / (1.0 - record.estimates[i] ** 2)
            low[i], high[i] = np.tanh(center - half), np.tanh(center + half)
    return tuple(
        ResidualParameter(name, float(e), float(s), float(a), float(b), _sentence(name, float(e)))
        for name, e, s, a, b in zip(
            record.names, record.estimates, record.std_errors, low, high, strict=True
        )
    )


def profiled_parameters(
    prepared: StructuredPrepared, fit: Fit, conf_level: float
) -> tuple[ResidualParameter, ...]:
    """Residual parameters with profile intervals (REML criterion or likelihood, as fitted).

    Raises
    ------
    InferenceError : parameters that depend on several unconstrained ones (``un``, ``fa``, full
        ``toep``, of more than one correlation).
    """
    found = residual_parameters(prepared, fit, conf_level)
    record, layout, r = fit.residual, prepared.layout, len(fit.theta)
    if record is None:
        return ()
    psi = np.concatenate([fit.theta, record.phi])
    if len(found) != len(record.phi) or not is_one_to_one(prepared, record.phi):
        raise InferenceError(
            "A profile interval needs a parameter of its own.",
            f"{record.title}: its correlations depend on several parameters each",
            "write confint('wald')",
        )
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    spread = np.sqrt(np.diag(covariance_of(record.curvature))[r:])
    out = []
    for k, parameter in enumerate(found):
        step = float(z * spread[k]) if np.isfinite(spread[k]) else 1.0
        ends = []
        for limit in profile_limits(prepared, psi, r + k, step, z):
            phi = record.phi.copy()
            phi[k] = limit
            ends.append(float(reported(layout, phi)[1][k]))
        out.append(replace(parameter, conf_low=min(ends), conf_high=max(ends)))
    return tuple(out)


def is_one_to_one(prepared: StructuredPrepared, phi: Array) -> bool:
    """Whether each reported parameter moves with its own unconstrained parameter only."""
    moves = []
    for a in range(len(phi)):
        shift = np.zeros(len(phi))
        shift[a] = 1e-4
        gap = reported(prepared.layout, phi + shift)[1] - reported(prepared.layout, phi)[1]
        moves.append(np.abs(gap) > 1e-12)
    return bool(np.array_equal(np.stack(moves), np.eye(len(phi), dtype=bool))) if moves else True


def _sentence(name: str, value: float) -> str:
    if name == POWER_OF_MEAN:
        return f"The residual standard deviation grows with the mean to the power {value:.2f}."
    if name.startswith("log_variance("):
        what = name.removeprefix("log_variance(")[:-1]
        percent = 100.0 * float(np.expm1(value))
        more = "larger" if percent >= 0.0 else "smaller"
        return (
            f"The residual variance is {abs(percent):.1f}% {more} for {what} (per unit, or"
            " against the reference)."
        )
    if name.startswith("log_sd("):
        what, _, predictor = name.removeprefix("log_sd(")[:-1].rpartition(": ")
        if abs(value) > WIDEST:
            return f"The variance of random effects of {what} goes to zero along {predictor}."
        percent = 100.0 * float(np.expm1(2.0 * value))
        more = "larger" if percent >= 0.0 else "smaller"
        return (
            f"The variance of random effects of {what} is {abs(percent):.1f}% {more} per unit of"
            f" {predictor}."
        )
    return f"{name} is {value:.3f}."
