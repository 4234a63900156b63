"""Designs with fewer rows or fewer random effects, made from an existing design."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import RandomBlock, RowReport
from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.model.covariance.structures import factor_map

if TYPE_CHECKING:
    from multilevel.design.records import Design

INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class Removal:
    """A random effect that can be left out: ``columns`` of ``block``, named in ``label``."""

    block: int
    columns: tuple[int, ...]
    label: str


def take_rows(design: Design, rows: NDArray[np.intp]) -> Design:
    """The design on a subset of its rows (positions among the analysed rows), codes made dense.

    Centred and coded columns keep the values that were learnt from the design's own rows.
    """
    if is_related(design.blocks):
        raise InferenceError(
            "Models with mm() or related= are not cut to common rows.",
            design.model.formula,
            "fit all models to the same rows",
        )
    blocks = []
    for block in design.blocks:
        present, codes = np.unique(block.codes[rows], return_inverse=True)
        blocks.append(
            replace(
                block,
                codes=codes.astype(np.int32),
                levels=block.levels[present],
                columns=np.asfortranarray(block.columns[rows]),
            )
        )
    return replace(
        design,
        y=design.y[rows],
        X=np.asfortranarray(design.X[rows]),
        blocks=tuple(blocks),
        offset=None if design.offset is None else design.offset[rows],
        weights=None if design.weights is None else design.weights[rows],
        rows=RowReport(design.rows.n_table, design.rows.kept[rows], design.rows.missing),
    )


def removals(design: Design) -> tuple[Removal, ...]:
    """Random effects that can be left out one at a time.

    A slope goes with its covariances; an intercept goes only where its term has no slopes or no
    covariances; terms with tied variances (identity, compound symmetry) and structures go whole.
    """
    out = []
    for t, block in enumerate(design.blocks):
        for number, (start, stop, structure) in enumerate(block.structure.terms):
            names = block.names[start:stop]
            curve = block.structure.curve(number)
            if curve is not None or structure in ("identity", "compound_symmetry"):
                what = " + ".join(names) if curve is None else f"{structure}({curve.stem})"
                label = f"{what} | {block.group}"
                out.append(Removal(t, tuple(range(start, stop)), label))
                continue
            for a, name in enumerate(names):
                if name == INTERCEPT and stop - start > 1 and structure == "unstructured":
                    continue
                out.append(Removal(t, (start + a,), f"{name} | {block.group}"))
    return tuple(out)


def without(design: Design, removal: Removal) -> Design:
    """The design without one removable random effect; a block without columns goes too."""
    blocks: list[RandomBlock] = []
    for t, block in enumerate(design.blocks):
        if t != removal.block:
            blocks.append(block)
            continue
        keep = [a for a in range(len(block.names)) if a not in removal.columns]
        if not keep:
            continue
        terms, curves = [], []
        for number, (start, stop, structure) in enumerate(block.structure.terms):
            width = sum(1 for a in range(start, stop) if a in keep)
            if width:
                terms.append((width, structure))
                curves.append(block.structure.curve(number))
        blocks.append(
            replace(
                block,
                columns=np.asfortranarray(block.columns[:, keep]),
                names=tuple(block.names[a] for a in keep),
                structure=factor_map(terms, curves),
            )
        )
    return replace(design, blocks=tuple(blocks))
