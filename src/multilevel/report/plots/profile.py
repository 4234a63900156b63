"""Profiles of the parameters: how the criterion rises, and where a Wald interval misleads.

Source: Bates et al. 2015, JSS 67:1, section 5 (zeta plots).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.infer.profile_curve import (
    LEVELS,
    RESIDUAL_PARAMETER,
    ProfileCurve,
    ProfileCurves,
)
from multilevel.report.layout import count
from multilevel.report.plots.backend import BLUE, GREY, INK, VERMILLION, caption, look
from multilevel.report.plots.canvas import Canvas

Array = NDArray[np.float64]
_MAX_PANELS = 12
_MARKED = 0.95
_BREAKS = tuple(float(z) for z in ndtri([0.5 + level / 2.0 for level in LEVELS]))


def quantity_words(curve: ProfileCurve) -> str:
    """The heading of a panel: ``SD of ses over school``."""
    q = curve.quantity
    if q.block == RESIDUAL_PARAMETER:
        return f"{q.term}\n(residual)"
    if q.component == "fixed":
        return f"{q.term} (fixed)"
    if q.block == -1:
        return f"residual {'SD' if q.component == 'sd' else q.component}"
    kind = "SD" if q.component == "sd" else q.component
    return f"{kind} of {q.term.replace(', ', ' and ')}\nover {q.group}"


def profile_panels(found: ProfileCurves, method: str) -> p9.ggplot:
    """One panel per parameter: zeta, its straight line, and the limits at five levels.

    Parameters
    ----------
    found : curves in the order of the parameters.
    method : ``"reml"`` or ``"ml"``, whose criterion was profiled.
    """
    shown = found.curves[:_MAX_PANELS]
    titles = [quantity_words(curve) for curve in shown]
    curves = pd.concat([_curve_rows(c, t) for c, t in zip(shown, titles, strict=True)])
    lines = pd.concat([_straight(c, t) for c, t in zip(shown, titles, strict=True)])
    limits = pd.concat([_limit_rows(c, t) for c, t in zip(shown, titles, strict=True)])
    for frame in (curves, lines, limits):
        frame["panel"] = pd.Categorical(frame["panel"], categories=titles)
    dropped = len(found.curves) - len(shown)
    note = caption(
        f"zeta: signed square root of the rise of the {'REML' if method == 'reml' else 'ML'}"
        " criterion with the parameter held and all others optimised; its axis is marked at the"
        " normal quantiles of five levels.",
        "Vertical lines: profile limits at 50, 80, 90, 95 (orange-red) and 99%; a curve that ends"
        " before a level has no limit there but the end of its range.",
        "Where it leaves the dashed straight line, estimate +/- z standard errors misleads.",
        *found.left_out,
        f"{count(dropped, 'further parameter')} not drawn: choose with components=."
        * (dropped > 0),
    )
    columns = 2 if len(shown) <= 4 else 3
    rows = -(-len(shown) // columns)
    breaks = [-z for z in reversed(_BREAKS)] + [0.0] + list(_BREAKS)
    names = [f"{100 * level:g}%" for level in LEVELS]
    return (
        Canvas(curves, p9.aes("value", "zeta"))
        + p9.geom_hline(yintercept=0.0, color=INK, size=0.5)
        + p9.geom_line(lines, linetype="dashed", color=GREY, size=0.7)
        + p9.geom_segment(limits, p9.aes(xend="value", yend="end", color="is_marked"), size=0.7)
        + p9.geom_line(color=BLUE, size=1.1)
        + p9.scale_color_manual(values={"yes": VERMILLION, "no": "#9A9A9A"}, guide=None)
        + p9.scale_y_continuous(
            breaks=breaks,
            labels=[*reversed(names), "0", *names],
            limits=(-_BREAKS[-1] * 1.06, _BREAKS[-1] * 1.06),
        )
        + p9.facet_wrap("panel", scales="free_x", ncol=columns)
        + p9.labs(x="", y="zeta", caption=note)
        + p9.ggtitle("Profiles of the parameters")
        + look(legend="none")
        + p9.theme(
            figure_size=(7.6, 1.5 + 2.3 * rows),
            strip_text=p9.element_text(size=9, linespacing=1.2),
            axis_text_y=p9.element_text(size=7),
            axis_title_x=p9.element_blank(),
            panel_spacing_x=0.03,
            panel_spacing_y=0.03,
        )
    )


def _curve_rows(curve: ProfileCurve, title: str) -> pd.DataFrame:
    return pd.DataFrame({"value": curve.values, "zeta": curve.zeta, "panel": title})


def _straight(curve: ProfileCurve, title: str) -> pd.DataFrame:
    """``(value - estimate) / std_error`` where the curve is; nothing without a standard error."""
    if not np.isfinite(curve.std_error) or curve.std_error <= 0.0:
        return pd.DataFrame({"value": [], "zeta": [], "panel": []})
    reach = 1.05 * _BREAKS[-1]
    ends = np.clip(
        curve.estimate + np.array([-reach, reach]) * curve.std_error,
        curve.values[0],
        curve.values[-1],
    )
    zeta = (ends - curve.estimate) / curve.std_error
    return pd.DataFrame({"value": ends, "zeta": zeta, "panel": title})


def _limit_rows(curve: ProfileCurve, title: str) -> pd.DataFrame:
    """Vertical segments from zero to the curve at each limit that exists."""
    rows = [
        (value, 0.0, sign * z, "yes" if level == _MARKED else "no", title)
        for sign, side in ((-1.0, curve.low), (1.0, curve.high))
        for value, z, level in zip(side, _BREAKS, LEVELS, strict=True)
        if np.isfinite(value)
    ]
    return pd.DataFrame(rows, columns=["value", "zeta", "end", "is_marked", "panel"])
