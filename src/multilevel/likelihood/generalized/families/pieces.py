"""Rows of other families as pieces of one: some rows, some of the parts, log densities added."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.part_rows import PartRows
from multilevel.likelihood.generalized.row import RowDerivatives, RowLikelihood

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Rows = TypeVar("Rows", bound=RowLikelihood)


@dataclass(frozen=True)
class Piece(Generic[Rows]):
    """Rows of a family that stand at some places of all rows, ascending."""

    places: Places
    rows: Rows

    def within(self, rows: slice) -> tuple[Places, slice]:
        """Where the piece's rows stand in the run ``rows``, and which of its rows they are."""
        start = 0 if rows.start is None else rows.start
        ends = [start, np.iinfo(np.intp).max if rows.stop is None else rows.stop]
        low, high = (int(at) for at in np.searchsorted(self.places, ends))
        return self.places[low:high] - start, slice(low, high)


def local_random(random: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    """The random parts of a piece in its own numbers; ``parts`` are its parts, ascending."""
    return tuple(parts.index(part) for part in random if part in parts)


def _grid(*index: Any) -> tuple[NDArray[np.intp], ...]:
    """Index of all combinations of places."""
    return np.ix_(*(np.asarray(i, dtype=np.intp) for i in index))


class SumRows(PartRows):
    """Rows whose log density is a sum of pieces; ``pieces()`` gives each with its parts.

    The random parts of a piece's rows must be ``local_random(random, parts)``.
    """

    @abstractmethod
    def _pieces(self) -> list[tuple[Piece[RowLikelihood], tuple[int, ...]]]:
        """The pieces with the parts of the whole that their parts are, ascending."""

    def _values(self, eta: Array, rows: slice) -> Array:
        out = np.zeros(eta.shape[1:])
        for piece, parts in self._pieces():
            at, some = piece.within(rows)
            out[:, at] += piece.rows.value(eta[list(parts)][:, :, at], some)
        return out

    def _firsts(self, eta: Array, rows: slice) -> tuple[Array, Array]:
        out, slope = np.zeros(eta.shape[1:]), np.zeros(eta.shape)
        sets = np.arange(eta.shape[1])
        for piece, parts in self._pieces():
            at, some = piece.within(rows)
            value, first = piece.rows.first(eta[list(parts)][:, :, at], some)
            out[:, at] += value
            slope[_grid(parts, sets, at)] += first
        return out, slope

    def _all(self, eta: Array, rows: slice) -> RowDerivatives:
        D, m = eta.shape
        R = len(self.random)
        found = RowDerivatives(
            np.zeros(m), np.zeros((D, m)), np.zeros((R, D, m)), np.zeros((R, R, D, m))
        )
        for piece, parts in self._pieces():
            at, some = piece.within(rows)
            part = piece.rows.derivatives(eta[_grid(parts, at)], some)
            mine = [i for i, r in enumerate(self.random) if r in parts]
            found.value[at] += part.value
            found.first[_grid(parts, at)] += part.first
            found.second[_grid(mine, parts, at)] += part.second
            found.third[_grid(mine, mine, parts, at)] += part.third
        return found
