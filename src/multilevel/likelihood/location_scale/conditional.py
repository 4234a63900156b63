"""The likelihood of each cluster given its scale effect, and adjoints of weighted sums of it.

In the basis that makes ``C'AC`` diagonal (``W'AW = diag(lam)``, ``C = W W'``):

    log|I + t C A| = sum_a log(1 + t lam_a),   (C^-1 + t A)^-1 = W diag(1 / (1 + t lam)) W'

Notation as in the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.location_scale.sums import RowSums

Array = NDArray[np.float64]
LOG_2PI = float(np.log(2.0 * np.pi))
MAX_EXPONENT = 300.0


@dataclass(frozen=True)
class Adjoints:
    """Derivatives of ``sum_k w_k log f(v_k)`` by cluster: e (J,), g (J, q), A (J, q, q),
    m (J, q), C (J, q, q), s (J,)."""

    e: Array
    g: Array
    A: Array
    m: Array
    C: Array
    s: Array


class Conditional:
    """``log f(y_j | v)`` of all clusters at one point.

    Parameters
    ----------
    sums : sums over rows.
    m : (q,) regression of the location effects on ``v``.
    C : (q, q) their covariance given ``v``.
    s : standard deviation of the scale effect.
    """

    def __init__(self, sums: RowSums, m: Array, C: Array, s: float) -> None:
        self.sums, self.m, self.s = sums, m, s
        values, vectors = np.linalg.eigh(C)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        lam, U = np.linalg.eigh(root.T @ sums.A @ root)
        self.lam = np.maximum(lam, 0.0)[:, None, :]
        self.W = root @ U
        self.AW = sums.A @ self.W
        self.Am = sums.A @ m
        self.h0 = np.einsum("jqa,jq->ja", self.W, sums.g)[:, None, :]
        self.h1 = np.einsum("jqa,jq->ja", self.W, self.Am)[:, None, :]
        self.mg, self.mAm = (sums.g @ m)[:, None], (self.Am @ m)[:, None]
        self.constant = (-0.5 * (sums.n * LOG_2PI + sums.log_variance))[:, None]
        self.n = sums.n[:, None]

    def _pieces(self, v: Array) -> tuple[Array, Array, Array, Array]:
        """``t`` (J, N), ``e_v`` (J, N), ``h`` (J, N, q), ``1 + t lam`` (J, N, q)."""
        t = np.exp(np.clip(-self.s * v, -MAX_EXPONENT, MAX_EXPONENT))
        e = self.sums.e[:, None] - 2.0 * v * self.mg + v * v * self.mAm
        return t, e, self.h0 - v[..., None] * self.h1, 1.0 + t[..., None] * self.lam

    def value(self, v: Array) -> Array:
        """``log f(y_j | v) - v^2 / 2`` (J, N) at v (J, N)."""
        t, e, h, one = self._pieces(v)
        quadratic = t * e - (t[..., None] ** 2 * h * h / one).sum(axis=-1)
        rest = self.n * self.s * v + np.log(one).sum(axis=-1) + quadratic
        return np.asarray(self.constant - 0.5 * rest - 0.5 * v * v)

    def derivatives(self, v: Array) -> tuple[Array, Array]:
        """First and second derivatives of ``value`` in v, (J, N) each."""
        t, e, h, one = self._pieces(v)
        s, h1 = self.s, self.h1
        phi = 1.0 - 1.0 / one
        psi = t[..., None] ** 2 / one
        slope = 2.0 - phi
        e1, e2 = -2.0 * self.mg + 2.0 * v * self.mAm, 2.0 * self.mAm
        first = self.n * s - s * phi.sum(axis=-1) + t * (e1 - s * e)
        first = first + (psi * (s * slope * h * h + 2.0 * h * h1)).sum(axis=-1)
        bend = s * s * (slope**2 - phi * (1.0 - phi)) * h * h
        bend = bend + 4.0 * s * slope * h * h1 + 2.0 * h1 * h1
        second = s * s * (phi * (1.0 - phi)).sum(axis=-1) + t * (s * s * e - 2.0 * s * e1 + e2)
        second = second - (psi * bend).sum(axis=-1)
        return np.asarray(-0.5 * first - v), np.asarray(-0.5 * second - 1.0)

    def _moments(self, v: Array) -> tuple[Array, Array, Array]:
        """``t``, ``1 + t lam`` and the coordinates ``(1, v, beta)`` (J, N, q + 2) of ``E[b|v]``,
        which is ``m v + W beta``."""
        t, _, h, one = self._pieces(v)
        beta = t[..., None] * h / one
        return t, one, np.concatenate([np.ones_like(v)[..., None], v[..., None], beta], axis=-1)

    def _bases(self) -> tuple[Array, Array]:
        """``F`` and ``P`` (J, q, q + 2): ``E[b|v] = F c``, ``Z'P(r - Z E[b|v]) = P c``."""
        J, q = self.sums.g.shape
        F = np.concatenate(
            [np.zeros((J, q, 1)), np.broadcast_to(self.m[:, None], (J, q, 1)), self.W], axis=2
        )
        P = np.concatenate([self.sums.g[..., None], -self.Am[..., None], -self.AW], axis=2)
        return F, P

    def adjoints(self, v: Array, w: Array) -> Adjoints:
        """Derivatives of ``sum_k w_k log f(v_k)``, nodes v and weights w (J, N)."""
        t, one, c = self._moments(v)
        F, P = self._bases()
        wt = w * t
        ct = np.swapaxes(c * wt[..., None], 1, 2)
        S1 = ct @ c
        S2 = (ct * t[:, None, :]) @ c
        T1 = (wt[..., None] / one).sum(axis=1)
        T2 = ((wt * t)[..., None] / one).sum(axis=1)
        W, AW = self.W, self.AW
        A_bar = (W * T1[:, None, :]) @ np.swapaxes(W, 1, 2) + F @ S1 @ np.swapaxes(F, 1, 2)
        C_bar = S1[:, 0, 0, None, None] * self.sums.A
        C_bar = C_bar - (AW * T2[:, None, :]) @ np.swapaxes(AW, 1, 2)
        C_bar = C_bar - P @ S2 @ np.swapaxes(P, 1, 2)
        return Adjoints(
            e=-0.5 * S1[:, 0, 0],
            g=np.einsum("jqc,jc->jq", F, S1[:, :, 0]),
            A=-0.5 * A_bar,
            m=np.einsum("jqc,jc->jq", P, S1[:, :, 1]),
            C=-0.5 * C_bar,
            s=self._scale_adjoint(v, w),
        )

    def _scale_adjoint(self, v: Array, w: Array) -> Array:
        """Derivative in ``s`` at fixed ``v``: ``v d/d omega``."""
        t, e, h, one = self._pieces(v)
        phi = 1.0 - 1.0 / one
        inner = (t[..., None] ** 2 / one * (2.0 - phi) * h * h - phi).sum(axis=-1)
        return np.asarray(-0.5 * (w * v * (self.n - t * e + inner)).sum(axis=1))

    def posterior(self, v: Array, weights: Array) -> tuple[Array, Array]:
        """Mean (J, q + 1) and covariance (J, q + 1, q + 1) of ``(b, omega)`` given y."""
        _, one, c = self._moments(v)
        F, _ = self._bases()
        J, q = self.sums.g.shape
        last = np.zeros((J, 1, q + 2))
        last[:, 0, 1] = self.s
        whole = np.concatenate([F, last], axis=1)
        mean_c = np.einsum("jn,jnc->jc", weights, c)
        centred = c - mean_c[:, None, :]
        spread = np.swapaxes(centred * weights[..., None], 1, 2) @ centred
        covariance = whole @ spread @ np.swapaxes(whole, 1, 2)
        inside = np.einsum("jn,jna->ja", weights, 1.0 / one)
        covariance[:, :q, :q] += (self.W * inside[:, None, :]) @ np.swapaxes(self.W, 1, 2)
        return np.einsum("jqc,jc->jq", whole, mean_c), covariance

    def location(self, v: Array) -> Array:
        """``E[b | v]`` (J, q) at v (J,)."""
        _, _, c = self._moments(v[:, None])
        return np.asarray(np.einsum("jqc,jc->jq", self._bases()[0], c[:, 0]))
