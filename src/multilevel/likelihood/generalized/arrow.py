r"""Block-arrow algebra of two nested factors: factor, solve and adjoint, all clusters at once.

A coarse cluster g has its own effects (q3) and those of its fine units j (q2 each). With
``H22_j`` (q2, q2), ``H32_j`` (q3, q2) and ``H33_g``:

    E_j = chol(H22_j)^-1,   F_j = H32_j E_j',   S_g = H33_g - sum_j F_j F_j',   E3_g = chol(S_g)^-1

Nodes of nested adaptive quadrature (Pinheiro & Chao 2006) are
``u3 = u3~ + d``, ``d = E3' t3`` and ``u2 = u2~ + E'(t2 - F'd)``: the conditional mode moves with
``d``. Adjoints: own derivation, reverse through these lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.adjoint_plain import hessian_adjoint
from multilevel.likelihood.generalized.cluster_plain import shifted_factors

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Arrow:
    """Factors of one run of coarse clusters (G) and their units (J).

    Attributes
    ----------
    starts : (G,) first unit of each cluster; cluster : (J,) the cluster of each unit.
    H32 : (J, q3, q2).
    E : (J, q2, q2); F : (J, q3, q2); E3 : (G, q3, q3).
    shifted : (G,) whether anything had to be shifted to be positive definite.
    """

    starts: Index
    cluster: Index
    H32: Array
    E: Array
    F: Array
    E3: Array
    shifted: NDArray[np.bool_]

    @property
    def half_log_det(self) -> Array:
        """``log|H| / 2`` by cluster (G,)."""
        own = -np.log(np.einsum("jaa->ja", self.E)).sum(axis=1)
        top = -np.log(np.einsum("gaa->ga", self.E3)).sum(axis=1)
        return np.asarray(top + self.sum_units(own))

    def sum_units(self, values: Array) -> Array:
        """Sums over the units of each cluster (first axis)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def solve(self, g2: Array, g3: Array) -> tuple[Array, Array]:
        """``H^-1 (g2, g3)`` with g2 (J, q2), g3 (G, q3)."""
        half = np.einsum("jab,jb->ja", self.E, g2)
        rest = g3 - self.sum_units(np.einsum("jab,jb->ja", self.F, half))
        v3 = np.einsum("gba,gb->ga", self.E3, np.einsum("gab,gb->ga", self.E3, rest))
        half = half - np.einsum("jba,jb->ja", self.F, v3[self.cluster])
        return np.einsum("jba,jb->ja", self.E, half), v3

    def covariances(self) -> tuple[Array, Array]:
        """``(H^-1)_jj`` (J, q2, q2) and ``(H^-1)_gg`` (G, q3, q3)."""
        top = self.E3.transpose(0, 2, 1) @ self.E3
        X = self.F.transpose(0, 2, 1) @ self.E3.transpose(0, 2, 1)[self.cluster]
        inner = np.eye(self.E.shape[1]) + X @ X.transpose(0, 2, 1)
        return self.E.transpose(0, 2, 1) @ inner @ self.E, top


def factor_arrow(B: Array, q2: int, starts: Index, cluster: Index) -> Arrow:
    """Factor ``H = I + B``: ``B`` (J, Q, Q) is the contribution of each unit, finer columns first.

    What is not positive definite is shifted, and marked so.
    """
    H22 = np.eye(q2) + B[:, :q2, :q2]
    H32 = np.ascontiguousarray(B[:, q2:, :q2])
    H33 = np.eye(B.shape[1] - q2) + np.add.reduceat(B[:, q2:, q2:], starts, axis=0)
    L, shifted_units = shifted_factors(H22)
    E = np.asarray(np.linalg.inv(L))
    F = H32 @ E.transpose(0, 2, 1)
    S = H33 - np.add.reduceat(F @ F.transpose(0, 2, 1), starts, axis=0)
    L3, shifted = shifted_factors(S)
    shifted = shifted | (np.add.reduceat(shifted_units.astype(np.int64), starts) > 0)
    return Arrow(starts, cluster, H32, E, F, np.asarray(np.linalg.inv(L3)), shifted)


@dataclass(frozen=True)
class NodeAdjoint:
    """What nodes hand back: adjoints of the modes and of the factors.

    Attributes
    ----------
    u2, u3 : (J, q2), (G, q3).
    E, E3 : (J, q2, q2), (G, q3, q3); F : (J, q3, q2).
    """

    u2: Array
    u3: Array
    E: Array
    F: Array
    E3: Array


def node_adjoint(
    arrow: Arrow, t2: Array, t3: Array, weights: Array, pull2: Array, pull3: Array
) -> NodeAdjoint:
    """Adjoints of modes and factors from the pulls on the nodes.

    Parameters
    ----------
    t2, t3 : (N2, q2), (N3, q3) nodes.
    weights : (J, N3, N2) posterior weights of the joint nodes of each unit.
    pull2 : (J, N3, N2, q2) derivative of the log integrand in ``u2`` at each node.
    pull3 : (G, N3, q3) the same in ``u3``, weighted and summed over units.
    """
    d = np.einsum("gba,kb->gka", arrow.E3, t3)
    x = np.einsum("jba,jkb->jka", arrow.F, d[arrow.cluster])
    P = np.einsum("jkl,jkla->jka", weights, pull2)
    E = t2.T @ np.einsum("jkl,jkla->jla", weights, pull2)
    E -= np.einsum("jkb,jka->jba", x, P)
    x_bar = -np.einsum("jab,jkb->jka", arrow.E, P)
    F = np.einsum("jka,jkb->jab", d[arrow.cluster], x_bar)
    d_bar = pull3 + arrow.sum_units(np.einsum("jab,jkb->jka", arrow.F, x_bar))
    E3 = np.einsum("kb,gka->gba", t3, d_bar)
    return NodeAdjoint(P.sum(axis=1), pull3.sum(axis=1), E, F, E3)


def arrow_adjoint(arrow: Arrow, nodes: NodeAdjoint) -> Array:
    """Symmetric adjoint of ``B`` (J, Q, Q), the term ``-log|H| / 2`` included."""
    q2 = arrow.E.shape[1]
    S = hessian_adjoint(arrow.E3, nodes.E3)
    top = S[arrow.cluster]
    F = nodes.F - 2.0 * top @ arrow.F
    own = hessian_adjoint(arrow.E, nodes.E + F.transpose(0, 2, 1) @ arrow.H32)
    Q = q2 + S.shape[1]
    out = np.empty((arrow.E.shape[0], Q, Q))
    out[:, :q2, :q2], out[:, q2:, q2:] = own, top
    out[:, q2:, :q2] = 0.5 * F @ arrow.E
    out[:, :q2, q2:] = out[:, q2:, :q2].transpose(0, 2, 1)
    return out
