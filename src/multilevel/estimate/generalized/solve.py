"""Solve a generalized problem: pooled start, Newton, boundary, certificate, one frozen fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.generalized.boundary import (
    NullDirection,
    best_escape,
    limits,
    redundant,
    snapped,
)
from multilevel.estimate.generalized.certificate import certify
from multilevel.estimate.generalized.curvature import Surface
from multilevel.estimate.generalized.penalty import Penalty, penalty_of
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import Approximation, GeneralizedFit
from multilevel.estimate.generalized.run import Run
from multilevel.estimate.generalized.scale import scaling_matrix
from multilevel.estimate.generalized.separation import check_separation
from multilevel.estimate.generalized.starts import pooled, start_values
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.blocks.threads import blas_threads
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.generalized.problem import GeneralizedProblem

Array = NDArray[np.float64]
Progress = Callable[[int, float], None]
Points = int | tuple[int, ...] | None

TOLERANCE = 1e-9  # Newton decrement, in units of -2 log-likelihood
ESCAPE_GAIN = 1e-6
BOUNDING = ("log", "inverse", "identity", "sqrt")  # links that may leave a predictor out of range
ROUGH = 0.02  # Newton decrement at which a start is good enough
LEAST_GAIN = 1e-7  # of several steps together, below which the surface counts as flat


def search(
    problem: GeneralizedProblem,
    objective: GeneralizedObjective,
    psi: Array,
    penalty: Penalty,
    *,
    max_iterations: int = 100,
    progress: Progress | None = None,
) -> Run:
    """Minimise one objective from ``psi``; prove or leave the boundary.

    Raises
    ------
    EstimationError : no start at which the likelihood exists.
    """
    T = scaling_matrix(problem)
    inverse = np.linalg.inv(T)
    surface = Surface(objective, T, penalty)
    path, history, done = _descend(surface, inverse @ psi, max_iterations, progress)
    run = Run(objective, surface, path, iterations=done, history=history)
    for _ in range(5):
        run.null = []
        flat, null = snapped(problem, T @ run.path.theta)
        if not null:
            break
        if not _accept(run, inverse @ flat, null):
            break
        run.kkt, gained, point = best_escape(surface, problem, flat, null)
        if point is None or gained <= ESCAPE_GAIN:
            break
        surface.forget()
        run.restarts += 1
        path, more, done = _descend(surface, inverse @ point, max_iterations, progress)
        run.path, run.iterations = path, run.iterations + done
        run.history += more
    return run


def _descend(
    surface: Surface, phi: Array, max_iterations: int, progress: Progress | None
) -> tuple[Path, list[float], int]:
    """Newton steps until the decrement, with freshly differenced curvature, is negligible."""
    history: list[float] = []
    done = 0
    for attempt in range(4):
        value = _start(surface, phi)
        path = minimise(
            surface.value,
            surface.derivatives,
            phi,
            tolerance=TOLERANCE,
            max_iterations=max_iterations,
            noise=lambda: 0.0,
            start_value=value,
            on_step=progress,
            least_gain=LEAST_GAIN,
        )
        gain = path.history[0] - path.value
        history += path.history
        done += path.iterations
        path.gradient, path.curvature = surface.final(path.theta)
        path.decrement = newton_decrement(path.gradient, path.curvature)
        is_flat = attempt > 0 and path.decrement < 1e-6 and gain < LEAST_GAIN
        if path.decrement < TOLERANCE or attempt == 3 or is_flat:
            break
        phi = path.theta
        surface.resume()
    path.converged = path.decrement < 1e-6
    return path, history, done


def _existing_start(
    problem: GeneralizedProblem, objective: GeneralizedObjective, psi: Array
) -> Array:
    """``psi``, its random effects made smaller until the likelihood exists.

    Links that bound the predictor (log of a probability, inverse of a mean) may leave no room for
    random effects of the usual size.
    """
    for share in (1.0, 0.3, 0.1, 0.03):
        trial = psi.copy()
        trial[problem.n_fixed :] *= share
        try:
            objective.value(trial)
        except LikelihoodError:
            continue
        return trial
    return psi


def _start(surface: Surface, phi: Array) -> float:
    try:
        return surface.value(phi)
    except LikelihoodError as error:
        raise EstimationError(
            "The likelihood must exist at the start values.",
            f"{error.must} {error.found}",
            "check the response for extreme values; rescale predictors; try a simpler model first",
        ) from error


def _accept(run: Run, phi: Array, null: list[NullDirection]) -> bool:
    """Move to a point on the boundary if that costs nothing."""
    surface, path = run.surface, run.path
    value = surface.value(phi)
    if value > path.value + max(1e-6, 1e-12 * abs(path.value)):
        surface.value(path.theta)
        return False
    surface.forget()
    gradient, H = surface.final(phi)
    decrement = newton_decrement(gradient, H)
    if decrement > 1e-6:
        rest, history, done = _descend(surface, phi, 50, None)
        run.history += history
        run.iterations += done
        run.path = rest
    else:
        run.path = Path(phi, value, gradient, H, decrement, 0, True, path.reason, [])
    run.null = null
    return True


def solve_generalized(
    prepared: GeneralizedPrepared,
    *,
    points: Points = None,
    penalty: str | Sequence[str] | None = None,
    psi_start: Array | None = None,
    modes_start: Sequence[Array] | None = None,
    max_iterations: int = 100,
    progress: Progress | None = None,
    check: bool = True,
) -> GeneralizedFit:
    """Fit a prepared generalized problem by maximum likelihood.

    Parameters
    ----------
    points : quadrature points per dimension; None or 1 for Laplace.
    penalty : names of penalties (``penalty.PENALTIES``), or None.
    psi_start, modes_start : start values (a fit of the same model), or None.
    check : whether separation is looked for before the search.

    Raises
    ------
    EstimationError : separation; a likelihood that does not exist at the start values.
    """
    began = time.perf_counter()
    problem = prepared.problem
    wanted = penalty_of(problem, penalty)
    with blas_threads(0):  # small matrices: a second thread would only be in the way
        psi = _first_point(prepared, wanted, psi_start, check)
        objective = make_objective(problem, points)
    if modes_start is not None:
        objective.set_modes(modes_start)
    elif problem.blocks and prepared.design.family.link in BOUNDING:
        psi = _existing_start(problem, objective, psi)
    with blas_threads(getattr(objective, "order", 0)):
        try:
            run = search(
                problem, objective, psi, wanted, max_iterations=max_iterations, progress=progress
            )
            return finish(prepared, run, wanted, time.perf_counter() - began)
        except LikelihoodError as error:
            raise EstimationError(
                "The likelihood must exist at and around the estimates.",
                f"{error.must} {error.found}",
                "use a simpler random part, or a link that leaves the predictor free (logit or "
                "cloglog for probabilities, log for means)",
            ) from error


def rough_start(
    prepared: GeneralizedPrepared,
    *,
    penalty: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Array, list[Array]]:
    """Parameters (P,) and modes next to the optimum of the Laplace approximation.

    A start for quadrature: the distance left is small beside the one between the two optima, so
    neither the last digits nor the curvature there would be of use.

    Raises
    ------
    EstimationError : as ``solve_generalized``.
    """
    problem = prepared.problem
    wanted = penalty_of(problem, penalty)
    with blas_threads(0):
        psi = _first_point(prepared, wanted, None, True)
        objective = make_objective(problem, 1)
        if problem.blocks and prepared.design.family.link in BOUNDING:
            psi = _existing_start(problem, objective, psi)
        T = scaling_matrix(problem)
        surface = Surface(objective, T, wanted)
        phi = np.linalg.inv(T) @ psi
        path = minimise(
            surface.value, surface.derivatives, phi, tolerance=ROUGH, max_iterations=50,
            noise=lambda: 0.0, start_value=_start(surface, phi), on_step=progress,
            least_gain=LEAST_GAIN,
        )  # fmt: skip
        surface.value(path.theta)
    return T @ path.theta, [modes.copy() for modes in objective.modes()]


def _first_point(
    prepared: GeneralizedPrepared, wanted: Penalty, psi_start: Array | None, check: bool
) -> Array:
    """Start values: the given ones, or from a pooled fit."""
    problem = prepared.problem
    if psi_start is None:
        first = pooled(problem, wanted)
        if check and not wanted.slopes:
            check_separation(prepared, first)
        if not problem.blocks:
            return first.psi
        return start_values(problem, first, prepared.design.family.link)
    psi = np.array(psi_start, dtype=np.float64)
    if psi.shape != (problem.n_parameters,):
        raise EstimationError(
            "Start values must have one entry per parameter.",
            f"shape {psi.shape} for {problem.n_parameters} parameters",
            "pass fit.psi of a fit of the same model",
        )
    return psi


def finish(
    prepared: GeneralizedPrepared, run: Run, penalty: Penalty, seconds: float
) -> GeneralizedFit:
    """The frozen fit of a finished search."""
    problem, T = prepared.problem, run.surface.T
    psi = _signed(problem, T @ run.path.theta)
    inverse = np.linalg.inv(T)
    curvature = inverse.T @ run.path.curvature @ inverse
    gradient = inverse.T @ run.path.gradient
    at_limit = limits(prepared.design, problem, psi, gradient, curvature)
    if not np.array_equal(psi, T @ run.path.theta):
        run.surface.value(inverse @ psi)
    factors = tuple(problem.factors(psi))
    objective = run.objective
    certificate = certify(run, at_limit, redundant(prepared.design, run.null))
    return GeneralizedFit(
        n=problem.n,
        criterion=run.path.value - penalty.value(run.path.theta),
        psi=psi,
        vcov=_covariance(run.path.curvature, T, list(at_limit)),
        fixed_slices=tuple(problem.fixed_slices),
        relative_factors=factors,
        random_covariance=tuple(L @ L.T for L in factors),
        modes=tuple(m.copy() for m in objective.modes()),
        curvature=curvature,
        at_limit=at_limit,
        certificate=certificate,
        approximation=Approximation(objective.method, objective.points),
        penalty=penalty.name,
        plan=objective.plan,
        seconds={"estimation": seconds},
        frequency_total=_total(prepared.design.frequency_weights),
    )


def _total(weights: Array | None) -> float | None:
    return None if weights is None else float(weights.sum())


def _signed(problem: GeneralizedProblem, psi: Array) -> Array:
    """The same model with non-negative diagonals of its factors."""
    out = psi.copy()
    for block, s in zip(problem.blocks, problem.theta_slices, strict=True):
        theta = out[s]
        pieces = zip(block.structure.terms, block.structure.parameter_slices(), strict=True)
        for number, ((start, stop, structure), local) in enumerate(pieces):
            curve = block.structure.curve(number)
            if curve is not None:
                theta[local] = curve.canonical(theta[local])
            elif structure == "unstructured":
                width = stop - start
                L = np.zeros((width, width))
                L[np.tril_indices(width)] = theta[local]
                L = L * np.where(np.diag(L) < 0.0, -1.0, 1.0)
                theta[local] = L[np.tril_indices(width)]
            else:
                theta[local] = np.abs(theta[local])
        out[s] = theta
    return out


def _covariance(curvature: Array, T: Array, fixed: list[int]) -> Array:
    """``2 H^-1`` in user units, without the parameters at a limit and flat directions."""
    free = np.setdiff1d(np.arange(len(T)), fixed)
    H = curvature[np.ix_(free, free)]
    size = np.sqrt(np.where(np.diag(H) > 1e-100, np.diag(H), 1.0))  # flat ones keep their units
    values, vectors = np.linalg.eigh(H / np.outer(size, size))
    good = values > 1e-10
    half = vectors[:, good] / np.sqrt(values[good])
    inverse = 2.0 * (half @ half.T) / np.outer(size, size)
    out = np.zeros_like(T)
    out[np.ix_(free, free)] = inverse
    found = T @ out @ T.T
    return np.asarray((found + found.T) / 2.0)
