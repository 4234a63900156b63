"""Posterior moments of what is not observed, with levels above the second.

Given what the levels above add to the vector of a unit, a, the unit is one of two levels: with the
pieces of ``posterior`` and ``H`` of ``random_slopes.unit_scores``, the data are a unit's own less
``a``, so that with ``F = B_v E_z + S_vu R A H'`` (``E_z`` picks the variables of the level only)

    E(v | data, a) = E(v) + B_v dz + S_vu R r - F a,    Var(v | data, a) = S_vv - S_vu R A S_uv.

a itself has the posterior mean s and covariance M that the units above hand down (``nested``), all
data counted: ``E(v | data) = ... - F s``, ``Var(v | data) = ... + F M F'`` (law of total
variance). Rows: as for two levels, with the posterior moments of all that is added to them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.nested import UpperStatistics, unit_posteriors
from multilevel.likelihood.structural.nested_objective import NestedObjective
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.likelihood.structural.posterior import (
    GroupPosterior,
    OwnValues,
    Pieces,
    Posterior,
    rows_depend_on,
)
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.model.structural.records import Level

Array = NDArray[np.float64]


class NestedPosterior(GroupPosterior):
    """As ``GroupPosterior``, with levels above the second.

    Raises
    ------
    LikelihoodError : parameters at which the likelihood does not exist.
    """

    def __init__(self, objective: NestedObjective, theta: Array, group: int) -> None:
        self.data = objective.groups[group]
        self.maps = objective.maps[group]
        self.at = objective.implied(theta, group)
        self._effects, self._x = rows_depend_on(objective, self.at, group)
        self._levels = objective.model.levels
        self._uppers = objective.uppers[group]
        point = objective.nested_point(self.at)
        means, self._units = unit_posteriors(objective.slope_groups[group], self._uppers, point)
        first, lowest = self._units[0], objective.state(self.at, group)
        d = first.t.shape[1]
        Rr = np.einsum("jab,jb->ja", first.state.R, first.state.r)
        self._pieces = Pieces(means[0][:d] + first.t, first.C, Rr, first.state.R @ first.state.A,
                              first.state.dz, first.state.Z)  # fmt: skip
        self._W = lowest.W

    def between(self, chosen: NDArray[np.intp]) -> Posterior:
        """Given all data, (J, k): variables ``chosen`` of the second level's map."""
        return self._above("between", chosen)

    def of_level(self, level: Level, chosen: NDArray[np.intp]) -> Posterior:
        """Given all data: variables ``chosen`` of a level's map, for all its units."""
        return self.within(chosen) if level == "within" else self._above(level, chosen)

    def own_values(self, level: Level) -> OwnValues:
        """Values of the variables that a level does not share with those below."""
        k = self._levels.index(level)
        if k < 2:
            return super().own_values(level)
        data = self._uppers[k - 2]
        return OwnValues(data.z_pattern, data.seen_z, data.z + data.centre_z, len(data.lift))

    def _above(self, level: Level, chosen: NDArray[np.intp]) -> Posterior:
        k = self._levels.index(level) - 1
        unit, at = self._units[k], self.at[level]
        data: GroupStatistics | UpperStatistics = self.data if k == 0 else self._uppers[k - 1]
        state, d, p = unit.state, unit.t.shape[1], len(at.mean)
        C = at.full_cov
        cross = C[:, d:p] * data.seen_z[:, None, :]
        B = cross @ state.Z
        S = (C - B @ np.swapaxes(cross, 1, 2))[data.z_pattern]
        to_random = S[:, chosen][:, :, :d]
        gain = to_random @ state.R
        own = B[data.z_pattern][:, chosen]
        F = gain @ state.A @ np.swapaxes(unit.H, 1, 2)
        F[:, :, d:] += own
        mean = at.full_mean[chosen] + np.einsum("jvz,jz->jv", own, state.dz)
        mean = mean + np.einsum("jvd,jd->jv", gain, state.r)
        mean = mean - np.einsum("jva,ja->jv", F, unit.added)
        cov = S[:, chosen][:, :, chosen] - gain @ state.A @ np.swapaxes(to_random, 1, 2)
        return Posterior(mean, cov + F @ unit.added_cov @ np.swapaxes(F, 1, 2))


def group_posterior(objective: StructuralObjective, theta: Array, group: int) -> GroupPosterior:
    """Posterior moments of one group, of any number of levels.

    Raises
    ------
    LikelihoodError : parameters at which the likelihood does not exist.
    """
    if isinstance(objective, NestedObjective):
        return NestedPosterior(objective, theta, group)
    return GroupPosterior(objective, theta, group)
