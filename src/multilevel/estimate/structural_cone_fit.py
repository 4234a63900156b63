"""Maximum likelihood with covariance matrices that a population can have, of any pattern.

First an interior point method: the criterion less mu times the log determinants, mu falling
(Nocedal & Wright 2006, chapter 19). Then, with N spanning the directions in which S goes to zero,
Newton steps on the Lagrangian of ``N'S(theta)N = 0`` (Overton 1988, SIAM J. Matrix Anal. 9:256):
the curvature of the set of matrices of that rank adds ``2 <L, N'S_a S^+ S_b N>``. The point is an
optimum if the multiplier L is positive semidefinite (Shapiro 1988) and the criterion curves upwards
along what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.certificate import BOUNDARY_LIMIT
from multilevel.estimate.structural import Boundary, StructuralFit, StructuralProblem
from multilevel.estimate.structural_bound_words import (
    ZERO,
    bound_certificate,
    bound_sentences,
    flat_sentence,
)
from multilevel.estimate.structural_cone import ConeBlock, barrier, cone_blocks, moved_inside
from multilevel.estimate.structural_start import start_values
from multilevel.estimate.trust_region import Path, minimise
from multilevel.likelihood.structural.objective import StructuralObjective

Array = NDArray[np.float64]
_WEIGHTS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_POLISH_FROM = 1e-2  # the first weight after which the directions of zero are looked for
_MOST = 40
_STEPS = 25
_TOLERANCE = 1e-10
_EXACT = 1e-13  # share of the variances by which a zero eigenvalue may be missed
_FLAT = 1e-8  # curvature, in units of that of the parameters, below which there is none


@dataclass(frozen=True)
class _Face:
    """Null directions of each block at a point, linearised: what is zero, and what is left.

    ``c`` (r,) entries of N'SN, ``C`` (r, q) their derivatives, ``curve`` (q, q) from multipliers.
    """

    N: tuple[Array, ...]
    c: Array
    C: Array
    multiplier: Array
    least: float
    curve: Array
    rest: float


@dataclass(frozen=True)
class _End:
    """The last point: parameters, tangent (q, m), Hessian in it, decrement, face, flat (q, f)."""

    theta: Array
    value: float
    tangent: Array
    hessian: Array
    gradient: Array
    decrement: float
    face: _Face
    iterations: int
    flat: Array


def fit_in_cone(problem: StructuralProblem, fit: StructuralFit | None = None) -> StructuralFit:
    """Estimate within the bounds (see the module).

    Parameters
    ----------
    fit : the fit without bounds, as a start; None starts from the moments of the data.

    Raises
    ------
    EstimationError : fixed covariances that no matrix has, a likelihood without a maximum, or an
        optimum that is not found.
    """
    model = problem.design.model
    objective = problem.objective(model)
    rough = start_values(model, list(problem.moments))
    blocks = cone_blocks(problem, objective, rough)
    failure: EstimationError | None = None
    for start in [rough] if fit is None else [fit.theta, rough]:
        try:
            end, history = _descend(objective, blocks, moved_inside(blocks, start))
        except EstimationError as error:
            failure = error
            continue
        return _finished(problem, objective, blocks, end, history)
    raise EstimationError(
        "The likelihood must have a maximum within the bounds.",
        failure.found if failure is not None else "none",
        "name fewer relations at the smaller level, or give start values, like start(0.5)*x",
    ) from failure


def _descend(
    objective: StructuralObjective, blocks: tuple[ConeBlock, ...], theta: Array
) -> tuple[_End, list[float]]:
    """Follow the interior path, and leave it for the boundary as soon as that proves optimal."""
    history: list[float] = []
    iterations = 0
    before: list[NDArray[Any]] = []
    for weight in _WEIGHTS:
        try:
            theta, path = _centre(objective, blocks, theta, weight)
        except LikelihoodError as error:
            raise EstimationError(
                "The likelihood must have a maximum.", error.found, "simplify the model"
            ) from error
        iterations += path.iterations
        history += path.history
        values = [np.asarray(np.linalg.eigvalsh(block.matrix(theta))) for block in blocks]
        for ranks in _guesses(values, before, weight):
            end = _polished(objective, blocks, theta, ranks, iterations)
            if end is not None:
                return end, [*history, end.value]
        before = values
    raise EstimationError(
        "The optimum within the bounds must be found.",
        "no set of zero variances proves optimal",
        "simplify the model",
    )


def _guesses(
    values: list[NDArray[Any]], before: list[NDArray[Any]], weight: float
) -> list[list[int]]:
    """How many eigenvalues of each block go to zero: as they are small, and as they fall.

    Near a face an eigenvalue times its multiplier is the weight, so that it falls with the weight.
    """
    if weight > _POLISH_FROM:
        return []
    small = [int(np.sum(own**2 < 0.1 * weight)) for own in values]
    falling = [
        int(np.sum(own < 0.4 * old)) for own, old in zip(values, before, strict=True)
    ]  # fmt: skip
    return [small] if small == falling else [small, falling]


def _centre(
    objective: StructuralObjective, blocks: tuple[ConeBlock, ...], theta: Array, weight: float
) -> tuple[Array, Path]:
    """Minimise the criterion plus ``weight`` times the barrier."""
    curve = objective.hessian(theta) + weight * barrier(blocks, theta, 2)[2]
    size = np.abs(np.diag(curve))
    scale = 1.0 / np.sqrt(np.maximum(size, 1e-10 * float(size.max())))

    def value(phi: Array) -> float:
        at = phi * scale
        inside = barrier(blocks, at)[0]
        return objective.value(at) + weight * inside

    def derivatives(phi: Array) -> tuple[Array, Array]:
        at = phi * scale
        _, slope, bend = barrier(blocks, at, 2)
        g = np.asarray(objective.gradient(at), dtype=np.float64) + weight * slope
        return g * scale, (objective.hessian(at) + weight * bend) * np.outer(scale, scale)

    start = value(theta / scale)
    path = minimise(
        value, derivatives, theta / scale, tolerance=max(0.2 * weight, 1e-9),
        max_iterations=_MOST, noise=lambda: 0.0, start_value=start,
    )  # fmt: skip
    return path.theta * scale, path


def _polished(
    objective: StructuralObjective,
    blocks: tuple[ConeBlock, ...],
    theta: Array,
    ranks: list[int],
    iterations: int,
) -> _End | None:
    """Newton steps where ``ranks`` eigenvalues are zero; None if that is not the optimum."""
    for step in range(_STEPS):
        g = np.asarray(objective.gradient(theta), dtype=np.float64)
        H = objective.hessian(theta)
        face = _face(blocks, theta, ranks, g)
        W = H + face.curve
        size = np.abs(np.diag(W))
        scale = 1.0 / np.sqrt(np.maximum(size, 1e-10 * float(size.max())))
        Z, shift = _split(face.C * scale, face.c)
        scaled = W * np.outer(scale, scale)
        curves, along = np.linalg.eigh(Z.T @ scaled @ Z)
        is_flat = curves <= _FLAT
        if np.any(curves < -1e-6) or (np.any(is_flat) and not len(face.c)):
            return None
        F, Z, curves = Z @ along[:, is_flat], Z @ along[:, ~is_flat], curves[~is_flat]
        slope = Z.T @ (scale * g)
        decrement = float(0.5 * np.sum(slope**2 / curves))
        value = objective.value(theta)
        bar = max(_TOLERANCE, 1e-15 * abs(value))
        if decrement < bar and float(np.abs(face.c).max(initial=0.0)) < _EXACT:
            if face.least < BOUNDARY_LIMIT or face.rest <= 0.0:
                return None
            return _End(theta, value, _clean(Z, scale), np.diag(curves), g, decrement, face,
                        iterations + step, _clean(F, scale))  # fmt: skip
        move = Z @ ((-slope - Z.T @ (scaled @ shift)) / curves)
        moved = _step(objective, blocks, ranks, theta, scale * (move + shift), value)
        if moved is None:
            return None
        theta = moved
    return None


def _clean(Z: Array, scale: Array) -> Array:
    """(q, m) tangent; exactly zero where a parameter is held."""
    Z = np.where(np.abs(Z) < 1e-9, 0.0, Z)
    return np.asarray(scale[:, None] * Z)


def _face(blocks: tuple[ConeBlock, ...], theta: Array, ranks: list[int], g: Array) -> _Face:
    """Null directions, constraints and multipliers at a point near the face."""
    q = len(theta)
    spans, c, rows, corners = [], [], [], []
    rest = np.inf
    parts = []
    for block, r in zip(blocks, ranks, strict=True):
        values, vectors = np.linalg.eigh(block.matrix(theta))
        N, Q, left = vectors[:, :r], vectors[:, r:], values[r:]
        rest = min(rest, float(left.min(initial=np.inf)))
        spans.append(N)
        parts.append((N, Q, left))
        D = block.directions
        small = np.einsum("ki,akl,lj->aij", N, D, N)
        for i in range(r):
            for j in range(i + 1):
                c.append(values[i] if i == j else 0.0)
                row = np.zeros(q)
                row[block.free] = small[:, i, j]
                rows.append(row)
                corners.append(i == j)
    C = np.array(rows).reshape(len(c), q)
    lam: Array = np.zeros(0)
    if len(c):
        lam = np.asarray(np.linalg.lstsq(C.T, g, rcond=1e-10)[0], dtype=np.float64)
    curve, least, at = np.zeros((q, q)), np.nan, 0
    for block, r, (N, Q, left) in zip(blocks, ranks, parts, strict=True):
        if not r:
            continue
        Lam = np.zeros((r, r))
        for i in range(r):
            for j in range(i + 1):
                Lam[i, j] = Lam[j, i] = lam[at] * (1.0 if i == j else 0.5)
                at += 1
        least = float(np.fmin(least, np.linalg.eigvalsh(Lam)[0]))
        if len(left):
            cross = np.einsum("ki,akl,lj->aij", N, block.directions, Q)
            own = 2.0 * np.einsum("aij,j,bkj,ik->ab", cross, 1.0 / left, cross, Lam)
            curve[np.ix_(block.free, block.free)] += own
    return _Face(tuple(spans), np.array(c), C, lam, least, curve, rest)


def _split(C: Array, c: Array) -> tuple[Array, Array]:
    """Null space (q, m) of the constraints, and the shortest step that fulfils them."""
    q = C.shape[1]
    if not len(c):
        return np.eye(q), np.zeros(q)
    U, s, Vt = np.linalg.svd(C)
    rank = int(np.sum(s > 1e-10 * max(float(s.max(initial=0.0)), 1e-300)))
    shift = -Vt[:rank].T @ ((U.T @ c)[:rank] / s[:rank])
    return np.asarray(Vt[rank:].T), np.asarray(shift)


def _step(
    objective: StructuralObjective,
    blocks: tuple[ConeBlock, ...],
    ranks: list[int],
    theta: Array,
    step: Array,
    value: float,
) -> Array | None:
    """The longest of the step's halves that keeps the likelihood and what is not zero."""
    for _ in range(12):
        new = theta + step
        rest = [
            np.linalg.eigvalsh(b.matrix(new))[r:].min(initial=np.inf)
            for b, r in zip(blocks, ranks, strict=True)
        ]
        try:
            if min(rest, default=np.inf) > 0.0 and objective.value(new) < value + 1.0:
                return np.asarray(new)
        except LikelihoodError:
            step = 0.5 * step
            continue
        step = 0.5 * step
    return None


