r"""The profiled criterion, its gradient and its curvature, for any engine and structure.

Three small calls: ``set(theta)`` factorises, ``value()`` reads the criterion, ``gradient()`` and
``curvature()`` follow by the chain rule from the engine's score matrices:

    dd/dtheta_a        = <Q, D_a>,      D_a = dPsi/dtheta_a  (= E_a L' + L E_a' if L is linear)
    d2d/dtheta_a/b     = H[D_a, D_b] + <Q, d2Psi/dtheta_a dtheta_b>

with ``H`` exact (one grouping factor) or average information (any design). Conventions: see the
room's docstring. Sources: Gilmour, Thompson & Cullis 1995 (AI); exact Hessian: own derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.shared import WIDE, SharedEngine
from multilevel.likelihood.gaussian.wide_traces import is_wide, wide_traces
from multilevel.model.covariance.structures import FactorMap

Array = NDArray[np.float64]
SATURATED = 1e-14


@dataclass(frozen=True)
class Profile:
    """Everything profiled out at one theta (scaled problem).

    ``criterion`` d; ``beta`` (p,); ``sigma2``; ``r2`` weighted residual sum of squares;
    ``R`` (p, p) upper with ``T_XX = R'R``.
    """

    criterion: float
    beta: Array
    sigma2: float
    r2: float
    R: Array


def profile_out(T: Array, logdet: float, n: int, p: int, reml: bool) -> Profile:
    """Profile beta and sigma2 out.

    Parameters
    ----------
    T : (p + 1, p + 1) ``[X y]'V^-1[X y]``, V relative to sigma2.
    logdet : ``log|V|``.
    n, p : rows and fixed effects.

    Raises
    ------
    LikelihoodError : fixed-effect columns that are dependent, or a residual variance of zero.
    """
    nu = n - p if reml else n
    try:
        R: Array = np.asarray(np.linalg.cholesky(T[:p, :p]).T)
    except np.linalg.LinAlgError as error:
        raise LikelihoodError(
            "The fixed-effect columns must be linearly independent.",
            "X'V^-1X is not positive definite",
            "drop a fixed effect that repeats others",
        ) from error
    z = np.linalg.solve(R.T, T[:p, p])
    r2 = float(T[p, p] - z @ z)
    if not r2 > SATURATED * n:
        raise LikelihoodError(
            "The residual variance must be positive.",
            f"a residual sum of squares of {max(r2, 0.0):.3g} for a response of unit variance: "
            "the model reproduces the data exactly",
            "use fewer effects: there is nothing left to estimate a variance from",
        )
    beta = np.linalg.solve(R, z)
    d = logdet + nu * (1.0 + np.log(2.0 * np.pi * r2 / nu))
    if reml and p:
        d += 2.0 * float(np.log(np.diag(R)).sum())
    return Profile(float(d), beta, r2 / nu, r2, R)


def _outer_by_level(Y: Array) -> Array:
    """``Y_j Y_j'`` (J, q, q) from Y (J, q, p); a loop over the few columns beats batches."""
    J, q, _ = Y.shape
    out = np.empty((J, q, q))
    for a in range(q):
        for b in range(a + 1):
            out[:, a, b] = np.einsum("jp,jp->j", Y[:, a], Y[:, b])
            out[:, b, a] = out[:, a, b]
    return out


def _traces(D: Array, M: Array) -> Array:
    """``sum_j tr(A_j D_x B_j D_y)`` (r, r) from ``M = sum_j A_j (x) B_j`` and D (r, q^2)."""
    q = M.shape[0]
    return np.asarray(D @ M.transpose(1, 2, 3, 0).reshape(q * q, q * q) @ D.T)


def _sum_outer(Y: Array) -> Array:
    """``sum_j Y_j Y_j'`` (q, q) from Y (J, q, p)."""
    q = Y.shape[1]
    if q >= WIDE:
        flat = np.ascontiguousarray(Y.transpose(1, 0, 2)).reshape(q, -1)
        return np.asarray(flat @ flat.T)
    out = np.empty((q, q))
    for a in range(q):
        for b in range(a + 1):
            out[a, b] = out[b, a] = np.einsum("jp,jp->", Y[:, a], Y[:, b])
    return out


