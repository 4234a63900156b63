"""Pictures of location-scale models: means against variability, and variability along a predictor.

Sources: Hedeker & Nordgren 2013, for effects on means and variances of clusters side by side.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.location_scale.clusters import LocationAndScale
from multilevel.interpret.location_scale.effects import quantity_of, scale_columns, scale_part
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    INK,
    SKY,
    VERMILLION,
    caption,
    drawn_of,
    look,
    sample_rows,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.columns import Moving, main_columns, rows_along
from multilevel.report.plots.labels import placed_labels

Array = NDArray[np.float64]
_MOST = 400
_POINTS = 101
_PANEL = (6.3, 3.0)  # inches of the panel in a picture of the usual size
_Z95 = 1.959963984540054


def location_against_scale(found: LocationAndScale, quantity: str, n_named: int = 6) -> p9.ggplot:
    """Scale effects of clusters over their location effects, with 95% intervals of both.

    ``quantity`` is what the scale is the log of; the ``n_named`` most unusual clusters are named.
    """
    at = sample_rows(len(found.levels), _MOST)
    table = pd.DataFrame(
        {
            "level": [str(v) for v in found.levels[at]],
            "x": found.location[at],
            "x_low": found.location[at] - _Z95 * found.location_error[at],
            "x_high": found.location[at] + _Z95 * found.location_error[at],
            "y": found.scale[at],
            "y_low": found.scale[at] - _Z95 * found.scale_error[at],
            "y_high": found.scale[at] + _Z95 * found.scale_error[at],
        }
    )
    away = (table["y_low"] > 0.0) | (table["y_high"] < 0.0)
    table["Variability"] = np.where(away, "unusual", "as others")
    extreme = (np.abs(found.scale[at]) / np.maximum(found.scale_error[at], 1e-12)).argsort()
    named = table.iloc[extreme[::-1][:n_named]]
    named = _with_places(named[named["Variability"] == "unusual"].copy(), table)
    rho = found.correlation
    note = caption(
        f"Correlation in the model: {rho:.2f}." if math.isfinite(rho) else "",
        "Bars: 95% intervals given the data. Zero is a typical cluster.",
        "Named: the most unusual variances." if len(named) else "",
        drawn_of(len(at), len(found.levels), f"clusters of {found.group}"),
    )
    return (
        Canvas(table, p9.aes("x", "y", color="Variability"))
        + p9.geom_hline(yintercept=0.0, color=GREY, size=0.5)
        + p9.geom_vline(xintercept=0.0, color=GREY, size=0.5)
        + p9.geom_linerange(p9.aes(ymin="y_low", ymax="y_high"), size=0.35, alpha=0.45)
        + p9.geom_segment(
            p9.aes(x="x_low", xend="x_high", y="y", yend="y"), size=0.35, alpha=0.45
        )
        + p9.geom_point(size=1.6)
        + p9.geom_segment(
            named, p9.aes("x", "y", xend="name_x", yend="name_y"), inherit_aes=False, color=GREY,
            size=0.3,
        )
        + p9.geom_label(
            named, p9.aes("name_x", "name_y", label="level"), inherit_aes=False, color=INK, size=8,
            fill="white", alpha=0.8, label_size=0.0, label_padding=0.1,
        )
        + p9.scale_color_manual(values={"unusual": VERMILLION, "as others": BLUE})
        + p9.labs(
            x=f"location effect: {found.term}",
            y=f"scale effect (log {quantity})",
            title=f"Level and variability of {found.group}",
            caption=note,
        )
        + look(legend="top")
    )  # fmt: skip


def _with_places(named: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Where the names stand, beside their points and not over each other."""
    ranges = []
    for axis in ("x", "y"):
        low, high = float(table[f"{axis}_low"].min()), float(table[f"{axis}_high"].max())
        ranges.append((low - 0.05 * (high - low), high + 0.05 * (high - low)))
    named["name_x"], named["name_y"] = placed_labels(
        named["x"].to_numpy(), named["y"].to_numpy(), named["level"].tolist(),
        (ranges[0], ranges[1]), _PANEL, others=table[["x", "y"]].to_numpy(),
    )  # fmt: skip
    return named


