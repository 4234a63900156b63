r"""How much a row decides about its own fitted value.

* fixed part: ``h_i = x_i' M (V^-1 X)_i``, diagonal of ``X M X'V^-1``; sums to p;
* total: ``d(X beta^ + Z b^)_i / dy_i = 1 - P_ii / w_i`` with ``P = V^-1 - V^-1 X M X'V^-1``; it is
  ``w_i`` times the relative variance of the error of the conditional mean, and sums to the
  effective degrees of freedom.

Source: Demidenko & Stukel 2005 (Statistics in Medicine 24:893); Hodges & Sargent 2001 (Biometrika
88:367) for the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.interpret.prediction_variance import PredictionRows, relative_variance

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.likelihood.gaussian.objective import GaussianObjective

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Leverage:
    """Leverages of the n analysed rows.

    Attributes
    ----------
    fixed : (n,) of the fixed effects; sums to p.
    total : (n,) of fixed and random effects, between 0 and 1.
    """

    fixed: Array
    total: Array

    @property
    def effective_df(self) -> float:
        """Sum of the total leverages: how many free parameters the fitted values amount to."""
        return float(self.total.sum())


def leverages(design: Design, rows: WorkingRows, objective: GaussianObjective) -> Leverage:
    """Leverages at the estimates; ``objective`` is factorised there."""
    codes = tuple(block.codes for block in design.blocks)
    relative = relative_variance(
        objective.engine, list(rows.psis), PredictionRows(rows.X, codes, rows.Z)
    )
    fixed = np.einsum("ia,ab,ib->i", rows.X, rows.M, rows.XV, optimize=True)
    return Leverage(fixed, rows.weights * relative)
