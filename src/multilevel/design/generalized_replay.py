"""New rows through every part of a generalized design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import Design, RandomBlock, RowReport
from multilevel.design.related import RelatedBlock, is_related, loadings_of, row_variances
from multilevel.design.replay import Groups, NewBlock, NewRows, replay

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RowLevels:
    """The levels of rows on a factor of the general kind.

    Attributes
    ----------
    loads : (m, J) sparse weights on the levels of the design.
    unknown : (m,) sum of the squared weights of levels that the design does not have.
    size : (m,) variance of the row's combination of levels, in units of ``G``.
    """

    loads: sparse.csr_array
    unknown: Array
    size: Array

    def pick(self, at: slice | NDArray[np.intp]) -> RowLevels:
        """Some of the rows."""
        return RowLevels(sparse.csr_array(self.loads[at]), self.unknown[at], self.size[at])


def levels_of(own: RandomBlock, new: NewBlock | None = None) -> RowLevels | None:
    """The levels of the analysed rows (or of new ones); None for an ordinary factor."""
    if not isinstance(own, RelatedBlock):
        return None
    if new is None:
        loads = loadings_of(own)
        return RowLevels(loads, np.zeros(len(own.codes)), row_variances(loads, own.relation))
    if new.memberships is not None:
        loads = new.memberships.loadings(own.n_levels)
        lost = np.where(new.memberships.codes < 0, new.memberships.weights, 0.0)
        unknown = np.asarray((lost**2).sum(axis=1))
    else:
        known = np.flatnonzero(new.codes >= 0)
        shape = (len(new.codes), own.n_levels)
        loads = sparse.csr_array((np.ones(len(known)), (known, new.codes[known])), shape=shape)
        unknown = (new.codes < 0).astype(np.float64)
    return RowLevels(loads, unknown, row_variances(loads, own.relation) + unknown)


@dataclass(frozen=True)
class PartRows:
    """Rows as every part of a generalized model sees them: the analysed rows, or new ones.

    Attributes
    ----------
    X : per part (m, p_d), columns in the order of ``PartDesign.names``.
    offsets : per part (m,) or None.
    codes : per block (m,) level of each row; -1 for a level that the design does not have.
    columns : per block (m, q), in the order of ``GeneralizedDesign.blocks``.
    rows : which rows of the table these are, and why others are not there.
    new_levels : ``{group: labels that the design does not have}``.
    levels : per block the levels of a factor of the general kind, None for others; empty where
        all are ordinary.
    """

    X: tuple[Array, ...]
    offsets: tuple[Array | None, ...]
    codes: tuple[NDArray[np.int32], ...]
    columns: tuple[Array, ...]
    rows: RowReport
    new_levels: dict[str, tuple[Any, ...]]
    levels: tuple[RowLevels | None, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.X[0].shape[0])

    def take(self, at: slice) -> PartRows:
        """A run of the rows; ``rows`` keeps its counts."""
        report = RowReport(self.rows.n_table, self.rows.kept[at], self.rows.missing)
        return replace(self.pick(at), rows=report, new_levels=self.new_levels)

    def pick(self, at: slice | NDArray[np.intp]) -> PartRows:
        """Some of the rows, without report of their own."""
        return PartRows(
            tuple(X[at] for X in self.X),
            tuple(None if o is None else o[at] for o in self.offsets),
            tuple(c[at] for c in self.codes),
            tuple(z[at] for z in self.columns),
            self.rows,
            {},
            tuple(None if v is None else v.pick(at) for v in self.levels),
        )

    def of_block(self, block: int) -> RowLevels | None:
        """The levels of a factor of the general kind, None for an ordinary one."""
        return self.levels[block] if self.levels else None

    @property
    def spread(self) -> tuple[Array, ...]:
        """``columns``, so scaled that ``z G z'`` is the variance that each row gets."""
        found = [self.of_block(t) for t in range(len(self.columns))]
        pairs = zip(self.columns, found, strict=True)
        return tuple(z if v is None else z * np.sqrt(v.size)[:, None] for z, v in pairs)

    def level_values(self, block: int, values: Array) -> Array:
        """Sums (m, q) of values (J, q) over each row's levels; unknown levels count as 0."""
        own, code = self.of_block(block), self.codes[block]
        if own is not None:
            return np.asarray(own.loads @ values)
        return np.where((code >= 0)[:, None], values[code], 0.0)


