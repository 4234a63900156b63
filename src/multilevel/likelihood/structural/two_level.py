"""Minus twice the log-likelihood of one group as a function of its moments, and its gradient.

Given the observed level-2 values z_j, the between parts are ``b_j ~ N(delta_j, S)``. With
``W_P`` the inverse of the observed part of Sigma_W, filled up with zeros, each cluster has
``A_j = sum_P n_jP W_P[b, b]`` and ``p_j = sum_P (W_P sum_i (y_ij - mu))[b]``, and

    -2l_j = sum_i (log|Sigma_W,oo| + e_i'W e_i) - 2 delta'p + delta'A delta - r'K r + log|I + S A|
            + (log|Sigma_zz| + z'Sigma_zz^-1 z),    r = p - A delta,  K = (I + S A)^-1 S.

Nothing needs the inverse of S, so that S may be singular or indefinite. Everything is written for
real and for complex moments alike: the Hessian is the complex step of the gradient (Squire & Trapp
1998, SIAM Review 40:110). Sources: numerics of Rosseel 2021 (Psych 3:197) for the sums by pattern;
derivatives by the matrix inversion lemma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.structural.statistics import GroupStatistics

# Real at a point, complex in a complex step.
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Moments:
    """Model-implied moments of one group: (p,), (p, p), (P,), (P, P)."""

    mean_within: Numbers
    cov_within: Numbers
    mean_between: Numbers
    cov_between: Numbers


@dataclass(frozen=True)
class Inverses:
    """Inverses at one point, none of which sees a response.

    Attributes
    ----------
    W : (m, p, p) inverse of the observed part of Sigma_W, by pattern.
    B : (m_z, b, z) regression of between parts on level-2 values, by level-2 pattern.
    Z : (m_z, z, z) inverse of the observed part of Sigma_zz.
    S : (m_z, b, b) covariance of between parts given the level-2 values.
    A, R, K, G : (u, b, b) by kind of cluster: A; (I + A S)^-1; S R; R A.
    log_det : log determinants, summed over all clusters and rows.
    """

    W: Numbers
    B: Numbers
    Z: Numbers
    S: Numbers
    A: Numbers
    R: Numbers
    K: Numbers
    G: Numbers
    log_det: Any


@dataclass(frozen=True)
class Gradient:
    """Derivatives of -2 log-likelihood in the moments; symmetric matrices G with dF = tr(G dS)."""

    mean_within: Numbers
    cov_within: Numbers
    mean_between: Numbers
    cov_between: Numbers


def masked_inverse(matrix: Numbers, seen: Numbers, what: str) -> tuple[Numbers, Numbers]:
    """Inverse and log determinant of the observed part by pattern, (m, p, p) and (m,)."""
    outer = seen[:, :, None] * seen[:, None, :]
    filled = outer * matrix + (np.eye(seen.shape[1]) * (1.0 - seen)[:, :, None])
    if not np.iscomplexobj(matrix):
        try:
            roots = np.linalg.cholesky(filled)
        except np.linalg.LinAlgError as error:
            raise LikelihoodError(
                f"The {what} covariance matrix must be positive definite.",
                "an eigenvalue that is not positive",
                "give start values nearer to the data",
            ) from error
        log_det = 2.0 * np.sum(np.log(np.diagonal(roots, axis1=1, axis2=2)), axis=1)
    else:
        log_det = np.zeros(len(seen))  # the gradient, which alone is complex, does not need it
    return np.linalg.inv(filled) * outer, log_det


def _check_positive(A: Numbers, S: Numbers, kind_z: NDArray[np.intp]) -> None:
    """Refuse an indefinite S for which a cluster's covariance is not positive definite."""
    if S.size == 0 or float(np.linalg.eigvalsh(S).min()) >= 0.0:
        return
    values, vectors = np.linalg.eigh(A)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    inner = np.eye(A.shape[1]) + np.swapaxes(root, 1, 2) @ S[kind_z] @ root
    if float(np.linalg.eigvalsh(inner).min()) <= 1e-10:
        raise LikelihoodError(
            "The covariance matrix of every cluster must be positive definite.",
            "a between-level covariance matrix that is too negative",
            "give start values nearer to the data",
        )


def inverses(data: GroupStatistics, at: Moments) -> Inverses:
    """Factorise one point.

    Raises
    ------
    LikelihoodError : a covariance matrix outside the region where the likelihood exists.
    """
    b = data.n_both
    W, log_w = masked_inverse(at.cov_within, data.seen, "within-level")
    Z, log_z = masked_inverse(at.cov_between[b:, b:], data.seen_z, "level-2 variables'")
    cross = at.cov_between[:b, b:] * data.seen_z[:, None, :]
    B = cross @ Z
    S = at.cov_between[:b, :b] - B @ np.swapaxes(cross, 1, 2)
    A = np.tensordot(data.kind_counts, W[:, :b, :b], axes=1)
    if not np.iscomplexobj(S) and not np.iscomplexobj(A):
        _check_positive(A, S, data.kind_z)
    S_kind = S[data.kind_z]
    core = np.eye(b) + A @ S_kind
    R = np.linalg.inv(core)
    log_core = np.zeros(len(A)) if np.iscomplexobj(core) else np.linalg.slogdet(core)[1]
    n_z = np.bincount(data.z_pattern, minlength=len(data.seen_z))
    log_det = data.pattern_n @ log_w + n_z @ log_z + data.kind_n @ log_core
    return Inverses(W, B, Z, S, A, R, S_kind @ R, R @ A, log_det)


