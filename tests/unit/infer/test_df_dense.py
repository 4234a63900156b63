"""Kenward-Roger and Satterthwaite of every engine against their definitions with dense V."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated
from multilevel.estimate.prepare import prepare
from multilevel.infer import information_traces
from multilevel.infer.degrees_of_freedom import independent_rows
from multilevel.infer.kenward_roger import kenward_roger, scaled_f
from multilevel.infer.satterthwaite import pooled_df, satterthwaite
from tests.support.designs import design_of
from tests.support.oracle import KINDS, random_rows
from tests.unit.infer import dense_means

ENGINES = [(kind, None) for kind in KINDS] + [
    (kind, engine)
    for kind in ("crossed", "crossed_slopes", "crossed3", "partially", "mixed")
    for engine in ("dense", "sparse")
]
L = np.array([[0.0, 1.0, 0.0], [1.0, -0.5, 2.0]])


@pytest.mark.parametrize(("kind", "engine"), ENGINES)
@pytest.mark.parametrize("weighted", [False, True])
def test_kenward_roger(kind, engine, weighted):
    found = dense_means.interior(kind, engine=engine, weighted=weighted)
    ours = kenward_roger(found.prepared, found.fit, found.objective)
    Phi, adjusted, _, _ = dense_means.kenward_roger(found)
    np.testing.assert_allclose(ours.unadjusted, Phi, rtol=1e-7, atol=1e-9 * Phi.max())
    np.testing.assert_allclose(ours.vcov, adjusted, rtol=1e-6, atol=1e-8 * Phi.max())
    for row in (L[:1], L[1:], L):
        F, df = dense_means.kenward_roger_f(found, row, found.fit.beta)
        joint = ours.joint(row, row @ found.fit.beta)
        assert joint.df == pytest.approx(df, rel=1e-5)
        assert joint.statistic == pytest.approx(F, rel=1e-5)
        assert joint.df_num == len(row)
    single = [dense_means.kenward_roger_f(found, row[None], found.fit.beta)[1] for row in L]
    np.testing.assert_allclose(ours.row_df(L), single, rtol=1e-5)


# The differenced gradient (several factors) is good to about 1e-7 of the curvature; a flat
# criterion multiplies that by its condition number, and the optimum itself is good to 1e-6.
@pytest.mark.parametrize(("kind", "engine"), ENGINES)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_satterthwaite(kind, engine, method):
    found = dense_means.interior(kind, engine=engine, method=method)
    ours = satterthwaite(found.prepared, found.fit, found.objective)
    np.testing.assert_allclose(ours.row_df(L), dense_means.satterthwaite_df(found, L), rtol=2e-3)


@pytest.mark.parametrize("structure", ["diagonal", "identity", "compound_symmetry"])
@pytest.mark.parametrize("kind", ["slope", "three", "crossed_slopes"])
def test_structures(kind, structure):
    found = dense_means.interior(kind, structure=structure)
    ours = kenward_roger(found.prepared, found.fit, found.objective)
    Phi, adjusted, _, _ = dense_means.kenward_roger(found)
    np.testing.assert_allclose(ours.vcov, adjusted, rtol=1e-6, atol=1e-8 * Phi.max())
    single = [dense_means.kenward_roger_f(found, row[None], found.fit.beta)[1] for row in L]
    np.testing.assert_allclose(ours.row_df(L), single, rtol=1e-5)
    df = satterthwaite(found.prepared, found.fit, found.objective).row_df(L)
    np.testing.assert_allclose(df, dense_means.satterthwaite_df(found, L), rtol=2e-3)


def test_fai_cornelius_is_what_its_definition_says():
    found = dense_means.interior("slope")
    ours = satterthwaite(found.prepared, found.fit, found.objective)
    joint = ours.joint(L, L @ found.fit.beta)
    S = L @ found.fit.vcov_beta @ L.T
    wald = (L @ found.fit.beta) @ np.linalg.solve(S, L @ found.fit.beta)
    assert joint.statistic == pytest.approx(wald / 2, rel=1e-8)
    rows, _, _ = independent_rows(L, np.zeros(2), found.fit.vcov_beta)
    np.testing.assert_allclose(rows @ found.fit.vcov_beta @ rows.T, np.diag(np.diag(
        rows @ found.fit.vcov_beta @ rows.T)), atol=1e-12)  # fmt: skip
    nu = ours.row_df(rows)
    E = float(np.sum(nu / (nu - 2)))
    assert joint.df == pytest.approx(2 * E / (E - 2), rel=1e-10)


def test_pooled_df_at_its_edges():
    assert pooled_df(np.array([7.0])) == 7.0
    assert pooled_df(np.array([9.0, 9.0])) == pytest.approx(9.0)
    assert pooled_df(np.array([1.5, 30.0])) == 2.0
    assert pooled_df(np.array([np.inf, np.inf])) == np.inf
    assert pooled_df(np.array([10.0, np.inf])) == pytest.approx(2 * 2.25 / 0.25)


def test_scaled_f_at_its_edges():
    assert scaled_f(0.0, 0.0, 2) == (np.inf, 1.0)
    assert scaled_f(0.25, 0.25, 1) == (8.0, 1.0)
    # equal weights on l rows of common df: F needs no scaling (Hotelling aside, balanced split)
    df, factor = scaled_f(2 * 2 * 0.1, 2 * 0.1, 2)
    assert df == pytest.approx(2 / 0.1)
    assert factor == pytest.approx(1.0)


def test_a_singular_fit_has_the_df_of_the_model_without_the_effect():
    rows = random_rows("slope", 3, p=3)
    # no variance between the levels of the factor: the response is balanced within each level
    codes, _ = rows.blocks[0]
    y = np.random.default_rng(5).standard_normal(len(rows.y))
    for level in np.unique(codes):
        y[codes == level] -= y[codes == level].mean()
    flat = replace(rows, y=y, blocks=((codes, np.ones((len(y), 1))),))
    prepared = prepare(design_of(flat), method="reml")
    fit = solve(prepared)
    assert fit.certificate.status == "singular"
    found = satterthwaite(prepared, fit, evaluated(prepared, fit))
    assert "leave out 1 direction of zero variance" in found.notes[0]
    n, p = rows.X.shape
    np.testing.assert_allclose(found.row_df(np.eye(p)), n - p, rtol=1e-8)


def test_a_correlation_of_one_leaves_one_direction():
    # slope = twice the intercept in every level: the second random effect adds nothing
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(12), 6).astype(np.int32)
    x = rng.standard_normal(72)
    combined = (1 + 2 * x)[:, None]
    b = 2.0 * rng.standard_normal(12)
    y = combined[:, 0] * b[codes] + 0.5 * rng.standard_normal(72)
    base = random_rows("slope", 1, p=2)
    X = np.column_stack([np.ones(72), x])
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(72)
        full = replace(base, y=y + 0.3 * noise, X=X, blocks=((codes, X.copy()),))
        prepared = prepare(design_of(full), method="reml")
        fit = solve(prepared)
        if fit.certificate.status == "singular":
            break
    assert fit.certificate.status == "singular"
    ours = satterthwaite(prepared, fit, evaluated(prepared, fit)).row_df(np.eye(2))
    G = fit.random_covariance[0]
    direction = np.sqrt(np.diag(G)) * np.array([1.0, np.sign(G[0, 1])])
    single = replace(full, blocks=((codes, (X @ direction)[:, None]),))
    reduced = prepare(design_of(single), method="reml")
    small = solve(reduced)
    assert small.criterion == pytest.approx(fit.criterion, abs=1e-6)
    expected = satterthwaite(reduced, small, evaluated(reduced, small)).row_df(np.eye(2))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_kenward_roger_refuses_what_it_cannot_do(monkeypatch):
    found = dense_means.interior("one", method="ml")
    with pytest.raises(InferenceError, match="REML"):
        kenward_roger(found.prepared, found.fit, found.objective)
    monkeypatch.setattr(information_traces, "MAX_WORK", 10.0)
    crossed = dense_means.interior("crossed")
    with pytest.raises(InferenceError, match="satterthwaite"):
        kenward_roger(crossed.prepared, crossed.fit, crossed.objective)


def test_rows_that_contradict_are_refused():
    vcov = np.eye(2)
    with pytest.raises(InferenceError, match="contradict"):
        independent_rows(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([1.0, 5.0]), vcov)
    rows, gaps, _ = independent_rows(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([1.0, 2.0]), vcov)
    assert len(rows) == 1
    assert abs(gaps[0] / rows[0, 0]) == pytest.approx(1.0)
    with pytest.raises(InferenceError, match="involve a fixed effect"):
        independent_rows(np.zeros((1, 2)), np.zeros(1), vcov)
