r"""Variances of a generalized model on the scale of its linear predictor.

* Binary and ordered responses: a latent response with residual variance ``pi^2/3`` (logit), 1
  (probit) or ``pi^2/6`` (cloglog); Snijders & Bosker 2012, section 17.2.
* Log links: the observation-level variance at the mean ``lam``. With ``v = Var(y | lam) / lam^2``
  it is ``ln(1 + v)`` (lognormal), ``v`` (delta) or ``trigamma(1 / v)``; Nakagawa, Johnson &
  Schielzeth 2017 (Journal of the Royal Society Interface 14:20170213). ``lam`` is the mean over
  the analysed rows of the expected response, averaged over the random effects.
* Conditionally normal responses (and t): the residual variance.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma

from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    any_rows,
    fixed_predictors,
    predictor_covariance,
)

Array = NDArray[np.float64]
ObservationLevel = Literal["lognormal", "delta", "trigamma"]
OBSERVATION_LEVELS: tuple[str, ...] = get_args(ObservationLevel)


def latent_words(evidence: GeneralizedEvidence, level: str) -> str:
    """What stands for the variance within clusters, in words."""
    family = evidence.family
    if family.level_one_variance is not None:
        value = f"{family.level_one_variance:.3f}"
        return f"the latent residual variance of the {family.link} link, {value}"
    if family.has_residual:
        return "the residual variance"
    return f"the observation-level variance ({level}; Nakagawa et al. 2017)"


def check_level_name(level: str) -> str:
    """A known form of the observation-level variance, or ``InferenceError``."""
    if level not in OBSERVATION_LEVELS:
        raise InferenceError(
            f"level must be one of {', '.join(map(repr, OBSERVATION_LEVELS))}.",
            f"level={level!r}",
            'write level="lognormal"',
        )
    return level


def level_one_variance(evidence: GeneralizedEvidence, psi: Array, level: str) -> float:
    """Variance of one observation on the scale of the predictor, at parameters ``psi``.

    Raises
    ------
    InferenceError : a family without such a variance.
    """
    family = evidence.family
    if family.level_one_variance is not None:
        return family.level_one_variance
    eta = fixed_predictors(evidence.rows, evidence.fit, psi)
    factors = evidence.prepared.problem.factors(psi)
    S = predictor_covariance(evidence.rows, evidence, tuple(L @ L.T for L in factors))
    if 1 in evidence.random and len(eta) > 1:  # a log dispersion that varies over clusters
        at = evidence.random.index(1)
        eta[1] += S[:, at, at] / 2.0
    if family.has_residual and family.link == "identity":
        return _residual_variance(evidence, eta)
    if family.link != "log" or family.option("zero") or family.option("truncated") == "yes":
        raise InferenceError(
            "A variance within clusters on the link scale exists for logit, probit and cloglog"
            " links, log links without extra zeros, and normal residuals.",
            f"family {family.label}",
            'write scale="observation"',
        )
    centre = eta.mean(axis=1)
    mean_variance = S[:, 0, 0] if evidence.random and evidence.random[0] == 0 else np.zeros(1)
    lam = float(np.mean(np.exp(eta[0] + mean_variance / 2.0)))
    centre[0] = math.log(lam)
    v = float(any_rows(evidence, 1).variance(centre[:, None])[0]) / lam**2
    if level == "delta":
        return v
    return math.log1p(v) if level == "lognormal" else float(polygamma(1, 1.0 / v))


def _residual_variance(evidence: GeneralizedEvidence, eta: Array) -> float:
    """Mean residual variance over the rows, for a row of weight 1, on the scale of the mean."""
    variance = np.exp(eta[1])
    if evidence.family.name == "student":
        df = np.exp(eta[2])
        if np.any(df <= 2.0):
            raise InferenceError(
                "The residual variance must be finite.",
                f"{df.min():.2f} degrees of freedom of the residuals",
                "report the scale instead",
            )
        variance = variance * df / (df - 2.0)
    return float(variance.mean())


def between_variances(evidence: GeneralizedEvidence, psi: Array, part: int = 0) -> Array:
    """Mean variance (T,) that each block gives the predictor of one part over the analysed rows."""
    return mean_variances(evidence, evidence.rows.spread, psi, part)


def mean_variances(
    evidence: GeneralizedEvidence, columns: tuple[Array, ...], psi: Array, part: int = 0
) -> Array:
    """Mean of ``z'Gz`` (T,) over rows with these columns (m, q_t), of one part, by block."""
    out = []
    factors = evidence.prepared.problem.factors(psi)
    for z, parts, L in zip(columns, evidence.design.block_parts, factors, strict=True):
        own = [a for a, d in enumerate(parts) if d == part]
        G, mine = (L @ L.T)[np.ix_(own, own)], z[:, own]
        out.append(float(np.trace(G @ (mine.T @ mine))) / len(z))
    return np.array(out)


def fixed_variance(evidence: GeneralizedEvidence, psi: Array) -> float:
    """Variance (divisor n) over the analysed rows of the predictor of the mean."""
    return float(np.var(fixed_predictors(evidence.rows, evidence.fit, psi)[0]))
