"""Blocks of covariance matrices of a structural model, whatever is fixed, shared or free in them.

Every entry of a matrix S of residual (co)variances is a free parameter or a number, so that S is
linear in the parameters and the set where all S are positive semidefinite is convex. A block is a
set of variables that covariances join.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.structural import StructuralProblem
from multilevel.likelihood.structural.moments import Entry
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.model.structural.records import Level

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
_INSIDE = 0.01  # smallest eigenvalue of a start, as a share of the variances


@dataclass(frozen=True)
class ConeBlock:
    """One block of one level of one group.

    Attributes
    ----------
    names : (k,) its variables.
    place : (k, k) index of the free parameter of each entry, -1 where it is fixed.
    fixed : (k, k) value of the fixed entries.
    unit : (k,) size of each variable, which no estimate changes.
    """

    level: Level
    group: int
    names: tuple[str, ...]
    place: Codes
    fixed: Array
    unit: Array

    def matrix(self, theta: Array) -> Array:
        """(k, k) the matrix in these units."""
        S = np.where(self.place >= 0, theta[np.maximum(self.place, 0)], self.fixed)
        return np.asarray(S / np.outer(self.unit, self.unit))

    @cached_property
    def free(self) -> Codes:
        """(n,) free parameters in it."""
        return np.unique(self.place[self.place >= 0])

    @cached_property
    def directions(self) -> Array:
        """(n, k, k) derivative of the matrix in each of them."""
        out = (self.place[None] == self.free[:, None, None]).astype(np.float64)
        return np.asarray(out / np.outer(self.unit, self.unit))


def cone_blocks(
    problem: StructuralProblem, objective: StructuralObjective, theta: Array
) -> tuple[ConeBlock, ...]:
    """All blocks that hold a free parameter.

    Parameters
    ----------
    theta : (q,) start values, whose variances are the units of latent variables.

    Raises
    ------
    EstimationError : a variance fixed at zero or below beside a covariance that is not.
    """
    out = []
    for g, maps in enumerate(objective.maps):
        for level, own in maps.items():
            entries = [e for e in own.entries if e.kind == "S"]
            size = _sizes(problem, level, g)
            for at in _joined(entries):
                names = tuple(own.names[i] for i in at)
                place, fixed = _laid_out(entries, at)
                if not np.any(place >= 0):
                    continue
                _check_possible(names, place, fixed)
                diagonal = [
                    size.get(n, np.sqrt(abs(theta[p] if p >= 0 else v)))
                    for n, p, v in zip(names, np.diag(place), np.diag(fixed), strict=True)
                ]
                unit = np.maximum(np.array(diagonal), 1e-3)
                out.append(ConeBlock(level, g, names, place, fixed, unit))
    return tuple(out)


def _joined(entries: list[Entry]) -> list[list[int]]:
    """Variables that covariances join, directly or through others; those that vary."""
    sets: list[set[int]] = []
    for e in entries:
        if e.free < 0 and e.value == 0.0:
            continue
        pair = {e.row, e.column}
        touching = [s for s in sets if s & pair]
        sets = [s for s in sets if not s & pair]
        sets.append(pair.union(*touching))
    return [sorted(s) for s in sets]


def _laid_out(entries: list[Entry], at: list[int]) -> tuple[Codes, Array]:
    where = {i: k for k, i in enumerate(at)}
    place = np.full((len(at), len(at)), -1, dtype=np.intp)
    fixed = np.zeros((len(at), len(at)))
    for e in entries:
        if e.row in where and e.column in where:
            a, b = where[e.row], where[e.column]
            place[a, b] = place[b, a] = e.free
            fixed[a, b] = fixed[b, a] = 0.0 if e.free >= 0 else e.value
    return place, fixed


def _check_possible(names: tuple[str, ...], place: Codes, fixed: Array) -> None:
    for k, name in enumerate(names):
        if place[k, k] < 0 and fixed[k, k] <= 0.0:
            raise EstimationError(
                "A variable with covariances has a positive variance.",
                f"{name} ~~ {fixed[k, k]:g}*{name}",
                f"free the variance of {name}, or fix its covariances at 0",
            )


def _sizes(problem: StructuralProblem, level: Level, group: int) -> dict[str, float]:
    """Standard deviations of the data; of a random slope, their ratio within clusters."""
    moments = problem.moments[group]
    sd: dict[str, float] = {}
    for one in dict.fromkeys(("within", level)):
        own = moments[one]
        for name, variance in zip(own.names, np.diag(own.cov), strict=True):
            sd[name] = float(np.hypot(sd.get(name, 0.0), np.sqrt(max(float(variance), 0.0))))
    for slope in problem.design.model.random_slopes:
        sd[slope.name] = sd[slope.outcome] / max(sd[slope.predictor], 1e-300)
    return sd


def barrier(
    blocks: tuple[ConeBlock, ...], theta: Array, order: int = 0
) -> tuple[float, Array, Array]:
    """``-sum log|S|`` with its gradient (q,) and Hessian (q, q), these if ``order`` is 2.

    Raises
    ------
    LikelihoodError : a matrix that is not positive definite.
    """
    q = len(theta)
    value, gradient, hessian = 0.0, np.zeros(q), np.zeros((q, q))
    for block in blocks:
        S = block.matrix(theta)
        try:
            L = np.linalg.cholesky(S)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                "Covariance matrices are positive definite inside the bounds.",
                f"that of {', '.join(block.names)} is not", "take a shorter step",
            ) from error  # fmt: skip
        value -= 2.0 * float(np.sum(np.log(np.diag(L))))
        if order == 2:
            half = np.linalg.solve(L, np.swapaxes(np.linalg.solve(L, block.directions), 1, 2))
            flat = half.reshape(len(half), -1)
            gradient[block.free] -= np.trace(half, axis1=1, axis2=2)
            hessian[np.ix_(block.free, block.free)] += flat @ flat.T
    return value, gradient, hessian


def moved_inside(blocks: tuple[ConeBlock, ...], theta: Array) -> Array:
    """(q,) a point near ``theta`` at which all matrices are positive definite.

    Raises
    ------
    EstimationError : fixed covariances with which there is none.
    """
    out = theta.copy()
    for _ in range(12):
        worst = None
        for block in blocks:
            S = block.matrix(out)
            if np.linalg.eigvalsh(S)[0] < _INSIDE:
                worst = block
                diagonal = np.diag(block.place)
                for k, p in enumerate(diagonal):
                    if p >= 0:
                        out[p] = max(1.1 * out[p], 0.05 * block.unit[k] ** 2)
                off = np.setdiff1d(block.free, diagonal)
                out[off] *= 0.6
        if worst is None:
            return out
    raise EstimationError(
        "The start values must allow a covariance matrix.",
        f"that of {', '.join(worst.names) if worst else ''} at the"
        f" {worst.level if worst else ''} level cannot be one",
        "give start values of variances, or fix smaller covariances",
    )
