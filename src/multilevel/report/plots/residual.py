"""Residuals in four panels: normal quantiles, against fitted, scale-location, by cluster.

Source: Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section 4.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.interpret.fitted import fitted_values, residuals
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    caption,
    drawn_of,
    look,
    point_size,
    sample_rows,
    spread_rows,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.source import PictureSource

Array = NDArray[np.float64]
_MAX_QUANTILES = 1_000
_MAX_CLUSTERS = 60
_BINS = 20
_MAX_POINTS = 2_000
_PANELS = (
    "Normal quantiles\n(x: normal, y: standardised residual)",
    "Residual by fitted value\n(x: fitted, y: standardised residual)",
    "Scale by fitted value\n(x: fitted, y: root of |standardised residual|)",
    "Residuals by {group}\n(x: rank of median, y: quartiles)",
)


def residual_panels(source: PictureSource, group: str | None = None) -> p9.ggplot:
    """Four panels of standardised conditional residuals."""
    design, fit = source.design, source.fit
    estimates = [effect.estimates for effect in source.effects]
    fitted = fitted_values(design, fit, estimates, "conditional")
    z = residuals(design, fit, estimates, "standardised")
    about = "Standardised: conditional residual over the residual standard deviation."
    if source.scaled is not None:
        z = source.scaled
        about = "Standardised: conditional residual, its variance and correlation taken out."
    t = source.block_number(group) if design.blocks else None
    panels = list(_PANELS[:3])
    points, trends, lines = _quantiles(z)
    rows = sample_rows(design.n, _MAX_POINTS)
    for panel, value in ((panels[1], z), (panels[2], np.sqrt(np.abs(z)))):
        points.append(pd.DataFrame({"x": fitted[rows], "y": value[rows], "panel": panel}))
        trends.append(_binned(fitted, value, panel))
    zero = pd.DataFrame({"y": [0.0], "panel": [panels[1]]})
    ranges = None
    if t is not None:
        block = design.blocks[t]
        panels.append(_PANELS[3].format(group=block.group))
        ranges = _by_cluster(z, block.codes, block.n_levels, panels[3])
        zero = pd.concat([zero, pd.DataFrame({"y": [0.0], "panel": [panels[3]]})])
    for frame in [*points, *trends, lines, zero, *([] if ranges is None else [ranges])]:
        frame["panel"] = pd.Categorical(frame["panel"], categories=panels)
    note = caption(
        f"{about} Orange-red: mean of all rows in bins of equal size.",
        drawn_of(len(rows), design.n, "rows (chosen at random)"),
        drawn_of(min(_MAX_CLUSTERS, design.blocks[t].n_levels), design.blocks[t].n_levels, "levels")
        if t is not None
        else "",
    )
    size = {"size": point_size(len(rows)), "stroke": 0}
    picture = (
        Canvas(mapping=p9.aes("x", "y"))
        + p9.geom_point(pd.concat(points), color=GREY, alpha=0.5, **size)
        + p9.geom_line(lines, color=INK, size=0.6)
        + p9.geom_hline(zero, p9.aes(yintercept="y"), color=INK, size=0.5)
        + p9.geom_line(pd.concat(trends), color=VERMILLION, size=1.1)
    )
    if ranges is not None:
        picture = picture + _range_layers(ranges)
    return (
        picture
        + p9.facet_wrap("panel", scales="free", ncol=2)
        + p9.labs(x="", y="", title=f"Residuals of {design.model.response}", caption=note)
        + look()
        + p9.theme(
            figure_size=(7.6, 6.4),
            strip_text=p9.element_text(size=8.5, linespacing=1.3),
            axis_title=p9.element_blank(),
            panel_spacing_y=0.06,
            panel_spacing_x=0.03,
        )
    )


def _range_layers(ranges: pd.DataFrame) -> list[Any]:
    bars = p9.aes("x", ymin="low", ymax="high")
    return [
        p9.geom_linerange(ranges, bars, inherit_aes=False, color=BLUE, size=0.6),
        p9.geom_point(ranges, color=BLUE, size=1.8, stroke=0),
    ]


def _quantiles(z: Array) -> tuple[list[pd.DataFrame], list[pd.DataFrame], pd.DataFrame]:
    ordered = np.sort(z)
    at = spread_rows(len(z), _MAX_QUANTILES)
    normal = ndtri((at + 0.5) / len(z))
    points = pd.DataFrame({"x": normal, "y": ordered[at], "panel": _PANELS[0]})
    ends = np.array([normal[0], normal[-1]])
    return [points], [], pd.DataFrame({"x": ends, "y": ends, "panel": _PANELS[0]})


def _binned(x: Array, y: Array, panel: str) -> pd.DataFrame:
    """Means of x and y in bins of equal numbers of rows, in the order of x."""
    bins = max(2, min(_BINS, len(x) // 10))
    pieces = np.array_split(np.argsort(x, kind="stable"), bins)
    return pd.DataFrame(
        {"x": [x[p].mean() for p in pieces], "y": [y[p].mean() for p in pieces], "panel": panel}
    )


def _by_cluster(z: Array, codes: NDArray[np.int32], n_levels: int, panel: str) -> pd.DataFrame:
    order = np.argsort(codes, kind="stable")
    pieces = np.split(z[order], np.cumsum(np.bincount(codes, minlength=n_levels))[:-1])
    quartiles = np.array([np.quantile(p, (0.25, 0.5, 0.75)) for p in pieces])
    ranked = quartiles[np.argsort(quartiles[:, 1], kind="stable")]
    at = spread_rows(n_levels, _MAX_CLUSTERS)
    low, middle, high = ranked[at].T
    return pd.DataFrame({"x": at + 1.0, "y": middle, "low": low, "high": high, "panel": panel})
