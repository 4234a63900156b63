r"""Traces ``tr(K E_c K E_d)`` of ``K = Z'V^-1 Z`` without the rows, and without all of K.

``K`` vanishes between levels that no chain of shared rows connects: each top-level unit of a
nested design is a component of its own. So one product ``K C`` reads one column of *every*
component at once, and the number of products is the size of the largest component, not of the
design. All that is kept per pair of factors is a Gram of the elements of the blocks.
Source: own derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from multilevel.errors import InferenceError
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.related.engine import RelatedEngine

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
#: Products times random effects that stay within minutes (20,000 crossed random effects).
MAX_WORK = 4e8
COLUMNS_AT_ONCE = 64


@dataclass(frozen=True)
class Components:
    """Connected parts of a design.

    Attributes
    ----------
    ranks : per block (J_t,) position of each level among those of its block and component.
    depths : per block, the largest number of levels in one component.
    """

    ranks: tuple[IntArray, ...]
    depths: tuple[int, ...]


def components_of(cross: CrossProducts) -> Components:
    """Find the connected components of the levels of all factors."""
    counts = [J for J, _ in cross.sizes]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for (t, s), pair in cross.pairs.items():
        rows.append(starts[t] + np.repeat(np.arange(counts[t]), np.diff(pair.indptr)))
        columns.append(starts[s] + pair.indices)
    i, j = np.concatenate(rows), np.concatenate(columns)
    N = int(starts[-1])
    graph = sparse.csr_matrix((np.ones(len(i)), (i, j)), shape=(N, N))
    labels = np.asarray(connected_components(graph, directed=False)[1])
    ranks, depths = [], []
    for t, J in enumerate(counts):
        own = labels[starts[t] : starts[t] + J]
        order = np.argsort(own, kind="stable")
        ordered = own[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        lengths = np.diff(np.r_[first, J])
        rank = np.empty(J, dtype=np.int64)
        rank[order] = np.arange(J) - np.repeat(first, lengths)
        ranks.append(rank)
        depths.append(int(lengths.max(initial=0)))
    return Components(tuple(ranks), tuple(depths))


def check_work(sizes: Sequence[tuple[int, int]], components: Components) -> None:
    """Refuse designs whose traces would take longer than minutes, with the numbers."""
    N = sum(J * q for J, q in sizes)
    columns = sum(d * q for d, (_, q) in zip(components.depths, sizes, strict=True))
    if float(N) * columns > MAX_WORK:
        raise InferenceError(
            "Kenward-Roger needs the information of every pair of connected random effects.",
            f"{N} random effects, {columns} of them connected: {float(N) * columns:.1e} pairs,"
            f" more than {MAX_WORK:.0e}",
            "write df='satterthwaite', which needs no pairs",
        )


def pair_grams(engine: GaussianEngine, cross: CrossProducts) -> dict[tuple[int, int], Array]:
    """``S_ts[a, b, c, d] = sum_gh K_gh[a, b] K_gh[c, d]`` over levels g of t and h of s.

    Raises
    ------
    InferenceError : an engine that is not exact, or too much work (see ``check_work``).
    """
    if not engine.exact:
        raise InferenceError(
            "Kenward-Roger needs an exact engine.",
            f"the {engine.name} engine, which this design's size asks for",
            "write df='satterthwaite'",
        )
    sizes, K = cross.sizes, cross.n_blocks
    is_coupled = isinstance(engine, RelatedEngine)  # every level may meet every other
    if isinstance(engine, RelatedEngine):
        sizes = engine.independent_sizes
    if K == 1 and not is_coupled:
        G = engine.information_blocks(0)
        q = G.shape[1]
        flat = G.reshape(len(G), q * q)
        return {(0, 0): (flat.T @ flat).reshape(q, q, q, q)}
    components = components_of(cross)
    if is_coupled:
        components = Components(tuple(np.arange(J) for J, _ in sizes), tuple(J for J, _ in sizes))
    check_work(sizes, components)
    out = {(t, s): np.zeros((sizes[t][1], sizes[s][1]) * 2) for t in range(K) for s in range(K)}
    for s, (_, q) in enumerate(sizes):
        step = max(1, COLUMNS_AT_ONCE // q)
        for start in range(0, components.depths[s], step):
            k = min(step, components.depths[s] - start)
            products = engine.information_product(_units(sizes, components.ranks[s], s, start, k))
            for t in range(s + 1):
                J, qt = sizes[t]
                M = products[t].reshape(J, qt, k, q).transpose(0, 2, 1, 3).reshape(J * k, qt * q)
                out[t, s] += (M.T @ M).reshape(qt, q, qt, q)
    for t in range(K):
        for s in range(t):
            out[t, s] = out[s, t].transpose(1, 0, 3, 2)
    return out


def _units(
    sizes: tuple[tuple[int, int], ...], ranks: IntArray, block: int, start: int, k: int
) -> list[Array]:
    """Coefficients that pick levels of rank ``start .. start + k`` of a block, each column."""
    q = sizes[block][1]
    out = [np.zeros((J, qt, k * q)) for J, qt in sizes]
    here = np.flatnonzero((ranks >= start) & (ranks < start + k))
    for b in range(q):
        out[block][here, b, (ranks[here] - start) * q + b] = 1.0
    return out


def trace(grams: dict[tuple[int, int], Array], t: int, E: Array, s: int, F: Array) -> float:
    """``tr(K E K F)`` with ``E`` on every level of block t and ``F`` on every level of s."""
    return float(np.einsum("abcd,ac,bd->", grams[t, s], E, F))
