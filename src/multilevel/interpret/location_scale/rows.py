"""Rows under a location-scale model: their variances, correlations, prediction intervals.

Here for Gaussian responses with the identity link; ``response_rows`` has the other families.

The residual variance of a row is ``exp(w'tau + omega)``: of its own cluster (``"conditional"``), of
a typical cluster (``"population"``, ``omega = 0``), or on average over clusters (``"marginal"``,
``exp(w'tau + var(omega) / 2)``). The intraclass correlation of two rows of a cluster with the same
predictors is ``z'Gz / (z'Gz + sigma^2)`` with the residual variance of that kind.

A prediction interval is a quantile of the mixture, over what is not known of ``omega``, of normal
distributions whose means and variances depend on it: wider in the tails than a normal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows, replay_parts
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile, normal_tail
from multilevel.infer.means_tests import check_level
from multilevel.interpret.fitted import check_kind
from multilevel.interpret.generalized.delta import jacobian
from multilevel.interpret.generalized.evidence import (
    GeneralizedEvidence,
    add_effects,
    any_rows,
    block_covariance,
    fixed_predictors,
)
from multilevel.interpret.generalized.integrate import average
from multilevel.interpret.generalized.predict import KINDS
from multilevel.interpret.location_scale.effects import scale_part
from multilevel.interpret.location_scale.response_rows import (
    response_quantiles,
    response_variances,
)

Array = NDArray[np.float64]
NODES = 31
MOST_ROWS = 100_000
STEP = 1e-4  # of the derivative in a scale effect


@dataclass(frozen=True)
class RowVariances:
    """Variances and correlations by row of a table; NaN where a predictor is missing.

    Attributes
    ----------
    location_variance, residual_variance, residual_sd : (n,).
    icc, std_error, conf_low, conf_high : (n,) intraclass correlation, its delta-method error (of
        all parameters, and of the cluster's own scale effect), limits on the logit scale.
    sentence : what they are.
    """

    location_variance: Array
    residual_variance: Array
    residual_sd: Array
    icc: Array
    std_error: Array
    conf_low: Array
    conf_high: Array
    sentence: str


@dataclass(frozen=True)
class RowIntervals:
    """Prediction intervals by row: ``estimate, residual_sd, conf_low, conf_high`` (n,) each."""

    estimate: Array
    residual_sd: Array
    conf_low: Array
    conf_high: Array
    sentence: str


def is_linear(evidence: GeneralizedEvidence) -> bool:
    """Whether the residual variance is on the scale of the linear predictor."""
    return evidence.family.name == "gaussian" and evidence.family.link == "identity"


def _rows_of(evidence: GeneralizedEvidence, table: Any, kind: str) -> PartRows:
    check_kind(kind, KINDS, "variance")
    if table is None:
        return evidence.rows
    return replay_parts(
        evidence.design, table, groups="match" if kind == "conditional" else "ignore"
    )


def _covariance(rows: PartRows, evidence: GeneralizedEvidence, psi: Array) -> Array:
    """Covariance (m, 2, 2) of the location and scale effects of each row at ``psi``."""
    problem = evidence.prepared.problem
    d = scale_part(evidence.design)
    found = np.zeros((rows.n, 2, 2))
    pairs = zip(rows.columns, evidence.design.block_parts, problem.factors(psi), strict=True)
    for z, parts, L in pairs:
        keep = [a for a, part in enumerate(parts) if part in (0, d)]
        own = tuple(parts[a] for a in keep)
        G = (L @ L.T)[np.ix_(keep, keep)]
        found += block_covariance(z[:, keep], own, (0, d), G)
    return found


def row_variances(
    evidence: GeneralizedEvidence,
    table: Any = None,
    kind: str = "population",
    conf_level: float = 0.95,
) -> RowVariances:
    """Location and residual variance and the intraclass correlation of each row of a table.

    ``table``: None takes the analysed rows.

    Raises
    ------
    InferenceError : a response of categories, an unknown kind; see ``replay_parts``.
    """
    z = float(normal_quantile(0.5 + check_level(conf_level) / 2.0))
    rows = _rows_of(evidence, table, kind)
    d, m = scale_part(evidence.design), rows.n
    omega, omega_variance = _scale_effects(rows, evidence, kind)

    def linear(psi: Array) -> tuple[Array, Array]:
        S = _covariance(rows, evidence, psi)
        eta = fixed_predictors(rows, evidence.fit, psi)[d] + omega
        return S[:, 0, 0], np.exp(eta + (S[:, 1, 1] / 2.0 if kind == "marginal" else 0.0))

    def covariance(psi: Array) -> Array:
        return _covariance(rows, evidence, psi)

    variances = (
        linear
        if is_linear(evidence)
        else response_variances(rows, evidence, covariance, kind, omega)
    )

    def logit(psi: Array) -> Array:
        location, residual = variances(psi)
        return np.log(np.maximum(location, 1e-300)) - np.log(residual)

    location, residual = variances(evidence.fit.psi)
    value, J = jacobian(logit, evidence.fit)
    if not is_linear(evidence):  # the residual variance is not exp(omega) there
        shifted = response_variances(rows, evidence, covariance, kind, omega + STEP)
        up = np.log(np.maximum(shifted(evidence.fit.psi)[0], 1e-300))
        up = up - np.log(shifted(evidence.fit.psi)[1])
        omega_variance = omega_variance * ((up - value) / STEP) ** 2
    error = np.einsum("mp,pq,mq->m", J, evidence.fit.vcov, J) + omega_variance
    error = np.sqrt(np.maximum(error, 0.0))
    icc = location / (location + residual)
    low, high = (1.0 / (1.0 + np.exp(-(value + side * z * error))) for side in (-1.0, 1.0))
    whole = np.full((7, rows.rows.n_table if table is not None else m), np.nan)
    at = rows.rows.kept if table is not None else slice(None)
    whole[:, at] = np.stack(
        [location, residual, np.sqrt(residual), icc, error * icc * (1.0 - icc), low, high]
    )
    words = {
        "population": "of a typical cluster (scale effect zero)",
        "marginal": "averaged over clusters",
        "conditional": "of the row's own clusters",
    }[kind]
    scale = "" if is_linear(evidence) else "Variances are on the response scale. "
    return RowVariances(
        whole[0], whole[1], whole[2], whole[3], whole[4], whole[5], whole[6],
        f"{scale}The residual variance is that {words}; icc is the correlation of two rows of a "
        "cluster with these predictors. std_error: delta method.",
    )  # fmt: skip


def _scale_effects(rows: PartRows, evidence: GeneralizedEvidence, kind: str) -> tuple[Array, Array]:
    """Scale effects of the rows' clusters (m,) and their variances given the data."""
    d, m = scale_part(evidence.design), rows.n
    if kind != "conditional":
        return np.zeros(m), np.zeros(m)
    eta = add_effects(np.zeros((len(rows.X), m)), rows, evidence, evidence.effects)
    return eta[d], _given_data(rows, evidence)[:, 1, 1]


def _given_data(rows: PartRows, evidence: GeneralizedEvidence) -> Array:
    """Covariance (m, 2, 2) of each row's location and scale effects given the data; levels that
    are new have the covariance of the model. Effects of different factors count as independent."""
    d = scale_part(evidence.design)
    out = np.zeros((rows.n, 2, 2))
    pieces = zip(
        rows.columns, rows.codes, evidence.design.block_parts, evidence.effect_covariances,
        evidence.fit.random_covariance, strict=True,
    )  # fmt: skip
    for z, code, parts, C, G in pieces:
        keep = [a for a, part in enumerate(parts) if part in (0, d)]
        own = tuple(parts[a] for a in keep)
        S = np.where((code >= 0)[:, None, None], C[code], G)[:, keep][:, :, keep]
        out += block_covariance(z[:, keep], own, (0, d), S)
    return out


def prediction_intervals(
    evidence: GeneralizedEvidence,
    table: Any,
    kind: str = "conditional",
    share: float = 0.95,
) -> RowIntervals:
    """Intervals that hold a new response of each row with probability ``share``.

    ``"conditional"``: of the row's own cluster (a new one where its id is new); ``"marginal"`` and
    ``"population"``: of a new cluster (the expectation is the same: the model is linear). Also
    inside: the uncertainty of the coefficients of means and log variances.

    Raises
    ------
    InferenceError : a response of categories, an unknown kind, more than 100,000 rows (2,000 of
        families other than the Gaussian).
    """
    tail = (1.0 - check_level(share)) / 2.0
    rows = _rows_of(evidence, table, kind)
    if rows.n > MOST_ROWS:
        raise InferenceError(
            f"Prediction intervals are computed for at most {MOST_ROWS} rows.",
            f"{rows.n} rows", "pass fewer rows at a time",
        )  # fmt: skip
    d, fit = scale_part(evidence.design), evidence.fit
    eta = fixed_predictors(rows, fit)
    if kind == "conditional":
        eta = add_effects(eta, rows, evidence, evidence.effects)
        S = _given_data(rows, evidence)
    else:
        S = _new_cluster(rows, evidence)
    for at, part in ((0, 0), (1, d)):
        s = fit.fixed_slices[part]
        X = rows.X[part]
        S[:, at, at] += np.einsum("mp,pq,mq->m", X, fit.vcov[s, s], X)
    if not is_linear(evidence):
        return _other_family(rows, evidence, eta, S, tail, share, kind)
    t, w = np.polynomial.hermite_e.hermegauss(NODES)
    sd = np.sqrt(np.maximum(S[:, 1, 1], 1e-300))[:, None]
    slope = (S[:, 0, 1] / np.maximum(S[:, 1, 1], 1e-300))[:, None]
    mean = eta[0][:, None] + slope * sd * t
    rest = np.maximum(S[:, 0, 0] - slope[:, 0] * S[:, 0, 1], 0.0)[:, None]
    spread = np.sqrt(rest + np.exp(eta[d][:, None] + sd * t))
    low, high = (_mixture_quantile(mean, spread, w / w.sum(), p) for p in (tail, 1.0 - tail))
    whole = np.full((4, rows.rows.n_table), np.nan)
    whole[:, rows.rows.kept] = np.stack([eta[0], np.exp(eta[d] / 2.0), low, high])
    return RowIntervals(
        whole[0], whole[1], whole[2], whole[3],
        f"A new response lies between conf_low and conf_high with probability {share:g}, "
        + ("given the row's own cluster" if kind == "conditional" else "in a new cluster")
        + "; what is not known of its residual variance is inside the interval.",
    )  # fmt: skip


def _other_family(
    rows: PartRows, evidence: GeneralizedEvidence, eta: Array, S: Array, tail: float, share: float,
    kind: str,
) -> RowIntervals:  # fmt: skip
    """Intervals of a family that is not Gaussian with the identity link."""
    low, high = response_quantiles(evidence, eta, S, tail)
    family = any_rows(evidence, rows.n)
    random = (0, scale_part(evidence.design))
    mean = average(lambda e: family.mean(e)[None], eta, S, random)[0]
    whole = np.full((4, rows.rows.n_table), np.nan)
    whole[:, rows.rows.kept] = np.stack([mean, np.sqrt(family.variance(eta)), low, high])
    where = "given the row's own cluster" if kind == "conditional" else "in a new cluster"
    return RowIntervals(
        whole[0], whole[1], whole[2], whole[3],
        f"A new response lies between conf_low and conf_high with probability {share:g} (at least, "
        f"for counts), {where}; residual_sd is that of the response at the predicted effects.",
    )  # fmt: skip


def _new_cluster(rows: PartRows, evidence: GeneralizedEvidence) -> Array:
    """Covariance (m, 2, 2) of the location and scale effects of new levels."""
    d = scale_part(evidence.design)
    out = np.zeros((rows.n, 2, 2))
    pieces = zip(
        rows.columns, evidence.design.block_parts, evidence.fit.random_covariance, strict=True
    )
    for z, parts, G in pieces:
        keep = [a for a, part in enumerate(parts) if part in (0, d)]
        own = tuple(parts[a] for a in keep)
        out += block_covariance(z[:, keep], own, (0, d), G[np.ix_(keep, keep)])
    return out


def _mixture_quantile(mean: Array, sd: Array, weights: Array, p: float) -> Array:
    """The p-quantile (m,) of mixtures of normals, means and sds (m, K), by bisection."""
    z = float(normal_quantile(p))
    reach = mean + z * sd
    low, high = reach.min(axis=1), reach.max(axis=1)
    for _ in range(60):
        middle = (low + high) / 2.0
        below = (1.0 - normal_tail((middle[:, None] - mean) / sd)) @ weights < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)
