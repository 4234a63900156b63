"""Advice on ids of grouping factors: numbered within another factor, or nested but for a few.

Whether ids that occur in several levels of another factor are the same things cannot be read from
the data, so these checks warn and do not stop.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.interpret.advice.record import Advice
from multilevel.tables.levels import labels_of

#: Above this share of levels that occur in several others, crossing is the design, not an accident.
ACCIDENT = 0.10


def about_ids(design: Design) -> list[Advice]:
    """Mistakes 22 and 23 for every pair of factors."""
    out: list[Advice] = []
    for first, second in combinations(design.blocks, 2):
        if set(first.group.split(":")) & set(second.group.split(":")):
            out += _declared_nested(first, second) + _declared_nested(second, first)
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
    counts = np.bincount(pairs[:, 1], minlength=outer.n_levels)
    if not _start_at_one(text, pairs, counts) or len(np.unique(counts)) < 2:
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


def _start_at_one(text: list[str], pairs: NDArray[np.int32], counts: NDArray[np.intp]) -> bool:
    """Whether ids run 1..k in every level of the other factor; ``pairs`` are (id, level)."""
    if not all(label.isdecimal() for label in text):
        return False
    numbers = np.array([int(label) for label in text])[pairs[:, 0]]
    highest, lowest = np.zeros(len(counts), dtype=np.int64), np.full(len(counts), 2**31)
    np.maximum.at(highest, pairs[:, 1], numbers)
    np.minimum.at(lowest, pairs[:, 1], numbers)
    return not (np.any(highest != counts) or np.any(lowest != 1))


def _declared_nested(inner: RandomBlock, outer: RandomBlock) -> list[Advice]:
    """Mistake 22: ``(1 | school/pupil)`` where a few pupils occur in several schools.

    Ids that most levels share (class A, B, C in every school) are what nesting is written for.
    """
    if not inner.group.startswith(f"{outer.group}:"):
        return []
    own = inner.group[len(outer.group) + 1 :]
    above = np.zeros(inner.n_levels, dtype=np.int32)
    above[inner.codes] = outer.codes
    heads = labels_of(outer.levels)[above]
    whole = [str(label) for label in inner.levels.tolist()]
    if not all(w.startswith(f"{head}:") for w, head in zip(whole, heads, strict=True)):
        return []
    rest = [w[len(str(head)) + 1 :] for w, head in zip(whole, heads, strict=True)]
    ids, code = np.unique(rest, return_inverse=True)
    pairs = np.column_stack([code, above]).astype(np.int32)
    counts = np.bincount(code)
    several = np.flatnonzero(counts > 1)
    levels = np.bincount(above, minlength=outer.n_levels)
    if not 0 < len(several) <= ACCIDENT * len(ids) or _start_at_one(ids.tolist(), pairs, levels):
        return []
    shown = ", ".join(ids[several[:4]]) + (", ..." if len(several) > 4 else "")
    text = (
        f"{len(several)} of {len(ids)} ids of {own} occur in more than one level of {outer.group} "
        f"({shown}), and the model gives such a {own} a separate random effect in each."
    )
    mend = (
        f"If one id is the same {own} wherever it occurs, the factors are crossed: write "
        f"(1 | {outer.group}) + (1 | {own})."
    )
    return [Advice("declared_nested", "warning", text, mend)]


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
