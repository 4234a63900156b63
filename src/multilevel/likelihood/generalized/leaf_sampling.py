"""Importance sampling of all random effects but those of the finest factor, which are integrated.

Given the other random effects ``u_c``, the levels of the finest factor are independent one-
dimensional integrals, done by adaptive quadrature; only ``u_c`` is drawn, from its marginal
``N(u~_c, (H^-1)_cc)``. Most of the randomness of a joint draw is gone (Rao-Blackwell): persons by
items, 340 effects, need draws of the 24 items only.

With ``d = u_c - u~_c``, ``D_g`` and ``b_g`` the blocks of ``H`` of level g:

    log w = sum_g log sum_k w_k exp(t_k^2 / 2 + h_g(m_g + D_g^-1/2 t_k)) - u_c'u_c / 2
            + d'S d / 2 - h(u~),      m_g = u~_g - D_g^-1 b_g'd
    d'S d = e'e - sum_g D_g (d_g + D_g^-1 b_g'd)^2          (e: the noise of the joint draw)

so no determinant is needed. Source: own derivation; Casella & Robert 1996 (Rao-Blackwell).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from multilevel.likelihood.blocks.row_kernels import add_predictor
from multilevel.likelihood.generalized.joint_error import JointSample, summarise_weights
from multilevel.likelihood.generalized.mode_search import ModePoint, ModeSearch

Array = NDArray[np.float64]
NODES = 11
BATCH_NUMBERS = 2_000_000  # entries of joint draws held at once


class LeafIntegrator:
    """Integrates the finest factor given all other random effects.

    Parameters
    ----------
    search : rows sorted so that levels of the finest factor are runs; factor at the mode.
    leaf : (J,) unknowns of the finest factor, one column.
    codes : (n,) its level by row.
    fixed, Z, point : predictors (D, n), coefficients (R, n, Q) and the mode.
    """

    def __init__(
        self,
        search: ModeSearch,
        leaf: NDArray[np.int64],
        codes: NDArray[np.int32],
        fixed: Array,
        Z: Array,
        point: ModePoint,
    ) -> None:
        self.search, self.fixed, self.Z, self.point = search, fixed, Z, point
        self.random = list(search.rows.random)
        self.starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        self.leaf = leaf[codes[self.starts]]  # in the order of the runs
        self.run = np.repeat(np.arange(self.starts.size), np.diff(self.starts, append=codes.size))
        self.z = np.ascontiguousarray(Z[:, :, 0])
        self.weighted = np.einsum("rn,rsn->sn", self.z, point.W)
        own = (self.weighted * self.z).sum(axis=0)
        self.D: Array = 1.0 + np.add.reduceat(own, self.starts)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        self.nodes: Array = nodes
        self.log_weights: Array = np.log(weights / np.sqrt(2.0 * np.pi)) + 0.5 * nodes**2

    @property
    def is_possible(self) -> bool:
        """Whether every level's conditional curvature is positive."""
        return bool((self.D > 0.0).all())

    def log_weight(self, u: Array, noise: Array) -> float:
        """Log weight of a joint draw ``u`` (N,) made from ``noise`` (N,)."""
        point, R = self.point, self.z.shape[0]
        others = u.copy()
        others[self.leaf] = 0.0
        rest = np.zeros((R, self.z.shape[1]))
        add_predictor(self.Z, self.search.index, others, rest)
        moved = u - point.u
        drift = moved.copy()
        drift[self.leaf] = 0.0
        shift = np.zeros_like(rest)
        add_predictor(self.Z, self.search.index, drift, shift)
        slope = np.add.reduceat((self.weighted * shift).sum(axis=0), self.starts) / self.D
        square = float(noise @ noise) - float(self.D @ (moved[self.leaf] + slope) ** 2)
        points = (point.u[self.leaf] - slope)[None] + self.nodes[:, None] / np.sqrt(self.D)
        eta = np.repeat(self.fixed[:, None], NODES, axis=1)
        eta[self.random] += rest[:, None] + self.z[:, None] * points[:, self.run]
        values = np.add.reduceat(self.search.rows.value(eta), self.starts, axis=1)
        heights = values - 0.5 * points**2 + self.log_weights[:, None]
        inside = float(logsumexp(heights, axis=0).sum())
        return inside - 0.5 * float(others @ others) + 0.5 * square - point.h


def sample_given_leaf(
    integrator: LeafIntegrator, rng: np.random.Generator, draws: int
) -> JointSample:
    """``log L`` minus Laplace's; ``draws`` of the other random effects, rounded up to pairs."""
    N, pairs = integrator.point.u.size, max(2, (draws + 1) // 2)
    log_weights = np.empty((2, pairs))
    batch = max(1, BATCH_NUMBERS // N)
    for start in range(0, pairs, batch):
        here = range(start, min(start + batch, pairs))
        noise = rng.standard_normal((len(here), N))
        moved = integrator.search.storage.colour(np.ascontiguousarray(noise.T)).T
        for k, e, step in zip(here, noise, moved, strict=True):
            log_weights[0, k] = integrator.log_weight(integrator.point.u + step, e)
            log_weights[1, k] = integrator.log_weight(integrator.point.u - step, -e)
    return summarise_weights(log_weights, nodes=NODES)
