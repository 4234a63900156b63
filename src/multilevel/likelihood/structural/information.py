"""Expected information and cluster scores of one group, in any directions of the moments.

``I_ab = tr(V^-1 V_a V^-1 V_b) / 2 + mu_a'V^-1 mu_b`` (Magnus & Neudecker 2019, section 15.3), with
V^-1 never formed: all traces come from the small matrices of ``two_level.Inverses``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.structural.statistics import GroupStatistics
from multilevel.likelihood.structural.two_level import (
    Inverses,
    Moments,
    between_blocks,
    between_scores,
    inverses,
    level1_mean,
    residuals,
)

Array = NDArray[np.float64]
_CHUNK = 2_000_000  # numbers held at once


@dataclass(frozen=True)
class Directions:
    """Derivatives of the moments in q parameters: (q, p), (q, p, p), (q, P), (q, P, P)."""

    mean_within: Array
    cov_within: Array
    mean_between: Array
    cov_between: Array


def expected_information(data: GroupStatistics, at: Moments, along: Directions) -> Array:
    """Expected information of the log-likelihood in the directions ``along``, (q, q).

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    inv = inverses(data, at)
    H, Q = between_blocks(data, inv)
    return _covariance_part(data, inv, H, Q, along) + _mean_part(data, inv, H, Q, along)


