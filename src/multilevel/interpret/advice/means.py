"""Advice on cluster means: what their slope means, what they were computed from, how sure they are.

Sources: Enders & Tofighi 2007 (Psychological Methods 12:121); Luedtke et al. 2008 (Psychological
Methods 13:203, eq. 5) for the bias of a contextual effect by an unreliable mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.recipe import LearntCentring, Recipe
from multilevel.design.records import Design, RandomBlock
from multilevel.estimate.records import Fit
from multilevel.interpret.advice.columns import (
    INTERCEPT,
    Parts,
    Span,
    split,
    variable_of,
    within_variable,
)
from multilevel.interpret.advice.record import Advice

Array = NDArray[np.float64]
#: A cluster mean less reliable than this biases contextual effects noticeably.
RELIABLE = 0.70
#: Share of rows lost to missing values above which means of the rest are worth a word.
LOSS = 0.05
#: Standard deviations within and overall that are closer than this are called equal.
CLOSE = 0.95


@dataclass(frozen=True)
class MeanPair:
    """A level-1 column of X and the column that holds its cluster means (up to a constant).

    Attributes
    ----------
    level1, mean : positions in X.
    block : the clusters.
    is_within : whether the level-1 column is a deviation from the means.
    parts : the undivided variable, split.
    """

    level1: int
    mean: int
    block: RandomBlock
    is_within: bool
    parts: Parts


def mean_pairs(design: Design) -> list[MeanPair]:
    """Pairs of a predictor and its cluster mean, found by their numbers.

    A ``within(x, g)`` column is paired with ``between(x, g)`` by name, as its means are zero.
    """
    out: list[MeanPair] = []
    for block in design.blocks:
        kinds = [split(design.X[:, j], block) for j in range(len(design.names))]
        for j, name in enumerate(design.names):
            if not kinds[j].varies_within:
                continue
            inside = within_variable(name)
            if inside is None and variable_of(name) is None:
                continue
            for k, other in enumerate(design.names):
                if other == INTERCEPT or kinds[k].varies_within or not kinds[k].varies_between:
                    continue
                if inside is not None:
                    if _is_between(other, inside, block.group):
                        whole = split(design.X[:, j] + design.X[:, k], block)
                        out.append(MeanPair(j, k, block, True, whole))
                elif _same_up_to_shift(kinds[j].means, kinds[k].means):
                    out.append(MeanPair(j, k, block, False, kinds[j]))
    return out


def _is_between(name: str, variable: str, group: str) -> bool:
    return name == f"between({variable}, {group})" or name.startswith(
        f"between({variable}, {group}, "
    )


def _same_up_to_shift(means: Array, column: Array) -> bool:
    one, two = means - means.mean(), column - column.mean()
    return bool(np.abs(one - two).max() <= 1e-6 * np.abs(one).max())


def about_contextual(design: Design, fit: Fit) -> list[Advice]:
    """Mistake 2: the slope of a cluster mean beside the raw predictor is not the between effect."""
    out: list[Advice] = []
    for pair in mean_pairs(design):
        if pair.is_within:
            continue
        j, k = pair.level1, pair.mean
        x, mean = design.names[j], design.names[k]
        within, contextual = float(fit.beta[j]), float(fit.beta[k])
        variance = fit.vcov_beta[j, j] + fit.vcov_beta[k, k] + 2.0 * fit.vcov_beta[j, k]
        out.append(
            Advice(
                "contextual_effect",
                "note",
                f"The slope of {mean} ({contextual:.3g}) is the contextual effect of {x}, between "
                f"minus within levels of {pair.block.group}; the between effect is "
                f"{within + contextual:.3g} (standard error "
                f"{float(np.sqrt(max(variance, 0.0))):.2g}).",
                "Report it under the name of the effect that you mean.",
            )
        )
    return out


def mean_reliability(parts: Parts, block: RandomBlock) -> float:
    """Average over clusters of ``tau2 / (tau2 + sigma2 / n_j)``, analysis-of-variance estimates.

    ICC / (ICC + (1 - ICC) / n_j); NaN where the ICC is not defined, 0 where it is negative.
    """
    if np.isnan(parts.icc):
        return float("nan")
    icc = max(parts.icc, 0.0)
    counts = np.bincount(block.codes, minlength=block.n_levels)
    return float(np.mean(icc / (icc + (1.0 - icc) / counts)))


def about_reliability(design: Design) -> list[Advice]:
    """Mistake 8: cluster means of too few rows to stand for the cluster."""
    out: list[Advice] = []
    for pair in mean_pairs(design):
        reliability = mean_reliability(pair.parts, pair.block)
        if not reliability < RELIABLE:
            continue
        group, mean = pair.block.group, design.names[pair.mean]
        out.append(
            Advice(
                "unreliable_mean",
                "warning",
                f"{mean} has a reliability of {reliability:.2f} on average: if the rows of a "
                f"level of {group} are a sample of it, the contextual effect is estimated at about "
                f"{100 * reliability:.0f}% of its size.",
                f"Say whether the rows are all there is of each {group} (then the mean has no "
                "error); otherwise use a mean from more rows or from another source.",
            )
        )
    return out


def about_rows_of_means(design: Design) -> list[Advice]:
    """Mistake 9: cluster means from other rows than the model's, or from few of the table's."""
    recipe = design.recipe
    if not isinstance(recipe, Recipe):
        return []
    grouped = [one for one in recipe.centring if one.call.kind in ("within", "between")]
    out = [
        _other_rows(design, learnt)
        for learnt in grouped
        if learnt.call.rows == "all" and learnt.n_rows != design.n
    ]
    report = design.rows
    own = [one for one in grouped if one.call.rows == "analysis"]
    if own and report.n_dropped > LOSS * report.n_table:
        blamed = max(report.missing, key=lambda name: report.missing[name], default="")
        out.append(
            Advice(
                "means_of_fewer_rows",
                "warning",
                f"{own[0].call.text} has means of the {design.n} analysed rows; "
                f"{report.n_dropped} of {report.n_table} rows of the table are left out"
                + (f", most of them for {blamed}." if blamed else "."),
                f'Write rows="all" in {own[0].call.kind}(...) to use every row that has '
                f"{own[0].call.shown}, and report which you used.",
            )
        )
    return out


def _other_rows(design: Design, learnt: LearntCentring) -> Advice:
    return Advice(
        "means_of_other_rows",
        "note",
        f"{learnt.call.text} has means of {learnt.n_rows} rows; the model has {design.n}.",
        'Report both numbers, or leave out rows="all".',
    )


def about_standardised(design: Design) -> list[Advice]:
    """Mistake 40: ``scale(x)`` divides by the spread of all rows, not by that within clusters.

    Only where the model holds the cluster mean too, so that the slope is the within effect.
    """
    out: list[Advice] = []
    scaled = [j for j, name in enumerate(design.names) if name.startswith("scale(")]
    if not scaled:
        return out
    span = Span(design.X)
    for j in scaled:
        for block in design.blocks:
            parts = split(design.X[:, j], block)
            if not (parts.varies_within and parts.varies_between):
                continue
            if span.outside(parts.means[block.codes]) > 1e-6 * parts.between:
                continue
            within = float(np.sqrt(parts.within / (design.n - block.n_levels)))
            if within < CLOSE:
                out.append(_standardised(design.names[j], within, block))
    return out


def _standardised(name: str, within: float, block: RandomBlock) -> Advice:
    return Advice(
        "standardised_before_split",
        "note",
        f"The slope of {name} is for one standard deviation over all rows; the standard deviation "
        f"within levels of {block.group} is {within:.2f} of that.",
        f"Multiply the slope by {within:.2f} for one standard deviation within {block.group}.",
    )
