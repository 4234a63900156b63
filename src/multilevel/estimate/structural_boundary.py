"""Estimates within what a population can have: variances of zero, correlations of one.

Where the likelihood is highest at a negative variance or an impossible correlation, the covariance
matrix is written ``S = L L'`` and the criterion is minimised in L: first with L square, from
inside; then, where S turns out to have rank r, with the r columns that are left. There the point
is an optimum if the gradient vanishes along the matrices of rank r and if no variance in a
direction in which S is zero would raise the likelihood: ``N'(dF/dS)N`` positive semidefinite, N
spanning these directions (first-order condition on the cone of covariance matrices; Shapiro 1988).
Standard errors are those of the parameters that are left, given the boundary (as for singular mixed
models).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.structural import (
    Boundary,
    StructuralFit,
    StructuralProblem,
    fit_model,
    fit_structural,
)
from multilevel.estimate.structural_bound_words import ZERO, bound_certificate, bound_sentences
from multilevel.estimate.structural_cone_fit import fit_in_cone
from multilevel.estimate.structural_roots import Root, RootMap, pivoted_root
from multilevel.estimate.structural_start import start_values
from multilevel.estimate.trust_region import Path, minimise
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.model.structural.boundary import CovarianceBlock, covariance_blocks

Array = NDArray[np.float64]
_STEP = 1e-30
_TOLERANCE = 1e-10
_MOST = 300
_FLOORS = (0.02, 0.3)  # smallest eigenvalue of the start, as a share of the variances
_FREE = 10  # iterations without bounds, above the second level


def fit_admissible(problem: StructuralProblem) -> StructuralFit:
    """Estimate without bounds, and within them where that ends at an impossible point.

    Where bounds cannot be kept, the fit without them comes back as it is.

    Raises
    ------
    EstimationError : as ``fit_model``.
    """
    model = problem.design.model
    free: StructuralFit | None = None
    if not (model.higher and model.random_slopes):
        # three levels see little of each slope variance: the way without bounds is long
        free = _without_bounds(problem)
        if free is not None and free.certificate.is_certified and is_inside(problem, free):
            return free
    start = free if free is not None and free.certificate.is_certified else None
    for method in (fit_within_bounds, fit_in_cone) if model.random_slopes else (fit_in_cone,):
        try:
            held = method(problem, start)
        except (EstimationError, LikelihoodError):
            continue
        if held.certificate.is_certified and is_inside(problem, held):
            return held
    return fit_model(problem)


def _without_bounds(problem: StructuralProblem) -> StructuralFit | None:
    """A first attempt, short where bounds may be what is missing."""
    model = problem.design.model
    try:
        return fit_structural(problem, model, most=_FREE if model.higher else None)
    except EstimationError as error:
        if not isinstance(error.__cause__, LikelihoodError):
            raise
        return None


def is_inside(problem: StructuralProblem, fit: StructuralFit) -> bool:
    """Whether all covariance matrices are positive semidefinite."""
    objective = problem.objective(fit.model)
    for g in range(len(fit.model.groups)):
        for at in objective.implied(fit.theta, g).values():
            if not len(at.S):
                continue
            size = np.diag(at.S)
            unit = np.sqrt(np.where(size > 0.0, size, 1.0))
            if size.min() < 0.0 or np.linalg.eigvalsh(at.S / np.outer(unit, unit))[0] < -1e-8:
                return False
    return True


def fit_within_bounds(
    problem: StructuralProblem, fit: StructuralFit | None = None
) -> StructuralFit:
    """Maximum likelihood with covariance matrices that a population can have.

    Parameters
    ----------
    fit : the fit without bounds, as a start; None starts from the moments of the data.

    Raises
    ------
    EstimationError : covariances that are shared or partly fixed, so that the bound cannot be kept;
        a likelihood without a maximum.
    """
    model = problem.design.model
    levels = [level for level in model.levels if level != "within"]
    blocks, refused = covariance_blocks(model, levels)
    inside = {n for names in refused for n in names}
    if inside & set(model.slope_names) or not blocks:
        raise EstimationError(
            "Variances and covariances of random slopes are held within bounds where they are all"
            " free, each on its own.",
            "labels that they share, or covariances fixed at 0, among "
            + ", ".join(sorted(inside) or model.slope_names),
            "free these covariances, or make a random slope fixed",
        )
    objective = problem.objective(model)
    starts = [start_values(model, list(problem.moments))]
    if fit is not None:
        starts.insert(0, fit.theta)
    found: list[tuple[RootMap, Path, Array]] = []
    for theta in starts:
        roots = tuple(
            Root(b, tuple(range(len(b.names))), len(b.names), _unit(problem, b, theta))
            for b in blocks
        )
        found += [p for p in (_from(objective, roots, theta, floor) for floor in _FLOORS) if p]
        if any(path.converged for _, path, _ in found):
            break
    if not found:
        raise EstimationError(
            "The likelihood must exist at the start values.", "it does not, inside the bounds",
            "give start values, like start(0.5)*x",
        )  # fmt: skip
    best = min(found, key=lambda pair: pair[1].value)
    return _finish(problem, objective, *best)


def _unit(problem: StructuralProblem, block: CovarianceBlock, theta: Array) -> Array:
    """(k,) the size of each variable of a block that no estimate changes.

    Standard deviations of the data; for a random slope the ratio of those of outcome and predictor
    within clusters; for latent variables the start's.
    """
    moments = problem.moments[block.group]
    sd: dict[str, float] = {}
    for level in ("within", block.level):
        own = moments[level]
        for name, variance in zip(own.names, np.diag(own.cov), strict=True):
            sd[name] = float(np.hypot(sd.get(name, 0.0), np.sqrt(max(float(variance), 0.0))))
    for slope in problem.design.model.random_slopes:
        sd[slope.name] = sd[slope.outcome] / max(sd[slope.predictor], 1e-300)
    out = []
    for name in block.names:
        size = np.sqrt(abs(float(theta[block.free[name, name]])))
        out.append(sd.get(name, max(size, 1e-3)))
    return np.asarray(np.maximum(np.array(out), 1e-150))


def _from(
    objective: StructuralObjective, roots: tuple[Root, ...], theta: Array, floor: float
) -> tuple[RootMap, Path, Array] | None:
    """Minimise with square roots L from a point inside; None if the likelihood does not exist."""
    factors = []
    for root in roots:
        values, vectors = np.linalg.eigh(root.matrix(theta))
        raised = (vectors * np.maximum(values, floor)) @ vectors.T
        factors.append(root.unit[:, None] * np.linalg.cholesky(raised))
    mapped = RootMap(len(theta), roots)
    return _minimise(objective, mapped, mapped.phi(theta, factors))


def _minimise(
    objective: StructuralObjective, mapped: RootMap, phi: Array
) -> tuple[RootMap, Path, Array] | None:
    """Newton steps in phi, in units of its standard errors at the start."""

    def gradient(at: NDArray[Any]) -> NDArray[Any]:
        slope = objective.gradient(mapped.theta(at))
        out = np.zeros(mapped.size, dtype=slope.dtype)
        out[: len(mapped.outside)] = slope[mapped.outside]
        start = len(mapped.outside)
        for root, L in mapped.factors(at):
            M = 0.5 * slope[root.places] * (1.0 + np.eye(len(root.order)))
            back = 2.0 * M @ L
            for a, b in root.entries:
                out[start] = back[a, b]
                start += 1
        return np.asarray(out)

    def hessian(at: Array) -> Array:
        out = np.zeros((mapped.size, mapped.size))
        for a in range(mapped.size):
            moved = at.astype(np.complex128)
            moved[a] += 1j * _STEP
            out[a] = np.imag(gradient(moved)) / _STEP
        return np.asarray(0.5 * (out + out.T))

    try:
        start = objective.value(np.asarray(mapped.theta(phi), dtype=np.float64))
    except LikelihoodError:
        return None
    curve = np.abs(np.diag(hessian(phi)))
    scale = 1.0 / np.sqrt(np.maximum(curve, 1e-8 * float(curve.max())))

    def derivatives(at: Array) -> tuple[Array, Array]:
        slope = np.asarray(gradient(at * scale), dtype=np.float64)
        return slope * scale, hessian(at * scale) * np.outer(scale, scale)

    path = minimise(
        lambda at: objective.value(np.asarray(mapped.theta(at * scale), dtype=np.float64)),
        derivatives,
        phi / scale,
        tolerance=max(_TOLERANCE, 1e-15 * abs(start)),
        max_iterations=_MOST,
        noise=lambda: 0.0,
        start_value=start,
    )
    return mapped, path, scale


def _reduced(mapped: RootMap, phi: Array) -> tuple[RootMap, Array]:
    """The same point with roots of the rank that the matrices have."""
    theta = np.asarray(mapped.theta(phi), dtype=np.float64)
    roots, factors = [], []
    for root in mapped.roots:
        order, L = pivoted_root(root.matrix(theta), ZERO)
        roots.append(replace(root, order=order, rank=L.shape[1]))
        factors.append(root.unit[list(order)][:, None] * L)
    out = RootMap(mapped.n_free, tuple(roots))
    return out, out.phi(theta, factors)


def _finish(
    problem: StructuralProblem,
    objective: StructuralObjective,
    mapped: RootMap,
    path: Path,
    scale: Array,
) -> StructuralFit:
    """Polish at the rank that was found, certify, and put what happened into words."""
    iterations, history = path.iterations, list(path.history)
    smaller, phi = _reduced(mapped, path.theta * scale)
    again = _minimise(objective, smaller, phi)
    if again is not None:
        mapped, path, scale = again
        iterations, history = iterations + path.iterations, history + path.history
    phi = path.theta * scale
    theta = np.asarray(mapped.theta(phi), dtype=np.float64)
    sentences = tuple(
        sentence
        for root in mapped.roots
        for sentence in bound_sentences(
            problem.design.model, root.block.level, root.block.group, root.block.names,
            root.matrix(theta), len(root.order) - root.rank,
        )
    )  # fmt: skip
    residual = _residual(objective, mapped, theta)
    certificate = bound_certificate(
        path.decrement, path.gradient, path.curvature, residual, iterations,
        objective.n_evaluations, history, is_boundary=bool(sentences), restarts=len(_FLOORS) - 1,
    )  # fmt: skip
    hessian = path.curvature / np.outer(scale, scale)
    boundary = Boundary(mapped.tangent(phi), hessian, sentences) if sentences else None
    units = problem.design.n_independent
    out = StructuralFit(problem.design.model, theta, path.value, problem.design.n_rows, units,
                        certificate, None)  # fmt: skip
    return replace(out, boundary=boundary)


def _residual(objective: StructuralObjective, mapped: RootMap, theta: Array) -> float:
    """Smallest eigenvalue of ``N'(dF/dS)N``, scaled by the variances; NaN inside."""
    slope = np.asarray(objective.gradient(theta), dtype=np.float64)
    worst = np.nan
    for root in mapped.roots:
        values, vectors = np.linalg.eigh(root.matrix(theta))
        N = vectors[:, values <= ZERO] * root.unit[:, None]
        if not N.shape[1]:
            continue
        names = root.block.names
        places = np.array([[root.block.free[a, b] for b in names] for a in names], dtype=np.intp)
        M = 0.5 * slope[places] * (1.0 + np.eye(len(names)))
        worst = float(np.fmin(worst, np.linalg.eigvalsh(N.T @ M @ N).min()))
    return worst
