"""Curvature of a generalized criterion: from scores, from a working model, from differences.

The search begins with curvature that costs nothing (outer products of cluster scores, or the
information of the working model) and changes to differences of the exact gradient, kept up to date
by symmetric rank-one updates, as soon as the fall of the Newton decrement shows that it would stall
or that the optimum is near. Sources: Berndt, Hall, Hall & Hausman 1974; Conn, Gould & Toint 1991.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.generalized.penalty import Penalty
from multilevel.estimate.trust_region import newton_decrement
from multilevel.likelihood.generalized.objective import GeneralizedObjective

Array = NDArray[np.float64]

UPDATE_BELOW = 0.1  # Newton decrement at which cheap curvature is kept and updated
NEAR = 1e-6  # Newton decrement at which differences are formed
FRESH = 1e-5  # differences formed at a decrement below this describe the optimum
DONE = 1e-10
MIN_CLUSTERS = 3  # clusters per parameter that outer products of scores need
STEP, FORWARD_STEP = 2e-5, 1e-5  # of differences, in scaled parameters
CENTRAL_WORK = 5e4  # parameters x rows x nodes up to which differences are central
Stage = Literal["cheap", "updated", "differenced"]


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
        self.phi: Array = np.zeros(len(T))
        self._value, self._evaluation = float("nan"), -1  # at phi, by which evaluation
        self.kind = "outer products of scores"
        self._stage: Stage = "cheap"
        self._H: Array | None = None
        self._last: tuple[Array, Array] | None = None
        self._decrements: list[float] = []
        self._formed_at = float("inf")

    # -- values and gradients ------------------------------------------------------------------

    def value(self, phi: Array) -> float:
        """The penalised criterion; sets the point (nothing to do where it is set already)."""
        if self._evaluation == self.objective.n_evaluations and np.array_equal(phi, self.phi):
            return self._value
        self._value = self.objective.value(self.T @ phi) + self.penalty.value(phi)
        self.phi, self._evaluation = phi.copy(), self.objective.n_evaluations
        return self._value

    def gradient(self) -> Array:
        """Its gradient at the point last set."""
        return np.asarray(self.T.T @ self.objective.gradient() + self.penalty.gradient(self.phi))

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
        H = self.T.T @ H @ self.T + self.penalty.hessian(self.phi)
        return np.asarray((H + H.T) / 2.0)

    def differenced(
        self, phi: Array, gradient: Array | None = None, *, on_the_way: bool = False
    ) -> Array:
        """Differences of the exact gradient at ``phi``; the point set last is another one.

        Central where that is cheap, else forward from ``gradient`` (error about 1e-5 of itself).
        ``on_the_way`` leaves out the other half where the optimum is still far.
        """
        P = len(phi)
        g = self.gradient_at(phi) if gradient is None else gradient
        central = gradient is None or P * self._work() < CENTRAL_WORK
        h = (STEP if central else FORWARD_STEP) * np.maximum(1.0, np.abs(phi))
        self.kind = "differenced gradient"
        H = (self._gradients(phi, h) - g) / h[:, None]
        if not central or (on_the_way and newton_decrement(g, (H + H.T) / 2.0) > FRESH):
            return np.asarray((H + H.T) / 2.0)
        H = 0.5 * (H + (g - self._gradients(phi, -h)) / h[:, None])
        return np.asarray((H + H.T) / 2.0)

    def _gradients(self, phi: Array, h: Array) -> Array:
        """Gradients (P, P) after a step in each parameter."""
        return np.stack([self.gradient_at(phi + step) for step in np.diag(h)])

    def _work(self) -> float:
        """Rows times quadrature nodes: what an evaluation costs, the same on every machine."""
        return self.objective.problem.n * float(np.prod(self.objective.points or (1,)))

    def derivatives(self, phi: Array) -> tuple[Array, Array]:
        """Gradient and the best curvature for its price, at ``phi``, the point last set."""
        g = self.gradient()
        if self._stage == "cheap":
            H = self.cheap()
            if H is None:
                return g, self._form(phi, g, on_the_way=True)
            if self.kind == "exact":
                self._formed_at = 0.0
            elif newton_decrement(g, H) < UPDATE_BELOW:
                self._stage, self._decrements = "updated", []
            self._H = H
        else:
            self._update(phi, g)
        self._last = phi.copy(), g
        H = self._H if self._H is not None else np.eye(len(g))
        if self._stage == "cheap":
            if self.kind != "exact" and self._is_slow(newton_decrement(g, H), 0.5):
                return g, self._form(phi, g, on_the_way=True)
            return g, H
        decrement = newton_decrement(g, H)
        if self._stage == "updated" and (decrement < NEAR or self._is_slow(decrement, 0.3)):
            return g, self._form(phi, g, on_the_way=True)
        if self._stage == "differenced" and decrement > DONE and self._is_slow(decrement, 0.1):
            return g, self._form(phi, g, on_the_way=True)
        return g, H

    def _form(self, phi: Array, g: Array, *, on_the_way: bool = False) -> Array:
        """Difference the gradient here, and go on from there."""
        self._H = self.differenced(phi, g, on_the_way=on_the_way)
        self._stage, self._decrements = "differenced", []
        self._formed_at = newton_decrement(g, self._H)
        self._last = phi.copy(), g
        return self._H

    def _is_slow(self, decrement: float, share: float) -> bool:
        """Whether two steps in a row have left more than a share of the decrement."""
        self._decrements.append(decrement)
        recent = self._decrements[-3:]
        return len(recent) == 3 and recent[2] > share * recent[1] and recent[1] > share * recent[0]

    def _update(self, phi: Array, g: Array) -> None:
        """Symmetric rank-one update of the curvature."""
        if self._last is None or self._H is None:
            return
        s, y = phi - self._last[0], g - self._last[1]
        r = y - self._H @ s
        denominator = float(r @ s)
        size = float(np.linalg.norm(r))
        # an update that is nearly orthogonal to the step, or larger than all curvature known, is
        # noise of the third order: it would shrink the trust region for many steps
        if abs(denominator) < 1e-2 * size * float(np.linalg.norm(s)):
            return
        if size**2 < abs(denominator) * float(np.linalg.norm(self._H, 2)):
            self._H = self._H + np.outer(r, r) / denominator

    def final(self, phi: Array) -> tuple[Array, Array]:
        """Gradient and curvature, exact or freshly differenced, at the end; leaves ``phi`` set."""
        g = self.gradient_at(phi)
        if isinstance(self.objective, HasHessian):
            exact = self.cheap()
            H = self.differenced(phi, g) if exact is None else exact
        elif self._H is not None and self._formed_at < FRESH:
            H = self._H
        else:
            H = self._form(phi, g)
        self.value(phi)
        return g, H

    def resume(self) -> None:
        """Go on with the curvature that ``final`` gave."""
        self._decrements = []

    def forget(self) -> None:
        """Drop the curvature (after a jump)."""
        self._stage, self._H, self._last = "cheap", None, None
        self._decrements, self._formed_at = [], float("inf")
