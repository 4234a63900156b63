"""Advice on ids of grouping factors: numbered within another factor, or nested but for a few."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.interpret.advice.record import Advice

#: Above this share of levels that occur in several others, crossing is the design, not an accident.
ACCIDENT = 0.10


def about_ids(design: Design) -> list[Advice]:
    """Mistakes 22 and 23 for every pair of factors that are written apart."""
    out: list[Advice] = []
    for first, second in combinations(design.blocks, 2):
        if set(first.group.split(":")) & set(second.group.split(":")):
            continue
        pairs = np.unique(np.column_stack([first.codes, second.codes]), axis=0)
        if len(pairs) in (first.n_levels, second.n_levels):
            continue
        numbered = _numbered_within(first, second, pairs) + _numbered_within(
            second, first, pairs[:, ::-1]
        )
        out += numbered or _nearly_nested(first, second, pairs)
    return out


def _numbered_within(
    inner: RandomBlock, outer: RandomBlock, pairs: NDArray[np.int32]
) -> list[Advice]:
    """Mistake 23: ids that start at 1 in every level of another factor and end where it ends.

    Each level of ``outer`` has the ids 1..k, with k not the same for all (an experiment in which
    everybody meets the same items has one k).
    """
    text = [str(label) for label in inner.levels.tolist()]
    if not all(label.isdecimal() for label in text):
        return []
    numbers = np.array([int(label) for label in text])[pairs[:, 0]]
    counts = np.bincount(pairs[:, 1], minlength=outer.n_levels)
    highest, lowest = np.zeros(outer.n_levels, dtype=np.int64), np.full(outer.n_levels, 2**31)
    np.maximum.at(highest, pairs[:, 1], numbers)
    np.minimum.at(lowest, pairs[:, 1], numbers)
    if np.any(highest != counts) or np.any(lowest != 1) or len(np.unique(counts)) < 2:
        return []
    return [
        Advice(
            "reused_ids",
            "note",
            f"{inner.group} is numbered from 1 in each of the {outer.n_levels} levels of "
            f"{outer.group} (up to {int(counts.max())}), and the model gives {inner.group} 1 one "
            "random effect in all of them.",
            f"If {inner.group} 1 is another one in each {outer.group}, write "
            f"(1 | {outer.group}/{inner.group}).",
        )
    ]


def _nearly_nested(
    inner: RandomBlock, outer: RandomBlock, pairs: NDArray[np.int32]
) -> list[Advice]:
    """Mistake 22: levels of the finer factor that occur in several levels of the coarser one."""
    counts = np.bincount(pairs[:, 0], minlength=inner.n_levels)
    several = np.flatnonzero(counts > 1)
    if len(several) > ACCIDENT * inner.n_levels:
        return []
    shown = ", ".join(str(inner.levels[k]) for k in several[:4])
    more = ", ..." if len(several) > 4 else ""
    return [
        Advice(
            "nearly_nested",
            "note",
            f"{len(several)} of {inner.n_levels} levels of {inner.group} occur in more than one "
            f"level of {outer.group} ({shown}{more}); the others are nested. The model treats the "
            "factors as crossed, which is right if they moved.",
            f"If these are errors or ids used twice, mend them or write "
            f"(1 | {outer.group}/{inner.group}).",
        )
    ]
