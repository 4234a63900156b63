"""Profile limits of residual parameters: where the criterion has risen by the square of z.

One unconstrained parameter is held, all others are fitted again (the same trust region, average
information). Where the criterion never rises that far the limit is the edge of the range.
Source: Pinheiro & Bates 2000, section 2.4; Venzon & Moolgavkar 1988.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from multilevel.errors import LikelihoodError
from multilevel.estimate.structured import StructuredPrepared
from multilevel.estimate.trust_region import minimise
from multilevel.likelihood.residual.objective import StructuredObjective

Array = NDArray[np.float64]
FURTHEST = 300.0  # unconstrained: the edge of every range
DOUBLINGS = 8


class _Profile:
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
        profile = _Profile(prepared.objective(), psi, index)
        inside, reach = float(psi[index]), max(step, 1e-3)
        for _ in range(DOUBLINGS):
            outside = float(psi[index]) + sign * reach
            if profile.rise(outside) > z * z:
                break
            inside, reach = outside, 2.0 * reach
        else:
            ends.append(sign * FURTHEST)
            continue

        def gap(x: float, profile: _Profile = profile) -> float:
            return float(np.sqrt(max(min(profile.rise(x), 1e6), 0.0))) - z

        ends.append(float(brentq(gap, inside, outside, xtol=1e-7, rtol=1e-10)))
    return ends[0], ends[1]
