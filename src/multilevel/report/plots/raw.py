"""The raw data by cluster, before any model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotnine as p9

from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    caption,
    drawn_of,
    look,
    point_size,
    sample_rows,
    spread_rows,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.lines import default_predictor, observed
from multilevel.report.plots.source import PictureSource


def spaghetti(
    source: PictureSource, predictor: str | None = None, group: str | None = None
) -> p9.ggplot:
    """The raw outcome along a predictor, cluster by cluster; nothing here comes from the model."""
    design = source.design
    x_name = predictor or default_predictor(source)
    x = observed(source, x_name)
    finest = design.blocks[0].group if design.blocks else None
    block = design.blocks[source.block_number(group or finest)]
    most = 60 if design.n / block.n_levels <= 15 else 40
    chosen = sample_rows(block.n_levels, most)
    rows = np.flatnonzero(np.isin(block.codes, chosen))
    joined = len(rows) / len(chosen) <= 15
    table = pd.DataFrame(
        {"x": x[rows], "y": design.y[rows], "cluster": block.codes[rows].astype(str)}
    ).sort_values(["cluster", "x"], kind="stable")
    few = sample_rows(len(table))
    points = table.iloc[few]
    if joined:
        keep = spread_rows(
            len(chosen), max(2, 5_000 // max(1, math.ceil(len(table) / len(chosen))))
        )
        drawn = table[table["cluster"].isin({str(chosen[k]) for k in keep})].head(5_000)
    else:
        drawn = _least_squares(table)
    note = caption(
        "Raw data: "
        + (
            "points of one cluster are joined."
            if joined
            else "each line is a cluster's own least-squares line."
        ),
        drawn_of(
            drawn["cluster"].nunique(),
            block.n_levels,
            f"levels of {block.group} (chosen at random)",
        ),
        drawn_of(len(points), design.n, "rows"),
    )
    return (
        Canvas(drawn, p9.aes("x", "y"))
        + p9.geom_point(data=points, color=GREY, alpha=0.5, size=point_size(len(points)), stroke=0)
        + p9.geom_line(p9.aes(group="cluster"), color=BLUE, alpha=0.55, size=0.6)
        + p9.labs(
            x=x_name,
            y=design.model.response,
            title=f"Observed {design.model.response} by {block.group}",
            caption=note,
        )
        + look()
    )


def _least_squares(table: pd.DataFrame) -> pd.DataFrame:
    """Both ends of each cluster's own regression line; flat where x does not vary."""
    pieces = []
    for name, rows in table.groupby("cluster", sort=False):
        x, y = rows["x"].to_numpy(), rows["y"].to_numpy()
        spread = float(np.sum((x - x.mean()) ** 2))
        slope = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread if spread > 0.0 else 0.0
        ends = np.array([x.min(), x.max()])
        pieces.append(
            pd.DataFrame({"x": ends, "y": y.mean() + slope * (ends - x.mean()), "cluster": name})
        )
    return pd.concat(pieces, ignore_index=True)
