"""Maximum likelihood for structural models with families: trust-region Newton on exact gradients.

Laplace first, then quadrature from there where the dimension allows it. Curvature: outer products
of cluster scores far from the optimum, differences of the exact gradient near it; the certificate
rests on the latter. Default points as in ``estimate.generalized.accuracy``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural_mixed import MixedDesign
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.certificate import CURVATURE_LIMIT, DECREMENT_LIMIT, curvature_floor
from multilevel.estimate.generalized.curvature import Surface
from multilevel.estimate.generalized.penalty import Penalty
from multilevel.estimate.generalized.records import Approximation
from multilevel.estimate.records import Certificate
from multilevel.estimate.structural_mixed_scale import LogVariances
from multilevel.estimate.structural_mixed_start import mixed_pattern, mixed_start
from multilevel.estimate.trust_region import Path, minimise, newton_decrement
from multilevel.likelihood.generalized.grid import MAX_NODES
from multilevel.likelihood.generalized.objective import ErrorEstimate, GeneralizedObjective
from multilevel.likelihood.structural.mixed_objective import (
    MixedLayout,
    MixedObjective,
    extra_names,
    lay_out_mixed,
)

Array = NDArray[np.float64]
_TOLERANCE = 1e-9
_MAX_ITERATIONS = 200
_EDGE = 1e-4  # share of a variance left over by other effects, below which it is at the boundary
DEFAULT_POINTS = {1: 7, 2: 7, 3: 5}
ROW_POINTS = {1: 15, 2: 9, 3: 5}  # latent variables of rows: few values for each


@dataclass(frozen=True)
class MixedFit:
    """Numbers of one fitted mixed structural model.

    Attributes
    ----------
    layout : the stacked problem.
    theta : (q,) estimates: the free parameters of the table, then thresholds and dispersions as the
        families hold them.
    criterion : -2 log-likelihood by the approximation, conditional on the fixed predictors.
    hessian : (q, q) curvature of the criterion.
    scores : (J, q) cluster scores; None where clusters are crossed.
    approximation : how the integrals were computed, and how well.
    certificate : evidence that the estimates are the optimum.
    """

    layout: MixedLayout
    theta: Array
    criterion: float
    hessian: Array
    scores: Array | None
    approximation: Approximation
    certificate: Certificate

    @property
    def n_parameters(self) -> int:
        """q."""
        return len(self.theta)

    @property
    def aic(self) -> float:
        """-2 log-likelihood + 2 q."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 log-likelihood + q log(rows)."""
        return self.criterion + float(np.log(self.layout.design.n_rows)) * self.n_parameters


def fit_mixed(
    design: MixedDesign, *, n_quad: int | tuple[int, ...] | None = None, seed: int = 0,
    draws: int = 400,
) -> MixedFit:  # fmt: skip
    """Estimate a mixed structural model by maximum likelihood.

    Parameters
    ----------
    n_quad : quadrature points per dimension of the integral; 1 is Laplace; None chooses.
    seed, draws : of the importance sampling that estimates the error of Laplace's approximation.

    Raises
    ------
    EstimationError : no feasible start, missing predictors, a variance at zero, parameters that
        the data do not determine.
    """
    theta = mixed_start(design)
    try:
        layout = lay_out_mixed(design, theta, mixed_pattern(design, theta))
        points = default_points(layout) if n_quad is None else n_quad
        final = MixedObjective(layout, points)
        # with few binary items Laplace's approximation has its optimum at infinite loadings
        is_direct = _is_laplace(points) or layout.map.has_rows
        objective = final if is_direct else MixedObjective(layout, 1)
        objective.value(theta)
    except LikelihoodError as error:
        raise EstimationError(error.must, error.found, error.remedy) from error
    path, kind, history, done = _search(objective, theta)
    if final is not objective:
        final.engine.set_modes(objective.engine.modes())
        final.value(path.theta)
        path, kind, more, extra = _search(final, path.theta)
        history, done = history + more, done + extra
    certificate = _certify(final, path, kind, history, done)
    _refuse_edge(layout, path.theta)
    final.value(path.theta)
    scores = final.cluster_scores()
    off = _error(layout, final, points, seed, draws)
    how = Approximation(final.method, final.points, off, sentence=_sentence(final, off))
    return MixedFit(layout, path.theta, path.value, path.curvature, scores, how, certificate)


