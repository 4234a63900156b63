"""Standard deviations of random effects that depend on predictors: value, gradient, curvature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.design.build import build_design
from multilevel.design.random_scale import columns_with, resolved, split, unscaled_columns
from multilevel.errors import LikelihoodError
from multilevel.estimate.structured import prepare_structured
from multilevel.likelihood.residual.dense import residual_matrices
from multilevel.model.formula.parse import parse_formula
from multilevel.model.random_scale import check_random_scale
from multilevel.model.residual import parse_residual

RESIDUALS = [(None, None), ("ar1(t | sch:cl)", None), (None, "x"), ("ar1(t | sch:cl)", "x")]


def table(rng, n=60):
    """Rows of 18 classes in 9 schools, the last school with one row."""
    cl = np.append(rng.integers(0, 16, n - 2), [16, 17])
    sch = cl // 2
    return {
        "y": rng.normal(size=n), "x": rng.normal(size=n), "cl": cl, "sch": sch,
        "w": rng.normal(size=9)[sch], "v": rng.normal(size=18)[cl],
        "g": np.array(["a", "b"])[sch % 2], "t": np.arange(n),
    }  # fmt: skip


def problem(method, residual=None, scale=None, seed=3):
    rng = np.random.default_rng(seed)
    model = parse_formula("y ~ x + (1 + x | sch) + (1 | sch:cl)", method)
    words = {"sch": "~ w + g", "sch:cl": "~ v"}
    model = replace(
        model, scale=scale,
        random_scale=check_random_scale(words, [term.factors for term in model.random]),
        residual=None if residual is None else parse_residual(residual),
    )  # fmt: skip
    design = build_design(model, table(rng))
    prepared = prepare_structured(design, method=method)
    psi = 0.4 * rng.normal(size=prepared.objective().n_parameters)
    return prepared, psi


def dense(prepared, psi):
    """The criterion from one covariance matrix over all rows."""
    design, objective = prepared.plain.design, prepared.objective()
    phi, k, n = psi[objective.n_theta :], objective.whitener.n_parameters, design.n
    V = residual_matrices(design.residual, phi[:k], np.arange(n)[None])[0][0]
    at = 0
    alphas = split(design.blocks, phi[k:])
    for block, B, alpha in zip(design.blocks, prepared.plain.scaling.random, alphas, strict=True):
        L = B @ block.structure.factor(psi[at : at + block.structure.n_parameters])
        at += block.structure.n_parameters
        for j in range(block.n_levels):
            rows = np.flatnonzero(block.codes == j)
            D = np.diag(np.exp(block.scale.columns[rows[0]] @ alpha)) @ L
            Z = unscaled_columns(block)[rows]
            V[np.ix_(rows, rows)] += Z @ D @ D.T @ Z.T
    X, y, p = design.X, design.y, design.X.shape[1]
    Vi = np.linalg.inv(V)
    A = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(A, X.T @ Vi @ y)
    reml = prepared.method == "reml"
    nu = n - p if reml else n
    d = np.linalg.slogdet(V)[1] + nu * (1.0 + np.log(2.0 * np.pi * (r @ Vi @ r) / nu))
    return d + (np.linalg.slogdet(A)[1] if reml else 0.0)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize(("residual", "scale"), RESIDUALS)
def test_value_equals_dense_and_gradient_equals_differences(method, residual, scale):
    prepared, psi = problem(method, residual, scale)
    objective = prepared.objective()
    shift = prepared.plain.scaling.criterion_shift(60, 2, method == "reml")
    assert objective.value(psi) + shift == pytest.approx(dense(prepared, psi), abs=1e-9)
    gradient = objective.gradient(psi)
    step = 1e-6 * np.eye(len(psi))
    found = [(objective.value(psi + s) - objective.value(psi - s)) / 2e-6 for s in step]
    assert pytest.approx(np.array(found), abs=2e-6) == gradient


def test_average_information_is_the_expected_curvature():
    """Over responses drawn at psi the mean average information is the mean Hessian."""
    prepared, psi = problem("ml")
    psi = 0.5 * psi
    design, objective = prepared.plain.design, prepared.objective()
    objective.value(psi)
    blocks, at, V = design.blocks, 0, np.eye(design.n)
    alphas = split(blocks, psi[objective.n_theta :])
    for block, B, alpha in zip(blocks, prepared.plain.scaling.random, alphas, strict=True):
        L = B @ block.structure.factor(psi[at : at + block.structure.n_parameters])
        at += block.structure.n_parameters
        Z = columns_with(block, alpha) @ L
        V += (Z @ Z.T) * (block.codes[:, None] == block.codes[None])
    root, rng = np.linalg.cholesky(V), np.random.default_rng(5)
    exact, average = [], []
    for _ in range(150):
        drawn = replace(design, y=root @ rng.normal(size=design.n))
        one = prepare_structured(drawn, method="ml").objective()
        exact.append(np.diag(one.hessian(psi)))
        average.append(np.diag(one.average_information(psi)))
    gap = np.array(exact) - np.array(average)
    error = gap.std(axis=0) / np.sqrt(len(gap))
    tail = slice(objective.n_theta, None)
    assert np.all(np.abs(gap.mean(axis=0)[tail]) < 5.0 * error[tail] + 0.2)


def test_zero_coefficients_are_the_plain_model():
    prepared, psi = problem("reml")
    objective = prepared.objective()
    psi[objective.n_theta :] = 0.0
    plain = prepared.plain.objective()
    # scaled effects are not centred, so theta means the same in both
    assert objective.value(psi) == pytest.approx(plain.value(psi[: objective.n_theta]), abs=1e-9)


def test_a_resolved_design_is_the_same_problem():
    """Coefficients that are applied to the columns are taken off again before a refit."""
    prepared, psi = problem("ml")
    tail = psi[prepared.objective().n_theta :]
    again = resolved(prepared.plain.design, tail)
    for block, other in zip(prepared.plain.design.blocks, again.blocks, strict=True):
        assert not np.allclose(block.columns, other.columns)
        np.testing.assert_allclose(unscaled_columns(other), block.columns, rtol=1e-12)


def test_standard_deviations_out_of_range_are_refused():
    prepared, psi = problem("ml")
    psi[-1] = 200.0
    with pytest.raises(LikelihoodError, match="random_scale of sch that"):
        prepared.objective().value(psi)
