"""Blocks of covariance matrices that a fit may hold to what a population can have.

A block is a set of variables of one level whose residual variances and covariances are all free
and their own. Its matrix is ``L L'``, L lower triangular with as many columns as the matrix has
rank (Pinheiro & Bates 1996, Stat. Comput. 6:289): no variance is negative, no correlation beyond 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from multilevel.model.structural.records import Level, StructuralModel


@dataclass(frozen=True)
class CovarianceBlock:
    """Variables of one level of one group, and ``{(a, b): index of the free parameter}``."""

    level: Level
    group: int
    names: tuple[str, ...]
    free: dict[tuple[str, str], int]


def covariance_blocks(
    model: StructuralModel, levels: Iterable[Level]
) -> tuple[tuple[CovarianceBlock, ...], tuple[tuple[str, ...], ...]]:
    """The blocks of ``levels``, and the sets of variables that form no block.

    The latter share labels, or have some covariances that are fixed, so that ``L L'`` does not
    describe them.
    """
    shared = Counter(p.free for p in model.parameters if p.is_free)
    blocks: list[CovarianceBlock] = []
    refused: list[tuple[str, ...]] = []
    for group in range(len(model.groups)):
        for level in levels:
            rows = [p for p in model.block(level, group) if p.op == "~~"]
            for names in _joined([(p.lhs, p.rhs) for p in rows if p.is_free]):
                own = {(p.lhs, p.rhs): p.free for p in rows if {p.lhs, p.rhs} <= set(names)}
                both_ways = own | {(b, a): k for (a, b), k in own.items()}
                size = len(names) * (len(names) + 1) // 2
                is_whole = len(own) == size and all(k >= 0 and shared[k] == 1 for k in own.values())
                if is_whole:
                    blocks.append(CovarianceBlock(level, group, names, both_ways))
                else:
                    refused.append(names)
    return tuple(blocks), tuple(refused)


def _joined(pairs: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Names that free parameters join, directly or through others, in order of appearance."""
    sets: list[list[str]] = []
    for a, b in pairs:
        touching = [s for s in sets if a in s or b in s]
        merged = [n for s in touching for n in s]
        sets = [s for s in sets if s not in touching]
        sets.append(list(dict.fromkeys([*merged, a, b])))
    return [tuple(s) for s in sets]
