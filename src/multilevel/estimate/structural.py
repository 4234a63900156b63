"""Maximum likelihood for structural models: trust-region scoring, then exact Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.structural import StructuralDesign
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.certificate import (
    CURVATURE_LIMIT,
    DECREMENT_LIMIT,
    curvature_floor,
    scaled_gradient,
)
from multilevel.estimate.records import Certificate
from multilevel.estimate.structural_identify import check_rank
from multilevel.estimate.structural_nested import nested_moments, upper_sums
from multilevel.estimate.structural_start import LevelMoments, data_moments, start_values
from multilevel.estimate.trust_region import Path, minimise
from multilevel.likelihood.structural.nested import UpperStatistics
from multilevel.likelihood.structural.nested_objective import NestedObjective
from multilevel.likelihood.structural.objective import (
    ExogenousMoments,
    StructuralObjective,
    exogenous_moments,
)
from multilevel.likelihood.structural.slope_objective import SlopeObjective
from multilevel.likelihood.structural.statistics import GroupStatistics, group_statistics
from multilevel.model.structural.records import Level, StructuralModel
from multilevel.model.structural.reference import independence_model, saturated_model

Array = NDArray[np.float64]
_SCORING_TOLERANCE = 1e-12
_NEWTON_TOLERANCE = 1e-10
_MAX_SCORING = 40  # its rate is linear, and slow where the model fits badly: Newton takes over
_MAX_ITERATIONS = 300
_MAX_REFIT = 25  # from the estimates of similar data: more is needed only where no optimum exists
_MAX_SLOPES = 80  # more is needed only along the edge of negative slope variances


@dataclass(frozen=True)
class Boundary:
    """What is left to vary where variances are zero or correlations one.

    Attributes
    ----------
    tangent : (q, m) derivative of the free parameters in the m that are left.
    hessian : (m, m) exact Hessian of the criterion in these.
    sentences : what is at the boundary, in words.
    flat : (q, f) directions in which the data, given the boundary, determine nothing.
    """

    tangent: Array
    hessian: Array
    sentences: tuple[str, ...]
    flat: Array | None = None


@dataclass(frozen=True)
class StructuralFit:
    """Numbers of one fitted structural model.

    Attributes
    ----------
    model : the model.
    theta : (q,) estimates of the free parameters, in the order of ``model.free_names``.
    criterion : -2 log-likelihood, conditional on the fixed predictors.
    n_rows, n_clusters : rows, and units of the highest level.
    certificate : evidence that the estimates are the optimum.
    known_hessian : (q, q) exact Hessian of the criterion at ``theta``, on which the certificate
        rests; None where it was not computed.
    boundary : at the boundary, what is left to vary; None inside.
    """

    model: StructuralModel
    theta: Array
    criterion: float
    n_rows: int
    n_clusters: int
    certificate: Certificate
    known_hessian: Array | None = None
    boundary: Boundary | None = None

    @property
    def n_parameters(self) -> int:
        """q."""
        return self.model.n_free

    @property
    def aic(self) -> float:
        """-2 log-likelihood + 2 q."""
        return self.criterion + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """-2 log-likelihood + q log(rows), as lavaan and Mplus have it."""
        return self.criterion + float(np.log(self.n_rows)) * self.n_parameters


@dataclass(frozen=True)
class StructuralProblem:
    """A design with its sums, shared by the model, the saturated and the independence model."""

    design: StructuralDesign
    statistics: tuple[GroupStatistics, ...]
    exogenous: tuple[dict[Level, ExogenousMoments], ...]
    moments: tuple[dict[Level, LevelMoments], ...]
    uppers: tuple[tuple[UpperStatistics, ...], ...] = ()

    def objective(self, model: StructuralModel) -> StructuralObjective:
        """The criterion of a model of the same variables on these data."""
        if model.higher:
            return NestedObjective(model, self.statistics, self.uppers, self.exogenous)
        if model.random_slopes:
            return SlopeObjective(model, self.statistics, self.exogenous)
        return StructuralObjective(model, self.statistics, self.exogenous)


def prepare_structural(design: StructuralDesign) -> StructuralProblem:
    """Sum up the rows once.

    Raises
    ------
    EstimationError : fixed predictors that are linear combinations of others, or not more clusters
        than level-2 variables.
    """
    model = design.model
    statistics, exogenous, moments, uppers = [], [], [], []
    for group in design.groups:
        _check_clusters(model, "between", len(group.z))
        for units in group.upper:
            _check_clusters(model, units.name, len(units.z))
        statistics.append(group_statistics(group.y, group.codes, group.z, len(model.both)))
        own: dict[Level, ExogenousMoments] = {}
        b = len(model.both)
        for level, names, values in (
            ("within", model.within_only, group.y[:, b:]),
            ("between", model.between_only, group.z),
            *((h.name, h.only, u.z) for h, u in zip(model.higher, group.upper, strict=True)),
        ):
            at = [k for k, name in enumerate(names) if name in model.fixed_exogenous]
            fixed = [names[k] for k in at]
            _check_independent(fixed, values[:, at], model.level_name(level))
            own[level] = exogenous_moments(fixed, values[:, at])
        exogenous.append(own)
        uppers.append(upper_sums(model, group))
        moments.append((nested_moments if model.higher else data_moments)(model, group))
    return StructuralProblem(
        design, tuple(statistics), tuple(exogenous), tuple(moments), tuple(uppers)
    )


def _check_clusters(model: StructuralModel, level: Level, n_clusters: int) -> None:
    """With no more units than variables of a level the likelihood has no maximum."""
    names, title = model.located(level), model.level_name(level)
    if model.cluster and n_clusters <= len(names):
        raise EstimationError(
            f"A group has more clusters than variables at the {title} level.",
            f"{n_clusters} clusters for {len(names)} variables ({', '.join(names)})",
            f"name fewer variables at the {title} level: those that are not named there have no "
            "part there",
        )


def _check_independent(names: list[str], values: Array, level: str) -> None:
    if not names:
        return
    unit = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-300)
    rank = np.linalg.matrix_rank(unit, tol=1e-7 * np.sqrt(len(unit)))
    if rank < len(names):
        raise EstimationError(
            "Predictors of one level do not determine each other.",
            f"{', '.join(names)} at the {level} level have {len(names) - rank} too many",
            "leave one of them out",
        )


def hessian_at(problem: StructuralProblem, fit: StructuralFit) -> Array:
    """(q, q) exact Hessian of -2 log-likelihood at the estimates."""
    if fit.known_hessian is not None:
        return fit.known_hessian
    return problem.objective(fit.model).hessian(fit.theta)


def fit_model(problem: StructuralProblem) -> StructuralFit:
    """Estimate the problem's own model, from rough moments of the data.

    Where that is not certified, it starts again from the moments of the saturated model, and the
    lower criterion is kept. Models with random slopes have no saturated model.

    Raises
    ------
    EstimationError : as ``fit_structural``.
    """
    model = problem.design.model
    try:
        first: StructuralFit | None = fit_structural(problem, model)
    except EstimationError as error:
        if model.random_slopes or not isinstance(error.__cause__, LikelihoodError):
            raise
        first = None
    if first is not None and (first.certificate.is_certified or model.random_slopes):
        return first
    second = fit_structural(problem, model, fit_saturated(problem))
    if first is None or second.certificate.is_certified or second.criterion < first.criterion:
        return second
    return first


def fit_structural(
    problem: StructuralProblem,
    model: StructuralModel,
    saturated: StructuralFit | None = None,
    *,
    start: Array | None = None,
    curvature: Array | None = None,
    most: int | None = None,
) -> StructuralFit:
    """Estimate a model of the problem's variables by maximum likelihood.

    Fisher scoring with the expected information inside a trust region, then Newton steps with the
    exact Hessian; the certificate rests on the latter.

    Parameters
    ----------
    saturated : the fitted saturated model, whose moments give better start values.
    start : (q,) where to begin in a model known to be identified; rough values of the data if None.
    curvature : (q, q) Hessian of similar data at ``start``: first steps then use it as it is.
    most : iterations of each stage at most; None as many as it takes.

    Raises
    ------
    EstimationError : parameters that are not identified, or no feasible start.
    """
    objective = problem.objective(model)
    moments = list(problem.moments)
    if saturated is not None:
        moments = _moments_of(problem, saturated)
    if start is None:
        theta, value = _start(objective, moments)
        check_rank(objective, theta)
    else:
        theta, value = start, objective.value(start)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(objective.information(theta)), 1e-300))
    iterations = 0
    history: list[float] = []
    for bend, tolerance, usual in _stages(objective, curvature):
        limit = usual if most is None else min(most, usual)
        try:
            path = _minimise(objective, bend, theta, value, scale, tolerance, limit)
        except LikelihoodError as error:
            raise EstimationError(
                "The likelihood must have a maximum.",
                f"it keeps rising towards the edge of where it exists: {error.found}",
                "name fewer variables or relations at the between level, or use more clusters",
            ) from error
        theta, value = path.theta * scale, path.value
        iterations += path.iterations
        history += path.history
    certificate = _certify(objective, path, iterations, history)
    rows = problem.design.n_rows
    hessian = path.curvature / np.outer(scale, scale)
    units = problem.design.n_independent
    return StructuralFit(model, theta, value, rows, units, certificate, hessian)


def _stages(
    objective: StructuralObjective, known: Array | None
) -> list[tuple[Callable[[Array], Array], float, int]]:
    """Curvature, tolerance and most iterations of each stage; the last is exact."""
    has_slopes = bool(objective.model.random_slopes) or bool(objective.model.higher)
    most = _MAX_SLOPES if has_slopes else _MAX_ITERATIONS
    last = (objective.hessian, _NEWTON_TOLERANCE, most)
    if known is not None:
        last = (objective.hessian, _NEWTON_TOLERANCE, _MAX_REFIT)
        return [(lambda t: known, _NEWTON_TOLERANCE, _MAX_SCORING), last]
    if has_slopes:  # with slopes or three levels there is no expected information
        return [last]
    return [(lambda t: 2.0 * objective.information(t), _SCORING_TOLERANCE, _MAX_SCORING), last]


def _minimise(
    objective: StructuralObjective,
    curvature: Callable[[Array], Array],
    theta: Array,
    value: float,
    scale: Array,
    tolerance: float,
    most: int,
) -> Path:
    """Minimise in units of standard errors, so that the trust region is round."""

    def derivatives(phi: Array) -> tuple[Array, Array]:
        at = phi * scale
        return objective.gradient(at) * scale, curvature(at) * np.outer(scale, scale)

    return minimise(
        lambda phi: objective.value(phi * scale),
        derivatives,
        theta / scale,
        tolerance=max(tolerance, 1e-15 * abs(value)),
        max_iterations=most,
        noise=lambda: 0.0,
        start_value=value,
    )


def _start(
    objective: StructuralObjective, moments: list[dict[Level, LevelMoments]]
) -> tuple[Array, float]:
    """The first start at which the likelihood exists, and its value."""
    failure: LikelihoodError | None = None
    for is_plain in (False, True):
        theta = start_values(objective.model, moments, is_plain=is_plain)
        try:
            return theta, objective.value(theta)
        except LikelihoodError as error:
            failure = error
    raise EstimationError(
        "The likelihood must exist at the start values.",
        failure.found if failure else "",
        "give start values, like start(0.5)*x, or fix fewer parameters",
    ) from failure


def _moments_of(problem: StructuralProblem, fit: StructuralFit) -> list[dict[Level, LevelMoments]]:
    """The moments that a fitted model implies, as a start for another."""
    objective = problem.objective(fit.model)
    out = []
    for g in range(len(problem.design.groups)):
        at = objective.implied(fit.theta, g)
        out.append(
            {
                level: LevelMoments(fit.model.observed(level), part.mean, part.cov)
                for level, part in at.items()
            }
        )
    return out


def fit_saturated(problem: StructuralProblem) -> StructuralFit:
    """The model that restricts nothing (h1)."""
    return fit_structural(problem, saturated_model(problem.design.model))


def fit_independence(problem: StructuralProblem) -> StructuralFit:
    """The model without covariances, except among exogenous predictors."""
    return fit_structural(problem, independence_model(problem.design.model))


def _certify(
    objective: StructuralObjective, path: Path, iterations: int, history: list[float]
) -> Certificate:
    floor = curvature_floor(path.curvature)
    reasons = []
    if not path.decrement <= max(DECREMENT_LIMIT, 1e-12 * abs(path.value)):
        reasons.append(
            f"-2 log-likelihood would still fall by about {path.decrement:.2g} ({path.reason})"
        )
    if floor < CURVATURE_LIMIT:
        reasons.append(f"the curvature is not positive (smallest eigenvalue {floor:.2g})")
    elif floor < 1e-9:
        reasons.append("the data do not determine all parameters (a flat direction)")
    if reasons:
        sentence = f"NOT at an optimum: {'; '.join(reasons)}. Do not trust these estimates."
    else:
        sentence = (
            f"At the optimum: -2 log-likelihood can fall by no more than "
            f"{max(path.decrement, 1e-16):.1g}, and it curves upwards in every direction."
        )
    return Certificate(
        status="not_certified" if reasons else "certified",
        sentence=sentence,
        newton_decrement=float(path.decrement),
        max_scaled_gradient=scaled_gradient(path.gradient, path.curvature),
        min_curvature=floor,
        curvature="exact",
        boundary_residual=float("nan"),
        redundant=(),
        iterations=iterations,
        evaluations=objective.n_evaluations,
        restarts=0,
        history=tuple(history),
    )
