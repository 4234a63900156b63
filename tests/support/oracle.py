"""Dense brute force: the truth that every engine is held against on small designs.

Nothing here is clever. ``V = I + Z Psi Z'`` is formed and inverted; all quantities follow from
their definitions (see ``multilevel.likelihood.gaussian`` for the conventions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.likelihood.blocks.cross_products import CrossProducts, PairBlock


@dataclass(frozen=True)
class Rows:
    """A small design, row by row. ``blocks`` are ``(codes, columns)``, finest factor first."""

    y: np.ndarray
    X: np.ndarray
    blocks: tuple[tuple[np.ndarray, np.ndarray], ...]
    weights: np.ndarray | None = None

    @property
    def W(self):
        return np.column_stack([self.X, self.y])

    @property
    def root_weights(self):
        return np.ones(len(self.y)) if self.weights is None else np.sqrt(self.weights)

    def dense_Z(self, block):
        codes, columns = self.blocks[block]
        n, q = columns.shape
        J = codes.max() + 1
        Z = np.zeros((n, J * q))
        for a in range(q):
            Z[np.arange(n), codes * q + a] = columns[:, a]
        return Z * self.root_weights[:, None]


def cross_products(rows: Rows) -> CrossProducts:
    """Cross-products by dense matrix products."""
    W = rows.W * rows.root_weights[:, None]
    m = W.shape[1]
    Zs = [rows.dense_Z(t) for t in range(len(rows.blocks))]
    shapes = [(codes.max() + 1, columns.shape[1]) for codes, columns in rows.blocks]
    own, rhs, pairs = [], [], {}
    for t, (J, q) in enumerate(shapes):
        gram = (Zs[t].T @ Zs[t]).reshape(J, q, J, q)
        own.append(gram[np.arange(J), :, np.arange(J), :].copy())
        rhs.append((Zs[t].T @ W).reshape(J, q, m))
        for s in range(t + 1, len(shapes)):
            Js, qs = shapes[s]
            full = (Zs[t].T @ Zs[s]).reshape(J, q, Js, qs).transpose(0, 2, 1, 3)
            seen = np.zeros((J, Js), dtype=bool)
            seen[rows.blocks[t][0], rows.blocks[s][0]] = True
            where = np.argwhere(seen)
            indptr = np.concatenate([[0], np.cumsum(seen.sum(1))]).astype(np.int64)
            pairs[t, s] = PairBlock(indptr, where[:, 1].astype(np.int64), full[seen].copy())
    log_weights = 0.0 if rows.weights is None else float(np.log(rows.weights).sum())
    return CrossProducts(
        len(rows.y), rows.X.shape[1], W.T @ W, tuple(own), tuple(rhs), pairs, log_weights
    )


class DenseOracle:
    """The engine contract by brute force."""

    name, exact = "oracle", True

    def __init__(self, rows: Rows) -> None:
        self.rows, self.n_evaluations = rows, 0
        self.W = rows.W * rows.root_weights[:, None]
        self.Zs = [rows.dense_Z(t) for t in range(len(rows.blocks))]

    def factorise(self, factors) -> None:
        V = np.eye(len(self.rows.y))
        for Z, (_, columns), L in zip(self.Zs, self.rows.blocks, factors, strict=True):
            J = Z.shape[1] // columns.shape[1]
            V += Z @ np.kron(np.eye(J), L @ L.T) @ Z.T
        self.V, self.Vi = V, np.linalg.inv(V)
        self.logdet = float(np.linalg.slogdet(V)[1])
        self.T = self.W.T @ self.Vi @ self.W
        self.n_evaluations += 1

    def cross(self, block):
        q = self.rows.blocks[block][1].shape[1]
        return (self.Zs[block].T @ self.Vi @ self.W).reshape(-1, q, self.W.shape[1])

    def information_blocks(self, block):
        q = self.rows.blocks[block][1].shape[1]
        full = self.Zs[block].T @ self.Vi @ self.Zs[block]
        J = full.shape[0] // q
        return full.reshape(J, q, J, q)[np.arange(J), :, np.arange(J), :]

    def information_sum(self, block):
        return self.information_blocks(block).sum(0)

    def information_product(self, coefficients):
        stacked = [c.reshape(-1, c.shape[-1]) for c in coefficients]
        f = sum(Z @ c for Z, c in zip(self.Zs, stacked, strict=True))
        Vf = self.Vi @ f
        return [(Z.T @ Vf).reshape(c.shape) for Z, c in zip(self.Zs, coefficients, strict=True)]


def _relabel(codes):
    return np.unique(codes, return_inverse=True)[1].astype(np.int32)


def random_rows(kind: str, seed: int, weighted: bool = False, p: int = 2) -> Rows:
    """A random small design (about 40 to 80 rows) of a named kind.

    Kinds: ``one`` (random intercept), ``slope`` (q=2), ``three`` (q=3, one factor), ``nested``
    (2 factors), ``nested_slopes``, ``deep`` (3 factors), ``crossed``, ``crossed_slopes``,
    ``crossed3``, ``partially`` (movers), ``mixed`` (nested chain crossed with a third factor).
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(45, 80))
    x = rng.standard_normal((n, max(p - 1, 0)))
    X = np.column_stack([np.ones(n), x])[:, :p]
    z1, z2 = rng.standard_normal(n), rng.standard_normal(n)
    one = np.ones((n, 1))
    slope = np.column_stack([np.ones(n), z1])
    fine = rng.integers(0, 14, n)
    mid = fine // 3
    top = mid // 2
    other = rng.integers(0, 6, n)
    third = rng.integers(0, 3, n)
    movers = np.where(rng.random(n) < 0.15, rng.integers(0, 5, n), mid)
    table = {
        "one": [(fine, one)],
        "slope": [(fine, slope)],
        "three": [(fine, np.column_stack([np.ones(n), z1, z2]))],
        "nested": [(fine, one), (mid, one)],
        "nested_slopes": [(fine, slope), (mid, np.column_stack([np.ones(n), z1, z2]))],
        "deep": [(fine, one), (mid, slope), (top, one)],
        "crossed": [(fine, one), (other, one)],
        "crossed_slopes": [(fine, slope), (other, np.column_stack([np.ones(n), z2]))],
        "crossed3": [(fine, one), (other, one), (third, slope)],
        "partially": [(fine, slope), (movers, one)],
        "mixed": [(fine, slope), (other, one), (mid, one)],
    }
    blocks = tuple((_relabel(c), np.asfortranarray(z)) for c, z in table[kind])
    blocks = tuple(sorted(blocks, key=lambda b: -(int(b[0].max()) + 1)))
    y = 1.0 + z1 + rng.standard_normal(n)
    for codes, columns in blocks:
        u = rng.standard_normal((int(codes.max()) + 1, columns.shape[1]))
        y = y + np.einsum("iq,iq->i", columns, u[codes])
    weights = rng.uniform(0.3, 3.0, n) if weighted else None
    return Rows(y, X, blocks, weights)


KINDS = (
    "one",
    "slope",
    "three",
    "nested",
    "nested_slopes",
    "deep",
    "crossed",
    "crossed_slopes",
    "crossed3",
    "partially",
    "mixed",
)
