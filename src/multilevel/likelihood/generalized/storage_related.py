r"""``H = A^-1 (x) I + Z~'WZ~`` of general random effects, dense or sparse.

Dense: with ``A = CC'`` and ``K = Z~'WZ~``, ``H^-1 = C (I + C'KC)^-1 C'``, which holds for a
singular A too; ``logdet`` is that of ``I + C'KC``. Sparse: with ``A^-1 = R'R``, ``H`` itself is
factorised, and ``logdet`` is ``log|H| + sum_t q_t log|A_t|``, the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import scipy.linalg as sl
from numpy.typing import NDArray
from scipy import sparse

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import sparse_ldl
from multilevel.likelihood.blocks.memory import free_memory
from multilevel.likelihood.blocks.ordering import LevelGraph, SymbolicPlan, symbolic_of
from multilevel.likelihood.blocks.row_kernels import add_weighted_gram
from multilevel.likelihood.blocks.sparse_layout import spread, unknown_tree, upper_triangle
from multilevel.likelihood.generalized.related_layout import RelatedLayout
from multilevel.likelihood.generalized.row_layout import RowLayout
from multilevel.likelihood.generalized.storage import (
    Storage,
    clique_pairs,
    natural_effects,
    ordered_places,
)
from multilevel.likelihood.generalized.storage_choice import (
    CHOLESKY_RATE,
    FACTORISATIONS,
    INVERSE_RATE,
    ROW_SECONDS,
    SPARSE_NONZEROS,
    SPARSE_RATE,
    StorageName,
    StoragePlan,
)
from multilevel.likelihood.generalized.storage_sparse import SparseStorage

Array = NDArray[np.float64]
Places = NDArray[np.int64]
FEW = 60  # random effects up to which one dense matrix is taken without looking further


class DenseRelatedStorage:
    """Dense Cholesky in the independent coordinates (``Storage``)."""

    name = "dense"

    def __init__(self, layout: RelatedLayout) -> None:
        N = self.order = layout.n_effects
        self.effects = natural_effects(layout.sizes)
        index = layout.index(self.effects).astype(np.int64)
        a, b = clique_pairs(index.shape[1])
        row = np.maximum(index[:, a], index[:, b])
        self.at_inverse: Places = np.ascontiguousarray(
            row * N + np.minimum(index[:, a], index[:, b])
        )
        self._spreads = [None if r is None else r.dense_spread() for r in layout.relations]
        self._sizes = layout.sizes
        bounds = np.cumsum([0, *(J * q for J, q in layout.sizes)])
        self._slices = [slice(int(i), int(j)) for i, j in pairwise(bounds)]
        free = [
            (J if C is None else C.shape[1]) * q
            for (J, q), C in zip(layout.sizes, self._spreads, strict=True)
        ]
        self.n_independent = sum(free)
        cuts = np.cumsum([0, *free])
        self._own = [slice(int(i), int(j)) for i, j in pairwise(cuts)]
        self._store = np.empty(N * N)
        self._factor: Array = np.empty((0, 0))
        self._inverse: Array | None = None
        self.logdet = float("nan")
        self.is_set = False

    def _push(self, X: Array, transpose: bool) -> Array:
        """``C'X`` (transpose, X by level) or ``C X`` (X by independent effect), all blocks."""
        if all(C is None for C in self._spreads):
            return X
        out = []
        places = self._slices if transpose else self._own
        for here, (_, q), C in zip(places, self._sizes, self._spreads, strict=True):
            piece = X[here]
            if C is not None:
                F = C.T if transpose else C
                k = X.shape[1]
                piece = (F @ piece.reshape(F.shape[1], q * k)).reshape(-1, k)
            out.append(piece)
        return np.concatenate(out)

    def factorise(self, Z: Array, W: Array) -> bool:
        """See ``Storage``."""
        self._inverse, self.is_set = None, False
        self._store.fill(0.0)
        add_weighted_gram(Z, W, self.at_inverse, self._store)
        lower = self._store.reshape(self.order, self.order)
        K = lower + np.tril(lower, -1).T
        M = self._push(np.ascontiguousarray(self._push(K, True).T), True)
        M.flat[:: M.shape[0] + 1] += 1.0
        factor, info = sl.lapack.dpotrf(M, lower=1, clean=1)
        if info != 0:
            return False
        self._factor = factor
        self.logdet = 2.0 * float(np.log(np.diag(factor)).sum())
        self.is_set = True
        return True

    def solve(self, right: Array) -> Array:
        """See ``Storage``."""
        flat = np.asarray(right, np.float64).reshape(right.shape[0], -1)
        inner, _ = sl.lapack.dpotrs(self._factor, self._push(flat, True), lower=1)
        return self._push(np.asarray(inner), False).reshape(right.shape)

    def inverse(self) -> Array:
        """See ``Storage``."""
        if self._inverse is None:
            whole = self._push(np.eye(self.order), True)
            half = sl.solve_triangular(self._factor, whole, lower=True, check_finite=False)
            self._inverse = np.asarray(half.T @ half).reshape(-1)
        return self._inverse

    def own_places(self, block: int) -> Places:
        """See ``Storage``."""
        return ordered_places(self.effects[block], self.order)

    def colour(self, noise: Array) -> Array:
        """``A noise`` (N, k), noise (n_independent, k)."""
        inner = sl.solve_triangular(self._factor, noise, lower=True, trans="T", check_finite=False)
        return np.ascontiguousarray(self._push(inner, False))


