"""Covariances of structural estimates, z tests, and functions of parameters by the delta method.

Standard errors:

* ``"observed"``: inverse of the exact Hessian; the default, and right when values are missing at
  random (Kenward & Molenberghs 1998);
* ``"expected"``: inverse of the expected information, which averages over the model's distribution
  of all variables: a predictor that is named at level 1 only counts as having no between part,
  even if it has one in the data;
* ``"robust"`` (MLR): ``H^-1 J H^-1`` with J the sum over clusters of the scores' outer products
  (Huber 1967, White 1982); no small-sample factor, as in Mplus and lavaan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural import (
    Boundary,
    StructuralFit,
    StructuralProblem,
    hessian_at,
)
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.likelihood.structural.objective import StructuralObjective
from multilevel.model.structural.records import StructuralModel

Array = NDArray[np.float64]
StdErrorType = Literal["observed", "expected", "robust"]
STD_ERROR_TYPES: tuple[str, ...] = get_args(StdErrorType)
_SENTENCES = {
    "observed": "Standard errors from the observed information; z tests.",
    "expected": "Standard errors from the expected information; z tests.",
    "robust": "Robust standard errors (MLR: the scores of {n} clusters); z tests.",
}


@dataclass(frozen=True)
class StructuralCovariance:
    """Covariance (q, q) of the free parameters, its type, and what was done in words.

    ``flat`` (q, f): directions in which the data determine nothing, so that what moves along them
    has no standard error.
    """

    type: StdErrorType
    vcov: Array
    sentence: str
    flat: Array | None = None

    def is_determined(self, jacobian: Array) -> NDArray[np.bool_]:
        """(k,) whether the data determine functions with derivatives ``jacobian`` (k, q)."""
        if self.flat is None or not self.flat.size:
            return np.ones(len(jacobian), dtype=np.bool_)
        flat = self.flat / np.linalg.norm(self.flat, axis=0)
        moved = np.abs(jacobian @ flat).max(axis=1)
        return np.asarray(moved <= 1e-4 * np.linalg.norm(jacobian, axis=1))


@dataclass(frozen=True)
class ParameterTests:
    """Estimates with standard errors, z tests and intervals: arrays of one length.

    A parameter that is not estimated has NaN in all but ``estimate``.
    """

    estimate: Array
    std_error: Array
    statistic: Array
    p_value: Array
    conf_low: Array
    conf_high: Array
    conf_level: float
    sentence: str


def check_std_errors(type: str) -> StdErrorType:
    """The type of standard errors asked for.

    Raises
    ------
    InferenceError : an unknown one.
    """
    for known in get_args(StdErrorType):
        if type == known:
            return known  # type: ignore[no-any-return]
    raise InferenceError(
        f"std_errors is one of {', '.join(STD_ERROR_TYPES)}.", f"{type!r}", 'write "observed"'
    )


def inverse_information(matrix: Array, what: str) -> Array:
    """Inverse of an information matrix, scaled first.

    Raises
    ------
    InferenceError : a matrix that is not positive definite.
    """
    size = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    unit = matrix / np.outer(size, size)
    values, vectors = np.linalg.eigh(unit)
    if float(values.min()) <= 1e-12:
        raise InferenceError(
            f"The {what} information must be positive definite.",
            f"smallest scaled eigenvalue {float(values.min()):.2g}",
            "simplify the model: the data do not determine all parameters",
        )
    return np.asarray((vectors / values) @ vectors.T / np.outer(size, size))


def structural_covariance(
    problem: StructuralProblem, fit: StructuralFit, type: StdErrorType
) -> StructuralCovariance:
    """Covariance of the estimates (see the module).

    Raises
    ------
    InferenceError : an information matrix without an inverse.
    """
    objective = problem.objective(fit.model)
    sentence = _SENTENCES[type].format(n=fit.n_clusters)
    if fit.boundary is not None:
        return _at_boundary(objective, fit, fit.boundary, type, sentence)
    if type == "expected":
        if fit.model.random_slopes:
            raise InferenceError(
                "The expected information exists for models without random slopes.",
                f"random slopes {', '.join(fit.model.slope_names)}",
                'write std_errors="observed" or "robust"',
            )
        inverse = inverse_information(objective.expected_information(fit.theta), type)
        return StructuralCovariance(type, inverse, sentence)
    inverse = inverse_information(0.5 * hessian_at(problem, fit), "observed")
    if type == "robust":
        scores = objective.scores(fit.theta)
        inverse = inverse @ (scores.T @ scores) @ inverse
        if fit.n_clusters <= fit.n_parameters:
            sentence += (
                f" {fit.n_clusters} clusters are few for {fit.n_parameters} parameters: these"
                " standard errors are unreliable."
            )
    return StructuralCovariance(type, inverse, sentence)


def _at_boundary(
    objective: StructuralObjective,
    fit: StructuralFit,
    boundary: Boundary,
    type: StdErrorType,
    sentence: str,
) -> StructuralCovariance:
    """Covariance of the parameters that are left, given the boundary; zero for those on it."""
    T = boundary.tangent
    half = 0.5 * boundary.hessian
    if type == "expected" and not fit.model.random_slopes:
        half = T.T @ objective.expected_information(fit.theta) @ T
    inverse = inverse_information(half, "observed")
    if type == "robust":
        scores = objective.scores(fit.theta) @ T
        inverse = inverse @ (scores.T @ scores) @ inverse
    sentence += " They are given the boundary: what is estimated at it has none."
    return StructuralCovariance(type, T @ inverse @ T.T, sentence, boundary.flat)


def require_inside(fit: StructuralFit, what: str) -> None:
    """Refuse a method that moves all parameters freely where the estimates are at a boundary.

    Raises
    ------
    InferenceError : estimates at the boundary.
    """
    if fit.boundary is not None:
        raise InferenceError(
            f"{what} moves all parameters both ways, so the estimates must lie inside.",
            " ".join(fit.boundary.sentences),
            'write interval="monte_carlo" or "delta" (given it), or fix what is zero at 0',
        )


def covariance_if_any(
    problem: StructuralProblem, fit: StructuralFit, type: StdErrorType
) -> StructuralCovariance:
    """As ``structural_covariance``; NaN, with the reason as the sentence, where there is none."""
    try:
        return structural_covariance(problem, fit, type)
    except InferenceError as error:
        q = fit.n_parameters
        sentence = f"No standard errors: {error.must.rstrip('.')} ({error.found})."
        return StructuralCovariance(type, np.full((q, q), np.nan), sentence)


def correction_trace(problem: StructuralProblem, fit: StructuralFit) -> float:
    """``tr(H^-1 J)``: the number of parameters if the model is right (Yuan & Bentler 2000)."""
    objective = problem.objective(fit.model)
    inverse = inverse_information(0.5 * hessian_at(problem, fit), "observed")
    scores = objective.scores(fit.theta)
    return float(np.sum(inverse * (scores.T @ scores)))


def z_tests(
    estimate: Array, jacobian: Array, covariance: StructuralCovariance, conf_level: float
) -> ParameterTests:
    """Wald tests of functions of the parameters, (k,) with derivatives ``jacobian`` (k, q).

    Raises
    ------
    InferenceError : a confidence level outside (0, 1).
    """
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "conf_level lies between 0 and 1.", f"{conf_level!r}", "write conf_level=0.95"
        )
    variance = np.einsum("ka,ab,kb->k", jacobian, covariance.vcov, jacobian)
    variance = np.where(covariance.is_determined(jacobian), variance, np.nan)
    error = np.sqrt(np.where(variance > 0.0, variance, np.nan))
    statistic = estimate / error
    width = float(normal_quantile(0.5 + 0.5 * conf_level)) * error
    return ParameterTests(
        estimate=estimate,
        std_error=error,
        statistic=statistic,
        p_value=2.0 * normal_tail(np.abs(statistic)),
        conf_low=estimate - width,
        conf_high=estimate + width,
        conf_level=conf_level,
        sentence=covariance.sentence,
    )


def parameter_values(problem: StructuralProblem, fit: StructuralFit) -> tuple[Array, Array]:
    """Value (k,) and derivative (k, q) of every row of the parameter table."""
    rows, q = fit.model.parameters, fit.n_parameters
    values, jacobian = np.zeros(len(rows)), np.zeros((len(rows), q))
    for k, p in enumerate(rows):
        if p.is_free:
            values[k], jacobian[k, p.free] = fit.theta[p.free], 1.0
        elif p.origin == "exogenous":
            values[k] = problem.exogenous[p.group][p.level].values[p.lhs, p.op, p.rhs]
        else:
            values[k] = p.value
    return values, jacobian


def label_duals(fit: StructuralFit) -> dict[str, tuple[float, Array]]:
    """Value and (q,) gradient of every label and every defined parameter.

    Raises
    ------
    ModelError : a definition that does not exist at the estimates.
    """
    return _duals_at(fit.model, fit.theta)


def _duals_at(model: StructuralModel, theta: Array) -> dict[str, tuple[float, Array]]:
    q = len(theta)
    known: dict[str, tuple[float, Array]] = {}
    for p in model.parameters:
        if p.label:
            slope = np.zeros(q)
            if p.is_free:
                slope[p.free] = 1.0
            known[p.label] = (float(theta[p.free]) if p.is_free else p.value, slope)
    for d in model.defined:
        known[d.name] = d.expression.evaluate(known, q)
    return known


def defined_at(model: StructuralModel, theta: Array) -> tuple[Array, Array]:
    """Value (k,) and derivative (k, q) of the defined parameters at any (q,) ``theta``.

    Raises
    ------
    ModelError : a definition that does not exist there.
    """
    known = _duals_at(model, theta)
    names = [d.name for d in model.defined]
    values = np.array([known[name][0] for name in names])
    slopes = [known[name][1] for name in names]
    return values, np.array(slopes).reshape(len(names), len(theta))


def defined_values(fit: StructuralFit) -> tuple[Array, Array]:
    """Value (k,) and derivative (k, q) of the defined parameters, in order."""
    return defined_at(fit.model, fit.theta)
