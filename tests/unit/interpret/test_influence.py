"""Leverage, residuals and influence against dense definitions and real refits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.estimate.prepare import prepare
from multilevel.infer.robust_clusters import resolve_clusters
from multilevel.infer.robust_rows import working_rows
from multilevel.interpret.influence import cluster_influence, deletions, row_influence
from multilevel.interpret.influence_variances import _scores_without
from multilevel.interpret.leverage import leverages
from multilevel.interpret.residual_diagnostics import row_residuals
from tests.support.dense import dense, problem

KINDS = ("one", "slope", "nested_slopes", "deep", "crossed_slopes", "mixed")
NESTED = ("one", "slope", "nested_slopes", "deep")


def working(kind, weighted=True):
    prepared, objective = problem(kind, weighted=weighted, offset=True)
    rows = working_rows(prepared, objective)
    return prepared, objective, rows, leverages(prepared.design, rows, objective)


def root_weights(design):
    return np.ones(design.n) if design.weights is None else np.sqrt(design.weights)


def gls(X, V, y):
    Vi = np.linalg.inv(V)
    return np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ y), np.linalg.inv(X.T @ Vi @ X)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_leverage_is_the_derivative_of_fitted_values(kind, weighted):
    prepared, objective, _, found = working(kind, weighted)
    X, V, M, _ = dense(prepared, objective)
    n = len(V)
    fixed = X @ M @ X.T @ np.linalg.inv(V)
    total = fixed + (V - np.eye(n)) @ np.linalg.inv(V) @ (np.eye(n) - fixed)
    np.testing.assert_allclose(found.fixed, np.diag(fixed), rtol=1e-8)
    np.testing.assert_allclose(found.total, np.diag(total), rtol=1e-8)
    assert found.fixed.sum() == pytest.approx(X.shape[1])
    assert found.effective_df == pytest.approx(np.trace(total))


@pytest.mark.parametrize("kind", KINDS)
def test_standardised_residuals(kind):
    prepared, objective, rows, leverage = working(kind)
    X, V, M, e = dense(prepared, objective)
    root = root_weights(prepared.design)
    P = np.linalg.inv(V) @ (V - X @ M @ X.T) @ np.linalg.inv(V)
    sigma2 = e @ np.linalg.solve(V, e) / (len(e) - X.shape[1])
    found = row_residuals(rows, leverage)
    conditional = np.linalg.solve(V, e)
    np.testing.assert_allclose(found.conditional * root, conditional, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.marginal * root, e, rtol=1e-7, atol=1e-12)
    std = conditional / np.sqrt(sigma2 * np.diag(P))
    np.testing.assert_allclose(found.conditional_std, std, rtol=1e-7, atol=1e-12)
    marginal = e / np.sqrt(sigma2 * np.diag(V - X @ M @ X.T))
    np.testing.assert_allclose(found.marginal_std, marginal, rtol=1e-7, atol=1e-12)


def check_deletion(prepared, objective, found, sets):
    X, V, M, e = dense(prepared, objective)
    root = root_weights(prepared.design)
    shift = 0.0 if prepared.design.offset is None else prepared.design.offset
    y = (prepared.design.y - shift) * root
    beta, _ = gls(X, V, y)
    sigma2 = e @ np.linalg.solve(V, e) / (len(e) - X.shape[1])
    for k, gone in enumerate(sets):
        rest = np.setdiff1d(np.arange(len(y)), gone)
        without, vcov = gls(X[rest], V[np.ix_(rest, rest)], y[rest])
        d = beta - without
        np.testing.assert_allclose(found.change[k], d, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(
            found.dfbetas[k], d / np.sqrt(sigma2 * np.diag(M)), rtol=1e-6, atol=1e-10
        )
        cook = d @ np.linalg.solve(M, d) / (len(beta) * sigma2)
        assert found.cooks_distance[k] == pytest.approx(cook, rel=1e-6, abs=1e-12)
        ratio = np.linalg.det(vcov) / np.linalg.det(M)
        assert found.covratio[k] == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_left_out(kind):
    prepared, objective, rows, leverage = working(kind)
    found = row_influence(rows, leverage)
    check_deletion(prepared, objective, found, [[i] for i in range(len(rows.X))])


@pytest.mark.parametrize("kind", NESTED)
def test_clusters_left_out(kind):
    prepared, objective, rows, _ = working(kind)
    (cluster,) = resolve_clusters(prepared.design)
    found = cluster_influence(rows, cluster)
    sets = [np.flatnonzero(cluster.codes == j) for j in range(cluster.n_clusters)]
    check_deletion(prepared, objective, found, sets)
    assert found.n_rows.tolist() == [len(s) for s in sets]


def test_a_cluster_on_which_a_fixed_effect_rests():
    prepared, _, _, _ = working("one")
    codes = prepared.design.blocks[0].codes
    alone = (codes == 2).astype(float)
    design = replace(
        prepared.design,
        X=np.asfortranarray(np.column_stack([prepared.design.X, alone])),
        names=(*prepared.design.names, "alone"),
    )
    again = prepare(design, method="reml")
    objective = again.objective()
    objective.set(np.array([0.7]))
    rows = working_rows(again, objective)
    (cluster,) = resolve_clusters(design)
    found = cluster_influence(rows, cluster)
    assert np.isnan(found.cooks_distance[2])
    assert np.isfinite(np.delete(found.cooks_distance, 2)).all()


@pytest.fixture(scope="module")
def hsb():
    return mlm.load_hsb().to_pandas()


class TestOneStep:
    """One Newton step against refits without the school."""

    @pytest.mark.parametrize("method", ["reml", "ml"])
    @pytest.mark.parametrize("slope", ["1", "ses"])
    def test_against_refits(self, hsb, slope, method):
        """Errors of one step are small beside the largest move among the schools tried."""
        formula = f"mathach ~ ses + ({slope} | school)"
        m = mlm.fit(formula, hsb, method=method)
        table = m.influence()
        names = ["residual_variance", *(c for c in table if c.startswith("variance["))]
        moves, found = [], []
        for k in [*table["cooks_distance"].nlargest(4).index.tolist(), 0, 50, 100]:
            rest = mlm.fit(formula, hsb[hsb["school"] != table["level"][k]], method=method)
            moves.append(variances(rest) - variances(m))
            found.append(table.loc[k, names].to_numpy(dtype=float) - variances(m))
        error = np.abs(np.array(found) - np.array(moves)).max(axis=0)
        allowed = np.array([0.04, 0.04, 0.15])[: len(names)]
        assert np.all(error < allowed * np.abs(moves).max(axis=0))

    def test_the_fixed_effects_change_little_more_in_a_refit(self, hsb):
        m = mlm.fit("mathach ~ ses + (1 | school)", hsb)
        table = m.influence()
        k = int(table["cooks_distance"].idxmax())
        rest = mlm.fit("mathach ~ ses + (1 | school)", hsb[hsb["school"] != table["level"][k]])
        move = m.fixed_effects["ses"] - rest.fixed_effects["ses"]
        assert table["change[ses]"][k] == pytest.approx(move, rel=0.1)
        assert f"school {table['level'][k]} moves" in table.attrs["sentence"]

    def test_the_gradient_without_a_school_is_exact(self, hsb):
        """Against differences of the dense profiled criterion of the rows that are left."""
        small = hsb[hsb["school"].isin(hsb["school"].unique()[:12])]
        for method in ("reml", "ml"):
            m = mlm.fit("mathach ~ ses + (1 | school)", small, method=method)
            objective = m._objective()
            rows = working_rows(m._prepared, objective)
            (cluster,) = resolve_clusters(m.design)
            deleted = deletions(rows, cluster)
            for j in (0, 7):
                V, X, y, z = _without(m, objective, cluster, j)
                n, p = X.shape
                nu = n - p if method == "reml" else n

                def criterion(psi, X=X, y=y, z=z, nu=nu, method=method):
                    V = np.eye(len(y)) + psi * z
                    Vi = np.linalg.inv(V)
                    T = X.T @ Vi @ X
                    e = y - X @ np.linalg.solve(T, X.T @ Vi @ y)
                    value = np.linalg.slogdet(V)[1] + nu * np.log(e @ Vi @ e)
                    return value + (np.linalg.slogdet(T)[1] if method == "reml" else 0.0)

                psi = float(rows.psis[0][0, 0])
                slope = (criterion(psi * (1 + 1e-5)) - criterion(psi * (1 - 1e-5))) / (2e-5 * psi)
                Vi = np.linalg.inv(V)
                e = y - X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ y)
                sigma2 = np.full(cluster.n_clusters, e @ Vi @ e / nu)
                Q, _ = _scores_without(objective, deleted, sigma2)
                assert Q[j, 0, 0] == pytest.approx(slope, rel=1e-4, abs=1e-5)

    def test_says_why_it_is_missing(self, hsb):
        small = hsb[hsb["school"].isin(hsb["school"].unique()[:30])].copy()
        small["district"] = small.groupby("school").ngroup() // 3
        m = mlm.fit("mathach ~ ses + (1 | district) + (1 | school)", small)
        table = m.influence()
        assert "residual_variance" not in table
        assert "Variances held" in table.attrs["sentence"]
        assert len(table) == 10


def variances(m):
    return np.array([m.residual_variance, *np.diag(m.fit.random_covariance[0])])


def _without(m, objective, cluster, j):
    rest = cluster.codes != j
    rows = working_rows(m._prepared, objective)
    U = m._prepared.scaling.U
    p = rows.X.shape[1]
    y = (m.design.X @ U[:p, p] + m.design.y * U[p, p])[rest]
    codes = cluster.codes[rest]
    same = (codes[:, None] == codes[None, :]).astype(float)
    return np.eye(int(rest.sum())) + float(rows.psis[0][0, 0]) * same, rows.X[rest], y, same


class TestTables:
    def test_rows(self, hsb):
        m = mlm.fit("mathach ~ ses + (1 | school)", hsb.iloc[:400])
        table = m.influence("row")
        again = m.row_diagnostics()
        assert table["cooks_distance"].to_numpy() == pytest.approx(
            again["cooks_distance"].to_numpy()
        )
        assert again["conditional"].to_numpy() == pytest.approx(m.residuals())
        assert again["marginal"].to_numpy() == pytest.approx(m.residuals("marginal"))

    def test_crossed_factors_cannot_be_left_out(self):
        m = mlm.fit("y ~ 1 + (1 | a) + (1 | b)", crossed())
        with pytest.raises(InferenceError, match="one factor holds"):
            m.influence()
        assert len(m.influence("row")) == len(crossed())

    def test_effects_over_their_standard_deviation(self, hsb):
        """Var(b^) = G Z'PZ G from dense matrices."""
        m = mlm.fit("mathach ~ ses + (ses | school)", hsb.iloc[:300])
        table = m.random_effect_diagnostics()
        block = m.design.blocks[0]
        G = m.fit.random_covariance[0]
        z = np.asarray(block.columns)
        Z = np.zeros((m.n, block.n_levels * 2))
        for a in range(2):
            Z[np.arange(m.n), block.codes * 2 + a] = z[:, a]
        big = np.kron(np.eye(block.n_levels), G)
        V = Z @ big @ Z.T + m.residual_variance * np.eye(m.n)
        Vi = np.linalg.inv(V)
        X = m.design.X
        P = Vi - Vi @ X @ np.linalg.inv(X.T @ Vi @ X) @ X.T @ Vi
        variance = big @ Z.T @ P @ Z @ big
        b = big @ Z.T @ P @ m.design.y
        np.testing.assert_allclose(table["estimate"], b, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(table["std"], b / np.sqrt(np.diag(variance)), rtol=1e-5)
        for j in range(block.n_levels):
            own = slice(2 * j, 2 * j + 2)
            if table["df"][2 * j] == 2:
                distance = b[own] @ np.linalg.solve(variance[own, own], b[own])
                assert table["distance"][2 * j] == pytest.approx(distance, rel=1e-4)


def crossed():
    rng = np.random.default_rng(2)
    a, b = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    y = rng.standard_normal(12)[a] + rng.standard_normal(10)[b] + rng.standard_normal(120)
    return pd.DataFrame({"y": y, "a": a, "b": b})


class TestDiagnose:
    def test_the_overview_names_the_finding(self, hsb):
        data = hsb.iloc[:500].copy()
        data.loc[data.index[7], "mathach"] = 90.0
        text = str(mlm.fit("mathach ~ ses + (1 | school)", data).diagnose())
        assert "row 7 of the table, 90 against" in text
        for topic in ("Residuals", "Leverage", "Normality", "Influence", "Equal variances"):
            assert f"{topic}: " in text

    def test_crossed(self):
        text = str(mlm.fit("y ~ 1 + (1 | a) + (1 | b)", crossed()).diagnose())
        assert "Not available: Clusters can be left out only" in " ".join(text.split())
        assert "CR1" in text
