"""Profile-likelihood intervals of defined parameters.

A value v of f(theta) lies inside where the smallest -2 log-likelihood with ``f(theta) = v`` exceeds
the minimum by no more than the chi-square quantile with 1 df. The limits solve
``grad F = lambda grad f``, ``F = F_min + quantile`` by Newton's method (Venzon & Moolgavkar 1988,
Appl. Stat. 37:87, for functions of the parameters), in units of standard errors. Such an interval
is skew where the likelihood is, and does not change with the scale of f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, LikelihoodError, ModelError
from multilevel.estimate.structural import StructuralFit, StructuralProblem, hessian_at
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.structural import defined_at, inverse_information, require_inside
from multilevel.likelihood.structural.objective import StructuralObjective

Array = NDArray[np.float64]
_TOLERANCE = 1e-7  # of F in its own units, and of the scaled gradient
_MAX_STEPS = 60
_STEP = 1e-5  # of the differences of exact gradients of f, in standard errors


@dataclass(frozen=True)
class ProfileIntervals:
    """Limits of the defined parameters, (k,), NaN where none was found; and what was done."""

    conf_low: Array
    conf_high: Array
    conf_level: float
    sentence: str


def profile_intervals(
    problem: StructuralProblem, fit: StructuralFit, conf_level: float
) -> ProfileIntervals:
    """Profile-likelihood limits of all defined parameters (see the module).

    Raises
    ------
    InferenceError : a confidence level outside (0, 1); an information without an inverse;
        estimates at the boundary.
    """
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "conf_level lies between 0 and 1.", f"{conf_level!r}", "write conf_level=0.95"
        )
    require_inside(fit, "A likelihood profile")
    objective = problem.objective(fit.model)
    vcov = inverse_information(0.5 * hessian_at(problem, fit), "observed")
    rise = float(normal_quantile(0.5 + 0.5 * conf_level)) ** 2
    names = [d.name for d in fit.model.defined]
    limits = np.full((len(names), 2), np.nan)
    for k in range(len(names)):
        search = _Search(objective, fit, vcov, k, rise)
        for end, sign in enumerate((-1.0, 1.0)):
            limits[k, end] = search.limit(sign)
    lost = [
        f"the {side} limit of {name}"
        for k, name in enumerate(names)
        for end, side in enumerate(("lower", "upper"))
        if not np.isfinite(limits[k, end])
    ]
    sentence = f"{100 * conf_level:g}% profile-likelihood intervals."
    if lost:
        sentence += f" Not found: {', '.join(lost)} (the likelihood flattens before it)."
    return ProfileIntervals(limits[:, 0], limits[:, 1], conf_level, sentence)


class _Search:
    """Limits of the k-th defined parameter of one fit."""

    def __init__(
        self, objective: StructuralObjective, fit: StructuralFit, vcov: Array, k: int, rise: float
    ) -> None:
        self._objective, self._fit, self._k = objective, fit, k
        self._vcov, self._rise = vcov, rise
        self._unit = np.sqrt(np.diag(vcov))
        self._top = fit.criterion + rise

    def _f(self, theta: Array) -> tuple[float, Array]:
        values, jacobian = defined_at(self._fit.model, theta)
        return float(values[self._k]), jacobian[self._k] * self._unit

    def _bend(self, theta: Array) -> Array:
        """(q, q) second derivatives of f in units of standard errors."""
        q = len(theta)
        out = np.zeros((q, q))
        _, slope = self._f(theta)
        for a in np.flatnonzero(slope):
            step = np.zeros(q)
            step[a] = _STEP * self._unit[a]
            out[a] = (self._f(theta + step)[1] - self._f(theta - step)[1]) / (2.0 * _STEP)
        return 0.5 * (out + out.T)

    def _system(self, theta: Array, weight: float) -> tuple[Array, Array]:
        """Residual (q + 1,) of the equations and slope of f."""
        slope = self._f(theta)[1]
        first = self._objective.gradient(theta) * self._unit - weight * slope
        return np.append(first, self._objective.value(theta) - self._top), slope

    def limit(self, sign: float) -> float:
        """One limit; NaN where the equations have no solution within reach."""
        theta, slope = self._fit.theta, self._f(self._fit.theta)[1]
        direction = self._vcov @ (slope / self._unit)
        size = float(np.sqrt(slope / self._unit @ direction))
        if not size > 0.0:
            return float("nan")
        step = sign * np.sqrt(self._rise) * direction / size
        theta, residual = self._first(theta, step)
        if residual is None:
            return float("nan")
        slope = self._f(theta)[1]
        gradient = self._objective.gradient(theta) * self._unit
        weight = float(gradient @ slope / (slope @ slope))
        residual, slope = self._system(theta, weight)
        for _ in range(_MAX_STEPS):
            if float(np.max(np.abs(residual))) < _TOLERANCE * max(1.0, abs(weight)):
                value = self._f(theta)[0]
                return value if sign * weight > 0.0 else float("nan")
            moved = self._newton(theta, weight, residual, slope)
            if moved is None:
                return float("nan")
            theta, weight, residual, slope = moved
        return float("nan")

    def _first(self, theta: Array, step: Array) -> tuple[Array, Array | None]:
        """A point where the likelihood exists on the way to the limit."""
        for share in (1.0, 0.7, 0.4, 0.2, 0.1):
            try:
                self._objective.value(theta + share * step)
            except (LikelihoodError, ModelError):
                continue
            return theta + share * step, step
        return theta, None

    def _newton(
        self, theta: Array, weight: float, residual: Array, slope: Array
    ) -> tuple[Array, float, Array, Array] | None:
        """One damped Newton step of the equations; None where no step helps."""
        q = len(theta)
        K = np.zeros((q + 1, q + 1))
        second = self._objective.hessian(theta) * np.outer(self._unit, self._unit)
        K[:q, :q] = second - weight * self._bend(theta)
        K[:q, q] = -slope
        K[q, :q] = residual[:q] + weight * slope
        step = np.linalg.lstsq(K, -residual, rcond=1e-14)[0]
        size = float(np.linalg.norm(residual))
        share = min(1.0, 2.0 / max(float(np.max(np.abs(step[:q]))), 1e-300))
        for _ in range(12):
            new, heavier = theta + share * step[:q] * self._unit, weight + share * float(step[q])
            try:
                found, new_slope = self._system(new, heavier)
            except (LikelihoodError, ModelError):
                share *= 0.5
                continue
            if np.all(np.isfinite(found)) and float(np.linalg.norm(found)) < size:
                return new, heavier, found, new_slope
            share *= 0.5
        return None
