"""Posterior moments of what is not observed, given all data of the cluster.

Between clusters: all variables v of the level (between parts, random slopes, level-2 variables,
latent variables) are jointly normal with covariance C. With the pieces of ``two_level`` (A, p,
``R = (I + A S)^-1``, ``r = p - A delta``; subscript u for the d variables that rows depend on):

    E(v | data) = E(v | z) + S_vu R r,    Var(v | data) = S_vv - S_vu R A S_uv,

where S is C given the observed level-2 values: no inverse of S or of a residual variance is taken,
so that these may be zero. Within: given u_j, the deviations of row i are normal, so that with
``F = C_v,o Sigma_oo^-1``, ``q_i`` the effect of u_j on v_i, ``Q_i`` that on the observed variables,

    E(v_i | data) = m + q_i E(u_j) + F (y_i - mu - Q_i E(u_j)),
    Var(v_i | data) = C_vv - F C_ov + (q_i - F Q_i) Var(u_j) (q_i - F Q_i)'.

Levels above the second: ``nested_posterior``.

These are conditional normal moments (Anderson 2003, section 2.5.1), by the matrix inversion lemma;
missing values are left out by pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.moments import Implied, LevelMap
from multilevel.likelihood.structural.objective import StructuralObjective, moments_of
from multilevel.likelihood.structural.slope_objective import SlopeObjective
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.likelihood.structural.two_level import inverses, residuals
from multilevel.model.structural.records import Level

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pieces:
    """By cluster: E(u | data) (J, d), Var(u | data) (J, d, d), and R r (J, d), R A (J, d, d).

    ``dz`` (J, p_z) level-2 deviations, ``Z`` (m_z, p_z, p_z) inverse covariance by pattern.
    """

    mean: Array
    cov: Array
    Rr: Array
    RA: Array
    dz: Array
    Z: Array


@dataclass(frozen=True)
class Posterior:
    """Posterior mean (n, k) and covariance (n, k, k) of k variables in n units."""

    mean: Array
    cov: Array


@dataclass(frozen=True)
class OwnValues:
    """(n,) pattern, (m, p) what is seen by pattern, (n, p) values, and the place of the first."""

    pattern: NDArray[np.intp]
    seen: Array
    values: Array
    first: int


class GroupPosterior:
    """Posterior moments of one group at one point.

    Parameters
    ----------
    objective : the model on its data.
    theta : (q,) parameters.
    group : number of the group.

    Raises
    ------
    LikelihoodError : parameters at which the likelihood does not exist.
    """

    def __init__(self, objective: StructuralObjective, theta: Array, group: int) -> None:
        self.data: GroupStatistics = objective.groups[group]
        self.maps: dict[Level, LevelMap] = objective.maps[group]
        self.at: dict[Level, Implied] = objective.implied(theta, group)
        self._effects, self._x = rows_depend_on(objective, self.at, group)
        self._pieces, self._W = _pieces(objective, self.at, group)

    @property
    def n_random(self) -> int:
        """d, the number of between-level variables that rows depend on."""
        return int(self._pieces.mean.shape[1])

    def of_level(self, level: Level, chosen: NDArray[np.intp]) -> Posterior:
        """Given all data: variables ``chosen`` of a level's map, for all its units."""
        return self.within(chosen) if level == "within" else self.between(chosen)

    def own_values(self, level: Level) -> OwnValues:
        """Values of the variables that a level does not share with others."""
        data = self.data
        if level == "within":
            return OwnValues(data.row_pattern, data.seen, data.rows + data.centre_y, 0)
        return OwnValues(data.z_pattern, data.seen_z, data.z + data.centre_z, self.n_random)

    def between(self, chosen: NDArray[np.intp]) -> Posterior:
        """Given all data, (J, k): variables ``chosen`` of the between level's map."""
        d, at, pieces, data = self.n_random, self.at["between"], self._pieces, self.data
        C = at.full_cov
        cross = C[:, d : d + data.z.shape[1]] * data.seen_z[:, None, :]
        B = cross @ pieces.Z
        S = (C - B @ np.swapaxes(cross, 1, 2))[data.z_pattern]
        to_random = S[:, chosen][:, :, :d]
        mean = at.full_mean[chosen] + np.einsum(
            "jvz,jz->jv", B[data.z_pattern][:, chosen], pieces.dz
        )
        mean = mean + np.einsum("jvd,jd->jv", to_random, pieces.Rr)
        cov = S[:, chosen][:, :, chosen] - to_random @ pieces.RA @ np.swapaxes(to_random, 1, 2)
        return Posterior(mean, cov)

    def within(self, chosen: NDArray[np.intp]) -> Posterior:
        """Given all data of the cluster, (n, k): variables ``chosen`` of the within level's map."""
        data, at, u = self.data, self.at["within"], self._pieces
        p = len(at.mean)
        C, k = at.full_cov[chosen], len(chosen)
        mean = np.zeros((len(data.rows), k))
        cov = np.zeros((len(data.rows), k, k))
        for m in range(data.n_patterns):
            mine = np.flatnonzero(data.row_pattern == m)
            F = C[:, :p] @ self._W[m]
            left = C[:, chosen] - F @ C[:, :p].T
            cluster = data.row_cluster[mine]
            lift = u.mean[cluster] * self._x[mine]
            deviation = data.rows[mine] + data.centre_y - at.mean - lift @ self._effects[:p].T
            mean[mine] = at.full_mean[chosen] + lift @ self._effects[chosen].T + deviation @ F.T
            M = (self._effects[chosen] - F @ self._effects[:p]) * self._x[mine][:, None, :]
            cov[mine] = left + M @ u.cov[cluster] @ np.swapaxes(M, 1, 2)
        return Posterior(mean, cov)


def rows_depend_on(
    objective: StructuralObjective, at: dict[Level, Implied], group: int
) -> tuple[Array, Array]:
    """Effect of u on all within variables (v, d), to be multiplied by (n, d) values of the row."""
    T, data = at["within"].T, objective.groups[group]
    b = data.n_both
    unit = np.zeros((len(T), b))
    unit[np.arange(b), np.arange(b)] = 1.0
    ones = np.ones((len(data.rows), b))
    if not isinstance(objective, SlopeObjective):
        return unit, ones
    names = objective.maps[group]["within"].names
    outcomes = [names.index(s.outcome) for s in objective.model.random_slopes]
    predictors = [names.index(s.predictor) for s in objective.model.random_slopes]
    x = data.rows[:, predictors] + data.centre_y[predictors]
    return np.column_stack([unit, T[:, outcomes]]), np.column_stack([ones, x])


def _pieces(
    objective: StructuralObjective, at: dict[Level, Implied], group: int
) -> tuple[Pieces, Array]:
    """Pieces of the between level, and inverses by pattern of the within level (m, p, p)."""
    mean = at["between"].mean
    if isinstance(objective, SlopeObjective):
        s = objective.state(at, group)
        d = s.t.shape[1]
        Rr = np.einsum("jab,jb->ja", s.R, s.r)
        return Pieces(mean[:d] + s.t, s.K, Rr, s.R @ s.A, s.dz, s.Z), s.W
    data = objective.groups[group]
    moments = moments_of(at)
    inv = inverses(data, moments)
    res = residuals(data, moments, inv)
    kind = data.cluster_kind
    Rr = np.einsum("jab,jb->ja", inv.R[kind], res.r)
    pieces = Pieces(mean[: data.n_both] + res.t, inv.K[kind], Rr, inv.G[kind], res.dz, inv.Z)
    return pieces, inv.W
