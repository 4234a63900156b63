"""Minus twice the log-likelihood of nested levels above the second, and its gradient.

Level by level the data are integrated to a Gaussian form. Let the units below a unit k of a level
have, at the total means, scores ``q_j = L'V^-1 (data - mean)`` and ``Q_j = L'V^-1 L`` (those of
``random_slopes.unit_scores``). The part ``w_k`` of k that is added to their vectors, by columns
``E``, then has

    A_k = sum_j E'Q_j E,  p_k = sum_j E'q_j,  w_k | z_k ~ N(delta_k, S),

so that k adds ``-2 delta'p + delta'A delta - r'K r + log|I + A S|`` and the density of its own
variables z_k, exactly as a cluster of rows does, and hands on its own q_k and Q_k. One evaluation
costs a number of small matrices that grows with the units, not with their squares.

Derivatives are those of the expected complete-data criterion (Fisher's identity; Louis 1982): from
the top down each unit gets the posterior mean s and covariance M of what the levels above add to
its vector; its own posterior moments are then ``t + G s`` and ``K + G M G'`` with
``G = (I - K A) H'``. Real or complex moments alike. Source of the idea: elimination of nested
random effects from the finest level upwards (Bates, Maechler, Bolker & Walker 2015, J. Stat.
Softw. 67:1), here for vectors of variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.random_slopes import (
    SlopeMoments,
    SlopeState,
    SlopeStatistics,
    UnitState,
    check_positive,
    minus2_of_state,
    slope_state,
    unit_scores,
    within_part,
)
from multilevel.likelihood.structural.statistics import observed_means, value_patterns
from multilevel.likelihood.structural.two_level import Moments, masked_inverse

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class UpperStatistics:
    """Units of one level above the second.

    Attributes
    ----------
    unit : (J,) unit of each unit one level below.
    lift : (b,) which entry of the vector below each of the first b variables of this level is
        added to.
    seen_z, z_pattern, z, centre_z : (m_z, p_z), (K,), (K, p_z), (p_z,) variables of this level
        only, as in ``GroupStatistics``.
    n_values : observed values among them.
    """

    unit: Codes
    lift: Codes
    seen_z: Array
    z_pattern: Codes
    z: Array
    centre_z: Array
    n_values: int

    @property
    def n_units(self) -> int:
        """K."""
        return len(self.z)

    def total(self, values: Numbers) -> Numbers:
        """Sums over the units below, (J, ...) to (K, ...)."""
        out = np.zeros((self.n_units, *values.shape[1:]), dtype=values.dtype)
        np.add.at(out, self.unit, values)
        return out


@dataclass(frozen=True)
class NestedMoments:
    """Implied moments: rows and level 2 (with N), then (mean, covariance) of each level above."""

    lower: SlopeMoments
    upper: tuple[tuple[Numbers, Numbers], ...]


@dataclass(frozen=True)
class NestedGradient:
    """Derivatives of -2 log-likelihood, by unit or in all.

    ``mean_within``, ``cov_within``, ``carry`` as in ``SlopeGradient``; ``means`` and ``covs`` one
    entry per level from the second: (units or 1, P), (units or 1, P, P).
    """

    mean_within: Numbers
    cov_within: Numbers
    carry: Numbers
    means: tuple[Numbers, ...]
    covs: tuple[Numbers, ...]


def upper_statistics(unit: Codes, lift: Codes, z: Array) -> UpperStatistics:
    """Sum up one level.

    Parameters
    ----------
    unit : (J,) unit of each unit below, 0..K-1.
    lift : (b,) entries of the vector below.
    z : (K, p_z) variables of this level only, NaN where missing.
    """
    centre = observed_means(z)
    seen, pattern = value_patterns(z)
    n_values = int(np.sum(~np.isnan(z)))
    return UpperStatistics(unit, lift, seen, pattern, np.nan_to_num(z - centre), centre, n_values)


@dataclass(frozen=True)
class _Pass:
    """What the way up leaves: states of all levels, and the scores of their units."""

    lower: SlopeMoments
    first: SlopeState
    states: tuple[UnitState, ...]
    scores: tuple[tuple[Numbers, Numbers, Numbers], ...]


@dataclass(frozen=True)
class UnitPosterior:
    """Units of one level given all data.

    Attributes
    ----------
    state, H : of the level alone (see ``random_slopes.unit_scores``).
    added, added_cov : (J, P), (J, P, P) posterior moments of what the levels above add, beyond its
        mean, to the vector of each unit.
    t, C : (J, d), (J, d, d) posterior moments of what the unit adds to those below, that of the
        levels above included, less its mean.
    """

    state: UnitState
    H: Numbers
    added: Numbers
    added_cov: Numbers
    t: Numbers
    C: Numbers


def total_means(uppers: Sequence[UpperStatistics], point: NestedMoments) -> list[Numbers]:
    """Mean of the vector of each level, with what the levels above add."""
    means = [point.lower.at.mean_between, *(m for m, _ in point.upper)]
    for k in range(len(uppers) - 1, -1, -1):
        lift, above = uppers[k].lift, means[k + 1]
        own = means[k].astype(np.result_type(means[k], above))
        own[lift] += above[: len(lift)]
        means[k] = own
    return means


def _upper_state(
    data: UpperStatistics, mean: Numbers, cov: Numbers, A: Numbers, p: Numbers
) -> UnitState:
    d = len(data.lift)
    Z, log_z = masked_inverse(cov[d:, d:], data.seen_z, "higher-level variables'")
    cross = cov[:d, d:] * data.seen_z[:, None, :]
    B = cross @ Z
    S = (cov[:d, :d] - B @ np.swapaxes(cross, 1, 2))[data.z_pattern]
    is_real = not (np.iscomplexobj(S) or np.iscomplexobj(A))
    if is_real:
        check_positive(A, S)
    core = np.eye(d) + A @ S
    R = np.linalg.inv(core)
    log_det: Any = 0.0
    if is_real:
        n_z = np.bincount(data.z_pattern, minlength=len(data.seen_z))
        log_det = n_z @ log_z + np.sum(np.linalg.slogdet(core)[1])
    dz = data.z - (mean[d:] - data.centre_z) * data.seen_z[data.z_pattern]
    delta = np.einsum("jdz,jz->jd", B[data.z_pattern], dz)
    r = p - np.einsum("jab,jb->ja", A, delta)
    K = S @ R
    t = delta + np.einsum("jab,jb->ja", K, r)
    return UnitState(Z, B, A, R, K, dz, delta, p, r, t, log_det)


def _upwards(
    stats: SlopeStatistics, uppers: Sequence[UpperStatistics], point: NestedMoments
) -> _Pass:
    means = total_means(uppers, point)
    at = point.lower.at
    lower = SlopeMoments(
        Moments(at.mean_within, at.cov_within, means[0], at.cov_between), point.lower.N
    )
    first = slope_state(stats, lower)
    states: list[UnitState] = [first]
    scores = [unit_scores(first, stats.base.z_pattern)]
    for data, mean, (_, cov) in zip(uppers, means[1:], point.upper, strict=True):
        _, q, Q = scores[-1]
        A = data.total(Q[:, data.lift][:, :, data.lift])
        state = _upper_state(data, mean, cov, A, data.total(q[:, data.lift]))
        states.append(state)
        scores.append(unit_scores(state, data.z_pattern))
    return _Pass(lower, first, tuple(states), tuple(scores))


def nested_minus2_loglik(
    stats: SlopeStatistics, uppers: Sequence[UpperStatistics], point: NestedMoments
) -> float:
    """-2 log-likelihood of one group, constants included.

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    up = _upwards(stats, uppers, point)
    total = minus2_of_state(stats, up.lower, up.first)
    for data, s in zip(uppers, up.states[1:], strict=True):
        total += s.log_det + data.n_values * np.log(2.0 * np.pi)
        total -= np.sum(s.delta * (s.p + s.r)) + np.sum(s.r * (s.t - s.delta))
        total += np.einsum("ja,jab,jb->", s.dz, s.Z[data.z_pattern], s.dz)
    return float(total)


