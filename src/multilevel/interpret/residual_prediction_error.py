r"""Standard errors of predictions of new observations with structured residuals.

A new row with fixed columns x and total variance v, whose covariances with the rows of its cluster
are c, is predicted with error variance

    v - c'V^-1 c + d' Phi d,    d = x - X'V^-1 c,   Phi = (X'V^-1 X)^-1,

the kriging variance and what the fixed effects add (universal kriging). A row at a time that is in
the data has error zero: its outcome is known. Variance parameters are taken as known.
Source: Goldberger 1962 (JASA 57:369); Cressie 1993, Statistics for Spatial Data, section 3.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.replay import NewRows, replay
from multilevel.design.residual_replay import NewResiduals, new_residuals
from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.infer.residual_clusters import independent_units
from multilevel.interpret.fitted import fixed_part
from multilevel.likelihood.residual.dense import (
    correlations,
    log_sd,
    places_of,
    residual_matrices,
)

Array = NDArray[np.float64]
#: Rows of a cluster whose covariance is laid out.
MAX_ROWS = 3_000
SENTENCES = {
    "conditional": "prediction_std_error: error of the prediction of one new observation of weight"
    " 1, given the rows of its own cluster and their residuals.",
    "population": "prediction_std_error: uncertainty of the fixed effects and the residual variance"
    " of one new observation of weight 1, random effects zero.",
    "marginal": "prediction_std_error: uncertainty of the fixed effects, variance of the random"
    " effects of a new group, residual variance of one new observation of weight 1.",
}


def prediction_errors(
    prepared: StructuredPrepared, fit: Fit, phi: Array, data: Any, kind: str
) -> Array:
    """Standard errors of one new observation of weight 1: (rows of the table,), response units.

    NaN where a predictor is missing, or where the variance of the row is not known (an occasion or
    a category of ``by`` that was not observed).

    Parameters
    ----------
    phi : (K,) unconstrained residual parameters.
    kind : ``"conditional"``, ``"population"`` or ``"marginal"``.

    Raises
    ------
    InferenceError : a cluster of more than 3,000 rows.
    DesignError : a column that the structure needs is missing.
    """
    design, layout = prepared.plain.design, prepared.layout
    conditional = kind == "conditional"
    rows = replay(design, data, groups="match" if kind != "population" else "ignore")
    new = new_residuals(layout, data, rows.rows.kept, fixed_part(rows.X, fit.beta, rows.offset))
    own = np.exp(new.variance_columns @ phi[: len(layout.variance_names)])
    total = fit.sigma2 * np.where(new.is_known, own, np.nan)
    if kind != "population":
        for block, G in zip(rows.blocks, fit.random_covariance, strict=True):
            total = total + np.einsum("ia,ab,ib->i", block.columns, G, block.columns)
    d = np.array(rows.X)
    if conditional:
        reduction = _given_clusters(prepared, fit, phi, rows, new, np.sqrt(own), d)
        total = total - reduction
    variance = total + np.einsum("ia,ab,ib->i", d, fit.vcov_beta, d)
    out = np.full(rows.rows.n_table, np.nan)
    out[rows.rows.kept] = np.sqrt(np.maximum(variance, 0.0))
    return out


def _given_clusters(
    prepared: StructuredPrepared, fit: Fit, phi: Array, rows: NewRows, new: NewResiduals,
    own: Array, d: Array,
) -> Array:  # fmt: skip
    """``c'V^-1 c`` (n,); ``d`` (n, p) is reduced by ``X'V^-1 c`` in place."""
    design = prepared.plain.design
    clusters = independent_units(prepared)
    counts = np.bincount(clusters.codes, minlength=clusters.n_clusters)
    order = np.argsort(clusters.codes, kind="stable")
    ends = np.cumsum(counts)
    out = np.zeros(len(d))
    # a unit and a level that the data put in different clusters both have a say
    home = _homes(prepared, rows, new, clusters.codes)
    keys, group = np.unique(home, axis=0, return_inverse=True)
    for number, pair in enumerate(keys):
        found = np.unique(pair[pair >= 0])
        if len(found) == 0:
            continue
        old = np.concatenate([order[ends[j] - counts[j] : ends[j]] for j in found])
        if len(old) > MAX_ROWS:
            raise InferenceError(
                f"Errors of predictions lay out clusters of at most {MAX_ROWS} rows.",
                f"{len(old)} rows of one level of {clusters.name}",
                "leave std_error and interval out",
            )
        wanted = np.flatnonzero(group.ravel() == number)
        V, C = _covariances(prepared, fit, phi, old, (rows, new, own, wanted))
        weights = np.linalg.solve(V, C.T)
        out[wanted] = np.einsum("mt,tm->m", C, weights)
        d[wanted] -= weights.T @ design.X[old]
    return out


def _homes(
    prepared: StructuredPrepared, rows: NewRows, new: NewResiduals, codes: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Cluster by the level of the coarsest factor (of every factor where levels cross units), and
    by the residual unit; -1 is none: (n, 1 to blocks + 1).
    """
    layout = prepared.layout
    unit_home = np.full(len(layout.units) + 1, -1, dtype=np.int64)
    unit_home[layout.codes] = codes
    by_unit = unit_home[new.units]
    if not prepared.problem.is_crossed:
        top = rows.blocks[-1:]
        return np.column_stack([*(block.codes.astype(np.int64) for block in top), by_unit])
    found = [by_unit]
    for own, block in zip(prepared.plain.design.blocks, rows.blocks, strict=True):
        home = np.full(own.n_levels + 1, -1, dtype=np.int64)
        home[own.codes] = codes
        found.append(home[block.codes])
    return np.column_stack(found)


def _covariances(
    prepared: StructuredPrepared, fit: Fit, phi: Array, old: NDArray[np.intp],
    target: tuple[NewRows, NewResiduals, Array, NDArray[np.intp]],
) -> tuple[Array, Array]:  # fmt: skip
    """``V`` (T, T) of rows of the data, and their covariances with the new rows (m, T)."""
    design, layout = prepared.plain.design, prepared.layout
    rows, new, own, wanted = target
    V = fit.sigma2 * residual_matrices(layout, phi, old[None])[0][0]
    units, places = layout.codes[old].astype(np.int64), places_of(layout)
    C, _ = correlations(layout, phi, (new.units[wanted], units), (new.places[wanted], places[old]))
    if not layout.has_correlation:
        C = np.zeros_like(C)
    C = fit.sigma2 * own[wanted, None] * C * np.exp(log_sd(layout, phi)[old])
    for block, mine, G in zip(design.blocks, rows.blocks, fit.random_covariance, strict=True):
        Z, codes = block.columns[old], block.codes[old]
        V = V + (Z @ G @ Z.T) * (codes[:, None] == codes[None])
        C = C + (mine.columns[wanted] @ G @ Z.T) * (mine.codes[wanted, None] == codes[None])
    return V, C
