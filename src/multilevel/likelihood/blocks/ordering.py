"""Order of elimination and size of the sparse factor of ``I + Lambda'Z'Z Lambda``.

A node of the graph is one level of one grouping factor; two nodes are joined when the levels
occur together in a row. Levels are ordered, not single random effects: the q columns of a level
have the same neighbours, so they stay together (``q`` enters as the weight of the node).

Three orders compete by predicted flops: the natural one (finest factor first; perfect for nested
factors); reverse Cuthill-McKee (Cuthill & McKee 1969; cheap); and minimum degree as found in
SciPy's SuperLU (J. W. H. Liu 1985, multiple minimum degree on ``A' + A``), read off an incomplete
factorisation that drops everything. Sizes come from column counts (Davis 2006, ch. 4.5), so no
factor is formed here, however large it would be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import spilu

from multilevel.likelihood.blocks import sparse_ldl
from multilevel.likelihood.blocks.cross_products import CrossProducts

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

DEFAULT_LIMIT = 200_000_000
"""Nonzeros of L above which the sparse engine is refused (16 bytes each, 24 with the inverse)."""

_TRIVIAL_FLOPS = 100_000.0
_LEAF_DEGREE = 6
# Minimum degree is slow exactly where it is of no use: on dense graphs and on large expanders.
_DENSE_DEGREE = 16.0
_HOPELESS_FLOPS = 1e12
_LARGEST_INDEX = np.iinfo(np.int32).max


@dataclass(frozen=True)
class LevelGraph:
    """The symmetric pattern of level against level, without the diagonal.

    Attributes
    ----------
    indptr, indices : compressed columns over all N levels, block after block.
    weight : (N,) random-effect columns of each level.
    starts : (n_blocks + 1,) first node of each block.
    """

    indptr: IntArray
    indices: IntArray
    weight: IntArray
    starts: IntArray

    @property
    def n_nodes(self) -> int:
        """Levels of all grouping factors."""
        return self.weight.size


@dataclass(frozen=True)
class SymbolicPlan:
    """What is known of the sparse factor before any number is computed.

    Attributes
    ----------
    n_unknowns : random effects of all factors, ``sum J_t q_t``.
    nnz_matrix : strict lower entries of the matrix itself.
    nnz_factor : strict lower entries of L (of the matrix, a lower bound, when even that
        exceeds ``limit`` and no order was sought).
    predicted_flops : ``sum_k c_k^2`` over the columns of L, the cost of one factorisation; with
        the selected inverse about three times that.
    limit : largest ``nnz_factor`` that is allowed.
    ordering : ``"natural"``, ``"bandwidth"``, ``"minimum degree"`` or ``"none"`` (too large).
    order : (N,) levels in order of elimination, as nodes of the level graph (postordered).
    parent : (N,) elimination tree in the labels of the order, -1 at roots.
    counts : (N,) rows of L per level's column block, its own q included.
    weight : (N,) random-effect columns per level, in the labels of the order.
    """

    n_unknowns: int
    nnz_matrix: int
    nnz_factor: int
    predicted_flops: float
    limit: int
    ordering: str
    order: IntArray = field(repr=False)
    parent: IntArray = field(repr=False)
    counts: IntArray = field(repr=False)
    weight: IntArray = field(repr=False)

    @property
    def is_within_limit(self) -> bool:
        """Whether the factor may be formed."""
        return self.nnz_factor <= self.limit

    @property
    def n_bytes(self) -> int:
        """Memory of factor, selected inverse and index arrays, roughly."""
        return 24 * self.nnz_factor + 48 * self.nnz_matrix + 96 * self.n_unknowns


def level_graph(products: CrossProducts) -> LevelGraph:
    """Which levels occur together, from the pair blocks of the cross-products."""
    sizes = products.sizes
    starts = np.concatenate([[0], np.cumsum([J for J, _ in sizes])]).astype(np.int64)
    rows, columns = [], []
    for (t, s), pair in products.pairs.items():
        J = sizes[t][0]
        rows.append(starts[t] + np.repeat(np.arange(J, dtype=np.int64), np.diff(pair.indptr)))
        columns.append(starts[s] + pair.indices)
    row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    column = np.concatenate(columns) if columns else np.empty(0, np.int64)
    n = int(starts[-1])
    ends = (np.concatenate([row, column]), np.concatenate([column, row]))
    pattern = sparse.csc_array((np.ones(2 * row.size, np.int8), ends), shape=(n, n))
    return LevelGraph(
        pattern.indptr.astype(np.int64),
        pattern.indices.astype(np.int64),
        np.repeat([q for _, q in sizes], [J for J, _ in sizes]).astype(np.int64),
        starts,
    )


@dataclass(frozen=True)
class ReducedGraph:
    """What is left of a level graph when the low-degree levels of the finest factor are gone.

    Levels of one factor never touch, so these are eliminated first in any sensible order; it
    makes the search for the rest ten times faster. ``pattern`` has ones off the diagonal.
    """

    leaves: IntArray
    rest: IntArray
    pattern: sparse.csc_array

    @property
    def mean_degree(self) -> float:
        """Mean number of neighbours."""
        return float(self.pattern.nnz / max(self.rest.size, 1))


def reduce_graph(graph: LevelGraph) -> ReducedGraph:
    """Eliminate the levels of the finest factor that touch at most six other levels."""
    n = graph.n_nodes
    full = sparse.csr_array(
        (np.ones(graph.indices.size), graph.indices, graph.indptr), shape=(n, n)
    )
    is_leaf = np.diff(graph.indptr) <= _LEAF_DEGREE
    is_leaf[graph.starts[1] :] = False
    leaves = np.flatnonzero(is_leaf).astype(np.int64)
    rest = np.flatnonzero(~is_leaf).astype(np.int64)
    below = full[leaves][:, rest]
    pattern = sparse.coo_array(full[rest][:, rest] + below.T @ below)
    off = pattern.row != pattern.col
    ends = (pattern.row[off], pattern.col[off])
    kept = sparse.csc_array((np.ones(int(off.sum())), ends), shape=pattern.shape)
    return ReducedGraph(leaves, rest, kept)


def bandwidth_order(reduced: ReducedGraph) -> IntArray:
    """Reverse Cuthill-McKee order of the reduced graph behind its leaves, (N,)."""
    rest = reverse_cuthill_mckee(sparse.csr_matrix(reduced.pattern), symmetric_mode=True)
    return np.concatenate([reduced.leaves, reduced.rest[rest]])


def minimum_degree_order(reduced: ReducedGraph) -> IntArray | None:
    """Minimum degree order behind the leaves, (N,), or None where SuperLU gives none.

    The matrix handed over is diagonally dominant and every off-diagonal entry is dropped, so the
    incomplete factorisation costs little more than the order itself. SuperLU counts in 32 bits
    and keeps its own memory limit: above either there is no order and another one stands.
    """
    n = reduced.rest.size
    if reduced.pattern.nnz + n > _LARGEST_INDEX:
        return None
    degree = np.diff(reduced.pattern.indptr).astype(np.float64)
    matrix = sparse.csc_array(sparse.diags_array(degree + 2.0) - reduced.pattern)
    matrix.indices = matrix.indices.astype(np.int32)
    matrix.indptr = matrix.indptr.astype(np.int32)
    try:
        incomplete = spilu(
            matrix,
            drop_tol=1.0,
            fill_factor=1,
            permc_spec="MMD_AT_PLUS_A",
            options={"SymmetricMode": True},
        )
    except (RuntimeError, MemoryError):
        return None
    rest = np.argsort(incomplete.perm_c)
    return np.concatenate([reduced.leaves, reduced.rest[rest]])


def symbolic(products: CrossProducts, limit: int = DEFAULT_LIMIT) -> SymbolicPlan:
    """Order the levels and predict the size and cost of the sparse factor.

    ``limit``: nonzeros of L above which ``is_within_limit`` is false. Time is about that of one
    sort of the pair blocks plus the minimum degree order, which is skipped when the natural
    order has no fill, when the problem is trivial, when the matrix alone exceeds ``limit``, and
    on graphs so dense or so badly connected that no order helps.
    """
    nnz_matrix = _matrix_entries(products)
    n_unknowns = sum(J * q for J, q in products.sizes)
    if nnz_matrix > limit:
        none = np.empty(0, np.int64)
        flops = nnz_matrix**2 / n_unknowns
        return SymbolicPlan(
            n_unknowns, nnz_matrix, nnz_matrix, flops, limit, "none", none, none, none, none
        )
    return symbolic_of(level_graph(products), nnz_matrix, limit)


def symbolic_of(graph: LevelGraph, nnz_matrix: int, limit: int = DEFAULT_LIMIT) -> SymbolicPlan:
    """``symbolic`` for a graph of levels; ``starts[1]`` nodes at its head touch no other of them.

    ``nnz_matrix``: strict lower entries of the matrix.
    """
    natural = np.arange(graph.n_nodes, dtype=np.int64)
    plan = _analyse(graph, natural, "natural", nnz_matrix, limit)
    if plan.nnz_factor == nnz_matrix or plan.predicted_flops < _TRIVIAL_FLOPS:
        return plan
    reduced = reduce_graph(graph)
    banded = _analyse(graph, bandwidth_order(reduced), "bandwidth", nnz_matrix, limit)
    plan = min(plan, banded, key=_flops)
    if reduced.mean_degree > _DENSE_DEGREE or plan.predicted_flops > _HOPELESS_FLOPS:
        return plan
    order = minimum_degree_order(reduced)
    if order is None:
        return plan
    return min(plan, _analyse(graph, order, "minimum degree", nnz_matrix, limit), key=_flops)


def _flops(plan: SymbolicPlan) -> float:
    return plan.predicted_flops


def _matrix_entries(products: CrossProducts) -> int:
    """Strict lower entries of the matrix."""
    own = sum(J * q * (q - 1) // 2 for J, q in products.sizes)
    return own + sum(pair.values.size for pair in products.pairs.values())


def _analyse(
    graph: LevelGraph, order: IntArray, name: str, nnz_matrix: int, limit: int
) -> SymbolicPlan:
    """Tree, postorder and counts of one order; the plan is labelled by the postorder."""
    place = _inverse(order)
    weight = graph.weight[order]
    parent = sparse_ldl.elimination_tree(graph.indptr, graph.indices, order, place)
    post = sparse_ldl.postorder(parent)
    counts = sparse_ldl.column_counts(
        graph.indptr, graph.indices, order, place, parent, post, weight
    )
    seat = np.append(_inverse(post), -1)  # the last entry keeps -1 at the roots
    counts, weight = counts[post], weight[post]
    below = counts - weight
    flops = 0.0
    for a in range(int(weight.max(initial=1))):
        lengths = np.where(a < weight, below + weight - 1 - a, 0).astype(np.float64)
        flops += float(lengths @ lengths)
    return SymbolicPlan(
        n_unknowns=int(weight.sum()),
        nnz_matrix=nnz_matrix,
        nnz_factor=int((weight * below + weight * (weight - 1) // 2).sum()),
        predicted_flops=flops,
        limit=limit,
        ordering=name,
        order=order[post],
        parent=seat[parent[post]],
        counts=counts,
        weight=weight,
    )


def _inverse(order: IntArray) -> IntArray:
    place = np.empty_like(order)
    place[order] = np.arange(order.size, dtype=np.int64)
    return place
