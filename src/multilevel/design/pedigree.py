"""Pedigrees: the additive relationship of animals, kept by the sparse root of its inverse.

``b = T b + m`` with T half the sum of the parents and ``m`` the Mendelian sampling deviations of
variance D, so ``A^-1 = (I - T)' D^-1 (I - T)`` (Henderson 1976, Biometrics 32:69; with inbreeding
Quaas 1976, Biometrics 32:949). ``D = 1/2 - (F_sire + F_dam) / 4`` with both parents known,
``3/4 - F / 4`` with one, 1 with none. Inbreeding F by Meuwissen & Luo 1992 (Genetics Selection
Evolution 24:305).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.relations import Relation
from multilevel.errors import DesignError

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
_UNKNOWN = ("", "0", "NA", "na", ".", "*")


def is_unknown(label: Any) -> bool:
    """Whether an entry of a pedigree means that the parent is not known."""
    if label is None or label != label:
        return True
    return (isinstance(label, str) and label.strip() in _UNKNOWN) or label == 0


def from_pedigree(animals: Sequence[Any], sires: Sequence[Any], dams: Sequence[Any]) -> Relation:
    """The additive (numerator) relationship of a pedigree.

    Parameters
    ----------
    animals, sires, dams : one entry per animal; an unknown parent is missing, ``""``, ``"NA"``,
        ``"."`` or 0. Parents without a row of their own are founders.

    Returns
    -------
    Relation : animals in the order of the rows, then founders without a row.

    Raises
    ------
    DesignError : an animal twice, an animal among its own ancestors, one that is sire and dam.
    """
    labels = _labels(animals, sires, dams)
    place = {label: k for k, label in enumerate(labels)}
    n = len(labels)
    sire, dam = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for k, (s, d) in enumerate(zip(sires, dams, strict=True)):
        sire[k] = -1 if is_unknown(s) else place[s]
        dam[k] = -1 if is_unknown(d) else place[d]
    level = _generations(sire, dam, labels)
    order = np.argsort(level, kind="stable")
    F = inbreeding(sire, dam, level)
    D = _sampling_variance(sire, dam, F)
    own = np.arange(n)
    has_sire, has_dam = np.flatnonzero(sire >= 0), np.flatnonzero(dam >= 0)
    row = np.concatenate([own, has_sire, has_dam])
    column = np.concatenate([own, sire[has_sire], dam[has_dam]])
    value = np.concatenate([np.ones(n), np.full(len(has_sire) + len(has_dam), -0.5)])
    place_of = np.empty(n, np.int64)
    place_of[order] = np.arange(n)
    root = sparse.csr_array(
        (value / np.sqrt(D[row]), (place_of[row], column)), shape=(n, n)
    )  # duplicates (selfing) are summed
    names = np.empty(n, dtype=object)
    names[:] = labels
    inbred = int((F > 1e-12).sum())
    sentence = f"additive relationship of {n} animals"
    if inbred:
        sentence += f"; {inbred} of them are inbred, with mean F {F[F > 1e-12].mean():.3f}"
    return Relation(names, "pedigree", sentence, float(np.log(D).sum()), 1.0 + F, root, None)


def _labels(animals: Sequence[Any], sires: Sequence[Any], dams: Sequence[Any]) -> list[Any]:
    """Animals in the order of the rows, then parents without a row."""
    seen: dict[Any, None] = {}
    for row, animal in enumerate(animals):
        if is_unknown(animal):
            raise DesignError("Every row of a pedigree needs an animal.", f"none in row {row}",
                              "leave the row out")  # fmt: skip
        if animal in seen:
            raise DesignError("Each animal of a pedigree may stand once.", f"{animal!r} twice",
                              "leave one of the rows out")  # fmt: skip
        seen[animal] = None
    for parents in (sires, dams):
        seen |= dict.fromkeys(p for p in parents if not is_unknown(p))
    return list(seen)


def _generations(sire: IntArray, dam: IntArray, labels: Sequence[Any]) -> IntArray:
    """Generation of each animal (n,): one more than that of its youngest parent."""
    n = len(sire)
    level = np.zeros(n, np.int64)
    for _ in range(n + 1):
        above = np.where(sire >= 0, level[sire] + 1, 0)
        above = np.maximum(above, np.where(dam >= 0, level[dam] + 1, 0))
        if np.array_equal(above, level):
            return level
        level = above
        if level.max() > n:
            break
    worst = int(np.argmax(level))
    raise DesignError(
        "No animal of a pedigree may be its own ancestor.", f"{labels[worst]!r} is, or descends "
        "from one that is", "correct its sire or dam",
    )  # fmt: skip


def _sampling_variance(sire: IntArray, dam: IntArray, F: Array) -> Array:
    """Variance of the Mendelian sampling deviation of each animal."""
    return np.asarray(
        1.0
        - np.where(sire >= 0, 0.25 * (1.0 + F[sire]), 0.0)
        - np.where(dam >= 0, 0.25 * (1.0 + F[dam]), 0.0)
    )


def inbreeding(sire: IntArray, dam: IntArray, level: IntArray, most: int = 100_000_000) -> Array:
    """Coefficients of inbreeding (n,), one generation after the other.

    ``F = a_sd / 2`` and ``a_sd = sum_j l_sj l_dj D_j`` over the common ancestors j; row ``l_s`` of
    ``(I - T)^-1`` is that of an animal itself plus half those of its parents. Where these rows
    would hold more than ``most`` numbers, paths are traced pair by pair instead.
    """
    n = len(sire)
    F = np.zeros(n)
    is_parent = np.zeros(n, dtype=bool)
    is_parent[sire[sire >= 0]] = is_parent[dam[dam >= 0]] = True
    place = np.full(n, -1, np.int64)  # row of each parent in ``share``
    share = sparse.csr_array((0, n))
    D = np.ones(n)
    for generation in range(int(level.max(initial=0)) + 1):
        members = np.flatnonzero(level == generation)
        both = members[(sire[members] >= 0) & (dam[members] >= 0)]
        if len(both):
            pairs, back = np.unique(
                np.column_stack([place[sire[both]], place[dam[both]]]), axis=0, return_inverse=True
            )
            common = share[pairs[:, 0]].multiply(share[pairs[:, 1]])
            F[both] = 0.5 * np.asarray(sparse.csr_array(common) @ D)[back.ravel()]
        D[members] = _sampling_variance(sire[members], dam[members], F)
        parents = members[is_parent[members]]
        if not len(parents):
            continue
        rows = sparse.csr_array(
            (np.ones(len(parents)), (np.arange(len(parents)), parents)), shape=(len(parents), n)
        )
        for above in (sire[parents], dam[parents]):
            known = np.flatnonzero(above >= 0)
            if len(known):
                pick = sparse.csr_array(
                    (np.full(len(known), 0.5), (known, place[above[known]])),
                    shape=(len(parents), share.shape[0]),
                )
                rows = rows + pick @ share
        place[parents] = share.shape[0] + np.arange(len(parents))
        share = sparse.csr_array(sparse.vstack([share, rows]))
        if share.nnz > most:
            return traced_inbreeding(sire, dam, level)
    return F


def traced_inbreeding(sire: IntArray, dam: IntArray, level: IntArray) -> Array:
    """Coefficients of inbreeding (n,), by tracing the paths to the ancestors of each pair.

    ``F = a_ii - 1`` with ``a_ii = sum_j l_ij^2 D_j`` over the ancestors j, ``l`` the expected share
    of genes that come from j along all paths (Meuwissen & Luo 1992). Full sibs are done once.
    Needs the memory of one pair's ancestors only.
    """
    n = len(sire)
    order = np.argsort(level, kind="stable")
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    s_of, d_of, rank_of, order_of = sire.tolist(), dam.tolist(), rank.tolist(), order.tolist()
    F, D = [0.0] * n, [1.0] * n
    known: dict[tuple[int, int], float] = {}
    for animal in order_of:
        s, d = s_of[animal], d_of[animal]
        if s >= 0:
            D[animal] -= 0.25 * (1.0 + F[s])
        if d >= 0:
            D[animal] -= 0.25 * (1.0 + F[d])
        if s < 0 or d < 0:
            continue
        pair = (s, d) if s < d else (d, s)
        if pair not in known:
            known[pair] = _diagonal(s, d, s_of, d_of, rank_of, order_of, D) + D[animal] - 1.0
        F[animal] = known[pair]
    return np.array(F)


def _diagonal(
    s: int, d: int, sire: list[int], dam: list[int], rank: list[int], order: list[int],
    D: list[float],
) -> float:  # fmt: skip
    """``sum_j l_j^2 D_j`` over the ancestors of a child of s and d, the youngest first."""
    share: dict[int, float] = {}
    waiting: list[int] = []
    total = 0.0

    def add(animal: int, amount: float) -> None:
        if animal not in share:
            share[animal] = 0.0
            heappush(waiting, -rank[animal])
        share[animal] += amount

    add(s, 0.5)
    add(d, 0.5)
    while waiting:
        animal = order[-heappop(waiting)]
        amount = share.pop(animal)
        total += amount * amount * D[animal]
        if sire[animal] >= 0:
            add(sire[animal], 0.5 * amount)
        if dam[animal] >= 0:
            add(dam[animal], 0.5 * amount)
    return total
