"""Random effects given the data: predictions (EBLUPs) and their conditional covariances.

``b = Psi Z'V^-1(y - X beta)``; ``Var(b | y) = sigma2 (Psi - Psi G Psi)`` with beta known
("comparative"), plus ``sigma2 Psi H_X T_XX^-1 H_X' Psi`` for the estimation of beta.
Sources: Henderson 1975; Robinson 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.related.engine import RelatedEngine

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlockEffects:
    """Random effects of one grouping factor on the user's scale.

    Attributes
    ----------
    group : label of the factor.
    estimates : (J, q) EBLUPs.
    """

    group: str
    estimates: Array
    _objective: GaussianObjective
    _block: int
    _scale: Array

    def covariance(self, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance given beta (J', q, q); lme4's ``condVar``."""
        Psi, sigma2 = self._pieces()
        G = self._select(self._objective.engine.information_blocks(self._block), levels)
        inside = sigma2 * (Psi - Psi @ G @ Psi)
        return self._scale @ inside @ self._scale.T

    def prediction_covariance(self, levels: Sequence[int] | None = None) -> Array:
        """Covariance of ``b_hat - b`` with beta estimated (J', q, q)."""
        Psi, sigma2 = self._pieces()
        p, profile = self._objective.p, self._objective.profile
        known = self.covariance(levels)
        if p == 0 or profile is None:
            return known
        H = self._select(self._objective.engine.cross(self._block)[:, :, :p], levels)
        Y = Psi @ (H @ np.linalg.solve(profile.R, np.eye(p)))
        extra = sigma2 * (Y @ Y.transpose(0, 2, 1))
        return known + self._scale @ extra @ self._scale.T

    def _pieces(self) -> tuple[Array, float]:
        L = self._objective.factors[self._block]
        profile = self._objective.profile
        return L @ L.T, 1.0 if profile is None else profile.sigma2

    @staticmethod
    def _select(values: Array, levels: Sequence[int] | None) -> Array:
        return values if levels is None else values[np.asarray(levels, dtype=np.intp)]


@dataclass(frozen=True)
class RelatedEffects(BlockEffects):
    """Random effects whose levels share rows or are correlated; estimates and covariances in b."""

    def covariance(self, levels: Sequence[int] | None = None) -> Array:
        """Conditional covariance given beta (J', q, q)."""
        engine, sigma2 = _related_engine(self._objective), self._pieces()[1]
        inside = sigma2 * self._select(engine.posterior_blocks(self._block), levels)
        return np.asarray(self._scale @ inside @ self._scale.T)

    def prediction_covariance(self, levels: Sequence[int] | None = None) -> Array:
        """Covariance of ``b_hat - b`` with beta estimated (J', q, q)."""
        known, p, profile = self.covariance(levels), self._objective.p, self._objective.profile
        if p == 0 or profile is None:
            return known
        engine = _related_engine(self._objective)
        H = self._select(engine.solution(self._block)[:, :, :p], levels)
        Y = H @ np.linalg.solve(profile.R, np.eye(p))
        extra = profile.sigma2 * (Y @ Y.transpose(0, 2, 1))
        return np.asarray(known + self._scale @ extra @ self._scale.T)


def _related_engine(objective: GaussianObjective) -> RelatedEngine:
    if not isinstance(objective.engine, RelatedEngine):
        raise EstimationError("Effects of related levels need their engine.", objective.engine.name,
                              "use random_effects(prepared, fit)")  # fmt: skip
    return objective.engine


def related_effects(
    group: str, objective: GaussianObjective, block: int, scale: Array
) -> RelatedEffects:
    """Effects of one block, from an objective that is set at the estimates."""
    profile = objective.profile
    beta = np.zeros(0) if profile is None else profile.beta
    scaled = _related_engine(objective).solution(block) @ np.append(-beta, 1.0)
    return RelatedEffects(group, scaled @ scale.T, objective, block, scale)


def evaluated(prepared: Prepared, fit: Fit) -> GaussianObjective:
    """The objective of a problem, factorised at a fit's parameters."""
    objective = prepared.objective()
    objective.set(fit.theta)
    return objective


def random_effects(prepared: Prepared, fit: Fit) -> tuple[BlockEffects, ...]:
    """Random effects of every grouping factor, in the order of the design's blocks."""
    objective = evaluated(prepared, fit)
    y_scale = prepared.scaling.y_scale
    out: list[BlockEffects] = []
    for t, (block, B) in enumerate(
        zip(prepared.design.blocks, prepared.scaling.random, strict=True)
    ):
        scale = y_scale * B
        if isinstance(objective.engine, RelatedEngine):
            out.append(related_effects(block.group, objective, t, scale))
            continue
        L = objective.factors[t]
        scaled = objective.residual_scores()[t] @ (L @ L.T)
        out.append(BlockEffects(block.group, scaled @ scale.T, objective, t, scale))
    return tuple(out)
