"""Curvature of a generalized criterion: from scores, from a working model, from differences.

The search begins with curvature that costs nothing (outer products of cluster scores, or the
information of the working model) and changes to differences of the exact gradient, kept up to date
by symmetric rank-one updates, as soon as the fall of the Newton decrement shows that it would stall
or that the optimum is near. Sources: Berndt, Hall, Hall & Hausman 1974; Conn, Gould & Toint 1991.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.penalty import Penalty
from multilevel.estimate.trust_region import newton_decrement
from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]

NEAR = 1e-3  # Newton decrement at which differences are formed
STALL = 0.3  # share of the last decrement above which cheap curvature counts as stalled
MIN_CLUSTERS = 3  # clusters per parameter that outer products of scores need
STEP = 2e-5  # of differences, in scaled parameters


@runtime_checkable
class HasInformation(Protocol):
    """An objective that knows the information of its working model."""

    def information(self) -> Array:
        """Approximate ``-d2 log L / d psi d psi'`` (P, P) at the point last set."""
        ...


@runtime_checkable
class HasHessian(Protocol):
    """An objective that knows its exact Hessian (models without random effects)."""

    def hessian(self) -> Array:
        """``d2 criterion / d psi d psi'`` (P, P) at the point last set."""
        ...


class Surface:
    """The criterion (with its penalty) in scaled parameters ``phi``, ``psi = T phi``."""

    def __init__(self, objective: GeneralizedObjective, T: Array, penalty: Penalty) -> None:
        self.objective, self.T, self.penalty = objective, T, penalty
        self.phi: Array | None = None
        self.kind = "outer products of scores"
        self.n_gradients = 0
        self._last: tuple[Array, Array] | None = None
        self._H: Array | None = None
        self._decrements: list[float] = []
        self._fresh = False

    # -- values and gradients ------------------------------------------------------------------

    def value(self, phi: Array) -> float:
        """The penalised criterion; sets the point."""
        found = self.objective.value(self.T @ phi) + self.penalty.value(phi)
        self.phi = phi.copy()
        return found

    def gradient(self) -> Array:
        """Its gradient at the point last set."""
        self.n_gradients += 1
        phi = self.phi if self.phi is not None else np.zeros(len(self.T))
        return np.asarray(self.T.T @ self.objective.gradient() + self.penalty.gradient(phi))

    def gradient_at(self, phi: Array) -> Array:
        """The gradient somewhere."""
        self.value(phi)
        return self.gradient()

    # -- curvature -----------------------------------------------------------------------------

    def cheap(self) -> Array | None:
        """Curvature without differences at the point last set, or None if there is none."""
        if isinstance(self.objective, HasHessian):
            self.kind = "exact"
            H = self.objective.hessian()
        elif isinstance(self.objective, HasInformation):
            self.kind = "working information"
            H = 2.0 * self.objective.information()
        else:
            scores = self.objective.cluster_scores()
            if scores is None or len(scores) < MIN_CLUSTERS * len(self.T):
                return None
            self.kind = "outer products of scores"
            H = 2.0 * scores.T @ scores
        phi = self.phi if self.phi is not None else np.zeros(len(self.T))
        H = self.T.T @ H @ self.T + self.penalty.hessian(phi)
        return np.asarray((H + H.T) / 2.0)

    def differenced(self, phi: Array) -> Array:
        """Central differences of the exact gradient; leaves ``phi`` set."""
        P = len(phi)
        H = np.empty((P, P))
        for a in range(P):
            h = STEP * max(1.0, abs(float(phi[a])))
            step = np.zeros(P)
            step[a] = h
            up = self.gradient_at(phi + step)
            H[a] = (up - self.gradient_at(phi - step)) / (2.0 * h)
        self.value(phi)
        self.kind = "differenced gradient"
        return (H + H.T) / 2.0

    def derivatives(self, phi: Array) -> tuple[Array, Array]:
        """Gradient and the best curvature for its price, at the point last set."""
        g = self.gradient()
        if self._H is None:
            H = self.cheap()
            exact = self.kind == "exact"
            if H is not None and (exact or not self._is_stalled(newton_decrement(g, H))):
                self._last = phi.copy(), g
                return g, H
            self._H, self._fresh = self.differenced(phi), True
            self._decrements = []
        else:
            self._update(phi, g)
        self._last = phi.copy(), g
        if not self._fresh and self._is_slow(newton_decrement(g, self._H)):
            self._H, self._fresh = self.differenced(phi), True
            self._decrements = []
        return g, self._H

    def _is_stalled(self, decrement: float) -> bool:
        """Whether cheap curvature has done its work."""
        self._decrements.append(decrement)
        if decrement < NEAR:
            return True
        recent = self._decrements[-3:]
        return len(recent) == 3 and recent[2] > STALL * recent[1] > STALL**2 * recent[0]

    def _is_slow(self, decrement: float) -> bool:
        """Whether updated differences no longer describe the surface."""
        self._decrements.append(decrement)
        recent = self._decrements[-2:]
        return len(recent) == 2 and recent[1] > 0.1 * recent[0] and decrement > 1e-10

    def _update(self, phi: Array, g: Array) -> None:
        """Symmetric rank-one update of the differenced curvature."""
        if self._last is None or self._H is None:
            return
        s, y = phi - self._last[0], g - self._last[1]
        r = y - self._H @ s
        denominator = float(r @ s)
        if abs(denominator) > 1e-8 * float(np.linalg.norm(r) * np.linalg.norm(s)):
            self._H = self._H + np.outer(r, r) / denominator
        self._fresh = False

    def final(self, phi: Array) -> tuple[Array, Array]:
        """Gradient and curvature, exact or freshly differenced, at the end."""
        self.value(phi)
        if isinstance(self.objective, HasHessian):
            exact = self.cheap()
            return self.gradient(), self.differenced(phi) if exact is None else exact
        H = self._H if self._fresh and self._H is not None else self.differenced(phi)
        return self.gradient(), H

    def resume(self, phi: Array, gradient: Array, H: Array) -> None:
        """Go on from a point whose curvature has just been differenced."""
        self._last, self._H, self._fresh = (phi.copy(), gradient), H, True
        self._decrements = []

    def forget(self) -> None:
        """Drop the curvature (after a jump)."""
        self._H, self._last, self._decrements, self._fresh = None, None, [], False
