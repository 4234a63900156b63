"""Sparse LDL' kernels against dense NumPy and against SciPy's SuperLU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from multilevel.likelihood.blocks import sparse_ldl


def random_matrix(n, density, seed):
    """A sparse symmetric positive definite matrix, its full pattern without the diagonal."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1)
    values = np.where(upper, rng.standard_normal((n, n)), 0.0)
    matrix = values + values.T
    matrix += np.diag(np.abs(matrix).sum(1) + 1.0)
    pattern = sparse.csc_array((upper | upper.T).astype(float))
    return matrix, pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)


def fill_by_elimination(matrix):
    """Boolean pattern of L by the definition: eliminate, join the neighbours."""
    pattern = matrix != 0
    for k in range(len(pattern)):
        later = np.flatnonzero(pattern[:, k])
        later = later[later > k]
        pattern[np.ix_(later, later)] = True
    return np.tril(pattern, -1)


def analyse(matrix, Ap, Ai):
    n = len(matrix)
    natural = np.arange(n)
    parent = sparse_ldl.elimination_tree(Ap, Ai, natural, natural)
    post = sparse_ldl.postorder(parent)
    ones = np.ones(n, np.int64)
    counts = sparse_ldl.column_counts(Ap, Ai, natural, natural, parent, post, ones)
    upper = sparse.csc_array(np.triu(matrix))
    Up, Ui = upper.indptr.astype(np.int64), upper.indices.astype(np.int64)
    Lp = np.concatenate([[0], np.cumsum(counts - 1)])
    Li, slots = sparse_ldl.factor_pattern(Up, Ui, parent, Lp)
    return parent, post, counts, Up, Ui, upper.data, Lp, Li, slots


def factor(matrix, Ap, Ai):
    parent, _, _, Up, Ui, Ux, Lp, Li, slots = analyse(matrix, Ap, Ai)
    Lx, D = np.empty(Li.size), np.empty(len(matrix))
    failed = sparse_ldl.factorise(Up, Ui, Ux, parent, Lp, Li, Lx, D)
    return failed, Lp, Li, Lx, D, slots


CASES = [(1, 0.0, 0), (12, 0.0, 1), (30, 0.08, 2), (40, 0.04, 3), (60, 0.2, 4), (25, 0.9, 5)]


@pytest.mark.parametrize(("n", "density", "seed"), CASES)
def test_pattern_is_that_of_elimination(n, density, seed):
    matrix, Ap, Ai = random_matrix(n, density, seed)
    parent, post, counts, *_, Lp, Li, _ = analyse(matrix, Ap, Ai)
    fill = fill_by_elimination(matrix)
    np.testing.assert_array_equal(counts, fill.sum(0) + 1)
    for j in range(n):
        rows = np.flatnonzero(fill[:, j])
        np.testing.assert_array_equal(Li[Lp[j] : Lp[j + 1]], rows)
        assert parent[j] == (rows[0] if rows.size else -1)
    place = np.argsort(post)
    inner = parent >= 0
    assert sorted(post) == list(range(n))
    assert np.all(place[parent[inner]] > place[inner])


@pytest.mark.parametrize("seed", range(4))
def test_weighted_counts_under_a_random_order(seed):
    matrix, Ap, Ai = random_matrix(35, 0.07, seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(35)
    weight = rng.integers(1, 4, 35)
    parent = sparse_ldl.elimination_tree(Ap, Ai, order, np.argsort(order))
    post = sparse_ldl.postorder(parent)
    counts = sparse_ldl.column_counts(Ap, Ai, order, np.argsort(order), parent, post, weight)
    fill = fill_by_elimination(matrix[np.ix_(order, order)])
    np.testing.assert_array_equal(counts, weight + weight @ fill)


@pytest.mark.parametrize(("n", "density", "seed"), CASES)
def test_factor_and_solves(n, density, seed):
    matrix, Ap, Ai = random_matrix(n, density, seed)
    failed, Lp, Li, Lx, D, _ = factor(matrix, Ap, Ai)
    assert failed == -1
    L = sparse.csc_array((Lx, Li, Lp), shape=(n, n)).toarray() + np.eye(n)
    np.testing.assert_allclose(L @ np.diag(D) @ L.T, matrix, atol=1e-12)
    right = np.random.default_rng(seed).standard_normal((n, 3))
    X = right.copy()
    sparse_ldl.solve_forward(Lp, Li, Lx, X)
    np.testing.assert_allclose(L @ X, right, atol=1e-12)
    X /= D[:, None]
    sparse_ldl.solve_backward(Lp, Li, Lx, X)
    lu = splu(sparse.csc_matrix(matrix))
    np.testing.assert_allclose(X, lu.solve(right), rtol=1e-9, atol=1e-12)
    assert np.log(D).sum() == pytest.approx(np.log(np.abs(lu.U.diagonal())).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "density", "seed"), [*CASES, (150, 0.01, 6), (120, 0.03, 7)])
