"""Random effects beside residual units in two parts: a leaf by cluster, and a core that crosses.

Rows fall into clusters that hold whole residual units. The *leaf* are all factors whose levels lie
inside one cluster each: its part of the equations is block-diagonal by cluster. The *core* are the
other factors; a cluster touches few of their levels. Every row gets a local column for each of its
effects, so a cluster's rows are a dense matrix of leaf and core columns, padded with zeros.

The clusters are the units themselves or the levels of a factor that holds them, whichever makes an
evaluation cheapest. Own layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.residual.objective import StructuredProblem

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MOST_CORE = 5_000  # effects of the core: one dense matrix
MOST_LOCAL = 40_000_000  # entries of rows times local columns, and of clusters times their square


@dataclass(frozen=True)
class Homes:
    """Where the levels of one block stand: ``column`` (P,) is the first local column of ``level``
    in ``cluster``; one entry for each level of a leaf block."""

    cluster: IntArray
    column: IntArray
    level: IntArray


@dataclass(frozen=True)
class Stack:
    """Clusters with T rows each: ``rows`` (N, T) sorted rows, ``clusters`` (N,).

    ``is_all`` : all rows and clusters there are, in their order, so nothing need be copied.
    """

    rows: IntArray
    clusters: IntArray
    is_all: bool

    def take(self, values: Array) -> Array:
        """Rows of ``values`` (n, a): (N, T, a)."""
        if self.is_all:
            return values.reshape(*self.rows.shape, values.shape[1])
        return np.asarray(values[self.rows])


@dataclass(frozen=True)
class ArrowLayout:
    """Clusters, local columns and their meaning.

    Attributes
    ----------
    n_clusters : C.
    leaf, core : block numbers.
    slots : per leaf block the number of its levels that a cluster has room for.
    n_leaf, n_core : local columns Q and K.
    columns : per block (n,) first local column of each sorted row; core columns follow the leaf's.
    homes : per block where its levels stand; core columns count from the first of the core.
    index : (C, K) effect of the core behind each local column; ``n_effects`` where there is none.
    starts : per core block its first effect, then the number of effects of the core.
    stacks : the clusters by number of rows.
    """

    n_clusters: int
    leaf: tuple[int, ...]
    core: tuple[int, ...]
    slots: tuple[int, ...]
    n_leaf: int
    n_core: int
    columns: tuple[IntArray, ...]
    homes: tuple[Homes, ...]
    index: IntArray
    starts: tuple[int, ...]
    stacks: tuple[Stack, ...]

    @property
    def n_effects(self) -> int:
        """Effects of the core."""
        return self.starts[-1]

    def local(self, problem: StructuredProblem, rows: Array) -> Array:
        """Rows ``[Z X y]`` with Z in local columns: (n, Q + K + m)."""
        own = problem.n_random
        out = np.zeros((len(rows), self.n_leaf + self.n_core + rows.shape[1] - own))
        out[:, self.n_leaf + self.n_core :] = rows[:, own:]
        at, each = 0, np.arange(len(rows))
        for first, q in zip(self.columns, problem.widths, strict=True):
            for a in range(q):
                out[each, first + a] = rows[:, at + a]
            at += q
        return out

    def times(self, rows: Array, coefficients: Array) -> Array:
        """Row i of ``rows`` (n, a) times the coefficients (C, a, b) of its cluster: (n, b)."""
        out = np.empty((len(rows), coefficients.shape[2]))
        for stack in self.stacks:
            if stack.is_all:
                return np.asarray(stack.take(rows) @ coefficients).reshape(out.shape)
            out[stack.rows] = stack.take(rows) @ coefficients[stack.clusters]
        return out

    def squares(self, rows: Array, right: Array) -> Array:
        """``rows' right`` by cluster, for (n, a) and (n, b): (C, a, b)."""
        out = np.empty((self.n_clusters, rows.shape[1], right.shape[1]))
        for stack in self.stacks:
            out[stack.clusters] = stack.take(rows).transpose(0, 2, 1) @ stack.take(right)
        return out


@dataclass(frozen=True)
class _Division:
    """Clusters, and which blocks lie inside them."""

    cluster: IntArray
    n_clusters: int
    leaf: tuple[int, ...]
    core: tuple[int, ...]
    slots: tuple[int, ...]
    n_leaf: int
    n_core: int
    n_effects: int

    @property
    def entries(self) -> float:
        """Of the largest arrays."""
        width = self.n_leaf + self.n_core
        return float(max(len(self.cluster) * width, self.n_clusters * width * width))

    @property
    def work(self) -> float:
        """Operations of one evaluation, roughly."""
        width = float(self.n_leaf + self.n_core)
        by_cluster = self.n_leaf**3 + 30.0 * self.n_core**2
        return (
            len(self.cluster) * width**2 + self.n_clusters * by_cluster + self.n_effects**3 / 10.0
        )


def _first_of(codes: NDArray[np.integer], of: NDArray[np.integer], size: int) -> IntArray | None:
    """Value of ``of`` for each code where it is the same for all rows of the code, else None."""
    home = np.zeros(size, dtype=np.int64)
    home[codes] = of
    return home if np.array_equal(home[codes], of) else None


