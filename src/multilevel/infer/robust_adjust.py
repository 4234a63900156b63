r"""Small-sample adjustments of cluster-robust covariances, and their degrees of freedom.

With ``S_j = V_j - X_j M X_j'`` (the covariance of the residuals of cluster j over sigma2) the
contribution of cluster j is ``M X_j'V_j^-1 A_j e_j``:

* CR2: ``A_j = D_j'(D_j S_j D_j')^{+1/2} D_j`` with ``V_j = D_j'D_j``: then ``A_j S_j A_j' = V_j``,
  so that the estimate is unbiased if the model is right (Bell & McCaffrey 2002, Survey Methodology
  28:169; Pustejovsky & Tipton 2018, JBES 36:672, eq. 4 and theorem 1);
* CR3: ``A_j = V_j S_j^-1 = (I - H_jj)^-1``, close to the jackknife.

``V_j`` and ``S_j`` are the identity outside the span of the columns ``[Z_j X_j]``. With an
orthonormal basis Q of that span both are small matrices ``Q'V_jQ`` and ``Q'S_jQ``, of at most
(random effects of the cluster + p) rows, and ``A_j`` is the identity outside it too.

Precision weights: rows are multiplied by the root of their weight first, so the adjustment is that
of the rescaled rows (any choice of D_j is unbiased under the model; equal weights agree with
clubSandwich).

Random effects may link clusters (crossed factors): then ``V_j`` is a diagonal block of V and the
contribution is ``M (V^-1X)_j'A_j e_j`` with the rows of the whole ``V^-1X``; the condition
``A_j S_j A_j' = V_j`` is the same. Summed over several clusterings with alternating signs, the
blocks cover every pair of rows that share a group once, so that with CR2 the expectation is ``M``
again if the model is right (own derivation from Cameron, Gelbach & Miller 2011).

Degrees of freedom for ``c'beta`` are Satterthwaite's, ``(sum_j P_jj)^2 / sum_ij P_ij^2``, with
``P_ij = a_i' Cov(e_i, e_j) a_j``, ``a_j = A_j'V_j^-1 X_j M c`` (Pustejovsky & Tipton, eq. 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.robust_rows import WorkingRows, outer_sums_by_level, sums_by_level

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.infer.robust_clusters import Clustering

Array = NDArray[np.float64]

#: Share of the variance of a residual that may be left before it counts as fitted exactly.
EXACT_FIT = 1e-9


@dataclass(frozen=True)
class ClusterScores:
    """What clusters contribute, J clusters, p fixed effects, scaled coordinates.

    Attributes
    ----------
    s : (J, p) adjusted scores ``X_j'V_j^-1 A_j e_j``.
    K : (J, p, p) ``X_j'A_j'V_j^-1 X_j``.
    L : (J, p, p) ``X_j'V_j^-1 A_j V_j A_j'V_j^-1 X_j``.
    n_exact : clusters with a direction that the fixed effects fit exactly (CR2 leaves it out).
    rows : (n, p) adjusted rows ``A_j'(V^-1X)_j`` (of rows times the roots of their weights).
    """

    s: Array
    K: Array
    L: Array
    n_exact: int = 0
    rows: Array | None = None


def plain_scores(rows: WorkingRows, cluster: Clustering) -> ClusterScores:
    """No adjustment (CR0, CR1, CR1S): ``A_j`` is the identity."""
    J = cluster.n_clusters
    s = sums_by_level(rows.scores, cluster.codes, J)
    G = outer_sums_by_level(rows.X, rows.XV, cluster.codes, J)
    return ClusterScores(s, G, G)


def adjusted_scores(
    design: Design, rows: WorkingRows, cluster: Clustering, kind: str
) -> ClusterScores:
    """CR2 or CR3 scores of every cluster.

    Raises
    ------
    InferenceError : CR3 for a cluster whose rows alone decide a fixed effect.
    """
    p, J = rows.X.shape[1], cluster.n_clusters
    root = np.sqrt(rows.weights)[:, None]
    X, e = rows.X * root, rows.marginal[:, None] * root
    XV = rows.XV / root
    Z = [z * root for z in rows.Z]
    adjusted = np.empty_like(X)
    sizes = np.bincount(cluster.codes, minlength=J)
    order = np.argsort(cluster.codes, kind="stable")
    ends = np.cumsum(sizes)
    s, K, L = np.empty((J, p)), np.empty((J, p, p)), np.empty((J, p, p))
    alone = np.flatnonzero(sizes[cluster.codes] == 1)
    single = _single_rows(X[alone], XV[alone], e[alone, 0], [z[alone] for z in Z], rows, kind)
    at = cluster.codes[alone]
    s[at], K[at], L[at], n_exact = single.s, single.K, single.L, single.n_exact
    adjusted[alone] = single.rows
    for j in np.flatnonzero(sizes > 1):
        own = order[ends[j - 1] if j else 0 : ends[j]]
        blocks = [
            _spread(z[own], block.codes[own], psi)
            for z, block, psi in zip(Z, design.blocks, rows.psis, strict=True)
        ]
        V, R_x, Q = _reduced(X[own], blocks)
        A, exact = _adjustment(V, R_x, rows.M, kind)
        if exact and kind == "CR3":
            raise InferenceError(
                "CR3 needs every fixed effect to be estimable without any one cluster.",
                f"a fixed effect that only {cluster.name} {cluster.labels[j]} decides",
                'use type="CR2"',
            )
        n_exact += exact
        AVX = A.T @ (XV[own] if Q is None else Q.T @ XV[own])
        adjusted[own] = AVX if Q is None else Q @ AVX
        s[j], K[j], L[j] = adjusted[own].T @ e[own, 0], R_x.T @ AVX, AVX.T @ V @ AVX
    return ClusterScores(s, K, L, n_exact, adjusted)


def _single_rows(
    X: Array, XV: Array, e: Array, Z: list[Array], rows: WorkingRows, kind: str
) -> ClusterScores:
    """The same for clusters of one row each (cells of crossed factors), all at once.

    A row that the fixed effects fit exactly tells nothing under CR2 and is left out.

    Raises
    ------
    InferenceError : such a row under CR3.
    """
    V = np.ones(len(X))
    for z, psi in zip(Z, rows.psis, strict=True):
        V += np.einsum("na,ab,nb->n", z, psi, z)
    S = V - np.einsum("na,ab,nb->n", X, rows.M, X)
    exact = EXACT_FIT * V >= S
    if kind == "CR3" and exact.any():
        raise InferenceError(
            "CR3 needs every fixed effect to be estimable without any one cluster.",
            f"{int(exact.sum())} clusters of one row that alone decide a fixed effect",
            'use type="CR2"',
        )
    ratio = np.divide(V, S, out=np.zeros(len(X)), where=~exact)
    A = np.sqrt(ratio) if kind == "CR2" else ratio
    adjusted = XV * A[:, None]
    outer = X[:, :, None] * adjusted[:, None, :]
    spread = adjusted[:, :, None] * adjusted[:, None, :] * V[:, None, None]
    return ClusterScores(adjusted * e[:, None], outer, spread, int(exact.sum()), adjusted)


def _spread(z: Array, codes: NDArray[np.int32], psi: Array) -> Array:
    """Columns ``Z L`` of one block within a cluster, one set per level: (n_j, levels * q).

    ``L L' = Psi``, so that the block adds ``(ZL)(ZL)'`` to the covariance.
    """
    levels, position = np.unique(codes, return_inverse=True)
    q = z.shape[1]
    values, vectors = np.linalg.eigh(psi)
    zl = z @ (vectors * np.sqrt(np.maximum(values, 0.0)))
    out = np.zeros((len(codes), len(levels) * q))
    for a in range(q):
        out[np.arange(len(codes)), position * q + a] = zl[:, a]
    return out


def _reduced(X: Array, blocks: list[Array]) -> tuple[Array, Array, Array | None]:
    """``Q'VQ``, ``Q'X`` and Q on the span of the columns of the cluster; None for the identity."""
    ZL = np.column_stack(blocks) if blocks else np.zeros((len(X), 0))
    both = np.column_stack([ZL, X])
    if len(X) <= both.shape[1]:
        return np.eye(len(X)) + ZL @ ZL.T, X, None
    Q, R = np.linalg.qr(both)
    k = ZL.shape[1]
    return np.eye(len(R)) + R[:, :k] @ R[:, :k].T, R[:, k:], Q


def _adjustment(V: Array, X: Array, M: Array, kind: str) -> tuple[Array, bool]:
    """``A`` on the reduced space, and whether a direction of it is fitted exactly."""
    root = np.linalg.cholesky(V)
    white = np.linalg.solve(root, X)
    left = np.linalg.eigvalsh(np.eye(len(V)) - white @ M @ white.T)
    n_null = int(np.sum(left < EXACT_FIT))
    S = V - X @ M @ X.T
    if kind == "CR3":
        return (np.eye(len(V)) if n_null else np.asarray(np.linalg.solve(S, V).T)), n_null > 0
    values, vectors = np.linalg.eigh(root.T @ S @ root)
    kept = slice(n_null, None)
    half = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
    return root @ half @ root.T, n_null > 0


def satterthwaite_df(scores: ClusterScores, M: Array, contrast: Array) -> float:
    """Degrees of freedom of ``c'beta`` under the working model; ``contrast`` (p,), scaled."""
    m = M @ contrast
    u = scores.K @ m
    d = np.einsum("a,jab,b->j", m, scores.L, m, optimize=True)
    uMu = np.einsum("ja,ab,jb->j", u, M, u, optimize=True)
    total = float(np.sum(d - uMu))
    MU = M @ (u.T @ u)
    squares = float(np.sum(d * (d - 2.0 * uMu)) + np.sum(MU * MU.T))
    if not squares > 0.0:
        return float("nan")
    return total**2 / squares
