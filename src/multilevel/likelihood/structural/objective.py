"""The criterion of a whole structural model: all groups, as a function of its free parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.information import (
    Directions,
    cluster_scores,
    expected_information,
)
from multilevel.likelihood.structural.moments import Implied, LevelMap, level_map
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.likelihood.structural.two_level import Moments, gradient, minus2_loglik
from multilevel.model.structural.records import Level, StructuralModel

Array = NDArray[np.float64]
Numbers = NDArray[Any]
_STEP = 1e-30  # of the complex step: its error is of the order of its square


@dataclass(frozen=True)
class ExogenousMoments:
    """Means and covariances of the fixed predictors of one level of one group.

    ``values`` by ``(lhs, op, rhs)``; ``minus2_loglik`` of these predictors alone, which is taken
    off the criterion so that it is conditional on them.
    """

    values: dict[tuple[str, str, str], float]
    minus2_loglik: float


def exogenous_moments(names: Sequence[str], values: Array) -> ExogenousMoments:
    """Maximum-likelihood moments of complete predictors, (n, k) with k ``names``."""
    n, k = values.shape
    if k == 0 or n == 0:
        return ExogenousMoments({}, 0.0)
    mean = values.mean(axis=0)
    cov = (values - mean).T @ (values - mean) / n
    out: dict[tuple[str, str, str], float] = {}
    for a in range(k):
        out[names[a], "~1", ""] = float(mean[a])
        for b in range(k):
            out[names[a], "~~", names[b]] = float(cov[a, b])
    log_det = float(np.linalg.slogdet(cov)[1])
    return ExogenousMoments(out, n * (log_det + k + k * float(np.log(2.0 * np.pi))))


class StructuralObjective:
    """Value, gradient, information and scores of one model on its data; holds no iterate.

    Parameters
    ----------
    model : the model.
    groups : statistics of each group.
    exogenous : ``{level: ExogenousMoments}`` of each group.
    """

    def __init__(
        self,
        model: StructuralModel,
        groups: Sequence[GroupStatistics],
        exogenous: Sequence[dict[Level, ExogenousMoments]],
    ) -> None:
        self.model, self.groups, self.exogenous = model, tuple(groups), tuple(exogenous)
        self.maps: tuple[dict[Level, LevelMap], ...] = tuple(
            {level: level_map(model, level, g, own[level].values) for level in model.levels}
            for g, own in enumerate(exogenous)
        )
        self.offset = sum(part.minus2_loglik for own in exogenous for part in own.values())
        self.n_evaluations = 0

    def implied(self, theta: Numbers, group: int) -> dict[Level, Implied]:
        """All levels of a group at ``theta``."""
        return {level: own.implied(theta) for level, own in self.maps[group].items()}

    def value(self, theta: Array) -> float:
        """-2 log-likelihood, given the fixed predictors.

        Raises
        ------
        LikelihoodError : parameters at which the likelihood does not exist.
        """
        self.n_evaluations += 1
        total = -self.offset
        for g, data in enumerate(self.groups):
            total += minus2_loglik(data, moments_of(self.implied(theta, g)))
        return float(total)

    def gradient(self, theta: Numbers) -> Numbers:
        """(q,) gradient of ``value``; complex for a complex ``theta``."""
        out = np.zeros(self.model.n_free, dtype=theta.dtype)
        for g, data in enumerate(self.groups):
            at = self.implied(theta, g)
            slope = gradient(data, moments_of(at))
            own = self.maps[g]
            out += own["within"].pullback(at["within"], slope.mean_within, slope.cov_within)
            out += own["between"].pullback(at["between"], slope.mean_between, slope.cov_between)
        return out

    def hessian(self, theta: Array) -> Array:
        """(q, q) Hessian of ``value``, exact: the complex step of the gradient."""
        q = self.model.n_free
        out = np.zeros((q, q))
        for a in range(q):
            moved = theta.astype(np.complex128)
            moved[a] += 1j * _STEP
            out[a] = self.gradient(moved).imag / _STEP
        return np.asarray(0.5 * (out + out.T))

    def directions(self, theta: Array, group: int) -> tuple[Moments, Directions]:
        """Moments of a group and their derivatives in all parameters."""
        at = self.implied(theta, group)
        within = self.maps[group]["within"].directions(at["within"])
        between = self.maps[group]["between"].directions(at["between"])
        return moments_of(at), Directions(*within, *between)

    def information(self, theta: Array) -> Array:
        """(q, q) expected information of the log-likelihood."""
        out = np.zeros((self.model.n_free, self.model.n_free))
        for g, data in enumerate(self.groups):
            out += expected_information(data, *self.directions(theta, g))
        return out

    def expected_information(self, theta: Array) -> Array:
        """(q, q) expected information for standard errors and score tests."""
        return self.information(theta)

    def scores(self, theta: Array) -> Array:
        """(clusters of all groups, q) derivative of each cluster's log-likelihood."""
        parts = [
            cluster_scores(data, *self.directions(theta, g)) for g, data in enumerate(self.groups)
        ]
        return np.concatenate(parts)


def moments_of(at: dict[Level, Implied]) -> Moments:
    """The observed moments of both levels."""
    within, between = at["within"], at["between"]
    return Moments(within.mean, within.cov, between.mean, between.cov)
