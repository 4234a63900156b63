"""Pictures of item response models: fit of items and persons, easiness in two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotnine as p9

from multilevel.interpret.irt.compare import compare_easiness
from multilevel.interpret.irt.fit import mean_squares
from multilevel.interpret.irt.source import Source
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    INK,
    MAX_POINTS,
    VERMILLION,
    caption,
    drawn_of,
    look,
    point_size,
    sample_rows,
)
from multilevel.report.plots.canvas import Canvas

if TYPE_CHECKING:
    from plotnine import ggplot

_MAX_ROWS = 40
_MAX_APART = 5


def item_fit_picture(source: Source) -> ggplot:
    """Infit and outfit of the items with where 95% of them lie under the model."""
    moments, item, _ = source.moments()
    parameters = source.items()
    found = mean_squares(moments, item, len(parameters.items))
    worst = np.argsort(-np.maximum(np.abs(found.infit - 1), np.abs(found.outfit - 1)))[:_MAX_ROWS]
    order = worst[np.argsort(found.outfit[worst])]
    names = [parameters.items[i] for i in order]
    frames = []
    for title, value, (low, high) in (
        ("infit", found.infit, found.infit_range),
        ("outfit", found.outfit, found.outfit_range),
    ):
        outside = (value < low) | (value > high)
        frames.append(
            pd.DataFrame(
                {
                    "item": pd.Categorical(names, names),
                    "value": value[order],
                    "low": low[order],
                    "high": high[order],
                    "panel": title,
                    "Mean square": np.where(outside[order], "outside", "as expected"),
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    note = caption(
        "Mean squares by item, expected value 1. Grey: where 95% lie if the model holds. Above 1"
        " responses are noisier than the model says, below 1 more regular.",
        drawn_of(len(order), len(parameters.items), "items (those furthest from 1)"),
    )
    height = max(3.6, 1.6 + 0.19 * len(order))
    return (
        Canvas(table, p9.aes("item", "value"))
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color="#C8C8C8", size=2.2)
        + p9.geom_hline(yintercept=1.0, color=INK, size=0.5)
        + p9.geom_point(p9.aes(color="Mean square"), size=2.0)
        + p9.scale_color_manual(values={"as expected": BLUE, "outside": VERMILLION})
        + p9.facet_wrap("panel", ncol=2)
        + p9.coord_flip()
        + p9.labs(x="", y="mean square", title="Fit of the items", caption=note)
        + look(legend="top")
        + p9.theme(figure_size=(7.0, height), axis_text_y=p9.element_text(size=7.5))
    )


def person_fit_picture(source: Source) -> ggplot:
    """Outfit of the persons against their estimates."""
    moments, _, person = source.moments()
    persons = source.persons()
    found = mean_squares(moments, person, len(persons.persons))
    low, high = found.outfit_range
    outside = (found.outfit < low) | (found.outfit > high)
    at = sample_rows(len(persons.persons), MAX_POINTS)
    table = pd.DataFrame(
        {
            "estimate": persons.estimate[at],
            "outfit": np.maximum(found.outfit[at], 1e-3),
            "Outfit": np.where(outside[at], "outside its 95% range", "as expected"),
        }
    )
    note = caption(
        f"{100.0 * outside.mean():.1f}% of {len(outside)} persons lie outside the range that holds"
        " 95% if the model is right; far above 1 are response patterns that contradict it.",
        drawn_of(len(at), len(outside), "persons"),
    )
    return (
        Canvas(table, p9.aes("estimate", "outfit", color="Outfit"))
        + p9.geom_hline(yintercept=1.0, color=INK, size=0.5)
        + p9.geom_point(size=point_size(len(at)), alpha=0.7)
        + p9.scale_color_manual(values={"as expected": BLUE, "outside its 95% range": VERMILLION})
        + p9.scale_y_log10()
        + p9.labs(
            x="person effect", y="outfit mean square (log axis)", title="Fit of the persons",
            caption=note,
        )
        + look(legend="top")
    )  # fmt: skip


def easiness_picture(source: Source, other: Source) -> ggplot:
    """Easiness of the items in two models, with the line of equal values."""
    found = compare_easiness({"this": source.items(), "other": other.items()})
    table = pd.DataFrame(
        {"x": found.easiness[:, 1], "y": found.easiness[:, 0], "label": found.items}
    )
    apart = np.argsort(-np.abs(table["y"].to_numpy() - table["x"].to_numpy()))[:_MAX_APART]
    named = table.iloc[apart]
    return (
        Canvas(table, p9.aes("x", "y"))
        + p9.geom_abline(intercept=0.0, slope=1.0, color=GREY, linetype="dashed", size=0.6)
        + p9.geom_point(color=BLUE, size=2.0)
        + p9.geom_text(
            named, p9.aes(label="label"), size=7.5, ha="left", nudge_x=0.06, va="top", color=INK
        )
        + p9.scale_x_continuous(expand=(0.08, 0.0, 0.22, 0.0))
        + p9.labs(
            x="easiness, other model",
            y="easiness, this model",
            title="Easiness in two models",
            caption=caption(
                f"Correlation {found.correlations[0, 1]:.3f}. Dashed: equal easiness. Named: the"
                f" {len(named)} items that differ most."
            ),
        )
        + look()
    )
