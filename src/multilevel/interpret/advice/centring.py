"""Advice on level-1 predictors and random slopes: mixed, centred, or without a fixed slope.

Source: Hoffman & Walters 2022 (Annual Review of Psychology 73:659), on smushed effects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import effect_of, unscaled_columns
from multilevel.design.records import Design, RandomBlock
from multilevel.design.structured_terms import occasions
from multilevel.interpret.advice.columns import (
    INTERCEPT,
    Parts,
    Span,
    is_plain,
    split,
    variable_of,
    within_variable,
)
from multilevel.interpret.advice.record import Advice

Array = NDArray[np.float64]

#: A predictor with a larger share of its variance between clusters may carry two effects.
MIXED_ICC = 0.01
#: The cluster mean counts as present when the columns reproduce this share of what separates it.
CARRIED = 0.95


def about_predictors(design: Design) -> list[Advice]:
    """Smushed slopes, cluster-mean-centred predictors without their mean, predictor scales."""
    out: list[Advice] = []
    span = Span(design.X)
    for j, name in enumerate(design.names):
        if not is_plain(name) and within_variable(name) is None:
            continue
        x = design.X[:, j]
        for block in design.blocks:
            if INTERCEPT not in block.names:
                continue
            parts = split(x, block)
            if not parts.varies_within:
                continue
            if parts.icc > MIXED_ICC and parts.varies_between:
                out += _smushed(name, block, parts, span)
            elif not parts.varies_between:
                out += _mean_left_out(design, name, x, block)
    return out


def _smushed(name: str, block: RandomBlock, parts: Parts, span: Span) -> list[Advice]:
    """Mistake 1: a level-1 predictor with variance between clusters, its mean not in the model.

    ``x = mean + deviation`` is in the span of X. If the mean is too, both slopes are estimated;
    what of the mean lies outside is compared with the smaller of the two sums of squares, since
    one part could be reproduced only because it is small.
    """
    means = parts.means[block.codes]
    missing = span.outside(means) / min(parts.between, parts.within)
    if missing <= 1.0 - CARRIED:
        return []
    return [
        Advice(
            "smushed_slope",
            "warning",
            f"The slope of {name} mixes two effects, within and between levels of {block.group}: "
            f"{100 * parts.icc:.0f}% of the variance of {name} lies between them, and the model "
            f"does not hold the mean of {name} by {block.group}.",
            _add_mean(name, block),
        )
    ]


def _add_mean(name: str, block: RandomBlock) -> str:
    variable = variable_of(name)
    if variable is None:
        return (
            f"Add the share of {name} in each {block.group} as a predictor: the slope of {name} "
            "is then the within effect, that of the share the contextual effect."
        )
    new = f"between({variable}, {block.group})"
    return (
        f"Add + {new} to the formula: the slope of {name} is then the within effect, that of "
        f"{new} the contextual effect (between minus within)."
    )


def _mean_left_out(design: Design, name: str, x: Array, block: RandomBlock) -> list[Advice]:
    """Mistake 4: a cluster-mean-centred predictor where nothing else varies between clusters.

    Codes such as -0.5/0.5 and balanced time scores have equal means too; they repeat the same few
    values in every cluster, which deviations from cluster means do not.
    """
    if not _looks_centred(x, block):
        return []
    for j, other in enumerate(design.names):
        column = design.X[:, j]
        if other not in (INTERCEPT, name) and split(column, block).varies_between:
            return []
    variable = within_variable(name)
    return [
        Advice(
            "cluster_mean_left_out",
            "note",
            f"{name} has the mean zero in every level of {block.group}, and no predictor in the "
            f"model varies between them: the between effect of {name} is missing, not controlled.",
            f"Add + between({variable}, {block.group}) to the formula."
            if variable
            else f"Add the mean of the uncentred variable by {block.group} as a predictor.",
        )
    ]


def _looks_centred(x: Array, block: RandomBlock) -> bool:
    scale = float(np.max(np.abs(x)))
    if scale == 0 or float(np.abs(split(x, block).means).max()) > 1e-8 * scale:
        return False
    rounded = np.round(x / scale, 9)
    pairs = np.unique(np.column_stack([block.codes, rounded]), axis=0)
    most = int(np.bincount(pairs[:, 0].astype(np.intp)).max())
    return len(np.unique(rounded)) > 2 * most


def about_random_slopes(design: Design) -> list[Advice]:
    """Random slopes of mixed predictors, of cluster-level predictors, without a fixed slope."""
    out: list[Advice] = []
    span = Span(design.X)
    for block in design.blocks:
        columns = unscaled_columns(block)
        timed = occasions(block)
        for a, name in enumerate(block.names):
            if a in timed:
                continue
            z = columns[:, a]
            outside = span.outside(z)
            is_there = effect_of(name) != name and effect_of(name) in design.names
            if outside > 1e-6 * float(z @ z) and not is_there:
                out.append(_without_fixed(name, block))
            if name == INTERCEPT or not is_plain(name) or INTERCEPT not in block.names:
                continue
            parts = split(z, block)
            if not parts.varies_within:
                out.append(_slope_of_cluster_predictor(name, block))
            elif parts.icc > MIXED_ICC and parts.varies_between:
                out.append(_mixed_random_slope(name, block, parts))
    return out


def _without_fixed(name: str, block: RandomBlock) -> Advice:
    if name == INTERCEPT:
        return Advice(
            "random_without_fixed",
            "warning",
            f"The intercept varies over {block.group} but has no fixed part: its average is held "
            "at zero.",
            "Let the formula keep its intercept (take out the 0 +).",
        )
    return Advice(
        "random_without_fixed",
        "warning",
        f"{name} has a random slope over {block.group} but no fixed slope: its average slope is "
        "held at zero.",
        f"Add + {name} to the fixed part of the formula.",
    )


def _slope_of_cluster_predictor(name: str, block: RandomBlock) -> Advice:
    return Advice(
        "random_slope_of_cluster_predictor",
        "warning",
        f"{name} has one value in each level of {block.group}, so its slope cannot differ between "
        "them: the random slope can only make their variance depend on it.",
        f"Take {name} out of the random part over {block.group}.",
    )


def _mixed_random_slope(name: str, block: RandomBlock, parts: Parts) -> Advice:
    text = (
        f"The random slope of {name} over {block.group} also multiplies its part between levels "
        f"({100 * parts.icc:.0f}% of its variance), so that its variance mixes two sources."
    )
    variable = variable_of(name)
    if variable is None:
        mend = f"Use the deviation of the indicator from its share in each {block.group}."
    else:
        mend = (
            f"Write within({variable}, {block.group}) in the place of {name} left of the bar, and "
            f"within({variable}, {block.group}) + between({variable}, {block.group}) in the fixed "
            "part."
        )
    return Advice("random_slope_of_mixed_predictor", "warning", text, mend)


def about_scales(design: Design, most: float = 1e3) -> list[Advice]:
    """Mistake 28: standard deviations of predictors that differ by a factor above ``most``."""
    spreads = {
        name: float(design.X[:, j].std()) for j, name in enumerate(design.names) if is_plain(name)
    }
    spreads = {name: sd for name, sd in spreads.items() if sd > 0}
    if len(spreads) < 2:
        return []
    wide = max(spreads, key=lambda name: spreads[name])
    narrow = min(spreads, key=lambda name: spreads[name])
    ratio = spreads[wide] / spreads[narrow]
    if ratio <= most:
        return []
    return [
        Advice(
            "scales_far_apart",
            "note",
            f"The standard deviation of {wide} ({spreads[wide]:.3g}) is {ratio:,.0f} times that of "
            f"{narrow} ({spreads[narrow]:.3g}), so that their slopes are hard to read.",
            f"Divide {wide} by {_round_unit(spreads[wide]):g}, so that its slope is for "
            f"{_round_unit(spreads[wide]):g} units.",
        )
    ]


def _round_unit(sd: float) -> float:
    return float(10.0 ** np.floor(np.log10(sd)))
