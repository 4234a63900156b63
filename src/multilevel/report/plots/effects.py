"""Random effects sorted, with their intervals: the caterpillar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.design.records import RandomBlock
from multilevel.report.layout import count
from multilevel.report.plots.backend import (
    BLUE,
    INK,
    VERMILLION,
    caption,
    drawn_of,
    look,
    spread_rows,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.source import PictureSource, one_of

Array = NDArray[np.float64]
_MAX_LEVELS = 400
_MAX_NAMED = 35
_MAX_TERMS = 4
_Z95 = float(ndtri(0.975))


def caterpillar(
    source: PictureSource, group: str | None = None, term: str | None = None
) -> p9.ggplot:
    """Random effects of one grouping factor in ascending order, one panel per term."""
    t = source.block_number(group)
    effect = source.effects[t]
    variances = np.einsum("jaa->ja", effect.covariance())
    words = "Empirical Bayes estimates"
    return effects_picture(source.design.blocks[t], effect.estimates, variances, words, term)


def effects_picture(
    block: RandomBlock, estimates: Array, variances: Array, words: str, term: str | None = None
) -> p9.ggplot:
    """Random effects (J, q) with intervals from their variances (J, q), in ascending order.

    ``words`` names the estimates in the caption.
    """
    terms = list(block.names) if term is None else [one_of(term, block.names, "term")]
    left_out = len(terms) - _MAX_TERMS
    terms = terms[:_MAX_TERMS]
    most = _MAX_LEVELS // len(terms) if len(terms) > 1 else _MAX_LEVELS
    table = _table(block, estimates, variances, terms, most)
    shown = min(block.n_levels, most)
    note = caption(
        f"{words} with 95% intervals (fixed effects and variances taken as known), in"
        " ascending order. Overlap of two intervals is no test of their difference.",
        drawn_of(shown, block.n_levels, f"levels of {block.group}, evenly spaced in rank,"),
        f"{count(left_out, 'further term')} not drawn: name one with term=." * (left_out > 0),
    )
    picture = (
        Canvas(table, p9.aes("rank", "estimate", color="Interval"))
        + p9.geom_hline(yintercept=0.0, color=INK, size=0.6)
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), size=0.5)
        + p9.geom_point(size=1.1)
        + p9.scale_color_manual(values={"excludes zero": VERMILLION, "includes zero": BLUE})
        + p9.labs(
            x=f"{block.group}, in order of the estimate",
            y="random effect",
            title=f"Random effects of {block.group}",
            caption=note,
            color="Interval",
        )
        + look(legend="top")
    )
    if block.n_levels <= _MAX_NAMED and len(terms) == 1:
        return (
            picture
            + p9.scale_x_continuous(
                breaks=table["rank"].tolist(), labels=table["level"].tolist(), minor_breaks=[]
            )
            + p9.coord_flip()
            + p9.theme(axis_text_y=p9.element_text(size=7.5))
        )
    if len(terms) > 1:
        picture += p9.facet_wrap("term", ncol=2, scales="free_y")
    return picture + p9.theme(panel_grid_major_x=p9.element_blank())


def _table(
    block: RandomBlock, estimates: Array, variances: Array, terms: list[str], most: int
) -> pd.DataFrame:
    """One row per drawn level and term, ranks counted among all levels."""
    frames = []
    for name in terms:
        a = block.names.index(name)
        order = np.argsort(estimates[:, a], kind="stable")
        ranks = spread_rows(block.n_levels, most)
        at = order[ranks]
        value = estimates[at, a]
        # rounding can leave -1e-17 where a variance is estimated as zero
        half = _Z95 * np.sqrt(np.maximum(variances[at, a], 0.0))
        low, high = value - half, value + half
        kind = np.where((low > 0.0) | (high < 0.0), "excludes zero", "includes zero")
        frames.append(
            pd.DataFrame(
                {
                    "rank": ranks + 1.0,
                    "level": [str(block.levels[k]) for k in at],
                    "estimate": value,
                    "low": low,
                    "high": high,
                    "Interval": kind,
                    "term": name,
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    table["term"] = pd.Categorical(table["term"], categories=terms)
    return table
