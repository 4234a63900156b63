r"""Shares of variance, reliabilities and design effects beside structured residuals.

The design effect of a mean is ``1'V1 / tr(V)``, V over all rows: how much larger its variance is
than that of as many independent rows with these variances. A factor's part is the usual
``1 + (size - 1) ICC`` at Kish's size; residual covariances add ``(1'R1 - tr R) / tr V``.
Sources: Kish 1965, Survey Sampling, section 5.4; own form for residual covariances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.records import Design
from multilevel.infer.residual_rows import StructuredRows
from multilevel.infer.robust_clusters import is_inside
from multilevel.interpret.design_effect import DesignEffect, design_effects
from multilevel.interpret.intraclass import has_slopes
from multilevel.interpret.reliability import Reliability, reliabilities
from multilevel.interpret.residual_icc import OVERALL, CellShare, relative_variances
from multilevel.interpret.variance import is_nested

if TYPE_CHECKING:
    from multilevel.estimate.posterior import BlockEffects
    from multilevel.estimate.records import Fit
    from multilevel.estimate.structured import StructuredPrepared

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellCorrelation:
    """Share and correlation of one factor in one stratum.

    Attributes
    ----------
    group : the factor.
    at : the stratum (a category, an occasion), or ``"all rows"``.
    proportion : share of the variance of a row that lies between levels of the factor.
    correlation : of two rows of one level (and of what it is nested in) that are too far apart, or
        in different units, for their residuals to be correlated.
    within : the factors that these rows share.
    std_error, conf_low, conf_high : of the proportion.
    sentence : in words.
    """

    group: str
    at: str
    proportion: float
    correlation: float
    within: tuple[str, ...]
    std_error: float
    conf_low: float
    conf_high: float
    sentence: str


def cell_correlations(
    design: Design, shares: Sequence[CellShare], has_correlation: bool
) -> tuple[CellCorrelation, ...]:
    """Intraclass correlations by stratum from the shares of all factors."""
    by_cell = {(one.group, one.at): one for one in shares}
    average = " (average over the rows: slopes are random)" if has_slopes(design) else ""
    apart = ", residual correlation aside," if has_correlation else ""
    out = []
    for t, block in enumerate(design.blocks):
        above = [
            other.group
            for s, other in enumerate(design.blocks)
            if s != t and other.n_levels <= block.n_levels and is_nested(block, other)
        ]
        for (group, at), one in by_cell.items():
            if group != block.group:
                continue
            correlation = one.estimate + sum(by_cell[g, at].estimate for g in above)
            where = "" if at == OVERALL else f"At {at}: "
            sentence = (
                f"{where}{100.0 * one.estimate:.1f}% of the variance lies between levels of"
                f" {group}{average}; two rows of the same {group}{apart} correlate"
                f" {correlation:.3f} on average."
            )
            out.append(
                CellCorrelation(
                    group, at, one.estimate, correlation, (group, *above), one.std_error,
                    one.conf_low, one.conf_high, sentence,
                )
            )  # fmt: skip
    return tuple(out)


def structured_reliabilities(
    prepared: StructuredPrepared, fit: Fit, effects: Sequence[BlockEffects], rows: StructuredRows
) -> tuple[Reliability, ...]:
    """Reliability of every random effect: the cluster's own estimate by generalised least squares
    of its whitened rows (one factor that holds whole units), and ``1 - Var(b | y) / tau``."""
    design, layout = prepared.plain.design, prepared.layout
    blocks, at = [], 0
    for block, B in zip(design.blocks, prepared.plain.scaling.random, strict=True):
        q = len(block.names)
        own = rows.whitened[:, at : at + q] @ np.linalg.inv(B)
        blocks.append(replace(block, columns=np.asfortranarray(own)))
        at += q
    whole = all(
        not layout.has_correlation or is_inside(layout.codes, block.codes)
        for block in design.blocks
    )
    white = replace(design, blocks=tuple(blocks), weights=None)
    return reliabilities(white, fit, effects, by_least_squares=whole)


@dataclass(frozen=True)
class ClusterReliability:
    """``1 - Var(b | y) / tau`` of one random effect of one level."""

    group: str
    level: Any
    term: str
    estimate: float


def cluster_reliabilities(
    design: Design, fit: Fit, effects: Sequence[BlockEffects]
) -> tuple[ClusterReliability, ...]:
    """Reliability of every random effect of every level; 0 where its variance is zero."""
    out = []
    for block, G, effect in zip(design.blocks, fit.random_covariance, effects, strict=True):
        errors = np.einsum("jaa->ja", effect.covariance())
        for a, term in enumerate(block.names):
            tau = float(G[a, a])
            values = 1.0 - errors[:, a] / tau if tau > 0.0 else np.zeros(len(errors))
            out += [
                ClusterReliability(block.group, level, term, float(value))
                for level, value in zip(block.levels, values, strict=True)
            ]
    return tuple(out)


def structured_design_effects(
    prepared: StructuredPrepared, fit: Fit, rows: StructuredRows, total: float
) -> tuple[DesignEffect, ...]:
    """Design effects of every factor, of the residual correlation, and of all together.

    Parameters
    ----------
    total : ``1'R1`` over sigma2 (``Whitener.total``).
    """
    design, layout = prepared.plain.design, prepared.layout
    diagonal = rows.residual_variance * fit.sigma2
    phi = np.zeros(0) if fit.residual is None else fit.residual.phi
    mean = fit.sigma2 * float(relative_variances(layout, phi).mean())  # of rows of weight 1
    averaged = replace(fit, sigma2=mean)
    found = list(design_effects(design, averaged))
    if not layout.has_correlation or layout.term is None:
        return tuple(found)
    trace, cross = float(diagonal.sum()), 0.0
    for block, G in zip(design.blocks, fit.random_covariance, strict=True):
        trace += float(np.einsum("ia,ab,ib->", block.columns, G, block.columns))
        sums = np.zeros((block.n_levels, len(block.names)))
        np.add.at(sums, block.codes, block.columns)
        cross += float(np.einsum("ja,ab,jb->", sums, G, sums))
    extra = (total * fit.sigma2 - float(diagonal.sum())) / trace
    counts = np.diff(layout.starts).astype(np.float64)
    size = float(counts @ counts / counts.sum())
    name = layout.term.group or "all rows"
    icc = extra / (size - 1.0) if size > 1.0 else 0.0
    worth = design.n / (1.0 + extra)
    found.append(
        DesignEffect(
            name, "residual correlation", size, icc, 1.0 + extra, worth,
            f"Residual correlations within {name} alone make the {design.n} rows worth {worth:.0f}"
            f" independent ones for a mean (design effect {1.0 + extra:.2f}).",
        )
    )  # fmt: skip
    whole = (cross + total * fit.sigma2) / trace
    found.append(
        DesignEffect(
            "all together", "variance of the mean", float("nan"), float("nan"), whole,
            design.n / whole,
            f"All together the {design.n} rows are worth {design.n / whole:.0f} independent ones"
            f" for the mean of all (design effect {whole:.2f}).",
        )
    )  # fmt: skip
    return tuple(found)
