"""The boundary of generalized models: zero variances, and parts that run to a limit.

A variance in some direction is zero at the optimum if no small variance in that direction raises
the likelihood. The criterion is even in the factor across the boundary, so this is looked at
directly: by values at a small positive standard deviation (no derivative needs to exist).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import LikelihoodError
from multilevel.estimate.generalized.curvature import Surface
from multilevel.estimate.generalized.scale import column_scaling
from multilevel.estimate.records import RedundantDirection
from multilevel.likelihood.generalized.problem import EffectBlock, GeneralizedProblem

Array = NDArray[np.float64]

SMALL_SD = 2e-2  # scaled standard deviation below which a direction may be a null direction
TRIAL_SD = 3e-2  # scaled standard deviation at which a null direction is tried
LIMIT_ETA = {"log": -9.0, "logit": -9.0}  # predictors of parts below which they count as a limit
UNKNOWN = 1e-3  # curvature below which a predictor's standard error exceeds about 45 of its units
LOW_ETA = -5.0  # below it too, if the data say next to nothing about the predictor:
LITTLE = 0.02  # curvature of the criterion, a standard error above 10
FLAT = 1e-3  # fall of the criterion per unit of a predictor at its limit


@dataclass(frozen=True)
class NullDirection:
    """A unit vector over one block's columns along which the variance is zero (scaled columns)."""

    block: int
    term: int
    weights: Array


def column_sizes(block: EffectBlock) -> Array:
    """Root mean squares of the columns."""
    size = np.sqrt(np.mean(block.columns**2, axis=0))
    return np.where(size > 0.0, size, 1.0)


def snapped(problem: GeneralizedProblem, psi: Array) -> tuple[Array, list[NullDirection]]:
    """``psi`` with near-zero directions of every term set to exact zeros, and these directions."""
    out = psi.copy()
    null: list[NullDirection] = []
    for t, (block, where) in enumerate(zip(problem.blocks, problem.theta_slices, strict=True)):
        sizes = column_sizes(block)
        theta = out[where]
        pieces = zip(block.structure.terms, block.structure.parameter_slices(), strict=True)
        for number, ((start, stop, structure), local) in enumerate(pieces):
            width = stop - start
            curve = block.structure.curve(number)
            if curve is not None:
                size = float(np.sqrt(np.mean(sizes[start:stop] ** 2)))
                values = theta[local]
                for k in np.flatnonzero(np.abs(values[: curve.signed]) * size < SMALL_SD):
                    values[k] = 0.0
                    null.append(NullDirection(t, number, np.eye(len(values))[k]))
                theta[local] = values
            elif structure == "unstructured":
                L = np.zeros((width, width))
                L[np.tril_indices(width)] = theta[local]
                U, d, Vt = np.linalg.svd(sizes[start:stop, None] * L)
                low = d < SMALL_SD
                if low.any():
                    kept = (U * np.where(low, 0.0, d)) @ Vt
                    lower = _lower(kept / sizes[start:stop, None])
                    theta[local] = lower[np.tril_indices(width)]
                    null += [NullDirection(t, number, U[:, a]) for a in np.flatnonzero(low)]
            else:
                scale = float(np.sqrt(np.mean(sizes[start:stop] ** 2)))
                values = theta[local]
                for a in range(len(values)):
                    size = sizes[start + a] if structure == "diagonal" else scale
                    if abs(values[a]) * size < SMALL_SD:
                        values[a] = 0.0
                        null.append(NullDirection(t, number, np.eye(len(values))[a]))
                theta[local] = values
        out[where] = theta
    return out, null


def _lower(factor: Array) -> Array:
    """Lower-triangular factor of ``FF'``."""
    R = np.linalg.qr(factor.T)[1]
    return np.asarray(np.tril((R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]).T))


def tried(problem: GeneralizedProblem, psi: Array, direction: NullDirection, sd: float) -> Array:
    """``psi`` with standard deviation ``sd`` (scaled) added along a null direction."""
    block = problem.blocks[direction.block]
    where = problem.theta_slices[direction.block]
    start, stop, structure = block.structure.terms[direction.term]
    local = block.structure.parameter_slices()[direction.term]
    out = psi.copy()
    theta = out[where]
    sizes = column_sizes(block)[start:stop]
    if structure == "unstructured":
        width = stop - start
        L = np.zeros((width, width))
        L[np.tril_indices(width)] = theta[local]
        added = np.column_stack([L, sd * direction.weights / sizes])
        theta[local] = _lower(added)[np.tril_indices(width)]
    else:
        scale = sizes if structure == "diagonal" else np.sqrt(np.mean(sizes**2))
        theta[local] = theta[local] + sd * direction.weights / scale
    out[where] = theta
    return out