def spread_along(
    design: GeneralizedDesign, fit: GeneralizedFit, predictor: str | None = None
) -> p9.ggplot:
    """The residual standard deviation (or dispersion) along a predictor of the variance.

    Dark band: 95% confidence for a typical cluster; light band: where 95% of clusters lie. Other
    predictors stand at their means.

    Raises
    ------
    InferenceError : no such predictor.
    """
    d = scale_part(design)
    part = design.parts[d]
    known = main_columns(part.names)
    if not known or (predictor is not None and predictor not in known):
        raise InferenceError(
            "The picture needs a predictor of the variance.",
            f"predictor={predictor!r}; scale= has {', '.join(known) or 'none'}",
            f"write predictor={known[0]!r}" if known else 'fit with scale="~ x"',
        )
    name = predictor or known[0]
    x = part.X[:, part.names.index(name)]
    values = np.unique(x)
    is_few = len(values) <= 5
    grid = values if is_few else np.linspace(float(x.min()), float(x.max()), _POINTS)
    rows = rows_along(part.names, part.X, part.X.mean(axis=0), {name: Moving(x, grid)})
    s = fit.fixed_slices[d]
    eta = rows @ fit.psi[s]
    error = np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", rows, fit.vcov[s, s], rows), 0.0))
    omega = _scale_sd(design, fit)
    power = 0.5 if design.family.has_residual else 1.0
    z = float(normal_quantile(0.975))
    table = pd.DataFrame(
        {
            "x": grid,
            "y": np.exp(power * eta),
            "low": np.exp(power * (eta - z * error)),
            "high": np.exp(power * (eta + z * error)),
            "range_low": np.exp(power * (eta - z * omega)),
            "range_high": np.exp(power * (eta + z * omega)),
        }
    )
    return _spread_picture(table, name, _label(design), omega > 0.0, is_few)


def _label(design: GeneralizedDesign) -> str:
    quantity = quantity_of(design)
    if not design.family.has_residual:
        return quantity
    return quantity.replace("residual variance", "residual standard deviation")


def _scale_sd(design: GeneralizedDesign, fit: GeneralizedFit) -> float:
    """Standard deviation of the random intercepts of the log variance, all factors together."""
    total = 0.0
    for t, block in enumerate(design.blocks):
        for a in scale_columns(design, t):
            if block.names[a].endswith("(Intercept)"):
                total += float(fit.random_covariance[t][a, a])
    return math.sqrt(max(total, 0.0))


def _spread_picture(
    table: pd.DataFrame, name: str, label: str, has_range: bool, is_few: bool
) -> p9.ggplot:
    picture = Canvas(table, p9.aes("x", "y"))
    if is_few:
        if has_range:
            picture += p9.geom_linerange(
                p9.aes(ymin="range_low", ymax="range_high"), color=SKY, size=5.0, alpha=0.45
            )
        picture += p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color=BLUE, size=1.2)
        picture += p9.geom_point(color=BLUE, size=2.6)
        picture += p9.scale_x_continuous(breaks=table["x"].tolist(), minor_breaks=[])
    else:
        if has_range:
            picture += p9.geom_ribbon(
                p9.aes(ymin="range_low", ymax="range_high"), fill=SKY, alpha=0.3
            )
        picture += p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), fill=BLUE, alpha=0.35)
        picture += p9.geom_line(color=BLUE, size=1.0)
    note = caption(
        "Dark: 95% confidence for a typical cluster.",
        "Light: 95% of clusters lie here." * has_range,
        "Other predictors of the variance stand at their means; the axis spans the observed values."
        " Wald, log scale.",
    )
    return (
        picture
        + p9.labs(x=name, y=label, title=f"{label.capitalize()} along {name}", caption=note)
        + look()
    )
