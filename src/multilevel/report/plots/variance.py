"""The model for the variance drawn: variance along a predictor, piles across models.

Source: Snijders & Bosker 2012, section 5.1.1, for the variance as a function of a predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.report.layout import short
from multilevel.report.plots.backend import INK, PALETTE, caption, look
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.columns import Moving, main_columns, rows_along
from multilevel.report.plots.lines import observed
from multilevel.report.plots.source import PictureSource

Array = NDArray[np.float64]
_POINTS = 101
_RESIDUAL = "residual"


def random_slopes(source: PictureSource) -> tuple[str, ...]:
    """Names of the random slopes of a model."""
    return tuple(dict.fromkeys(n for b in source.design.blocks for n in main_columns(b.names)))


def variance_function(source: PictureSource, predictor: str | None = None) -> p9.ggplot:
    """Model-implied variance of the outcome along a predictor with a random slope.

    ``z(x)' G z(x)`` of each grouping factor, stacked on the residual variance; other random
    slopes stand at their means.
    """
    design, fit = source.design, source.fit
    slopes = random_slopes(source)
    if not slopes or (predictor is not None and predictor not in slopes):
        raise InferenceError(
            "The variance changes along a predictor only if its slope is random.",
            f"random slopes of {', '.join(slopes)}" if slopes else "no random slope in this model",
            f"write predictor={slopes[0]!r}" if slopes else "write (x | group) in the formula",
        )
    name = predictor or slopes[0]
    x = observed(source, name)
    grid = np.linspace(float(x.min()), float(x.max()), _POINTS)
    parts = {_RESIDUAL: np.full(_POINTS, fit.sigma2)}
    for block, G in zip(design.blocks, fit.random_covariance, strict=True):
        base = block.columns.mean(axis=0)
        Z = rows_along(block.names, block.columns, base, {name: Moving(x, grid)})
        parts[block.group] = np.maximum(np.einsum("ia,ab,ib->i", Z, G, Z), 0.0)
    total = np.sum(list(parts.values()), axis=0)
    # Areas stack from the last category upwards: the residual stands at the bottom.
    order = [*(b.group for b in design.blocks), _RESIDUAL]
    table = pd.concat(
        [pd.DataFrame({"x": grid, "variance": parts[k], "Source": k}) for k in order],
        ignore_index=True,
    )
    table["Source"] = pd.Categorical(table["Source"], categories=order)
    lowest = grid[int(np.argmin(total))]
    others = [n for n in slopes if n != name]
    note = caption(
        f"Total variance from {short(float(total.min()))} at {name} = {short(float(lowest))} to"
        f" {short(float(total.max()))} at {name} = {short(float(grid[int(np.argmax(total))]))}.",
        "The axis spans the observed values.",
        f"Random slopes of {', '.join(others)} stand at the mean of their predictor."
        * bool(others),
        "The residual variance is that of a row of weight 1." * (design.weights is not None),
    )
    return (
        Canvas(table, p9.aes("x", "variance", fill="Source"))
        + p9.geom_area(alpha=0.75)
        + p9.geom_line(
            pd.DataFrame({"x": grid, "variance": total}),
            p9.aes("x", "variance"),
            inherit_aes=False,
            color=INK,
            size=1.0,
        )
        + p9.scale_fill_manual(values=_colours(order))
        + p9.labs(
            x=name,
            y=f"variance of {design.model.response}",
            title=f"Variance of {design.model.response} along {name}",
            caption=note,
            fill="",
        )
        + look(legend="top")
    )


def _colours(order: Sequence[str]) -> dict[str, str]:
    groups = [name for name in order if name != _RESIDUAL]
    out = {name: PALETTE[k % (len(PALETTE) - 1)] for k, name in enumerate(groups)}
    return out | {_RESIDUAL: "#BDBDBD"}


def average_piles(source: PictureSource) -> dict[str, float]:
    """Average variance that each grouping factor gives to a row, and the residual variance.

    ``mean_i z_i' G z_i``: for a random intercept simply its variance. Response units squared.
    """
    out = {}
    for block, G in zip(source.design.blocks, source.fit.random_covariance, strict=True):
        moments = block.columns.T @ block.columns / source.design.n
        out[block.group] = float(np.sum(moments * G))
    weights = source.design.weights
    scale = 1.0 if weights is None else float(np.mean(1.0 / weights))
    return out | {_RESIDUAL: source.fit.sigma2 * scale}


def piles(sources: Sequence[PictureSource], names: Sequence[str]) -> p9.ggplot:
    """Piles of variance of a sequence of models, level by level, as stacked bars."""
    found = [average_piles(source) for source in sources]
    order = list(dict.fromkeys(k for pile in found for k in pile if k != _RESIDUAL))
    order.append(_RESIDUAL)
    rows = [
        (name, k, pile[k], sum(pile[j] for j in order[order.index(k) + 1 :] if j in pile))
        for name, pile in zip(names, found, strict=True)
        for k in order
        if k in pile
    ]
    table = pd.DataFrame(rows, columns=["Model", "Source", "variance", "below"])
    table["Model"] = pd.Categorical(table["Model"], categories=list(names))
    table["Source"] = pd.Categorical(table["Source"], categories=order)
    top = max(sum(pile.values()) for pile in found)
    table["label"] = [short(v) if v > 0.045 * top else "" for v in table["variance"]]
    table["middle"] = table["below"] + table["variance"] / 2.0
    slopes = any(random_slopes(source) for source in sources)
    small = [f"{k} of {name} {short(v)}" for name, k, v, _ in rows if v <= 0.045 * top]
    note = caption(
        "Variance that the model for the means leaves unexplained.",
        "With random slopes a pile is its average over the rows." * slopes,
        f"Too thin for a number: {', '.join(small)}." * bool(small),
    )
    return (
        Canvas(table, p9.aes("Model", "variance", fill="Source"))
        + p9.geom_col(width=0.6, alpha=0.65)
        + p9.geom_text(p9.aes(y="middle", label="label"), size=9, color=INK)
        + p9.scale_fill_manual(values=_colours(order))
        + p9.labs(
            x="",
            y=f"variance of {sources[-1].design.model.response}",
            title="Piles of variance",
            caption=note,
            fill="",
        )
        + look(legend="top")
        + p9.theme(panel_grid_major_x=p9.element_blank())
    )
