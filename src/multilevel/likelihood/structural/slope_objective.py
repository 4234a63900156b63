"""The criterion of a structural model with random slopes, as a function of its free parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.moments import Implied
from multilevel.likelihood.structural.objective import (
    ExogenousMoments,
    StructuralObjective,
    moments_of,
)
from multilevel.likelihood.structural.random_slopes import (
    SlopeMoments,
    SlopeState,
    SlopeStatistics,
    slope_gradient,
    slope_minus2_loglik,
    slope_state,
    slope_statistics,
)
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.model.structural.records import Level, StructuralModel

Array = NDArray[np.float64]
Numbers = NDArray[Any]


class SlopeObjective(StructuralObjective):
    """As ``StructuralObjective``, for models with random slopes.

    ``information`` is the outer product of the cluster scores: the expected information does not
    exist in closed form where a predictor with a random slope is itself an outcome.
    """

    def __init__(
        self,
        model: StructuralModel,
        groups: Sequence[GroupStatistics],
        exogenous: Sequence[dict[Level, ExogenousMoments]],
    ) -> None:
        super().__init__(model, groups, exogenous)
        names = model.observed("within")
        self._outcomes = [names.index(s.outcome) for s in model.random_slopes]
        columns = [names.index(s.predictor) for s in model.random_slopes]
        predictors = np.array(columns, dtype=np.intp)
        self.slope_groups: tuple[SlopeStatistics, ...] = tuple(
            slope_statistics(data, predictors) for data in groups
        )

    def point(self, at: dict[Level, Implied]) -> SlopeMoments:
        """Moments of rows and clusters, and what a unit of each between part adds to a row."""
        T = at["within"].T
        p, b = len(at["within"].mean), len(self.model.both)
        unit = np.zeros((p, b), dtype=T.dtype)
        unit[np.arange(b), np.arange(b)] = 1.0
        return SlopeMoments(moments_of(at), np.column_stack([unit, T[:p, self._outcomes]]))

    def state(self, at: dict[Level, Implied], group: int) -> SlopeState:
        """Posterior moments of the clusters of a group, given both levels' implied moments."""
        return slope_state(self.slope_groups[group], self.point(at))

    def value(self, theta: Array) -> float:
        """-2 log-likelihood, given the fixed predictors.

        Raises
        ------
        LikelihoodError : parameters at which the likelihood does not exist.
        """
        self.n_evaluations += 1
        total = -self.offset
        for g, stats in enumerate(self.slope_groups):
            total += slope_minus2_loglik(stats, self.point(self.implied(theta, g)))
        return float(total)

    def gradient(self, theta: Numbers) -> Numbers:
        """(q,) gradient of ``value``; complex for a complex ``theta``."""
        out = np.zeros(self.model.n_free, dtype=theta.dtype)
        for g, stats in enumerate(self.slope_groups):
            at = self.implied(theta, g)
            slope = slope_gradient(stats, self.point(at))
            own = self.maps[g]
            mean, cov = slope.mean_within.sum(axis=0), slope.cov_within.sum(axis=0)
            out += own["within"].pullback(at["within"], mean, cov)
            out += own["between"].pullback(
                at["between"], slope.mean_between[0], slope.cov_between[0]
            )
            out += self.carry_pullback(at, g, slope.carry.sum(axis=0))
        return out

    def carry_pullback(self, at: dict[Level, Implied], group: int, carry: Numbers) -> Numbers:
        """(q,) derivative of F, given dF in the total effects (p, k) of the slopes' outcomes."""
        T = at["within"].T
        slope_a = T[: len(carry)].T @ carry @ T[:, self._outcomes].T
        out = np.zeros(self.model.n_free, dtype=slope_a.dtype)
        for e in self.maps[group]["within"].entries:
            if e.kind == "A" and e.free >= 0:
                out[e.free] += slope_a[e.row, e.column]
        return out

    def carry_directions(self, theta: Array, group: int) -> Array:
        """(q, p, k) derivatives of the total effects of the slopes' outcomes."""
        T = self.implied(theta, group)["within"].T
        p = self.maps[group]["within"].n_observed
        out = np.zeros((self.model.n_free, p, len(self._outcomes)))
        for e in self.maps[group]["within"].entries:
            if e.kind == "A" and e.free >= 0:
                out[e.free] += np.outer(T[:p, e.row], T[e.column, self._outcomes])
        return out

    def information(self, theta: Array) -> Array:
        """(q, q) sum over clusters of the outer products of the scores."""
        scores = self.scores(theta)
        return np.asarray(scores.T @ scores)

    def scores(self, theta: Array) -> Array:
        """(clusters of all groups, q) derivative of each cluster's log-likelihood."""
        parts = []
        for g, stats in enumerate(self.slope_groups):
            at = self.implied(theta, g)
            slope = slope_gradient(stats, self.point(at), by_cluster=True)
            _, along = self.directions(theta, g)
            carry = self.carry_directions(theta, g)
            per_pair = slope.mean_within @ along.mean_within.T
            per_pair += np.einsum("uij,aij->ua", slope.cov_within, along.cov_within)
            per_pair += np.einsum("uij,aij->ua", slope.carry, carry)
            total = np.asarray(stats.base.to_cluster @ per_pair)
            total += slope.mean_between @ along.mean_between.T
            total += np.einsum("jab,qab->jq", slope.cov_between, along.cov_between)
            parts.append(-0.5 * total)
        return np.concatenate(parts)
