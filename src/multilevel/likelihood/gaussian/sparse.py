"""The sparse direct engine: all random effects of all factors in one sparse LDL'.

For designs that are nearly nested (pupils who move, members of several teams), where the factor
of ``M = I + F'Z'Z F`` stays sparse although no factor is nested in another.

Method
------
``Lambda_t`` enters only through ``Psi_t``; it is replaced by ``F_t = U_t S_t`` from its singular
value decomposition, so ``Psi_t = F_t F_t'`` and ``F_t^-1 = S_t^-1 U_t'`` is a rotation followed
by one scaling per column. Singular values below ``1e-10 / sqrt(largest entry of Z_t'Z_t)`` are
raised to that floor, which changes V by 1e-20 relative to I, below rounding. Since
``M = I + S B S`` is graded by ``S``, elimination and the selected inverse keep relative accuracy
in every direction, the null directions of a singular ``Lambda_t`` included. So one set of
formulas serves regular, singular and zero factors:

    T = W'W - (L^-1 F'Z'W)' D^-1 (L^-1 F'Z'W),        log|V| = sum log D
    Z_t'V^-1 R = F_t^-T (M^-1 F'Z'R)_t                 for R = W or R = Z C
    G_gg = F_t^-T (I - (M^-1)_gg) F_t^-1               (a)
    G_gg = [sum_h A_gh F_h (M^-1)_hg] F_t^-1            (b)

Entry (i, j) of ``U'G_gg U`` has a rounding error of order ``eps / (s_i s_j)`` by (a) and
``eps a_ij``, ``a_ij^2 = (U'A_gg U)_ii (U'A_gg U)_jj``, by (b): the smaller bound is taken.

Sources: Bates et al. 2015 (JSS 67:1) for the profiled likelihood; Davis 2006 ch. 4, Takahashi
1973, Erisman & Tinney 1975 for the sparse algebra (``likelihood.blocks.sparse_ldl``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks import sparse_ldl
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.ordering import SymbolicPlan, symbolic
from multilevel.likelihood.blocks.sparse_layout import spread, unknown_tree, upper_triangle
from multilevel.likelihood.gaussian.engine import GaussianEngine

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FLOOR = 1e-10


@dataclass(frozen=True)
class _Pair:
    """One pair of factors t < s. Levels come last, so that a factor meets all at once.

    ``rows, columns`` (K,): levels of t and s; ``values`` (q_t, q_s, K); ``positions`` (the same
    shape): where each entry stands in the upper triangle of the permuted matrix; ``matrix``: the
    values once more as sparse rows of blocks, for products.
    """

    rows: IntArray
    columns: IntArray
    values: Array
    positions: IntArray
    matrix: sparse.bsr_array


@dataclass(frozen=True)
class _Layout:
    """The permuted matrix and its factor, as patterns.

    ``effects[t]`` (J_t, q_t): unknown of each random effect; ``own[t]`` (q_t, q_t, J_t) and
    ``pairs[t, s]``: scatter positions; ``Up, Ui``: upper triangle; ``parent, Lp, Li, slots``:
    see ``sparse_ldl``; ``diagonal`` (N,): positions of the diagonal.
    """

    effects: tuple[IntArray, ...]
    own: tuple[IntArray, ...]
    pairs: dict[tuple[int, int], _Pair]
    Up: IntArray
    Ui: IntArray
    diagonal: IntArray
    parent: IntArray
    Lp: IntArray
    Li: IntArray
    slots: IntArray


class SparseEngine(GaussianEngine):
    """The Gaussian likelihood by one sparse LDL' over all random effects.

    Parameters
    ----------
    products : cross-products of the design.
    plan : the symbolic phase, when the caller already has it (``symbolic(products)``).

    Raises
    ------
    LikelihoodError : when the factor would exceed the limit of the plan.
    """

    name = "sparse"
    exact = True

    def __init__(self, products: CrossProducts, plan: SymbolicPlan | None = None) -> None:
        self.plan = symbolic(products) if plan is None else plan
        if not self.plan.is_within_limit:
            raise LikelihoodError(
                "The sparse factor of the random effects must fit its limit.",
                f"at least {self.plan.nnz_factor:,} nonzeros for {self.plan.n_unknowns:,} "
                f"random effects; the limit is {self.plan.limit:,}",
                "use another engine, or drop the grouping factor with the most levels",
            )
        self.products = products
        self.n_evaluations = 0
        m = products.n_columns
        self.T: Array = np.full((m, m), np.nan)
        self.logdet = float("nan")
        self._layout = _lay_out(products, self.plan)
        self._own = tuple(_levels_last(a) for a in products.own)
        self._rhs = tuple(s.transpose(1, 0, 2).reshape(s.shape[1], -1) for s in products.rhs)
        self._lowest = tuple(_FLOOR / np.sqrt(max(float(a.max()), 1e-200)) for a in self._own)
        self._Ux = np.empty(self._layout.Ui.size)
        self._Lx = np.empty(self._layout.Li.size)
        self._D = np.empty(self._layout.parent.size)
        self._factors: tuple[Array, ...] = ()
        self._bases: tuple[tuple[Array, Array], ...] = ()
        self._forward: Array | None = None
        self._solution: Array | None = None
        self._inverse: Array | None = None
        self._blocks: dict[int, Array] = {}

    def factorise(self, factors: Sequence[Array]) -> None:
        """Set ``Lambda_t`` (q_t, q_t) per block and eliminate the random effects.

        Raises ``LikelihoodError`` when a factor has the wrong shape or is not finite, and when a
        pivot is not positive and finite, which only rounding or overflow can cause; nothing
        can be read then until the next success.
        """
        self._set_bases(factors)
        layout = self._layout
        with np.errstate(over="ignore", invalid="ignore"):  # an overflow ends in a bad pivot
            for own, F, at in zip(self._own, self._factors, layout.own, strict=True):
                self._Ux[at] = _congruent(F, own, F)
            for (t, s), pair in layout.pairs.items():
                F_t, F_s = self._factors[t], self._factors[s]
                self._Ux[pair.positions] = _congruent(F_t, pair.values, F_s)
        self._Ux[layout.diagonal] += 1.0
        self.T, self.logdet = np.full_like(self.T, np.nan), float("nan")
        self._forward = self._solution = self._inverse = None
        self._blocks = {}
        failed = sparse_ldl.factorise(
            layout.Up, layout.Ui, self._Ux, layout.parent, layout.Lp, layout.Li, self._Lx, self._D
        )
        if failed >= 0:
            raise self._pivot_error(failed)
        forward = self._right_side(self._rhs, self.products.n_columns)
        sparse_ldl.solve_forward(layout.Lp, layout.Li, self._Lx, forward)
        self._forward = forward
        self.T = self.products.total - forward.T @ (forward / self._D[:, None])
        self.logdet = float(np.log(self._D).sum())
        self.n_evaluations += 1

    def cross(self, block: int) -> Array:
        """``H_t = Z_t'V^-1 W`` by level: (J_t, q_t, m)."""
        if self._solution is None:
            solution = self._eliminated() / self._D[:, None]
            sparse_ldl.solve_backward(self._layout.Lp, self._layout.Li, self._Lx, solution)
            self._solution = solution
        return self._unscale(block, self._solution)

    def information_sum(self, block: int) -> Array:
        """``sum_g (Z_t'V^-1 Z_t)_gg``: (q_t, q_t)."""
        total: Array = self.information_blocks(block).sum(axis=0)
        return total

    def information_blocks(self, block: int) -> Array:
        """``G_gg = (Z_t'V^-1 Z_t)_gg`` by level: (J_t, q_t, q_t), by (a) or (b) entry by entry."""
        self._eliminated()
        if block in self._blocks:
            return self._blocks[block].copy()
        layout, inverse = self._layout, self._selected_inverse()
        U, S = self._bases[block]
        own = inverse[layout.slots[layout.own[block]]]
        scale = np.outer(S, S)[:, :, None]
        size = np.sqrt(np.einsum("iig->ig", _congruent(U, self._own[block], U)).clip(min=0.0))
        is_large = size[:, None, :] * size[None, :, :] * scale > 1.0
        rotated = (np.eye(S.size)[:, :, None] - own) / scale
        if not is_large.all():
            product = self._inverse_products(block, inverse, own) / S[:, None]
            product = (U.T @ product.reshape(S.size, -1)).reshape(product.shape)
            rotated = np.where(is_large, rotated, 0.5 * (product + product.swapaxes(0, 1)))
        blocks = np.ascontiguousarray(_congruent(U.T, rotated, U.T).transpose(2, 0, 1))
        self._blocks[block] = blocks
        return blocks.copy()

    def information_product(self, coefficients: Sequence[Array]) -> list[Array]:
        """``Z'V^-1 Z C`` for ``C`` given by block as (J_t, q_t, k); the same shapes come back."""
        self._eliminated()
        right = [np.ascontiguousarray(c, np.float64) for c in coefficients]
        k = right[0].shape[2] if right and right[0].ndim == 3 else 0
        wanted = [(J, q, k) for J, q in self.products.sizes]
        if [c.shape for c in right] != wanted:
            raise LikelihoodError(
                "Coefficients must come by block as (levels, columns, k).",
                f"shapes {[c.shape for c in right]}; expected {wanted}",
                "pass one array per grouping factor, all with the same last axis",
            )
        gram = [np.einsum("abg,gbk->gak", a, c) for a, c in zip(self._own, right, strict=True)]
        for (t, s), pair in self._layout.pairs.items():
            gram[t] += (pair.matrix @ right[s].reshape(-1, k)).reshape(gram[t].shape)
            gram[s] += (pair.matrix.T @ right[t].reshape(-1, k)).reshape(gram[s].shape)
        sides = tuple(g.transpose(1, 0, 2).reshape(g.shape[1], -1) for g in gram)
        X = self._right_side(sides, k)
        layout = self._layout
        sparse_ldl.solve_forward(layout.Lp, layout.Li, self._Lx, X)
        X /= self._D[:, None]
        sparse_ldl.solve_backward(layout.Lp, layout.Li, self._Lx, X)
        return [self._unscale(t, X) for t in range(len(right))]

    def _set_bases(self, factors: Sequence[Array]) -> None:
        """``F_t = U_t S_t`` with floored singular values."""
        sizes = self.products.sizes
        if len(factors) != len(sizes):
            raise LikelihoodError(
                "There must be one relative factor per grouping factor.",
                f"{len(factors)} factors for {len(sizes)} grouping factors",
                "pass one (q, q) array per grouping factor, finest first",
            )
        bases = []
        for t, (factor, (_, q)) in enumerate(zip(factors, sizes, strict=True)):
            Lambda = np.asarray(factor, np.float64)
            if Lambda.shape != (q, q) or not np.isfinite(Lambda).all():
                raise LikelihoodError(
                    "A relative factor must be a finite square matrix.",
                    f"factor {t} of shape {Lambda.shape} with values {Lambda.tolist()}",
                    f"pass a finite ({q}, {q}) array",
                )
            U, S, _ = np.linalg.svd(Lambda)
            bases.append((np.ascontiguousarray(U), np.maximum(S, self._lowest[t])))
        self._bases = tuple(bases)
        self._factors = tuple(U * S for U, S in bases)

    def _right_side(self, sides: Sequence[Array], k: int) -> Array:
        """``F'R`` (N, k) in the order of elimination, from ``R_t`` as (q_t, J_t k)."""
        out = np.empty((self.plan.n_unknowns, k))
        for F, side, effects in zip(self._factors, sides, self._layout.effects, strict=True):
            out[effects.T] = (F.T @ side).reshape(F.shape[0], -1, k)
        return out

    def _unscale(self, block: int, solution: Array) -> Array:
        """``F_t^-T X_t`` by level: (J_t, q_t, k)."""
        U, S = self._bases[block]
        picked = solution[self._layout.effects[block].T]
        q, J, k = picked.shape
        rotated = (U / S) @ picked.reshape(q, -1)
        return np.ascontiguousarray(rotated.reshape(q, J, k).transpose(1, 0, 2))

    def _eliminated(self) -> Array:
        if self._forward is None:
            raise LikelihoodError(
                "The factors must be set before the likelihood is read.",
                "no successful call of factorise",
                "call factorise first",
            )
        return self._forward

    def _selected_inverse(self) -> Array:
        if self._inverse is None:
            layout = self._layout
            inverse = np.empty(layout.Li.size + layout.parent.size)
            sparse_ldl.selected_inverse(layout.Lp, layout.Li, self._Lx, self._D, inverse)
            self._inverse = inverse
        return self._inverse

    def _inverse_products(self, block: int, inverse: Array, own: Array) -> Array:
        """``sum_h A_gh F_h (M^-1)_hg``: (q_t, q_t, J_t)."""
        layout = self._layout
        out = _chained(self._own[block], self._factors[block], own)
        for (t, s), pair in layout.pairs.items():
            if block not in (t, s):
                continue
            values, entries = pair.values, inverse[layout.slots[pair.positions]]
            other, levels = s, pair.rows
            if block == s:
                values, entries = values.swapaxes(0, 1), entries.swapaxes(0, 1)
                other, levels = t, pair.columns
            terms = _chained(values, self._factors[other], entries)
            for i, j in np.ndindex(*out.shape[:2]):
                out[i, j] += np.bincount(levels, terms[i, j], out.shape[2])
        return out

    def _pivot_error(self, unknown: int) -> LikelihoodError:
        found = [np.argwhere(effects == unknown) for effects in self._layout.effects]
        t = next(t for t, where in enumerate(found) if where.size)
        level, column = found[t][0]
        largest = max(float(np.abs(F).max()) for F in self._factors)
        return LikelihoodError(
            "Every pivot of the random-effects matrix must be positive and finite.",
            f"pivot {self._D[unknown]:.3g} at grouping factor {t}, level {level}, column {column};"
            f" the largest relative factor is {largest:.3g}",
            "rescale the columns of the random effects, or start from smaller variances",
        )


