"""Cross-products of designs with general random effects: ``Z'Z`` over all levels, sparse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from multilevel.design.records import Design, RandomBlock
from multilevel.design.related import RelatedBlock, loadings_of
from multilevel.design.relations import Relation
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.scaling import Scaling

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RelatedProducts(CrossProducts):
    """The Gram record of general random effects; ``pairs`` is empty, levels are in ``gram``.

    Attributes
    ----------
    gram : (Q, Q) sparse ``Z'Z``; element ``(t, g, a)`` in that order.
    relations : per block the known covariance of its levels, or None.
    kept : what engines made of ``gram`` and ``relations`` once (orders, dense matrices); shared
        by the same design with other responses.
    """

    gram: sparse.csr_array | None = None
    relations: tuple[Relation | None, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_chain(self) -> bool:
        """Never: levels share rows, or are correlated."""
        return False

    @property
    def starts(self) -> tuple[int, ...]:
        """First unknown of each block, and their number."""
        return tuple(int(s) for s in np.cumsum([0, *(J * q for J, q in self.sizes)]))

    @property
    def slices(self) -> list[slice]:
        """Unknowns of each block."""
        return [slice(a, b) for a, b in pairwise(self.starts)]


def row_effects(block: RandomBlock, columns: Array) -> sparse.csr_array:
    """``Z_t`` (n, J q): loadings on the levels times the random-effect columns, by row."""
    loadings = loadings_of(block)
    q = columns.shape[1]
    counts = np.diff(loadings.indptr)
    entries = loadings.data[:, None] * np.repeat(columns, counts, axis=0)
    index = loadings.indices.astype(np.int64)[:, None] * q + np.arange(q)
    shape = (loadings.shape[0], loadings.shape[1] * q)
    return sparse.csr_array(
        (entries.ravel(), index.ravel(), loadings.indptr.astype(np.int64) * q), shape=shape
    )


def relation_of(block: RandomBlock) -> Relation | None:
    """The known covariance of the levels of a block, if there is one."""
    return block.relation if isinstance(block, RelatedBlock) else None


def related_products(design: Design, scaling: Scaling) -> RelatedProducts:
    """Form the scaled cross-products of a design."""
    y = design.y if design.offset is None else design.y - design.offset
    W = scaling.apply(design.X, y)
    parts = [
        row_effects(b, np.asarray(b.columns @ B))
        for b, B in zip(design.blocks, scaling.random, strict=True)
    ]
    sizes = [(b.n_levels, len(b.names)) for b in design.blocks]
    Z = sparse.csr_array(sparse.hstack(parts, format="csr"))
    if design.weights is not None:
        root = np.sqrt(design.weights)
        W = W * root[:, None]
        Z = sparse.csr_array(Z.multiply(root[:, None]))
    gram = sparse.csr_array(Z.T @ Z)
    gram.sort_indices()
    rhs = np.asarray(Z.T @ W)
    cuts = np.cumsum([0, *(J * q for J, q in sizes)])
    own, sides = [], []
    for (J, q), start, stop in zip(sizes, cuts, cuts[1:], strict=False):
        block = sparse.bsr_array(gram[start:stop, start:stop], blocksize=(q, q))
        values = np.zeros((J, q, q))
        row = np.repeat(np.arange(J), np.diff(block.indptr))
        on = row == block.indices
        values[row[on]] = block.data[on]
        own.append(values)
        sides.append(rhs[start:stop].reshape(J, q, -1))
    return RelatedProducts(
        n=design.n,
        n_fixed=design.X.shape[1],
        total=W.T @ W,
        own=tuple(own),
        rhs=tuple(sides),
        pairs={},
        sum_log_weights=0.0 if design.weights is None else float(np.log(design.weights).sum()),
        gram=gram,
        relations=tuple(relation_of(b) for b in design.blocks),
    )


def with_new_response(
    products: RelatedProducts, design: Design, scaling: Scaling
) -> RelatedProducts:
    """The same cross-products with the response of ``design``."""
    y = design.y if design.offset is None else design.y - design.offset
    W = scaling.apply(design.X, y)
    weighted = W[:, -1] if design.weights is None else W[:, -1] * design.weights
    total = products.total.copy()
    total[:, -1] = total[-1, :] = W.T @ weighted
    rhs = []
    for block, B, old in zip(design.blocks, scaling.random, products.rhs, strict=True):
        new = old.copy()
        raw = loadings_of(block).T @ (block.columns * weighted[:, None])
        new[:, :, -1] = np.asarray(raw) @ B
        rhs.append(new)
    return replace(products, total=total, rhs=tuple(rhs))
