"""Solve a prepared problem: start, Newton, boundary, certificate, one frozen Fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError
from multilevel.estimate.boundary import escape, gain, null_directions, snap
from multilevel.estimate.certificate import Account, certify
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Certificate, Fit
from multilevel.estimate.start import em_step, moment_start
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.gaussian.engine import SamplingEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.related.engine import RelatedEngine

Array = NDArray[np.float64]
Progress = Callable[[int, float], None]

TOLERANCE = 1e-9  # Newton decrement, in units of -2 log-likelihood
DEAR_SECONDS = 0.3
VERIFIED_TOLERANCE = 5e-7  # where each evaluation is dear: a step this small is not worth taking
ESCAPE_GAIN = 1e-7
DIFFERENCED_BELOW = 2e-3  # seconds per evaluation up to which the Hessian is differenced
ALWAYS_DIFFERENCED = 1e-3  # seconds per Hessian up to which it is differenced in any case
EM_STEPS = 2
NOISE_LIMIT, FINAL_PROBES = 0.02, 200  # iterative engine: when and how its last value is sharpened
AI_STEPS = 8  # average-information steps before a cheap problem changes to differences


@dataclass(frozen=True)
class Solution:
    """The optimum in scaled parameters, before it is written in the user's units."""

    theta: Array
    path: Path
    certificate: Certificate
    objective: GaussianObjective


class _Solver:
    """One run from start values to a certified optimum."""

    def __init__(self, prepared: Prepared, max_iterations: int, progress: Progress | None) -> None:
        self.prepared = prepared
        self.objective = prepared.objective()
        self.max_iterations, self.progress = max_iterations, progress
        self.account = Account()
        self.engine = self.objective.engine
        self.sampling = self.engine if isinstance(self.engine, SamplingEngine) else None
        couples = isinstance(self.engine, RelatedEngine)
        self.single = len(self.objective.maps) == 1 and not couples
        cheap = prepared.engine_plan.seconds < DIFFERENCED_BELOW
        self.curvature_kind = "exact" if self.single else "average information"
        self.refine = not self.single and cheap and self.engine.exact
        self.tolerance = 1e-11 if cheap else TOLERANCE
        if prepared.engine_plan.warm_start is not None:
            dear = prepared.engine_plan.seconds > DEAR_SECONDS
            self.tolerance = VERIFIED_TOLERANCE if dear else TOLERANCE

    def noise(self) -> float:
        """Standard error of the criterion."""
        return 0.0 if self.sampling is None else self.sampling.logdet_error

    def derivatives(self, theta: Array) -> tuple[Array, Array]:
        """Gradient and curvature at ``theta``, where the objective was last set."""
        self.objective.ensure(theta)
        gradient = self.objective.gradient()
        if self.single:
            return gradient, self.objective.exact_hessian()
        return gradient, self.objective.average_information()

    def differenced(self, theta: Array) -> tuple[Array, Array]:
        """Gradient and differenced Hessian (for cheap problems)."""
        H = self.objective.differenced_hessian(theta)
        return self.objective.gradient(), H

    def start(self, theta_start: Array | None) -> tuple[Array, float]:
        """Start values and the criterion there."""
        if theta_start is not None:
            theta = np.asarray(theta_start, dtype=np.float64).copy()
            if theta.shape != (self.objective.n_parameters,):
                raise EstimationError(
                    "Start values must have one entry per covariance parameter.",
                    f"shape {theta.shape} for {self.objective.n_parameters} parameters",
                    "pass fit.theta of a fit of the same model",
                )
            theta[np.abs(theta) < 1e-3] = 1e-3  # a zero would hide its own gradient
            return theta, self.objective.value(theta)
        theta = moment_start(self.prepared)
        value = self.objective.value(theta)
        if self.single:
            for _ in range(EM_STEPS):
                theta = em_step(self.objective, theta)
                value = self.objective.value(theta)
        return theta, value

    def descend(self, theta: Array, value: float) -> Path:
        """Newton from a point that is set; refined by the differenced Hessian where cheap."""
        if not self.refine:
            return self._minimise(
                theta, value, self.derivatives, self.tolerance, self.max_iterations
            )
        tiny = 2 * len(theta) * self.prepared.engine_plan.seconds < ALWAYS_DIFFERENCED
        aim, steps = (1e-2, AI_STEPS) if tiny else (self.tolerance, 2 * AI_STEPS)
        near = self._minimise(theta, value, self.derivatives, aim, steps)
        if near.converged and not tiny:
            return near
        self.curvature_kind = "differenced gradient"
        value = self.objective.value(near.theta)
        return self._minimise(
            near.theta, value, self.differenced, self.tolerance, self.max_iterations
        )

    def _minimise(
        self,
        theta: Array,
        value: float,
        derivatives: Callable[[Array], tuple[Array, Array]],
        tolerance: float,
        max_iterations: int,
    ) -> Path:
        path = minimise(
            self.objective.value,
            derivatives,
            theta,
            tolerance=tolerance,
            max_iterations=max_iterations,
            noise=self.noise,
            start_value=value,
            on_step=self.progress,
        )
        self.account.iterations += path.iterations
        self.account.history += path.history
        return path

    def at_boundary(self, path: Path) -> tuple[Path, bool]:
        """Set near-zero factors to exact zeros if that costs nothing; else keep the path."""
        snapped = snap(self.objective, path.theta)
        if np.array_equal(snapped, path.theta):
            return path, False
        value = self.objective.value(snapped)
        if value <= path.value + max(1e-8, 1e-13 * abs(path.value)) + 3.0 * self.noise():
            gradient, H = self.differenced(snapped) if self.refine else self.derivatives(snapped)
            decrement = newton_decrement(gradient, H)
            path = Path(snapped, value, gradient, H, decrement, 0, path.converged, path.reason, [])
            return path, True
        self.objective.value(path.theta)
        return path, False

    def _sharpen(self, path: Path) -> None:
        """Evaluate once more with many probes where the criterion is too noisy."""
        if self.sampling is not None and self.noise() > NOISE_LIMIT:
            before = self.noise()
            done = self.engine.n_evaluations
            self.sampling = self.sampling.with_probes(FINAL_PROBES)
            self.sampling.n_evaluations = done
            self.engine = self.objective.engine = self.sampling
            path.value = self.objective.value(path.theta)
            self.account.notes.append(
                f"The criterion is estimated by {FINAL_PROBES} random probes: its standard error "
                f"fell from {before:.2g} to {self.noise():.2g}."
            )

    def run(self, theta_start: Array | None) -> Solution:
        """Start, descend, prove or leave the boundary, certify."""
        theta, value = self.start(theta_start)
        path = self.descend(theta, value)
        directions = []
        for _ in range(6):
            path, _ = self.at_boundary(path)
            directions = null_directions(self.objective, path.theta)
            gains = [gain(self.objective, d) for d in directions]
            if not gains or max(g[1] for g in gains) <= ESCAPE_GAIN:
                break
            worst = directions[int(np.argmax([g[1] for g in gains]))]
            theta = escape(self.objective, path.theta, worst)
            value = self.objective.value(theta)
            self.account.restarts += 1
            path = self.descend(theta, value)
        self._sharpen(path)
        certificate = certify(
            self.prepared,
            self.objective,
            path,
            directions,
            self.account,
            self.curvature_kind,
            self.noise(),
        )
        return Solution(path.theta, path, certificate, self.objective)


