"""Blocks whose rows have several levels, or whose levels are correlated in a known way.

``Z_t`` is the product of two factors by row: the loadings on the levels (one 1, or the weights of
the memberships) and the random-effect columns. Source of the weights: Browne, Goldstein & Rasbash
2001 (Statistical Modelling 1:103).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.centring import match_levels
from multilevel.design.records import RandomBlock
from multilevel.design.relations import Relation
from multilevel.design.variables import Positions, Source, row_words
from multilevel.errors import DesignError
from multilevel.model.specification import Membership, Model

Array = NDArray[np.float64]
Codes = NDArray[np.int32]
#: What ``fit`` is told about levels that are correlated, ``{grouping factor: relation}``.
Related = Mapping[str, Relation]


@dataclass(frozen=True)
class Memberships:
    """Levels and weights of every row.

    Attributes
    ----------
    words : the call as written.
    codes : (n, K) int32, level in each place; -1 where there is none (or it is not known).
    weights : (n, K), 0 where there is none.
    """

    words: Membership
    codes: Codes
    weights: Array

    def loadings(self, n_levels: int) -> sparse.csr_array:
        """Weights by level, (n, J); levels that stand twice in a row are summed."""
        n, K = self.codes.shape
        known = self.codes >= 0
        row = np.broadcast_to(np.arange(n)[:, None], (n, K))[known]
        entries = (self.weights[known], (row, self.codes[known]))
        return sparse.csr_array(entries, shape=(n, n_levels))


@dataclass(frozen=True)
class RelatedBlock(RandomBlock):
    """A block of the general kind; ``codes`` holds the level of the largest weight.

    Attributes
    ----------
    memberships : several levels per row, or None for one.
    relation : known covariance of the levels, or None for independent ones.
    """

    memberships: Memberships | None = None
    relation: Relation | None = None

    @cached_property
    def loadings(self) -> sparse.csr_array:
        """Weights by level, (n, J)."""
        return loadings_of(self)

    def on_rows(self, effects: Array) -> Array:
        """``Z b`` (n,) for effects (J, q)."""
        return np.asarray(np.einsum("iq,iq->i", self.columns, self.loadings @ effects))

    @property
    def n_independent(self) -> int:
        """Number of independent effects behind the levels."""
        spread = None if self.relation is None else self.relation.spread
        return self.n_levels if spread is None else int(spread.shape[1])

    def colour(self, u: Array) -> Array:
        """Effects (J, q) of the levels from independent ones (r, q)."""
        return u if self.relation is None else self.relation.colour(u)


def loadings_of(block: RandomBlock) -> sparse.csr_array:
    """Weights by level (n, J) of any block."""
    if isinstance(block, RelatedBlock) and block.memberships is not None:
        return block.memberships.loadings(block.n_levels)
    return _one_each(block.codes, block.n_levels)


def _one_each(codes: Codes, n_levels: int) -> sparse.csr_array:
    known = np.flatnonzero(codes >= 0)
    entries = (np.ones(len(known)), (known, codes[known]))
    return sparse.csr_array(entries, shape=(len(codes), n_levels))


def is_related(blocks: Sequence[RandomBlock]) -> bool:
    """Whether any block is of the general kind."""
    return any(isinstance(block, RelatedBlock) for block in blocks)


def has_memberships(block: RandomBlock) -> bool:
    """Whether rows may have several levels of the factor."""
    return isinstance(block, RelatedBlock) and block.memberships is not None


def has_same_levels(one: RandomBlock, two: RandomBlock) -> bool:
    """Whether two blocks have the same loadings and the same relation."""
    first, second = (b.relation if isinstance(b, RelatedBlock) else None for b in (one, two))
    if (first is None) != (second is None) or one.n_levels != two.n_levels:
        return False
    if first is not None and second is not None and first is not second:
        same = first.labels.tolist() == second.labels.tolist()
        if not same or not np.allclose(first.diagonal, second.diagonal):
            return False
        if not np.isclose(first.log_det, second.log_det):
            return False
    gap = abs(loadings_of(one) - loadings_of(two))
    return bool(gap.nnz == 0 or gap.max() < 1e-12)


def rows_part(block: RandomBlock, effects: Array) -> Array:
    """``Z b`` (n,) of any block for effects (J, q)."""
    if isinstance(block, RelatedBlock):
        return block.on_rows(effects)
    return np.asarray(np.einsum("iq,iq->i", block.columns, effects[block.codes]))


def drawn_effects(block: RandomBlock, rng: np.random.Generator, factor: Array) -> Array:
    """New random effects (J, q) with covariance ``A (x) factor factor'``."""
    q = len(block.names)
    if isinstance(block, RelatedBlock):
        return block.colour(rng.standard_normal((block.n_independent, q))) @ factor.T
    return np.asarray(rng.standard_normal((block.n_levels, q)) @ factor.T)


