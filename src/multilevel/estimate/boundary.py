"""The boundary of the covariance parameters: exact zeros, first-order proof, escape.

``dd/dLambda = 2 Q Lambda`` vanishes in every null direction of Lambda, so a zero gradient proves
nothing there. The proof is ``N'QN >= 0`` on the null space N (Karush-Kuhn-Tucker on the cone of
covariance matrices); where it fails, adding ``t vv'`` to Psi lowers the criterion.
Source: own derivation; Stram & Lee 1994 for the cone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.model.covariance.structures import lower_factor, triangular

Array = NDArray[np.float64]
RELATIVE_NULL = 1e-4


@dataclass(frozen=True)
class NullDirection:
    """A direction of zero variance.

    Attributes
    ----------
    block, start, stop : columns ``start:stop`` of block ``block``.
    weights : (stop - start, k) orthonormal columns spanning the direction.
    parameters : the entries of theta that are zero there (empty for unstructured terms).
    score : smallest eigenvalue of the score on it; >= 0 proves the boundary.
    """

    block: int
    start: int
    stop: int
    weights: Array
    parameters: tuple[int, ...]
    score: float


def _floor(objective: GaussianObjective, block: int, start: int, stop: int) -> Array:
    """Per column, the relative SD that the data could not tell from zero."""
    own = objective.engine.information_sum(block)
    J = max(objective.residual_scores()[block].shape[0], 1)
    mean = np.maximum(np.diag(own)[start:stop] / J, 1e-12)
    return np.asarray(RELATIVE_NULL * np.minimum(1.0, 1.0 / np.sqrt(mean)))


def snap(objective: GaussianObjective, theta: Array) -> Array:
    """``theta`` with factors that are zero within ``RELATIVE_NULL`` set to exact zeros."""
    out = theta.copy()
    for t, mapping in enumerate(objective.maps):
        base = objective.slices[t].start
        L = mapping.factor(theta[objective.slices[t]])
        for number, ((start, stop, structure), s) in enumerate(
            zip(mapping.terms, mapping.parameter_slices(), strict=True)
        ):
            floor = _floor(objective, t, start, stop)
            where = slice(base + s.start, base + s.stop)
            curve = mapping.curve(number)
            if curve is not None:
                signed = slice(where.start, where.start + curve.signed)
                values = out[signed]
                out[signed] = np.where(np.abs(values) < floor.min(), 0.0, values)
            elif structure == "unstructured":
                local = L[start:stop, start:stop] / floor[:, None]
                left, singular, right = np.linalg.svd(local)
                limit = max(1.0, RELATIVE_NULL * float(singular[0]))
                if singular[-1] < limit:
                    kept = np.where(singular < limit, 0.0, singular)
                    half = (left * kept) @ right * floor[:, None]
                    lower = triangular(half)
                    out[where] = lower[np.tril_indices(stop - start)]
            else:
                values = out[where]
                limits = floor if structure == "diagonal" else np.full(len(values), floor.min())
                out[where] = np.where(np.abs(values) < limits, 0.0, values)
    return out


def null_directions(objective: GaussianObjective, theta: Array) -> list[NullDirection]:
    """Directions of zero variance at ``theta`` (which must be set), with their scores."""
    found = []
    scores = objective.scores()
    for t, mapping in enumerate(objective.maps):
        base = objective.slices[t].start
        L = objective.factors[t]
        for number, ((start, stop, structure), s) in enumerate(
            zip(mapping.terms, mapping.parameter_slices(), strict=True)
        ):
            Q = scores[t][start:stop, start:stop]
            curve = mapping.curve(number)
            if structure == "unstructured":
                left, singular, _ = np.linalg.svd(L[start:stop, start:stop])
                N = left[:, singular <= 1e-9 * max(float(singular[0]), 1e-9)]
                if N.shape[1]:
                    values, vectors = np.linalg.eigh(N.T @ Q @ N)
                    found.append(NullDirection(t, start, stop, N @ vectors, (), float(values[0])))
                continue
            local = theta[base + s.start : base + s.stop]
            if curve is not None:
                zeros = curve.variances_at_zero(local)
            else:
                own = mapping.basis[s][:, start:stop, start:stop]
                zeros = [(int(a), own[a] @ own[a].T) for a in np.flatnonzero(local == 0.0)]
            for a, P in zeros:
                weights = np.linalg.svd(P)[0][:, : int(np.linalg.matrix_rank(P))]
                score = float(np.sum(Q * P)) / max(float(np.trace(P)), 1.0)
                at = (base + s.start + a,)
                found.append(NullDirection(t, start, stop, weights, at, score))
    return found


def scaled_score(objective: GaussianObjective, direction: NullDirection) -> float:
    """The score relative to its own expected size, so that rounding is about 1e-10."""
    information = objective.engine.information_sum(direction.block)
    w = direction.weights[:, 0]
    local = information[direction.start : direction.stop, direction.start : direction.stop]
    return direction.score / max(float(w @ local @ w), 1e-300)


def gain(objective: GaussianObjective, direction: NullDirection) -> tuple[float, float]:
    """``(step t, predicted fall)`` of adding ``t vv'`` to Psi along the direction."""
    g = objective.residual_scores()
    t, v = direction.block, np.zeros(objective.maps[direction.block].width)
    v[direction.start : direction.stop] = direction.weights[:, 0]
    C = [np.zeros((*x.shape, 1)) for x in g]
    C[t][:, :, 0] = (g[t] @ v)[:, None] * v
    GC = objective.engine.information_product(C)[t][:, :, 0]
    profile = objective.profile
    sigma2 = profile.sigma2 if profile is not None else 1.0
    curvature = float(np.sum(C[t][:, :, 0] * GC)) / sigma2
    if direction.score >= 0.0 or curvature <= 0.0:
        return 0.0, 0.0
    return -direction.score / curvature, direction.score**2 / (2.0 * curvature)


def escape(objective: GaussianObjective, theta: Array, direction: NullDirection) -> Array:
    """``theta`` after the step that the score asks for along a null direction."""
    step, _ = gain(objective, direction)
    out = theta.copy()
    if direction.parameters:
        out[list(direction.parameters)] = np.sqrt(step)
        return out
    s = objective.slices[direction.block]
    mapping = objective.maps[direction.block]
    for (start, stop, _), p in zip(mapping.terms, mapping.parameter_slices(), strict=True):
        if start == direction.start:
            L = objective.factors[direction.block][start:stop, start:stop]
            v = direction.weights[:, :1]
            lower = lower_factor(L @ L.T + step * (v @ v.T))
            out[s.start + p.start : s.start + p.stop] = lower[np.tril_indices(stop - start)]
    return out
