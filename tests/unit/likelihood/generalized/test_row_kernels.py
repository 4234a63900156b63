"""Kernels over rows and leaves: compiled and plain runs of the same code, and dense products."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.likelihood.blocks import leaf_kernels, row_kernels
from multilevel.likelihood.generalized.row_layout import lay_out_rows
from multilevel.likelihood.generalized.storage_dense import DenseStorage
from multilevel.likelihood.generalized.storage_leaf import LeafStorage
from tests.support.laplace_oracle import random_problem, random_psi

KINDS = [("crossed", "mean"), ("crossed_slopes", "both"), ("crossed3", "mean"), ("mixed", "both")]


def both(kernel, *arguments):
    """Arguments as the compiled kernel leaves them, after the plain run did the same."""
    compiled = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    plain = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    one, two = kernel(*compiled), kernel.py_func(*plain)
    if one is not None:
        assert one == pytest.approx(two, rel=1e-11, nan_ok=True)
    for left, right in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-11)
    return compiled if one is None else (one, *compiled)


@pytest.fixture(params=KINDS, ids=lambda k: "-".join(k))
def design(request):
    kind, spread = request.param
    problem = random_problem(kind, "gauss", spread=spread)
    layout = lay_out_rows(problem)
    rng = np.random.default_rng(3)
    Z = layout.scaled(problem.factors(random_psi(problem)))
    R, n = layout.n_random, layout.n
    root = rng.standard_normal((n, R, R))
    W = np.ascontiguousarray((root @ root.transpose(0, 2, 1)).transpose(1, 2, 0))
    return layout, Z, W, rng


def dense(layout, index, Z):
    out = np.zeros((Z.shape[0], layout.n, layout.n_effects))
    for a in range(index.shape[1]):
        out[:, np.arange(layout.n), index[:, a]] += Z[:, :, a]
    return out


def test_products_with_rows(design):
    layout, Z, _, rng = design
    storage = DenseStorage(layout)
    index = layout.index(storage.effects)
    whole = dense(layout, index, Z)
    u, first = rng.standard_normal(layout.n_effects), rng.standard_normal(Z.shape[:2])
    *_, eta = both(row_kernels.add_predictor, Z, index, u, np.zeros(Z.shape[:2]))
    np.testing.assert_allclose(eta, whole @ u, atol=1e-11)
    *_, out = both(row_kernels.add_transposed, Z, index, first, np.zeros(layout.n_effects))
    np.testing.assert_allclose(out, np.einsum("rna,rn->a", whole, first), atol=1e-11)


def test_weighted_gram_and_leverages(design):
    layout, Z, W, rng = design
    storage = DenseStorage(layout)
    index, N = layout.index(storage.effects), layout.n_effects
    whole = dense(layout, index, Z)
    at = storage.at_inverse
    *_, store = both(row_kernels.add_weighted_gram, Z, W, at, np.zeros(N * N))
    gram = np.einsum("rna,rsn,snb->ab", whole, W, whole)
    np.testing.assert_allclose(np.tril(store.reshape(N, N)), np.tril(gram), atol=1e-10)
    inverse = np.linalg.inv(np.eye(N) + gram)
    R, n, Q = Z.shape
    group = rng.integers(0, 3, n).astype(np.int32)
    *_, leverage, moved = both(
        row_kernels.leverages, Z, W, at, inverse.reshape(-1), layout.raw, layout.part,
        layout.starts, group, np.empty((R, R, n)), np.zeros((3, Q, Q)),
    )  # fmt: skip
    expected = np.einsum("rna,ab,snb->rsn", whole, inverse, whole)
    np.testing.assert_allclose(leverage, expected, atol=1e-11)
    pushed = np.einsum("rsn,snc->rnc", W, whole @ inverse)
    for a in range(Q):
        t = np.searchsorted(layout.starts, a, side="right") - 1
        for b in range(layout.starts[t], layout.starts[t + 1]):
            own = pushed[layout.part[a], np.arange(n), index[:, b]] * layout.raw[:, a]
            np.testing.assert_allclose(moved[:, a, b], np.bincount(group, own, 3), atol=1e-10)


def test_scores_of_factors_and_pairs_of_rows(design):
    layout, Z, _, rng = design
    index, N = layout.index(DenseStorage(layout).effects), layout.n_effects
    R, n, Q = Z.shape
    rho, first = rng.standard_normal((2, R, n))
    u, s = rng.standard_normal((2, N))
    *_, out = both(
        row_kernels.factor_scores, layout.raw, index, layout.part, layout.starts,
        np.zeros(n, np.int32), rho, u, first, s, np.zeros((1, Q, Q)),
    )  # fmt: skip
    a, b = int(layout.starts[-2]), Q - 1
    r = layout.part[a]
    expected = layout.raw[:, a] @ (rho[r] * u[index[:, b]] + first[r] * s[index[:, b]])
    assert out[0, a, b] == pytest.approx(expected, abs=1e-10)
    root = rng.standard_normal((N, N)) / np.sqrt(N)
    third = rng.standard_normal((R, R, R, n))
    third = sum(third.transpose(*p, 3) for p in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
    third = np.ascontiguousarray(third + third.transpose(1, 0, 2, 3))
    total, *_ = both(row_kernels.pair_cubes, Z, index, root @ root.T, third)
    whole = dense(layout, index, Z)
    A = np.einsum("rna,ab,smb->rnsm", whole, root @ root.T, whole)
    expected = np.einsum("abcn,defm,andm,bnem,cnfm->", third, third, A, A, A, optimize=True)
    assert total == pytest.approx(expected, rel=1e-9)


def test_leaves(design):
    layout, Z, W, rng = design
    storage = LeafStorage(layout)
    assert storage.factorise(Z, W)
    store = np.zeros_like(storage._store)
    store[storage._diagonal] = 1.0
    row_kernels.add_weighted_gram(Z, W, storage.at_inverse, store)
    own, panel, core = storage._views(store)
    where = (storage._indptr, storage._column)
    logdet, _, _, _, _, inverse, scaled, schur = both(
        leaf_kernels.eliminate_leaves, own, *where, panel,
        np.empty_like(own), np.empty_like(panel), core,
    )  # fmt: skip
    lower = np.tril(own) + np.tril(own, -1).transpose(0, 2, 1)
    assert logdet == pytest.approx(np.linalg.slogdet(lower)[1].sum())
    np.testing.assert_allclose(inverse, np.linalg.inv(lower), atol=1e-11)
    n2 = storage._n_core
    square = np.tril(schur) + np.tril(schur, -1).T
    both(
        leaf_kernels.leaf_inverses, *where, scaled, np.linalg.inv(square), inverse,
        np.empty_like(own), np.empty_like(panel),
    )  # fmt: skip
    J, q = own.shape[:2]
    for k in (1, 3):
        leaf, rest = rng.standard_normal((J, q, k)), rng.standard_normal((n2, k))
        both(leaf_kernels.leaf_forward, *where, scaled, leaf, rest)
        both(leaf_kernels.leaf_backward, inverse, *where, scaled, leaf, rest)


def test_a_leaf_that_is_not_positive_definite_is_reported(design):
    layout, Z, W, _ = design
    storage = LeafStorage(layout)
    assert storage.factorise(Z, W)
    assert storage.is_set
    assert not storage.factorise(Z, -50.0 * W)
    assert not storage.is_set