def optimise(
    prepared: Prepared,
    *,
    theta_start: Array | None = None,
    max_iterations: int = 100,
    progress: Progress | None = None,
) -> Solution:
    """Find the optimum of a prepared problem in scaled parameters."""
    warm = prepared.engine_plan.warm_start
    if theta_start is None and warm is not None:
        rough = replace(prepared, engine_plan=warm)
        theta_start = _Solver(rough, max_iterations, progress).run(None).theta
    return _Solver(prepared, max_iterations, progress).run(theta_start)


def solve(
    prepared: Prepared,
    *,
    theta_start: Array | None = None,
    max_iterations: int = 100,
    progress: Progress | None = None,
) -> Fit:
    """Fit a prepared problem.

    Parameters
    ----------
    prepared : from ``prepare`` or ``with_response``.
    theta_start : (r,) start values on the scaled problem (``fit.theta`` of a like fit).
    max_iterations : Newton iterations per descent.
    progress : told the iteration and the criterion (scaled problem) after each step.

    Returns
    -------
    Fit in the user's units.

    Raises
    ------
    LikelihoodError : the likelihood cannot be evaluated (saturated model, dependent columns).
    """
    began = time.perf_counter()
    with blas_threads(prepared.engine_plan.order):
        solution = optimise(
            prepared, theta_start=theta_start, max_iterations=max_iterations, progress=progress
        )
    fit = in_user_units(prepared, solution)
    fit.seconds["estimation"] = time.perf_counter() - began
    return fit


def _canonical(prepared: Prepared, theta: Array) -> Array:
    """Signs of theta chosen so that diagonals of the factors are not negative."""
    out, at = theta.copy(), 0
    for block in prepared.design.blocks:
        pieces = zip(block.structure.terms, block.structure.parameter_slices(), strict=True)
        for number, ((start, stop, structure), s) in enumerate(pieces):
            where = slice(at + s.start, at + s.stop)
            curve = block.structure.curve(number)
            if curve is not None:
                out[where] = curve.canonical(out[where])
            elif structure == "unstructured":
                q = stop - start
                L = np.zeros((q, q))
                L[np.tril_indices(q)] = out[where]
                L = L * np.where(np.diag(L) < 0.0, -1.0, 1.0)
                out[where] = L[np.tril_indices(q)]
            else:
                out[where] = np.abs(out[where])
        at += block.structure.n_parameters
    return out


def in_user_units(prepared: Prepared, solution: Solution) -> Fit:
    """Write a solution of the scaled problem in the user's units."""
    scaling, cross = prepared.scaling, prepared.cross
    profile = solution.objective.profile
    if profile is None:
        raise EstimationError("A solution must have been evaluated.", "none", "call optimise first")
    p, reml = cross.n_fixed, prepared.method == "reml"
    inverse = np.linalg.solve(profile.R, np.eye(p)) if p else np.zeros((0, 0))
    sigma2 = profile.sigma2 * scaling.y_scale**2
    shift = scaling.criterion_shift(cross.n, p, reml)
    relative, absolute = [], []
    for B, L in zip(scaling.random, solution.objective.factors, strict=True):
        raw = B @ L
        relative.append(raw)
        covariance = sigma2 * (raw @ raw.T)
        absolute.append((covariance + covariance.T) / 2.0)
    return Fit(
        method=prepared.method,
        n=cross.n,
        n_fixed=p,
        criterion=profile.criterion + shift,
        beta=scaling.beta(profile.beta),
        vcov_beta=scaling.vcov_beta(profile.sigma2 * (inverse @ inverse.T)),
        theta=_canonical(prepared, solution.theta),
        relative_factors=tuple(relative),
        random_covariance=tuple(absolute),
        sigma2=float(sigma2),
        theta_curvature=solution.path.curvature,
        certificate=replace(
            solution.certificate,
            history=tuple(d + shift for d in solution.certificate.history),
        ),
        engine=prepared.engine_plan.name,
        plan=prepared.engine_plan.sentence,
        seconds={},
    )