def _levels_last(values: Array) -> Array:
    """(K, q, r) as contiguous (q, r, K)."""
    return np.ascontiguousarray(np.moveaxis(values, 0, 2), np.float64)


def _congruent(left: Array, values: Array, right: Array) -> Array:
    """``left' A_k right`` for all k; ``values`` and result (q, r, K)."""
    q, r, k = values.shape
    half = (left.T @ values.reshape(q, r * k)).reshape(q, r, k)
    product: Array = np.matmul(right.T, half)
    return product


def _chained(values: Array, factor: Array, entries: Array) -> Array:
    """``A_k F E_k'`` for all k; ``values, entries`` (q, r, K), result (q, q, K)."""
    product: Array = np.einsum("abk,cbk->ack", np.matmul(factor.T, values), entries)
    return product


def _lay_out(products: CrossProducts, plan: SymbolicPlan) -> _Layout:
    """Patterns and scatter positions of the permuted matrix; once per design."""
    n = plan.n_unknowns
    ends = np.concatenate([[0], np.cumsum(plan.weight)]).astype(np.int64)
    first = np.empty(plan.order.size, np.int64)
    first[plan.order] = ends[:-1]
    effects, begin = [], 0
    for J, q in products.sizes:
        effects.append(first[begin : begin + J, None] + np.arange(q, dtype=np.int64))
        begin += J
    spans: list[tuple[IntArray, IntArray]] = [spread(e, e) for e in effects]
    levels = {}
    for (t, s), pair in products.pairs.items():
        rows = np.repeat(np.arange(pair.indptr.size - 1, dtype=np.int64), np.diff(pair.indptr))
        columns = pair.indices.astype(np.int64)
        levels[t, s] = (rows, columns)
        spans.append(spread(effects[t][rows], effects[s][columns]))
    Up, Ui, positions = upper_triangle(spans, n)
    parent, Lp = unknown_tree(plan, ends)
    Li, slots = sparse_ldl.factor_pattern(Up, Ui, parent, Lp)
    placed = iter(positions)
    own = tuple(next(placed) for _ in effects)
    pairs = {}
    for (t, s), pair in products.pairs.items():
        shape = (effects[t].size, effects[s].size)
        matrix = sparse.bsr_array((pair.values, pair.indices, pair.indptr), shape=shape)
        pairs[t, s] = _Pair(*levels[t, s], _levels_last(pair.values), next(placed), matrix)
    diagonal = np.concatenate([np.einsum("iig->ig", at).ravel() for at in own])
    return _Layout(tuple(effects), own, pairs, Up, Ui, diagonal, parent, Lp, Li, slots)
