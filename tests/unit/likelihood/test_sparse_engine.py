"""The sparse engine against brute force, on every kind of design and factor."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from multilevel.errors import LikelihoodError
from multilevel.likelihood.blocks.cross_products import CrossProducts, PairBlock
from multilevel.likelihood.blocks.ordering import symbolic
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.sparse import SparseEngine
from tests.support.oracle import KINDS, DenseOracle, cross_products, random_rows

FACTORS = ("regular", "square", "diagonal", "singular", "zero", "tiny", "graded")


def make_factors(kind, sizes, rng):
    """Relative factors by block; ``singular``: rank one, or zero for every second scalar block."""
    factors = []
    for t, (_, q) in enumerate(sizes):
        L = np.tril(rng.standard_normal((q, q)))
        if kind == "square":
            L = rng.standard_normal((q, q))
        elif kind == "diagonal":
            L = np.diag(np.diag(L))
        elif kind == "singular":
            rank_one = np.outer(rng.standard_normal(q), rng.standard_normal(q))
            L = rank_one if q > 1 else L * (t % 2)
        elif kind == "zero":
            L = np.zeros((q, q))
        elif kind == "tiny":
            L = 1e-6 * L
        elif kind == "graded":
            L = L @ np.diag(10.0 ** -(4.0 * np.arange(q)))
        factors.append(L)
    return factors


def assert_close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_agrees(engine, oracle, sizes, rng):
    assert_close(engine.T, oracle.T)
    assert engine.logdet == pytest.approx(oracle.logdet, rel=1e-9, abs=1e-9)
    for t, (J, q) in enumerate(sizes):
        assert engine.information_blocks(t).shape == (J, q, q)
        assert_close(engine.cross(t), oracle.cross(t))
        assert_close(engine.information_blocks(t), oracle.information_blocks(t))
        assert_close(engine.information_sum(t), oracle.information_sum(t))
    C = [rng.standard_normal((J, q, 3)) for J, q in sizes]
    expected = oracle.information_product(C)
    for found, wanted in zip(engine.information_product(C), expected, strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_brute_force(kind, weighted):
    """One engine through all factors in turn, so that nothing stale survives."""
    rows = random_rows(kind, 11, weighted)
    products = cross_products(rows)
    engine, oracle = SparseEngine(products), DenseOracle(rows)
    rng = np.random.default_rng(5)
    for number, name in enumerate(FACTORS, start=1):
        factors = make_factors(name, products.sizes, rng)
        engine.factorise(factors)
        oracle.factorise(factors)
        assert_agrees(engine, oracle, products.sizes, rng)
        assert engine.n_evaluations == number


@pytest.mark.parametrize("kind", ["slope", "nested_slopes", "crossed_slopes", "mixed"])
def test_only_the_product_of_the_factor_matters(kind):
    products = cross_products(random_rows(kind, 2))
    engine, rng = SparseEngine(products), np.random.default_rng(0)
    factors = make_factors("regular", products.sizes, rng)
    engine.factorise(factors)
    before = engine.T, engine.logdet, engine.cross(0), engine.information_sum(0)
    turned = [L @ np.linalg.qr(rng.standard_normal(L.shape))[0] for L in factors]
    engine.factorise(turned)
    after = engine.T, engine.logdet, engine.cross(0), engine.information_sum(0)
    for a, b in zip(before, after, strict=True):
        assert_close(b, a, 1e-11)


@pytest.mark.parametrize("kind", ["slope", "nested", "crossed_slopes", "mixed"])
@pytest.mark.parametrize("shrink", [1e-3, 1e-6, 1e-9, 1e-12, 1e-20])
def test_nothing_jumps_on_the_way_to_a_singular_factor(kind, shrink):
    """Column after column of Lambda shrinks; the limit is the singular factor's own answer."""
    rows = random_rows(kind, 8)
    products = cross_products(rows)
    engine, oracle = SparseEngine(products), DenseOracle(rows)
    factors = [L.copy() for L in make_factors("regular", products.sizes, np.random.default_rng(1))]
    for L in factors:
        L[:, -1] *= shrink
    engine.factorise(factors)
    oracle.factorise(factors)
    assert_agrees(engine, oracle, products.sizes, np.random.default_rng(2))


