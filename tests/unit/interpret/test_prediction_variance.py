"""The variance of a predicted mean against the joint covariance, formed densely."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.interpret.prediction_variance import PredictionRows, relative_variance
from tests.support.oracle import KINDS, DenseOracle, random_rows


def dense_variance(oracle, psis, rows):
    """Invert Henderson's mixed-model equations and read off each row's prediction variance."""
    Z = np.hstack(oracle.Zs)
    sizes = [(Zt.shape[1] // psi.shape[0]) for Zt, psi in zip(oracle.Zs, psis, strict=True)]
    X = oracle.W[:, :-1]
    total = np.zeros((Z.shape[1], Z.shape[1]))
    at = 0
    offsets = []
    for J, psi in zip(sizes, psis, strict=True):
        width = J * psi.shape[0]
        total[at : at + width, at : at + width] = np.kron(np.eye(J), np.linalg.inv(psi))
        offsets.append(at)
        at += width
    p = X.shape[1]
    C = np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + total]])
    joint = np.linalg.inv(C)
    out = np.zeros(len(rows.X))
    for i in range(len(rows.X)):
        d = np.zeros(p + Z.shape[1])
        d[:p] = rows.X[i]
        extra = 0.0
        for t, psi in enumerate(psis):
            z, code, q = rows.columns[t][i], rows.codes[t][i], psi.shape[0]
            if code < 0:
                extra += z @ psi @ z
            else:
                d[p + offsets[t] + code * q : p + offsets[t] + (code + 1) * q] = z
        out[i] = d @ joint @ d + extra
    return out


def problem(kind, seed, weighted):
    data = random_rows(kind, seed, weighted)
    oracle = DenseOracle(data)
    rng = np.random.default_rng(seed + 100)
    factors = []
    for _, columns in data.blocks:
        q = columns.shape[1]
        factors.append(np.tril(rng.standard_normal((q, q))) + 0.5 * np.eye(q))
    oracle.factorise(factors)
    n_new = 25
    codes = tuple(
        rng.integers(-1, data_codes.max() + 1, n_new).astype(np.int32)
        for data_codes, _ in data.blocks
    )
    columns = tuple(rng.standard_normal((n_new, c.shape[1])) for _, c in data.blocks)
    rows = PredictionRows(rng.standard_normal((n_new, data.X.shape[1])), codes, columns)
    return oracle, [L @ L.T for L in factors], rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_inverse_of_the_mixed_model_equations(kind, weighted):
    oracle, psis, rows = problem(kind, 3, weighted)
    got = relative_variance(oracle, psis, rows)
    np.testing.assert_allclose(got, dense_variance(oracle, psis, rows), rtol=1e-8)


def test_an_engine_with_noisy_blocks_is_asked_for_columns_only(monkeypatch):
    oracle, psis, rows = problem("crossed_slopes", 5, weighted=False)
    expected = relative_variance(oracle, psis, rows)

    def forbidden(block):
        raise RuntimeError(f"noisy blocks of {block} were used")

    monkeypatch.setattr(oracle, "exact", False)
    monkeypatch.setattr(oracle, "information_blocks", forbidden)
    monkeypatch.setattr("multilevel.interpret.prediction_variance.COLUMNS_AT_ONCE", 3)
    np.testing.assert_allclose(relative_variance(oracle, psis, rows), expected, rtol=1e-9)


def test_zero_variance_leaves_the_fixed_effects_only():
    oracle, _, rows = problem("slope", 2, weighted=False)
    oracle.factorise([np.zeros((2, 2))])
    got = relative_variance(oracle, [np.zeros((2, 2))], rows)
    X = oracle.W[:, :-1]
    expected = np.einsum("ia,ab,ib->i", rows.X, np.linalg.inv(X.T @ X), rows.X)
    np.testing.assert_allclose(got, expected, rtol=1e-10)
