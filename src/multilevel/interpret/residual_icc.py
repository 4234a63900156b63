r"""Shares of variance between clusters where residuals have a structure of their own.

The share of factor t in the variance of row i is ``z_i'G_t z_i / (sum_s z_i'G_s z_i + R_ii)``. It
is given, at weight 1, for each cell of the residual structure with a variance of its own (an
occasion, a category of ``by``) and over all analysed rows, numerator and denominator averaged over
the rows. A share is not the correlation of two rows here: that depends on their distance
(``cluster_covariance``).

Standard errors by the delta method in ``psi = (theta, phi)``, intervals on the logit scale.
Source: Snijders & Bosker 2012, sections 3.3 and 8.1 (shares of a variance that is a function).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import columns_with, n_scale_parameters, split
from multilevel.design.records import RandomBlock
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.estimate.structured_report import covariance_of
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.explained_variance import Explained, overall

Array = NDArray[np.float64]
OVERALL = "all rows"
STEP = 1e-5
MOST_CELLS = 12  # combinations of predictors that get a share of their own


@dataclass(frozen=True)
class CellShare:
    """Share of one factor in the variance of the rows of one cell.

    Attributes
    ----------
    group : the factor.
    component : ``"proportion"``.
    at : the cell (an occasion, a category of ``by``), or ``"all rows"``.
    estimate, std_error, conf_low, conf_high : the share; NaN where no interval exists.
    """

    group: str
    component: str
    at: str
    estimate: float
    std_error: float
    conf_low: float
    conf_high: float


def structured_shares(
    prepared: StructuredPrepared,
    fit: Fit,
    psi: Array,
    conf_level: float,
    *,
    by_predictors: bool = False,
) -> tuple[CellShare, ...]:
    """Share of every grouping factor, over all rows and in each cell of the residual structure.

    Parameters
    ----------
    psi : (r + K,) estimates on the scaled problem.
    by_predictors : also each combination of the predictors of ``scale=``, where these are few.

    Raises
    ------
    InferenceError : a model without random effects.
    """
    design, record = prepared.plain.design, fit.residual
    if not design.blocks or record is None:
        raise InferenceError(
            "An intraclass correlation needs random effects.",
            "a model without random terms",
            "add a term such as (1 | school), or look at residual_covariance()",
        )
    cells = _cells(prepared)
    if by_predictors:
        cells += _residual_cells(prepared)
    best = _shares(prepared, psi, cells)
    slopes = np.empty((len(psi), *best.shape))
    for a in range(len(psi)):
        shift = np.zeros(len(psi))
        shift[a] = STEP
        upper, lower = (_shares(prepared, psi + s * shift, cells) for s in (1.0, -1.0))
        slopes[a] = (upper - lower) / (2.0 * STEP)
    covariance = covariance_of(record.curvature)
    variance = np.einsum("act,ab,bct->ct", slopes, covariance, slopes)
    if any(n.startswith("log_sd(") for n in np.array(record.names)[np.isnan(record.std_errors)]):
        variance[:] = np.nan  # variances of zero in some clusters: no curvature to go by
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    out = []
    for t, block in enumerate(design.blocks):
        for c, (label, _) in enumerate(cells):
            share, error = float(best[c, t]), float(np.sqrt(max(variance[c, t], 0.0)))
            low = high = float("nan")
            if np.isfinite(error) and 1e-8 < share < 1.0 - 1e-8:
                half = z * error / (share * (1.0 - share))
                center = np.log(share / (1.0 - share))
                low, high = (float(1.0 / (1.0 + np.exp(-(center + s * half)))) for s in (-1, 1))
            else:
                error = float("nan")
            out.append(CellShare(block.group, "proportion", label, share, error, low, high))
    return tuple(out)


def _cells(prepared: StructuredPrepared) -> list[tuple[str, NDArray[np.intp]]]:
    """All rows; then the rows of each cell with a residual variance of its own."""
    layout = prepared.layout
    found = [(OVERALL, np.arange(prepared.plain.design.n))]
    k = len(layout.cells) - 1
    if k >= 1:
        columns = layout.variance_columns[:, :k]
        cell = np.where(columns.any(axis=1), columns.argmax(axis=1) + 1, 0)
        found += [(name, np.flatnonzero(cell == j)) for j, name in enumerate(layout.cells)]
    for block in prepared.plain.design.blocks:
        found += _scale_cells(block)
    return found


def _residual_cells(prepared: StructuredPrepared) -> list[tuple[str, NDArray[np.intp]]]:
    """Rows of each combination of the predictors of the log residual variance."""
    layout = prepared.layout
    first = len(layout.cells) - 1
    if layout.has_power_of_mean or first == len(layout.variance_names):
        return []
    return _combinations(layout.variance_columns[:, first:], layout.variance_names[first:])


def _scale_cells(block: RandomBlock) -> list[tuple[str, NDArray[np.intp]]]:
    """Rows of each combination of the predictors of a standard deviation, where these are few."""
    if block.scale is None:
        return []
    return _combinations(block.scale.columns, block.scale.names)


def _combinations(columns: Array, names: tuple[str, ...]) -> list[tuple[str, NDArray[np.intp]]]:
    values, cell = np.unique(columns, axis=0, return_inverse=True)
    if len(values) > MOST_CELLS:
        return []
    return [
        (
            ", ".join(f"{n} = {v:g}" for n, v in zip(names, row, strict=True)),
            np.flatnonzero(cell.ravel() == j),
        )
        for j, row in enumerate(values)
    ]


def _shares(
    prepared: StructuredPrepared, psi: Array, cells: list[tuple[str, NDArray[np.intp]]]
) -> Array:
    """Shares (cells, factors) at ``psi``; they do not depend on sigma2."""
    design, layout = prepared.plain.design, prepared.layout
    at, between = 0, []
    tail = psi[len(psi) - n_scale_parameters(design.blocks) :]
    pieces = zip(
        design.blocks, prepared.plain.scaling.random, split(design.blocks, tail), strict=True
    )
    for block, B, alpha in pieces:
        mapping = block.structure
        L = B @ mapping.factor(psi[at : at + mapping.n_parameters])
        at += mapping.n_parameters
        between.append(((columns_with(block, alpha) @ L) ** 2).sum(axis=1))
    residual = relative_variances(layout, psi[at:])
    out = np.empty((len(cells), len(between)))
    for c, (_, rows) in enumerate(cells):
        parts = np.array([part[rows].mean() for part in between])
        out[c] = parts / (parts.sum() + residual[rows].mean())
    return out


def relative_variances(layout: ResidualLayout, phi: Array) -> Array:
    """Residual variances of the analysed rows over sigma2, each at weight 1: (n,)."""
    return np.asarray(np.exp(layout.variance_columns @ phi[: len(layout.variance_names)]))


def structured_explained(
    prepared: StructuredPrepared, fit: Fit, phi: Array
) -> tuple[Explained, ...]:
    """Total, marginal and conditional R2, the residual variance averaged over the analysed rows.

    Source: Nakagawa & Schielzeth 2013 (Methods in Ecology and Evolution 4:133), Johnson 2014.
    """
    mean = fit.sigma2 * float(relative_variances(prepared.layout, phi).mean())
    return overall(prepared.plain.design, replace(fit, sigma2=mean))


def shares_in_words(found: tuple[CellShare, ...]) -> str:
    """The shares of each factor in a sentence."""
    out = []
    for group in dict.fromkeys(one.group for one in found):
        own = [one for one in found if one.group == group]
        text = f"{100.0 * own[0].estimate:.1f}% of the variance lies between levels of {group}"
        if len(own) > 1:
            low, high = (f(own[1:], key=lambda one: one.estimate) for f in (min, max))
            text += (
                f", from {100.0 * low.estimate:.1f}% ({low.at}) to {100.0 * high.estimate:.1f}%"
                f" ({high.at})"
            )
        out.append(text + ".")
    note = "Correlations of two rows depend on their distance: cluster_covariance()."
    return " ".join([*out, note])
