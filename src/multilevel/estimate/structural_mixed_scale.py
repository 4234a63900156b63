"""Coordinates of the search for mixed structural models: logarithms of variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.likelihood.structural.mixed_objective import MixedObjective
from multilevel.model.structural.mixed import MixedModel

Array = NDArray[np.float64]
_LARGEST = 50.0
_FALL = 8.0  # e-folds of a variance between clusters, below which another search takes over
_NEAR = 2.0


def log_variances(model: MixedModel, theta: Array) -> NDArray[np.bool_]:
    """(q,) parameters that are variances wherever they stand in the table, and positive."""
    out = np.zeros(len(theta), dtype=np.bool_)
    for p in model.parameters:
        if p.is_free and p.is_variance and theta[p.free] > 0.0:
            out[p.free] = True
    for p in model.parameters:
        if p.is_free and not p.is_variance:
            out[p.free] = False
    return out


class LogVariances:
    """The criterion in logarithms of the variances, so that the search cannot leave their range.

    A parameter is a logarithm if all its places in the table are variances and it starts above 0.
    """

    def __init__(self, objective: MixedObjective, start: Array) -> None:
        self.objective, self.problem, self.points = objective, objective.problem, objective.points
        model = objective.layout.design.model
        self.is_log = log_variances(model, start)
        self._may_vanish = np.zeros(len(start), dtype=np.bool_)
        for p, home in zip(model.parameters, model.homes, strict=True):
            if p.is_free and home != "within":
                self._may_vanish[p.free] = self.is_log[p.free]
        self._floor, self._depth = self.coordinates(start) - _FALL, -np.inf

    @property
    def n_evaluations(self) -> int:
        """Evaluations so far."""
        return self.objective.n_evaluations

    def coordinates(self, theta: Array) -> Array:
        """Parameters to coordinates of the search, (q,)."""
        return np.where(self.is_log, np.log(np.where(self.is_log, theta, 1.0)), theta)

    def parameters(self, w: Array) -> Array:
        """Coordinates to parameters, (q,)."""
        return np.where(self.is_log, np.exp(np.where(self.is_log, w, 0.0)), w)

    def slopes(self, theta: Array) -> Array:
        """(q,) derivatives of the parameters in the coordinates."""
        return np.where(self.is_log, theta, 1.0)

    def value(self, w: Array) -> float:
        """The criterion; sets the point.

        Raises
        ------
        LikelihoodError : variances that overflow; parameters at which the model does not exist.
        EstimationError : a variance between clusters on its way to zero.
        """
        if np.any(np.abs(w[self.is_log]) > _LARGEST):
            raise LikelihoodError(
                "Variances are numbers of moderate size.",
                "one that overflows or vanishes",
                "take a shorter step",
            )
        depth = float(np.max((self._floor - w)[self._may_vanish], initial=-np.inf))
        if depth > 0.0 and self._depth > -_NEAR:
            raise EstimationError(
                "Variances of random effects are positive.",
                "one that falls towards zero",
                "take the variable out of the level at which it does not vary",
            )
        if depth > 0.0:
            raise LikelihoodError("Steps are of moderate length.", "one that takes a variance to "
                                  "zero", "take a shorter step")  # fmt: skip
        self._depth = depth
        return self.objective.value(self.parameters(w))

    def gradient(self) -> Array:
        """(q,) at the point last set."""
        return self.objective.gradient() * self.slopes(self.objective.theta)

    def cluster_scores(self) -> Array | None:
        """(J, q) at the point last set; None where clusters are crossed."""
        found = self.objective.cluster_scores()
        return None if found is None else found * self.slopes(self.objective.theta)

    def back(self, theta: Array, gradient: Array, curvature: Array) -> tuple[Array, Array]:
        """Gradient and Hessian in the coordinates to those in the parameters."""
        slopes = self.slopes(theta)
        inner = curvature - np.diag(np.where(self.is_log, gradient, 0.0))
        return gradient / slopes, inner / np.outer(slopes, slopes)
