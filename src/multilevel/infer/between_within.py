"""Between-within and residual degrees of freedom: counting, no variances involved.

Between-within: an effect belongs to the coarsest level within whose units its column is constant.
With levels from the top (1) to the rows (G + 1), ``df_g = N_g - N_(g-1) - p_g``, ``N_0 = 0``; the
intercept belongs to the top level. Source: Schluchter & Elashoff 1990; extended to nested levels.
A combination of effects of several levels gets the smallest of their degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design, RandomBlock
from multilevel.errors import InferenceError
from multilevel.estimate.prepare import Prepared
from multilevel.estimate.records import Fit
from multilevel.infer.degrees_of_freedom import (
    DfMethod,
    FixedEffects,
    JointStatistic,
    independent_rows,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CountedDf:
    """A method with fixed degrees of freedom per fixed effect (or none at all).

    Attributes
    ----------
    method : its name.
    vcov : (p, p) model-based covariance of the fixed effects.
    column_df : (p,) degrees of freedom of each fixed effect; infinite for z tests.
    notes : sentences.
    """

    method: DfMethod
    vcov: Array
    column_df: Array
    notes: tuple[str, ...] = ()

    def row_df(self, L: Array) -> Array:
        """The smallest df among the effects that each row of ``L`` (k, p) uses: (k,)."""
        largest = np.maximum(np.abs(L).max(axis=1, initial=0.0), 1e-300)
        used = np.abs(L) > 1e-12 * largest[:, None]
        smallest = np.where(used, self.column_df, np.inf).min(axis=1, initial=np.inf)
        return np.asarray(smallest, dtype=np.float64)

    def joint(self, L: Array, difference: Array) -> JointStatistic:
        """Wald F test of several rows (chi-square where the df are infinite)."""
        rows, gaps, variances = independent_rows(L, difference, self.vcov)
        l = len(rows)
        wald = float(np.sum(gaps**2 / variances))
        df = float(self.row_df(L).min())
        return JointStatistic(wald / l if np.isfinite(df) else wald, l, df)


def z_tests(fit: FixedEffects) -> CountedDf:
    """No degrees of freedom: z and chi-square tests."""
    return CountedDf("none", fit.vcov_beta, np.full(fit.n_fixed, np.inf))


def residual(fit: Fit) -> CountedDf:
    """``n - p`` for every effect; too many for effects that vary between units only."""
    note = "Residual degrees of freedom ignore the clusters: too many for cluster-level effects."
    return CountedDf(
        "residual", fit.vcov_beta, np.full(fit.n_fixed, float(fit.n - fit.n_fixed)), (note,)
    )


def between_within(prepared: Prepared, fit: Fit) -> CountedDf:
    """Between-within degrees of freedom by level.

    Raises
    ------
    InferenceError : crossed factors, or a level with more effects than units.
    """
    return between_within_of(prepared.design, fit, is_chain=prepared.cross.is_chain)


def between_within_of(design: Design, fit: FixedEffects, *, is_chain: bool) -> CountedDf:
    """The same from a design whose fixed effects are those of ``fit``.

    Parameters
    ----------
    is_chain : whether each grouping factor is nested in the next.
    """
    if not is_chain:
        raise InferenceError(
            "Between-within degrees of freedom are defined for nested grouping factors.",
            "crossed grouping factors: " + ", ".join(b.group for b in design.blocks),
            "write df='satterthwaite' (Gaussian models) or df='none' (z tests)",
        )
    names, counts = [b.group for b in design.blocks][::-1], _counts(design)
    level = level_of_columns(design)
    n_effects = np.bincount(level, minlength=len(counts))
    df = counts - np.concatenate([[0], counts[:-1]]) - n_effects
    for g in np.flatnonzero(n_effects):
        if df[g] <= 0:
            where = f"level {names[g]}" if g < len(names) else "the rows"
            raise InferenceError(
                "Every level must have more units than effects.",
                f"{n_effects[g]} fixed effects and {counts[g]} units at {where}",
                "choose another df, or use fewer predictors",
            )
    labels = [*names, "rows"]
    parts = [f"{labels[g]} {df[g]}" for g in np.flatnonzero(n_effects)]
    note = "Degrees of freedom by level: " + ", ".join(parts) + "."
    return CountedDf("between-within", fit.vcov_beta, df[level].astype(np.float64), (note,))


def _counts(design: Design) -> NDArray[np.int64]:
    """Units by level, from the top to the rows."""
    return np.array([*(b.n_levels for b in design.blocks[::-1]), design.n], dtype=np.int64)


def level_of_columns(design: Design) -> NDArray[np.int64]:
    """Level of each fixed effect: 0 for the top factor, ..., the number of factors for rows."""
    chain = design.blocks[::-1]
    out = np.full(len(design.names), len(chain), dtype=np.int64)
    for k in range(len(design.names)):
        for g, block in enumerate(chain):
            if is_constant_within(design.X[:, k], block):
                out[k] = g
                break
    return out


def is_constant_within(column: Array, block: RandomBlock) -> bool:
    """Whether the squares within units are below 1e-12 of the total about the mean."""
    first = np.empty(block.n_levels)
    first[block.codes[::-1]] = column[::-1]
    gap = column - first[block.codes]
    if not np.any(gap):
        return True
    size = np.bincount(block.codes, minlength=block.n_levels)
    mean = np.bincount(block.codes, weights=gap, minlength=block.n_levels) / size
    within = float(np.sum((gap - mean[block.codes]) ** 2))
    total = float(np.sum((column - column.mean()) ** 2))
    return within <= 1e-12 * total