def default_points(layout: MixedLayout) -> int:
    """Points per dimension where the caller named none; 1 (Laplace) beyond small dimensions."""
    ranks = [r for r in layout.ranks if r]
    crossed = len(layout.design.factors) > 1
    is_normal = all(layout.design.model.is_gaussian(n) for n in layout.design.outcomes)
    if not ranks or crossed or is_normal or (len(ranks) > 1 and max(ranks) > 1):
        return 1
    if len(ranks) == 1 and layout.map.has_rows:
        return ROW_POINTS.get(ranks[0], 1)
    return DEFAULT_POINTS.get(max(ranks), 1)


def _is_laplace(points: int | tuple[int, ...]) -> bool:
    return points == 1 if isinstance(points, int) else max(points) == 1


def _search(objective: MixedObjective, theta: Array) -> tuple[Path, str, list[float], int]:
    """Minimise in units of standard errors: end, kind of curvature, history, iterations."""
    moved = LogVariances(objective, theta)
    T = np.diag(_units(moved, moved.coordinates(theta)))
    surface = Surface(cast(GeneralizedObjective, moved), T, Penalty())
    phi = moved.coordinates(theta) / np.diag(T)
    history: list[float] = []
    done = 0
    for attempt in range(4):
        try:
            path = minimise(
                surface.value, surface.derivatives, phi, tolerance=_TOLERANCE,
                max_iterations=_MAX_ITERATIONS, noise=lambda: 0.0, start_value=surface.value(phi),
            )  # fmt: skip
            phi = path.theta
            path.gradient, path.curvature = surface.final(phi)
        except LikelihoodError as error:
            _refuse_edge(objective.layout, moved.parameters(T @ surface.phi))
            raise EstimationError(error.must, error.found, error.remedy) from error
        history, done = history + path.history, done + path.iterations
        path.decrement = newton_decrement(path.gradient, path.curvature)
        if path.decrement < _TOLERANCE or (attempt and path.decrement < 1e-6):
            break
        surface.resume()
    unit = np.diag(T)
    path.theta = moved.parameters(T @ phi)
    path.gradient, path.curvature = moved.back(
        path.theta, path.gradient / unit, path.curvature / np.outer(unit, unit)
    )
    return path, surface.kind, history, done


def _units(objective: LogVariances, theta: Array) -> Array:
    """(q,) about one standard error of every parameter."""
    scores = objective.cluster_scores()
    if scores is not None:
        curvature = 2.0 * np.sum(scores**2, axis=0)
    else:
        gradient, curvature = objective.gradient(), np.empty(len(theta))
        for a in range(len(theta)):
            moved = theta.copy()
            moved[a] += 1e-4 * max(1.0, abs(float(theta[a])))
            objective.value(moved)
            curvature[a] = abs(float((objective.gradient() - gradient)[a])) / (moved[a] - theta[a])
        objective.value(theta)
    typical = np.maximum(curvature, 1e-6 * float(np.median(curvature)))
    return np.asarray(1.0 / np.sqrt(np.maximum(typical, 1e-12)))


