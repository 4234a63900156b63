r"""Variances and prediction intervals of rows of families other than the Gaussian (identity link).

All on the response scale, with ``mu(eta)`` and ``v(eta)`` the family's mean and variance and the
random effects integrated out numerically:

    location variance = Var_b mu(eta + b),   residual variance = E_b v(eta + b),
    icc = location / (location + residual),

the correlation of two rows of a cluster with these predictors (law of total variance; Goldstein,
Browne & Rasbash 2002). ``"population"``: scale effect zero; ``"conditional"``: that of the row's
own clusters; ``"marginal"``: scale effects integrated out too.

A prediction interval holds the quantiles of the response distribution averaged over what is not
known of the row's cluster and of the coefficients; for counts the smallest values whose cumulative
probability reaches them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    any_rows,
    fixed_predictors,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.location_scale.effects import scale_part
from multilevel.likelihood.generalized.families.make import make_rows

Array = NDArray[np.float64]
Covariance = Callable[[Array], Array]
MOST_ROWS = 2_000
HALVINGS = 45
_SMALL = 1e-12
#: Kinds of response with intervals, and where their values lie.
_COUNT = "count"
_RANGES = {
    "number": "real", "positive": "positive", "nonnegative": "positive", "proportion": "unit",
    "unit_interval": "unit", _COUNT: _COUNT,
}  # fmt: skip


def response_variances(
    rows: PartRows, evidence: GeneralizedEvidence, covariance: Covariance, kind: str, omega: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """``psi -> (location variance, residual variance)`` (m,) each, on the response scale.

    Parameters
    ----------
    covariance : ``psi ->`` covariance (m, 2, 2) of the location and scale effects of each row.
    omega : (m,) scale effects of the rows' own clusters (zero for other kinds).
    """
    d, family = scale_part(evidence.design), any_rows(evidence, rows.n)

    def moments(eta: Array) -> Array:
        mu = family.mean(eta)
        if np.ndim(mu) != 1:
            raise InferenceError(
                "Variances of rows need a response that is one number.",
                f"family {evidence.family.label}",
                "icc() answers on the link scale",
            )
        return np.stack([mu, mu * mu, family.variance(eta)])

    def found(psi: Array) -> tuple[Array, Array]:
        eta = fixed_predictors(rows, evidence.fit, psi)
        eta[d] += omega
        S = covariance(psi)
        random = (0, d) if kind == "marginal" else (0,)
        S = S if kind == "marginal" else S[:, :1, :1]
        mean, square, within = average(moments, eta, S, random)
        return np.maximum(square - mean * mean, 0.0), within

    return found


def response_quantiles(
    evidence: GeneralizedEvidence, eta: Array, S: Array, tail: float
) -> tuple[Array, Array]:
    """Lower and upper quantiles (m,) of the response, predictors ``eta``, noise ``S`` (m, 2, 2).

    Raises
    ------
    InferenceError : responses that are categories, or bounded by data; too many rows.
    """
    m, kind = eta.shape[1], _RANGES.get(evidence.family.response, "")
    if not kind:
        raise InferenceError(
            "Prediction intervals are for numbers and counts.",
            f"family {evidence.family.label}",
            'predict(kind="marginal") gives expectations and probabilities',
        )
    if m > MOST_ROWS:
        raise InferenceError(
            f"Prediction intervals of this family are computed for at most {MOST_ROWS} rows.",
            f"{m} rows", "pass fewer rows at a time",
        )  # fmt: skip
    random = (0, scale_part(evidence.design))

    def below(y: Array) -> Array:
        """``P(Y <= y)`` by row."""
        given = replace(evidence.design.response.take(np.zeros(m, dtype=np.intp)), y=y)
        rows = make_rows(evidence.family, given, None, ())
        return np.asarray(average(lambda e: rows.cumulative(e)[1][None], eta, S, random)[0])

    mean = average(lambda e: any_rows(evidence, m).mean(e)[None], eta, S, random)[0]
    if kind == _COUNT:
        return _counts(below, mean, tail), _counts(below, mean, 1.0 - tail)
    return _numbers(below, mean, tail, kind), _numbers(below, mean, 1.0 - tail, kind)


def _counts(below: Callable[[Array], Array], mean: Array, p: float) -> Array:
    """Smallest counts (m,) with a cumulative probability of at least p."""
    low, high = np.full(len(mean), -1.0), np.ceil(mean) + 1.0
    for _ in range(HALVINGS):
        short = below(high) < p
        if not short.any():
            break
        low, high = np.where(short, high, low), np.where(short, 2.0 * high + 1.0, high)
    while np.any(high - low > 1.0):
        middle = np.floor((low + high) / 2.0)
        middle = np.maximum(middle, 0.0)
        short = below(middle) < p
        open_ = high - low > 1.0
        low, high = np.where(short & open_, middle, low), np.where(~short & open_, middle, high)
    return high


def _numbers(below: Callable[[Array], Array], mean: Array, p: float, kind: str) -> Array:
    """The p-quantile (m,), by bisection on a scale without bounds."""
    if kind == "real":
        centre, reach, limit = mean, 1.0 + np.abs(mean), np.inf
    elif kind == "positive":
        centre, reach, limit = np.log(np.maximum(mean, _SMALL)), np.ones(len(mean)), 600.0
    else:
        inside = np.clip(mean, _SMALL, 1.0 - _SMALL)
        centre, reach, limit = np.log(inside / (1.0 - inside)), np.ones(len(mean)), 30.0

    def back(t: Array) -> Array:
        if kind == "real":
            return t
        return np.exp(t) if kind == "positive" else np.asarray(1.0 / (1.0 + np.exp(-t)))

    low, high = centre - reach, centre + reach
    for _ in range(HALVINGS):
        over = (below(back(low)) > p) & (low > -limit)
        short = (below(back(high)) < p) & (high < limit)
        if not (over.any() or short.any()):
            break
        reach = 2.0 * reach
        low = np.where(over, np.maximum(centre - reach, -limit), low)
        high = np.where(short, np.minimum(centre + reach, limit), high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        short = below(back(middle)) < p
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return back((low + high) / 2.0)
