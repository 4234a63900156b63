"""Covariances of the estimates of mixed structural models, and their thresholds and dispersions.

``"observed"``: inverse of the Hessian; ``"robust"``: ``H^-1 J H^-1`` with J the sum over clusters
(rows, where there are none) of the scores' outer products (Huber 1967, White 1982).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit
from multilevel.estimate.structural_mixed import MixedFit
from multilevel.infer.structural import StdErrorType, StructuralCovariance, inverse_information
from multilevel.likelihood.structural.mixed_objective import extra_names
from multilevel.model.families.categories import natural_thresholds, threshold_names

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FamilyParameters:
    """Thresholds and dispersions on their natural scale.

    Attributes
    ----------
    outcomes, names : of each.
    estimate : (k,); jacobian (k, q) in all parameters.
    """

    outcomes: tuple[str, ...]
    names: tuple[str, ...]
    estimate: Array
    jacobian: Array


def mixed_covariance(fit: MixedFit, type: StdErrorType) -> StructuralCovariance:
    """Covariance (q, q) of all parameters.

    Raises
    ------
    InferenceError : ``"expected"``; robust ones with crossed clusters; no inverse.
    """
    if type == "expected":
        raise InferenceError(
            "Models with families= or crossed clusters have observed or robust standard errors.",
            "std_errors='expected'",
            'write std_errors="observed" or "robust"',
        )
    words, T = "", np.eye(fit.n_parameters)
    if fit.boundary is None:
        inverse = inverse_information(0.5 * fit.hessian, "observed")
    else:
        T = fit.boundary.tangent
        inverse = T @ inverse_information(0.5 * fit.boundary.hessian, "observed") @ T.T
        words = " They are given the boundary: what is estimated at it has none."
    if type == "observed":
        return StructuralCovariance(
            type, inverse, f"Standard errors from the observed information; z tests.{words}"
        )
    if fit.scores is None:
        factors = fit.layout.design.factors
        found = "no random effects" if not factors else f"{len(factors)} cluster columns"
        raise InferenceError(
            "Robust standard errors need independent clusters, of one column.", found,
            'write "observed"',
        )  # fmt: skip
    n, q = fit.scores.shape
    unit = "clusters" if fit.layout.design.factors else "rows"
    sentence = f"Robust standard errors (MLR: the scores of {n} {unit}); z tests.{words}"
    if n <= q:
        sentence += f" {n} {unit} are few for {q} parameters: these standard errors are unreliable."
    return StructuralCovariance(type, inverse @ (fit.scores.T @ fit.scores) @ inverse, sentence)


def held_at_boundary(fit: MixedFit) -> NDArray[np.bool_]:
    """(q,) parameters that are estimated at the boundary."""
    if fit.boundary is None:
        return np.zeros(fit.n_parameters, dtype=np.bool_)
    return np.asarray(~np.any(fit.boundary.tangent != 0.0, axis=1), dtype=np.bool_)


def table_fit(fit: MixedFit) -> StructuralFit:
    """The free parameters of the table as a structural fit (for functions of them)."""
    design, n = fit.layout.design, fit.layout.n_structural
    return StructuralFit(
        model=design.model.whole,
        theta=fit.theta[:n],
        criterion=fit.criterion,
        n_rows=design.n_rows,
        n_clusters=len(design.factors[0].labels) if design.factors else design.n_rows,
        certificate=fit.certificate,
        boundary=None
        if fit.boundary is None
        else replace(fit.boundary, tangent=fit.boundary.tangent[:n]),
    )


def of_table(fit: MixedFit, covariance: StructuralCovariance) -> StructuralCovariance:
    """The part of a covariance that belongs to the parameters of the table."""
    n = fit.layout.n_structural
    return StructuralCovariance(covariance.type, covariance.vcov[:n, :n], covariance.sentence)


def table_values(fit: MixedFit) -> tuple[Array, Array]:
    """Value (k,) and derivative (k, q) of every row of the parameter table.

    Moments of predictors that are conditioned on are not among them: NaN.
    """
    rows, q = fit.layout.design.model.parameters, fit.n_parameters
    values, jacobian = np.full(len(rows), np.nan), np.zeros((len(rows), q))
    for k, p in enumerate(rows):
        if p.is_free:
            values[k], jacobian[k, p.free] = fit.theta[p.free], 1.0
        elif p.origin != "exogenous":
            values[k] = p.value
    return values, jacobian


def family_parameters(fit: MixedFit) -> FamilyParameters:
    """Thresholds, and dispersions (the exponential of their linear predictor)."""
    design, n = fit.layout.design, fit.layout.n_structural
    extras = extra_names(design)
    outcomes, names = [], []
    values: list[float] = []
    jacobian = np.zeros((len(extras), fit.n_parameters))
    for k in dict.fromkeys(k for k, _ in extras):
        at = [n + i for i, (own, _) in enumerate(extras) if own == k]
        family = design.families[k]
        theta = fit.theta[at]
        here = slice(len(values), len(values) + len(at))
        if family.option("thresholds"):
            kind = next(kind for kind in design.kinds if kind.outcome == k)
            found, slopes = natural_thresholds(family, theta)
            names += list(threshold_names(kind.response.categories))
        else:
            found = np.exp(theta)
            slopes = np.diag(found)
            names += [part.meaning for part in family.parts[1:]]
        jacobian[here, at[0] : at[-1] + 1] = slopes
        values += [float(v) for v in found]
        outcomes += [design.outcomes[k]] * len(at)
    return FamilyParameters(tuple(outcomes), tuple(names), np.array(values), jacobian)
