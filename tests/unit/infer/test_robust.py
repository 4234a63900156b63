"""Robust covariances against dense definitions, a published value and their own identities."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import linalg, stats

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.estimate.prepare import prepare, with_response
from multilevel.infer.robust import robust_covariance
from multilevel.infer.robust_clusters import is_inside, resolve_clusters, top_blocks
from tests.support.dense import dense, problem
from tests.support.designs import design_of
from tests.support.oracle import random_rows

TYPES = ("CR0", "CR1", "CR1S", "CR2", "CR3")
NESTED = ("one", "slope", "three", "nested", "nested_slopes", "deep")


def dense_one_way(prepared, objective, codes, kind):
    """Definitions, n_j x n_j throughout; df from the n x n covariance of the residuals."""
    X, V, M, e = dense(prepared, objective)
    n, p = X.shape
    J = int(codes.max()) + 1
    S = V - X @ M @ X.T
    meat, at = np.zeros((p, p)), np.zeros((J, n, p))
    for j in range(J):
        own = np.flatnonzero(codes == j)
        Vj, Xj, Sj = V[np.ix_(own, own)], X[own], S[np.ix_(own, own)]
        A = np.eye(len(own))
        if kind == "CR2":
            D = np.linalg.cholesky(Vj).T
            A = D.T @ np.linalg.inv(linalg.sqrtm(D @ Sj @ D.T).real) @ D
            assert np.allclose(A @ Sj @ A.T, Vj)
        elif kind == "CR3":
            H = Xj @ M @ Xj.T @ np.linalg.inv(Vj)
            A = np.linalg.inv(np.eye(len(own)) - H)
        s = Xj.T @ np.linalg.solve(Vj, A @ e[own])
        meat += np.outer(s, s)
        at[j][own] = A.T @ np.linalg.solve(Vj, Xj)
    factor = {"CR1": J / (J - 1), "CR1S": J * (n - 1) / ((J - 1) * (n - p))}.get(kind, 1.0)
    df = []
    for k in range(p):
        a = at @ M[:, k]
        P = a @ S @ a.T
        df.append(np.trace(P) ** 2 / np.sum(P**2))
    return factor * M @ meat @ M, np.array(df)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("weighted", [False, True])
def test_against_the_dense_definition(kind, type, weighted):
    prepared, objective = problem(kind, weighted=weighted, offset=True)
    found = robust_covariance(prepared, objective, type=type)
    top = top_blocks(prepared.design)
    assert len(top) == 1
    vcov, df = dense_one_way(prepared, objective, top[0].codes, type)
    np.testing.assert_allclose(found.vcov, vcov, rtol=1e-8)
    np.testing.assert_allclose(found.df, df, rtol=1e-8)
    assert found.clusters == {top[0].group: top[0].n_levels}


@pytest.mark.parametrize("type", TYPES)
def test_ids_of_a_level_above_the_model(type):
    prepared, objective = problem("slope")
    codes = prepared.design.blocks[0].codes // 2
    labels = np.array([f"c{c:02d}" for c in codes], dtype=object)
    found = robust_covariance(prepared, objective, type=type, cluster=labels)
    vcov, df = dense_one_way(prepared, objective, codes, type)
    np.testing.assert_allclose(found.vcov, vcov, rtol=1e-8)
    np.testing.assert_allclose(found.df, df, rtol=1e-8)


def dense_adjustment(V, S, X, M, own, type):
    """``A`` of one cluster by its definition; directions that X fits exactly are left out."""
    Vj, Sj = V[np.ix_(own, own)], S[np.ix_(own, own)]
    if type == "CR2":
        D = np.linalg.cholesky(Vj).T
        values, vectors = np.linalg.eigh(D @ Sj @ D.T)
        half = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
        return D.T @ (vectors * half) @ vectors.T @ D
    return Vj @ np.linalg.inv(Sj) if type == "CR3" else np.eye(len(own))


def dense_several(prepared, objective, type):
    """Signed sum over clusterings and cells, n x n throughout: meat, its expectation, df."""
    X, V, M, e = dense(prepared, objective)
    XV, S = np.linalg.solve(V, X), V - X @ M @ X.T
    tops = top_blocks(prepared.design)
    assert len(tops) > 1
    meat, expected = np.zeros_like(M), np.zeros_like(M)
    signs, columns = [], []
    for size in range(1, len(tops) + 1):
        for subset in combinations(tops, size):
            cells = np.unique(np.column_stack([b.codes for b in subset]), axis=0,
                              return_inverse=True)[1].ravel()  # fmt: skip
            J = cells.max() + 1
            sign = (-1) ** (size + 1) * (J / (J - 1) if type == "CR1" else 1.0)
            for j in range(J):
                own = np.flatnonzero(cells == j)
                a = np.zeros_like(X)
                a[own] = dense_adjustment(V, S, X, M, own, type).T @ XV[own]
                meat += sign * np.outer(a.T @ e, a.T @ e)
                expected += sign * a.T @ S @ a
                signs.append(sign)
                columns.append(a)
    at, signs = np.stack(columns), np.array(signs)
    df = []
    for contrast in np.eye(len(M)):
        a = at @ (M @ contrast)
        P = a @ S @ a.T
        df.append((signs @ np.diag(P)) ** 2 / (signs @ P**2 @ signs))
    return M @ meat @ M, M @ expected @ M, M, np.array(df)


CROSSED = ["crossed", "crossed_slopes", "crossed3", "mixed"]


@pytest.mark.parametrize("type", ["CR0", "CR1", "CR2", "CR3"])
@pytest.mark.parametrize("kind", CROSSED)
def test_several_ways_against_the_dense_definition(kind, type):
    """Cameron, Gelbach & Miller's sum, each cluster and cell adjusted by its own matrix."""
    prepared, objective = problem(kind, weighted=True)
    scaled, _, _, df = dense_several(prepared, objective, type)
    values, vectors = np.linalg.eigh(prepared_scale(prepared, scaled))
    vcov = scale_back(prepared, (vectors * np.maximum(values, 0)) @ vectors.T)
    found = robust_covariance(prepared, objective, type=type)
    np.testing.assert_allclose(found.vcov, vcov, rtol=1e-7, atol=1e-9 * np.abs(vcov).max())
    assert ("set to zero" in found.sentence) == bool(values.min() < -1e-12)
    fewest = min(b.n_levels for b in top_blocks(prepared.design)) - 1
    np.testing.assert_allclose(found.df, np.where(df > 0, df, fewest), rtol=1e-6)