def test_large_variances_keep_the_information_accurate():
    """One factor, q = 1: G = a / (1 + psi a) in closed form, where A - A M^-1 A would cancel."""
    products = cross_products(random_rows("one", 0))
    engine = SparseEngine(products)
    engine.factorise([np.array([[1e7]])])
    a = products.own[0]
    np.testing.assert_allclose(engine.information_blocks(0), a / (1.0 + 1e14 * a), rtol=1e-12)
    expected = products.rhs[0] / (1.0 + 1e14 * a)
    np.testing.assert_allclose(engine.cross(0), expected, rtol=1e-12)


def movers(n_pupils, n_schools, share, seed, n_slopes=1, shuffled=False):
    """Cross-products of pupils seen three times, some visits in a school nearby on a ring."""
    rng = np.random.default_rng(seed)
    pupil = np.repeat(np.arange(n_pupils), 3)
    school = np.repeat(rng.integers(0, n_schools, n_pupils), 3)
    n = pupil.size
    moved = rng.random(n) < share
    school = np.where(moved, (school + rng.integers(1, 6, n)) % n_schools, school)
    if shuffled:
        school = rng.permutation(n_schools)[school]
    school = np.unique(school, return_inverse=True)[1]
    x = rng.standard_normal(n)
    Zs = [np.ones((n, 1)), np.column_stack([np.ones(n), x])[:, :n_slopes]]
    W = np.column_stack([np.ones(n), x, rng.standard_normal(n)])
    Js, own, rhs = [n_pupils, int(school.max()) + 1], [], []
    for code, Z, J in zip((pupil, school), Zs, Js, strict=True):
        pick = sparse.csr_array((np.ones(n), (code, np.arange(n))), shape=(J, n))
        q = Z.shape[1]
        own.append((pick @ (Z[:, :, None] * Z[:, None, :]).reshape(n, -1)).reshape(J, q, q))
        rhs.append((pick @ (Z[:, :, None] * W[:, None, :]).reshape(n, -1)).reshape(J, q, -1))
    cell, where = np.unique(pupil * Js[1] + school, return_inverse=True)
    pick = sparse.csr_array((np.ones(n), (where, np.arange(n))), shape=(cell.size, n))
    values = (pick @ (Zs[0][:, :, None] * Zs[1][:, None, :]).reshape(n, -1)).reshape(
        cell.size, 1, n_slopes
    )
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cell // Js[1], minlength=n_pupils))])
    pair = PairBlock(indptr.astype(np.int64), (cell % Js[1]).astype(np.int64), values)
    return CrossProducts(n, 2, W.T @ W, tuple(own), tuple(rhs), {(0, 1): pair})


def plain_matrix(products, factors):
    """``M`` and ``Lambda'Z'W`` in the order of the data, as SciPy would have them."""
    blocks = [sparse.block_diag(list(a)) for a in products.own]
    pair = products.pairs[0, 1]
    shape = (blocks[0].shape[0], blocks[1].shape[0])
    across = sparse.bsr_matrix((pair.values, pair.indices, pair.indptr), shape=shape)
    gram = sparse.bmat([[blocks[0], across], [across.T, blocks[1]]])
    F = sparse.block_diag(
        [sparse.kron(sparse.eye(J), L) for (J, _), L in zip(products.sizes, factors, strict=True)]
    )
    M = sparse.csc_matrix(sparse.eye(gram.shape[0]) + F.T @ gram @ F)
    right = F.T @ np.concatenate([s.reshape(-1, s.shape[2]) for s in products.rhs])
    return M, right, gram, F


@pytest.mark.parametrize("n_slopes", [1, 2])
def test_agrees_with_superlu_on_a_design_with_movers(n_slopes):
    """The plain twin of the whole engine: the same matrix by scipy.sparse.linalg.splu."""
    products = movers(600, 120, 0.15, 4, n_slopes)
    factors = [np.array([[0.8]]), np.tril([[0.6, 0.0], [0.2, 0.3]])[:n_slopes, :n_slopes]]
    engine = SparseEngine(products)
    engine.factorise(factors)
    M, right, gram, F = plain_matrix(products, factors)
    lu = splu(M)
    assert engine.logdet == pytest.approx(np.log(np.abs(lu.U.diagonal())).sum(), rel=1e-12)
    assert_close(engine.T, products.total - right.T @ lu.solve(right), 1e-11)
    start = products.own[0].shape[0]
    H = np.concatenate([s.reshape(-1, s.shape[2]) for s in products.rhs])
    H = H - gram @ (F @ lu.solve(right))
    assert_close(engine.cross(1), H[start:].reshape(engine.cross(1).shape), 1e-10)
    columns = (gram @ F).T.toarray()[:, start:]
    G = gram.toarray()[start:, start:] - columns.T @ lu.solve(columns)
    J, q = products.sizes[1]
    G = G.reshape(J, q, J, q)[np.arange(J), :, np.arange(J), :]
    assert_close(engine.information_blocks(1), G, 1e-10)


