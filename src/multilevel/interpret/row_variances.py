r"""Variances and the intraclass correlation of rows as functions of their predictors.

``v_i = z_i'G_i z_i`` between, ``s_i`` within, ``icc_i = v_i / (v_i + s_i)``: the correlation of two
rows of one cluster with these predictors. ``G_i`` depends on the row's cluster where
``random_scale=`` or ``by=`` say so, ``s_i`` on ``scale=`` and ``residual=``.
Standard errors by the delta method in all covariance parameters, intervals on the logit scale.
Source: Snijders & Bosker 2012, sections 5.1 and 8.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import n_scale_parameters
from multilevel.design.records import Design
from multilevel.design.replay import NewBlock, replay
from multilevel.design.residual_replay import new_residuals
from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.estimate.structured_report import LARGEST_ERROR, covariance_of
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.fitted import fixed_part

Array = NDArray[np.float64]
STEP = 1e-5
SENTENCE = (
    "location_variance: variance between clusters at the predictors of the row; residual_variance:"
    " within; icc: correlation of two rows of a cluster with these predictors (delta method)."
)


@dataclass(frozen=True)
class RowShares:
    """Per row of the table, NaN where a predictor is missing: (n,) each.

    Attributes
    ----------
    location_variance, residual_variance, residual_sd : in squared units (units) of the response.
    icc, std_error, conf_low, conf_high : share of the variance between clusters.
    sentence : what these are.
    """

    location_variance: Array
    residual_variance: Array
    residual_sd: Array
    icc: Array
    std_error: Array
    conf_low: Array
    conf_high: Array
    sentence: str


def row_shares(prepared: Prepared, fit: Fit, data: Any, conf_level: float) -> RowShares:
    """Variances and shares of rows of a Gaussian model.

    Parameters
    ----------
    prepared : its design holds the standard deviations of random effects at the estimates.
    data : a table, or None for the analysed rows.

    Raises
    ------
    InferenceError : a model without random effects.
    """
    design = prepared.design
    if not design.blocks:
        raise InferenceError(
            "An intraclass correlation needs random effects.",
            "a model without random terms",
            "add a term such as (1 | school)",
        )
    if data is None:
        blocks, kept, size = _own(design), np.arange(design.n), design.n
        columns = None if design.residual is None else design.residual.variance_columns
        known = np.ones(design.n, dtype=bool)
    else:
        rows = replay(design, data)
        blocks, kept, size = rows.blocks, rows.rows.kept, rows.rows.n_table
        columns, known = None, np.ones(len(kept), dtype=bool)
        if design.residual is not None:
            means = fixed_part(rows.X, fit.beta, rows.offset)
            new = new_residuals(design.residual, data, kept, means)
            columns, known = new.variance_columns, new.is_known
    within, slopes_within = _within(fit, columns, len(kept))
    between, slopes_between = _between(prepared, fit, blocks)
    within = np.where(known, within, np.nan)
    share = between / (between + within)  # 0 without variance between clusters: no interval
    curvature = fit.theta_curvature if fit.residual is None else fit.residual.curvature
    slopes = np.concatenate([slopes_between[0], slopes_within, slopes_between[1]])
    covariance = covariance_of(curvature)
    variance = np.einsum("kn,kl,ln->n", slopes, covariance, slopes)
    error = np.sqrt(np.maximum(variance, 0.0))  # of log(between / within), the logit
    error[error > LARGEST_ERROR] = np.nan  # a variance that is zero on the boundary
    error[between <= 0.0] = np.nan
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    logit = np.log(np.where(between > 0.0, between, np.nan) / within)
    whole = np.full((7, size), np.nan)
    whole[:, kept] = np.stack([
        between, within, np.sqrt(within), share, error * share * (1.0 - share),
        1.0 / (1.0 + np.exp(-(logit - z * error))), 1.0 / (1.0 + np.exp(-(logit + z * error))),
    ])  # fmt: skip
    return RowShares(whole[0], whole[1], whole[2], whole[3], whole[4], whole[5], whole[6], SENTENCE)


def _own(design: Design) -> tuple[NewBlock, ...]:
    return tuple(
        NewBlock(
            b.group,
            b.codes,
            b.columns,
            (),
            scale_columns=None if b.scale is None else b.scale.columns,
        )
        for b in design.blocks
    )


def _within(fit: Fit, columns: Array | None, n: int) -> tuple[Array, Array]:
    """Residual variances (n,) and the derivatives of minus their logs in ``phi`` (K, n)."""
    record = fit.residual
    if record is None or columns is None:
        return np.full(n, fit.sigma2), np.zeros((0, n))
    n_scales = sum(name.startswith("log_sd(") for name in record.names)
    slopes = np.zeros((len(record.phi) - n_scales, n))
    slopes[: columns.shape[1]] = -columns.T
    return fit.sigma2 * np.exp(columns @ record.phi[: columns.shape[1]]), slopes


def _between(
    prepared: Prepared, fit: Fit, blocks: tuple[NewBlock, ...]
) -> tuple[Array, tuple[Array, Array]]:
    """Variances between clusters (n,); derivatives of their logs in theta, in alpha."""
    design = prepared.design

    def total(theta: Array) -> Array:
        at, out = 0, np.zeros(len(blocks[0].codes))
        for block, own, B in zip(blocks, design.blocks, prepared.scaling.random, strict=True):
            r = own.structure.n_parameters
            L = B @ own.structure.factor(theta[at : at + r])
            at += r
            out += ((block.columns @ L) ** 2).sum(axis=1)
        return out

    best = total(fit.theta)
    r = len(fit.theta)
    by_theta = np.empty((r, len(best)))
    for a in range(r):
        shift = np.zeros(r)
        shift[a] = STEP
        by_theta[a] = (total(fit.theta + shift) - total(fit.theta - shift)) / (2.0 * STEP)
    by_alpha = np.zeros((n_scale_parameters(design.blocks), len(best)))
    at = 0
    for block, own, G in zip(blocks, design.blocks, fit.random_covariance, strict=True):
        if own.scale is None or block.scale_columns is None:
            continue
        part = 2.0 * block.columns * (block.columns @ G)  # d v / d log sd of each effect
        for k, spread in enumerate(own.scale.spread):
            for a in range(len(own.names)):
                by_alpha[at] = block.scale_columns[:, k] / spread * part[:, a]
                at += 1
    value = np.zeros(len(best))
    for block, G in zip(blocks, fit.random_covariance, strict=True):
        value += np.einsum("na,ab,nb->n", block.columns, G, block.columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        return value, (by_theta / best, by_alpha / value)
