"""Design effects: how many independent rows the clustered rows are worth for a mean.

``1 + (n - 1) ICC`` with n the cluster size; for unequal sizes both the mean size and Kish's
``sum n_c^2 / sum n_c``, which is the larger. Source: Kish 1965, Survey Sampling, section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from multilevel.errors import InferenceError
from multilevel.interpret.intraclass import group_shares

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.records import Fit


@dataclass(frozen=True)
class DesignEffect:
    """The design effect of one grouping factor at one cluster size.

    Attributes
    ----------
    group : grouping factor.
    component : ``"mean size"`` or ``"Kish size"``.
    cluster_size : rows per cluster that was used.
    icc : share of the variance between its levels.
    estimate : the design effect, ``1 + (cluster_size - 1) icc``.
    effective_n : rows divided by the design effect.
    sentence : in words.
    """

    group: str
    component: str
    cluster_size: float
    icc: float
    estimate: float
    effective_n: float
    sentence: str


def design_effect(cluster_size: float, icc: float) -> float:
    """Return ``1 + (cluster_size - 1) icc``.

    Raises
    ------
    InferenceError : a cluster size below 1, or an ICC above 1.

    Examples
    --------
    >>> round(design_effect(5, 0.30), 2)
    2.2
    """
    if cluster_size < 1.0 or not icc <= 1.0:
        raise InferenceError(
            "A design effect needs a cluster size of at least 1 and an ICC of at most 1.",
            f"cluster size {cluster_size!r}, ICC {icc!r}",
            "check the two numbers",
        )
    return 1.0 + (cluster_size - 1.0) * icc


def cluster_sizes(block: RandomBlock) -> tuple[float, float]:
    """Return the mean cluster size and Kish's size ``sum n_c^2 / sum n_c``."""
    counts = np.bincount(block.codes, minlength=block.n_levels).astype(np.float64)
    return float(counts.mean()), float(counts @ counts / counts.sum())


def design_effects(design: Design, fit: Fit) -> tuple[DesignEffect, ...]:
    """Design effect of each grouping factor at the mean and at Kish's cluster size.

    The ICC is the factor's share of the total variance (averaged over the rows where a slope is
    random). It applies to means and to predictors that are constant within clusters.
    """
    out = []
    for block, icc in zip(design.blocks, group_shares(design, fit), strict=True):
        for component, size in zip(("mean size", "Kish size"), cluster_sizes(block), strict=True):
            effect = design_effect(size, icc)
            worth = design.n / effect
            sentence = (
                f"With {size:.1f} rows per {block.group} ({component}) and an ICC of {icc:.3f}, "
                f"the {design.n} rows are worth {worth:.0f} independent ones for a mean or for a "
                f"predictor that is constant within {block.group} (design effect {effect:.2f})."
            )
            out.append(DesignEffect(block.group, component, size, icc, effect, worth, sentence))
    return tuple(out)
