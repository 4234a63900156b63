"""Minus twice the log-likelihood with random slopes of observed variables, and its gradient.

Row i of cluster j: ``v_ij = mu_W + Q_ij u_j + e_ij``, ``e ~ N(0, Sigma_W)``, where ``u_j`` holds
the between parts b_j and the random slopes s_j, and ``Q_ij = N * x_ij`` columnwise: the columns of
N are unit vectors for b (times 1) and, for slope k of ``y_k`` on ``x_k``, the total effect on every
variable of one unit of y_k (times the observed x_ijk). A predictor may itself be an outcome: as
long as no loop runs through a slope, ``v -> v - Q(v) u`` has a Jacobian of 1, so that the density
of the data given u is that of e (Rockwood 2020, Psychometrika 85:275; Bauer, Preacher & Gil 2006,
Psychol. Methods 11:142, for mediation as one stacked mixed model). Then, as in ``two_level``,

    A_j = sum_i Q'W Q,  p_j = sum_i Q'W (v - mu - Q E(u)),  u_j | z_j ~ N(E(u) + delta_j, S).

Derivatives are those of the expected complete-data criterion (Fisher's identity; Louis 1982): with
t the posterior mean of ``u - E(u)`` and K its posterior covariance. Sums of (1, x) and v over the
rows of each cluster and pattern are all that is needed. Real or complex moments alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.likelihood.structural.two_level import Moments, masked_inverse

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class SlopeStatistics:
    """Sums of one group for a model with k random slopes.

    Attributes
    ----------
    base : the sums without slopes; its ``n_both`` counts the variables on both levels only.
    xx : (pairs, 1 + k, 1 + k) sums of (1, x)(1, x)' by pattern and cluster, x as observed.
    vx : (pairs, p, 1 + k) sums of v (1, x)', v less its centre.
    """

    base: GroupStatistics
    xx: Array
    vx: Array

    @property
    def n_slopes(self) -> int:
        """k."""
        return int(self.xx.shape[1]) - 1

    @property
    def n_random(self) -> int:
        """d, between parts and slopes."""
        return self.base.n_both + self.n_slopes

    @cached_property
    def place(self) -> Codes:
        """(d,) which of (1, x) multiplies each column of N."""
        b = self.base.n_both
        places = np.r_[np.zeros(b), 1 + np.arange(self.n_slopes)]
        return np.asarray(places, dtype=np.intp)

    @cached_property
    def xx_random(self) -> Array:
        """(pairs, d, d) ``xx`` at the columns of N."""
        return np.ascontiguousarray(self.xx[:, self.place][:, :, self.place])


@dataclass(frozen=True)
class SlopeMoments:
    """Implied moments of one group: those of ``Moments``, and ``N`` (p, d) of the module.

    ``mean_between`` and ``cov_between`` are ordered: between parts, slopes, level-2 variables.
    """

    at: Moments
    N: Numbers


@dataclass(frozen=True)
class SlopeGradient:
    """Derivatives of -2 log-likelihood by unit: (n, p), (n, p, p), (n, p, k), (m, P), (m, P, P).

    ``carry`` is the derivative in the last k columns of N. The first three have one entry per
    pattern or per pair, the last two one entry in all or per cluster.
    """

    mean_within: Numbers
    cov_within: Numbers
    carry: Numbers
    mean_between: Numbers
    cov_between: Numbers


def slope_statistics(data: GroupStatistics, predictors: Codes) -> SlopeStatistics:
    """Add the sums that random slopes need.

    Parameters
    ----------
    data : sums of the group.
    predictors : (k,) column of the predictor of each slope among the level-1 variables. Where one
        is missing, all that depends on it must be missing too.
    """
    seen = data.seen[data.row_pattern]
    x = (data.rows + data.centre_y * seen)[:, predictors]
    full = np.column_stack([np.ones(len(x)), x])
    order = np.lexsort((data.row_cluster, data.row_pattern))
    n_pairs = len(data.pair_n)
    first = np.r_[0, np.cumsum(data.pair_n)[:-1]].astype(np.intp) if n_pairs else np.zeros(0, int)
    full, rows = full[order], data.rows[order]
    xx = np.add.reduceat(full[:, :, None] * full[:, None, :], first, axis=0)
    vx = np.add.reduceat(rows[:, :, None] * full[:, None, :], first, axis=0)
    return SlopeStatistics(data, xx, vx)


@dataclass(frozen=True)
class UnitState:
    """One point: inverses and posterior moments of the units of one level (see the module)."""

    Z: Numbers
    B: Numbers
    A: Numbers
    R: Numbers
    K: Numbers
    dz: Numbers
    delta: Numbers
    p: Numbers
    r: Numbers
    t: Numbers
    log_det: Any


@dataclass(frozen=True)
class SlopeState(UnitState):
    """As ``UnitState``, with what the rows add: inverses by pattern and residual sums by pair."""

    W: Numbers
    rx: Numbers


def check_positive(A: Array, S: Array) -> None:
    """Refuse an indefinite S for which a cluster's covariance is not positive definite."""
    if S.size == 0 or float(np.linalg.eigvalsh(S).min()) >= 0.0:
        return
    values, vectors = np.linalg.eigh(A)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    inner = np.eye(A.shape[1]) + np.swapaxes(root, 1, 2) @ S @ root
    if float(np.linalg.eigvalsh(inner).min()) <= 1e-10:
        raise LikelihoodError(
            "The covariance matrix of every cluster must be positive definite.",
            "a covariance matrix of intercepts and slopes that is too negative",
            "give start values nearer to the data",
        )


