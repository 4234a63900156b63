"""Standardised solutions and explained variance of structural models, level by level.

Standardised in all variables of the level by the model-implied variances of that level (the
between variance of a variable on both levels is that of its latent cluster mean). Derivatives are
exact: the complex step of the same expressions (Squire & Trapp 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.infer.structural import parameter_values
from multilevel.likelihood.structural.moments import Implied
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.model.structural.records import Level, Parameter
from multilevel.model.structural.slopes import downstream

Array = NDArray[np.float64]
_STEP = 1e-30


@dataclass(frozen=True)
class ExplainedVariance:
    """R-squared of one variable at one level: ``1 - residual variance / variance``.

    ``r_squared`` is NaN where the model implies no positive variance, and negative or above 1 only
    in inadmissible solutions.
    """

    level: Level
    group: str
    outcome: str
    variance: float
    residual_variance: float
    r_squared: float


def standardized_solution(problem: StructuralProblem, fit: StructuralFit) -> tuple[Array, Array]:
    """Standardised value (k,) and derivative (k, q) of every row of the parameter table.

    Loadings and slopes in standard deviations of both variables; variances as shares of the
    variance; covariances of residuals as correlations; intercepts in standard deviations. NaN
    where a variance is not positive, and with random slopes, where the variance of an outcome
    depends on the predictor.
    """
    raw, slope = parameter_values(problem, fit)
    if fit.model.random_slopes:
        return np.full_like(raw, np.nan), np.full_like(slope, np.nan)
    objective = problem.objective(fit.model)
    value = _standardise(objective, fit.theta, raw)
    jacobian = np.zeros_like(slope)
    for a in range(fit.n_parameters):
        moved = fit.theta.astype(np.complex128)
        moved[a] += 1j * _STEP
        jacobian[:, a] = _standardise(objective, moved, raw + 1j * _STEP * slope[:, a]).imag / _STEP
    return value, jacobian


def _standardise(
    objective: StructuralObjective, theta: NDArray[Any], raw: NDArray[Any]
) -> NDArray[Any]:
    model = objective.model
    implied = [objective.implied(theta, g) for g in range(len(model.groups))]
    out = np.empty(len(raw), dtype=raw.dtype)
    for k, p in enumerate(model.parameters):
        names = objective.maps[p.group][p.level].names
        out[k] = raw[k] * _factor(p, implied[p.group][p.level], names)
    return out


def _factor(p: Parameter, at: Implied, names: tuple[str, ...]) -> Any:
    """What one parameter is multiplied by."""
    i = names.index(p.lhs)
    own = at.full_cov[i, i]
    if p.is_variance:
        return 1.0 / own if own.real > 0.0 else np.nan
    if p.op == "~1":
        return _root(own, -1.0)
    j = names.index(p.rhs)
    if p.op == "~~":
        return _root(at.S[i, i], -1.0) * _root(at.S[j, j], -1.0)
    other = at.full_cov[j, j]
    power = -1.0 if p.op == "~" else 1.0
    return _root(own, power) * _root(other, -power)


def _root(variance: Any, power: float) -> Any:
    """``variance ** (power / 2)``; NaN where there is no standard deviation."""
    return np.sqrt(variance) ** power if variance.real > 0.0 else np.nan


def explained_variances(
    problem: StructuralProblem, fit: StructuralFit
) -> tuple[ExplainedVariance, ...]:
    """R-squared of every variable that something points at, by group and level.

    Variables that depend on a random slope are left out within clusters: their variance differs
    with the predictor.
    """
    moving = {n for s in fit.model.random_slopes for n in downstream(fit.model, s.outcome)}
    objective = problem.objective(fit.model)
    out = []
    for g, label in enumerate(fit.model.groups):
        implied = objective.implied(fit.theta, g)
        for level in fit.model.levels:
            at, names = implied[level], objective.maps[g][level].names
            block = fit.model.block(level, g)
            pointed = [p.lhs if p.op == "~" else p.rhs for p in block if p.op in ("~", "=~")]
            for name in dict.fromkeys(pointed):
                if level == "within" and name in moving:
                    continue
                i = names.index(name)
                total, left = float(at.full_cov[i, i]), float(at.S[i, i])
                share = 1.0 - left / total if total > 0.0 else float("nan")
                title = fit.model.level_name(level)
                out.append(ExplainedVariance(title, label, name, total, left, share))
    return tuple(out)


def inadmissible(problem: StructuralProblem, fit: StructuralFit) -> tuple[str, ...]:
    """What no population can have, one sentence each: negative variances, correlations beyond 1."""
    objective = problem.objective(fit.model)
    out = []
    for p in fit.model.parameters:
        if p.is_variance and p.is_free and fit.theta[p.free] < 0.0:
            where = f" in group {fit.model.groups[p.group]}" if len(fit.model.groups) > 1 else ""
            title = fit.model.level_name(p.level)
            out.append(
                f"The variance {p.name} at the {title} level{where} is negative"
                f" ({fit.theta[p.free]:.4g}): no population has it. It may be zero, or the model"
                " may be wrong; look before reading anything else."
            )
    for g, label in enumerate(fit.model.groups):
        for level, at in objective.implied(fit.theta, g).items():
            where = f" in group {label}" if label else ""
            sizes = np.diag(at.S)
            if np.any(sizes < 0.0):
                continue  # said above
            unit = np.sqrt(np.where(sizes > 0.0, sizes, 1.0))
            values = np.linalg.eigvalsh(at.S / np.outer(unit, unit)) if len(unit) else np.ones(1)
            if float(values.min()) < -1e-8:
                out.append(
                    "The covariance matrix of the residuals at the"
                    f" {fit.model.level_name(level)} level{where} is not"
                    f" positive semidefinite (smallest scaled eigenvalue {values.min():.2g}):"
                    " correlations that cannot occur together."
                )
    return tuple(out)
