"""Which residual structures can be laid over these rows, and told apart from random effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock
from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.structured_terms import occasions
from multilevel.design.variables import Positions, row_words
from multilevel.errors import DesignError
from multilevel.model.residual import ResidualTerm
from multilevel.model.specification import Model

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def check_distinct(
    term: ResidualTerm, position: Array, codes: NDArray[np.int32], order: NDArray[np.intp],
    units: NDArray[Any], kept: Positions | None,
) -> None:  # fmt: skip
    """Refuse two rows of one unit at the same place."""
    same = codes[order[1:]] == codes[order[:-1]]
    same &= (position[order[1:]] == position[order[:-1]]).all(axis=1)
    hits = np.flatnonzero(same)
    if len(hits):
        pair = order[hits[0] : hits[0] + 2]
        rows = np.sort(pair if kept is None else kept[pair])
        raise DesignError(
            f"{term.text}: each row of a unit needs a time of its own.",
            f"{term.group} {units[codes[pair[0]]]} has the same {', '.join(term.coordinates)} in"
            f" {row_words(rows)}",
            "correct the column of time, or name the finer unit right of the bar",
        )


def check_pairs(
    term: ResidualTerm, position: Array, codes: NDArray[np.int32], starts: IntArray,
    occasions: tuple[str, ...], group_of: IntArray, groups: tuple[str, ...],
) -> None:  # fmt: skip
    """Refuse correlations of occasions that no unit has both of (``un``)."""
    if term.structure != "un":
        return
    T = len(occasions)
    for g, label in enumerate(groups):
        present = np.zeros((len(starts) - 1, T))
        present[codes, position[:, 0].astype(np.intp)] = 1.0
        both = present[group_of == g].T @ present[group_of == g]
        rows, columns = np.nonzero(both == 0.0)
        if len(rows):
            where = f" with {term.by} = {label}" if label else ""
            raise DesignError(
                "An unstructured correlation needs units that have both occasions.",
                f"no {term.group}{where} has {occasions[columns[0]]} and {occasions[rows[0]]}",
                "use ar1, toep or car1, or leave these occasions out",
            )


def check_identified(model: Model, layout: ResidualLayout, blocks: Sequence[RandomBlock]) -> None:
    """Refuse random effects that the residual structure cannot be told apart from.

    Raises
    ------
    DesignError : a random intercept of the unit beside ``cs``, ``un``, ``fa`` or a full ``toep``.
    """
    term = layout.term
    if term is None or not term.factors:
        return
    for block in blocks:
        home = np.zeros(len(layout.units), dtype=np.int64)
        home[layout.codes] = block.codes
        if not np.array_equal(home[layout.codes], block.codes):
            continue
        if block.n_levels != len(layout.units) or model.scale is not None:
            continue
        if occasions(block) and term.structure not in ("ind", "diag"):
            raise DesignError(
                f"The residual structure {term.structure} must be told apart from the random"
                " effects.",
                f"random effects of {block.group} by occasion and {term.text}: both describe the"
                " same covariances",
                "keep one of them",
            )
        constant = bool(np.any((block.columns == 1.0).all(axis=0)))
        if term.structure in ("un", "fa") or (
            constant and (term.structure == "cs" or (term.structure == "toep" and not term.order))
        ):
            raise DesignError(
                f"The residual structure {term.structure} must be told apart from the random"
                " effects.",
                f"random effects of {block.group} and {term.text}: both describe the same"
                " covariances",
                f"leave out the random effects of {block.group}, or use another structure (ar1)",
            )