def test_selected_inverse(n, density, seed):
    matrix, Ap, Ai = random_matrix(n, density, seed)
    _, Lp, Li, Lx, D, slots = factor(matrix, Ap, Ai)
    inverse = np.empty(Li.size + n)
    sparse_ldl.selected_inverse(Lp, Li, Lx, D, inverse)
    dense = np.linalg.inv(matrix)
    columns = np.repeat(np.arange(n), np.diff(Lp))
    np.testing.assert_allclose(inverse[: Li.size], dense[Li, columns], atol=1e-12)
    np.testing.assert_allclose(inverse[Li.size :], np.diag(dense), rtol=1e-11)
    upper = sparse.csc_array(np.triu(matrix))
    across = np.repeat(np.arange(n), np.diff(upper.indptr))
    np.testing.assert_allclose(inverse[slots], dense[upper.indices, across], atol=1e-12)


def test_selected_inverse_where_short_columns_meet_long_ones():
    """An arrow with a dense head takes the bisection branch."""
    n, head = 90, 40
    rng = np.random.default_rng(0)
    matrix = np.zeros((n, n))
    for j in range(n - head):
        matrix[j, n - head + rng.choice(head, 3, replace=False)] = rng.standard_normal(3)
    matrix[n - head :, n - head :] = 0.01
    matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    matrix += np.diag(np.abs(matrix).sum(1) + 1.0)
    pattern = sparse.csc_array(matrix - np.diag(np.diag(matrix)))
    _, Lp, Li, Lx, D, _ = factor(
        matrix, pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    )
    inverse = np.empty(Li.size + n)
    sparse_ldl.selected_inverse(Lp, Li, Lx, D, inverse)
    dense = np.linalg.inv(matrix)
    columns = np.repeat(np.arange(n), np.diff(Lp))
    np.testing.assert_allclose(inverse[: Li.size], dense[Li, columns], atol=1e-13)
    np.testing.assert_allclose(inverse[Li.size :], np.diag(dense), rtol=1e-12)


@pytest.mark.parametrize("bad", [-5.0, 0.0, np.nan])
def test_a_bad_pivot_is_named(bad):
    matrix, Ap, Ai = random_matrix(20, 0.1, 0)
    matrix[7, :] = matrix[:, 7] = 0.0
    matrix[7, 7] = 1.0
    analysis = analyse(matrix, Ap, Ai)
    parent, Up, Ui, Ux, Lp, Li = analysis[0], *analysis[3:8]
    Ux = np.where((Ui == 7) & (np.repeat(np.arange(20), np.diff(Up)) == 7), bad, Ux)
    failed = sparse_ldl.factorise(Up, Ui, Ux, parent, Lp, Li, np.empty(Li.size), np.empty(20))
    assert failed == 7


def test_a_second_factorisation_does_not_remember_the_first():
    matrix, Ap, Ai = random_matrix(30, 0.1, 1)
    parent, _, _, Up, Ui, Ux, Lp, Li, _ = analyse(matrix, Ap, Ai)
    Lx, D = np.empty(Li.size), np.empty(30)
    sparse_ldl.factorise(Up, Ui, 3.0 * Ux, parent, Lp, Li, Lx, D)
    sparse_ldl.factorise(Up, Ui, Ux, parent, Lp, Li, Lx, D)
    assert np.log(D).sum() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-13)
