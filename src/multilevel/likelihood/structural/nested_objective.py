"""The criterion of a structural model with levels above the second, with or without slopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.moments import Implied
from multilevel.likelihood.structural.nested import (
    NestedMoments,
    UpperStatistics,
    nested_gradient,
    nested_minus2_loglik,
)
from multilevel.likelihood.structural.nested_information import nested_information
from multilevel.likelihood.structural.objective import ExogenousMoments
from multilevel.likelihood.structural.slope_objective import SlopeObjective
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.model.structural.records import Level, StructuralModel

Array = NDArray[np.float64]
Numbers = NDArray[Any]


class NestedObjective(SlopeObjective):
    """As ``StructuralObjective``, for three levels or more; scores are those of the highest units.

    Parameters
    ----------
    uppers : of each group, the statistics of each level above the second, from below.
    """

    def __init__(
        self,
        model: StructuralModel,
        groups: Sequence[GroupStatistics],
        uppers: Sequence[tuple[UpperStatistics, ...]],
        exogenous: Sequence[dict[Level, ExogenousMoments]],
    ) -> None:
        super().__init__(model, groups, exogenous)
        self.uppers = tuple(uppers)

    def nested_point(self, at: dict[Level, Implied]) -> NestedMoments:
        """Implied moments of all levels, as the likelihood takes them."""
        upper = tuple((at[h.name].mean, at[h.name].cov) for h in self.model.higher)
        return NestedMoments(self.point(at), upper)

    def value(self, theta: Array) -> float:
        """-2 log-likelihood, given the fixed predictors.

        Raises
        ------
        LikelihoodError : parameters at which the likelihood does not exist.
        """
        self.n_evaluations += 1
        total = -self.offset
        for g, stats in enumerate(self.slope_groups):
            at = self.nested_point(self.implied(theta, g))
            total += nested_minus2_loglik(stats, self.uppers[g], at)
        return float(total)

    def gradient(self, theta: Numbers) -> Numbers:
        """(q,) gradient of ``value``; complex for a complex ``theta``."""
        out = np.zeros(self.model.n_free, dtype=theta.dtype)
        for g, stats in enumerate(self.slope_groups):
            at = self.implied(theta, g)
            slope = nested_gradient(stats, self.uppers[g], self.nested_point(at))
            own = self.maps[g]
            mean, cov = slope.mean_within.sum(axis=0), slope.cov_within.sum(axis=0)
            out += own["within"].pullback(at["within"], mean, cov)
            for k, level in enumerate(self.model.levels[1:]):
                out += own[level].pullback(at[level], slope.means[k][0], slope.covs[k][0])
            out += self.carry_pullback(at, g, slope.carry.sum(axis=0))
        return out

    def expected_information(self, theta: Array) -> Array:
        """(q, q) expected information of the log-likelihood of a model without random slopes."""
        out = np.zeros((self.model.n_free, self.model.n_free))
        for g, stats in enumerate(self.slope_groups):
            at = self.implied(theta, g)
            along = [self.maps[g][level].directions(at[level]) for level in at]
            out += nested_information(stats, self.uppers[g], self.nested_point(at), along)
        return out

    def scores(self, theta: Array) -> Array:
        """(highest units of all groups, q) derivative of each one's log-likelihood."""
        parts = []
        for g, stats in enumerate(self.slope_groups):
            at = self.implied(theta, g)
            slope = nested_gradient(stats, self.uppers[g], self.nested_point(at), by_unit=True)
            along = {level: self.maps[g][level].directions(at[level]) for level in at}
            mean, cov = along["within"]
            per_pair = slope.mean_within @ mean.T
            per_pair += np.einsum("uij,aij->ua", slope.cov_within, cov, optimize=True)
            carry = self.carry_directions(theta, g)
            per_pair += np.einsum("uij,aij->ua", slope.carry, carry, optimize=True)
            total: Array = np.asarray(stats.base.to_cluster @ per_pair)
            for k, level in enumerate(self.model.levels[1:]):
                if k:
                    total = self.uppers[g][k - 1].total(total)
                mean, cov = along[level]
                total = total + slope.means[k] @ mean.T
                total = total + np.einsum("jab,qab->jq", slope.covs[k], cov, optimize=True)
            parts.append(-0.5 * total)
        return np.concatenate(parts)