@dataclass(frozen=True)
class Residuals:
    """What the responses add at one point: (pairs, p), (J, .) by cluster, (m, p, p) by pattern.

    ``dev`` sums of y - mu; ``p``, ``delta``, ``r`` as in the module; ``t`` posterior mean of the
    between part; ``dz`` level-2 deviations; ``cross`` sums of (y - mu)(y - mu)'.
    """

    dev: Numbers
    p: Numbers
    delta: Numbers
    r: Numbers
    t: Numbers
    dz: Numbers
    cross: Numbers


def level1_mean(data: GroupStatistics, at: Moments) -> Numbers:
    """(p,) mean of the level-1 variables, centred as the sums are."""
    mean = at.mean_within - data.centre_y
    lift = np.zeros_like(mean, dtype=np.result_type(mean, at.mean_between))
    lift[: data.n_both] = at.mean_between[: data.n_both]
    return np.asarray(mean + lift)


def residuals(data: GroupStatistics, at: Moments, inv: Inverses) -> Residuals:
    """Sums of deviations from the means of ``at``."""
    b = data.n_both
    mean = level1_mean(data, at)
    dev = data.pair_sum - data.pair_n[:, None] * (mean * data.seen[data.pair_pattern])
    weighted = np.empty((*dev.shape[:1], b), dtype=np.result_type(dev, inv.W))
    for k in range(data.n_patterns):
        part = slice(data.pair_start[k], data.pair_start[k + 1])
        weighted[part] = dev[part] @ inv.W[k][:, :b]
    p = data.to_cluster @ weighted
    dz = data.z - (at.mean_between[b:] - data.centre_z) * data.seen_z[data.z_pattern]
    delta = np.einsum("jbz,jz->jb", inv.B[data.z_pattern], dz)
    r = p - np.einsum("jab,jb->ja", inv.A[data.cluster_kind], delta)
    t = delta + np.einsum("jab,jb->ja", inv.K[data.cluster_kind], r)
    mu = mean * data.seen
    half = data.pattern_sum[:, :, None] * mu[:, None, :]
    outer = mu[:, :, None] * mu[:, None, :]
    cross = data.pattern_cross - half - np.swapaxes(half, 1, 2)
    cross = cross + data.pattern_n[:, None, None] * outer
    return Residuals(dev, p, delta, r, t, dz, cross)


def minus2_loglik(data: GroupStatistics, at: Moments) -> float:
    """-2 log-likelihood of one group, constants included.

    Raises
    ------
    LikelihoodError : moments at which the likelihood does not exist.
    """
    inv = inverses(data, at)
    res = residuals(data, at, inv)
    quadratic = np.sum(inv.W * res.cross)
    # -2 delta'p + delta'A delta = -delta'(p + r)
    quadratic -= np.sum(res.delta * (res.p + res.r))
    quadratic -= np.sum(res.r * (res.t - res.delta))
    quadratic += np.einsum("ja,jab,jb->", res.dz, inv.Z[data.z_pattern], res.dz)
    return float(inv.log_det + quadratic + data.n_values * np.log(2.0 * np.pi))


def between_blocks(data: GroupStatistics, inv: Inverses) -> tuple[Numbers, Numbers]:
    """``H = [I; -B']`` by level-2 pattern (m_z, P, b), and ``Q = L'V^-1 L`` by kind (u, P, P)."""
    n_z, b = len(inv.B), data.n_both
    eye = np.broadcast_to(np.eye(b), (n_z, b, b))
    H = np.concatenate([eye, -np.swapaxes(inv.B, 1, 2)], axis=1)
    of_kind = H[data.kind_z]
    Q = of_kind @ inv.G @ np.swapaxes(of_kind, 1, 2)
    Q[:, b:, b:] += inv.Z[data.kind_z]
    return H, Q


def between_scores(data: GroupStatistics, inv: Inverses, res: Residuals, H: Numbers) -> Numbers:
    """``q = L'V^-1 (data - mean)`` by cluster, (J, P)."""
    g = np.einsum("jab,jb->ja", inv.R[data.cluster_kind], res.r)
    q: Numbers = np.einsum("jab,jb->ja", H[data.z_pattern], g)
    q[:, data.n_both :] += np.einsum("jab,jb->ja", inv.Z[data.z_pattern], res.dz)
    return q


def gradient(data: GroupStatistics, at: Moments) -> Gradient:
    """Gradient of -2 log-likelihood in the moments, real or complex.

    Raises
    ------
    LikelihoodError : real moments at which the likelihood does not exist.
    """
    b = data.n_both
    inv = inverses(data, at)
    res = residuals(data, at, inv)
    H, Q = between_blocks(data, inv)
    q = between_scores(data, inv, res, H)
    cov_between = np.tensordot(data.kind_n, Q, axes=1) - q.T @ q
    mean_within = np.zeros(len(at.mean_within), dtype=q.dtype)
    cov_within = np.zeros(at.cov_within.shape, dtype=q.dtype)
    spread = np.tensordot((data.kind_counts * data.kind_n[:, None]).T, inv.K, axes=1)
    for k in range(data.n_patterns):
        part = slice(data.pair_start[k], data.pair_start[k + 1])
        t, n = res.t[data.pair_cluster[part]], data.pair_n[part]
        middle = res.cross[k].astype(q.dtype)
        shared = res.dev[part].T @ t
        middle[:, :b] -= shared
        middle[:b, :] -= shared.T
        middle[:b, :b] += spread[k] + (t * n[:, None]).T @ t
        W = inv.W[k]
        cov_within += data.pattern_n[k] * W - W @ middle @ W
        total = res.dev[part].sum(axis=0)
        total[:b] -= n @ t
        mean_within -= 2.0 * (W @ total)
    return Gradient(mean_within, cov_within, -2.0 * q.sum(axis=0), cov_between)
