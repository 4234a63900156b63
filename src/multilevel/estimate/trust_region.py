"""Trust-region Newton for the few covariance parameters; exact subproblem by eigenvalues.

init, step, terminate: ``Newton`` holds the iterate, ``minimise`` drives it and returns a value that
carries its own account. Unconstrained: the criterion is smooth and even across the boundary.
Source: Conn, Gould & Toint 2000, chapters 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import LikelihoodError

Array = NDArray[np.float64]

FLAT_STEPS = 8


@dataclass
class Path:
    """Where a minimisation ended and how it got there."""

    theta: Array
    value: float
    gradient: Array
    curvature: Array
    decrement: float
    iterations: int = 0
    converged: bool = False
    reason: str = ""
    history: list[float] = field(default_factory=list)


def newton_decrement(gradient: Array, curvature: Array) -> float:
    """``g'H^-1 g / 2`` on the directions of positive curvature; infinite along a descent into
    non-positive curvature."""
    if gradient.size == 0:
        return 0.0
    values, vectors = np.linalg.eigh(curvature)
    g = vectors.T @ gradient
    top = max(float(np.abs(values).max()), 1e-300)
    flat = values <= 1e-11 * top
    if np.any(flat & (np.abs(g) > 1e-6 * np.sqrt(top))):
        return float("inf")
    return float(0.5 * np.sum(g[~flat] ** 2 / values[~flat]))


def trust_region_step(gradient: Array, curvature: Array, radius: float) -> Array:
    """Minimiser of the quadratic model within ``radius``; shifts until positive definite."""
    values, vectors = np.linalg.eigh(curvature)
    g = vectors.T @ gradient
    top = max(float(np.abs(values).max()), 1e-300)

    def step(shift: float) -> Array:
        return np.asarray(-g / (values + shift))

    shift = 0.0
    if values.min() <= 1e-10 * top:
        shift = max(0.0, -float(values.min())) + 1e-8 * top
    s = step(shift)
    if np.linalg.norm(s) > radius:
        low, high = shift, shift + float(np.linalg.norm(g)) / radius + top
        for _ in range(80):
            middle = 0.5 * (low + high)
            if np.linalg.norm(step(middle)) > radius:
                low = middle
            else:
                high = middle
        s = step(high)
    return np.asarray(vectors @ s)


def minimise(
    value: Callable[[Array], float],
    derivatives: Callable[[Array], tuple[Array, Array]],
    theta: Array,
    *,
    tolerance: float,
    max_iterations: int,
    noise: Callable[[], float],
    start_value: float,
    on_step: Callable[[int, float], None] | None = None,
    least_gain: float = 0.0,
) -> Path:
    """Minimise from ``theta``, at which ``value`` was last called and gave ``start_value``.

    Parameters
    ----------
    value : criterion at a new point (sets it).
    derivatives : gradient (r,) and curvature (r, r) at the point last set.
    tolerance : stop when the Newton decrement falls below it (units of -2 log-likelihood).
    noise : standard error of the criterion (0 for exact engines).
    on_step : told the iteration and the criterion after each accepted step.
    least_gain : stop when ``FLAT_STEPS`` steps together lower the criterion by less, although
        the decrement asks for more: the surface runs out to a limit at infinity.
    """
    d = start_value
    g, H = derivatives(theta)
    path = Path(theta, d, g, H, newton_decrement(g, H), history=[d])
    radius = max(1.0, float(np.linalg.norm(theta)))
    for iteration in range(max_iterations):
        path.iterations = iteration
        if path.decrement < tolerance:
            path.converged, path.reason = True, "Newton decrement below tolerance"
            break
        if iteration >= FLAT_STEPS and path.history[-1 - FLAT_STEPS] - path.value < least_gain:
            path.reason = "the surface is flat"
            break
        moved = False
        for _ in range(30):
            s = trust_region_step(g, H, radius)
            predicted = -float(g @ s + 0.5 * s @ H @ s)
            new = path.theta + s
            try:
                d_new = value(new)
            except LikelihoodError:
                # outside the region where the likelihood exists: a shorter step is asked for
                radius = 0.25 * float(np.linalg.norm(s))
                if radius < 1e-12:
                    raise
                continue
            rounding = 1e-11 * abs(d) + 3.0 * noise()
            ratio = (path.value - d_new) / predicted if predicted > 0.0 else 0.0
            if ratio > 1e-4 or (predicted < max(rounding, 1e-9) and d_new < path.value + rounding):
                if ratio > 0.75:
                    radius = max(radius, 2.0 * float(np.linalg.norm(s)))
                elif ratio < 0.25:
                    radius = max(0.5 * float(np.linalg.norm(s)), 1e-10)
                moved = True
                break
            radius = 0.25 * float(np.linalg.norm(s))
            if radius < 1e-13 * (1.0 + float(np.linalg.norm(path.theta))):
                break
        if not moved:
            value(path.theta)
            path.reason = "no step lowers the criterion"
            break
        path.theta, path.value = new, d_new
        g, H = derivatives(new)
        path.gradient, path.curvature = g, H
        path.decrement = newton_decrement(g, H)
        path.history.append(d_new)
        if on_step is not None:
            on_step(iteration + 1, d_new)
    else:
        path.iterations = max_iterations
        path.converged = path.decrement < tolerance
        path.reason = f"stopped after {max_iterations} iterations"
    return path
