"""Random-effect blocks, and the checks that they can be estimated at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.by_groups import expanded, learn_by
from multilevel.design.encode import learn_columns
from multilevel.design.recipe import LearntBlock
from multilevel.design.records import RandomBlock
from multilevel.design.related import (
    Codes,
    Memberships,
    Related,
    general_block,
    is_related,
    main_codes,
    read_memberships,
)
from multilevel.design.structured_terms import Cells, check_together, structured
from multilevel.design.variables import Positions, Source, Values
from multilevel.errors import DesignError
from multilevel.model.covariance.curves import Curve
from multilevel.model.covariance.structures import factor_map
from multilevel.model.formula.compile import Compiled, compile_columns
from multilevel.model.specification import RandomTerm

Array = NDArray[np.float64]
_INTERCEPT = "(Intercept)"
_PROBE = 4096
_NOISE = 1e-12

#: What a caller may allow by name although ``fit`` refuses it by default.
CLUSTER_SLOPE = "random_slope_of_cluster_predictor"
NOT_CERTIFIED = "not_certified"
ALLOWABLE = (CLUSTER_SLOPE, NOT_CERTIFIED)


@dataclass(frozen=True)
class BlockContext:
    """What blocks are built from: the table's columns, the rows, the weights; what is allowed."""

    source: Source
    kept: Positions | None
    n: int
    columns: Callable[[Compiled], dict[str, Values]]
    weights: Array | None
    allow: tuple[str, ...] = ()
    row_effects: bool = False
    related: Related | None = None  # None: memberships and relations are not taken


def check_allowed(allow: Sequence[str]) -> tuple[str, ...]:
    """Return the names in ``allow`` as a tuple, or raise ``DesignError`` for an unknown one."""
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    for name in names:
        if name not in ALLOWABLE:
            raise DesignError(
                f"allow may name {', '.join(map(repr, ALLOWABLE))}.",
                f"allow={name!r}",
                "leave it out",
            )
    return names


def group_terms(terms: Sequence[RandomTerm]) -> list[list[RandomTerm]]:
    """Collect the terms of each grouping factor; ``a:b`` and ``b:a`` are one."""
    found: dict[frozenset[str], list[RandomTerm]] = {}
    for term in terms:
        found.setdefault(frozenset(term.factors), []).append(term)
    return list(found.values())


def learn_block(terms: Sequence[RandomTerm], context: BlockContext) -> tuple[
    RandomBlock, LearntBlock
]:  # fmt: skip
    """Build the block of one grouping factor.

    Raises
    ------
    DesignError : effects that the data cannot tell apart, or a factor without enough levels.
    """
    group = terms[0].group
    relation = None if context.related is None else context.related.get(group)
    memberships = None
    if terms[0].membership is None:
        codes, levels = context.source.group_codes(terms[0].factors, context.kept)
    else:
        memberships, codes, levels = learn_memberships(terms, context)
    _check_levels(group, len(levels), context.n)
    matrices, learnt, shapes, curves = [], [], [], list[Curve | None]()
    names: list[str] = []
    for term in terms:
        compiled = compile_columns(term.columns)
        found = context.columns(compiled)
        matrix, encoding = learn_columns(compiled, found, context.n, context.kept)
        _check_width(term, matrix.shape[1])
        encoding, curve = structured(
            term, matrix, encoding, found, Cells(codes, not context.row_effects)
        )
        curves.append(curve)
        matrices.append(matrix)
        learnt.append(encoding)
        names += encoding.names
        shapes.append((matrix.shape[1], term.structure))
    _check_unique(names, group)
    columns = matrices[0] if len(matrices) == 1 else np.asfortranarray(np.hstack(matrices))
    block = RandomBlock(group, codes, levels, columns, tuple(names), factor_map(shapes, curves))
    if memberships is not None or relation is not None:
        block = general_block(block, memberships, relation)
        _check_independent(block)
    else:
        _check_identified(block, context)
    by = learn_by(terms, block, context.source, context.kept)
    widths = [matrix.shape[1] for matrix in matrices]
    block = expanded(block, widths, by, context.source, context.kept)
    words = terms[0].membership
    return block, LearntBlock(
        terms[0].factors, block.levels, tuple(learnt), by=by, membership=words
    )


