r"""How far the largest variance is off because the likelihood is approximated: one Newton step.

The exact criterion is the approximate one minus its error ``e(psi)``. To first order its optimum is
``psi + C grad e / 2`` with C the covariance of the estimates, so a variance ``v(psi)`` moves by

    v'C grad e / 2,

half the derivative of ``e`` along ``C v'``: two evaluations of the error, whatever the number of
parameters, fixed effects included. Where more quadrature points are affordable ``e`` is the change
that they make (its gradient is exact); elsewhere it is sampled at common draws, or the second-order
term of the Laplace expansion. Source: own derivation (implicit differentiation of the optimum).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.likelihood.generalized.choose import has_quadrature, make_objective
from multilevel.likelihood.generalized.correction import Correctable, difference
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.location_scale.objective import reduces

Array = NDArray[np.float64]

MOST_NODES = 2_500  # joint nodes up to which more points are tried
MOST_WORK = 10_000_000  # rows x joint nodes, from FEW_NODES on
FEW_NODES = 400  # cheaper than sampling
STEP = 0.1  # of the variance, in its standard errors, on either side
FAR = 0.2  # change from which one Newton step only says "far"


@dataclass(frozen=True)
class VarianceShift:
    """Change of the largest variance if the likelihood were exact.

    Attributes
    ----------
    share : signed, as a share of the variance; NaN if it could not be estimated.
    std_error : Monte Carlo standard error of ``share``; 0 if there is no sampling.
    sentence : the same in words.
    """

    share: float
    std_error: float
    sentence: str


def largest_variance(problem: GeneralizedProblem, psi: Array) -> float:
    """Largest variance of any random effect."""
    return max(float((L * L).sum(axis=1).max()) for L in problem.factors(psi))


def variance_shift(
    problem: GeneralizedProblem,
    fit: GeneralizedFit,
    objective: GeneralizedObjective,
    rng: np.random.Generator,
    draws: int,
) -> VarianceShift | None:
    """Estimate the shift of the largest variance; None where that variance is zero.

    ``objective`` is set at the estimates; afterwards it is set elsewhere.
    """
    before = largest_variance(problem, fit.psi)
    towards, spread = _direction(problem, fit)
    if before <= 0.0 or not spread > 0.0:
        return None
    try:
        finer = _finer(problem, fit)
        if finer is not None:
            finer.set_modes(fit.modes)
            finer.value(fit.psi)
            change = -0.5 * float((finer.gradient() - objective.gradient()) @ towards)
            return _worded(change / before, 0.0, "")
        if isinstance(objective, Correctable):
            return _sampled(objective, fit, towards / spread, spread / before, rng, draws)
    except LikelihoodError as error:
        why = f"{error.found[:1].lower()}{error.found[1:]}"
        return VarianceShift(float("nan"), float("nan"), _unknown(why))
    return VarianceShift(float("nan"), float("nan"), _unknown("no finer approximation is known"))


def _direction(problem: GeneralizedProblem, fit: GeneralizedFit) -> tuple[Array, float]:
    """``C v'`` (P,) and the standard error of the variance ``v``."""
    slope = np.zeros(len(fit.psi))
    for a in range(problem.n_fixed, len(fit.psi)):
        step = 1e-5 * max(1.0, abs(fit.psi[a]))
        values = []
        for sign in (1.0, -1.0):
            moved = fit.psi.copy()
            moved[a] += sign * step
            values.append(largest_variance(problem, moved))
        slope[a] = (values[0] - values[1]) / (2.0 * step)
    towards = fit.vcov @ slope
    return towards, float(np.sqrt(max(0.0, float(slope @ towards))))


def _finer(problem: GeneralizedProblem, fit: GeneralizedFit) -> GeneralizedObjective | None:
    """The same likelihood with more points, where that is affordable."""
    if not has_quadrature(problem):
        return None
    used = max(fit.approximation.points)
    widths = [1] if reduces(problem) else [block.columns.shape[1] for block in problem.blocks]
    wanted: tuple[int, ...] = (2 * used + 1, used + 2)
    if used == 1:
        wanted = (15, 7, 5) if len(widths) > 1 else (15,) if widths == [1] else (7,)
    for points in wanted:
        nodes = points ** sum(widths)
        if nodes <= FEW_NODES or (nodes <= MOST_NODES and nodes * problem.n <= MOST_WORK):
            return make_objective(problem, points)
    return None


def _sampled(
    objective: Correctable,
    fit: GeneralizedFit,
    unit: Array,
    scale: float,
    rng: np.random.Generator,
    draws: int,
) -> VarianceShift:
    """The derivative of the sampled error along ``unit``, which moves the variance by one
    standard error, ``scale`` as a share of it."""
    for wanted in (draws, 0):  # sampling, then the second-order term
        found = []
        for sign in (1.0, -1.0):
            objective.set_modes(fit.modes)
            objective.value(fit.psi + sign * STEP * unit)
            found.append(objective.correction(deepcopy(rng), wanted))
        if all(one.is_reliable for one in found):
            change, noise = difference(found[0], found[1])
            factor = 0.5 * scale / (2.0 * STEP)
            how = "" if wanted else " by the second-order term of the Laplace expansion"
            return _worded(change * factor, noise * factor, how)
    return VarianceShift(
        float("nan"), float("nan"), _unknown("importance sampling was not reliable")
    )


#: Changes of the largest variance below this share of it are rounding.
ROUNDING = 1e-7


def _unknown(why: str) -> str:
    return f"How far the largest variance is off could not be estimated: {why}."


def _worded(share: float, noise: float, how: str) -> VarianceShift:
    """The shift with its sentence."""
    if not np.isfinite(share):
        return VarianceShift(float("nan"), float("nan"), _unknown("the estimate is not finite"))
    percent, error = 100.0 * abs(share), 100.0 * noise
    if abs(share) > FAR and abs(share) > 2.0 * noise:
        sentence = f"The largest variance may be off by more than {100.0 * FAR:.0f}%{how}."
    elif noise > 0.0 and abs(share) <= 2.0 * noise:
        sentence = (
            f"The largest variance would change by {100.0 * share:+.2g}% (Monte Carlo standard "
            f"error {error:.1g}%): too little to tell from the noise of the draws."
            if error < 100.0 * FAR
            else "The change of the largest variance is lost in the noise of the draws (Monte "
            f"Carlo standard error {error:.2g}%): how far it is off is not known."
        )
    elif abs(share) < ROUNDING:
        sentence = "The largest variance would not change."
    else:
        word = "rise" if share > 0.0 else "fall"
        by = f" (Monte Carlo standard error {error:.1g}%)" if noise > 0.0 else ""
        sentence = f"The largest variance would {word} by about {percent:.2g}%{by}{how}."
    return VarianceShift(share, noise, sentence)