def _slots(
    cluster: IntArray, code: NDArray[np.integer], J: int, n_clusters: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Pairs of cluster and level that occur: cluster, level, number within the cluster; then the
    pair of each row."""
    keys, row = np.unique(cluster * J + code, return_inverse=True)
    home, level = keys // J, keys % J
    start = np.searchsorted(home, np.arange(n_clusters))
    return home, level, np.arange(len(keys)) - start[home], row.reshape(-1)


def _divide(problem: StructuredProblem, cluster: IntArray) -> _Division:
    C = int(cluster.max()) + 1
    leaf, core, slots = [], [], []
    touched = np.zeros(C, dtype=np.int64)
    for t, (code, J, q) in enumerate(
        zip(problem.codes, problem.levels, problem.widths, strict=True)
    ):
        home = _first_of(code, cluster, J)
        if home is not None:
            leaf.append(t)
            present = np.unique(code)
            slots.append(int(np.bincount(home[present], minlength=C).max()))
            continue
        core.append(t)
        pairs = np.unique(cluster * J + code) // J
        touched += np.bincount(pairs, minlength=C) * q
    n_leaf = sum(s * problem.widths[t] for s, t in zip(slots, leaf, strict=True))
    n_effects = sum(problem.levels[t] * problem.widths[t] for t in core)
    return _Division(
        cluster, C, tuple(leaf), tuple(core), tuple(slots), n_leaf, int(touched.max()), n_effects
    )


def _divisions(problem: StructuredProblem) -> list[_Division]:
    """By the units, and by each factor that holds whole units."""
    counts = np.diff(problem.layout.starts)
    unit = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    holding = [c for c in problem.codes if _first_of(unit, c, len(counts)) is not None]
    found = [np.unique(c, return_inverse=True)[1].reshape(-1) for c in holding]
    return [_divide(problem, c.astype(np.int64)) for c in (unit, *found)]


def divided(problem: StructuredProblem) -> _Division | None:
    """The cheapest division that fits, or None."""
    fits = [d for d in _divisions(problem) if d.entries <= MOST_LOCAL and d.n_effects <= MOST_CORE]
    return min(fits, key=lambda d: d.work) if fits else None


def core_of(problem: StructuredProblem) -> int:
    """Effects of the smallest core that any division leaves."""
    return min(d.n_effects for d in _divisions(problem))


def arrow_layout(problem: StructuredProblem) -> ArrowLayout | None:
    """Lay the random effects out, or None where neither division fits the limits."""
    division = divided(problem)
    if division is None:
        return None
    C, cluster = division.n_clusters, division.cluster
    columns: list[IntArray] = [np.zeros(0, np.int64)] * len(problem.codes)
    homes: list[Homes] = [Homes(*(np.zeros(0, np.int64),) * 3)] * len(problem.codes)
    at = 0
    for t, room in zip(division.leaf, division.slots, strict=True):
        q = problem.widths[t]
        home, level, slot, row = _slots(cluster, problem.codes[t], problem.levels[t], C)
        columns[t], homes[t] = at + slot[row] * q, Homes(home, at + slot * q, level)
        at += room * q
    starts = np.cumsum([0, *(problem.levels[t] * problem.widths[t] for t in division.core)])
    index = np.full((C, division.n_core), int(starts[-1]), dtype=np.int64)
    used = np.zeros(C, dtype=np.int64)
    for t, start in zip(division.core, starts[:-1], strict=True):
        q = problem.widths[t]
        home, level, slot, row = _slots(cluster, problem.codes[t], problem.levels[t], C)
        place = used[home] + slot * q
        columns[t], homes[t] = at + place[row], Homes(home, place, level)
        for a in range(q):
            index[home, place + a] = start + level * q + a
        used += np.bincount(home, minlength=C) * q
    return ArrowLayout(
        C, division.leaf, division.core, division.slots, division.n_leaf, division.n_core,
        tuple(columns), tuple(homes), index, tuple(int(s) for s in starts), _stacks(cluster, C),
    )  # fmt: skip


def _stacks(cluster: IntArray, n_clusters: int) -> tuple[Stack, ...]:
    order = np.argsort(cluster, kind="stable")
    counts = np.bincount(cluster, minlength=n_clusters)
    first = np.cumsum(counts) - counts
    out = []
    for size in np.unique(counts):
        members = np.flatnonzero(counts == size)
        rows = order[first[members][:, None] + np.arange(size)]
        is_all = rows.size == len(cluster) and np.array_equal(rows.ravel(), np.arange(rows.size))
        out.append(Stack(rows, members, is_all))
    return tuple(out)


def leaf_factor(layout: ArrowLayout, widths: Sequence[int], factors: Sequence[Array]) -> Array:
    """Relative factor of all leaf columns of a cluster, block-diagonal: (Q, Q)."""
    out, at = np.zeros((layout.n_leaf, layout.n_leaf)), 0
    for t, room in zip(layout.leaf, layout.slots, strict=True):
        size = room * widths[t]
        out[at : at + size, at : at + size] = np.kron(np.eye(room), factors[t])
        at += size
    return out