def _certify(
    objective: MixedObjective, path: Path, kind: str, history: list[float], done: int
) -> Certificate:
    floor = curvature_floor(path.curvature)
    reasons = []
    if not path.decrement <= max(DECREMENT_LIMIT, 1e-12 * abs(path.value)):
        reasons.append(
            f"-2 log-likelihood would still fall by about {path.decrement:.2g} ({path.reason})"
        )
    if floor < CURVATURE_LIMIT:
        reasons.append(f"the curvature is not positive (smallest eigenvalue {floor:.2g})")
    elif floor < 1e-7:
        names = _flat(objective.layout, path.curvature)
        reasons.append(f"the data do not determine {names} (a flat direction)")
    if reasons:
        sentence = f"NOT at an optimum: {'; '.join(reasons)}. Do not trust these estimates."
    else:
        sentence = (
            f"At the optimum: -2 log-likelihood can fall by no more than "
            f"{max(path.decrement, 1e-16):.1g}, and it curves upwards in every direction."
        )
    size = np.sqrt(np.maximum(np.diag(path.curvature), 1e-300))
    return Certificate(
        status="not_certified" if reasons else "certified",
        sentence=sentence,
        newton_decrement=float(path.decrement),
        max_scaled_gradient=float(np.max(np.abs(path.gradient) / size)),
        min_curvature=floor,
        curvature=kind,
        boundary_residual=math.nan,
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


def _refuse_edge(layout: MixedLayout, theta: Array) -> None:
    """Say which variance has gone to zero, if one has.

    Raises
    ------
    EstimationError : names the random effects and what to do.
    """
    design = layout.design
    at = layout.map.predictors(theta)
    for i, kind in enumerate(design.kinds):
        name = design.outcomes[kind.outcome]
        scale = float(np.nanvar(design.values[:, kind.outcome]))
        if design.model.is_gaussian(name) and np.exp(at.log_variance[i]) < _EDGE * scale:
            raise EstimationError(
                "Residual variances are positive.",
                f"at the best point found that of {name} at the within level is zero",
                f"take a relation of {name} out, or fix its variance, {name} ~~ 0.1*{name}",
            )
    for p, home in zip(design.model.parameters, design.model.homes, strict=True):
        if not (p.is_variance and p.is_free and home != "within" and p.lhs in design.outcomes):
            continue
        scale = 1.0
        if design.model.is_gaussian(p.lhs):
            scale = float(np.nanvar(design.values[:, design.outcomes.index(p.lhs)]))
        if theta[p.free] < _EDGE * scale:
            raise EstimationError(
                "Variances of random effects are positive.",
                f"at the best point found that of {p.lhs} at the {home} level is zero "
                f"({p.name}: {theta[p.free]:.2g})",
                f"fix it, {p.lhs} ~~ 0*{p.lhs}, where a predictor carries the differences between "
                f"clusters; else take {p.lhs} out of that level",
            )
    for block, place in zip(layout.blocks, layout.places, strict=True):
        P = [block.kinds[i] for i in block.pivots]
        G = np.asarray(at.covariances[place])[np.ix_(P, P)]
        for i, number in enumerate(P):
            outcome = design.kinds[number].outcome
            name = design.outcomes[outcome]
            scale = 1.0
            if design.model.is_gaussian(name):
                scale = float(np.nanvar(design.values[:, outcome]))
            others = [j for j in range(len(P)) if j != i]
            left = G[i, i]
            if others and float(np.linalg.eigvalsh(G[np.ix_(others, others)]).min()) > 0.0:
                left = left - G[i, others] @ np.linalg.solve(
                    G[np.ix_(others, others)], G[others, i]
                )
            if G[i, i] < _EDGE * scale or left < _EDGE * max(G[i, i], _EDGE * scale):
                is_zero = G[i, i] < _EDGE * scale
                what = "has no variance" if is_zero else "is determined by those of others"
                raise EstimationError(
                    "Random effects need variances and correlations inside their range.",
                    f"at the best point found the effect of {block.name} on {name} {what} "
                    f"(variance {float(G[i, i]):.2g})",
                    f"take {name} out of that level (name it within only)" if is_zero
                    else f"fix its residual variance there at zero, {name} ~~ 0*{name}, with a "
                    "predictor or a latent variable that carries it, or take a covariance out",
                )  # fmt: skip


def _error(
    layout: MixedLayout, final: MixedObjective, points: int | tuple[int, ...], seed: int, draws: int
) -> ErrorEstimate | None:
    """Estimated error of the criterion: more points where that is possible."""
    if not layout.blocks:
        return None
    if all(layout.design.model.is_gaussian(n) for n in layout.design.outcomes):
        return ErrorEstimate(0.0, 0.0, "none", "All variables are Gaussian: Laplace's approximation"
                             " is exact.")  # fmt: skip
    have = points if isinstance(points, int) else max(points)
    finer = 2 * have + 1 if have > 1 else 5
    rank = sum(layout.ranks)
    if len(layout.design.factors) <= 1 and finer**rank <= MAX_NODES:
        other = MixedObjective(layout, finer)
        other.engine.set_modes(final.engine.modes())
        value = other.value(final.theta)
        error = final.value(final.theta) - value
        return ErrorEstimate(
            error, 0.0, "more points",
            f"With {finer} points -2 log-likelihood at the same parameters changes by "
            f"{-error:.2g}.",
        )  # fmt: skip
    return final.engine.error_estimate(np.random.default_rng(seed), draws)


def _sentence(objective: MixedObjective, error: ErrorEstimate | None) -> str:
    if error is None:
        return "There are no random effects: the likelihood is exact."
    if objective.method == "Laplace":
        how = "Laplace approximation"
    else:
        how = f"Adaptive quadrature with {max(objective.points)} points per dimension"
    sentence = f"{how}. {error.sentence}"
    if abs(error.criterion) - 2.0 * error.std_error > 0.5:
        sentence += " Errors of this size can change a test: "
        is_crossed = objective.layout.design.is_crossed
        sentence += "read variances with care." if is_crossed else "raise n_quad."
    return sentence