def best_escape(
    surface: Surface, problem: GeneralizedProblem, psi: Array, null: list[NullDirection]
) -> tuple[float, float, Array | None]:
    """Slope of the criterion in the variance of each null direction: the smallest of them, the
    largest gain, and the point that gains it (None if none does)."""
    inverse = np.linalg.inv(surface.T)
    base = surface.value(inverse @ psi)
    slopes, gain, point = [], 0.0, None
    for direction in null:
        for sd in (TRIAL_SD, 5.0 * TRIAL_SD):
            trial = tried(problem, psi, direction, sd)
            try:
                change = surface.value(inverse @ trial) - base
            except LikelihoodError:
                continue  # outside the region where the likelihood exists
            slopes.append(change / sd**2)
            if -change > gain:
                gain, point = -change, trial
    surface.value(inverse @ psi)
    return (min(slopes) if slopes else float("nan")), gain, point


def redundant(
    design: GeneralizedDesign, null: list[NullDirection]
) -> tuple[RedundantDirection, ...]:
    """The null directions in the user's names."""
    out = []
    for direction in null:
        block = design.blocks[direction.block]
        start, stop, structure = block.structure.terms[direction.term]
        names = block.names[start:stop]
        if structure == "unstructured":
            sizes = np.sqrt(np.mean(block.columns[:, start:stop] ** 2, axis=0))
            raw = direction.weights * np.where(sizes > 0.0, sizes, 1.0)
        elif structure == "diagonal":
            raw = direction.weights
        elif structure == "fa":
            raw = direction.weights[: stop - start]
        else:
            raw = np.ones(stop - start)
        raw = raw / np.linalg.norm(raw)
        weights = {n: float(w) for n, w in zip(names, raw, strict=True) if abs(w) > 1e-3}
        if len(weights) == 1:
            name = next(iter(weights))
            sentence = f"The variance of {name} across {block.group} is estimated as zero."
        else:
            words = " + ".join(f"{w:.3g} {n}" for n, w in weights.items()).replace("+ -", "- ")
            sentence = (
                f"The combination {words} does not vary across {block.group}: its variance is "
                "estimated as zero."
            )
        out.append(RedundantDirection(block.group, weights, sentence))
    return tuple(out)


def limits(
    design: GeneralizedDesign,
    problem: GeneralizedProblem,
    psi: Array,
    gradient: Array,
    curvature: Array,
) -> dict[int, str]:
    """Parts whose likelihood still rises towards a limit: ``{index in psi: sentence}``.

    Either the predictor is far down in every row, or it is in some rows and the likelihood says
    nothing about some combination of its coefficients (``curvature`` (P, P) is flat there).
    """
    found: dict[int, str] = {}
    pairs = zip(design.parts[1:], problem.fixed[1:], problem.fixed_slices[1:], strict=True)
    for part, fixed, s in pairs:
        if s.stop == s.start or part.spec.link not in LIMIT_ETA:
            continue
        if np.max(np.abs(gradient[s])) >= FLAT:
            continue
        eta = fixed.X @ psi[s]
        highest, limit = float(eta.max()), LIMIT_ETA[part.spec.link]
        A = column_scaling(fixed.X)
        least = float(np.linalg.eigvalsh(A.T @ curvature[s, s] @ A)[0])
        if highest >= limit and np.max(np.abs(eta)) > -limit and least < UNKNOWN:
            sentence = (
                f"The predictor of the {part.spec.name} part runs to a limit (it stands between "
                f"{eta.min():.3g} and {highest:.3g} on its {part.spec.link} scale, and the "
                "likelihood is flat there). Its standard errors do not exist."
            )
            found.update(dict.fromkeys(range(s.start, s.stop), sentence))
        elif highest < limit or (highest < LOW_ETA and least < LITTLE):
            stands = f"{part.spec.name} stands at {'' if s.stop - s.start == 1 else 'most '}"
            sentence = (
                f"The {part.spec.meaning} is estimated as zero: the data need no such part "
                f"({stands}{highest:.3g} on its {part.spec.link} scale, where "
                "the likelihood is flat). Its standard error does not exist."
            )
            found.update(dict.fromkeys(range(s.start, s.stop), sentence))
    return found
