"""What every storage of ``H = I + Z~'WZ~`` offers to the search for modes and to the gradient.

A storage keeps ``H`` in a flat array; ``at`` says where the entries of each row's clique stand in
it, so one compiled kernel fills them all. Storages: ``dense``, ``leaf`` (finest factor eliminated
first, dense rest), ``sparse``; ``storage_choice`` picks one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.blocks.row_kernels import add_weighted_gram

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Storage(Protocol):
    """``H`` of one design.

    Attributes
    ----------
    name : ``"dense"``, ``"leaf"`` or ``"sparse"``.
    effects : per block (J_t, q_t) unknown of each random effect.
    at_inverse : (n, Q (Q + 1) / 2) places of a row's clique among the entries of ``inverse``.
    logdet : ``log|H|`` at the last successful factorisation.
    is_set : whether a factor is held.
    n_independent : random effects that vary independently: N, but fewer for a singular relation.
    """

    name: str
    effects: tuple[Places, ...]
    at_inverse: Places
    logdet: float
    is_set: bool
    n_independent: int

    def factorise(self, Z: Array, W: Array) -> bool:
        """Set ``H`` from ``Z~`` (R, n, Q) and ``W`` (R, R, n); False if not positive definite."""
        ...

    def solve(self, right: Array) -> Array:
        """``H^-1 right`` for (N,) or (N, k)."""
        ...

    def inverse(self) -> Array:
        """Entries of ``H^-1`` on the pattern of ``H``, flat."""
        ...

    def own_places(self, block: int) -> Places:
        """(J_t, q_t, q_t) places of the diagonal blocks among the entries of ``inverse``."""
        ...

    def colour(self, noise: Array) -> Array:
        """``A noise`` (N, k) with ``A A' = H^-1``."""
        ...


def fill(store: Array, diagonal: Places, at: Places, Z: Array, W: Array) -> None:
    """``store = I + Z~'WZ~`` on the pattern of the rows."""
    store.fill(0.0)
    store[diagonal] = 1.0
    add_weighted_gram(Z, W, at, store)


def clique_pairs(n_columns: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Columns (a, b), b <= a, of a row's clique in the order of ``at``."""
    return np.tril_indices(n_columns)


def natural_effects(sizes: tuple[tuple[int, int], ...]) -> tuple[Places, ...]:
    """Unknowns numbered block after block, level after level: (J_t, q_t) each."""
    out, begin = [], 0
    for J, q in sizes:
        out.append(begin + np.arange(J * q, dtype=np.int64).reshape(J, q))
        begin += J * q
    return tuple(out)


def ordered_places(effects: Places, order: int) -> Places:
    """(J, q, q) places of diagonal blocks in a flat square of this order, lower triangle."""
    row = np.maximum(effects[:, :, None], effects[:, None, :])
    column = np.minimum(effects[:, :, None], effects[:, None, :])
    return np.asarray(row * order + column)
