"""Clusters that look alike: rows at the same times, with the same random-effect columns.

Clusters of one pattern have the same covariance matrix, whatever its parameters are. All that the
likelihood needs of them is the sum of ``w_j w_j'`` with ``w_j`` the rows ``[X y]`` of cluster j
strung together (T m, T m). So an evaluation costs by pattern, not by cluster or row.

Only exactly equal clusters are put together. Source: sufficient statistics of the multivariate
normal by pattern, as for missing data in Jennrich & Schluchter 1986; own layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.residual_time import distance, is_markov
from multilevel.likelihood.residual.objective import StructuredProblem
from multilevel.likelihood.residual.whiten import variance_parts
from multilevel.model.covariance.correlation import CorrelationMap

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
SMALL = 200_000  # entries of the sums that are always affordable
RATIO = 10  # entries of the sums per entry of the rows, up to which sums are faster (measured)
LARGEST = 20_000_000  # entries of the sums: 160 MB


@dataclass(frozen=True)
class PatternStack:
    """Patterns of clusters with T rows, P of them.

    Attributes
    ----------
    counts : (P,) clusters of each pattern.
    sums : (P T^2, m^2); row ``(c, s, t)`` holds ``sum_j f_js f_jt'``, f the row ``[X y]``.
    Z : random-effect columns of each block, (P, T, q).
    together : per block (P, T, T): 1 where two rows share the level, else 0.
    A, fixed_log_sd : columns of the log variance (P, T, a), and what the weights add to the log
        standard deviation (P, T).
    index : (P, T, T) into the tables of correlations, then an entry 0 and an entry 1.
    """

    counts: Array
    sums: Array
    Z: tuple[Array, ...]
    together: tuple[Array, ...]
    A: Array
    fixed_log_sd: Array
    index: IntArray


@dataclass(frozen=True)
class PatternSums:
    """All patterns of one problem; ``maps`` are tabulated at every lag inside a cluster."""

    stacks: tuple[PatternStack, ...]
    maps: tuple[CorrelationMap, ...]

    @property
    def n_patterns(self) -> int:
        """Distinct patterns."""
        return sum(len(stack.counts) for stack in self.stacks)


@dataclass(frozen=True)
class _Rows:
    """Rows in the order of the clusters, and what makes two clusters look alike."""

    order: NDArray[np.intp]
    starts: IntArray
    unit: IntArray
    keys: Array


def find_patterns(problem: StructuredProblem) -> PatternSums | None:
    """Sums by pattern, or None where the clusters differ too much for them to be faster."""
    parts = variance_parts(problem.layout)
    rows = _by_cluster(problem, parts[0])
    counts = np.diff(rows.starts)
    m = problem.F.shape[1] - problem.n_random
    budget = min(max(RATIO * problem.F.size, SMALL), LARGEST)
    found = []
    for size in np.unique(counts):
        members = np.flatnonzero(counts == size)
        most = budget // (int(size) * m) ** 2
        where = rows.starts[members][:, None] + np.arange(size)
        pattern = None if most == 0 else _alike(rows.keys[where].reshape(len(members), -1), most)
        if pattern is None:
            return None
        budget -= (int(pattern.max()) + 1) * (int(size) * m) ** 2
        found.append((where, pattern))
    firsts = [where[np.unique(pattern, return_index=True)[1]] for where, pattern in found]
    maps, indices = _tables(problem, rows, firsts)
    stacks = [
        _stack(problem, parts, rows, where, pattern, first, index)
        for (where, pattern), first, index in zip(found, firsts, indices, strict=True)
    ]
    return PatternSums(tuple(stacks), maps)


def _by_cluster(problem: StructuredProblem, A: Array) -> _Rows:
    """Sorted rows put in the order of the coarsest grouping factor, and their keys."""
    layout, Q = problem.layout, problem.n_random
    unit = np.repeat(np.arange(len(layout.starts) - 1), np.diff(layout.starts))
    if problem.codes:
        order = np.argsort(problem.codes[-1], kind="stable")
        counts = np.bincount(problem.codes[-1], minlength=problem.levels[-1])
    else:
        order, counts = np.arange(problem.n), np.diff(layout.starts)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    first = np.repeat(starts[:-1], counts)
    parts = [problem.F[:, :Q][order], A[order]]
    if layout.weights is not None:
        parts.append(layout.weights[layout.order][order, None])
    if layout.maps:
        parts.append(_places(problem, unit)[order])
        parts.append(layout.group_of[unit][order, None].astype(np.float64))
    unit = unit[order]
    inside: list[NDArray[np.integer]] = [unit, *(c[order] for c in problem.codes[:-1])]
    for codes in inside:
        # which rows of a cluster belong together: the first row with the same code
        change = np.ones(len(codes), dtype=bool)
        change[1:] = (codes[1:] != codes[:-1]) | (first[1:] != first[:-1])
        start = np.flatnonzero(change)
        run = np.repeat(start, np.diff(np.append(start, len(codes))))
        parts.append((run - first)[:, None].astype(np.float64))
    return _Rows(order, starts, unit, np.hstack(parts) + 0.0)


def _places(problem: StructuredProblem, unit: IntArray) -> Array:
    """Coordinates of the sorted rows as far as they matter: lags depend on differences only."""
    layout = problem.layout
    place = layout.position[layout.order]
    structure = layout.maps[0].structure
    if structure in ("cs", "csh"):
        return np.zeros((len(place), 0))
    if len(layout.maps[0].lags) and np.all(place == np.rint(place)):
        return np.asarray(place - place[layout.starts[:-1]][unit])
    return place


def _alike(keys: Array, most: int) -> IntArray | None:
    """Number of the pattern of each row of ``keys`` (N, w); None beyond ``most`` patterns."""
    if keys.shape[1] == 0 or np.array_equal(keys, np.broadcast_to(keys[0], keys.shape)):
        return np.zeros(len(keys), dtype=np.int64)
    known: dict[bytes, int] = {}
    out = np.empty(len(keys), dtype=np.int64)
    for j, key in enumerate(keys):
        out[j] = known.setdefault(key.tobytes(), len(known))
        if len(known) > most:
            return None
    return out


def _tables(
    problem: StructuredProblem, rows: _Rows, firsts: Sequence[NDArray[np.intp]]
) -> tuple[tuple[CorrelationMap, ...], list[IntArray]]:
    """Maps over all lags inside clusters, and the entry of each pair of rows of each pattern."""
    layout = problem.layout
    units = [rows.unit[where] for where in firsts]
    apart = [u[:, :, None] != u[:, None, :] for u in units]
    if not layout.maps:
        plain = [np.broadcast_to(np.eye(a.shape[1], dtype=np.int64), a.shape) for a in apart]
        return (), plain
    first = layout.maps[0]
    place = layout.position[layout.order][rows.order]
    maps, lags = layout.maps, first.lags
    if len(lags) == 0:
        size = len(first.occasions) ** 2
        o = [place[where, 0].astype(np.int64) for where in firsts]
        indices = [a[:, :, None] * len(first.occasions) + a[:, None, :] for a in o]
    else:
        gaps = []
        for where, other in zip(firsts, apart, strict=True):
            gap = distance(place[where][:, :, None], place[where][:, None, :])
            if first.structure in ("cs", "csh"):
                gap = np.broadcast_to(1.0 - np.eye(where.shape[1]), gap.shape)
            gaps.append(np.where(other, 0.0, gap))
        if is_markov(layout.term, layout.position):
            lags = np.unique(np.concatenate([[0.0], *(gap.ravel() for gap in gaps)]))
            maps = tuple(replace(m, lags=lags) for m in maps)
        size = len(lags)
        indices = [np.searchsorted(lags, gap) for gap in gaps]
    out = []
    for index, u, other in zip(indices, units, apart, strict=True):
        shifted = index + layout.group_of[u][:, :, None] * size
        out.append(np.where(other, size * len(maps), shifted))
    return maps, out


def _stack(
    problem: StructuredProblem, parts: tuple[Array, Array], rows: _Rows, where: NDArray[np.intp],
    pattern: IntArray, first: NDArray[np.intp], index: IntArray,
) -> PatternStack:  # fmt: skip
    """The sums of the patterns of one size."""
    Q = problem.n_random
    size = where.shape[1]
    F = problem.F[:, Q:]
    m = F.shape[1]
    sorted_rows = rows.order[where]
    by_pattern = np.argsort(pattern, kind="stable")
    counts = np.bincount(pattern)
    sums = np.empty((len(counts), size, size, m, m))
    at = 0
    for c, count in enumerate(counts):
        members = by_pattern[at : at + count]
        block = F[sorted_rows[members]].reshape(count, size * m)
        sums[c] = (block.T @ block).reshape(size, m, size, m).transpose(0, 2, 1, 3)
        at += count
    own = rows.order[first]
    Z, together, start = [], [], 0
    for code, q in zip(problem.codes, problem.widths, strict=True):
        Z.append(problem.F[own, start : start + q])
        level = code[own]
        together.append((level[:, :, None] == level[:, None, :]).astype(np.float64))
        start += q
    return PatternStack(
        counts.astype(np.float64), sums.reshape(-1, m * m), tuple(Z), tuple(together),
        parts[0][own], parts[1][own], index,
    )  # fmt: skip
