"""Compiled kernels against their plain twins and against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.likelihood.blocks import iterative_kernels as kernels


def leaf_design(q, seed=0):
    """Six leaf levels over two core levels of 1 column and two of 2 columns."""
    rng = np.random.default_rng(seed)
    first = np.array([0, 1, 2, 2, 4, 4], dtype=np.int32)
    width = np.array([1, 1, 2, 2, 2, 2], dtype=np.int32)
    groups = [[0], [1], [2, 3], [4, 5]]
    index, indptr = [], [0]
    for _ in range(6):
        for group in groups:
            if rng.random() < 0.6:
                index += group
        indptr.append(len(index))
    value = rng.standard_normal((len(index), q))
    B = np.zeros((6, 6, q))  # leaf, core, leaf column
    for g in range(6):
        for e in range(indptr[g], indptr[g + 1]):
            B[g, index[e]] = value[e]
    half = rng.standard_normal((6, q, q))
    N = half @ half.transpose(0, 2, 1)
    return np.array(indptr), np.array(index, dtype=np.int32), value, first, width, N, B, rng


def both(kernel):
    return pytest.mark.parametrize("run", [kernel, kernel.py_func], ids=["compiled", "plain"])


@both(kernels.apply_leaf)
@pytest.mark.parametrize("q", [1, 2])
def test_apply_leaf(run, q):
    indptr, index, value, _, _, N, B, rng = leaf_design(q)
    V = rng.standard_normal((6, 5))
    out = np.full((6, 5), 9.0)
    run(indptr, index, value, N, V, out, 1, 5)
    expected = np.einsum("gia,gab,gjb,jk->ik", B[1:5], N[1:5], B[1:5], V)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-13)


@both(kernels.leaf_diagonals)
@pytest.mark.parametrize("q", [1, 2])
def test_leaf_diagonals(run, q):
    indptr, index, value, first, width, N, B, rng = leaf_design(q)
    core, leaf = np.zeros((6, 2)), np.zeros((6, q, q))
    theta = rng.standard_normal((6, 2))
    run(indptr, index, value, first, width, N, core, theta, leaf, True)
    run(indptr, index, value, first, width, N, core, theta, leaf, False)
    dense = np.einsum("gia,gab,gjb->ij", B, N, B)
    Theta = np.zeros((6, 6))
    for i in range(6):
        for b in range(width[i]):
            Theta[i, first[i] + b] = theta[i, b]
            assert core[i, b] == pytest.approx(dense[i, first[i] + b], abs=1e-12)
    np.testing.assert_allclose(leaf, np.einsum("gia,ij,gjb->gab", B, Theta, B), atol=1e-12)


@both(kernels.leaf_forms)
@pytest.mark.parametrize("q", [1, 2])
def test_leaf_forms(run, q):
    indptr, index, value, _, _, U, B, rng = leaf_design(q)
    left, right = rng.standard_normal((6, 3)), rng.standard_normal((6, 3))
    weight, sums, levels = np.array([1.0, 0.5, 0.2]), np.zeros((3, q, q)), np.zeros((6, q, q))
    run(indptr, index, value, U, left, right, weight, sums, levels, 0, 6)
    a, b = (np.einsum("gab,gib,ik->gak", U, B, x) for x in (left, right))
    np.testing.assert_allclose(sums, np.einsum("gak,gbk->kab", a, b), atol=1e-11)
    np.testing.assert_allclose(levels, np.einsum("gak,gbk,k->gab", a, b, weight), atol=1e-11)


@both(kernels.finish_product)
def test_finish_product(run):
    _, _, _, first, width, _, _, rng = leaf_design(1)
    Delta, parts = rng.standard_normal((6, 2)), rng.standard_normal((2, 6, 3))
    P, V, product, forms = (*rng.standard_normal((3, 6, 3)), np.full(3, 7.0))
    sparse = (np.array([0, 1, 1, 1, 1, 1, 2]), np.array([3, 0], np.int32), np.array([2.0, 5.0]))
    run(*sparse, first, width, Delta, parts, P, V, product, forms, 0, 6)
    expected = -parts.sum(0)
    for i in range(6):
        expected[i] += Delta[i, : width[i]] @ V[first[i] : first[i] + width[i]]
    expected[0] += 2.0 * V[3]
    expected[5] += 5.0 * V[0]
    np.testing.assert_allclose(product, expected, atol=1e-12)
    np.testing.assert_allclose(forms, (P**2 + V * expected).sum(0), atol=1e-12)


def test_step_then_turn_in_both_forms():
    _, _, _, first, width, _, _, rng = leaf_design(1)
    rows = rng.standard_normal((6, 2))
    H = np.zeros((6, 6))
    for i in range(6):
        H[i, first[i] : first[i] + width[i]] = rows[i, : width[i]]
    alpha, beta = np.array([0.3, 0.0, 2.0]), np.array([0.1, 0.5, 0.0])
    P, product, R, total = rng.standard_normal((4, 6, 3))
    new_R = R - alpha * (P + H.T @ product)
    new_P = new_R + beta * P
    for step, turn in (
        (kernels.step, kernels.turn),
        (kernels.step.py_func, kernels.turn.py_func),
    ):
        r, p, t, v, squares = R.copy(), P.copy(), total.copy(), np.empty((6, 3)), np.empty(3)
        step(first, width, rows, alpha, p, product, r, t, squares, 0, 6)
        np.testing.assert_allclose(r, new_R, atol=1e-13)
        np.testing.assert_allclose(t, total - alpha * product, atol=1e-13)
        np.testing.assert_allclose(squares, (new_R**2).sum(0), atol=1e-12)
        turn(first, width, rows, beta, r, p, v, 0, 6)
        np.testing.assert_allclose(p, new_P, atol=1e-13)
        np.testing.assert_allclose(v, H @ new_P, atol=1e-12)
