"""Profile limits of residual parameters and fixed effects: the criterion has risen by z^2 there.

One unconstrained parameter is held, all others are fitted again (the same trust region, average
information). Where the criterion never rises that far the limit is the edge of the range.
Source: Pinheiro & Bates 2000, section 2.4; Venzon & Moolgavkar 1988.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import (
    StructuredPrepared,
    prepare_structured,
    solve_structured,
)
from multilevel.estimate.trust_region import minimise
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]
FURTHEST = 300.0  # unconstrained: the edge of every range
DOUBLINGS = 8


class HeldParameter:
    """The criterion with one parameter held and all others fitted."""

    def __init__(self, objective: StructuredObjective, psi: Array, index: int) -> None:
        self.objective, self.index = objective, index
        self.others = np.arange(len(psi)) != index
        self.best, self.start = psi, psi
        self.base = objective.value(psi)

    def _whole(self, rest: Array, held: float) -> Array:
        out = np.empty(len(self.best))
        out[self.others], out[self.index] = rest, held
        return out

    def rise(self, held: float) -> float:
        """How far the criterion rises at a held value; infinite without a likelihood there."""

        def value(rest: Array) -> float:
            return self.objective.value(self._whole(rest, held))

        def derivatives(rest: Array) -> tuple[Array, Array]:
            psi = self._whole(rest, held)
            gradient = self.objective.gradient(psi)[self.others]
            H = self.objective.average_information(psi)[np.ix_(self.others, self.others)]
            return gradient, H

        rest = self.start[self.others]
        try:
            first = value(rest)
            if not self.others.any():
                return first - self.base
            path = minimise(
                value, derivatives, rest, tolerance=1e-8, max_iterations=60, noise=lambda: 0.0,
                start_value=first,
            )  # fmt: skip
        except LikelihoodError:
            return float("inf")
        self.start = self._whole(path.theta, held)
        return path.value - self.base


def profile_limits(
    prepared: StructuredPrepared, psi: Array, index: int, step: float, z: float
) -> tuple[float, float]:
    """Lower and upper limit of unconstrained parameter ``index`` of ``psi`` (r + K,).

    Parameters
    ----------
    step : a first guess of the distance to a limit, positive.
    z : normal quantile of the level; a limit is where the criterion has risen by ``z^2``.

    Returns
    -------
    Limits on the unconstrained scale; ``-+300`` where the criterion never rises that far.
    """
    ends = []
    for sign in (-1.0, 1.0):
        profile = HeldParameter(prepared.objective(), psi, index)
        inside, reach = float(psi[index]), max(step, 1e-3)
        for _ in range(DOUBLINGS):
            outside = float(psi[index]) + sign * reach
            if profile.rise(outside) > z * z:
                break
            inside, reach = outside, 2.0 * reach
        else:
            ends.append(sign * FURTHEST)
            continue

        def gap(x: float, profile: HeldParameter = profile) -> float:
            return float(np.sqrt(max(min(profile.rise(x), 1e6), 0.0))) - z

        ends.append(float(brentq(gap, inside, outside, xtol=1e-7, rtol=1e-10)))
    return ends[0], ends[1]


class HeldEffect:
    """The likelihood with one fixed effect held and everything else fitted."""

    def __init__(self, prepared: StructuredPrepared, fit: Fit, psi: Array, index: int) -> None:
        self.design, self.index = prepared.plain.design, index
        self.base, self.start = fit.criterion, psi

    def rise(self, held: float) -> float:
        """How far -2 log-likelihood rises at a held value of the effect."""
        design, k = self.design, self.index
        offset = np.zeros(design.n) if design.offset is None else design.offset
        without = replace(
            design,
            X=np.asfortranarray(np.delete(design.X, k, axis=1)),
            names=tuple(name for j, name in enumerate(design.names) if j != k),
            offset=offset + held * design.X[:, k],
        )
        fit = solve_structured(prepare_structured(without, method="ml"), psi_start=self.start)[1]
        phi = np.zeros(0) if fit.residual is None else fit.residual.phi
        self.start = np.concatenate([fit.theta, phi])
        return fit.criterion - self.base


def fixed_profile_limits(
    prepared: StructuredPrepared, fit: Fit, psi: Array, index: int, z: float
) -> tuple[float, float]:
    """Limits of fixed effect ``index`` of a fit by ML, where the likelihood has fallen by ``z^2``.

    Parameters
    ----------
    psi : (r + K,) estimates on the scaled problem.

    Raises
    ------
    EstimationError : a fit by REML, or a likelihood that does not fall as far as it must.
    """
    if prepared.method != "ml":
        raise EstimationError(
            "A profile of fixed effects needs a fit by ML.", "REML", 'use update(method="ml")'
        )
    if prepared.layout.has_power_of_mean:
        raise EstimationError(
            "A profile of fixed effects needs variances that do not depend on them.",
            "scale= has power(mean)",
            'take kind="wald" or kind="bootstrap"',
        )
    estimate = float(fit.beta[index])
    step = z * float(np.sqrt(fit.vcov_beta[index, index]))
    ends = []
    for sign in (-1.0, 1.0):
        profile = HeldEffect(prepared, fit, psi, index)

        def gap(x: float, profile: HeldEffect = profile) -> float:
            return float(np.sqrt(max(profile.rise(x), 0.0))) - z

        inside, reach = estimate, step
        for _ in range(DOUBLINGS):
            outside = estimate + sign * reach
            if gap(outside) > 0.0:
                break
            inside, reach = outside, 1.5 * reach
        else:
            raise EstimationError(
                "The likelihood must fall as an effect moves away from its estimate.",
                f"{prepared.plain.design.names[index]}: no limit within {reach:g} of {estimate:g}",
                "take the Wald interval",
            )
        ends.append(float(brentq(gap, inside, outside, xtol=1e-6 * step, rtol=1e-10)))
    return ends[0], ends[1]
