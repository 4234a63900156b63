"""Which rows a model with structured residuals takes as independent of one another."""

from __future__ import annotations

import numpy as np

from multilevel.estimate.structured import StructuredPrepared
from multilevel.infer.robust_clusters import Clustering


def independent_units(prepared: StructuredPrepared) -> Clustering:
    """Levels of the coarsest grouping factor; units of the residual structure where there is none;
    all rows that levels and units connect where these cross.

    Rows of different clusters are independent under the model. Codes are those of the analysed
    rows (n,).
    """
    design, layout = prepared.plain.design, prepared.layout
    if prepared.problem.is_crossed:
        codes = np.empty(design.n, dtype=np.int32)
        codes[layout.order] = prepared.problem.independent()
        return Clustering("connected rows", codes, np.arange(int(codes.max()) + 1))
    if design.blocks:
        top = design.blocks[-1]
        return Clustering(top.group, top.codes, np.asarray(top.levels))
    name = "row" if layout.term is None or not layout.term.factors else layout.term.group
    return Clustering(name, layout.codes, np.asarray(layout.units))
