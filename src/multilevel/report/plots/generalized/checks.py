"""Pictures that check a generalized fit: calibration, rootogram, quantile residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotnine as p9
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.errors import InferenceError
from multilevel.interpret.generalized.checks import calibration
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.residuals import (
    draw_responses,
    fitted_values,
    quantile_scores,
)
from multilevel.report.plots.backend import (
    BLUE,
    INK,
    SKY,
    VERMILLION,
    caption,
    drawn_of,
    look,
    point_size,
    sample_rows,
)
from multilevel.report.plots.canvas import Canvas

Array = NDArray[np.float64]
DRAWS = 200
MOST_BARS = 60


def calibration_picture(evidence: GeneralizedEvidence, n_bins: int = 10) -> p9.ggplot:
    """Observed against expected responses in bins, with the line of agreement."""
    expected, seen, error, sizes = calibration(evidence, n_bins=n_bins)
    table = pd.DataFrame(
        {"x": expected, "y": seen, "low": seen - 1.96 * error, "high": seen + 1.96 * error}
    )
    note = caption(
        f"{len(sizes)} bins of about {int(np.median(sizes))} rows in the order of the expected "
        "response (estimated random effects included); bars are 95% intervals of the bin means.",
        "On the line, expectations are right on average.",
    )
    return (
        Canvas(table, p9.aes("x", "y"))
        + p9.geom_abline(intercept=0, slope=1, color=INK, linetype="dashed", size=0.6)
        + p9.geom_linerange(p9.aes(ymin="low", ymax="high"), color=BLUE, size=0.6)
        + p9.geom_point(color=BLUE, size=2.4)
        + p9.labs(x="expected", y="observed", caption=note, title="Observed against expected")
        + look()
    )


def rootogram(evidence: GeneralizedEvidence, seed: int = 0) -> p9.ggplot:
    """Hanging rootogram of counts: roots of observed frequencies hung from the expected ones.

    Source: Kleiber & Zeileis 2016 (The American Statistician 70:296).

    Raises
    ------
    InferenceError : responses that are not counts.
    """
    if evidence.family.response != "count":
        raise InferenceError(
            "A rootogram belongs to counts.",
            f"family {evidence.family.label}",
            'draw plot("calibration") or plot("quantile_residuals")',
        )
    y = evidence.design.response.y.astype(np.int64)
    top = int(min(y.max(), max(np.quantile(y, 0.995), 5), MOST_BARS))
    drawn = draw_responses(evidence, DRAWS, np.random.default_rng(seed), "marginal")
    counts = np.stack(
        [np.bincount(np.minimum(d, top + 1), minlength=top + 2) for d in drawn.T.astype(np.int64)]
    )[:, : top + 1]
    observed = np.bincount(np.minimum(y, top + 1), minlength=top + 2)[: top + 1]
    expected = np.sqrt(counts.mean(axis=0))
    low, high = np.quantile(np.sqrt(counts), [0.025, 0.975], axis=0)
    hang = expected - np.sqrt(observed)
    table = pd.DataFrame(
        {"x": np.arange(top + 1.0), "top": expected, "bottom": hang,
         "low": expected - high, "high": expected - low}
    )  # fmt: skip
    left = int(np.sum(y > top))
    note = caption(
        "Bars are roots of observed frequencies, hung from the expected ones (line): a bar that"
        " stays above zero is too few responses of that size, one that reaches below is too many.",
        f"Shaded: where 95% of {DRAWS} simulated data sets end.",
        f"{left} responses above {top} are not shown." if left else "",
    )
    return (
        Canvas(table, p9.aes("x"))
        + p9.geom_ribbon(p9.aes(ymin="low", ymax="high"), fill=SKY, alpha=0.3)
        + p9.geom_rect(
            p9.aes(xmin="x - 0.42", xmax="x + 0.42", ymin="bottom", ymax="top"),
            fill=BLUE, alpha=0.65,
        )
        + p9.geom_line(p9.aes(y="top"), color=VERMILLION, size=0.9)
        + p9.geom_point(p9.aes(y="top"), color=VERMILLION, size=1.2)
        + p9.geom_hline(yintercept=0.0, color=INK, size=0.6)
        + p9.labs(
            x=evidence.design.mean.model.response, y="root of frequency", caption=note,
            title="Rootogram: observed counts hung from expected ones",
        )
        + look()
    )  # fmt: skip


def quantile_picture(evidence: GeneralizedEvidence, seed: int = 0) -> p9.ggplot:
    """Randomised quantile residuals: against normal quantiles, and along the expected response."""
    scores = quantile_scores(evidence, "marginal", np.random.default_rng(seed))
    mean = fitted_values(evidence, "population")
    expected = mean[0] if len(mean) == 1 else np.arange(float(len(mean))) @ mean
    n = len(scores)
    at = sample_rows(n)
    order = np.sort(scores)
    quantiles = ndtri((np.arange(n) + 0.5) / n)
    panels = ("Normal quantiles", "Along the expected response (ranks)")
    ranks = np.argsort(np.argsort(expected, kind="stable"), kind="stable") / n
    table = pd.concat(
        [
            pd.DataFrame({"x": quantiles[at], "y": order[at], "panel": panels[0]}),
            pd.DataFrame({"x": ranks[at], "y": scores[at], "panel": panels[1]}),
        ]
    )
    table["panel"] = pd.Categorical(table["panel"], categories=panels)
    lines = pd.DataFrame(
        {
            "x": [quantiles[0], quantiles[-1], 0.0, 1.0],
            "y": [quantiles[0], quantiles[-1], 0.0, 0.0],
            "panel": pd.Categorical(np.repeat(panels, 2), categories=panels),
        }
    )
    note = caption(
        "Randomised quantile residuals, averaged over the random effects: standard normal, in no"
        " pattern, if the model holds. Residuals of one cluster go together.",
        drawn_of(len(at), n, "rows"),
    )
    return (
        Canvas(table, p9.aes("x", "y"))
        + p9.geom_point(color=BLUE, size=point_size(len(at)), alpha=0.5, stroke=0)
        + p9.geom_line(data=lines, color=VERMILLION, size=0.8)
        + p9.facet_wrap("panel", scales="free_x")
        + p9.labs(x="", y="quantile residual", caption=note, title="Quantile residuals")
        + look()
    )
