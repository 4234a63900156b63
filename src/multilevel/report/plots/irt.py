"""Pictures of item response models by name; the Wright map, curves, information.

The Wright map (Wright & Stone 1979) puts persons and items on one axis: a person has even chances
with an item (a step) at the person's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.interpret.irt.curves import default_theta, item_curves
from multilevel.interpret.irt.parameters import ItemParameters
from multilevel.interpret.irt.source import Source
from multilevel.report.packages import require
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    INK,
    PALETTE,
    SKY,
    VERMILLION,
    caption,
    drawn_of,
    look,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.irt_fit import (
    easiness_picture,
    item_fit_picture,
    person_fit_picture,
)

if TYPE_CHECKING:
    from plotnine import ggplot

Array = NDArray[np.float64]
#: Name -> what it shows, and the options it takes.
ITEM_PICTURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "wright": ("persons and items on one axis", ()),
    "curves": ("characteristic curves of the items", ("items",)),
    "information": ("information of the test, or of some items", ("items",)),
    "item_fit": ("infit and outfit of the items", ()),
    "person_fit": ("outfit of the persons", ()),
    "easiness": ("easiness against another model", ("other",)),
}
_MAX_LABELS = 72
_MAX_PANELS = 12
_COLUMNS = 4


def check_item_picture(name: str, options: Mapping[str, Any]) -> None:
    """Raise unless the picture exists and takes the options, and plotnine is installed."""
    if name not in ITEM_PICTURES:
        listed = "; ".join(f"{key!r}: {text}" for key, (text, _) in ITEM_PICTURES.items())
        raise InferenceError(
            f"A picture must be one of {listed}.", repr(name), 'write plot("wright")'
        )
    allowed = ITEM_PICTURES[name][1]
    for key in options:
        if key not in allowed:
            raise InferenceError(
                f"The picture {name!r} takes the options {', '.join(allowed) or 'none'}.",
                f"{key}=...",
                f"leave {key} out",
            )
    if name == "easiness" and "other" not in options:
        raise InferenceError(
            "Easiness is drawn against that of another model.", "no other=", "write other=model"
        )
    require("plotnine", "Pictures")


def draw_item_picture(name: str, source: Source, options: Mapping[str, Any]) -> ggplot:
    """Draw one picture of one fit; options were checked by ``check_item_picture``.

    Raises
    ------
    InferenceError : a model that cannot give this picture.
    """
    functions: dict[str, Any] = {
        "wright": wright_map,
        "curves": characteristic_curves,
        "information": information_curves,
        "item_fit": item_fit_picture,
        "person_fit": person_fit_picture,
        "easiness": easiness_picture,
    }
    picture: ggplot = functions[name](source, **options)
    return picture


def wright_map(source: Source) -> ggplot:
    """Persons as a histogram on the left, items (steps) at their difficulty on the right."""
    items, persons = source.items(), source.persons()
    labels, place = _step_labels(items), items.difficulty
    low, high = _range(np.concatenate([place, persons.estimate]))
    counts, edges = np.histogram(persons.estimate, bins=np.linspace(low, high, 33))
    bars = pd.DataFrame(
        {
            "xmin": -counts / max(int(counts.max()), 1),
            "xmax": np.zeros(len(counts)),
            "ymin": edges[:-1],
            "ymax": edges[1:],
        }
    )
    column = _columns(place, 0.024 * (high - low))
    marks = pd.DataFrame({"x": 0.06 + column * 2.2 / _COLUMNS, "y": place, "label": labels})
    named = len(labels) <= _MAX_LABELS
    note = caption(
        f"Left: {len(persons.persons)} persons ({persons.method} estimates). Right: items at their"
        " difficulty; a person at the same height has even chances" + _step_words(items),
        "" if named else f"{len(labels)} items: points without names.",
    )
    picture = (
        Canvas(marks, p9.aes("x", "y"))
        + p9.geom_rect(
            bars,
            p9.aes(xmin="xmin", xmax="xmax", ymin="ymin", ymax="ymax"),
            inherit_aes=False,
            fill=SKY,
            color="white",
            size=0.3,
        )
        + p9.geom_vline(xintercept=0.0, color=INK, size=0.6)
        + p9.geom_point(color=VERMILLION, size=1.4)
    )
    if named:
        picture += p9.geom_text(p9.aes(label="label"), ha="left", nudge_x=0.03, size=7, color=INK)
    return (
        picture
        + p9.scale_x_continuous(
            limits=(-1.05, 2.45), breaks=[-0.5, 1.1], labels=["persons", "items"]
        )
        + p9.labs(x="", y="person effect, difficulty", title="Wright map", caption=note)
        + look()
        + p9.theme(panel_grid_major_x=p9.element_blank(), figure_size=(7.0, 6.4))
    )


def characteristic_curves(source: Source, items: Sequence[str] | None = None) -> ggplot:
    """Category probabilities along the person axis, one panel per item; all items in one panel
    where there are many of two categories."""
    parameters = source.items()
    chosen = _chosen(parameters, items)
    theta = default_theta(parameters)
    curves = item_curves(parameters, theta)
    binary = max(parameters.n_categories) == 2
    if binary and len(chosen) > _MAX_PANELS:
        return _all_curves(parameters, curves.probabilities[:, 1], theta, chosen)
    shown = chosen[:_MAX_PANELS]
    frames = [
        pd.DataFrame(
            {
                "theta": theta,
                "probability": curves.probabilities[i, c],
                "item": parameters.items[i],
                "category": str(c),
            }
        )
        for i in shown
        for c in range(1 if binary else 0, parameters.n_categories[i])
    ]
    table = pd.concat(frames, ignore_index=True)
    table["item"] = pd.Categorical(table["item"], [parameters.items[i] for i in shown])
    note = caption(
        "Probability of the response 1" if binary else "Probability of each category",
        "along the person axis. " + drawn_of(len(shown), len(chosen), "items"),
    )
    picture = (
        Canvas(table, p9.aes("theta", "probability", color="category"))
        + p9.geom_line(size=0.9)
        + p9.facet_wrap("item", ncol=4 if len(shown) > 6 else 3)
        + p9.scale_color_manual(values=list(PALETTE))
        + p9.scale_y_continuous(limits=(0.0, 1.0))
        + p9.labs(x="person effect", y="probability", title="Characteristic curves", caption=note)
        + look(legend="none" if binary else "top")
    )
    return picture


def _all_curves(
    parameters: ItemParameters, probability: Array, theta: Array, chosen: list[int]
) -> ggplot:
    """Curves of many binary items in one panel, the easiest and the hardest named."""
    frames = [
        pd.DataFrame({"theta": theta, "probability": probability[i], "item": parameters.items[i]})
        for i in chosen
    ]
    table = pd.concat(frames, ignore_index=True)
    order = sorted(chosen, key=lambda i: float(parameters.difficulty[i]))
    ends = pd.DataFrame(
        {
            "theta": [float(parameters.difficulty[i]) for i in (order[0], order[-1])],
            "probability": [0.5, 0.5],
            "label": [parameters.items[order[0]] + "  ", "  " + parameters.items[order[-1]]],
            "side": ["right", "left"],
        }
    )
    picture = (
        Canvas(table, p9.aes("theta", "probability"))
        + p9.geom_line(p9.aes(group="item"), size=0.6, color=BLUE, alpha=0.7)
        + p9.geom_hline(yintercept=0.5, color=GREY, linetype="dashed", size=0.5)
    )
    for k, side in enumerate(("right", "left")):
        picture += p9.geom_text(ends.iloc[[k]], p9.aes(label="label"), ha=side, size=8, color=INK)
    note = caption(
        f"Probability of the response 1 for each of {len(chosen)} items; the easiest and the"
        " hardest are named. plot('curves', items=[...]) draws up to twelve, each in a panel."
    )
    return (
        picture
        + p9.labs(x="person effect", y="probability", title="Characteristic curves", caption=note)
        + look()
    )


def information_curves(source: Source, items: Sequence[str] | None = None) -> ggplot:
    """Information of the test and the standard error it means; or information of named items."""
    parameters = source.items()
    theta = default_theta(parameters)
    curves = item_curves(parameters, theta)
    if items is not None:
        chosen = _chosen(parameters, items)[: len(PALETTE)]
        table = pd.concat(
            [
                pd.DataFrame(
                    {
                        "theta": theta,
                        "information": curves.information[i],
                        "item": parameters.items[i],
                    }
                )
                for i in chosen
            ],
            ignore_index=True,
        )
        return (
            Canvas(table, p9.aes("theta", "information", color="item"))
            + p9.geom_line(size=0.9)
            + p9.scale_color_manual(values=list(PALETTE))
            + p9.labs(
                x="person effect", title="Information of items",
                caption=caption("Information about the person effect from one response.",
                                drawn_of(len(chosen), len(items), "items")),
            )
            + look(legend="top")
        )  # fmt: skip
    test = curves.test_information
    panels = ["information of the test", "standard error of a person"]
    near = test >= 0.02 * test.max()
    table = pd.concat(
        [
            pd.DataFrame({"theta": theta, "value": test, "panel": panels[0]}),
            pd.DataFrame(
                {"theta": theta[near], "value": 1.0 / np.sqrt(test[near]), "panel": panels[1]}
            ),
        ],
        ignore_index=True,
    )
    table["panel"] = pd.Categorical(table["panel"], panels)
    return (
        Canvas(table, p9.aes("theta", "value"))
        + p9.geom_line(size=0.9, color=BLUE)
        + p9.facet_wrap("panel", ncol=1, scales="free_y")
        + p9.expand_limits(y=0.0)
        + p9.labs(
            x="person effect", y="", title="Information of the test",
            caption=caption(
                f"Sum over {len(parameters.items)} items; the standard error 1 / sqrt(information)"
                " is that of the maximum-likelihood estimate of a person who answers them all."
            ),
        )
        + look()
    )  # fmt: skip


# -- inside ------------------------------------------------------------------------------------


def _has_steps(items: ItemParameters) -> bool:
    return max(items.n_categories) > 2


def _step_words(items: ItemParameters) -> str:
    if not _has_steps(items):
        return "."
    if items.kind == "graded":
        return " of answering in the category of the step or above."
    return " between the category of the step and the one below."


def _step_labels(items: ItemParameters) -> list[str]:
    """``item``, or ``item.2`` where items have steps."""
    if not _has_steps(items):
        return list(items.items)
    step = np.concatenate([np.arange(1, c) for c in items.n_categories])
    return [f"{items.items[i]}.{s}" for i, s in zip(items.item_of, step, strict=True)]


def _range(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.04 * (high - low) or 1.0
    return low - pad, high + pad


def _columns(place: Array, height: float) -> Array:
    """A column 0.. for each label, so that labels of one column do not overlap if possible."""
    last = np.full(_COLUMNS, -np.inf)
    out = np.zeros(len(place))
    for k in np.argsort(place, kind="stable"):
        free = np.flatnonzero(place[k] - last >= height)
        column = int(free[0]) if len(free) else int(np.argmin(last))
        out[k], last[column] = column, place[k]
    return out


def _chosen(parameters: ItemParameters, items: Sequence[str] | None) -> list[int]:
    """Positions of the named items; all if none are named."""
    if items is None:
        return list(range(len(parameters.items)))
    wanted = [items] if isinstance(items, str) else list(items)
    unknown = [name for name in wanted if name not in parameters.items]
    if unknown or not wanted:
        raise InferenceError(
            "items= names items of the model.",
            f"{unknown[0]!r}" if unknown else "an empty list",
            f"choose among {', '.join(parameters.items[:8])}...",
        )
    return [parameters.items.index(name) for name in wanted]
