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
    from collections.abc import Sequence

    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit
    from multilevel.infer.bootstrap_refits import Estimates

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


@dataclass(frozen=True)
class RandomForms:
    """Random parts of one block as linear functions of its covariance G.

    Attributes
    ----------
    means : (q,) means of the columns; ``m = means' G means``.
    slopes : (T + 1, q, q); ``v`` at level s is ``tr(G slopes[s])``.
    """

    means: Array
    slopes: Array


@dataclass(frozen=True)
class PartForms:
    """Variance parts of a design as a function of the estimates, for many estimates in turn.

    The plain twin, for one fit, is ``variance_parts``.

    Attributes
    ----------
    levels : as in ``VarianceParts``.
    fixed : (T + 1, p + 1, p + 1); ``f`` at level s is ``[beta; 1]' fixed[s] [beta; 1]``.
    random : per block.
    """

    levels: tuple[str, ...]
    fixed: Array
    random: tuple[RandomForms, ...]

    def at(self, fit: Fit | Estimates) -> VarianceParts:
        """The parts at these estimates."""
        c = np.append(fit.beta, 1.0)
        values = np.zeros((len(self.levels), 4))
        values[:, 0] = np.einsum("a,sab,b->s", c, self.fixed, c)
        _add_random(values, self.random, fit)
        return VarianceParts(self.levels, values)


def _add_random(values: Array, forms: Sequence[RandomForms], fit: Fit | Estimates) -> None:
    """Fill in v, m and the residual."""
    for t, (form, G) in enumerate(zip(forms, fit.random_covariance, strict=True)):
        values[t, 2] = float(form.means @ G @ form.means)
        values[:, 1] += np.einsum("ab,sba->s", G, form.slopes)
    values[-1, 3] = fit.sigma2


def _random_forms(design: Design) -> tuple[RandomForms, ...]:
    T = len(design.blocks)
    nested = finer_than(design)
    out = []
    for t, block in enumerate(design.blocks):
        means = block.columns.mean(axis=0)
        deviations = block.columns - means
        split = [level_parts(design, block.columns[:, a]) for a in range(block.columns.shape[1])]
        slopes = np.zeros((T + 1, len(means), len(means)))
        for s in range(T + 1):
            part = np.column_stack([column[s] for column in split])
            # Where a slope varies over one factor and its predictor over a crossed one, the
            # product averages out over both: it varies between rows.
            place = s if s == T or nested[s, t] else t if s == t or nested[t, s] else T
            slopes[place] += deviations.T @ part / design.n
        out.append(RandomForms(means, slopes))
    return tuple(out)


def _levels(design: Design) -> tuple[str, ...]:
    return (*(block.group for block in design.blocks), ROWS)


def part_forms(design: Design) -> PartForms:
    """Split every column once, so that the parts at any estimates are quick."""
    offset = np.zeros(design.n) if design.offset is None else design.offset
    columns = np.column_stack([design.X, offset])
    centred = columns - columns.mean(axis=0)
    split = [level_parts(design, columns[:, k]) for k in range(columns.shape[1])]
    fixed = np.stack(
        [
            centred.T @ np.column_stack([column[s] for column in split]) / design.n
            for s in range(len(design.blocks) + 1)
        ]
    )
    return PartForms(_levels(design), fixed, _random_forms(design))


def variance_parts(design: Design, fit: Fit | Estimates) -> VarianceParts:
    """Split the model-implied outcome variance over levels and sources.

    Fixed parts are variances over the analysed rows (divisor n); an offset counts as fixed part.
    """
    values = np.zeros((len(design.blocks) + 1, 4))
    linear = design.X @ fit.beta if design.X.shape[1] else np.zeros(design.n)
    if design.offset is not None:
        linear = linear + design.offset
    centred = linear - linear.mean()
    for s, part in enumerate(level_parts(design, linear)):
        values[s, 0] = float(centred @ part) / design.n
    _add_random(values, _random_forms(design), fit)
    return VarianceParts(_levels(design), values)
