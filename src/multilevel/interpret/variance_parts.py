r"""The outcome variance by level and source: fixed part, random slopes and intercepts, residual.

Sources of variance, in the letters of Rights & Sterba: ``f`` the fixed part, ``v`` random slopes,
``m`` random intercepts at the mean of the slopes' columns, and the residual variance. With
``S_s = mean of z_s z_s'`` for the parts z_s of the random-effect columns at each level,

    mean of z'Gz = m + v,   m = zbar' G zbar,   v = sum_s tr(G S_s).

Two levels and cluster-mean-centred predictors: the decomposition of Rights & Sterba 2019
(Psychological Methods 24:309); three levels in the same way (compare Rights & Sterba 2023,
Multivariate Behavioral Research 58:340). The extension to uncentred predictors, and to crossed
factors by covariance shares (the parts of the fixed part need not be uncorrelated there), is our
own. With precision weights the residual is
that of a row of weight 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.interpret.level_parts import ROWS, finer_than, level_parts

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
SOURCES = ("f", "v", "m", "residual")


@dataclass(frozen=True)
class VarianceParts:
    """Variance by level and source.

    Attributes
    ----------
    levels : labels: the grouping factors, then ``"rows"`` (within all of them).
    values : (n levels, 4) variance of f, v, m and the residual at each level.
    """

    levels: tuple[str, ...]
    values: Array

    @property
    def total(self) -> float:
        """The model-implied variance of the outcome over the analysed rows."""
        return float(self.values.sum())

    def at(self, level: str) -> float:
        """Variance of all sources at one level."""
        return float(self.values[self.levels.index(level)].sum())


def variance_parts(design: Design, fit: Fit) -> VarianceParts:
    """Split the model-implied outcome variance over levels and sources.

    Fixed parts are variances over the analysed rows (divisor n); an offset counts as fixed part.
    """
    T = len(design.blocks)
    values = np.zeros((T + 1, 4))
    linear = design.X @ fit.beta if design.X.shape[1] else np.zeros(design.n)
    if design.offset is not None:
        linear = linear + design.offset
    centred = linear - linear.mean()
    for s, part in enumerate(level_parts(design, linear)):
        values[s, 0] = float(centred @ part) / design.n
    nested = finer_than(design)
    for t, (block, G) in enumerate(zip(design.blocks, fit.random_covariance, strict=True)):
        means = block.columns.mean(axis=0)
        values[t, 2] = float(means @ G @ means)
        deviations = block.columns - means
        split = [level_parts(design, block.columns[:, a]) for a in range(block.columns.shape[1])]
        for s in range(T + 1):
            part = np.column_stack([column[s] for column in split])
            # Where a slope varies over one factor and its predictor over a crossed one, the
            # product averages out over both: it varies between rows.
            place = s if s == T or nested[s, t] else t if s == t or nested[t, s] else T
            values[place, 1] += float(np.trace(G @ (deviations.T @ part))) / design.n
    values[T, 3] = fit.sigma2
    return VarianceParts((*(block.group for block in design.blocks), ROWS), values)
