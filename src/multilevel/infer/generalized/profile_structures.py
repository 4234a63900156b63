"""Parameters of structured random effects held for a profile, on their unconstrained scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.generalized.held import HeldParameters
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.generalized.profile_maps import HeldProblem, held_entry
from multilevel.infer.generalized.quantities import Parameter, own_slice
from multilevel.model.covariance.curves import FACTORED, HOMOGENEOUS, Curve

Array = NDArray[np.float64]
EDGE = 1e-6  # distance to a correlation of one, or a range of zero


@dataclass(frozen=True)
class HeldStructure:
    """One entry of ``psi`` is ``working(value)``; ``free`` are the places of the free ones."""

    base: Array
    index: int
    free: NDArray[np.intp]
    working: Callable[[float], float]

    def at(self, value: float, x: Array) -> HeldParameters:
        """The parameters at a held value."""
        psi, unit = self.base.copy(), np.eye(len(self.base))
        psi[self.free] = x
        psi[self.index] = self.working(value)
        h = 1e-6 * max(abs(value), 1e-3)
        slope = (self.working(value + h) - self.working(value - h)) / (2.0 * h)
        return HeldParameters(psi, unit[:, self.free], unit[self.index] * slope)


def held_structure(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, q: Parameter, curve: Curve
) -> HeldProblem:
    """Hold a standard deviation or a parameter of a structured term.

    Raises
    ------
    InferenceError : loadings, and correlations that depend on several parameters.
    """
    start = own_slice(prepared, q).start
    if curve.structure in FACTORED or (q.k >= 0 and curve.held(q.k, 0.5) is None):
        raise InferenceError(
            "A profile holds one parameter of a structure at a time.",
            f"{q.component} {q.term} over {q.group}, which depends on several",
            'use method="wald" or method="bootstrap"',
        )
    if q.k < 0 and curve.structure in HOMOGENEOUS:
        held = held_entry(prepared, fit, start)
        return HeldProblem(held.objective, held.where, held.x, held.curvature, 0.0, np.inf, False)
    if q.k < 0:
        terms = prepared.problem.blocks[q.block].structure.terms
        first = next(a for a, b, _ in terms if a <= q.a < b)
        index, low, high = start + q.a - first, 1e-12, np.inf

        def working(value: float) -> float:
            return float(np.log(max(value, 1e-300)))
    else:
        index = start + curve.n_scales + q.k
        low, high = curve.limits[0] + EDGE, curve.limits[1] - EDGE

        def working(value: float) -> float:
            x = curve.held(q.k, min(max(value, low), high))
            return 0.0 if x is None else x

    held = held_entry(prepared, fit, index)
    where = HeldStructure(fit.psi.copy(), index, _free(held), working)
    return HeldProblem(held.objective, where, held.x, held.curvature, low, high, False)


def _free(held: HeldProblem) -> NDArray[np.intp]:
    """Places of the free parameters of a held entry."""
    jacobian = held.where.at(0.0, held.x).jacobian
    return np.asarray(np.argmax(jacobian, axis=0), dtype=np.intp)