def learn_memberships(
    terms: Sequence[RandomTerm], context: BlockContext
) -> tuple[Memberships, Codes, NDArray[Any]]:
    """Memberships, main codes and pooled levels of the ``mm()`` that some terms share.

    Raises
    ------
    DesignError : where they are not taken, terms with other weights, weights that cannot be used.
    """
    words = terms[0].membership
    if words is None or context.related is None:
        raise DesignError(
            "Several levels per row (mm) belong to fit() with a normal outcome and independent "
            "residuals.",
            terms[0].text,
            "leave residual=, scale= and family= out, or use the main level of each row: "
            "(1 | school1)",
        )
    if any(term.membership != words for term in terms):
        raise DesignError(
            "Terms on the same mm() must have the same weights.",
            ", ".join(term.text for term in terms),
            "write the effects in one term, like (1 + x | mm(school1, school2))",
        )
    memberships, levels, _ = read_memberships(words, context.source, context.kept)
    return memberships, main_codes(memberships), levels


def _check_levels(group: str, n_levels: int, n: int) -> None:
    """Refuse a factor with one level."""
    if n_levels < 2:
        raise DesignError(
            "A grouping factor needs at least two groups; ten or more to estimate a variance well.",
            f"{group} has {n_levels} in the {n} analysed rows",
            f"leave out the random term on {group}",
        )


def _check_width(term: RandomTerm, width: int) -> None:
    """Refuse terms without columns, and compound symmetry for one."""
    if width == 0:
        raise DesignError(
            "A random term needs at least one effect.",
            f"{term.text} has none",
            f"write (1 | {term.group})",
        )
    if term.structure == "compound_symmetry" and width < 2:
        raise DesignError(
            "Compound symmetry needs at least two effects.",
            f"{term.text} has one",
            f"write ({term.columns} | {term.group})",
        )


def _check_unique(names: Sequence[str], group: str) -> None:
    """Refuse the same column twice on one factor."""
    repeated = [name for index, name in enumerate(names) if name in names[:index]]
    if repeated:
        raise DesignError(
            "An effect may vary once over each grouping factor, because the data cannot divide "
            "its variance between two terms.",
            f"{repeated[0]} twice over {group}",
            "leave it out of one of the terms",
        )


def _check_identified(block: RandomBlock, context: BlockContext) -> None:
    """Refuse effects that no data of this shape can separate."""
    J, q = block.n_levels, len(block.names)
    one_each = context.n == J and block.names == (_INTERCEPT,) and not context.row_effects
    if one_each and _is_flat(context.weights):
        raise DesignError(
            "Random intercepts and residuals are told apart by groups with several rows.",
            f"{block.group} has {J} groups in {J} rows: one row each",
            f"leave out (1 | {block.group}), or check that {block.group} names groups, not rows",
        )
    others = [a for a in range(q) if block.names[a] != _INTERCEPT]
    has_intercept = len(others) < q
    for a in others:
        column = block.columns[:, a]
        if has_intercept and _is_constant_within(column, block.codes, J):
            if CLUSTER_SLOPE in context.allow:
                _check_variance_function(block, a)
                continue
            raise DesignError(
                "A slope can vary across groups only if its variable varies within groups.",
                f"{block.names[a]} has one value in every group of {block.group}, so its slope "
                "cannot vary across them",
                f"leave {block.names[a]} out of the random term on {block.group}; keep it as a "
                f"fixed effect. If the variance of {block.group} shall depend on it, write allow="
                f'("{CLUSTER_SLOPE}",)',
            )
    if q - has_intercept > 1:
        for part in check_together(block):
            _check_independent(part)
    _check_together(block)