@pytest.mark.parametrize("kind", ["crossed", "crossed_slopes", "crossed3"])
def test_several_ways_is_unbiased_with_cr2(kind):
    """Every pair of rows that share a group counts once: the expectation is the model's own."""
    prepared, objective = problem(kind)
    _, expected, M, _ = dense_several(prepared, objective, "CR2")
    np.testing.assert_allclose(expected, M, rtol=1e-8)
    _, biased, _, _ = dense_several(prepared, objective, "CR0")
    assert np.all(np.diag(biased) < np.diag(M))


def test_several_ways_at_scale_falls_back_on_counts(monkeypatch):
    monkeypatch.setattr("multilevel.infer.robust_several.MAX_CLUSTERS", 3)
    prepared, objective = problem("crossed")
    found = robust_covariance(prepared, objective)
    fewest = min(b.n_levels for b in top_blocks(prepared.design)) - 1
    assert found.df_method == "clusters - 1"
    assert np.all(found.df == fewest)


def prepared_scale(prepared, vcov):
    p = len(vcov)
    inverse = np.linalg.inv(prepared.scaling.U[:p, :p]) / prepared.scaling.y_scale
    return inverse @ vcov @ inverse.T


def scale_back(prepared, vcov):
    return prepared.scaling.vcov_beta(vcov)


def test_one_factor_of_two_that_agree_is_one_way():
    """A factor listed twice adds, subtracts and adds the same sums."""
    prepared, objective = problem("nested")
    both = robust_covariance(prepared, objective, type="CR0", cluster=["g0", "g1"])
    one = robust_covariance(prepared, objective, type="CR0", cluster="g1")
    np.testing.assert_allclose(both.vcov, one.vcov, rtol=1e-10)


def test_cr2_has_the_model_expectation():
    """With ``E ss' = A S A'`` the expected CR2 is the model-based covariance; CR0's is less."""
    prepared, objective = problem("slope")
    _, V, M, _ = dense(prepared, objective)
    rng = np.random.default_rng(1)
    root = np.linalg.cholesky(V)
    draws = {"CR0": np.zeros_like(M), "CR2": np.zeros_like(M)}
    theta = objective._theta
    n_draws = 400
    for _ in range(n_draws):
        again = with_response(prepared, root @ rng.standard_normal(len(V)))
        other = again.objective()
        other.set(theta)
        for type in draws:
            draws[type] += robust_covariance(again, other, type=type).vcov / n_draws
    ratio = {type: np.diag(v) / np.diag(M) for type, v in draws.items()}
    assert np.all(np.abs(ratio["CR2"] - 1.0) < 0.12)
    assert np.all(ratio["CR0"] < ratio["CR2"])


