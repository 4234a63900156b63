r"""A generalized criterion minimised with one quantity held at a value.

A map says where the parameters are: ``psi = psi(value, x)`` with ``x`` (F,) free. In coordinates
``x = x_0 + W z`` in which the curvature at the fit is the identity (times two), Newton steps start
from that curvature, kept up to date by symmetric rank-one updates. By the envelope theorem the
slope of the minimum in the held value is ``gradient' dpsi/dvalue``.
Sources: Bates & Watts 1988, section 6.1; Conn, Gould & Toint 1991 (updates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.trust_region import minimise, newton_decrement
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # Newton decrement by updated curvature
ACCEPTED = 1e-7  # Newton decrement by curvature that was differenced
STEP = 2e-5


@dataclass(frozen=True)
class HeldParameters:
    """The parameters at one held value: ``psi`` (P,), ``jacobian`` ``dpsi/dx`` (P, F) and ``slope``
    ``dpsi/dvalue`` (P,)."""

    psi: Array
    jacobian: Array
    slope: Array


class HeldMap(Protocol):
    """Where the parameters are when a quantity is held."""

    def at(self, value: float, x: Array) -> HeldParameters:
        """The parameters; raises ``LikelihoodError`` where there are none."""
        ...


@dataclass(frozen=True)
class HeldPoint:
    """The minimum at one held value.

    Attributes
    ----------
    value : what was held.
    criterion : the lowest criterion.
    x : (F,) where.
    slope : of the lowest criterion in the held value.
    decrement : Newton decrement at the end.
    is_converged : whether that is negligible.
    """

    value: float
    criterion: float
    x: Array
    slope: float
    decrement: float
    is_converged: bool


def differenced_curvature(objective: GeneralizedObjective, psi: Array) -> Array:
    """Hessian (P, P) of the criterion by central differences of its gradient; ``psi`` stays set."""
    P = len(psi)
    H = np.empty((P, P))
    with blas_threads(0):
        for a in range(P):
            h = np.zeros(P)
            h[a] = STEP * max(1.0, abs(float(psi[a])))
            objective.value(psi + h)
            up = objective.gradient()
            objective.value(psi - h)
            H[a] = (up - objective.gradient()) / (2.0 * h[a])
        objective.value(psi)
    return (H + H.T) / 2.0


def whitening(curvature: Array) -> Array:
    """``W`` (F, F) with ``W' H W = 2 I``, flat and hollow directions bounded."""
    size = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(curvature)), 1e-12))
    values, vectors = np.linalg.eigh(curvature * np.outer(size, size))
    bounded = np.maximum(np.abs(values), 1e-4)
    return np.asarray(size[:, None] * (vectors * np.sqrt(2.0 / bounded)))


class _Surface:
    """The criterion in whitened coordinates at one held value."""

    def __init__(
        self, objective: GeneralizedObjective, where: HeldMap, value: float, x: Array, W: Array
    ) -> None:
        self.objective, self.where, self.held = objective, where, value
        self.x, self.W = x, W
        self.H: Array = 2.0 * np.eye(W.shape[1])
        self._last: tuple[Array, Array] | None = None

    def point(self, z: Array) -> Array:
        """``x`` at ``z``."""
        return np.asarray(self.x + self.W @ z)

    def value(self, z: Array) -> float:
        """The criterion; sets the point."""
        return self.objective.value(self.where.at(self.held, self.point(z)).psi)

    def gradient(self, z: Array) -> Array:
        """Its gradient at the point last set."""
        J = self.where.at(self.held, self.point(z)).jacobian
        return np.asarray(self.W.T @ (J.T @ self.objective.gradient()))

    def derivatives(self, z: Array) -> tuple[Array, Array]:
        """Gradient and updated curvature at the point last set."""
        g = self.gradient(z)
        if self._last is not None:
            s, y = z - self._last[0], g - self._last[1]
            r = y - self.H @ s
            size = float(r @ s)
            if abs(size) > 1e-8 * float(np.linalg.norm(r) * np.linalg.norm(s)):
                self.H = self.H + np.outer(r, r) / size
        self._last = z.copy(), g
        return g, self.H

    def difference(self, z: Array) -> Array:
        """Curvature by central differences; leaves ``z`` set, and goes on from there."""
        F = len(z)
        H = np.empty((F, F))
        for a in range(F):
            h = np.zeros(F)
            h[a] = 1e-4
            self.value(z + h)
            up = self.gradient(z + h)
            self.value(z - h)
            H[a] = (up - self.gradient(z - h)) / 2e-4
        self.value(z)
        self.H, self._last = (H + H.T) / 2.0, None
        return self.H


def minimise_held(
    objective: GeneralizedObjective, where: HeldMap, value: float, x: Array, W: Array
) -> HeldPoint:
    """Minimise over the free parameters from ``x`` (F,), ``W`` (F, F) their ``whitening``.

    Raises
    ------
    LikelihoodError : the likelihood does not exist at the start.
    """
    surface = _Surface(objective, where, value, x, W)
    z = np.zeros(W.shape[1])
    with blas_threads(0):
        current = surface.value(z)
        decrement, converged = float("inf"), False
        if len(z) == 0:
            decrement, converged = 0.0, True
        for _ in range(4 if len(z) else 0):
            path = minimise(
                surface.value,
                surface.derivatives,
                z,
                tolerance=TOLERANCE,
                max_iterations=60,
                noise=lambda: 0.0,
                start_value=current,
            )
            z, current = path.theta, path.value
            surface.value(z)
            g = surface.gradient(z)
            decrement = newton_decrement(g, surface.H)
            # Curvature is near 2 in these coordinates: the gradient itself bounds the decrement.
            if float(g @ g) < 0.1 * ACCEPTED:
                converged = True
                break
            decrement = newton_decrement(g, surface.difference(z))
            if decrement < ACCEPTED:
                converged = True
                break
        at = surface.point(z)
        slope = float(objective.gradient() @ where.at(value, at).slope)
    return HeldPoint(value, current, at, slope, decrement, converged)
