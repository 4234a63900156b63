"""Estimation of item response models with slopes by marginal maximum likelihood.

Newton steps with the exact Hessian inside a trust region; the sign of the person axis is set so
that slopes are positive on the whole; the points are doubled until the criterion no longer moves.
Identification: the person effect has mean ``x' gamma`` (0 without person predictors) and residual
variance 1, so that every slope is free; groups of persons add a variance tau^2 to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, ndtri

from multilevel.errors import EstimationError
from multilevel.estimate.records import Certificate
from multilevel.estimate.trust_region import Path, minimise
from multilevel.likelihood.generalized.irt_grouped import GroupedItemObjective
from multilevel.likelihood.generalized.irt_objective import ItemObjective
from multilevel.likelihood.generalized.irt_problem import ItemProblem

Array = NDArray[np.float64]
#: Largest change of the criterion by twice as many points that is left alone.
POINTS_TOLERANCE = 1e-5
MAX_POINTS = 961
DECREMENT_LIMIT = 1e-6
#: Products in one exact Hessian of graded items above which cheaper steps lead to the optimum.
DEAR = 1e9
#: Standard deviation of group effects to begin with; how many of them the person axis reaches.
START_TAU = 0.5
GROUP_REACH = 4.0


@dataclass(frozen=True)
class ItemFit:
    """Numbers of one fitted item response model with slopes.

    Attributes
    ----------
    problem : what was fitted.
    criterion : -2 log-likelihood.
    psi, vcov : (P,), (P, P) parameters ``(alpha, delta, gamma)``, with groups tau, and their
        covariance from the observed information.
    mean, std_dev : (n_persons,) posterior mean (EAP) of the person effect, and standard deviation
        of the person's own part of it.
    spread : (n_persons,) posterior standard deviation of the whole person effect.
    group_effect : (n_persons,) posterior mean of the effect of the person's group; 0 without.
    points : points of the person axis.
    points_error : change of the criterion with about twice as many points.
    certificate : see ``Certificate``.
    seconds : wall time.
    """

    problem: ItemProblem
    criterion: float
    psi: Array
    vcov: Array
    mean: Array
    std_dev: Array
    spread: Array
    group_effect: Array
    points: int
    points_error: float
    certificate: Certificate
    seconds: float = field(default=0.0, compare=False)

    @property
    def n_parameters(self) -> int:
        """All parameters."""
        return len(self.psi)

    @property
    def aic(self) -> float:
        """Criterion + 2 parameters."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """Criterion + log(responses) parameters, responses as for models fitted by rows."""
        return self.criterion + float(np.log(self.problem.n_responses)) * self.n_parameters

    @property
    def gamma(self) -> Array:
        """(q,) effects of the person predictors on the person effect."""
        return self.psi[self.problem.slices[2]]

    @property
    def group_variance(self) -> float:
        """Variance of the effects of groups of persons; 0 without groups."""
        return float(self.psi[-1] ** 2) if self.problem.groups is not None else 0.0


def fit_items(problem: ItemProblem, *, points: int = 61, max_iterations: int = 100) -> ItemFit:
    """Fit an item response model.

    Parameters
    ----------
    problem : patterns of responses and the designs of slopes and intercepts.
    points : points of the person axis to begin with; doubled where that still matters.

    Raises
    ------
    EstimationError : fewer than 5 points.
    """
    if points < 5:
        raise EstimationError(
            "The person axis needs at least 5 points.", f"{points}", "write n_quad=61"
        )
    clock = time.perf_counter()
    psi, shift = start(problem), 1.0
    if problem.groups is not None:
        alone = ItemObjective(replace(problem, groups=None), points, shift)
        psi = np.append(_search(alone, psi, max_iterations).theta, START_TAU)
        shift = _largest_mean(problem, psi)
    history: list[float] = []
    evaluations = iterations = restarts = 0
    while True:
        objective = _objective(problem, points, shift)
        path = _search(objective, psi, max_iterations)
        psi = path.theta
        history += path.history
        evaluations += objective.n_evaluations
        iterations += path.iterations
        reached = _largest_mean(problem, psi)
        finer = _objective(problem, 2 * points - 1, max(shift, reached))
        error = finer.value(psi) - path.value
        if abs(error) < POINTS_TOLERANCE and reached <= shift + 0.5:
            break
        if 2 * points - 1 > MAX_POINTS:
            break
        points, shift, restarts = 2 * points - 1, max(shift, reached), restarts + 1
    psi, curvature = _signed(problem, psi, path.curvature)
    objective.value(psi)
    posterior, of_group = objective.posterior(), np.zeros(problem.n_persons)
    if isinstance(objective, GroupedItemObjective) and problem.groups is not None:
        of_group = objective.group_posterior()[0][problem.groups.of_person]
    return ItemFit(
        problem=problem,
        criterion=path.value,
        psi=psi,
        vcov=_covariance(curvature),
        mean=_of_persons(problem, posterior.mean),
        std_dev=_of_persons(problem, posterior.own_std_dev),
        spread=_of_persons(problem, posterior.std_dev),
        group_effect=of_group,
        points=points,
        points_error=float(error),
        certificate=_certificate(
            path,
            error,
            iterations,
            evaluations,
            restarts,
            history,
            curvature="exact" if problem.groups is None else "differenced gradient",
        ),
        seconds=time.perf_counter() - clock,
    )


def _objective(problem: ItemProblem, points: int, shift: float) -> ItemObjective:
    made = ItemObjective if problem.groups is None else GroupedItemObjective
    return made(problem, points, shift)


def _of_persons(problem: ItemProblem, values: Array) -> Array:
    """By person: with groups values are by person already, else by pattern."""
    return values if problem.groups is not None else values[problem.pattern_of]


def _search(objective: ItemObjective, psi: Array, max_iterations: int) -> Path:
    """Newton steps with the exact Hessian; where that is dear, the way there by outer products of
    the scores."""
    problem = objective.problem
    work = len(problem.counts) * float(problem.n_steps) ** 2 * len(objective.theta)
    first: Path | None = None
    if problem.groups is None and problem.kind == "graded" and work > DEAR:
        first = minimise(
            objective.value,
            lambda _: objective.outer_product(),
            psi,
            tolerance=1e-8,
            max_iterations=max_iterations,
            noise=lambda: 0.0,
            start_value=objective.value(psi),
        )
        psi = first.theta
    path = minimise(
        objective.value,
        lambda _: objective.derivatives(),
        psi,
        tolerance=1e-10,
        max_iterations=max_iterations,
        noise=lambda: 0.0,
        start_value=objective.value(psi),
    )
    if first is not None:
        path.iterations += first.iterations
        path.history[:0] = first.history
    return path


def start(problem: ItemProblem) -> Array:
    """Start values: slopes of one, intercepts from the cumulative proportions of each item."""
    weights = problem.counts
    taken = problem.steps.T @ weights
    answered = (
        np.full(problem.n_items, weights.sum())
        if problem.observed is None
        else problem.observed.T @ weights
    )
    item_of = problem.item_of
    # P(Y >= s) of graded, P(s) / P(s - 1) of partial credit; half a person keeps them inside
    above = np.array([taken[t:][item_of[t:] == item_of[t]].sum() for t in range(len(taken))])
    total = answered[item_of]
    if problem.kind == "graded":
        p = (above + 0.5) / (total + 1.0)
    else:
        first = np.r_[True, item_of[1:] != item_of[:-1]]
        lower = np.where(first, total - above, np.r_[0.0, taken[:-1]])
        p = (taken + 0.5) / (taken + lower + 1.0)
    target = ndtri(p) * 1.2 if problem.link == "probit" else logit(p) * 1.2
    slope = 0.6 if problem.link == "probit" else 1.0
    alpha = np.linalg.lstsq(problem.slopes, np.full(problem.n_items, slope), rcond=None)[0]
    delta = np.linalg.lstsq(problem.easiness, target, rcond=None)[0]
    return np.concatenate([alpha, delta, np.zeros(problem.x.shape[1])])


def _largest_mean(problem: ItemProblem, psi: Array) -> float:
    groups = 0.0 if problem.groups is None else GROUP_REACH * abs(float(psi[-1]))
    if not problem.x.shape[1]:
        return groups
    return groups + float(np.abs(problem.x @ psi[problem.slices[2]]).max())


def _signed(problem: ItemProblem, psi: Array, curvature: Array) -> tuple[Array, Array]:
    """Turn the person axis round if slopes are negative on the whole: the same likelihood."""
    a, _, g = problem.slices
    flip = np.ones(len(psi))
    if (problem.slopes @ psi[a]).sum() < 0.0:
        flip[a], flip[g] = -1.0, -1.0
    if problem.groups is not None:
        flip[-1] = -1.0 if psi[-1] < 0.0 else 1.0
    return psi * flip, curvature * np.outer(flip, flip)


def _covariance(curvature: Array) -> Array:
    """Twice the inverse of the Hessian of ``-2 log L``; NaN where it is not positive definite."""
    values, vectors = np.linalg.eigh(curvature)
    if values[0] <= 1e-12 * values[-1]:
        return np.full_like(curvature, np.nan)
    return np.asarray(2.0 * (vectors / values) @ vectors.T)


def _certificate(
    path: Path,
    error: float,
    iterations: int,
    evaluations: int,
    restarts: int,
    history: list[float],
    *,
    curvature: str,
) -> Certificate:
    H, g = path.curvature, path.gradient
    size = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    smallest = float(np.linalg.eigvalsh(H / np.outer(size, size))[0])
    proven = path.decrement < DECREMENT_LIMIT and smallest > 1e-9
    notes = []
    if abs(error) >= POINTS_TOLERANCE:
        notes.append(f"Twice as many points still change -2LL by {error:.1g}.")
    if proven:
        sentence = (
            "The estimates are a (local) optimum: -2LL would fall by less than "
            f"{max(path.decrement, 1e-12):.0e} with further steps."
        )
    else:
        why = (
            "the likelihood is flat in some direction, so a slope or a threshold has no finite "
            "estimate or is not identified"
            if path.decrement < DECREMENT_LIMIT
            else f"further steps would lower -2LL by about {path.decrement:.2g}"
        )
        sentence = f"The estimates are not shown to be the optimum: {why} ({path.reason})."
    return Certificate(
        status="certified" if proven else "not_certified",
        sentence=sentence,
        newton_decrement=path.decrement,
        max_scaled_gradient=float(np.max(np.abs(g) / size)),
        min_curvature=smallest,
        curvature=curvature,
        boundary_residual=float("nan"),
        redundant=(),
        iterations=iterations,
        evaluations=evaluations,
        restarts=restarts,
        history=tuple(history),
        notes=tuple(notes),
    )
