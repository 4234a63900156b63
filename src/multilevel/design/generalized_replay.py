"""New rows through every part of a generalized design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import Design, RowReport
from multilevel.design.replay import Groups, NewBlock, NewRows, replay

Array = NDArray[np.float64]


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
    """

    X: tuple[Array, ...]
    offsets: tuple[Array | None, ...]
    codes: tuple[NDArray[np.int32], ...]
    columns: tuple[Array, ...]
    rows: RowReport
    new_levels: dict[str, tuple[Any, ...]]

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.X[0].shape[0])

    def take(self, at: slice) -> PartRows:
        """A run of the rows; ``rows`` keeps its counts."""
        return PartRows(
            tuple(X[at] for X in self.X),
            tuple(None if o is None else o[at] for o in self.offsets),
            tuple(c[at] for c in self.codes),
            tuple(z[at] for z in self.columns),
            RowReport(self.rows.n_table, self.rows.kept[at], self.rows.missing),
            self.new_levels,
        )


def analysed_rows(design: GeneralizedDesign) -> PartRows:
    """The rows that the model was fitted to."""
    return PartRows(
        tuple(part.X for part in design.parts),
        tuple(part.offset for part in design.parts),
        tuple(block.codes for block in design.blocks),
        tuple(block.columns for block in design.blocks),
        design.mean.rows,
        {},
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
    codes, columns, new = _blocks(design, replayed, picked)
    report = RowReport(n_table, kept, missing)
    return PartRows(tuple(X), tuple(offsets), codes, columns, report, new)


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
) -> tuple[tuple[NDArray[np.int32], ...], tuple[Array, ...], dict[str, tuple[Any, ...]]]:
    """Random-effect columns by factor, in the order in which the design joined them."""
    found: dict[frozenset[str], tuple[NewBlock, NDArray[np.int32], list[Array]]] = {}
    for key, (parts, _) in _sources(design).items():
        at = picked[key]
        for block in replayed[key].blocks:
            wide = [block.columns[at]] * len(parts)
            name = frozenset(block.group.split(":"))
            if name in found:
                found[name][2].extend(wide)
            else:
                found[name] = block, block.codes[at], list(wide)
    codes, columns, new = [], [], {}
    for own in design.blocks:
        block, code, pieces = found[frozenset(own.group.split(":"))]
        codes.append(code)
        columns.append(np.asfortranarray(np.hstack(pieces)))
        if bool(np.any(code < 0)):
            new[own.group] = block.new_levels
    return tuple(codes), tuple(columns), new