def _chunks(n: int, size: int) -> list[slice]:
    step = max(1, _CHUNK // max(size, 1))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _pair_traces(left: Array, right: Array) -> Array:
    """``sum_u tr(left[u, a] right[u, b])``, (q, q'), for (u, q, d, d) arrays."""
    q = left.shape[1]
    size = left.shape[0] * left.shape[2] * left.shape[3]
    one = np.ascontiguousarray(left.transpose(1, 0, 2, 3)).reshape(q, size)
    two = np.ascontiguousarray(right.transpose(1, 0, 3, 2)).reshape(right.shape[1], size)
    return np.asarray(one @ two.T)


def _covariance_part(
    data: GroupStatistics, inv: Inverses, H: Array, Q: Array, along: Directions
) -> Array:
    n, b = len(along.cov_within), data.n_both
    out = np.zeros((n, n))
    is_w = np.flatnonzero(np.any(along.cov_within != 0.0, axis=(1, 2)))
    is_b = np.flatnonzero(np.any(along.cov_between != 0.0, axis=(1, 2)))
    S, D = along.cov_within[is_w], along.cov_between[is_b]
    weighted = inv.W[:, None] @ S @ inv.W[:, None]  # (m, q_w, p, p)
    p = S.shape[1]
    spread = np.zeros((data.n_patterns, p, p))
    spread[:, :b, :b] = np.tensordot((data.kind_counts * data.kind_n[:, None]).T, inv.K, axes=1)
    factor = data.pattern_n[:, None, None] * np.eye(p) - 2.0 * inv.W @ spread
    ww = _pair_traces(factor[:, None] @ weighted, np.broadcast_to(S, weighted.shape))
    bb = np.zeros((len(is_b), len(is_b)))
    bridge = np.zeros((len(is_w), Q.shape[1], Q.shape[1]))
    inner = weighted[:, :, :b, :b].reshape(data.n_patterns, len(is_w) * b * b)
    for part in _chunks(len(data.kind_n), max(len(is_b), len(is_w)) * Q.shape[1] ** 2):
        weight = data.kind_n[part]
        X = Q[part][:, None] @ D
        bb += _pair_traces(X * weight[:, None, None, None], X)
        dA = (data.kind_counts[part] @ inner).reshape(len(weight), len(is_w), b, b)
        KA = inv.K[part][:, None] @ dA
        ww += _pair_traces(KA * weight[:, None, None, None], KA)
        HR = H[data.kind_z[part]] @ inv.R[part]
        mixed = HR[:, None] @ dA @ np.swapaxes(HR, 1, 2)[:, None]
        bridge += np.tensordot(weight, mixed, axes=1)
    wb = np.einsum("aij,bji->ab", bridge, D)
    out[np.ix_(is_w, is_w)] += 0.5 * ww
    out[np.ix_(is_b, is_b)] += 0.5 * bb
    out[np.ix_(is_w, is_b)] += 0.5 * wb
    out[np.ix_(is_b, is_w)] += 0.5 * wb.T
    return out


def _mean_part(
    data: GroupStatistics, inv: Inverses, H: Array, Q: Array, along: Directions
) -> Array:
    n, b = len(along.mean_within), data.n_both
    out = np.zeros((n, n))
    is_w = np.flatnonzero(np.any(along.mean_within != 0.0, axis=1))
    is_b = np.flatnonzero(np.any(along.mean_between != 0.0, axis=1))
    m_w, m_b = along.mean_within[is_w], along.mean_between[is_b]
    pulled = np.einsum("mij,aj->mai", inv.W, m_w)  # (m, q_w, p)
    ww = np.einsum("m,mai,bi->ab", data.pattern_n, pulled, m_w)
    bridge = np.zeros((len(is_w), Q.shape[1]))
    inner = np.ascontiguousarray(pulled[:, :, :b]).reshape(data.n_patterns, len(is_w) * b)
    for part in _chunks(len(data.kind_n), len(is_w) * Q.shape[1]):
        weight = data.kind_n[part]
        h = (data.kind_counts[part] @ inner).reshape(len(weight), len(is_w), b)
        Kh = np.einsum("uij,uaj->uai", inv.K[part], h)
        ww -= np.einsum("u,uai,ubi->ab", weight, h, Kh)
        HR = H[data.kind_z[part]] @ inv.R[part]
        bridge += np.einsum("u,uij,uaj->ai", weight, HR, h)
    wb = bridge @ m_b.T
    out[np.ix_(is_w, is_w)] += ww
    out[np.ix_(is_b, is_b)] += m_b @ np.tensordot(data.kind_n, Q, axes=1) @ m_b.T
    out[np.ix_(is_w, is_b)] += wb
    out[np.ix_(is_b, is_w)] += wb.T
    return out


def cluster_scores(data: GroupStatistics, at: Moments, along: Directions) -> Array:
    """Derivative of each cluster's log-likelihood in the directions ``along``, (J, q).

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    b = data.n_both
    inv = inverses(data, at)
    res = residuals(data, at, inv)
    H, Q = between_blocks(data, inv)
    q = between_scores(data, inv, res, H)
    D, S = along.cov_between, along.cov_within
    of_kind = np.einsum("uij,aji->ua", Q, D)
    weighted = inv.W[:, None] @ S @ inv.W[:, None]
    of_kind += data.kind_counts @ np.einsum("mij,aji->ma", inv.W, S)
    for part in _chunks(len(data.kind_n), len(S) * b * b):
        dA = np.tensordot(data.kind_counts[part], weighted[:, :, :b, :b], axes=1)
        of_kind[part] -= np.einsum("uij,uaji->ua", inv.K[part], dA)
    slope = of_kind[data.cluster_kind] - 2.0 * q @ along.mean_between.T
    slope -= np.stack([np.einsum("ji,ik,jk->j", q, D[a], q) for a in range(len(D))], axis=1)
    rows = data.rows - level1_mean(data, at) * data.seen[data.row_pattern]
    rows[:, :b] -= res.t[data.row_cluster]
    e = np.empty_like(rows)
    for k in range(data.n_patterns):
        mine = data.row_pattern == k
        e[mine] = rows[mine] @ inv.W[k]
    for a in range(len(S)):
        per_row = np.einsum("ni,ni->n", e @ S[a], e) + 2.0 * (e @ along.mean_within[a])
        slope[:, a] -= np.bincount(data.row_cluster, per_row, minlength=data.n_clusters)
    return np.asarray(-0.5 * slope)