class TestHsb:
    def test_published_robust_standard_error(self):
        """HLM's null model, robust standard error to the six digits it prints."""
        m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        assert m.vcov_robust("CR0").iloc[0, 0] ** 0.5 == pytest.approx(0.243628, abs=5e-7)

    def test_the_table(self):
        m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        table = m.robust(conf_level=0.9)
        columns = "term,estimate,std_error,df,statistic,p_value,conf_low,conf_high"
        assert ",".join(table) == columns
        row = table.iloc[1]
        assert row["std_error"] == pytest.approx(m.vcov_robust("CR2").iloc[1, 1] ** 0.5)
        assert row["statistic"] == pytest.approx(row["estimate"] / row["std_error"])
        assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(row["statistic"]), row["df"]))
        width = stats.t.ppf(0.95, row["df"]) * row["std_error"]
        assert row["conf_high"] - row["estimate"] == pytest.approx(width)
        assert "160 levels of school" in table.attrs["sentence"]


def test_rescaling_a_predictor_rescales_its_error():
    hsb = mlm.load_hsb().to_pandas()
    small = mlm.fit("mathach ~ ses + (ses | school)", hsb)
    large = mlm.fit("mathach ~ ses + (ses | school)", hsb.assign(ses=1e4 * hsb["ses"] + 1e6))
    one, two = small.robust().iloc[1], large.robust().iloc[1]
    assert two["std_error"] * 1e4 == pytest.approx(one["std_error"], rel=1e-5)
    assert two["df"] == pytest.approx(one["df"], rel=1e-5)


class TestRefusals:
    def test_a_cluster_below_a_random_effect(self):
        prepared, objective = problem("nested")
        with pytest.raises(InferenceError, match="inside one cluster"):
            robust_covariance(prepared, objective, cluster="g0")

    def test_types_of_several_ways(self):
        prepared, objective = problem("crossed")
        with pytest.raises(InferenceError, match="CR0, CR1, CR2, CR3"):
            robust_covariance(prepared, objective, type="CR1S")

    def test_unknown_type_name_ids(self):
        prepared, objective = problem("one")
        with pytest.raises(InferenceError, match="CR0, CR1, CR1S, CR2, CR3"):
            robust_covariance(prepared, objective, type="HC1")
        with pytest.raises(InferenceError, match="'class'"):
            robust_covariance(prepared, objective, cluster="class")
        with pytest.raises(InferenceError, match="one per analysed row"):
            robust_covariance(prepared, objective, cluster=np.arange(4))
        ids = prepared.design.blocks[0].codes.astype(float)
        ids[7] = np.nan
        with pytest.raises(InferenceError, match="row 7"):
            robust_covariance(prepared, objective, cluster=ids)
        with pytest.raises(InferenceError, match="at least two"):
            robust_covariance(prepared, objective, cluster=np.zeros(prepared.design.n))


def test_a_coefficient_that_one_cluster_decides():
    """CR3 does not exist; CR2 leaves the direction out and says so."""
    rows = random_rows("one", 5)
    codes = rows.blocks[0][0]
    alone = (codes == 2).astype(float)
    design = design_of(replace(rows, X=np.column_stack([rows.X, alone])))
    prepared = prepare(design, method="ml")
    objective = prepared.objective()
    objective.set(np.array([0.8]))
    with pytest.raises(InferenceError, match="g0 2"):
        robust_covariance(prepared, objective, type="CR3")
    found = robust_covariance(prepared, objective, type="CR2")
    assert "In 1 of them" in found.sentence
    X, V, M, e = dense(prepared, objective)
    S = V - X @ M @ X.T
    meat = np.zeros_like(M)
    for j in range(codes.max() + 1):
        own = np.flatnonzero(codes == j)
        D = np.linalg.cholesky(V[np.ix_(own, own)]).T
        values, vectors = np.linalg.eigh(D @ S[np.ix_(own, own)] @ D.T)
        half = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
        A = D.T @ (vectors * half) @ vectors.T @ D
        s = X[own].T @ np.linalg.solve(V[np.ix_(own, own)], A @ e[own])
        meat += np.outer(s, s)
    np.testing.assert_allclose(found.vcov, M @ meat @ M, rtol=1e-7, atol=1e-12)


def test_the_default_type_follows_the_clusters():
    for kind, expected in (("slope", "CR2"), ("crossed", "CR2")):
        prepared, objective = problem(kind)
        found = robust_covariance(prepared, objective)
        assert found.type == expected
        named = robust_covariance(prepared, objective, type=expected)
        np.testing.assert_array_equal(found.vcov, named.vcov)


def test_a_model_without_fixed_effects():
    m = mlm.fit("mathach ~ 0 + (1 | school)", mlm.load_hsb())
    with pytest.raises(InferenceError, match="needs fixed effects"):
        m.vcov_robust()


def test_nesting():
    fine = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    coarse = np.array([0, 0, 0, 0, 1, 1], dtype=np.int32)
    assert is_inside(fine, coarse)
    assert not is_inside(coarse, fine)
    prepared, _ = problem("mixed")
    assert {c.name for c in resolve_clusters(prepared.design)} == {
        b.group for b in top_blocks(prepared.design)
    }
