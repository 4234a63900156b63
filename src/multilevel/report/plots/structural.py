"""Pictures of structural models: paths of each level with estimates, draws of indirect effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.structural import ParameterTests
from multilevel.model.structural.records import Level, StructuralModel
from multilevel.report.packages import require
from multilevel.report.plots.backend import BLUE, GREY, INK, SKY, VERMILLION, caption, look
from multilevel.report.structural_levels import panel_title

if TYPE_CHECKING:
    from plotnine import ggplot

Array = NDArray[np.float64]
#: Name -> what it shows, and the options it takes.
STRUCTURAL_PICTURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "paths": ("paths of each level with estimates", ("group",)),
    "indirect": ("draws of indirect effects with their intervals", ("terms",)),
}
_LETTER, _EDGE, _TALL = 0.006, 0.02, 0.07  # size of a box, as shares of the panel


@dataclass(frozen=True)
class _Edge:
    """One arrow (or two-headed arc) with its label; ``is_random`` where the slope varies."""

    start: str
    end: str
    label: str
    is_covariance: bool
    is_random: bool = False


def check_structural_picture(name: str, options: Mapping[str, Any]) -> None:
    """Raise unless the picture exists and takes the options, and plotnine is installed."""
    if name not in STRUCTURAL_PICTURES:
        listed = "; ".join(f"{key!r}: {text}" for key, (text, _) in STRUCTURAL_PICTURES.items())
        raise InferenceError(
            f"A picture must be one of {listed}.", repr(name), 'write plot("paths")'
        )
    allowed = STRUCTURAL_PICTURES[name][1]
    for key in options:
        if key not in allowed:
            raise InferenceError(
                f"The picture {name!r} takes the options {', '.join(allowed)}.",
                f"{key}=...",
                f"leave {key} out",
            )
    require("plotnine", "Pictures")


def indirect_picture(
    draws: Mapping[str, Array], estimates: Mapping[str, float], conf_level: float, sentence: str
) -> ggplot:
    """Distribution of each effect: density of its draws, estimate, and the middle of the draws.

    Parameters
    ----------
    draws : ``{effect: (n,)}``.
    estimates : ``{effect: estimate}``.
    """
    import plotnine as p9

    from multilevel.report.plots.canvas import Canvas

    bars, lines = [], []
    tails = [0.5 - 0.5 * conf_level, 0.5 + 0.5 * conf_level]
    for name, values in draws.items():
        finite = values[np.isfinite(values)]
        low, high = np.quantile(finite, tails)
        density, edges = np.histogram(finite, bins=60, density=True)
        inside = (edges[:-1] + edges[1:] > 2 * low) & (edges[:-1] + edges[1:] < 2 * high)
        bars.append(
            pd.DataFrame(
                {"effect": name, "left": edges[:-1], "right": edges[1:], "top": density,
                 "part": np.where(inside, "interval", "outside")}
            )
        )  # fmt: skip
        lines.append({"effect": name, "estimate": estimates[name]})
    order = list(draws)
    height = 2.0 + 1.9 * -(-len(order) // 2)
    frame, marks = pd.concat(bars, ignore_index=True), pd.DataFrame(lines)
    for table in (frame, marks):
        table["effect"] = pd.Categorical(table["effect"], categories=order)
    return (
        Canvas(frame)
        + p9.geom_rect(
            p9.aes(xmin="left", xmax="right", ymin=0, ymax="top", fill="part"), color="white",
            size=0.1,
        )
        + p9.geom_vline(xintercept=0.0, color=INK, linetype="dashed", size=0.5)
        + p9.geom_vline(p9.aes(xintercept="estimate"), marks, color=VERMILLION, size=0.9)
        + p9.scale_fill_manual(values={"interval": SKY, "outside": "#D8D8D8"}, guide=None)
        + p9.facet_wrap("effect", scales="free", ncol=1 if len(order) < 3 else 2)
        + p9.labs(
            x="effect", y="density", title="Distribution of the effects",
            caption=caption(f"Red: estimate. Blue: middle {100 * conf_level:g}%. {sentence}"),
        )
        + look(legend="none")
        + p9.theme(axis_text_y=p9.element_blank(), figure_size=(7.0, height))
    )  # fmt: skip


def paths_picture(model: StructuralModel, tests: ParameterTests, group: int = 0) -> ggplot:
    """Boxes and arrows of each level: estimate (standard error); covariances as dashed arcs.

    Random slopes are dotted arrows that carry the name of the slope, which is a variable of the
    between level. Variables that nothing points at and that point at nothing are left out.

    Parameters
    ----------
    tests : of the rows of ``model.parameters``.
    """
    import plotnine as p9

    nodes: list[dict[str, Any]] = []
    arrows: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    arcs: list[pd.DataFrame] = []
    for level in model.levels:
        edges = _edges(model, tests, level, group)
        if not edges:
            continue
        panel = panel_title(model, level)
        place = _layout(edges)
        for name, (x, y) in place.items():
            latent = name in model.latent(level)
            nodes.append({"panel": panel, "x": x, "y": y, "name": name, "latent": latent})
        for edge in edges:
            _draw_edge(edge, place, panel, arrows, arcs, words)
    if not nodes:
        raise InferenceError("A path diagram needs relations.", "a model without any",
                             "write y ~ x")  # fmt: skip
    boxes, labels = pd.DataFrame(nodes), pd.DataFrame(words)
    panels = list(dict.fromkeys(boxes["panel"]))
    picture = _shapes(boxes, arrows, arcs)
    note = (
        "Estimate (standard error); * p < .05, ** p < .01, *** p < .001. Dashed: covariances."
        + " Dotted: the slope varies over clusters; its mean." * bool(model.random_slopes)
    )
    return (
        picture
        + p9.geom_label(
            p9.aes("x", "y", label="text"), labels, size=7.5, fill="white", color=BLUE,
            label_size=0, label_padding=0.12,
        )
        + p9.facet_wrap("panel", ncol=1, scales="free")
        + p9.scale_x_continuous(expand=(0.14, 0.0))
        + p9.scale_y_continuous(expand=(0.2, 0.0))
        + p9.labs(title="Paths", caption=caption(note))
        + look(legend="none")
        + p9.theme(
            axis_text=p9.element_blank(), axis_title=p9.element_blank(),
            panel_grid_major=p9.element_blank(), figure_size=(7.0, 0.8 + 3.0 * len(panels)),
        )
    )  # fmt: skip


def _shapes(boxes: pd.DataFrame, arrows: list[dict[str, Any]], arcs: list[pd.DataFrame]) -> ggplot:
    """Arcs, arrows, and boxes over them: square for observed, round for latent variables."""
    import plotnine as p9

    from multilevel.report.plots.canvas import Canvas

    picture = Canvas(boxes, p9.aes("x", "y"))
    if arcs:
        bent = pd.concat(arcs, ignore_index=True)
        picture += p9.geom_path(
            p9.aes("x", "y", group="edge"), bent, color=GREY, linetype="dashed", size=0.5
        )
    if arrows:
        straight = pd.DataFrame(arrows)
        picture += p9.geom_segment(
            p9.aes("x", "y", xend="xend", yend="yend", linetype="kind"), straight, color=INK,
            size=0.6, arrow=p9.arrow(length=0.09, type="closed", angle=22),
        )  # fmt: skip
        picture += p9.scale_linetype_manual(
            values={"fixed": "solid", "random": "dotted"}, guide=None
        )
    for is_latent, style in ((False, "square"), (True, "round")):
        own = boxes[boxes["latent"] == is_latent]
        if len(own):
            picture += p9.geom_label(
                p9.aes("x", "y", label="name"), own, size=9.5, fill="#EAF3FA", color=INK,
                boxstyle=style, label_padding=0.4, label_size=0.6,
            )  # fmt: skip
    return picture


def _edges(model: StructuralModel, tests: ParameterTests, level: Level, group: int) -> list[_Edge]:
    """Regressions, loadings, covariances that are not zero, and random slopes of one level."""
    out = []
    mean_of = {}
    for k, p in enumerate(model.parameters):
        if p.group != group or p.origin == "exogenous":
            continue
        if p.op == "~1" and p.lhs in model.slope_names:
            mean_of[p.lhs] = _value(tests, k)
        if p.level != level or p.op == "~1" or p.is_variance:
            continue
        if not p.is_free and p.value == 0.0:
            continue
        start, end = (p.rhs, p.lhs) if p.op == "~" else (p.lhs, p.rhs)
        out.append(_Edge(start, end, _value(tests, k), p.op == "~~"))
    if level == "within":
        out += [
            _Edge(s.predictor, s.outcome, f"{s.name}: {mean_of[s.name]}", False, True)
            for s in model.random_slopes
        ]
    return out


def _value(tests: ParameterTests, k: int) -> str:
    estimate, error, p = (float(a[k]) for a in (tests.estimate, tests.std_error, tests.p_value))
    if not np.isfinite(error):
        return f"{estimate:.3g}"
    stars = "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else ""
    return f"{estimate:.2f}{stars} ({error:.2f})"


def _layout(edges: Sequence[_Edge]) -> dict[str, tuple[float, float]]:
    """Columns by the longest chain of arrows that leads to a variable; middle columns raised."""
    names = list(dict.fromkeys(n for e in edges for n in (e.start, e.end)))
    column = dict.fromkeys(names, 0)
    straight = [e for e in edges if not e.is_covariance]
    for _ in names:  # at most as many rounds as variables, so that loops end
        for e in straight:
            column[e.end] = min(max(column[e.end], column[e.start] + 1), len(names))
    last = max(column.values())
    place = {}
    for c in range(last + 1):
        own = [n for n in names if column[n] == c]
        lift = 0.9 if 0 < c < last and c % 2 == 1 else 0.0
        for k, name in enumerate(own):
            place[name] = (2.0 * c, lift + 1.0 * ((len(own) - 1) / 2.0 - k))
    return place


def _reach(name: str, unit: Array, spread: Array) -> float:
    """From the middle of a box to its side, in the direction ``unit``."""
    half_width = (_LETTER * len(name) + _EDGE) * max(float(spread[0]), 1.0)
    half_height = _TALL * max(float(spread[1]), 1.0)
    sides = half_width / max(abs(unit[0]), 1e-9), half_height / max(abs(unit[1]), 1e-9)
    return float(min(sides))


def _draw_edge(
    edge: _Edge,
    place: Mapping[str, tuple[float, float]],
    panel: str,
    arrows: list[dict[str, Any]],
    arcs: list[pd.DataFrame],
    words: list[dict[str, Any]],
) -> None:
    """Append one edge and its label."""
    one, two = np.array(place[edge.start]), np.array(place[edge.end])
    along = two - one
    length = max(float(np.linalg.norm(along)), 1e-9)
    if edge.is_covariance:
        normal = np.array([along[1], -along[0]]) / length
        if normal[1] > 0.0:
            normal = -normal
        t = np.linspace(0.12, 0.88, 25)[:, None]
        control = 0.5 * (one + two) + normal * 0.35 * length
        curve = (1 - t) ** 2 * one + 2 * t * (1 - t) * control + t**2 * two
        arcs.append(
            pd.DataFrame({"x": curve[:, 0], "y": curve[:, 1], "panel": panel,
                          "edge": f"{panel} {edge.start} {edge.end}"})
        )  # fmt: skip
        middle = curve[len(curve) // 2]
    else:
        unit = along / length
        spread = np.ptp(np.array(list(place.values())), axis=0)
        tail = one + unit * _reach(edge.start, unit, spread)
        head = two - unit * (_reach(edge.end, unit, spread) + 0.012 * max(spread))
        arrows.append(
            {"x": tail[0], "y": tail[1], "xend": head[0], "yend": head[1], "panel": panel,
             "kind": "random" if edge.is_random else "fixed"}
        )  # fmt: skip
        middle = one + 0.48 * along
    words.append({"x": middle[0], "y": middle[1], "text": edge.label, "panel": panel})