class GaussianObjective:
    """Criterion of one design under ML or REML as a function of theta."""

    def __init__(
        self,
        engine: GaussianEngine,
        maps: Sequence[FactorMap],
        n: int,
        n_fixed: int,
        reml: bool,
        sum_log_weights: float = 0.0,
    ) -> None:
        self.engine, self.maps = engine, tuple(maps)
        self.n, self.p, self.reml = n, n_fixed, reml
        self.nu = n - n_fixed if reml else n
        self.sum_log_weights = sum_log_weights
        sizes = [f.n_parameters for f in self.maps]
        ends = np.cumsum([0, *sizes])
        self.slices = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.n_parameters = int(ends[-1])
        self.factors: list[Array] = []
        self.profile: Profile | None = None
        self._theta: Array | None = None
        self._scores: list[Array] | None = None
        self._projected: list[tuple[Array, Array]] | None = None

    # -- value ---------------------------------------------------------------------------------

    def set(self, theta: Array) -> Profile:
        """Factorise at ``theta`` (r,) and profile out beta and sigma2."""
        self.factors = [f.factor(theta[s]) for f, s in zip(self.maps, self.slices, strict=True)]
        self.engine.factorise(self.factors)
        self._scores = self._projected = self._theta = None
        self.profile = self._profile()
        self._theta = np.array(theta)
        return self.profile

    def ensure(self, theta: Array) -> None:
        """Set ``theta`` unless it is what was last set."""
        if self._theta is None or not np.array_equal(theta, self._theta):
            self.set(theta)

    def value(self, theta: Array) -> float:
        """The criterion at ``theta``."""
        return self.set(theta).criterion

    def _profile(self) -> Profile:
        logdet = self.engine.logdet - self.sum_log_weights
        return profile_out(self.engine.T, logdet, self.n, self.p, self.reml)

    def _profiled(self) -> Profile:
        if self.profile is None:
            raise LikelihoodError(
                "The objective must be set before it is differentiated.",
                "no parameters",
                "call set(theta) first",
            )
        return self.profile

    def _at(self) -> Array:
        """The parameters last set."""
        if self._theta is None:
            raise LikelihoodError(
                "The objective must be set before it is differentiated.",
                "no parameters",
                "call set(theta) first",
            )
        return self._theta

    # -- first derivatives ---------------------------------------------------------------------

    def projections(self) -> list[tuple[Array, Array]]:
        """Per block ``(Y, g)``: ``H_X R^-1`` (J_t, q_t, p) and ``Z_t'V^-1(y - X beta)`` (J_t, q_t).

        Both come from one product ``H [R^-1, -beta; 0, 1]``.
        """
        if self._projected is None:
            profile, p = self._profiled(), self.p
            right = np.zeros((p + 1, p + 1))
            if p:
                right[:p, :p] = np.linalg.solve(profile.R, np.eye(p))
            right[:, p] = np.append(-profile.beta, 1.0)
            self._projected = []
            for t in range(len(self.maps)):
                H = self.engine.cross(t)
                J, q = H.shape[0], H.shape[1]
                product = (H.reshape(J * q, p + 1) @ right).reshape(J, q, p + 1)
                self._projected.append((product[:, :, :p], np.ascontiguousarray(product[:, :, p])))
        return self._projected

    def residual_scores(self) -> list[Array]:
        """``g_t = Z_t'V^-1(y - X beta)`` by level: (J_t, q_t) per block."""
        return [g for _, g in self.projections()]

    def scores(self) -> list[Array]:
        """``Q_t = dd/dPsi_t`` (q_t, q_t) per block."""
        if self._scores is None:
            profile = self._profiled()
            g = self.residual_scores()
            self._scores = []
            for t in range(len(self.maps)):
                Q = self.engine.information_sum(t) - g[t].T @ g[t] / profile.sigma2
                if self.reml and self.p:
                    Q = Q - _sum_outer(self.projections()[t][0])
                self._scores.append((Q + Q.T) / 2.0)
        return self._scores

    def directions(self) -> list[Array]:
        """``D_a = dPsi/dtheta_a`` per block: (r_t, q_t, q_t)."""
        theta = self._at()
        return [
            f.covariance_slopes(theta[s], L)
            for f, s, L in zip(self.maps, self.slices, self.factors, strict=True)
        ]

    def gradient(self) -> Array:
        """``dd/dtheta`` (r,) at the parameters last set."""
        parts = [
            np.einsum("ab,rab->r", Q, D)
            for Q, D in zip(self.scores(), self.directions(), strict=True)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    # -- curvature -----------------------------------------------------------------------------

    def second_order_term(self) -> Array:
        """``<Q, d2Psi/dtheta_a dtheta_b>``, block-diagonal (r, r); ``2 tr(E_a'QE_b)`` if linear."""
        out = np.zeros((self.n_parameters, self.n_parameters))
        theta = self._at()
        for f, Q, s in zip(self.maps, self.scores(), self.slices, strict=True):
            out[s, s] = f.bends(theta[s], Q)
        return out

    def average_information(self) -> Array:
        """Average-information curvature in theta (r, r), sigma2 profiled out; any engine."""
        profile = self._profiled()
        C = self.working_coefficients()
        GC = self.engine.information_product(C)
        r = self.n_parameters
        FF, FX, Fe = np.zeros((r, r)), np.zeros((r, self.p)), np.zeros(r)
        g = self.residual_scores()
        for t in range(len(self.maps)):
            c = C[t].reshape(-1, r)
            FF += c.T @ GC[t].reshape(-1, r)
            FX += c.T @ self.engine.cross(t)[:, :, : self.p].reshape(len(c), self.p)
            Fe += c.T @ g[t].reshape(-1)
        if self.p:
            Y = np.linalg.solve(profile.R.T, FX.T)
            FF -= Y.T @ Y
        H = (FF - np.outer(Fe, Fe) / profile.r2) / profile.sigma2
        return np.asarray((H + H.T) / 2.0 + self.second_order_term())

    def working_coefficients(self) -> list[Array]:
        """Coefficients of the working columns ``Z_t D_a g_t``: (J_t, q_t, r) per block."""
        g, D = self.residual_scores(), self.directions()
        out = []
        for t, s in enumerate(self.slices):
            c = np.zeros((*g[t].shape, self.n_parameters))
            c[:, :, s] = np.einsum("jb,rab->jar", g[t], D[t])
            out.append(c)
        return out

    def exact_hessian(self) -> Array:
        """Exact Hessian in theta (r, r) for designs with one grouping factor.

        Aggregated from ``sum G(x)G``, ``sum gg'(x)G``, ``sum H_X(x)g`` and, under REML,
        ``sum (H_X Txx^-1 H_X')(x)G`` and ``sum H_X(x)H_X``.
        """
        if len(self.maps) != 1:
            raise LikelihoodError(
                "The exact Hessian is available for one grouping factor.",
                f"{len(self.maps)} grouping factors",
                "use the average information",
            )
        if getattr(self.engine, "couples_levels", False) and self._theta is not None:
            return self.differenced_hessian(self._theta)
        profile, p = self._profiled(), self.p
        g = self.residual_scores()[0]
        J, q = g.shape
        D = self.directions()[0]
        r = len(D)
        Y = self.projections()[0][0]
        GG, cross, YG = self._level_traces(g, Y, D)
        flat_D = D.reshape(r, q * q)
        h = (Y.reshape(J, q * p).T @ g).reshape(q, p, q).transpose(0, 2, 1).reshape(q * q, p)
        gamma = flat_D @ (g.T @ g).reshape(-1)
        hD = flat_D @ h
        H = -GG
        H += self.nu * (
            (cross + cross.T - 2.0 * hD @ hD.T) / profile.r2
            - np.outer(gamma, gamma) / profile.r2**2
        )
        if self.reml and p:
            H += YG + YG.T
            wide = Y.reshape(J, q * p)
            P = (wide.T @ wide).reshape(q, p, q, p).transpose(0, 2, 1, 3)
            PD = flat_D @ P.reshape(q * q, p * p)
            H -= PD @ PD.T
        return np.asarray((H + H.T) / 2.0 + self.second_order_term())

    def _level_traces(self, g: Array, Y: Array, D: Array) -> tuple[Array, Array, Array]:
        """``sum_j`` of ``tr(G D_a G D_b)``, ``g'D_a G D_b g``, ``tr(Y'D_a G D_b Y)`` (REML)."""
        J, q = g.shape
        needs_Y = self.reml and self.p > 0
        if isinstance(self.engine, SharedEngine):
            return self.engine.traces(D, g, Y if needs_Y else None)
        G = self.engine.information_blocks(0)
        if is_wide(len(D), q):
            return wide_traces(D, G, g, Y if needs_Y else None)
        flat, flat_D = np.ascontiguousarray(G).reshape(J, q * q), D.reshape(len(D), q * q)
        gg = (g[:, :, None] * g[:, None, :]).reshape(J, q * q)
        pairs = [flat, gg] + ([_outer_by_level(Y).reshape(J, q * q)] if needs_Y else [])
        found = [_traces(flat_D, (one.T @ flat).reshape(q, q, q, q)) for one in pairs]
        return found[0], found[1], found[2] if needs_Y else np.zeros_like(found[0])

    def differenced_hessian(self, theta: Array, step: float = 1e-5) -> Array:
        """Central differences of the gradient (2r factorisations); leaves ``theta`` set."""
        r = self.n_parameters
        H = np.empty((r, r))
        for a in range(r):
            h = step * max(1.0, abs(float(theta[a])))
            shift = np.zeros(r)
            shift[a] = h
            self.set(theta + shift)
            up = self.gradient()
            self.set(theta - shift)
            H[a] = (up - self.gradient()) / (2.0 * h)
        self.set(theta)
        return (H + H.T) / 2.0