def _finished(
    problem: StructuralProblem,
    objective: StructuralObjective,
    blocks: tuple[ConeBlock, ...],
    end: _End,
    history: list[float],
) -> StructuralFit:
    """Certify, and put what happened into words."""
    model, theta = problem.design.model, end.theta.copy()
    is_boundary = bool(len(end.face.c))
    if is_boundary:
        held = ~np.any(end.tangent != 0.0, axis=1)
        for block in blocks:
            size = np.outer(block.unit, block.unit)
            zero = held[np.maximum(block.place, 0)] & (block.place >= 0)
            zero &= np.abs(block.matrix(theta)) < ZERO
            theta[np.unique(block.place[zero & (size > 0.0)])] = 0.0
            rest = np.diag(block.place)[~np.diag(zero)]
            if np.linalg.eigvalsh(block.matrix(theta))[0] < 0.0:  # rounding of a correlation of one
                inside = rest[rest >= 0]
                theta[inside] += 2.0 * _EXACT * float(block.unit.max()) ** 2
    sentences = tuple(
        sentence
        for block, N in zip(blocks, end.face.N, strict=True)
        for sentence in bound_sentences(
            model, block.level, block.group, block.names, block.matrix(theta), N.shape[1]
        )
    )
    if end.flat.shape[1]:
        sentences = (*sentences, flat_sentence(model, end.flat))
    certificate = bound_certificate(
        end.decrement, end.tangent.T @ end.gradient, end.hessian,
        end.face.least, end.iterations, objective.n_evaluations, history,
        is_boundary=is_boundary,
    )  # fmt: skip
    boundary = Boundary(end.tangent, end.hessian, sentences, end.flat) if is_boundary else None
    return StructuralFit(
        model, theta, objective.value(theta), problem.design.n_rows, problem.design.n_independent,
        certificate, None if is_boundary else objective.hessian(theta), boundary,
    )  # fmt: skip
