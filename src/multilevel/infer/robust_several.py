r"""Degrees of freedom of robust covariances with several clusterings.

``c'Vc`` is the quadratic form ``e'Pe`` of the residuals with ``P = sum_C sign_C sum_j a_j a_j'``, j
over the clusters of each clustering and intersection. Satterthwaite's degrees of freedom under the
model are ``tr(PS)^2 / tr(PSPS)``, ``S = V - X M X'``, that is from ``G = [a_j'S a_k]``:
``(sum_j sign_j G_jj)^2 / sum_jk sign_j sign_k G_jk^2`` (Bell & McCaffrey 2002, extended to the
signed sum of Cameron, Gelbach & Miller 2011; own derivation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.infer.robust_rows import WorkingRows

if TYPE_CHECKING:
    from multilevel.design.records import Design

Array = NDArray[np.float64]

#: Clusters of all clusterings together up to which G is formed (32 MB).
MAX_CLUSTERS = 2000


@dataclass(frozen=True)
class SignedClustering:
    """One term of the inclusion and exclusion.

    ``sign`` with its factor (+1, or J / (J - 1) for CR1); ``codes`` (n,) cluster of each row;
    ``n_clusters``; ``rows`` (n, p) adjusted rows ``A_j'(V^-1X)_j``, rows times the roots of their
    weights.
    """

    sign: float
    codes: NDArray[np.int32]
    n_clusters: int
    rows: Array


def signed_df(
    design: Design, rows: WorkingRows, terms: list[SignedClustering], contrasts: Array
) -> Array | None:
    """Degrees of freedom of each row of ``contrasts`` (k, p, scaled); None with too many clusters.

    NaN where the estimated variance has no spread, or a negative expectation.
    """
    if sum(term.n_clusters for term in terms) > MAX_CLUSTERS:
        return None
    n = len(rows.X)
    root = np.sqrt(rows.weights)[:, None]
    signs = np.concatenate([np.full(term.n_clusters, term.sign) for term in terms])
    effects = []
    for block, z, psi in zip(design.blocks, rows.Z, rows.psis, strict=True):
        values, vectors = np.linalg.eigh(psi)
        zl = (z * root) @ (vectors * np.sqrt(np.maximum(values, 0.0)))
        q = zl.shape[1]
        columns = (block.codes[:, None] * q + np.arange(q)).reshape(-1)
        at = (np.repeat(np.arange(n), q), columns)
        effects.append(sparse.csr_array((zl.reshape(-1), at), shape=(n, block.n_levels * q)))
    X = rows.X * root
    out = np.empty(len(contrasts))
    for k, contrast in enumerate(contrasts):
        m = rows.M @ contrast
        pieces = [
            sparse.csr_array(
                (term.rows @ m, (np.arange(n), term.codes)), shape=(n, term.n_clusters)
            )
            for term in terms
        ]
        a = sparse.hstack(pieces, format="csr")
        G = (a.T @ a).toarray()
        for B in effects:
            Ba = B.T @ a
            G += (Ba.T @ Ba).toarray()
        Xa = X.T @ a
        G -= Xa.T @ rows.M @ Xa
        expected = float(signs @ np.diag(G))
        spread = float(signs @ (G * G) @ signs)
        out[k] = expected**2 / spread if expected > 0.0 and spread > 0.0 else np.nan
    return out
