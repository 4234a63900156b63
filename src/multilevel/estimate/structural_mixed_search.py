"""The search for mixed structural models in any coordinates, and its certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from multilevel.estimate.certificate import CURVATURE_LIMIT, DECREMENT_LIMIT, curvature_floor
from multilevel.estimate.generalized.curvature import Surface
from multilevel.estimate.generalized.penalty import Penalty
from multilevel.estimate.records import Certificate
from multilevel.estimate.structural import Boundary
from multilevel.estimate.structural_mixed_scale import LogVariances
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.generalized.objective import GeneralizedObjective
from multilevel.likelihood.structural.mixed_objective import (
    MixedLayout,
    MixedObjective,
    extra_names,
)

Array = NDArray[np.float64]
_TOLERANCE = 1e-9
_MAX_ITERATIONS = 200
_LEAST_GAIN = 1e-6  # of eight steps: less where a variance vanishes


@dataclass(frozen=True)
class Optimum:
    """Where a search ended.

    Attributes
    ----------
    objective : of the parameters ``theta`` (q,), with value and curvature (q, q) there.
    boundary : as in ``MixedFit``.
    """

    objective: MixedObjective
    theta: Array
    value: float
    curvature: Array
    certificate: Certificate
    boundary: Boundary | None = None


class Coordinates(Protocol):
    """The criterion in the coordinates of a search."""

    def value(self, w: Array) -> float:
        """The criterion; sets the point."""
        ...

    def gradient(self) -> Array:
        """Its gradient at the point last set."""
        ...

    def cluster_scores(self) -> Array | None:
        """Derivatives of the log-likelihood by cluster, or None."""
        ...


def climb(moved: Coordinates, w: Array) -> tuple[Path, str, list[float], int]:
    """Minimise in units of standard errors: end (in ``w``), curvature, history, iterations.

    Raises
    ------
    LikelihoodError : the likelihood does not exist around some point of the way.
    """
    moved.value(w)
    unit = _units(moved, w)
    T = np.diag(unit)
    surface = Surface(cast(GeneralizedObjective, moved), T, Penalty())
    phi = w / unit
    history: list[float] = []
    done = 0
    for attempt in range(4):
        path = minimise(
            surface.value, surface.derivatives, phi, tolerance=_TOLERANCE,
            max_iterations=_MAX_ITERATIONS, noise=lambda: 0.0, start_value=surface.value(phi),
            least_gain=_LEAST_GAIN,
        )  # fmt: skip
        phi = path.theta
        path.gradient, path.curvature = surface.final(phi)
        history, done = history + path.history, done + path.iterations
        path.decrement = newton_decrement(path.gradient, path.curvature)
        if path.decrement < _TOLERANCE or (attempt and path.decrement < 1e-6):
            break
        if attempt and path.history[0] - path.value < _LEAST_GAIN:
            break
        surface.resume()
    path.theta = unit * phi
    path.gradient, path.curvature = path.gradient / unit, path.curvature / np.outer(unit, unit)
    return path, surface.kind, history, done


def search_inside(objective: MixedObjective, theta: Array) -> tuple[Path, str, list[float], int]:
    """Minimise in logarithms of variances; the path ends in parameters. Errors as ``climb``."""
    moved = LogVariances(objective, theta)
    path, kind, history, done = climb(moved, moved.coordinates(theta))
    path.theta = moved.parameters(path.theta)
    path.gradient, path.curvature = moved.back(path.theta, path.gradient, path.curvature)
    return path, kind, history, done


def _units(objective: Coordinates, w: Array) -> Array:
    """(m,) about one standard error of every coordinate, at the point last set."""
    scores = objective.cluster_scores()
    if scores is not None:
        curvature = 2.0 * np.sum(scores**2, axis=0)
    else:
        gradient, curvature = objective.gradient(), np.empty(len(w))
        for a in range(len(w)):
            moved = w.copy()
            moved[a] += 1e-4 * max(1.0, abs(float(w[a])))
            objective.value(moved)
            curvature[a] = abs(float((objective.gradient() - gradient)[a])) / (moved[a] - w[a])
        objective.value(w)
    typical = np.maximum(curvature, 1e-6 * float(np.median(curvature)))
    return np.asarray(1.0 / np.sqrt(np.maximum(typical, 1e-12)))


def certify_inside(
    objective: MixedObjective, path: Path, kind: str, history: list[float], done: int
) -> Certificate:
    """Evidence that an end inside is an optimum."""
    floor = curvature_floor(path.curvature)
    reasons = shortfalls(path, floor)
    if not reasons and floor < 1e-7:
        names = _flat(objective.layout, path.curvature)
        reasons.append(f"the data do not determine {names} (a flat direction)")
    sentence = (
        f"At the optimum: -2 log-likelihood can fall by no more than "
        f"{max(path.decrement, 1e-16):.1g}, and it curves upwards in every direction."
    )
    return make_certificate(objective, path, kind, history, done, reasons, sentence)


def shortfalls(path: Path, floor: float) -> list[str]:
    """What speaks against an optimum, in words."""
    reasons = []
    if not path.decrement <= max(DECREMENT_LIMIT, 1e-12 * abs(path.value)):
        reasons.append(
            f"-2 log-likelihood would still fall by about {path.decrement:.2g} ({path.reason})"
        )
    if floor < CURVATURE_LIMIT:
        reasons.append(f"the curvature is not positive (smallest eigenvalue {floor:.2g})")
    return reasons


def make_certificate(
    objective: MixedObjective,
    path: Path,
    kind: str,
    history: list[float],
    done: int,
    reasons: list[str],
    sentence: str,
    boundary_residual: float = math.nan,
    *,
    is_singular: bool = False,
) -> Certificate:
    """The certificate of a path; ``reasons`` against it take the place of ``sentence``."""
    if reasons:
        sentence = f"NOT at an optimum: {'; '.join(reasons)}. Do not trust these estimates."
    size = np.sqrt(np.maximum(np.diag(path.curvature), 1e-300))
    return Certificate(
        status="not_certified" if reasons else "singular" if is_singular else "certified",
        sentence=sentence,
        newton_decrement=float(path.decrement),
        max_scaled_gradient=float(np.max(np.abs(path.gradient) / size, initial=0.0)),
        min_curvature=curvature_floor(path.curvature),
        curvature=kind,
        boundary_residual=boundary_residual,
        redundant=(),
        iterations=done,
        evaluations=objective.n_evaluations,
        restarts=0,
        history=tuple(history),
    )


def parameter_names(layout: MixedLayout) -> tuple[str, ...]:
    """(q,) a name for every parameter."""
    design = layout.design
    return (
        *design.model.free_names,
        *(f"{design.outcomes[k]}: {part}" for k, part in extra_names(design)),
    )


def _flat(layout: MixedLayout, curvature: Array) -> str:
    """Names of the parameters in the flattest direction."""
    size = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    _, vectors = np.linalg.eigh(curvature / np.outer(size, size))
    weights = np.abs(vectors[:, 0]) / np.abs(vectors[:, 0]).max()
    names = parameter_names(layout)
    return ", ".join(n for n, w in zip(names, weights, strict=True) if w > 0.1)