class SparseRelatedStorage(SparseStorage):
    """Sparse LDL' with the prior's precision in it (``Storage``)."""

    def __init__(self, layout: RelatedLayout, plan: SymbolicPlan, pairs: Sequence[_Pairs]) -> None:
        ends = np.concatenate([[0], np.cumsum(plan.weight)]).astype(np.int64)
        first = np.empty(plan.order.size, np.int64)
        first[plan.order] = ends[:-1]
        effects, begin = [], 0
        for J, q in layout.sizes:
            effects.append(first[begin : begin + J, None] + np.arange(q, dtype=np.int64))
            begin += J
        self.effects = tuple(effects)
        self.n_independent = plan.n_unknowns
        index = layout.index(self.effects).astype(np.int64)
        spans = [spread(e, e) for e in effects]
        spans += [spread(effects[t][g], effects[s][h]) for t, s, g, h in pairs]
        priors = [(effects[t][P.row], effects[t][P.col], P.data) for t, P in _precisions(layout)]
        spans += [(row, column) for row, column, _ in priors]
        a, b = clique_pairs(index.shape[1])
        spans.append((index[:, a], index[:, b]))
        self._Up, self._Ui, places = upper_triangle(spans, plan.n_unknowns)
        self._at = np.ascontiguousarray(places[-1])
        self._base = np.zeros(self._Ui.size)
        for at, relation in zip(places, layout.relations, strict=False):
            if relation is None:
                self._base[np.einsum("iig->ig", at).ravel()] = 1.0
        held = places[len(spans) - 1 - len(priors) : -1]
        for at, (_, _, values) in zip(held, priors, strict=True):
            self._base[at] = values[:, None]
        self._parent, self._Lp = unknown_tree(plan, ends)
        self._Li, slots = sparse_ldl.factor_pattern(self._Up, self._Ui, self._parent, self._Lp)
        self.at_inverse = np.ascontiguousarray(slots[self._at])
        own = places[: len(effects)]
        self._own = tuple(np.ascontiguousarray(slots[at].transpose(2, 0, 1)) for at in own)
        self._store = np.empty(self._Ui.size)
        self._Lx, self._D = np.empty(self._Li.size), np.empty(plan.n_unknowns)
        self._inverse = None
        self._log_det_A = sum(
            q * r.log_det
            for (_, q), r in zip(layout.sizes, layout.relations, strict=True)
            if r is not None
        )
        self.logdet = float("nan")
        self.is_set = False

    def _fill(self, Z: Array, W: Array) -> None:
        self._store[:] = self._base
        add_weighted_gram(Z, W, self._at, self._store)

    def factorise(self, Z: Array, W: Array) -> bool:
        """See ``Storage``."""
        done = super().factorise(Z, W)
        if done:
            self.logdet += self._log_det_A
        return done


_Pairs = tuple[int, int, Places, Places]


def _precisions(layout: RelatedLayout) -> list[tuple[int, sparse.coo_array]]:
    """Upper triangles of ``A_t^-1``, by block."""
    out = []
    for t, relation in enumerate(layout.relations):
        if relation is not None:
            R = relation.sparse_root()
            out.append((t, sparse.coo_array(sparse.triu(R.T @ R))))
    return out


def level_pairs(layout: RelatedLayout) -> list[_Pairs]:
    """``(t, s, levels, levels)`` of the blocks of ``H`` off its diagonal, each once."""
    loads = layout.level_loadings()
    priors = dict(_precisions(layout))
    out = []
    for t, one in enumerate(loads):
        for s in range(t, len(loads)):
            gram = sparse.coo_array(one.T @ loads[s])
            row, column = gram.row.astype(np.int64), gram.col.astype(np.int64)
            if s == t:
                if t in priors:
                    row = np.concatenate([row, priors[t].row.astype(np.int64)])
                    column = np.concatenate([column, priors[t].col.astype(np.int64)])
                J = layout.sizes[t][0]
                key = np.unique((row * J + column)[row < column])
                row, column = key // J, key % J
            if row.size:
                out.append((t, s, row, column))
    return out