def row_variances(loadings: sparse.csr_array, relation: Relation | None, batch: int = 512) -> Array:
    """``l_i' A l_i`` (n,): variance of a row's combination of levels, in units of sigma^2."""
    squares = np.asarray(loadings.power(2).sum(axis=1), dtype=np.float64).ravel()
    if relation is None:
        return squares
    if loadings.nnz == 0 or np.diff(loadings.indptr).max() <= 1:
        return np.asarray(loadings.power(2) @ relation.diagonal)
    out = np.empty(loadings.shape[0])
    for start in range(0, len(out), batch):
        part = loadings[start : start + batch].toarray().T
        out[start : start + batch] = (relation.combine(part) ** 2).sum(axis=0)
    return out


# -- rows ------------------------------------------------------------------------------------------


def check_related(model: Model, related: Related) -> None:
    """Refuse relations of factors that no random term names.

    Raises
    ------
    DesignError : naming the factor.
    """
    known = [term.group for term in model.random]
    for name in related:
        if name not in known:
            raise DesignError(
                "related= names grouping factors of the formula.",
                f"{name!r}; the formula has {', '.join(dict.fromkeys(known)) or 'none'}",
                f"add the term (1 | {name}), or correct the name",
            )


def without_membership(model: Model, source: Source) -> dict[str, NDArray[np.bool_]]:
    """``{label: rows without any level, or with a level but no weight}`` of each ``mm()``."""
    out: dict[str, NDArray[np.bool_]] = {}
    for term in model.random:
        if term.membership is None or term.group in out:
            continue
        words = term.membership
        source.check([*words.columns, *words.weights], model.formula)
        held = np.column_stack([source.codes(name)[0] >= 0 for name in words.columns])
        lost: NDArray[np.bool_] = np.asarray(~held.any(axis=1))
        if words.weights:
            weights = np.column_stack([_numbers(source, name) for name in words.weights])
            lost |= (held & np.isnan(weights)).any(axis=1)
        if lost.any():
            out[term.group] = lost
    return out


def _numbers(source: Source, name: str) -> Array:
    values = source.values(name)
    if isinstance(values, pd.Categorical) or values.dtype.kind not in "iufb":
        raise DesignError("Weights of memberships must be numbers.", f"column {name!r}",
                          "give one number per row, 0 where there is no membership")  # fmt: skip
    return values.astype(np.float64)


def _pooled(
    words: Membership, source: Source, kept: Positions | None, known: NDArray[Any] | None
) -> tuple[Codes, NDArray[Any]]:
    """Codes (n, K) over one pool of levels; the levels that occur, or ``known``."""
    parts = [source.group_codes((name,), kept) for name in words.columns]
    if known is None:
        kinds = {"text" if isinstance(x, str) else "number" for _, lv in parts for x in lv.tolist()}
        if len(kinds) > 1:
            raise DesignError("The columns of mm() must hold ids of the same kind.",
                              f"text in one and numbers in another of {', '.join(words.columns)}",
                              "convert one of them")  # fmt: skip
        listed = {label for _, levels in parts for label in levels.tolist()}
        pool = np.empty(len(listed), dtype=object)
        pool[:] = sorted(listed)
        known = pool
    places = [np.append(match_levels(levels, known), -1).astype(np.int32) for _, levels in parts]
    return np.column_stack([at[c] for at, (c, _) in zip(places, parts, strict=True)]), known


