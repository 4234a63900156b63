"""Where the parameters of a generalized model are when one quantity is held.

A coefficient is held as it is. A standard deviation is the first diagonal entry of the Cholesky
factor once its column comes first; a correlation rules the second row once its two columns come
first: ``(L_21, L_22) = s (rho, sqrt(1 - rho^2))``. A threshold ``tau_c`` of increasing thresholds
is ``tau_(c-1) + exp(psi_c)``. Source: own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError, LikelihoodError
from multilevel.estimate.generalized.held import HeldMap, HeldParameters, differenced_curvature
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.generalized.draws import start_from
from multilevel.infer.generalized.quantities import Parameter
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.model.covariance.structures import parameters_from_covariance

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class HeldEntry:
    """One entry of ``psi`` is held; ``free`` are the places of the free ones."""

    base: Array
    index: int
    free: Places

    def at(self, value: float, x: Array) -> HeldParameters:
        """The parameters at a held value."""
        psi, unit = self.base.copy(), np.eye(len(self.base))
        psi[self.free] = x
        psi[self.index] = value
        return HeldParameters(psi, unit[:, self.free], unit[self.index])


@dataclass(frozen=True)
class HeldCorrelation:
    """The first two columns' correlation is held; the last free parameter is the length of the
    second row. ``rows`` are the places of ``L_21`` and ``L_22``."""

    base: Array
    rows: tuple[int, int]
    free: Places

    def at(self, value: float, x: Array) -> HeldParameters:
        """The parameters at a held correlation."""
        rows = list(self.rows)
        rest = float(np.sqrt(max(1.0 - value**2, 0.0)))
        share = np.array([value, rest])
        psi = self.base.copy()
        psi[self.free] = x[:-1]
        psi[rows] = x[-1] * share
        J = np.zeros((len(psi), len(x)))
        J[self.free, np.arange(len(self.free))] = 1.0
        J[rows, -1] = share
        slope = np.zeros(len(psi))
        slope[rows] = x[-1] * np.array([1.0, -value / max(rest, 1e-8)])
        return HeldParameters(psi, J, slope)


@dataclass(frozen=True)
class HeldThreshold:
    """``tau_c`` of increasing thresholds is held: ``psi_c = log(value - tau_(c-1))``.

    ``places`` are those of threshold 1 to c in ``psi``.
    """

    base: Array
    places: tuple[int, ...]
    free: Places

    def at(self, value: float, x: Array) -> HeldParameters:
        """The parameters at a held threshold."""
        psi = self.base.copy()
        psi[self.free] = x
        lower, own = list(self.places[:-1]), self.places[-1]
        gap = value - float(psi[lower[0]] + np.sum(np.exp(psi[lower[1:]])))
        if gap <= 0.0:
            raise LikelihoodError(
                "Thresholds must increase.", f"a gap of {gap:.3g}", "take a shorter step"
            )
        psi[own] = np.log(gap)
        J = np.eye(len(psi))
        J[own, lower[0]] = -1.0 / gap
        J[own, lower[1:]] = -np.exp(psi[lower[1:]]) / gap
        slope = np.zeros(len(psi))
        slope[own] = 1.0 / gap
        return HeldParameters(psi, J[:, self.free], slope)


@dataclass(frozen=True)
class HeldProblem:
    """Everything that a profile needs.

    Attributes
    ----------
    objective : of the problem, its columns reordered where needed.
    where : the map.
    x : (F,) free parameters at the estimates.
    curvature : (F, F) of the criterion in them.
    low, high : range of the held value.
    is_reordered : whether columns were reordered (quadrature grids then move a little).
    """

    objective: GeneralizedObjective
    where: HeldMap
    x: Array
    curvature: Array
    low: float
    high: float
    is_reordered: bool


def held_entry(prepared: GeneralizedPrepared, fit: GeneralizedFit, index: int) -> HeldProblem:
    """Hold one entry of ``psi``; parameters at a limit stay where they are."""
    objective = _objective(prepared.problem, fit)
    free = _free(fit, {index})
    base = start_from(prepared.problem, fit.psi)
    where = HeldEntry(base, index, free)
    H = _curvature(objective, fit, base)
    return HeldProblem(objective, where, base[free], H[np.ix_(free, free)], -np.inf, np.inf, False)


def held_threshold(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, places: tuple[int, ...]
) -> HeldProblem:
    """Hold the last of increasing thresholds."""
    objective = _objective(prepared.problem, fit)
    free = _free(fit, {places[-1]})
    base = start_from(prepared.problem, fit.psi)
    where = HeldThreshold(base, places, free)
    H = _curvature(objective, fit, base)
    value = float(base[places[0]] + np.sum(np.exp(base[list(places[1:])])))
    J = where.at(value, base[free]).jacobian
    return HeldProblem(objective, where, base[free], J.T @ H @ J, -np.inf, np.inf, False)


def held_covariance(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter
) -> HeldProblem:
    """Hold a standard deviation or a correlation.

    Raises
    ------
    InferenceError : a parameter of a tied structure.
    """
    block = prepared.problem.blocks[q.block]
    number = next(k for k, (i, j, _) in enumerate(block.structure.terms) if i <= q.a < j)
    start, stop, structure = block.structure.terms[number]
    local = block.structure.parameter_slices()[number]
    first = prepared.problem.theta_slices[q.block].start + local.start
    if structure == "compound_symmetry":
        raise InferenceError(
            "Profiles of tied variances are not available.",
            f"{q.term} over {q.group} has compound symmetry",
            'use method="wald" or method="bootstrap"',
        )
    if q.component == "sd" and (structure != "unstructured" or q.a == start):
        place = first + (q.a - start if structure == "diagonal" else 0)
        return replace(held_entry(prepared, fit, place), low=0.0)
    wanted = [q.a] if q.component == "sd" else [q.b, q.a]
    rest = [c for c in range(start, stop) if c not in wanted]
    order = [*range(start), *wanted, *rest, *range(stop, block.columns.shape[1])]
    problem, psi = _reordered(prepared.problem, fit, q.block, order)
    objective = make_objective(problem, fit.approximation.points or None)
    base = start_from(problem, psi)
    objective.value(base)
    H = differenced_curvature(objective, base)
    if q.component == "sd":
        free = _free(fit, {first})
        return HeldProblem(
            objective, HeldEntry(base, first, free), base[free], H[np.ix_(free, free)],
            0.0, np.inf, True,
        )  # fmt: skip
    rows = (first + 1, first + 2)
    free = _free(fit, set(rows))
    length = float(np.hypot(*base[list(rows)]))
    x = np.append(base[free], length)
    where = HeldCorrelation(base, rows, free)
    J = where.at(float(base[rows[0]]) / length, x).jacobian
    return HeldProblem(objective, where, x, J.T @ H @ J, -1.0, 1.0, True)


def _free(fit: GeneralizedFit, held: set[int]) -> Places:
    return np.setdiff1d(np.arange(len(fit.psi)), [*held, *fit.at_limit]).astype(np.intp)


def _objective(problem: GeneralizedProblem, fit: GeneralizedFit) -> GeneralizedObjective:
    objective = make_objective(problem, fit.approximation.points or None)
    if problem.blocks:
        objective.set_modes(fit.modes)
    return objective


def _curvature(objective: GeneralizedObjective, fit: GeneralizedFit, base: Array) -> Array:
    """Of the fit; differenced where zero variances were moved off their boundary."""
    if np.array_equal(base, fit.psi):
        objective.value(base)
        return fit.curvature
    return differenced_curvature(objective, base)


def _reordered(
    problem: GeneralizedProblem, fit: GeneralizedFit, t: int, order: list[int]
) -> tuple[GeneralizedProblem, Array]:
    """The problem with the columns of a block in another order, and ``psi`` there."""
    block = problem.blocks[t]
    new = replace(
        block,
        columns=np.asfortranarray(block.columns[:, order]),
        parts=tuple(block.parts[c] for c in order),
    )
    blocks = tuple(new if s == t else b for s, b in enumerate(problem.blocks))
    psi = fit.psi.copy()
    G = fit.random_covariance[t][np.ix_(order, order)]
    psi[problem.theta_slices[t]] = parameters_from_covariance(new.structure, G)
    return replace(problem, blocks=blocks), psi
