"""Fitted values and residuals of the analysed rows of a generalized fit.

Sources: McCullagh & Nelder 1989, section 2.4 (Pearson, deviance); Dunn & Smyth 1996 (Journal of
Computational and Graphical Statistics 5:236) for randomised quantile residuals.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.errors import InferenceError
from multilevel.interpret.fitted import check_kind
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    fixed_predictors,
    predictor_covariance,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.predict import KINDS, check_request, link_parts
from multilevel.likelihood.generalized.families.binomial import predictor

Array = NDArray[np.float64]
ResidualKind = Literal["response", "pearson", "deviance", "quantile"]
RESIDUAL_KINDS: tuple[str, ...] = get_args(ResidualKind)
WITH_DEVIANCE = (
    "gaussian", "binomial", "poisson", "negative_binomial", "gamma", "inverse_gaussian", "tweedie",
)  # fmt: skip
EDGE = 1e-12


def predictors(evidence: GeneralizedEvidence, kind: str) -> Array:
    """Linear predictors (D, n) of the analysed rows, with their random effects if conditional."""
    eta = fixed_predictors(evidence.rows, evidence.fit)
    if kind == "conditional":
        eta = add_effects(eta, evidence.rows, evidence, evidence.effects)
    return eta


def fitted_values(
    evidence: GeneralizedEvidence, kind: str = "conditional", scale: str = "response"
) -> Array:
    """Fitted values (C, n) of the analysed rows, the weights of the rows included.

    Parameters
    ----------
    kind : ``"conditional"``, ``"population"`` or ``"marginal"``, as in ``predict_table``.
    scale : ``"response"`` or ``"link"``.

    Raises
    ------
    InferenceError : an unknown kind or scale.
    """
    check_request(evidence, kind, scale)
    eta = predictors(evidence, kind)
    if scale == "link":
        return np.asarray(eta[link_parts(evidence)])

    def mean(at: Array) -> Array:
        return np.atleast_2d(evidence.outcome.mean(at))

    if kind == "marginal" and evidence.random:
        S = predictor_covariance(evidence.rows, evidence)
        return average(mean, eta, S, evidence.random)
    return mean(eta)


def observed(evidence: GeneralizedEvidence) -> Array:
    """The response (n,) in units of its mean: proportions of trials, codes of categories."""
    response = evidence.design.response
    if response.trials is None:
        return response.y
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(response.y / response.trials)


def residuals(
    evidence: GeneralizedEvidence,
    kind: str = "pearson",
    given: str = "conditional",
    rng: np.random.Generator | None = None,
) -> Array:
    """Residuals (n,) of the analysed rows.

    Parameters
    ----------
    kind : ``"response"`` (observed minus expected; codes of ordered categories), ``"pearson"``
        (over the model's standard deviation), ``"deviance"`` (signed root of the scaled deviance),
        ``"quantile"`` (standard normal if the model holds, for every family).
    given : expectations with estimated random effects (``"conditional"``), at zero
        (``"population"``) or averaged over them (``"marginal"``; responses and quantiles only).
    rng : spreads quantile residuals of discrete responses within their step.

    Raises
    ------
    InferenceError : an unknown kind, or one that the family does not have.
    """
    check_kind(kind, RESIDUAL_KINDS, "residuals")
    check_kind(given, KINDS, "expectation")
    if kind == "quantile":
        return quantile_scores(evidence, given, rng)
    family = evidence.family
    if family.response in ("nominal", "interval"):
        raise InferenceError(
            "Residuals of this kind need responses that are numbers.",
            f"family {family.label}",
            'write kind="quantile"',
        )
    if given == "marginal" and kind != "response":
        raise InferenceError(
            f"{kind} residuals belong to one value of the random effects.",
            'given="marginal"',
            'write given="conditional" or given="population", or kind="quantile"',
        )
    if kind == "deviance":
        return _deviance(evidence, given)
    mean = fitted_values(evidence, given)
    expected = mean[0] if len(mean) == 1 else np.arange(float(len(mean))) @ mean
    found = observed(evidence) - expected
    if kind == "response":
        return np.asarray(found)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(found / np.sqrt(evidence.outcome.variance(predictors(evidence, given))))


def cumulative(evidence: GeneralizedEvidence, given: str) -> tuple[Array, Array]:
    """``P(Y < y)`` and ``P(Y <= y)`` (n,) of the observed responses."""
    eta = predictors(evidence, given)

    def both(at: Array) -> Array:
        return np.stack(evidence.outcome.cumulative(at))

    if given == "marginal" and evidence.random:
        S = predictor_covariance(evidence.rows, evidence)
        below, up_to = average(both, eta, S, evidence.random)
    else:
        below, up_to = both(eta)
    return below, up_to


def quantile_scores(
    evidence: GeneralizedEvidence, given: str, rng: np.random.Generator | None
) -> Array:
    """Randomised quantile residuals (n,): standard normal under the model."""
    if rng is None:
        raise InferenceError(
            "Quantile residuals are randomised.", "no random generator", "give a seed"
        )
    below, up_to = cumulative(evidence, given)
    u = below + rng.random(len(below)) * (up_to - below)
    return np.asarray(ndtri(np.clip(u, EDGE, 1.0 - EDGE)))


def saturated(evidence: GeneralizedEvidence) -> Array:
    """Predictors (n,) of the mean at which each expected response is the observed one."""
    link, y = evidence.family.link, observed(evidence)
    if evidence.family.name == "binomial":
        inside = np.clip(y, EDGE, 1.0 - EDGE)
        return np.array([predictor(link, float(p)) for p in inside])
    if link == "identity":
        return np.asarray(np.maximum(y, EDGE) if evidence.family.name == "poisson" else y)
    inside = np.maximum(y, EDGE)
    return np.asarray({"log": np.log, "sqrt": np.sqrt, "inverse": np.reciprocal}[link](inside))


def _deviance(evidence: GeneralizedEvidence, given: str) -> Array:
    """``sign(y - mu) sqrt(2 (l(y; y) - l(y; mu)))``, dispersions held at their values."""
    family = evidence.family
    if family.name not in WITH_DEVIANCE or family.option("truncated") == "yes":
        raise InferenceError(
            "Deviance residuals belong to " + ", ".join(WITH_DEVIANCE) + ".",
            f"family {family.label}",
            'write kind="quantile" or kind="pearson"',
        )
    eta = predictors(evidence, given)
    best = eta.copy()
    best[0] = saturated(evidence)
    gap = evidence.outcome.value(best[:, None])[0] - evidence.outcome.value(eta[:, None])[0]
    weights = evidence.design.frequency_weights
    if weights is not None:
        gap = np.divide(gap, weights, out=np.zeros_like(gap), where=weights > 0)
    sign = np.sign(observed(evidence) - evidence.outcome.mean(eta))
    return np.asarray(sign * np.sqrt(2.0 * np.maximum(gap, 0.0)))


def draw_responses(
    evidence: GeneralizedEvidence, n_sim: int, rng: np.random.Generator, given: str
) -> Array:
    """(n, n_sim) simulated responses in units of ``Response.y``.

    ``given``: ``"conditional"`` keeps the estimated random effects, ``"marginal"`` draws new ones.
    """
    fixed = fixed_predictors(evidence.rows, evidence.fit)
    out = np.empty((fixed.shape[1], n_sim), order="F")
    for k in range(n_sim):
        effects = evidence.effects
        if given == "marginal":
            pairs = zip(effects, evidence.fit.relative_factors, strict=True)
            effects = tuple(rng.standard_normal(b.shape) @ L.T for b, L in pairs)
        out[:, k] = evidence.outcome.draw(add_effects(fixed, evidence.rows, evidence, effects), rng)
    return out