def test_thousands_of_movers_take_a_moment():
    """30 000 pupils, 6 000 schools, 15 % of visits elsewhere: little fill, quick evaluations."""
    products = movers(30_000, 6_000, 0.15, 0)
    plan = symbolic(products)
    assert plan.ordering != "natural"
    assert plan.nnz_factor < 1.6 * plan.nnz_matrix
    engine = SparseEngine(products, plan)
    factors = [np.array([[0.8]]), np.array([[0.5]])]
    engine.factorise(factors)
    engine.information_sum(0)
    begin = time.perf_counter()
    engine.factorise(factors)
    total = engine.information_sum(0) + engine.information_sum(1)
    assert time.perf_counter() - begin < 2.0  # some 0.02 s when the machine is free
    M, _, _, _ = plain_matrix(products, factors)
    assert engine.logdet == pytest.approx(np.log(np.abs(splu(M).U.diagonal())).sum(), rel=1e-12)
    assert np.isfinite(total).all()
    assert total[0, 0] > 0.0


def test_the_engine_keeps_its_contract():
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    assert isinstance(engine, GaussianEngine)
    assert (engine.name, engine.exact, engine.n_evaluations) == ("sparse", True, 0)
    assert np.isnan(engine.T).all()


def test_results_can_be_changed_without_harm():
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    engine.factorise([np.eye(1), np.eye(1)])
    first = engine.information_blocks(0)
    kept = first.copy()
    first[:] = 0.0
    np.testing.assert_array_equal(engine.information_blocks(0), kept)


def test_reading_before_factorising_is_refused():
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    calls = [
        lambda: engine.cross(0),
        lambda: engine.information_blocks(0),
        lambda: engine.information_sum(0),
        lambda: engine.information_product([np.ones((J, q, 1)) for J, q in engine.products.sizes]),
    ]
    for call in calls:
        with pytest.raises(LikelihoodError, match="call factorise first"):
            call()


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ([np.eye(1)], "1 factors for 2"),
        ([np.eye(1), np.eye(2)], r"factor 1 of shape \(2, 2\)"),
        ([np.eye(1), np.array([[np.nan]])], "factor 1"),
    ],
)
def test_bad_factors_are_named(factors, words):
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    with pytest.raises(LikelihoodError, match=words):
        engine.factorise(factors)


def test_bad_coefficients_are_named():
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    engine.factorise([np.eye(1), np.eye(1)])
    good = [np.ones((J, q, 2)) for J, q in engine.products.sizes]
    for bad in ([good[0]], [good[0], good[1][:, :, :1]], [good[0][1:], good[1]], []):
        with pytest.raises(LikelihoodError, match="by block as"):
            engine.information_product(bad)


def test_a_pivot_lost_to_overflow_is_an_error_and_leaves_no_old_answer():
    engine = SparseEngine(cross_products(random_rows("crossed", 1)))
    engine.factorise([np.eye(1), np.eye(1)])
    with pytest.raises(LikelihoodError, match="pivot inf"):
        engine.factorise([np.array([[1e200]]), np.eye(1)])
    assert np.isnan(engine.T).all()
    assert np.isnan(engine.logdet)
    with pytest.raises(LikelihoodError, match="call factorise first"):
        engine.cross(0)


def test_a_factor_beyond_the_limit_is_refused():
    products = cross_products(random_rows("crossed", 1))
    size = symbolic(products).nnz_factor
    SparseEngine(products, symbolic(products, limit=size))
    with pytest.raises(LikelihoodError, match="nonzeros"):
        SparseEngine(products, symbolic(products, limit=size - 1))