def _check_variance_function(block: RandomBlock, a: int) -> None:
    """Refuse a variance ``t00 + 2 t01 w + t11 w^2`` that the values of w do not determine."""
    values = np.unique(block.columns[:, a])
    together = any(
        structure == "unstructured" and start <= a < stop and _INTERCEPT in block.names[start:stop]
        for start, stop, structure in block.structure.terms
    )
    found = len(values) if together else len(np.unique(values**2))
    needed = 3 if together else 2
    if found < needed:
        raise DesignError(
            f"A variance that depends on a group's variable needs {needed} values of it"
            + ("." if together else " that differ in size."),
            f"{block.names[a]} has {found} over {block.group}",
            f"leave {block.names[a]} out of the random term on {block.group}",
        )


def _is_flat(weights: Array | None) -> bool:
    """Whether all rows weigh the same."""
    return weights is None or bool(weights.min() == weights.max())


def _is_constant_within(column: Array, codes: NDArray[np.int32], n_levels: int) -> bool:
    """Whether a column has one value in every group; stops early where it has not."""
    for stop in (_PROBE, len(column)):
        part, group = column[:stop], codes[:stop]
        first = np.empty(n_levels)
        first[group[::-1]] = part[::-1]
        gap = float(np.abs(part - first[group]).max())
        if gap > _NOISE * float(np.abs(part).max()):
            return False
    return True


def _check_independent(block: RandomBlock) -> None:
    """Refuse random effects whose columns are linearly dependent in all rows."""
    Z = block.columns
    length = np.sqrt((Z**2).sum(axis=0))
    zero = np.flatnonzero(length == 0.0)
    if len(zero):
        raise DesignError(
            "A random effect needs a column that is not 0 in every row.",
            f"{block.names[zero[0]]} on {block.group}",
            "leave it out of the random term",
        )
    gram = (Z.T @ Z) / np.outer(length, length)
    values, vectors = np.linalg.eigh(gram)
    if values[0] < 1e-13:
        weights = vectors[:, 0]
        involved = [name for name, w in zip(block.names, weights, strict=True) if abs(w) > 1e-6]
        raise DesignError(
            "The effects of a random term must not repeat each other.",
            f"on {block.group}, one of {', '.join(involved)} is a combination of the others",
            "leave one of them out of the random term",
        )


def _check_together(block: RandomBlock) -> None:
    """Refuse correlations of effects that never occur in the same group."""
    for start, stop, structure in block.structure.terms:
        names = block.names[start:stop]
        if structure != "unstructured" or _INTERCEPT in names or stop - start < 2:
            continue
        present = np.zeros((block.n_levels, stop - start))
        for a in range(start, stop):
            present[block.codes[block.columns[:, a] != 0.0], a - start] = 1.0
        shared = present.T @ present
        row, col = np.nonzero(shared == 0.0)
        if len(row):
            joined = ", ".join(names)
            raise DesignError(
                "A correlation of two random effects needs groups in which both occur.",
                f"{names[row[0]]} and {names[col[0]]} never occur in the same group of "
                f"{block.group} (effects: {joined})",
                "write the term with a double bar, (0 + ... || g): variances without correlations",
            )


def order_blocks(
    pairs: list[tuple[RandomBlock, LearntBlock]],
) -> list[tuple[RandomBlock, LearntBlock]]:
    """Order by decreasing number of levels; refuse two factors that make the same groups."""
    ordered = sorted(pairs, key=lambda pair: -pair[0].n_levels)
    for (one, _), (two, _) in combinations(ordered, 2):
        if one.n_levels != two.n_levels or not set(one.names) & set(two.names):
            continue
        if is_related((one, two)):
            continue
        key = one.codes.astype(np.int64) * two.n_levels + two.codes
        if len(np.unique(key)) == one.n_levels:
            raise DesignError(
                "Two grouping factors must not make the same groups.",
                f"{one.group} and {two.group} divide the rows into the same {one.n_levels} groups",
                f"keep one of them; for a nested factor each {two.group} needs several {one.group}",
            )
    return ordered
