"""Random effects with a covariance matrix of their own in each group of clusters.

``(1 + x | school, by=sector)`` is one set of columns for each sector, zero elsewhere, independent
of each other: a block-diagonal covariance matrix (SAS ``RANDOM ... / GROUP=sector``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.centring import match_levels
from multilevel.design.recipe import LearntBy
from multilevel.design.records import RandomBlock
from multilevel.design.variables import Positions, Source
from multilevel.errors import DesignError
from multilevel.model.covariance.curve_map import CURVED
from multilevel.model.covariance.curves import Curve
from multilevel.model.covariance.structures import Structure, factor_map
from multilevel.model.specification import RandomTerm

Array = NDArray[np.float64]
MOST_GROUPS = 20


def learn_by(
    terms: Sequence[RandomTerm], block: RandomBlock, source: Source, kept: Positions | None
) -> tuple[LearntBy | None, ...]:
    """The groups of each term, checked: constant inside clusters, two clusters in each.

    Raises
    ------
    DesignError : a ``by`` column that changes inside a cluster, has too many values, or a group
        with one cluster.
    """
    return tuple(
        None if term.by is None else _learn(term, term.by, block, source, kept) for term in terms
    )


def _learn(
    term: RandomTerm, name: str, block: RandomBlock, source: Source, kept: Positions | None
) -> LearntBy:
    codes, levels = source.group_codes((name,), kept)
    if not 2 <= len(levels) <= MOST_GROUPS:
        raise DesignError(
            f"by= gives each group of clusters its own covariance matrix: 2 to {MOST_GROUPS} "
            "groups.",
            f"{name} has {len(levels)} value(s)",
            f'for a number, write random_scale={{"{block.group}": "~ {name}"}}',
        )
    home = np.zeros(block.n_levels, dtype=np.int64)
    home[block.codes] = codes
    changed = np.flatnonzero(home[block.codes] != codes)
    if len(changed):
        raise DesignError(
            f"by= needs a column with one value in each {block.group}.",
            f"{name} changes inside {block.group} {block.levels[block.codes[changed[0]]]}",
            f'write scale="~ {name}" for residual variances that change inside a cluster',
        )
    counts = np.bincount(home, minlength=len(levels))
    if counts.min() < 2:
        raise DesignError(
            "Each group of by= needs several clusters to estimate a variance from.",
            f"{name} = {levels[int(np.argmin(counts))]} has one {block.group}",
            f"leave by={name} out of {term.text}, or join groups",
        )
    return LearntBy(name, levels)


def columns_by(
    matrix: Array, widths: Sequence[int], by: Sequence[LearntBy | None], source: Source,
    kept: Positions | None,
) -> Array:  # fmt: skip
    """Columns (n, sum of widths) with those of a ``by`` term once for each group: (n, Q)."""
    if not any(by):
        return matrix
    parts, at = [], 0
    for width, one in zip(widths, by, strict=True):
        own = matrix[:, at : at + width]
        at += width
        if one is None:
            parts.append(own)
            continue
        codes, levels = source.group_codes((one.name,), kept)
        place = np.append(match_levels(levels, one.levels), -1)[codes]
        if len(place) and place.min() < 0:
            unknown = [str(x) for x in levels if x not in one.levels] or ["a missing value"]
            raise DesignError(
                f"{one.name} must have one of the values in the data: its groups have covariance "
                "matrices of their own.",
                ", ".join(unknown[:5]),
                f"use {', '.join(map(str, one.levels))}",
            )
        parts += [own * (place == k)[:, None] for k in range(len(one.levels))]
    return np.asfortranarray(np.hstack(parts))


def expanded(
    block: RandomBlock, widths: Sequence[int], by: Sequence[LearntBy | None], source: Source,
    kept: Positions | None,
) -> RandomBlock:  # fmt: skip
    """The block with each ``by`` term once for each group, names ``effect [by=value]``."""
    if not any(by):
        return block
    curved = [s for _, _, s in block.structure.terms if s in CURVED]
    if curved:
        raise DesignError(
            "by= goes with unstructured, diagonal, compound-symmetric and equal variances.",
            f"{curved[0]} over {block.group} with by=",
            "leave by= out, or write the term without the structure",
        )
    names: list[str] = []
    shapes: list[tuple[int, Structure]] = []
    curves: list[Curve | None] = []
    at = 0
    terms = zip(block.structure.terms, widths, by, strict=True)
    for number, ((start, stop, structure), width, one) in enumerate(terms):
        curve = block.structure.curve(number)
        own = block.names[at : at + width]
        at += width
        labels: Sequence[Any] = ("",) if one is None else list(one.levels)
        for label in labels:
            here = own if one is None else tuple(f"{x} [{one.name}={label}]" for x in own)
            names += here
            shapes.append((stop - start, structure))
            curves.append(None if curve is None else replace(curve, labels=here))
    columns = columns_by(block.columns, widths, by, source, kept)
    return replace(block, columns=columns, names=tuple(names), structure=factor_map(shapes, curves))