def slope_state(stats: SlopeStatistics, point: SlopeMoments) -> SlopeState:
    """Factorise one point.

    Raises
    ------
    LikelihoodError : real moments at which the likelihood does not exist.
    """
    data, at, N = stats.base, point.at, point.N
    d, place = stats.n_random, stats.place
    W, log_w = masked_inverse(at.cov_within, data.seen, "within-level")
    Z, log_z = masked_inverse(at.cov_between[d:, d:], data.seen_z, "level-2 variables'")
    cross = at.cov_between[:d, d:] * data.seen_z[:, None, :]
    B = cross @ Z
    S = (at.cov_between[:d, :d] - B @ np.swapaxes(cross, 1, 2))[data.z_pattern]
    NW = np.swapaxes(N, 0, 1) @ W  # (m, d, p)
    pattern = data.pair_pattern
    A = _by_cluster(data, (NW @ N)[pattern] * stats.xx_random)
    is_real = not (np.iscomplexobj(S) or np.iscomplexobj(A))
    if is_real:
        check_positive(A, S)
    core = np.eye(d) + A @ S
    R = np.linalg.inv(core)
    log_det: Any = 0.0
    if is_real:
        n_z = np.bincount(data.z_pattern, minlength=len(data.seen_z))
        log_det = data.pattern_n @ log_w + n_z @ log_z + np.sum(np.linalg.slogdet(core)[1])
    mean = _mean_by_place(stats, point)
    rx = stats.vx - mean @ stats.xx
    p = _by_cluster(data, np.einsum("uda,uad->ud", NW[pattern], rx[:, :, place]))
    dz = data.z - (at.mean_between[d:] - data.centre_z) * data.seen_z[data.z_pattern]
    delta = np.einsum("jdz,jz->jd", B[data.z_pattern], dz)
    r = p - np.einsum("jab,jb->ja", A, delta)
    K = S @ R
    t = delta + np.einsum("jab,jb->ja", K, r)
    return SlopeState(Z, B, A, R, K, dz, delta, p, r, t, log_det, W, rx)


def _by_cluster(data: GroupStatistics, values: Numbers) -> Numbers:
    """Sum over the pairs of each cluster: (pairs, ...) to (J, ...)."""
    flat = data.to_cluster @ values.reshape(len(values), -1)
    return np.asarray(flat).reshape(data.n_clusters, *values.shape[1:])


def _mean_by_place(stats: SlopeStatistics, point: SlopeMoments) -> Numbers:
    """(p, 1 + k) what multiplies (1, x) in the mean of v."""
    at, N = point.at, point.N
    out = np.zeros((len(at.mean_within), 1 + stats.n_slopes), np.result_type(N, at.mean_between))
    out[:, 0] = at.mean_within - stats.base.centre_y
    for r in range(stats.n_random):
        out[:, stats.place[r]] += N[:, r] * at.mean_between[r]
    return out


def _cross(stats: SlopeStatistics, point: SlopeMoments) -> Numbers:
    """(m, p, p) sums of residuals from the mean, by pattern."""
    data = stats.base
    mean = _mean_by_place(stats, point)
    start = data.pair_start[:-1]
    vx, xx = np.add.reduceat(stats.vx, start), np.add.reduceat(stats.xx, start)
    half = vx @ mean.T
    return np.asarray(data.pattern_cross - half - np.swapaxes(half, 1, 2) + mean @ xx @ mean.T)


