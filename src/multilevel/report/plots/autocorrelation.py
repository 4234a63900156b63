"""Correlations of residuals over time, one panel for each kind of residual.

Source: Pinheiro & Bates 2000, section 5.3 (autocorrelation functions and semivariograms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotnine as p9

from multilevel.interpret.autocorrelation import LagCorrelation
from multilevel.report.plots.backend import BLUE, GREY, INK, caption, look
from multilevel.report.plots.canvas import Canvas


def lag_panels(series: Mapping[str, Sequence[LagCorrelation]], words: str) -> p9.ggplot:
    """Correlation by distance, with the limits of independent residuals.

    Parameters
    ----------
    series : kind of residual -> its correlations; one panel each.
    words : what the distance is.
    """
    rows = [
        (kind, one.lag, one.correlation, -one.bound, one.bound)
        for kind, found in series.items()
        for one in found
    ]
    frame = pd.DataFrame(rows, columns=["panel", "lag", "correlation", "low", "high"])
    frame["panel"] = pd.Categorical(frame["panel"], categories=list(series))
    frame["zero"] = 0.0
    note = caption(
        "Grey: where 95% of correlations lie if residuals are independent.",
        "Residuals around estimated effects of few rows are slightly negatively correlated.",
    )
    return (
        Canvas(frame, p9.aes("lag", "correlation"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), fill=GREY, alpha=0.25)
        + p9.geom_hline(yintercept=0.0, color=INK, size=0.5)
        + p9.geom_segment(p9.aes(xend="lag", y="zero", yend="correlation"), color=BLUE, size=0.7)
        + p9.geom_point(color=BLUE, size=2.2, stroke=0)
        + p9.facet_wrap("panel", ncol=2)
        + p9.labs(x=words, y="correlation of residuals", caption=note)
        + look()
        + p9.theme(figure_size=(7.6, 3.8))
    )