def analysed_rows(design: GeneralizedDesign) -> PartRows:
    """The rows that the model was fitted to."""
    return PartRows(
        tuple(part.X for part in design.parts),
        tuple(part.offset for part in design.parts),
        tuple(block.codes for block in design.blocks),
        tuple(block.columns for block in design.blocks),
        design.mean.rows,
        {},
        tuple(levels_of(block) for block in design.blocks) if is_related(design.blocks) else (),
    )


def replay_parts(design: GeneralizedDesign, data: Any, groups: Groups = "match") -> PartRows:
    """Lay every part of the design over a new table; a row needs the predictors of all parts.

    Raises
    ------
    DesignError : see ``design.replay.replay``.
    """
    sources = _sources(design)
    replayed = {key: replay(one, data, groups=groups) for key, (_, one) in sources.items()}
    kept, missing = _shared(list(replayed.values()))
    n_table = next(iter(replayed.values())).rows.n_table
    picked = {key: np.searchsorted(r.rows.kept, kept) for key, r in replayed.items()}
    X: list[Array] = []
    offsets: list[Array | None] = []
    for part in design.parts:
        if part.design is None:
            X.append(np.ones((len(kept), 1)))
            offsets.append(None)
            continue
        rows, at = replayed[id(part.design)], picked[id(part.design)]
        X.append(np.asarray(rows.X[at][:, list(part.columns)]))
        offsets.append(None if rows.offset is None else rows.offset[at])
    codes, columns, new, levels = _blocks(design, replayed, picked)
    report = RowReport(n_table, kept, missing)
    return PartRows(tuple(X), tuple(offsets), codes, columns, report, new, levels)


def _sources(design: GeneralizedDesign) -> dict[int, tuple[list[int], Design]]:
    """The distinct designs that parts take their columns from, with these parts."""
    out: dict[int, tuple[list[int], Design]] = {}
    for d, part in enumerate(design.parts):
        if part.design is not None:
            out.setdefault(id(part.design), ([], part.design))[0].append(d)
    return out


def _shared(found: Sequence[NewRows]) -> tuple[NDArray[np.intp], dict[str, int]]:
    """Positions of rows that are complete in all parts, and what the others lack."""
    kept = found[0].rows.kept
    missing: dict[str, int] = {}
    for rows in found:
        kept = np.intersect1d(kept, rows.rows.kept)
        missing |= rows.rows.missing
    return kept.astype(np.intp), missing


def _blocks(
    design: GeneralizedDesign, replayed: dict[int, NewRows], picked: dict[int, NDArray[np.intp]]
) -> tuple[
    tuple[NDArray[np.int32], ...],
    tuple[Array, ...],
    dict[str, tuple[Any, ...]],
    tuple[RowLevels | None, ...],
]:
    """Random-effect columns by factor, in the order in which the design joined them."""
    found: dict[frozenset[str], tuple[NewBlock, NDArray[np.intp], list[Array]]] = {}
    for key, (parts, _) in _sources(design).items():
        at = picked[key]
        for block in replayed[key].blocks:
            wide = [block.columns[at]] * len(parts)
            name = frozenset(block.group.split(":"))
            if name in found:
                found[name][2].extend(wide)
            else:
                found[name] = block, at, list(wide)
    codes, columns, new, levels = [], [], {}, list[RowLevels | None]()
    for own in design.blocks:
        block, at, pieces = found[frozenset(own.group.split(":"))]
        code = block.codes[at]
        codes.append(code)
        columns.append(np.asfortranarray(np.hstack(pieces)))
        held = levels_of(own, block)
        levels.append(None if held is None else held.pick(at))
        if bool(np.any(code < 0)) or (held is not None and bool(np.any(held.unknown[at] > 0.0))):
            new[own.group] = block.new_levels
    several = tuple(levels) if is_related(design.blocks) else ()
    return tuple(codes), tuple(columns), new, several
