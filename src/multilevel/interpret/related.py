"""Rows with several levels and levels that are correlated: shares of variance, design effects.

With loadings ``l_i`` of row i on the levels and their covariance ``sigma^2 A``, the factor adds
``sigma^2 l_i'A l_i`` to the variance of the row. Sources: Browne, Goldstein & Rasbash 2001
(Statistical Modelling 1:103) for multiple membership; Lynch & Walsh 1998, Genetics and Analysis of
Quantitative Traits, chapters 4 and 26, for heritability; Kish 1965, section 5.4, for design
effects.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.design.related import (
    RelatedBlock,
    has_memberships,
    loadings_of,
    row_variances,
)
from multilevel.errors import InferenceError
from multilevel.interpret.design_effect import DesignEffect
from multilevel.interpret.intraclass import DELTA, NONE, IccEstimate, check_level
from multilevel.interpret.variance import INTERCEPT, ClusterCovariance, find_block, find_level
from multilevel.interpret.variance_share import Evidence, share

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.design.relations import Relation
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
HERITABILITY, ONE_LEVEL, AVERAGE = "heritability", "one membership", "average row"


@dataclass(frozen=True)
class Part:
    """How one factor enters the variance of the rows.

    ``moments`` (q, q): mean of ``l'A l z z'`` over the analysed rows; ``base`` (q, q): mean of
    ``z z'``, the same for a row with one level of variance sigma^2.
    """

    moments: Array
    base: Array


def relation_of(block: RandomBlock) -> Relation | None:
    """The known covariance of the levels, if there is one."""
    return block.relation if isinstance(block, RelatedBlock) else None


def parts_of(design: Design) -> list[Part]:
    """How each factor enters the variance of the rows."""
    return row_parts(design.blocks)


def row_parts(blocks: Sequence[RandomBlock]) -> list[Part]:
    """How each factor enters the variance of the rows."""
    out = []
    for block in blocks:
        Z = block.columns
        spread = row_variances(loadings_of(block), relation_of(block))
        out.append(Part((Z * spread[:, None]).T @ Z / len(Z), Z.T @ Z / len(Z)))
    return out


def share_name(block: RandomBlock) -> str:
    """What the share of a row with one level of unit variance is called."""
    relation = relation_of(block)
    if relation is not None and relation.kind in ("pedigree", "phylogeny"):
        return HERITABILITY
    return ONE_LEVEL if has_memberships(block) else "proportion"


def related_shares(evidence: Evidence, conf_level: float = 0.95) -> tuple[IccEstimate, ...]:
    """Share of each factor in the variance of a row, with intervals.

    Per factor the share for a row with one level of variance sigma^2 (``"heritability"`` of a
    pedigree or phylogeny, ``"one membership"`` of ``mm()``, else ``"proportion"``), and where the
    analysed rows differ from that, their ``"average row"``.

    Raises
    ------
    InferenceError : no random effects, a confidence level outside (0, 1).
    """
    design, level = evidence.prepared.design, check_level(conf_level)
    if not design.blocks:
        raise InferenceError("An intraclass correlation needs random effects.", "none",
                             "add a term such as (1 | school)")  # fmt: skip
    parts = parts_of(design)
    base, real = [p.base for p in parts], [p.moments for p in parts]
    differs = any(not np.allclose(p.base, p.moments, rtol=1e-9) for p in parts)
    out = []
    for t, block in enumerate(design.blocks):
        for moments, component in ((base, share_name(block)), (real, AVERAGE)):
            if component == AVERAGE and not differs:
                continue
            found = share(evidence, moments, [t], level)
            text = share_words(block, component, found.estimate)
            if not np.isnan(found.conf_low):
                text += (
                    f" ({100 * level:g}% interval {found.conf_low:.3f} to {found.conf_high:.3f})"
                )
            how = NONE if np.isnan(found.conf_low) else DELTA
            out.append(IccEstimate(
                block.group, component, found.estimate, found.std_error, found.conf_low,
                found.conf_high, how, text + ".",
            ))  # fmt: skip
    return tuple(out)


def share_words(block: RandomBlock, component: str, value: float) -> str:
    """One share in words, without interval and full stop."""
    text = _share_clause(block, component, value)
    return text[0].upper() + text[1:]


def _share_clause(block: RandomBlock, component: str, value: float) -> str:
    percent = f"{100 * value:.1f}%"
    relation = relation_of(block)
    slopes = "averaged over the predictors of the slopes, " * (block.names != (INTERCEPT,))
    if component == AVERAGE:
        return (
            f"{slopes}{percent} of the variance of an average analysed row is due to {block.group}"
        )
    if component == HERITABILITY and relation is not None and relation.kind == "pedigree":
        return (
            f"Heritability of {block.group}: {slopes}{percent} of the variance, given the "
            "predictors, is additive genetic in the base population (not inbred)"
        )
    if component == HERITABILITY:
        return (
            f"Phylogenetic heritability of {block.group}: {slopes}{percent} of the variance, given "
            "the predictors, follows the tree (a tip at full height)"
        )
    if component == ONE_LEVEL:
        return (
            f"{slopes}of the variance of a row with a single level, {percent} lies between levels "
            f"of {block.group}"
        )
    unit = " whose diagonal entry in the matrix is 1" * (relation is not None)
    return f"{slopes}{percent} of the variance lies between levels of {block.group}{unit}"


def share_sentences(design: Design, fit: Fit) -> tuple[str, ...]:
    """The shares in words for a summary, without intervals."""
    return shares_in_words(design.blocks, fit.random_covariance, fit.sigma2)


def shares_in_words(
    blocks: Sequence[RandomBlock], covariances: Sequence[Array], residual: float
) -> tuple[str, ...]:
    """The shares in words, from ``G`` by block and the variance of a row around its predictor."""
    parts = row_parts(blocks)
    base = [float(np.trace(G @ p.base)) for G, p in zip(covariances, parts, strict=True)]
    real = [float(np.trace(G @ p.moments)) for G, p in zip(covariances, parts, strict=True)]
    out = []
    for t, block in enumerate(blocks):
        text = share_words(block, share_name(block), base[t] / (sum(base) + residual))
        if has_memberships(block):
            average = real[t] / (sum(real) + residual)
            text += f"; with the weights of these rows {100 * average:.1f}% on average"
        out.append(f"{text}.")
    return tuple(out)


def relation_notes(block: RandomBlock) -> tuple[str, ...]:
    """What is known of the levels and of the weights, in words."""
    if not isinstance(block, RelatedBlock):
        return ()
    out = []
    relation = block.relation
    if relation is not None:
        own = relation.sentence or f"{relation.n_levels} levels"
        out.append(
            f"{block.group}: levels correlated by the {relation.kind} given: {own}. The variance "
            "is that of a level whose diagonal entry is 1."
        )
        n_seen = len(np.unique(block.loadings.indices))
        if n_seen < block.n_levels:
            out.append(
                f"{block.group}: {block.n_levels - n_seen} of {block.n_levels} levels have no rows;"
                " their effects are predicted from their relatives."
            )
        if relation.is_singular:
            out.append(
                f"{block.group}: the matrix has rank {block.n_independent}: some combinations of "
                "levels do not vary."
            )
    if block.memberships is not None:
        words = block.memberships.words
        several = (block.memberships.weights > 0.0).sum(axis=1)
        how = f"weights {', '.join(words.weights)}" if words.weights else "equal weights"
        how += ", divided by their sum in each row" if words.is_scaled else ", as given"
        out.append(
            f"{block.group}: each row has the weighted sum of the effects of its levels ({how}); "
            f"{int((several > 1).sum())} of {len(several)} rows have several levels."
        )
    return tuple(out)


def related_design_effects(design: Design, fit: Fit) -> tuple[DesignEffect, ...]:
    """Design effect of each factor for a mean, ``1'V1`` against rows that share nothing.

    ``cluster_size`` is ``c'Ac / sum_i l_i'A l_i`` with ``c = sum_i l_i``: Kish's size where every
    row has one level.
    """
    parts = parts_of(design)
    between = [
        float(np.trace(G @ p.moments)) for G, p in zip(fit.random_covariance, parts, strict=True)
    ]
    total = sum(between) + fit.sigma2
    out = []
    for block, value in zip(design.blocks, between, strict=True):
        loadings, relation = loadings_of(block), relation_of(block)
        c = np.asarray(loadings.sum(axis=0), dtype=np.float64).ravel()
        joint = c if relation is None else relation.combine(c[:, None]).ravel()
        size = float(joint @ joint) / float(row_variances(loadings, relation).sum())
        icc = value / total
        effect = 1.0 + (size - 1.0) * icc
        worth = design.n / effect
        what = "weighted size" if has_memberships(block) else "Kish size"
        why = " and relatives are alike" * (relation is not None)
        sentence = (
            f"Because rows share levels of {block.group}{why} ({what} {size:.1f}, share of the "
            f"variance {icc:.3f}), the {design.n} rows are worth {worth:.0f} independent ones for "
            f"a mean (design effect {effect:.2f})."
        )
        out.append(DesignEffect(block.group, what, size, icc, effect, worth, sentence))
    return tuple(out)


def related_covariance(
    design: Design,
    fit: Fit,
    group: str | None = None,
    level: Hashable = None,
    max_rows: int = 200,
) -> ClusterCovariance:
    """``V`` and its correlations for the rows that have a level: see ``cluster_covariance``.

    Raises
    ------
    InferenceError : an unknown group or level, a level without rows or with too many.
    """
    block = find_block(design, group)
    loads = loadings_of(block)
    code = int(loads.indices.min()) if level is None else find_level(block, level)
    rows = np.flatnonzero(loads[:, [code]].toarray().ravel())
    label = block.levels[code]
    if not 0 < len(rows) <= max_rows:
        raise InferenceError(
            f"The covariance matrix of one cluster is laid out for 1 to {max_rows} rows.",
            f"{block.group} {label} has {len(rows)} rows",
            "choose another level",
        )
    weight = np.ones(len(rows)) if design.weights is None else design.weights[rows]
    V = np.diag(fit.sigma2 / weight)
    for other, G in zip(design.blocks, fit.random_covariance, strict=True):
        own, relation, Z = (
            loadings_of(other)[rows].toarray(),
            relation_of(other),
            other.columns[rows],
        )
        spread = own.T if relation is None else relation.combine(own.T)
        V += (Z @ G @ Z.T) * (spread.T @ spread)
    sd = np.sqrt(np.diag(V))
    return ClusterCovariance(block.group, label, rows, V, V / np.outer(sd, sd))
