"""Packed derivatives ("jets") of a row's log density, and how they compose.

A jet of D predictors holds the value and the partial derivatives up to order three, each mixed
derivative once, indices ascending and in lexicographic order:

    D = 1:  l, l0, l00, l000                                                          (4)
    D = 2:  l, l0, l1, l00, l01, l11, l000, l001, l011, l111                          (10)
    D = 3:  l, l0, l1, l2, l00, l01, l02, l11, l12, l22, l000, l001, l002, l011, ...  (20)

So with the mean as the only random part all that an engine needs are neighbours. How much of a
jet is filled is its level: ``VALUE``; ``FIRST`` (all first derivatives); ``NEWTON`` (l, l0, l00);
``MEAN`` (FIRST and every derivative of order two and three with at least one, two zeros);
``FULL``. What a level does not name is left as it was.

Source of the composition rules: Faa di Bruno's formula to order three.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

VALUE, FIRST, NEWTON, MEAN, FULL = range(5)


@cache
def indices(n_parts: int) -> tuple[tuple[int, ...], ...]:
    """The derivatives of a jet in order: ``()``, ``(0,)``, ..., ``(0, 0)``, ..., ``(0, 0, 0)``."""
    parts = range(n_parts)
    return tuple(
        index for order in range(4) for index in combinations_with_replacement(parts, order)
    )


@cache
def positions(n_parts: int) -> dict[tuple[int, ...], int]:
    """Derivative -> its place in the jet."""
    return {index: place for place, index in enumerate(indices(n_parts))}


def place(n_parts: int, *index: int) -> int:
    """Place of one derivative, indices in any order."""
    return positions(n_parts)[tuple(sorted(index))]


@cache
def filled(n_parts: int, level: int) -> tuple[int, ...]:
    """Places that a jet of this level fills."""
    if level == VALUE:
        return (0,)
    if level == FIRST:
        return tuple(range(1 + n_parts))
    if level == NEWTON:
        return (0, 1, place(n_parts, 0, 0))
    if level == FULL:
        return tuple(range(len(indices(n_parts))))
    return tuple(
        where
        for where, index in enumerate(indices(n_parts))
        if len(index) < 2 or sum(part != 0 for part in index) <= 1
    )


def length(n_parts: int, level: int) -> int:
    """Length of a jet array that can hold a level."""
    return filled(n_parts, level)[-1] + 1


@cache
def gather_second(n_parts: int, random: tuple[int, ...]) -> NDArray[np.intp]:
    """Places (R, D) of the second derivatives of ``RowDerivatives``."""
    return np.array(
        [[place(n_parts, r, d) for d in range(n_parts)] for r in random], dtype=np.intp
    ).reshape(len(random), n_parts)


@cache
def gather_third(n_parts: int, random: tuple[int, ...]) -> NDArray[np.intp]:
    """Places (R, R, D) of the third derivatives of ``RowDerivatives``."""
    return np.array(
        [[[place(n_parts, r, s, d) for d in range(n_parts)] for s in random] for r in random],
        dtype=np.intp,
    ).reshape(len(random), len(random), n_parts)


def compose(jet: Array, f: tuple[Array, Array, Array, Array], n_parts: int, level: int) -> Array:
    """The jet of ``f(l)``, given the jet of ``l`` (J, ...) and f with three derivatives there."""
    f0, f1, f2, f3 = f
    at = positions(n_parts)
    out = np.empty_like(jet)
    for where in filled(n_parts, level):
        index = indices(n_parts)[where]
        if not index:
            out[where] = f0
        elif len(index) == 1:
            out[where] = f1 * jet[where]
        elif len(index) == 2:
            i, j = index
            out[where] = f1 * jet[where] + f2 * jet[at[(i,)]] * jet[at[(j,)]]
        else:
            i, j, k = index
            a, b, c = jet[at[(i,)]], jet[at[(j,)]], jet[at[(k,)]]
            pairs = a * jet[at[(j, k)]] + b * jet[at[(i, k)]] + c * jet[at[(i, j)]]
            out[where] = f1 * jet[where] + f2 * pairs + f3 * a * b * c
    return out


def through_link(jet: Array, g: tuple[Array, Array, Array], n_parts: int, level: int) -> None:
    """Turn, in place, derivatives in ``g(eta_0)`` into derivatives in ``eta_0``.

    ``g`` are the first three derivatives of the inner function. A jet of level ``NEWTON`` or more
    is changed from the highest order down, as each order needs the lower ones as they were.
    """
    g1, g2, g3 = g
    at = positions(n_parts)
    for where in reversed(filled(n_parts, level)):
        index = indices(n_parts)[where]
        zeros = index.count(0)
        rest = index[zeros:]
        if zeros == 1:
            jet[where] *= g1
        elif zeros == 2:
            jet[where] = jet[where] * g1**2 + jet[at[(0, *rest)]] * g2
        elif zeros == 3:
            jet[where] = jet[where] * g1**3 + 3 * jet[at[(0, 0)]] * g1 * g2 + jet[at[(0,)]] * g3