def nested_gradient(
    stats: SlopeStatistics,
    uppers: Sequence[UpperStatistics],
    point: NestedMoments,
    *,
    by_unit: bool = False,
) -> NestedGradient:
    """Gradient of -2 log-likelihood in the moments and in N.

    Parameters
    ----------
    by_unit : keep units apart: the within parts by pair (pattern and cluster), the others by unit
        of their level.

    Raises
    ------
    LikelihoodError : real moments at which the likelihood does not exist.
    """
    up = _upwards(stats, uppers, point)
    means: list[Numbers] = []
    covs: list[Numbers] = []
    below = _downwards(uppers, up)
    for (_, q, Q), unit in zip(up.scores, below, strict=True):
        q = q - np.einsum("jab,jb->ja", Q, unit.added)
        curve = Q - Q @ unit.added_cov @ Q
        if by_unit:
            means.append(-2.0 * q)
            covs.append(curve - q[:, :, None] * q[:, None, :])
        else:
            means.append(-2.0 * q.sum(axis=0)[None])
            covs.append((curve.sum(axis=0) - q.T @ q)[None])
    posterior = replace(up.first, t=below[0].t, K=below[0].C)
    within = within_part(stats, up.lower, posterior, not by_unit)
    return NestedGradient(*within, tuple(means), tuple(covs))


def unit_posteriors(
    stats: SlopeStatistics, uppers: Sequence[UpperStatistics], point: NestedMoments
) -> tuple[tuple[Numbers, ...], tuple[UnitPosterior, ...]]:
    """Total means (P,) and posterior moments of the units of each level, from the second.

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    up = _upwards(stats, uppers, point)
    return tuple(total_means(uppers, point)), tuple(_downwards(uppers, up))


def _downwards(uppers: Sequence[UpperStatistics], up: _Pass) -> list[UnitPosterior]:
    """From the top down, what each unit learns from the levels above."""
    top = up.scores[-1][1]
    s, M = np.zeros_like(top), np.zeros((*top.shape, top.shape[1]), dtype=top.dtype)
    out: list[UnitPosterior] = []
    for k in range(len(up.states) - 1, -1, -1):
        state, H = up.states[k], up.scores[k][0]
        G = (np.eye(state.R.shape[1]) - state.K @ state.A) @ np.swapaxes(H, 1, 2)
        t = state.t + np.einsum("jab,jb->ja", G, s)
        C = state.K + G @ M @ np.swapaxes(G, 1, 2)
        out.insert(0, UnitPosterior(state, H, s, M, t, C))
        if k:
            s, M = _handed_down(uppers[k - 1], t, C, up.scores[k - 1][1].shape[1])
    return out


def _handed_down(
    data: UpperStatistics, t: Numbers, C: Numbers, size: int
) -> tuple[Numbers, Numbers]:
    """Posterior mean (J, P) and covariance (J, P, P) of what is added to the vectors below."""
    n, lift = len(data.unit), data.lift
    s = np.zeros((n, size), dtype=t.dtype)
    s[:, lift] = t[data.unit]
    M = np.zeros((n, size, size), dtype=C.dtype)
    M[:, lift[:, None], lift[None, :]] = C[data.unit]
    return s, M