def slope_minus2_loglik(stats: SlopeStatistics, point: SlopeMoments) -> float:
    """-2 log-likelihood of one group, constants included.

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    return minus2_of_state(stats, point, slope_state(stats, point))


def minus2_of_state(stats: SlopeStatistics, point: SlopeMoments, s: SlopeState) -> float:
    """As ``slope_minus2_loglik``, at a point that is factorised already."""
    data = stats.base
    quadratic = np.sum(s.W * _cross(stats, point))
    quadratic -= np.sum(s.delta * (s.p + s.r)) + np.sum(s.r * (s.t - s.delta))
    quadratic += np.einsum("ja,jab,jb->", s.dz, s.Z[data.z_pattern], s.dz)
    return float(s.log_det + quadratic + data.n_values * np.log(2.0 * np.pi))


def within_part(
    stats: SlopeStatistics, point: SlopeMoments, s: SlopeState, is_summed: bool
) -> tuple[Numbers, Numbers, Numbers]:
    """Derivatives in mu_W, Sigma_W and the slope columns of N, by pattern or by pair.

    Only ``rx``, ``W``, the posterior mean ``t`` and the posterior covariance ``K`` of ``s`` enter.
    """
    data, N, b = stats.base, point.N, stats.base.n_both
    t = s.t[data.pair_cluster]
    H = (s.K[data.pair_cluster] + t[:, :, None] * t[:, None, :]) * stats.xx_random
    Y = s.rx[:, :, stats.place] * t[:, None, :]
    total = s.rx[:, :, 0] - (t * stats.xx[:, 0][:, stats.place]) @ N.T
    # sums of x times (residual from the posterior mean), for the slopes' columns
    tilted = s.rx[:, :, 1:] - N @ (t[:, :, None] * stats.xx_random[:, :, b:])
    if is_summed:
        start = data.pair_start[:-1]
        H, Y, total, tilted = (np.add.reduceat(a, start) for a in (H, Y, total, tilted))
        W, n, cross = s.W, data.pattern_n, _cross(stats, point)
    else:
        W, n = s.W[data.pair_pattern], data.pair_n
        cross = _pair_cross(stats, point)
    half = Y @ N.T
    middle = cross - half - np.swapaxes(half, 1, 2) + N @ H @ N.T
    cov = n[:, None, None] * W - W @ middle @ W
    mean = -2.0 * np.einsum("uab,ub->ua", W, total)
    mean_slope = point.at.mean_between[b : stats.n_random]
    carry = -2.0 * W @ ((Y - N @ H)[:, :, b:] + tilted * mean_slope)
    return mean, cov, carry


def _pair_cross(stats: SlopeStatistics, point: SlopeMoments) -> Numbers:
    """(pairs, p, p) sums of residuals from the mean."""
    data = stats.base
    order = np.lexsort((data.row_cluster, data.row_pattern))
    first = np.r_[0, np.cumsum(data.pair_n)[:-1]].astype(np.intp)
    rows = data.rows[order]
    raw = np.add.reduceat(rows[:, :, None] * rows[:, None, :], first, axis=0)
    mean = _mean_by_place(stats, point)
    half = stats.vx @ mean.T
    return np.asarray(raw - half - np.swapaxes(half, 1, 2) + mean @ stats.xx @ mean.T)


def unit_scores(s: UnitState, z_pattern: Codes) -> tuple[Numbers, Numbers, Numbers]:
    """``H = [I; -B']`` (J, P, d), ``q = L'V^-1 (data - mean)`` (J, P), ``Q = L'V^-1 L`` (J, P, P).

    L holds the loadings of the data of a unit on its vector, V their covariance.
    """
    d = s.R.shape[1]
    B, Z = s.B[z_pattern], s.Z[z_pattern]
    eye = np.broadcast_to(np.eye(d), (len(B), d, d))
    H = np.concatenate([eye, -np.swapaxes(B, 1, 2)], axis=1)
    Q = H @ (s.R @ s.A) @ np.swapaxes(H, 1, 2)
    Q[:, d:, d:] += Z
    q: Numbers = np.einsum("jab,jb->ja", H, np.einsum("jab,jb->ja", s.R, s.r))
    q[:, d:] += np.einsum("jab,jb->ja", Z, s.dz)
    return H, q, Q


def slope_gradient(
    stats: SlopeStatistics, point: SlopeMoments, *, by_cluster: bool = False
) -> SlopeGradient:
    """Gradient of -2 log-likelihood in the moments and in N.

    Parameters
    ----------
    by_cluster : keep clusters apart: the within parts by pair (pattern and cluster), the between
        parts by cluster.

    Raises
    ------
    LikelihoodError : real moments at which the likelihood does not exist.
    """
    s = slope_state(stats, point)
    mean_w, cov_w, carry = within_part(stats, point, s, not by_cluster)
    _, q, Q = unit_scores(s, stats.base.z_pattern)
    if by_cluster:
        return SlopeGradient(mean_w, cov_w, carry, -2.0 * q, Q - q[:, :, None] * q[:, None, :])
    mean_b, cov_b = -2.0 * q.sum(axis=0)[None], (Q.sum(axis=0) - q.T @ q)[None]
    return SlopeGradient(mean_w, cov_w, carry, mean_b, cov_b)
