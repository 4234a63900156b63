"""Lines along a predictor: clusters over their data, simple slopes, regions of significance.

Sources: Snijders & Bosker 2012, sections 5.1 and 5.2 (lines of clusters); Bauer & Curran 2005
(Multivariate Behavioral Research 40:373) for simple slopes and the Johnson-Neyman region.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.interpret.advice.columns import INTERCEPT
from multilevel.interpret.fitted import fixed_part
from multilevel.report.facts import split_interaction
from multilevel.report.layout import decimals_for, join_words, short
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    INK,
    PALETTE,
    VERMILLION,
    caption,
    drawn_of,
    look,
    point_size,
    sample_rows,
)
from multilevel.report.plots.canvas import Canvas
from multilevel.report.plots.columns import (
    Moving,
    factor_of,
    factor_words,
    is_curve,
    main_columns,
    reference_category,
    rows_along,
)
from multilevel.report.plots.source import PictureSource, cluster_means, cluster_ranges, one_of

Array = NDArray[np.float64]
_MAX_LINES = 200
_CURVE_POINTS = 25
_BAND_POINTS = 60
_BISECTIONS = 50


def numeric_predictors(source: PictureSource) -> tuple[str, ...]:
    """Columns that can be an axis: random slopes first, then fixed effects that vary within."""
    design = source.design
    found = [n for b in design.blocks for n in main_columns(b.names)]
    found += [n for n in main_columns(design.names) if factor_of(n) is None and "(" not in n]
    found += [n for n in main_columns(design.names) if factor_of(n) is None]
    distinct = list(dict.fromkeys(found))
    return tuple(n for n in distinct if len(np.unique(observed(source, n)[:20_000])) > 2) or tuple(
        distinct
    )


def observed(source: PictureSource, name: str) -> Array:
    """Values (n,) of a column of the fixed or random effects."""
    if name in source.design.names:
        return source.design.X[:, source.design.names.index(name)]
    for block in source.design.blocks:
        if name in block.names:
            return block.columns[:, block.names.index(name)]
    names = dict.fromkeys(
        [*main_columns(source.design.names), *(n for b in source.design.blocks for n in b.names)]
    )
    allowed = [n for n in names if n != INTERCEPT]
    one_of(name, allowed, "predictor")
    return np.empty(0)


def default_predictor(source: PictureSource) -> str:
    """The first random slope, else the first predictor."""
    found = numeric_predictors(source)
    if not found:
        raise InferenceError(
            "This picture needs a predictor for its horizontal axis.",
            "a model without predictors",
            'add one to the formula, or draw "caterpillar" or "residuals"',
        )
    return found[0]


def cluster_lines(
    source: PictureSource, predictor: str | None = None, group: str | None = None
) -> p9.ggplot:
    """Predicted line of each cluster over the data, and the average line."""
    design = source.design
    x_name = predictor or default_predictor(source)
    x = observed(source, x_name)
    t = source.block_number(group)
    if group is None:
        sloped = [s for s, b in enumerate(design.blocks) if x_name in b.names]
        t = sloped[0] if sloped else t
    block = design.blocks[t]
    shown = np.arange(block.n_levels)[sample_rows(block.n_levels, _MAX_LINES)]
    lines = _lines_of_clusters(source, t, x_name, shown)
    across = np.linspace(float(x.min()), float(x.max()), _CURVE_POINTS)
    average = pd.DataFrame({"x": across, "y": _average(source, {x_name: Moving(x, across)})})
    rows = sample_rows(design.n)
    points = pd.DataFrame({"x": x[rows], "y": design.y[rows]})
    out = [b.group for s, b in enumerate(design.blocks) if s not in source.above(t)]
    alone = len(main_columns(design.names)) <= 1
    note = caption(
        f"Thin lines: predicted outcome of each {block.group}"
        f"{'' if alone else ', other predictors at its means'}; thick line: average over"
        f" {block.group} (random effects of zero).",
        f"Random effects of {join_words(out)} are set to zero." if out else "",
        drawn_of(len(shown), block.n_levels, f"levels of {block.group} (chosen at random)"),
        drawn_of(len(rows), design.n, "rows (chosen at random)"),
    )
    return (
        Canvas()
        + p9.geom_point(
            points, p9.aes("x", "y"), color=GREY, alpha=0.45, size=point_size(len(rows)), stroke=0
        )
        + p9.geom_line(
            lines,
            p9.aes("x", "y", group="cluster"),
            color=BLUE,
            alpha=0.75 if len(shown) <= 30 else 0.35,
            size=0.6,
        )
        + p9.geom_line(average, p9.aes("x", "y"), color=VERMILLION, size=1.6)
        + p9.labs(
            x=x_name,
            y=design.model.response,
            title=f"Predicted {design.model.response} by {block.group}",
            caption=note,
        )
        + look()
    )


def _lines_of_clusters(
    source: PictureSource, t: int, x_name: str, shown: NDArray[np.intp]
) -> pd.DataFrame:
    """Predicted outcome of each shown cluster over its own range of the predictor."""
    design, fit = source.design, source.fit
    block, x = design.blocks[t], observed(source, x_name)
    curved = is_curve(design.names, x_name)
    steps = _CURVE_POINTS if curved else 2
    low, high = cluster_ranges(block, x)
    grid = np.concatenate([np.linspace(low[j], high[j], steps) for j in shown])
    owner = np.repeat(shown, steps)
    move = {x_name: Moving(x, grid)}
    base = cluster_means(block, design.X)[owner]
    offset = None
    if design.offset is not None:
        offset = cluster_means(block, design.offset[:, None])[owner, 0]
    line = fixed_part(rows_along(design.names, design.X, base, move), fit.beta, offset)
    for s in source.above(t):
        other = design.blocks[s]
        Z = rows_along(other.names, other.columns, cluster_means(block, other.columns)[owner], move)
        code = np.zeros(block.n_levels, dtype=np.intp)
        code[block.codes] = other.codes
        line = line + np.einsum("ia,ia->i", Z, source.effects[s].estimates[code[owner]])
    return pd.DataFrame({"x": grid, "y": line, "cluster": owner.astype(str)})


def _average(source: PictureSource, moving: dict[str, Moving]) -> Array:
    design = source.design
    rows = rows_along(design.names, design.X, design.X.mean(axis=0), moving)
    offset = None
    if design.offset is not None:
        offset = np.full(len(rows), float(design.offset.mean()))
    return fixed_part(rows, source.fit.beta, offset)


@dataclass(frozen=True)
class _Setting:
    """One value of the moderator: a label and the columns it fixes."""

    label: str
    values: dict[str, float]


def interactions(source: PictureSource) -> tuple[tuple[str, str], ...]:
    """Pairs of columns that interact and are effects of their own."""
    mains = set(main_columns(source.design.names))
    pairs = [split_interaction(n) for n in source.design.names]
    return tuple((p[0], p[1]) for p in pairs if len(p) == 2 and set(p) <= mains)


def choose_pair(
    source: PictureSource, predictor: str | None, moderator: str | None
) -> tuple[str, str | None]:
    """The predictor and the moderator of a picture of slopes; None if nothing interacts."""
    pairs = interactions(source)
    if moderator is None:
        for a, b in pairs:
            if predictor in (a, b):
                return (a, b) if predictor == a else (b, a)
        if predictor is not None or not pairs:
            return predictor or default_predictor(source), None
        a, b = pairs[0]
        # The predictor with more values makes the better axis.
        few = len(np.unique(observed(source, a))) < len(np.unique(observed(source, b)))
        return (b, a) if few or factor_of(a) is not None else (a, b)
    if predictor is None:
        partners = [b if a == moderator else a for a, b in pairs if moderator in (a, b)]
        if not partners:
            one_of(moderator, [n for pair in pairs for n in pair], "moderator")
        return partners[0], moderator
    observed(source, moderator)
    return predictor, moderator


def _settings(source: PictureSource, moderator: str | None) -> list[_Setting]:
    if moderator is None:
        return [_Setting("", {})]
    levels = factor_of(moderator)
    if levels is not None:
        names = [n for n in source.design.names if (factor_of(n) or ("",))[0] == levels[0]]
        full = [
            _Setting((factor_of(k) or ("", k))[1], {n: float(n == k) for n in names}) for k in names
        ]
        # Where some row has none of the indicators, their factor has a reference category.
        all_named = np.all(sum(observed(source, n) for n in names) != 0.0)
        if all_named:
            return full
        rest = reference_category(source.design, levels[0], [f.label for f in full])
        return [_Setting(rest, dict.fromkeys(names, 0.0)), *full]
    values = np.unique(observed(source, moderator))
    if len(values) <= 3:
        return [_Setting(f"{v:g}", {moderator: float(v)}) for v in values]
    mean = float(observed(source, moderator).mean())
    sd = float(observed(source, moderator).std(ddof=1))
    places = decimals_for([sd], 3)
    return [
        _Setting(f"{mean + k * sd:.{places}f} ({word})", {moderator: mean + k * sd})
        for k, word in ((-1, "mean - SD"), (0, "mean"), (1, "mean + SD"))
    ]


def simple_slopes(
    source: PictureSource, predictor: str | None = None, moderator: str | None = None
) -> p9.ggplot:
    """Lines of the fixed effects at chosen values of a moderator, with 95% bands."""
    design = source.design
    x_name, by = choose_pair(source, predictor, moderator)
    x = observed(source, x_name)
    few = np.unique(x)
    grid = few if len(few) <= 2 else np.linspace(float(x.min()), float(x.max()), _BAND_POINTS)
    frames = []
    for setting in _settings(source, by):
        move = {x_name: Moving(x, grid)}
        move |= {
            n: Moving(observed(source, n), np.full(len(grid), v)) for n, v in setting.values.items()
        }
        rows = rows_along(design.names, design.X, design.X.mean(axis=0), move)
        half = source.half_width(rows)
        mean = _average(source, move)
        frames.append(
            pd.DataFrame(
                {
                    "x": grid,
                    "y": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "at": setting.label,
                }
            )
        )
    table = pd.concat(frames, ignore_index=True)
    table["at"] = pd.Categorical(table["at"], categories=[f["at"].iloc[0] for f in frames])
    moved = {x_name, *(n for f in _settings(source, by) for n in f.values)}
    held = [
        n
        for n in main_columns(design.names)
        if n not in moved and not any(is_curve([n], m) for m in moved)
    ]
    shown_by = None if by is None else factor_words((factor_of(by) or (by,))[0])
    note = caption(
        f"Fixed effects only (random effects of zero), with pointwise 95% bands"
        f" ({source.band_words}).",
        f"Held at their means: {join_words(held)}." if held else "",
    )
    picture = (
        Canvas(table, p9.aes("x", "y", color="at", fill="at", linetype="at"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), alpha=0.18, color="none")
        + p9.geom_line(size=1.1)
        + p9.scale_color_manual(values=list(PALETTE))
        + p9.scale_fill_manual(values=list(PALETTE))
        + p9.labs(
            x=x_name,
            y=design.model.response,
            title=f"Slope of {x_name}" + (f" by {shown_by}" if shown_by else ""),
            caption=note,
            color=shown_by or "",
            fill=shown_by or "",
            linetype=shown_by or "",
        )
    )
    return picture + look(legend="top" if by else "none")


def johnson_neyman(
    source: PictureSource, predictor: str | None = None, moderator: str | None = None
) -> p9.ggplot:
    """Slope of a predictor at each value of its moderator, with the region where it is not zero.

    ``slope(w) = b_x + b_xw w`` with variance ``v_x + 2 w v_x,xw + w^2 v_xw``; the region ends where
    ``|slope(w)|`` is the critical value times its standard error (Bauer & Curran 2005, equation
    16, with degrees of freedom that may change along w).
    """
    design, fit = source.design, source.fit
    x_name, by = choose_pair(source, predictor, moderator)
    products = {frozenset(split_interaction(n)): j for j, n in enumerate(design.names)}
    pair = frozenset((x_name, by or ""))
    if pair not in products:
        raise InferenceError(
            "The Johnson-Neyman picture needs an interaction of two predictors.",
            f"no interaction with {x_name}" if by is None else f"no {x_name}:{by} in the model",
            f"write {x_name} * w in the formula, w being the moderator",
        )
    i, j = design.names.index(x_name), products[pair]
    w = observed(source, str(by))
    grid = np.linspace(float(w.min()), float(w.max()), 200)

    def line(at: Array) -> tuple[Array, Array]:
        rows = np.zeros((len(at), len(design.names)))
        rows[:, i], rows[:, j] = 1.0, at
        return rows @ fit.beta, source.half_width(rows)

    slope, half = line(grid)
    low, high = slope - half, slope + half
    table = pd.DataFrame({"x": grid, "y": slope, "low": low, "high": high})
    apart = (low > 0.0) | (high < 0.0)
    inside = region_limits(line, grid)
    # Pieces between limits are drawn apart, so that no ribbon bridges a region.
    table["piece"] = np.searchsorted(np.asarray(inside), grid).astype(str)
    table["kind"] = np.where(apart, "not zero", "may be zero")
    where = (
        f"The 95% interval of the slope leaves zero at {by} ="
        f" {join_words([short(c) for c in inside])}."
        if inside
        else "Within the data the 95% interval of the slope "
        + ("never includes zero." if bool(apart.all()) else "includes zero throughout.")
    )
    note = caption(
        where, f"Pointwise intervals ({source.band_words}); the axis spans the observed values."
    )
    return (
        Canvas(table, p9.aes("x", "y"))
        + p9.geom_hline(yintercept=0.0, color=INK, size=0.6)
        + p9.geom_ribbon(
            p9.aes(ymin="low", ymax="high", fill="kind", group="piece"), alpha=0.35, color="none"
        )
        + p9.geom_line(color=BLUE, size=1.1)
        + p9.geom_vline(xintercept=inside, linetype="dashed", color=INK, size=0.5)
        + p9.scale_fill_manual(values={"not zero": BLUE, "may be zero": GREY}, name="Slope:")
        + p9.labs(
            x=str(by), y=f"slope of {x_name}", title=f"Slope of {x_name} along {by}", caption=note
        )
        + look(legend="top")
    )


def region_limits(line: Callable[[Array], tuple[Array, Array]], grid: Array) -> list[float]:
    """Places between the grid's ends at which the interval of a slope begins or ends to hold zero.

    ``line`` gives slopes and half widths (m,) at m values; sign changes of ``|slope| - half``
    between neighbours of the ascending ``grid`` are bisected to rounding.
    """

    def excess(at: Array) -> Array:
        slope, half = line(at)
        return np.asarray(np.abs(slope) - half)

    out = []
    beyond = excess(grid) > 0.0
    for k in np.flatnonzero(beyond[1:] != beyond[:-1]):
        low, high = float(grid[k]), float(grid[k + 1])
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            same = (excess(np.array([middle]))[0] > 0.0) == beyond[k]
            low, high = (middle, high) if same else (low, middle)
        out.append(0.5 * (low + high))
    return out
