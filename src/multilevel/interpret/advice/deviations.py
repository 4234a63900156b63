"""Advice on deviations from cluster means: not re-centred after filtering, or of 0/1 variables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.interpret.advice.columns import INTERCEPT, is_plain, split, within_variable
from multilevel.interpret.advice.record import Advice

Array = NDArray[np.float64]


def about_deviations(design: Design) -> list[Advice]:
    """Both checks, for every predictor that varies within a grouping factor."""
    out: list[Advice] = []
    for j, name in enumerate(design.names):
        if name == INTERCEPT or not (is_plain(name) or within_variable(name)):
            continue
        for block in design.blocks:
            x = design.X[:, j]
            if not split(x, block).varies_within:
                continue
            out += _not_recentred(name, x, block) + _two_values(name, x, block)
    return out


def _not_recentred(name: str, x: Array, block: RandomBlock) -> list[Advice]:
    """Mistake 6: most clusters have a mean of zero to rounding, the rest have not.

    Rows that were left out after centring leave this trace. Columns of few values (codes, balanced
    times) may have zero means by design and are passed over.
    """
    scale = float(np.abs(x).max())
    sizes = np.bincount(block.codes, minlength=block.n_levels)
    varying = _spread(x, block) > 0
    zero = np.abs(split(x, block).means) <= 1e-8 * scale
    judged = varying & (sizes > 1)
    off = judged & ~zero
    few_values = len(np.unique(np.round(x / scale, 9))) <= 2 * int(sizes.max())
    if few_values or not off.any() or 2 * int((judged & zero).sum()) <= int(judged.sum()):
        return []
    labels = [str(block.levels[k]) for k in np.flatnonzero(off)[:4]]
    more = ", ..." if int(off.sum()) > 4 else ""
    variable = within_variable(name)
    return [
        Advice(
            "not_recentred",
            "warning",
            f"{name} has the mean zero in {int((judged & zero).sum())} levels of {block.group} but "
            f"not in {int(off.sum())} ({', '.join(labels)}{more}): it was centred on other rows "
            "than these.",
            f"Write within({variable}, {block.group}) without rows=, which centres on the analysed "
            "rows."
            if variable
            else f"Write within(x, {block.group}) of the uncentred variable x in its place: it "
            "centres on the analysed rows.",
        )
    ]


def _two_values(name: str, x: Array, block: RandomBlock) -> list[Advice]:
    """Mistake 7: ``within(x, g)`` of a variable with two values."""
    variable = within_variable(name)
    if variable is None:
        return []
    low, high = _extremes(x, block)
    width = high - low
    step = float(width.max())
    tolerance = 1e-8 * step
    at_an_end = (x - low[block.codes] <= tolerance) | (high[block.codes] - x <= tolerance)
    same_step = (width <= tolerance) | (np.abs(width - step) <= tolerance)
    if not (at_an_end.all() and same_step.all()):
        return []
    return [
        Advice(
            "centred_indicator",
            "note",
            f"{variable} has two values; zero on {name} is the share of its upper value in each "
            f"{block.group}, not one of the two.",
            f"For an intercept at a value of {variable}, write {variable} + between({variable}, "
            f"{block.group}): the slope of {variable} stays the within effect.",
        )
    ]


def _extremes(x: Array, block: RandomBlock) -> tuple[Array, Array]:
    low, high = np.full(block.n_levels, np.inf), np.full(block.n_levels, -np.inf)
    np.minimum.at(low, block.codes, x)
    np.maximum.at(high, block.codes, x)
    return low, high


def _spread(x: Array, block: RandomBlock) -> Array:
    low, high = _extremes(x, block)
    return high - low
