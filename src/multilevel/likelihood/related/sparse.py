r"""General random effects with one sparse LDL': pedigrees, and rows with few levels each.

In b, with ``P = A^-1 = R'R`` and ``c = F^-1 b``,

    M = P (x) I + F'Z'Z F,      log|V| = log|M| + sum_t q_t log|A_t|
    c = M^-1 F'Z'R_,            (A (x) Psi) Z'V^-1 R_ = F c,     Var(b|y)/sigma2 = F M^-1 F'
    Z~_t'V^-1 R_ = F_t^-T (R_t (x) I) c_t                       (independent coordinates)
    sum_g (Z~_t'V^-1 Z~_t)_gg = F_t^-T sum_{g,s,h} (M^-1)_{tg,sh} F_s'(Z'Z)_{sh,tg}

The last needs ``M^-1`` on the pattern of M only (Takahashi). ``Lambda_t`` is replaced by
``F_t = U_t S_t`` with floored singular values, as in ``gaussian.sparse``, so that one set of
formulas serves singular factors too. Sources: as there; Henderson 1976 for P; Misztal & Perez-
Enciso 1993 (Journal of Dairy Science 76:1479) for REML by the sparse inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import sparse_ldl
from multilevel.likelihood.blocks.ordering import LevelGraph, SymbolicPlan, symbolic_of
from multilevel.likelihood.blocks.sparse_layout import spread, unknown_tree, upper_triangle
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.related.products import RelatedProducts

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
_FLOOR = 1e-10
SPARSE_LIMIT = 60_000_000  # nonzeros of the factor


@dataclass(frozen=True)
class _Pairs:
    """Blocks of the matrix between levels of factors t and s (g < h where t = s).

    ``rows, columns`` (K,): the levels; ``values`` (q_t, q_s, K) of ``Z'Z``; ``prior`` (K,) of P, or
    None; ``is_own``: whether these are the diagonal blocks of t.
    """

    t: int
    s: int
    rows: IntArray
    columns: IntArray
    values: Array
    prior: Array | None
    is_own: bool


@dataclass(frozen=True)
class _Layout:
    """The permuted matrix and its factor as patterns (see ``gaussian.sparse``)."""

    effects: tuple[IntArray, ...]
    positions: tuple[IntArray, ...]
    Up: IntArray
    Ui: IntArray
    parent: IntArray
    Lp: IntArray
    Li: IntArray
    slots: IntArray


def level_pairs(products: RelatedProducts) -> list[_Pairs]:
    """All blocks of ``P (x) I + Z'Z``: per factor the diagonal ones, the others; then by pair."""
    out: list[_Pairs] = []
    if products.gram is None:
        return out
    sizes, slices = products.sizes, products.slices
    for t, (J, q) in enumerate(sizes):
        relation = products.relations[t]
        prior = np.ones(J)
        key, values = _keyed(products.gram[slices[t], slices[t]], q, q, J)
        above = key // J < key % J
        if relation is None:
            key, values = key[above], values[above]
            off = None
        else:
            root = relation.sparse_root()
            P = sparse.coo_array(sparse.csr_array(root.T @ root))
            prior = np.zeros(J)
            on = P.row == P.col
            prior[P.row[on]] = P.data[on]
            upper = P.row < P.col
            own_key = P.row[upper].astype(np.int64) * J + P.col[upper]
            union = np.union1d(key[above], own_key)
            wide = np.zeros((len(union), q, q))
            wide[np.searchsorted(union, key[above])] = values[above]
            off = np.zeros(len(union))
            off[np.searchsorted(union, own_key)] = P.data[upper]
            key, values = union, wide
        every = np.arange(J, dtype=np.int64)
        out.append(_Pairs(t, t, every, every, _levels_last(products.own[t]), prior, True))
        out.append(_Pairs(t, t, key // J, key % J, _levels_last(values), off, False))
        for s in range(t + 1, len(sizes)):
            K, r = sizes[s]
            key, values = _keyed(products.gram[slices[t], slices[s]], q, r, K)
            out.append(_Pairs(t, s, key // K, key % K, _levels_last(values), None, False))
    return [p for p in out if len(p.rows)]


def _keyed(part: sparse.csr_array, q: int, r: int, columns: int) -> tuple[IntArray, Array]:
    """Keys ``row * columns + column`` of the level blocks of a matrix, ascending; values."""
    blocks = sparse.bsr_array(part, blocksize=(q, r))
    blocks.sort_indices()
    row = np.repeat(np.arange(blocks.indptr.size - 1, dtype=np.int64), np.diff(blocks.indptr))
    return row * columns + blocks.indices, np.asarray(blocks.data)


def _levels_last(values: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(values, 0, 2), np.float64)


def related_symbolic(products: RelatedProducts, pairs: Sequence[_Pairs], limit: int) -> (
    SymbolicPlan
):  # fmt: skip
    """Order the levels of all factors and predict the size and cost of the factor."""
    starts = np.cumsum([0, *(J for J, _ in products.sizes)])
    n = int(starts[-1])
    off = [p for p in pairs if not p.is_own]
    row = np.concatenate([starts[p.t] + p.rows for p in off])
    column = np.concatenate([starts[p.s] + p.columns for p in off])
    ends = (np.concatenate([row, column]), np.concatenate([column, row]))
    pattern = sparse.csc_array((np.ones(2 * row.size, np.int8), ends), shape=(n, n))
    weight = np.repeat([q for _, q in products.sizes], [J for J, _ in products.sizes])
    graph = LevelGraph(
        pattern.indptr.astype(np.int64),
        pattern.indices.astype(np.int64),
        weight.astype(np.int64),
        np.array([0, 0, n], dtype=np.int64),
    )
    nnz = sum(J * q * (q - 1) // 2 for J, q in products.sizes) + sum(p.values.size for p in off)
    return symbolic_of(graph, nnz, limit)


def symbolic_phase(
    products: RelatedProducts, limit: int = SPARSE_LIMIT
) -> tuple[list[_Pairs], SymbolicPlan]:
    """Blocks and plan of the factor, made once for a design."""
    if "plan" not in products.kept:
        pairs = level_pairs(products)
        products.kept["plan"] = (pairs, related_symbolic(products, pairs, limit))
    found: tuple[list[_Pairs], SymbolicPlan] = products.kept["plan"]
    return found


class SparseRelatedEngine(GaussianEngine):
    """Sparse engine for any random effects (``RelatedEngine``).

    Raises
    ------
    LikelihoodError : when the factor would exceed ``limit`` nonzeros.
    """

    name = "related, sparse"
    exact = True
    couples_levels = True

    def __init__(self, products: RelatedProducts, limit: int = SPARSE_LIMIT) -> None:
        self.products = products
        self._pairs, self.plan = symbolic_phase(products, limit)
        if not self.plan.is_within_limit:
            raise LikelihoodError(
                "The sparse factor of the random effects must fit its limit.",
                f"at least {self.plan.nnz_factor:,} nonzeros; the limit is {limit:,}",
                "leave engine out, or drop the grouping factor with the most levels",
            )
        if "layout" not in products.kept:
            products.kept["layout"] = self._lay_out()
        self._layout: _Layout = products.kept["layout"]
        self._rhs = np.concatenate([r.reshape(-1, products.n_columns) for r in products.rhs])
        largest = [np.sqrt(max(float(a.max()), 1e-200)) for a in products.own]
        self._lowest = [_FLOOR / size for size in largest]
        roots = products.relations
        self._log_det_A = sum(
            q * r.log_det for (_, q), r in zip(products.sizes, roots, strict=True) if r is not None
        )
        self._Ux = np.empty(self._layout.Ui.size)
        self._Lx = np.empty(self._layout.Li.size)
        self._D = np.empty(self._layout.parent.size)
        self.n_evaluations = 0
        self.T: Array = products.total
        self.logdet = 0.0
        self._bases: list[tuple[Array, Array]] = []
        self._factors: list[Array] = []
        self._clear()

    @property
    def independent_sizes(self) -> tuple[tuple[int, int], ...]:
        """``(J_t, q_t)`` by block: independent levels, columns."""
        return tuple(self.products.sizes)

    def _clear(self) -> None:
        self._forward: Array | None = None
        self._solution: Array | None = None
        self._inverse: Array | None = None

    def _lay_out(self) -> _Layout:
        plan, sizes = self.plan, self.products.sizes
        ends = np.concatenate([[0], np.cumsum(plan.weight)]).astype(np.int64)
        first = np.empty(plan.order.size, np.int64)
        first[plan.order] = ends[:-1]
        effects, begin = [], 0
        for J, q in sizes:
            effects.append(first[begin : begin + J, None] + np.arange(q, dtype=np.int64))
            begin += J
        spans = [spread(effects[p.t][p.rows], effects[p.s][p.columns]) for p in self._pairs]
        Up, Ui, positions = upper_triangle(spans, plan.n_unknowns)
        parent, Lp = unknown_tree(plan, ends)
        Li, slots = sparse_ldl.factor_pattern(Up, Ui, parent, Lp)
        return _Layout(tuple(effects), tuple(positions), Up, Ui, parent, Lp, Li, slots)

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set the relative factors and factorise M.

        Raises ``LikelihoodError`` for a pivot that is not positive and finite.
        """
        self._clear()
        self._bases = []
        for factor, lowest in zip(factors, self._lowest, strict=True):
            U, S, _ = np.linalg.svd(np.asarray(factor, np.float64))
            self._bases.append((U, np.maximum(S, lowest)))
        self._factors = [U * S for U, S in self._bases]
        layout = self._layout
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends in a bad pivot
            for p, at in zip(self._pairs, layout.positions, strict=True):
                values = np.einsum(
                    "ac,abk,bd->cdk", self._factors[p.t], p.values, self._factors[p.s],
                    optimize=True,
                )  # fmt: skip
                if p.prior is not None:
                    values += np.eye(values.shape[0])[:, :, None] * p.prior
                self._Ux[at] = values
        failed = sparse_ldl.factorise(
            layout.Up, layout.Ui, self._Ux, layout.parent, layout.Lp, layout.Li, self._Lx, self._D
        )
        if failed >= 0:
            raise LikelihoodError(
                "Every pivot of the random-effects matrix must be positive and finite.",
                f"pivot {self._D[failed]:.3g}",
                "rescale the columns of the random effects, or start from smaller variances",
            )
        forward = self._into_order(self._rhs)
        sparse_ldl.solve_forward(layout.Lp, layout.Li, self._Lx, forward)
        self._forward = forward
        T = self.products.total - forward.T @ (forward / self._D[:, None])
        self.T = (T + T.T) / 2.0
        self.logdet = float(np.log(self._D).sum()) + self._log_det_A
        self.n_evaluations += 1

    # -- solves --------------------------------------------------------------------------------

    def _into_order(self, R: Array) -> Array:
        """``F'R`` in the order of elimination, for R (Q, k)."""
        out = np.empty_like(R)
        pieces = zip(self._factors, self.products.slices, self._layout.effects, strict=True)
        for F, where, effects in pieces:
            J, q = effects.shape
            out[effects.ravel()] = (F.T @ R[where].reshape(J, q, -1)).reshape(J * q, -1)
        return out

    def _solve(self, X: Array) -> Array:
        """``M^-1 X`` in the order of elimination; overwrites X."""
        layout = self._layout
        sparse_ldl.solve_forward(layout.Lp, layout.Li, self._Lx, X)
        X /= self._D[:, None]
        sparse_ldl.solve_backward(layout.Lp, layout.Li, self._Lx, X)
        return X

    def _solved(self) -> Array:
        """``c = M^-1 F'Z'W``."""
        if self._solution is None:
            if self._forward is None:
                raise LikelihoodError(
                    "The engine must be factorised before its products are read.",
                    "no factorisation",
                    "call factorise(factors) first",
                )
            solution = self._forward / self._D[:, None]
            layout = self._layout
            sparse_ldl.solve_backward(layout.Lp, layout.Li, self._Lx, solution)
            self._solution = solution
        return self._solution

    def _independent(self, block: int, c: Array) -> Array:
        """``F_t^-T (R_t (x) I) c_t`` by level: (J_t, q_t, k)."""
        J, q = self.products.sizes[block]
        U, S = self._bases[block]
        picked = c[self._layout.effects[block].ravel()]
        relation = self.products.relations[block]
        if relation is not None:
            picked = relation.whiten(picked.reshape(J, -1))
        return np.asarray((U / S) @ picked.reshape(J, q, -1))

    def _effects(self, block: int, c: Array) -> Array:
        """``F_t c_t`` by level: (J_t, q_t, k)."""
        effects = self._layout.effects[block]
        J, q = effects.shape
        return np.asarray(self._factors[block] @ c[effects.ravel()].reshape(J, q, -1))

    def cross(self, block: int) -> Array:
        """``Z~_t'V^-1 W`` by independent level: (J_t, q_t, m)."""
        return self._independent(block, self._solved())

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z~'V^-1 Z~ C`` by block; ``C_t`` is (J_t, q_t, k)."""
        parts = []
        for C, relation in zip(coefficients, self.products.relations, strict=True):
            J, q, k = C.shape
            flat = C.reshape(J, q * k)
            levels = flat if relation is None else relation.colour(flat)
            parts.append(levels.reshape(J * q, k))
        if self.products.gram is None:
            raise LikelihoodError("A Gram matrix is needed.", "none", "use related_products")
        X = self._solve(self._into_order(np.asarray(self.products.gram @ np.concatenate(parts))))
        return [self._independent(t, X) for t in range(len(parts))]

    def solution(self, block: int) -> Array:
        """``(A (x) Psi) Z_t'V^-1 W`` by level, in b: (J_t, q_t, m)."""
        return self._effects(block, self._solved())

    def posterior_product(self, loadings: Sequence[Array]) -> list[Array]:
        """``Var(b | y) X / sigma2`` for X by block in b, (J_t, q_t, k); the same shapes."""
        k = loadings[0].shape[2]
        X = self._solve(self._into_order(np.concatenate([x.reshape(-1, k) for x in loadings])))
        return [self._effects(t, X) for t in range(len(loadings))]

    # -- selected inverse ----------------------------------------------------------------------

    def _entries(self, index: int) -> Array:
        """``M^-1`` on the blocks of a pair: (q_t, q_s, K)."""
        layout = self._layout
        if self._inverse is None:
            self._solved()
            inverse = np.empty(layout.Li.size + layout.parent.size)
            sparse_ldl.selected_inverse(layout.Lp, layout.Li, self._Lx, self._D, inverse)
            self._inverse = inverse
        return self._inverse[layout.slots[layout.positions[index]]]

    def posterior_blocks(self, block: int) -> Array:
        """``Var(b_g | y) / sigma2`` by level: (J_t, q_t, q_t)."""
        index = next(i for i, p in enumerate(self._pairs) if p.is_own and p.t == block)
        F = self._factors[block]
        return np.asarray(np.einsum("ac,cdk,bd->kab", F, self._entries(index), F, optimize=True))

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z~_t'V^-1 Z~_t)_gg``: (q_t, q_t)."""
        q = self.products.sizes[block][1]
        total = np.zeros((q, q))
        for index, p in enumerate(self._pairs):
            if block not in (p.t, p.s):
                continue
            E, V = self._entries(index), p.values
            if p.t == block:
                total += _chain(E, self._factors[p.s], V)
            if p.s == block and not p.is_own:
                total += _chain(E.swapaxes(0, 1), self._factors[p.t], V.swapaxes(0, 1))
        U, S = self._bases[block]
        found = (U / S) @ total
        return np.asarray((found + found.T) / 2.0)

    def information_blocks(self, block: int) -> Array:
        """``(Z~_t'V^-1 Z~_t)_gg`` by independent level, column by column: (J_t, q_t, q_t)."""
        J, q = self.products.sizes[block]
        out = np.empty((J, q, q))
        step = max(1, 64 // q)
        for start in range(0, J, step):
            levels = np.arange(start, min(start + step, J))
            units = [np.zeros((K, r, len(levels) * q)) for K, r in self.products.sizes]
            for a in range(q):
                units[block][levels, a, np.arange(len(levels)) * q + a] = 1.0
            K_t = self.information_product(units)[block][levels]
            place = np.arange(len(levels))
            out[levels] = K_t.reshape(len(levels), q, len(levels), q)[place, :, place, :]
        return out


def _chain(entries: Array, factor: Array, values: Array) -> Array:
    """``sum_k E_k F' V_k'`` for entries, values (q, r, K) and F (r, r)."""
    half = np.tensordot(factor.T, values, axes=([1], [1]))  # (r, q, K): F' V'
    return np.asarray(np.einsum("abk,bdk->ad", entries, half, optimize=True))
