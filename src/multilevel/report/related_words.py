"""Rows with several levels and levels that are correlated, in the words of titles and papers."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.design.records import RandomBlock
from multilevel.design.related import RelatedBlock, has_memberships, is_related
from multilevel.report.layout import join_words


def related_kind(blocks: Sequence[RandomBlock]) -> str:
    """``"multiple-membership model"``, ``"model with correlated levels"``; empty for others."""
    if not is_related(blocks):
        return ""
    several = any(has_memberships(block) for block in blocks)
    return "multiple-membership model" if several else "model with correlated levels"


def related_methods_sentence(blocks: Sequence[RandomBlock]) -> str:
    """What the levels of each row are and how levels are correlated, as a paper says it."""
    return " ".join(text for block in blocks for text in _sentences(block))


def _sentences(block: RandomBlock) -> list[str]:
    if not isinstance(block, RelatedBlock):
        return []
    out = []
    if block.memberships is not None:
        words = block.memberships.words
        several = int(((block.memberships.weights > 0.0).sum(axis=1) > 1).sum())
        how = f"weighted by {join_words(words.weights)}" if words.weights else "with equal weights"
        how += " (weights of a row sum to 1)" if words.is_scaled else ""
        out.append(
            f"Each row had the sum of the random effects of its levels of {block.group}, {how}; "
            f"{several} of {len(block.codes)} rows had several levels."
        )
    if block.relation is not None:
        own = block.relation.sentence or f"{block.relation.n_levels} levels"
        out.append(
            f"Random effects of {block.group} were correlated as given by the "
            f"{block.relation.kind} ({own})."
        )
    return out