def read_memberships(
    words: Membership,
    source: Source,
    kept: Positions | None,
    known: NDArray[Any] | None = None,
) -> tuple[Memberships, NDArray[Any], NDArray[np.bool_]]:
    """Memberships of the kept rows, the levels, and which places hold a level that is not known.

    Weights of a row are divided by their sum unless ``scale=False``.

    Raises
    ------
    DesignError : negative or infinite weights, a row whose weights are all zero.
    """
    codes, levels = _pooled(words, source, kept, known)
    held = np.column_stack([source.group_codes((name,), kept)[0] >= 0 for name in words.columns])
    n = len(codes)
    if words.weights:
        found = [_numbers(source, name) for name in words.weights]
        weights = np.column_stack([w if kept is None else w[kept] for w in found])
        weights = np.where(held, weights, 0.0)
        bad = np.flatnonzero(~((weights >= 0.0) & np.isfinite(weights)).all(axis=1))
        if len(bad):
            raise DesignError("Weights of memberships must be finite and not negative.",
                              f"{words.label} in {row_words(_at(bad, kept))}",
                              "correct them")  # fmt: skip
    else:
        weights = held.astype(np.float64)
    total = weights.sum(axis=1)
    empty = np.flatnonzero(held.any(axis=1) & (total <= 0.0))
    if len(empty):
        raise DesignError("A row needs a membership with a positive weight.",
                          f"{words.label}: all weights are 0 in {row_words(_at(empty, kept))}",
                          "give weights, or set the levels to missing")  # fmt: skip
    if words.is_scaled:
        weights = weights / np.where(total > 0.0, total, 1.0)[:, None]
    return Memberships(words, codes.reshape(n, -1), weights), levels, held & (codes < 0)


def _at(positions: NDArray[Any], kept: Positions | None) -> NDArray[Any]:
    return positions if kept is None else kept[positions]


def main_codes(memberships: Memberships) -> Codes:
    """The level of the largest weight of each row, (n,)."""
    best = np.argmax(np.where(memberships.codes >= 0, memberships.weights, -1.0), axis=1)
    return np.asarray(memberships.codes[np.arange(len(best)), best])


def match_relation(
    codes: Codes, levels: NDArray[Any], relation: Relation, group: str
) -> tuple[Codes, NDArray[Any]]:
    """Codes over the labels of a relation; a label is matched by value, else by its text.

    Raises
    ------
    DesignError : naming the levels of the data that the relation does not have.
    """
    place = match_levels(levels, relation.labels)
    if (place < 0).any():
        texts = {str(label): k for k, label in enumerate(relation.labels.tolist())}
        found = [texts.get(str(label), -1) for label in levels.tolist()]
        place = np.where(place < 0, np.array(found, dtype=np.intp), place)
    lost = levels[place < 0].tolist()
    if lost:
        some = ", ".join(map(repr, lost[:5])) + (f" and {len(lost) - 5} more" * (len(lost) > 5))
        raise DesignError(
            f"Every level of {group} in the data must be in its {relation.kind}.",
            f"{len(lost)} that are not: {some} (the {relation.kind} has "
            f"{', '.join(map(repr, relation.labels[:3].tolist()))}, ...)",
            f"add them to the {relation.kind}, or leave their rows out",
        )
    named = relation.labels.copy()
    named[place] = levels  # ids of new rows are of the kind of the data
    return np.append(place, -1).astype(np.int32)[codes], named


def general_block(
    block: RandomBlock, memberships: Memberships | None, relation: Relation | None
) -> RelatedBlock:
    """The block with its memberships and its relation, both over the levels of the relation."""
    codes, levels = block.codes, block.levels
    if relation is not None:
        if memberships is not None:
            flat, _ = match_relation(memberships.codes.ravel(), levels, relation, block.group)
            memberships = replace(memberships, codes=flat.reshape(memberships.codes.shape))
        codes, levels = match_relation(codes, levels, relation, block.group)
    own = {f.name: getattr(block, f.name) for f in fields(block)}
    own |= {"codes": codes, "levels": levels}
    return RelatedBlock(**own, memberships=memberships, relation=relation)
