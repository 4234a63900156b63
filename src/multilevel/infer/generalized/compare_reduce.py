"""A generalized design on fewer rows, made from an existing design."""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.infer.compare_reduce import take_rows

Array = NDArray[np.float64]


def take_outcome_rows(design: GeneralizedDesign, rows: NDArray[np.intp]) -> GeneralizedDesign:
    """The design on a subset of its rows (positions among the analysed rows).

    Levels without rows go; centred and coded columns keep the values learnt from all rows.

    Raises
    ------
    InferenceError : terms whose levels are related, or a category that no row is left of.
    """
    if is_related(design.blocks):
        raise InferenceError(
            "Models with mm() or related= are not cut to common rows.",
            design.mean.model.formula,
            "fit all models to the same rows",
        )
    response = design.response.take(rows)
    if response.categories:
        gone = np.setdiff1d(np.arange(len(response.categories)), response.y.astype(np.intp))
        if len(gone):
            raise InferenceError(
                "Every category must occur in the rows that all models have.",
                f"category {response.categories[gone[0]]} does not",
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
    parts = tuple(
        replace(part, X=np.asfortranarray(part.X[rows]), offset=_taken(part.offset, rows))
        for part in design.parts
    )
    return replace(
        design,
        response=response,
        mean=take_rows(design.mean, rows),
        parts=parts,
        blocks=tuple(blocks),
        frequency_weights=_taken(design.frequency_weights, rows),
        precision_weights=_taken(design.precision_weights, rows),
    )


@overload
def _taken(values: None, rows: NDArray[np.intp]) -> None: ...
@overload
def _taken(values: Array | None, rows: NDArray[np.intp]) -> Array | None: ...
def _taken(values: Array | None, rows: NDArray[np.intp]) -> Array | None:
    return None if values is None else values[rows]
