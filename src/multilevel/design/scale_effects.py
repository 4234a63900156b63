"""Random effects of the model for the variance, joined to those of the model for the means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.design.records import RandomBlock
from multilevel.errors import DesignError
from multilevel.model.covariance.structures import FactorMap, factor_map, joined_maps


def correlated(location: RandomBlock, scale: RandomBlock) -> RandomBlock:
    """Location and scale effects of one factor side by side, location first.

    One unstructured covariance over all of them; a scale term written with ``||`` (diagonal) stays
    uncorrelated with the location effects.

    Raises
    ------
    DesignError : effects that should be correlated, but whose own structure leaves no room for it.
    """
    mine, theirs = _structures(location.structure), _structures(scale.structure)
    together = joined_maps([location.structure, scale.structure], (*location.names, *scale.names))
    if theirs != ["diagonal"] * len(theirs):
        if mine != ["unstructured"] or theirs != ["unstructured"]:
            raise DesignError(
                "Correlated location and scale effects of one factor are one random term in the "
                "formula and one in scale=, both with a single bar.",
                f"{' and '.join(mine)} location effects with {' and '.join(theirs)} scale effects "
                f"of {location.group}",
                f"write (1 || {location.group}) in scale= to leave them uncorrelated, or one term "
                f"such as (1 + x | {location.group}) in the formula",
            )
        together = factor_map(((len(location.names) + len(scale.names), "unstructured"),))
    return RandomBlock(
        location.group,
        location.codes,
        location.levels,
        np.asfortranarray(np.hstack([location.columns, scale.columns])),
        (*location.names, *scale.names),
        together,
    )


def check_distinct(blocks: Sequence[RandomBlock]) -> None:
    """Refuse one factor under two names: its location and scale effects would be uncorrelated.

    Raises
    ------
    DesignError : two blocks that cut the rows into the same clusters.
    """
    for k, one in enumerate(blocks):
        for other in blocks[k + 1 :]:
            if one.n_levels != other.n_levels:
                continue
            pairs = one.codes.astype(np.int64) * other.n_levels + other.codes
            if len(np.unique(pairs)) == one.n_levels:
                raise DesignError(
                    "Location and scale effects of one factor need one name of that factor.",
                    f"{one.group} and {other.group} are the same {one.n_levels} clusters",
                    f"write {one.group} in the formula and in scale=",
                )


def _structures(structure: FactorMap) -> list[str]:
    return [name for _, _, name in structure.terms]
