"""Designs without formulas: rows of the oracle as a Design record."""

from __future__ import annotations

import numpy as np

from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.model.covariance.structures import factor_map
from multilevel.model.specification import Model


def design_of(rows, structures=None, offset=None) -> Design:
    """A Design from oracle rows; ``structures`` by block (default unstructured)."""
    blocks = []
    for t, (codes, columns) in enumerate(rows.blocks):
        q = columns.shape[1]
        structure = structures[t] if structures else "unstructured"
        if q == 1 and structure == "compound_symmetry":
            structure = "unstructured"
        names = tuple("(Intercept)" if np.all(columns[:, a] == 1.0) else f"z{a}" for a in range(q))
        blocks.append(
            RandomBlock(
                f"g{t}",
                codes.astype(np.int32),
                np.arange(codes.max() + 1),
                np.asfortranarray(columns),
                names,
                factor_map(((q, structure),)),
            )
        )
    n, p = rows.X.shape
    fixed = tuple("(Intercept)" if np.all(rows.X[:, k] == 1.0) else f"x{k}" for k in range(p))
    return Design(
        model=Model("by hand", "y", "by hand", ()),
        y=rows.y,
        X=np.asfortranarray(rows.X),
        names=fixed,
        blocks=tuple(blocks),
        offset=offset,
        weights=rows.weights,
        rows=RowReport(n, np.arange(n)),
        dropped_columns={},
        recipe=None,
    )
