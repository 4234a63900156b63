"""Expected responses along a predictor: population and marginal, by cluster, by category."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray

from multilevel.design.generalized_replay import PartRows
from multilevel.errors import InferenceError
from multilevel.infer.distributions import normal_quantile
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.predict import limits, predict_rows, range_of
from multilevel.interpret.generalized.settings import Settings
from multilevel.report.plots.backend import (
    BLUE,
    GREY,
    PALETTE,
    VERMILLION,
    caption,
    drawn_of,
    look,
    spread_rows,
)
from multilevel.report.plots.canvas import Canvas

Array = NDArray[np.float64]
POINTS = 81
MOST_CLUSTERS = 100


def numeric_predictor(settings: Settings, name: str | None) -> str:
    """The predictor asked for, or the first numeric one with known values.

    Raises
    ------
    InferenceError : none, or one whose values are not known.
    """
    if name is not None:
        found = settings.find(name)
        if settings.observed(found) is None:
            raise InferenceError(
                "A curve needs a numeric predictor with its own column.",
                f"{found} has categories or is only inside a function or a product",
                "name another predictor=",
            )
        return found
    for _, grid in settings.sources.values():
        for candidate in grid.variables:
            if settings.observed(candidate) is not None:
                return candidate
    raise InferenceError(
        "A curve needs a numeric predictor.", "a model without one", "add a predictor"
    )


def curve_rows(
    evidence: GeneralizedEvidence, predictor: str | None
) -> tuple[str, Array, PartRows, str]:
    """Name, values (k,), rows along them, and where other predictors are held (in words)."""
    settings = Settings(evidence, np.zeros(POINTS, dtype=np.intp))
    name = numeric_predictor(settings, predictor)
    seen = settings.observed(name)
    observed = np.asarray(seen, dtype=np.float64)
    x = np.linspace(float(observed.min()), float(observed.max()), POINTS)
    changes: dict[str, object] = {name: x}
    held: list[str] = []
    for _, grid in settings.sources.values():
        for other, variable in grid.variables.items():
            if other in changes:
                continue
            if variable.is_category:
                changes[other] = variable.categories[0]
                held.append(f"{other} = {variable.categories[0]}")
            else:
                values = settings.observed(other)
                value = float(variable.default) if values is None else float(values.mean())
                changes[other] = value
                held.append(f"{other} = {value:.3g}")
    rows = settings.rows(changes)
    offsets = tuple(
        None if o is None else np.full(POINTS, float(o.mean())) for o in evidence.rows.offsets
    )
    words = f"Others held at {', '.join(held)}." if held else ""
    return name, x, replace(rows, offsets=offsets), words


def response_name(evidence: GeneralizedEvidence) -> str:
    """What the vertical axis shows."""
    if evidence.family.response == "binary":
        return "probability"
    return f"expected {evidence.design.mean.model.response}"


def expected_curve(
    evidence: GeneralizedEvidence, predictor: str | None = None, conf_level: float = 0.95
) -> p9.ggplot:
    """Expected response of a typical cluster and averaged over clusters, with bands.

    Raises
    ------
    InferenceError : categories (draw ``"categories"``), or no numeric predictor.
    """
    _refuse_categories(evidence)
    name, x, rows, held = curve_rows(evidence, predictor)
    z = float(normal_quantile(0.5 + conf_level / 2.0))
    frames = []
    kinds = {"population": "random effects of zero", "marginal": "averaged over clusters"}
    for kind, label in kinds.items():
        if kind == "marginal" and not evidence.random:
            continue
        found = predict_rows(evidence, rows, kind=kind, scale="response", std_error=True)
        error = np.zeros_like(found.estimate) if found.std_error is None else found.std_error
        low, high = limits(range_of(evidence, "response"), found.estimate, error, z)
        frames.append(
            pd.DataFrame({"x": x, "y": found.estimate[0], "low": low[0], "high": high[0],
                          "Expectation": label})
        )  # fmt: skip
    table = pd.concat(frames, ignore_index=True)
    note = caption(
        f"{100 * conf_level:g}% bands by the delta method.",
        "The curve averaged over clusters is what a sample of the population would show; the other"
        " is that of a typical cluster." * (len(frames) > 1),
        held,
    )
    return (
        Canvas(table, p9.aes("x", "y", color="Expectation", fill="Expectation"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), alpha=0.15, color="none")
        + p9.geom_line(size=1.0)
        + p9.scale_color_manual(values=[BLUE, VERMILLION])
        + p9.scale_fill_manual(values=[BLUE, VERMILLION])
        + p9.labs(
            x=name, y=response_name(evidence), caption=note,
            title=f"Expected response along {name}",
        )
        + look(legend="top")
    )  # fmt: skip


def cluster_curves(
    evidence: GeneralizedEvidence, predictor: str | None = None, group: str | None = None
) -> p9.ggplot:
    """Curves of single clusters on the scale of the response, over that of a typical one.

    Raises
    ------
    InferenceError : categories, no random effects, an unknown factor, no numeric predictor.
    """
    _refuse_categories(evidence)
    t = block_number(evidence, group)
    block = evidence.design.blocks[t]
    name, x, rows, held = curve_rows(evidence, predictor)
    chosen = spread_rows(block.n_levels, MOST_CLUSTERS)
    frames = []
    for level in [-1, *chosen.tolist()]:
        codes = tuple(
            np.full(POINTS, level if s == t else -1, dtype=np.int32)
            for s in range(len(evidence.design.blocks))
        )
        own = replace(rows, codes=codes)
        found = predict_rows(evidence, own, kind="conditional", scale="response", std_error=False)
        frames.append(pd.DataFrame({"x": x, "y": found.estimate[0], "cluster": str(level)}))
    table = pd.concat(frames, ignore_index=True)
    typical = table["cluster"] == "-1"
    note = caption(
        "Thin lines: clusters at their estimated random effects; thick line: random effects of"
        " zero.",
        drawn_of(len(chosen), block.n_levels, f"levels of {block.group}"),
        held,
    )
    return (
        Canvas(table[~typical], p9.aes("x", "y", group="cluster"))
        + p9.geom_line(color=GREY, size=0.4, alpha=0.6)
        + p9.geom_line(data=table[typical], color=BLUE, size=1.3)
        + p9.labs(
            x=name, y=response_name(evidence), caption=note,
            title=f"Expected response by {block.group} along {name}",
        )
        + look()
    )  # fmt: skip


def category_areas(
    evidence: GeneralizedEvidence, predictor: str | None = None, kind: str = "marginal"
) -> p9.ggplot:
    """Probabilities of the categories along a predictor, stacked to one.

    Raises
    ------
    InferenceError : a response without categories, or no numeric predictor.
    """
    labels = evidence.categories
    if not labels:
        raise InferenceError(
            "This picture belongs to responses of categories.",
            f"family {evidence.family.label}",
            'draw plot("expected")',
        )
    name, x, rows, held = curve_rows(evidence, predictor)
    found = predict_rows(evidence, rows, kind=kind, scale="response", std_error=False)
    table = pd.DataFrame(
        {
            "x": np.tile(x, len(labels)),
            "y": found.estimate.ravel(),
            "Category": pd.Categorical(np.repeat(labels, POINTS), categories=labels[::-1]),
        }
    )
    words = {
        "marginal": "averaged over the random effects",
        "population": "at random effects of zero",
    }
    note = caption(f"Probabilities {words.get(kind, kind)}.", held)
    colours = [PALETTE[k % len(PALETTE)] for k in range(len(labels))][::-1]
    return (
        Canvas(table, p9.aes("x", "y", fill="Category"))
        + p9.geom_area(position="stack", alpha=0.85)
        + p9.scale_fill_manual(values=colours)
        + p9.labs(
            x=name, y="probability", caption=note,
            title=f"Probability of each category along {name}",
        )
        + look()
    )  # fmt: skip


def block_number(evidence: GeneralizedEvidence, group: str | None) -> int:
    """Position of a grouping factor; the one with the fewest levels if not named.

    Raises
    ------
    InferenceError : no random effects, or an unknown factor.
    """
    names = [block.group for block in evidence.design.blocks]
    if not names:
        raise InferenceError(
            "This picture needs random effects.",
            "a model without random terms",
            "add a term such as (1 | school)",
        )
    if group is None:
        return len(names) - 1
    if group not in names:
        raise InferenceError(
            f"The grouping factor must be one of {', '.join(names)}.",
            f"group={group!r}",
            f"write group={names[-1]!r}",
        )
    return names.index(group)


def _refuse_categories(evidence: GeneralizedEvidence) -> None:
    if evidence.categories:
        raise InferenceError(
            "This picture shows one expected response.",
            f"{len(evidence.categories)} categories",
            'draw plot("categories")',
        )