def related_symbolic(
    layout: RelatedLayout, pairs: Sequence[_Pairs], limit: int = SPARSE_NONZEROS
) -> SymbolicPlan:
    """Order the levels of all factors and predict the size and cost of the factor."""
    starts = np.cumsum([0, *(J for J, _ in layout.sizes)])
    n = int(starts[-1])
    row = np.concatenate([np.empty(0, np.int64), *(starts[t] + g for t, _, g, _ in pairs)])
    column = np.concatenate([np.empty(0, np.int64), *(starts[s] + h for _, s, _, h in pairs)])
    ends = (np.concatenate([row, column]), np.concatenate([column, row]))
    pattern = sparse.csc_array((np.ones(2 * row.size, np.int8), ends), shape=(n, n))
    graph = LevelGraph(
        pattern.indptr.astype(np.int64),
        pattern.indices.astype(np.int64),
        np.repeat([q for _, q in layout.sizes], [J for J, _ in layout.sizes]).astype(np.int64),
        np.array([0, 0, n], dtype=np.int64),
    )
    nnz = sum(J * q * (q - 1) // 2 for J, q in layout.sizes)
    nnz += sum(layout.sizes[t][1] * layout.sizes[s][1] * g.size for t, s, g, _ in pairs)
    return symbolic_of(graph, nnz, limit)


def choose_related(layout: RelatedLayout, wanted: str | None = None) -> StoragePlan:
    """Dense or sparse, by predicted seconds; dense where a relation has no sparse inverse.

    Raises
    ------
    LikelihoodError : neither fits in memory, or the wanted one is not possible.
    """
    plans = []
    if wanted != "sparse":
        plans.append(_dense(layout))
    is_sparse = all(r is None or r.root is not None for r in layout.relations)
    if wanted == "sparse" or (is_sparse and wanted is None and layout.n_effects > FEW):
        plans.append(_sparse(layout))
    room = 0.5 * free_memory()
    fitting = [plan for plan in plans if plan.memory <= room]
    if not fitting:
        least = min(plan.memory for plan in plans)
        raise LikelihoodError(
            "The random effects of a generalized model must fit in half of the free memory.",
            f"{layout.n_effects:,} random effects need {least / 1e9:.1f} GB and {room / 1e9:.1f} "
            "GB are to be had",
            "use a machine with more memory, fewer levels, or a relation with a sparse inverse",
        )
    return min(fitting, key=lambda plan: plan.seconds)


def _plan(
    layout: RelatedLayout,
    name: StorageName,
    factor: float,
    inverse: float,
    memory: float,
    order: int,
    make: Callable[[RowLayout], Storage],
) -> StoragePlan:
    Q = layout.raw.shape[1]
    memory += 8.0 * layout.n * (Q * (Q + 1) / 2 + Q * (1 + layout.n_random))
    rows = max(layout.n * float(layout.n_random**2) * (1 + Q) * ROW_SECONDS / 2, 2e-5)
    sentence = (
        f"Laplace approximation for {layout.n_effects:,} random effects, rows with several levels "
        f"or levels that are correlated, all modes found together: one {name} matrix"
    )
    seconds = FACTORISATIONS * factor + inverse
    return StoragePlan(name, seconds, memory, order, factor / rows, make, sentence)


def _dense(layout: RelatedLayout) -> StoragePlan:
    N = layout.n_effects
    cube = float(N) ** 3
    pushed = 0.0 if all(r is None for r in layout.relations) else 4.0 * cube / INVERSE_RATE
    factor = cube / 3 / CHOLESKY_RATE + pushed
    inverse = 2.0 * cube / INVERSE_RATE
    return _plan(layout, "dense", factor, inverse, 48.0 * N**2, N, _make_dense)


def _make_dense(layout: RowLayout) -> DenseRelatedStorage:
    return DenseRelatedStorage(_general(layout))


def _general(layout: RowLayout) -> RelatedLayout:
    if not isinstance(layout, RelatedLayout):
        raise LikelihoodError("A layout with slots is needed.", "another one", "lay_out_related")
    return layout


def _sparse(layout: RelatedLayout) -> StoragePlan:
    pairs = level_pairs(layout)
    plan = related_symbolic(layout, pairs)
    factor = (plan.predicted_flops + 20.0 * plan.nnz_factor + 40.0 * plan.n_unknowns) / SPARSE_RATE
    memory = float(plan.n_bytes) if plan.is_within_limit else np.inf

    def make(rows: RowLayout) -> SparseRelatedStorage:
        return SparseRelatedStorage(_general(rows), plan, pairs)

    return _plan(layout, "sparse", factor, 2.0 * factor, memory, 0, make)
