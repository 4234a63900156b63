r"""Whether the residual variance differs between clusters: the H statistic on log variances.

Each cluster gets its own least-squares regression on the level-1 columns that vary in it; with
residual mean square ``S_j^2`` on ``f_j`` degrees of freedom,

    d_j = (log S_j^2 - sum f log S^2 / sum f) / sqrt(2 / f_j),    H = sum d_j^2 ~ chi2(J - 1)

over the J clusters with at least 10 degrees of freedom. Conditional on the random effects: they do
not enter. H is sensitive to heavy tails as well.
Source: Raudenbush & Bryk 2002, Hierarchical Linear Models (2nd ed.), p. 263-265, eq. 9.4-9.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.robust_clusters import is_inside

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock

Array = NDArray[np.float64]
#: Fewer degrees of freedom make the logarithm of a variance far from normal (Raudenbush & Bryk).
LEAST_DF = 10


@dataclass(frozen=True)
class VarianceHomogeneity:
    """H statistic of one grouping factor.

    Attributes
    ----------
    group : the factor.
    statistic, df, p_value : H and its chi-squared test.
    n_clusters, n_left_out : clusters used, and clusters with fewer than 10 degrees of freedom.
    levels : (J,) labels of all clusters.
    sd : (J,) residual standard deviation of each cluster, response units; NaN if left out.
    deviation : (J,) ``d_j``; beyond 3 in size is rare; NaN if left out.
    sentence : the finding.
    """

    group: str
    statistic: float
    df: int
    p_value: float
    n_clusters: int
    n_left_out: int
    levels: NDArray[Any]
    sd: Array
    deviation: Array
    sentence: str


def mean_squares(design: Design, block: RandomBlock) -> tuple[Array, NDArray[np.intp]]:
    """Residual mean square and degrees of freedom of each cluster's own regression: (J,) each."""
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
    y = (design.y if design.offset is None else design.y - design.offset) * root
    X = np.column_stack([design.X, *(other.columns for other in design.blocks)])
    order = np.argsort(block.codes, kind="stable")
    J = block.n_levels
    ends = np.cumsum(np.bincount(block.codes, minlength=J))
    squares, df = np.full(J, np.nan), np.zeros(J, dtype=np.intp)
    for j in range(J):
        own = order[ends[j - 1] if j else 0 : ends[j]]
        if len(own) <= LEAST_DF:
            continue
        x = X[own]
        spread = x.std(axis=0)
        varying = spread > 1e-10 * np.abs(x).max(axis=0, initial=0.0)
        deviations = (x[:, varying] - x[:, varying].mean(axis=0)) / spread[varying]
        own_columns = np.column_stack([np.ones(len(own)), deviations]) * root[own, None]
        basis, values, _ = np.linalg.svd(own_columns, full_matrices=False)
        basis = basis[:, values > 1e-9 * values[0]]
        rest = y[own] - basis @ (basis.T @ y[own])
        df[j] = len(own) - basis.shape[1]
        if df[j] > 0:
            squares[j] = float(rest @ rest) / df[j]
    return squares, df


def variance_homogeneity(design: Design, group: str | None = None) -> VarianceHomogeneity:
    """Test whether the clusters of ``group`` share one residual variance.

    Parameters
    ----------
    design : the analysed rows.
    group : grouping factor; None for the first one of the design (the finest).

    Raises
    ------
    InferenceError : an unknown factor, or fewer than two clusters with 10 degrees of freedom.
    """
    block = _block(design, group)
    found = judged(block.group, block.levels, *mean_squares(design, block))
    if any(not is_inside(block.codes, other.codes) for other in design.blocks):
        more = " The random effects of other factors inside the levels count as residual."
        return replace(found, sentence=found.sentence + more)
    return found


def judged(
    group: str, levels: NDArray[Any], squares: Array, df: NDArray[np.intp]
) -> VarianceHomogeneity:
    """H from the mean square of each level of ``group`` and its degrees of freedom: (J,) each.

    Raises
    ------
    InferenceError : fewer than two levels with 10 degrees of freedom.
    """
    used = (df >= LEAST_DF) & (squares > 0)
    J = int(used.sum())
    if J < 2:
        raise InferenceError(
            f"At least two clusters must have {LEAST_DF} residual degrees of freedom of their own.",
            f"{J} of {len(levels)} levels of {group}",
            "name a factor with more rows per level",
        )
    logs, f = np.log(squares[used]), df[used].astype(np.float64)
    centre = float(f @ logs / f.sum())
    deviation, sd = np.full(len(levels), np.nan), np.full(len(levels), np.nan)
    deviation[used] = (logs - centre) * np.sqrt(f / 2.0)
    sd[used] = np.sqrt(squares[used])
    H = float(np.sum(deviation[used] ** 2))
    p = float(chi_square_tail(H, J - 1))
    low, high = int(np.nanargmin(sd)), int(np.nanargmax(sd))
    shown = "p < .001" if p < 0.001 else f"p = {p:.3f}"
    finding = "differs between" if p < 0.05 else "does not differ detectably between"
    sentence = (
        f"The residual variance {finding} the levels of {group}: H = {H:.1f} on {J - 1} df, "
        f"{shown}; standard deviations from {sd[low]:.3g} ({levels[low]}) to {sd[high]:.3g} "
        f"({levels[high]})."
    )
    left = len(levels) - J
    if left:
        sentence += f" {left} levels with fewer than {LEAST_DF} degrees of freedom are left out."
    return VarianceHomogeneity(group, H, J - 1, p, J, left, levels, sd, deviation, sentence)


def _block(design: Design, group: str | None) -> RandomBlock:
    for block in design.blocks:
        if group is None or block.group == group:
            return block
    known = ", ".join(block.group for block in design.blocks) or "none"
    raise InferenceError(
        "group must be a grouping factor of the model.",
        f"{group!r}; the model has {known}",
        "name one of them",
    )
