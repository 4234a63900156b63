"""Engines against dense brute force: all kinds x weights x regular and singular factors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multilevel.likelihood.blocks.accumulate import accumulate
from multilevel.likelihood.blocks.scaling import scaling_of
from multilevel.likelihood.gaussian.nested import NestedEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.gaussian.small import SmallEngine
from multilevel.likelihood.gaussian.sparse import SparseEngine
from multilevel.model.covariance.structures import factor_map
from tests.support.designs import design_of
from tests.support.oracle import KINDS, DenseOracle, Rows, cross_products, random_rows

NESTED = ("one", "slope", "three", "nested", "nested_slopes", "deep")


def factors_for(sizes, seed, kind="regular"):
    rng = np.random.default_rng(seed)
    out = []
    for _, q in sizes:
        L = np.tril(rng.standard_normal((q, q)))
        if kind == "zero":
            L[:] = 0.0
        if kind == "singular":
            L[:, -1] = 0.0
        if kind == "small":
            L *= 1e-3
        out.append(L)
    return out


def engines(kind, cp):
    made = [SmallEngine(cp), SparseEngine(cp)]
    if kind in NESTED:
        made += [NestedEngine(cp, compiled=False), NestedEngine(cp, compiled=True)]
    else:
        from multilevel.likelihood.gaussian.dense_core import DenseCoreEngine

        made.append(DenseCoreEngine(cp))
    return made


def agree(engine, oracle, sizes, rtol, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.abs(oracle.T).max()
    np.testing.assert_allclose(engine.T, oracle.T, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(engine.logdet, oracle.logdet, rtol=rtol, atol=1e-10)
    C = [rng.standard_normal((J, q, 3)) for J, q in sizes]
    ours, theirs = engine.information_product(C), oracle.information_product(C)
    for t in range(len(sizes)):
        for a, b in (
            (engine.cross(t), oracle.cross(t)),
            (engine.information_blocks(t), oracle.information_blocks(t)),
            (engine.information_sum(t), oracle.information_sum(t)),
            (ours[t], theirs[t]),
        ):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max() + 1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("factor_kind", ["regular", "small", "singular", "zero"])
@pytest.mark.parametrize("kind", KINDS)
def test_engines_equal_brute_force(kind, factor_kind, weighted):
    rows = random_rows(kind, 3, weighted)
    cp = cross_products(rows)
    oracle = DenseOracle(rows)
    for repeat in range(2):  # a second factorisation must not remember the first
        factors = factors_for(cp.sizes, 10 + repeat, factor_kind)
        oracle.factorise(factors)
        for engine in engines(kind, cp):
            engine.factorise(factors_for(cp.sizes, 99))
            engine.factorise(factors)
            agree(engine, oracle, cp.sizes, 1e-8 if factor_kind == "regular" else 1e-6)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("structure", ["unstructured", "diagonal", "compound_symmetry", "identity"])
@pytest.mark.parametrize("kind", ["slope", "three", "nested_slopes", "crossed_slopes", "mixed"])
def test_gradient_equals_differences_for_every_structure(kind, structure, reml):
    rows = random_rows(kind, 5, weighted=True)
    cp = cross_products(rows)
    maps = [factor_map(((q, structure if q > 1 else "unstructured"),)) for _, q in cp.sizes]
    for engine in engines(kind, cp):
        check_gradient(engine, cp, maps, reml)


def check_gradient(engine, cp, maps, reml):
    objective = GaussianObjective(engine, maps, cp.n, cp.n_fixed, reml, cp.sum_log_weights)
    theta = np.random.default_rng(1).uniform(0.3, 1.2, objective.n_parameters)
    objective.set(theta)
    gradient = objective.gradient()
    h = 1e-5
    steps = np.eye(len(theta)) * h
    numeric = [(objective.value(theta + s) - objective.value(theta - s)) / (2 * h) for s in steps]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("p", [0, 1, 3])
@pytest.mark.parametrize("kind", ["one", "slope", "three"])
def test_exact_hessian_equals_differenced_gradient(kind, p, reml):
    rows = random_rows(kind, 7, p=p)
    cp = cross_products(rows)
    maps = [factor_map(((cp.sizes[0][1], "unstructured"),))]
    objective = GaussianObjective(NestedEngine(cp), maps, cp.n, cp.n_fixed, reml)
    theta = np.random.default_rng(2).uniform(0.3, 1.0, objective.n_parameters)
    objective.set(theta)
    exact = objective.exact_hessian()
    numeric = objective.differenced_hessian(theta)
    np.testing.assert_allclose(exact, numeric, rtol=2e-6, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize("kind", ["slope", "nested", "crossed", "mixed"])
def test_average_information_equals_its_definition(kind):
    """AI = f'P f / sigma2 - ... with the working columns formed row by row."""
    rows = random_rows(kind, 11)
    cp = cross_products(rows)
    maps = [factor_map(((q, "unstructured"),)) for _, q in cp.sizes]
    objective = GaussianObjective(SmallEngine(cp), maps, cp.n, cp.n_fixed, reml=True)
    theta = np.random.default_rng(3).uniform(0.3, 1.0, objective.n_parameters)
    profile = objective.set(theta)
    oracle = DenseOracle(rows)
    oracle.factorise(objective.factors)
    Z = np.column_stack(oracle.Zs)
    F = Z @ np.concatenate([c.reshape(-1, len(theta)) for c in objective.working_coefficients()])
    X, Vi = rows.X, oracle.Vi
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    Fe = F.T @ P @ rows.y
    expected = (F.T @ P @ F - np.outer(Fe, Fe) / profile.r2) / profile.sigma2
    ours = objective.average_information() - objective.second_order_term()
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    weighted=st.booleans(),
    p=st.integers(0, 3),
)
def test_blocked_equals_dense_on_random_designs(kind, seed, weighted, p):
    rows = random_rows(kind, seed, weighted, p)
    cp = cross_products(rows)
    factors = factors_for(cp.sizes, seed)
    oracle = DenseOracle(rows)
    oracle.factorise(factors)
    for engine in engines(kind, cp):
        engine.factorise(factors)
        agree(engine, oracle, cp.sizes, 1e-7, seed)


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), weighted=st.booleans())
def test_cross_products_of_a_design_are_those_of_its_scaled_rows(kind, seed, weighted):
    """One chunked pass, plain or compiled, equals dense products of the scaled columns."""
    rows = random_rows(kind, seed, weighted)
    design = design_of(rows)
    scaling = scaling_of(design)
    scaled = Rows(
        rows.W @ scaling.U[:, -1],
        rows.X @ scaling.U[:-1, :-1],
        tuple((c, z @ B) for (c, z), B in zip(rows.blocks, scaling.random, strict=True)),
        rows.weights,
    )
    expected = cross_products(scaled)
    for compiled in (False, True):
        ours = accumulate(design, scaling, compiled=compiled)
        np.testing.assert_allclose(ours.total, expected.total, atol=1e-9)
        for t in range(expected.n_blocks):
            np.testing.assert_allclose(ours.own[t], expected.own[t], atol=1e-9)
            np.testing.assert_allclose(ours.rhs[t], expected.rhs[t], atol=1e-9)
        for key, pair in expected.pairs.items():
            np.testing.assert_array_equal(ours.pairs[key].indptr, pair.indptr)
            np.testing.assert_array_equal(ours.pairs[key].indices, pair.indices)
            np.testing.assert_allclose(ours.pairs[key].values, pair.values, atol=1e-9)
