r"""Outcome variance and ICC along a predictor that the variances depend on.

At the value v of a predictor, averaged over the analysed rows i with all their other values:

    between(v) = mean_i z_i(v)'G_i(v) z_i(v),   residual(v) = sigma2 mean_i exp(a_i(v)'alpha),

z the random-effect columns (other slopes of the factor 0, other factors as they are), ``G_i`` with
the standard deviations of ``random_scale=``, a the columns of the log residual variance. Standard
errors by the delta method in all covariance parameters, intervals on the logit scale.
Sources: Snijders & Bosker 2012, sections 5.1 and 8.1; Goldstein, Browne & Rasbash 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import (
    n_scale_parameters,
    split,
    unscaled_columns,
)
from multilevel.design.records import Design
from multilevel.errors import InferenceError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import StructuredPrepared
from multilevel.estimate.structured_report import covariance_of
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.variance import INTERCEPT
from multilevel.interpret.variance_function import VarianceAt, VarianceFunction

Array = NDArray[np.float64]
STEP = 1e-5
GRID = 401  # values at which the smallest variance is looked for
FEW = 5


@dataclass(frozen=True)
class _Place:
    """Where a predictor acts: ``block`` the factor to report, ``slope`` its column there;
    ``residual`` and ``scales`` (per block) columns of the models for the variances, or None."""

    block: int | None
    slope: int | None
    residual: int | None
    scales: tuple[int | None, ...]
    values: Array


def structured_variance_function(
    prepared: StructuredPrepared,
    fit: Fit,
    psi: Array,
    term: str,
    values: Sequence[float] | None = None,
    group: str | None = None,
    conf_level: float = 0.95,
) -> VarianceFunction:
    """Outcome variance and ICC at values of a predictor of the variances.

    Parameters
    ----------
    prepared : at the estimates; psi : (r + K,) estimates on the scaled problem.
    term : a random slope, a column of ``scale=`` or one of ``random_scale=``, by name.
    values : default five from the smallest to the largest in the data (all, if fewer).
    group : the factor whose share is given, where there are several.

    Raises
    ------
    InferenceError : a predictor that no variance depends on, a power of the mean, a factor that
        is not named where there are several.
    """
    place = _find(prepared, term, group)
    low, high = float(place.values.min()), float(place.values.max())
    distinct = np.unique(place.values)
    if values is not None:
        at = np.atleast_1d(np.asarray(values, dtype=np.float64))
    elif place.slope is None and len(distinct) <= FEW:
        at = distinct
    else:
        at = np.linspace(low, high, 5)
    parts = _parts(prepared, psi, place, at)
    share, between, total = parts
    curvature = fit.theta_curvature if fit.residual is None else fit.residual.curvature
    slopes = np.empty((len(psi), len(at)))
    for a in range(len(psi)):
        shift = np.zeros(len(psi))
        shift[a] = STEP
        upper = _parts(prepared, psi + shift, place, at)[0]
        slopes[a] = (upper - _parts(prepared, psi - shift, place, at)[0]) / (2.0 * STEP)
    variance = np.einsum("ac,ab,bc->c", slopes, covariance_of(curvature), slopes)
    rows = tuple(
        _row(float(v), between[k] * fit.sigma2, total[k] * fit.sigma2, share[k], variance[k],
             float(normal_quantile(0.5 + conf_level / 2.0)))
        for k, v in enumerate(at)
    )  # fmt: skip
    least = _least(prepared, psi, place, low, high)
    smallest = float(_parts(prepared, psi, place, np.array([least]))[2][0]) * fit.sigma2
    name = "" if place.block is None else prepared.plain.design.blocks[place.block].group
    sentence = _words(prepared, fit, psi, place, term, name, least, smallest)
    return VarianceFunction(name, term, least, smallest, rows, sentence)


def _row(
    value: float, between: float, total: float, share: float, variance: float, z: float
) -> VarianceAt:
    nan = float("nan")
    error = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else nan
    if not 1e-8 < share < 1.0 - 1e-8 or not np.isfinite(error):
        return VarianceAt(value, float(between), float(total), float(share), nan, nan, nan)
    half, center = z * error / (share * (1.0 - share)), np.log(share / (1.0 - share))
    low, high = (float(1.0 / (1.0 + np.exp(-(center + s * half)))) for s in (-1.0, 1.0))
    return VarianceAt(value, float(between), float(total), float(share), error, low, high)


def _find(prepared: StructuredPrepared, term: str, group: str | None) -> _Place:
    """Where the predictor acts, and its values over the rows."""
    design, layout = prepared.plain.design, prepared.layout
    slopes = [
        (t, b.names.index(term))
        for t, b in enumerate(design.blocks)
        if term in b.names and term != INTERCEPT and group in (None, b.group)
    ]
    residual = None
    if term in layout.variance_names[len(layout.cells) - 1 :]:
        residual = layout.variance_names.index(term, len(layout.cells) - 1)
    scales = tuple(
        b.scale.names.index(term) if b.scale is not None and term in b.scale.names else None
        for b in design.blocks
    )
    scaled = [t for t, k in enumerate(scales) if k is not None]
    if len(slopes) > 1:
        raise InferenceError(
            "The grouping factor must be named where a slope varies over several.",
            f"{term} varies over " + " and ".join(design.blocks[t].group for t, _ in slopes),
            f"add group={design.blocks[slopes[0][0]].group!r}",
        )
    if not slopes and residual is None and not scaled:
        raise _unknown(prepared, term)
    if layout.has_power_of_mean:
        raise InferenceError(
            "Where a variance is a power of the mean it depends on every predictor of the mean.",
            f"variance_function({term!r}) of a fit with power(mean)",
            "write row_variances(rows), rows a table of predictors: variances and ICC of each row",
        )
    block = slopes[0][0] if slopes else scaled[0] if len(scaled) == 1 else _named(design, group)
    if slopes:
        values = unscaled_columns(design.blocks[slopes[0][0]])[:, slopes[0][1]]
    elif residual is not None:
        values = layout.variance_columns[:, residual]
    else:
        own = design.blocks[scaled[0]].scale
        values = np.zeros(1) if own is None else own.columns[:, scales[scaled[0]] or 0]
    return _Place(block, slopes[0][1] if slopes else None, residual, scales, values)


def _named(design: Design, group: str | None) -> int | None:
    """The factor to report where the predictor has no slope."""
    names = [b.group for b in design.blocks]
    if group in names:
        return names.index(str(group))
    if group is not None or len(names) > 1:
        raise InferenceError(
            "group must name one grouping factor of the model.",
            f"group={group!r}; the model has {', '.join(names) or 'none'}",
            f"add group={names[0]!r}" if names else "leave group out",
        )
    return 0 if names else None


def _unknown(prepared: StructuredPrepared, term: str) -> InferenceError:
    design, layout = prepared.plain.design, prepared.layout
    known = [n for b in design.blocks for n in b.names if n != INTERCEPT]
    known += layout.variance_names[len(layout.cells) - 1 :]
    known += [n for b in design.blocks if b.scale is not None for n in b.scale.names]
    return InferenceError(
        "The variance must depend on the predictor: a random slope, or a column of scale= or"
        " random_scale=.",
        f"{term!r}; this model has {', '.join(dict.fromkeys(known)) or 'none'}",
        "name one of these; intraclass_correlations() has the occasions and categories, "
        "row_variances(rows) any rows",
    )


def _parts(
    prepared: StructuredPrepared, psi: Array, place: _Place, at: Array
) -> tuple[Array, Array, Array]:
    """Share of the factor, variance between and total variance (over sigma2) at values (m,)."""
    design, layout = prepared.plain.design, prepared.layout
    tail = psi[len(psi) - n_scale_parameters(design.blocks) :]
    between, others, start = np.zeros(len(at)), np.zeros(len(at)), 0
    pieces = zip(
        design.blocks, prepared.plain.scaling.random, split(design.blocks, tail), strict=True
    )
    for t, (block, B, alpha) in enumerate(pieces):
        mapping = block.structure
        L = B @ mapping.factor(psi[start : start + mapping.n_parameters])
        start += mapping.n_parameters
        for k, value in enumerate(at):
            if t == place.block:
                base = np.array([1.0 if name == INTERCEPT else 0.0 for name in block.names])
                if place.slope is not None:
                    base[place.slope] = value
                Z = np.broadcast_to(base, block.columns.shape)
            else:
                Z = unscaled_columns(block)
            j = place.scales[t]
            if block.scale is not None and alpha is not None:
                W = block.scale.columns
                if j is not None:
                    W = W.copy()
                    W[:, j] = value
                Z = Z * np.exp(W @ alpha)
            found = float(((Z @ L) ** 2).sum(axis=1).mean())
            (between if t == place.block else others)[k] += found
    a = layout.variance_columns
    phi = psi[start : start + a.shape[1]]
    residual = np.full(len(at), float(np.exp(a @ phi).mean()))
    if place.residual is not None:
        rest = a @ phi - a[:, place.residual] * phi[place.residual]
        residual = np.exp(at * phi[place.residual]) * float(np.exp(rest).mean())
    total = between + others + residual
    return between / total, between, total


def _least(
    prepared: StructuredPrepared, psi: Array, place: _Place, low: float, high: float
) -> float:
    """Where the variance is smallest: of the parabola, or inside the observed range."""
    is_parabola = place.residual is None and all(k is None for k in place.scales)
    if not is_parabola:
        grid = np.linspace(low, high, GRID)
        return float(grid[int(np.argmin(_parts(prepared, psi, place, grid)[2]))])
    left, middle, right = _parts(prepared, psi, place, np.array([-1.0, 0.0, 1.0]))[2]
    bend, slope = left + right - 2.0 * middle, (right - left) / 2.0
    return float(-slope / bend) if bend > 1e-12 * middle else float("nan")


def _words(
    prepared: StructuredPrepared, fit: Fit, psi: Array, place: _Place, term: str, group: str,
    least: float, smallest: float,
) -> str:  # fmt: skip
    low, high = float(place.values.min()), float(place.values.max())
    if np.isnan(least):
        return f"The slope of {term} does not vary over {group}: the variance is constant."
    if place.residual is None and all(k is None for k in place.scales):
        inside = "inside" if low <= least <= high else "outside"
        return (
            f"The variance of the outcome depends on {term}: it is smallest, {smallest:.3f}, at "
            f"{term} = {least:.3f} ({inside} the observed range {low:.3f} to {high:.3f}), and "
            "grows to both sides. Residual variance: average over the analysed rows."
        )
    share, _, total = _parts(prepared, psi, place, np.array([low, high]))
    text = (
        f"From {term} = {low:.3g} to {high:.3g} the variance of the outcome goes from "
        f"{total[0] * fit.sigma2:.3f} to {total[1] * fit.sigma2:.3f}"
    )
    if group:
        text += (
            f", and the share between levels of {group} from {100.0 * share[0]:.1f}% to "
            f"{100.0 * share[1]:.1f}%"
        )
    return f"{text}. Other predictors of the variances as in the analysed rows (average)."
