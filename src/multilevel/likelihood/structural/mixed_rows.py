"""Entries of several families one under the other: a row likelihood that asks each family in turn.

Part 0 is the linear predictor of every entry; the other parts of each kind of entries (log residual
variance, thresholds, ...) stand after it, kind by kind, and mean nothing to other kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.make import make_rows
from multilevel.likelihood.generalized.row import ALL, Response, RowDerivatives, RowLikelihood
from multilevel.model.families.records import Family

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class KindRows:
    """One kind: its family, its response (without values), the places of its entries, its parts.

    ``parts`` are the global numbers of the family's parts, 0 first.
    """

    family: Family
    response: Response
    places: Index
    parts: tuple[int, ...]


@dataclass(frozen=True)
class MixedRowsOf:
    """Builds row likelihoods of all kinds (the ``rows_of`` of a ``GeneralizedProblem``)."""

    kinds: tuple[KindRows, ...]
    n: int

    def __call__(
        self, response: Response, order: Index | None, random: tuple[int, ...]
    ) -> RowLikelihood:
        """The row likelihood of stacked values ``response.y`` (n,), entries in this order."""
        wanted = np.arange(self.n) if order is None else np.asarray(order)
        kind_of = np.full(self.n, -1)
        for k, kind in enumerate(self.kinds):
            kind_of[kind.places] = k
        sorted_kind = kind_of[wanted]
        pieces = []
        for k, kind in enumerate(self.kinds):
            here = np.flatnonzero(sorted_kind == k)
            values = np.ascontiguousarray(response.y[wanted[here]])
            local = tuple(d for d, part in enumerate(kind.parts) if part in random)
            rows = make_rows(kind.family, replace(kind.response, y=values), None, local)
            pieces.append(_Piece(here, kind.parts, local, rows))
        n_parts = 1 + max(part for kind in self.kinds for part in kind.parts)
        return MixedRows(pieces, len(wanted), n_parts, random)


@dataclass(frozen=True)
class _Piece:
    """The entries of one kind: sorted places, global parts, random parts (local), likelihood."""

    places: Index
    parts: tuple[int, ...]
    random: tuple[int, ...]
    rows: RowLikelihood


class MixedRows:
    """A ``RowLikelihood`` over kinds."""

    def __init__(
        self, pieces: Sequence[_Piece], n: int, n_parts: int, random: tuple[int, ...]
    ) -> None:
        self._pieces = [p for p in pieces if len(p.places)]
        self.n, self.n_parts, self.random = n, n_parts, random
        self.log_concave = all(p.rows.log_concave for p in pieces)

    def _cut(self, rows: slice) -> list[tuple[_Piece, Index, slice]]:
        """Per kind with entries in ``rows``: where they stand there, and their own run."""
        start, stop, _ = rows.indices(self.n)
        out = []
        for piece in self._pieces:
            a, b = np.searchsorted(piece.places, (start, stop))
            if b > a:
                out.append((piece, piece.places[a:b] - start, slice(int(a), int(b))))
        return out

    def value(self, eta: Array, rows: slice = ALL) -> Array:
        """``l`` (K, m) at eta (D, K, m)."""
        out = np.empty(eta.shape[1:])
        for piece, at, own in self._cut(rows):
            out[..., at] = piece.rows.value(_take(eta, piece.parts, at), own)
        return out

    def first(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array]:
        """``l`` (K, m) and ``dl/deta`` (D, K, m) at eta (D, K, m)."""
        out, slope = np.empty(eta.shape[1:]), np.zeros(eta.shape)
        for piece, at, own in self._cut(rows):
            out[..., at], found = piece.rows.first(_take(eta, piece.parts, at), own)
            for d, part in enumerate(piece.parts):
                slope[part][..., at] = found[d]
        return out, slope

    def newton(self, eta: Array, rows: slice = ALL) -> tuple[Array, Array, Array]:
        """``l`` (m,), ``dl/deta_r`` (R, m), ``d2l/deta_r deta_s`` (R, R, m) at eta (D, m)."""
        m, R = eta.shape[1], len(self.random)
        value, first, second = np.empty(m), np.zeros((R, m)), np.zeros((R, R, m))
        for piece, at, own in self._cut(rows):
            found = piece.rows.newton(_take(eta, piece.parts, at), own)
            value[at] = found[0]
            where = [self.random.index(piece.parts[d]) for d in piece.random]
            for a, r in enumerate(where):
                first[r, at] = found[1][a]
                for b, s in enumerate(where):
                    second[r, s, at] = found[2][a, b]
        return value, first, second

    def derivatives(self, eta: Array, rows: slice = ALL) -> RowDerivatives:
        """Everything that a Laplace gradient needs, at eta (D, m)."""
        D, m, R = eta.shape[0], eta.shape[1], len(self.random)
        out = RowDerivatives(
            np.empty(m), np.zeros((D, m)), np.zeros((R, D, m)), np.zeros((R, R, D, m))
        )
        for piece, at, own in self._cut(rows):
            found = piece.rows.derivatives(_take(eta, piece.parts, at), own)
            out.value[at] = found.value
            where = [self.random.index(piece.parts[d]) for d in piece.random]
            for d, part in enumerate(piece.parts):
                out.first[part, at] = found.first[d]
                for a, r in enumerate(where):
                    out.second[r, part, at] = found.second[a, d]
                    for b, s in enumerate(where):
                        out.third[r, s, part, at] = found.third[a, b, d]
        return out

    def start(self) -> Array:
        """(D,) zero for part 0, the own start values of all other parts."""
        out = np.zeros(self.n_parts)
        for piece in self._pieces:
            out[list(piece.parts[1:])] = piece.rows.start()[1:]
        return out


def _take(eta: Array, parts: tuple[int, ...], at: Index) -> Array:
    """The predictors of one kind, (d, ..., m')."""
    return np.ascontiguousarray(np.stack([eta[part][..., at] for part in parts]))
