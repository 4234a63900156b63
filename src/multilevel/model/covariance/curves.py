"""Structures that are not linear: their maps with what is reported and start values.

``Curve`` adds to ``CurveMap`` the natural parameters (correlations, ranges, loadings) with their
derivatives and Wald limits, and the parameters nearest to a given covariance matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.model.covariance.curve_map import (
    CURVED,
    FACTORED,
    HOMOGENEOUS,
    STEPPED,
    TIMED,
    CurveMap,
)

__all__ = ["CURVED", "FACTORED", "HOMOGENEOUS", "STEPPED", "TIMED", "Curve"]

Array = NDArray[np.float64]
_STEP = 1e-5
_SMALL = 1e-8


@dataclass(frozen=True)
class Curve(CurveMap):
    """One nonlinear term of q columns: ``CurveMap`` and how it is reported."""

    # -- as reported ---------------------------------------------------------------------------

    @property
    def stem(self) -> str:
        """What varies, in a word: the column of time, or the first effects."""
        stems = {label.split("[")[0] for label in self.labels}
        return stems.pop() if len(stems) == 1 else f"{self.labels[0]}, ..."

    def parameter_names(self) -> tuple[tuple[str, str], ...]:
        """``(name, kind)`` of what is reported beside standard deviations of the effects.

        Kinds: ``correlation``, ``range``, ``loading``, ``uniqueness`` (a standard deviation).
        """
        if self.structure not in FACTORED:
            kind = "range" if self.structure in ("exp", "gau", "sph") else "correlation"
            return tuple((name, kind) for name in self.correlation.names())
        unique = [(label, "uniqueness") for label in self.labels if self.n_scales]
        pairs = zip(*self._places, strict=True)
        loads = [(f"{self.labels[i]}, factor {j + 1}", "loading") for i, j in pairs]
        return (*unique, *loads)

    def working_names(self) -> tuple[str, ...]:
        """Names of the entries of ``theta``."""
        if self.structure in FACTORED:
            return tuple(f"{kind} {name}" for name, kind in self.parameter_names())
        logs = tuple(f"log sd {label}" for label in self.labels)
        scales = ("sd",) if self.structure in HOMOGENEOUS else logs
        return (*scales, *(f"x{k + 1}" for k in range(self.correlation.n_parameters)))

    def natural(self, theta: Array, unit: float = 1.0) -> Array:
        """What ``parameter_names`` names; ``unit`` multiplies loadings and uniquenesses."""
        if self.structure in FACTORED:
            return self.canonical(theta) * unit
        return np.asarray(self.correlation.natural(theta[self.n_scales :]), dtype=np.float64)

    def natural_slopes(self, theta: Array, unit: float = 1.0) -> Array:
        """Derivatives of ``natural`` (K, r)."""
        if self.structure in FACTORED:
            signs = np.where(self.canonical(theta) == theta, 1.0, -1.0)
            return np.diag(signs * unit)
        r = self.n_parameters
        out = np.zeros((len(self.parameter_names()), r))
        for a in range(self.n_scales, r):
            shift = np.zeros(r)
            shift[a] = _STEP
            out[:, a] = (self.natural(theta + shift) - self.natural(theta - shift)) / (2.0 * _STEP)
        return out

    def held(self, k: int, value: float) -> float | None:
        """The entry of ``x`` that gives natural parameter ``k`` a value; None: more than one."""
        low = -1.0 / (self.width - 1)
        if self.structure in FACTORED or (self.structure in ("toep", "toeph") and k > 0):
            return None
        if self.structure == "csh":
            share = (value - low) / (1.0 - low)
            return float(np.log(share / (1.0 - share)))
        if self.structure == "car1":
            return float(-np.log(-np.log(value)))
        if self.structure in ("exp", "gau", "sph"):
            return float(np.log(value))
        return float(np.arctanh(value))

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest value of a natural parameter of the correlations."""
        if self.structure == "csh":
            return -1.0 / (self.width - 1), 1.0
        if self.structure in ("car1", "exp", "gau", "sph"):
            return 0.0, 1.0 if self.structure == "car1" else np.inf
        return -1.0, 1.0

    def interval(self, k: int, value: float, error: float, z: float) -> tuple[float, float]:
        """Wald limits of natural parameter ``k``: on its unconstrained scale, Fisher's z for
        further correlations, the log for standard deviations."""
        kind = self.parameter_names()[k][1]
        if not np.isfinite(error) or not np.isfinite(value):
            return float("nan"), float("nan")
        if kind == "loading":
            return value - z * error, value + z * error
        if kind == "uniqueness":
            width = float(np.exp(min(z * error / max(value, 1e-300), 300.0)))
            return value / width, value * width
        x = self.held(k, value)
        if x is None:
            middle, half = float(np.arctanh(value)), z * error / (1.0 - value * value)
            return float(np.tanh(middle - half)), float(np.tanh(middle + half))
        theta = np.zeros(self.n_parameters)
        theta[self.n_scales + k] = x
        slope = self.natural_slopes(theta)[k, self.n_scales + k]
        found = []
        for side in (-1.0, 1.0):
            theta[self.n_scales + k] = x + side * z * error / slope
            found.append(float(self.natural(theta)[k]))
        return min(found), max(found)

    # -- from a covariance matrix --------------------------------------------------------------

    def parameters(self, Psi: Array) -> Array:
        """``theta`` (r,) near a given Psi; from a diagonal one, modest correlations."""
        sd = np.sqrt(np.maximum(np.diag(Psi), 0.0))
        size = float(np.sqrt(np.mean(sd**2)))
        sd = np.maximum(sd, max(_SMALL, 1e-4 * size))
        is_diagonal = not np.any(np.abs(Psi - np.diag(np.diag(Psi))) > 0.0)
        if self.structure in FACTORED:
            return self._factored_parameters(Psi, sd, is_diagonal)
        scales = np.array([size]) if self.structure in HOMOGENEOUS else np.log(sd)
        x = self.correlation.start()
        if not is_diagonal:
            x = self._nearest(x, Psi / np.outer(sd, sd))
        return np.concatenate([scales, x])

    def _nearest(self, x: Array, target: Array) -> Array:
        """The correlations closest to ``target``."""
        pad = np.zeros(self.n_scales)
        off = np.tril_indices(self.width, -1)

        def misfit(at: Array) -> tuple[Array, Array]:
            C, dC = self.correlations(np.concatenate([pad, at]))
            return (C - target)[off], dC[:, off[0], off[1]]

        return least_squares(misfit, x)

    def _factored_parameters(self, Psi: Array, sd: Array, is_diagonal: bool) -> Array:
        """Principal factors, rotated to a lower trapezium."""
        k = min(self.order, self.width)
        share = 1.0 if self.structure == "rr" else 0.5
        if is_diagonal:
            rows, columns = self._places
            tilt = np.where(columns == 0, 0.9, 0.3 * np.where((rows + columns) % 2, 1.0, -1.0))
            load = np.sqrt(share) * sd[rows] * tilt
            return np.concatenate([np.sqrt(0.5) * sd[: self.n_scales], load])
        unique = (1.0 - share) * sd**2
        for _ in range(60 if self.n_scales else 1):
            before = unique
            values, vectors = np.linalg.eigh(Psi - np.diag(unique))
            L = vectors[:, ::-1][:, :k] * np.sqrt(np.maximum(values[::-1][:k], _SMALL**2))
            if self.n_scales:
                unique = np.maximum(np.diag(Psi) - (L**2).sum(1), 1e-6 * sd**2)
            if np.all(np.abs(unique - before) <= 1e-12 * sd**2):
                break
        R = np.linalg.qr(L.T)[1].T
        start = np.concatenate([np.sqrt(unique[: self.n_scales]), R[self._places]])
        low = np.tril_indices(self.width)

        def misfit(at: Array) -> tuple[Array, Array]:
            gap = (self.covariance(at) - Psi)[low]
            return gap, self.covariance_slopes(at)[:, low[0], low[1]]

        return self.canonical(least_squares(misfit, start))


def least_squares(misfit: Callable[[Array], tuple[Array, Array]], x: Array) -> Array:
    """Levenberg-Marquardt steps of bounded length from ``x`` (K,).

    ``misfit`` gives residuals (m,) and their derivatives (K, m). For start values and exact
    inverses of small maps, not for estimation.
    """
    r, J = misfit(x)
    damping, longest = 1e-3, 0.7 * max(1.0, float(np.abs(x).max(initial=0.0)))
    for _ in range(80):
        A = J @ J.T
        ridge = damping * np.diag(np.diag(A) + 1e-8 * (1.0 + float(np.trace(A))))
        step = np.clip(-np.linalg.solve(A + ridge, J @ r), -longest, longest)
        trial = x + step
        r_new, J_new = misfit(trial)
        if float(np.abs(step).max(initial=0.0)) < 1e-12:
            break
        if r_new @ r_new < r @ r:
            x, r, J, damping = trial, r_new, J_new, max(damping / 10.0, 1e-14)
        else:
            damping *= 4.0
            if damping > 1e10:
                break
    return x
