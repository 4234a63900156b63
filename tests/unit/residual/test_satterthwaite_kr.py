"""Degrees of freedom with structured residuals against dense definitions."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.estimate.structured_report import reported
from tests.support.residual import repeated_measures, residual_matrix

CASES = {
    "ar1": ("y ~ time + x + (1 | id)", "ar1(time | id)"),
    "cs": ("y ~ time + x", "cs(time | id)"),
    "csh": ("y ~ time + x", "csh(time | id)"),
    "toep": ("y ~ time + x", "toep(time | id, band=1)"),
    "exp": ("y ~ time + x + (1 | site)", "exp(time | id)"),
}


def dense_pieces(m, kind, formula):
    """``V`` (absolute) as a function of (G elements, phi, sigma2), X and the parameters."""
    data = repeated_measures(3, n_ids=20)
    design = m.design
    G = [g[np.tril_indices(len(g))] for g in m.fit.random_covariance]
    phi = m.fit.residual.phi
    sizes = [len(g) for g in G]
    point = np.concatenate([*G, phi, [m.fit.sigma2]])

    def V(w):
        names, values = reported(design.residual, w[sum(sizes) : -1])
        R = residual_matrix(kind, dict(zip(names, values, strict=True)), data, None, [])
        out = w[-1] * R
        at = 0
        for block, size in zip(design.blocks, sizes, strict=True):
            q = len(block.names)
            S = np.zeros((q, q))
            S[np.tril_indices(q)] = w[at : at + size]
            S = S + np.tril(S, -1).T
            at += size
            inside = block.columns @ S @ block.columns.T
            out = out + inside * (block.codes[:, None] == block.codes[None])
        return out

    return V, design.X, design.y, point


def reml_criterion(V, X, y):
    inverse = np.linalg.inv(V)
    T = X.T @ inverse @ X
    e = y - X @ np.linalg.solve(T, X.T @ inverse @ y)
    return np.linalg.slogdet(V)[1] + np.linalg.slogdet(T)[1] + e @ inverse @ e


@pytest.mark.parametrize("kind", CASES)
def test_satterthwaite_equals_differences_of_the_dense_criterion(kind):
    formula, residual = CASES[kind]
    m = mlm.fit(formula, repeated_measures(3, n_ids=20), residual=residual)
    assert m.certificate.status == "certified"
    V, X, y, w = dense_pieces(m, kind, formula)
    k = len(w)
    h = 1e-4 * np.maximum(1.0, np.abs(w))
    H = np.zeros((k, k))
    for a in range(k):
        for b in range(a + 1):
            total = 0.0
            for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                z = w.copy()
                z[a] += s * h[a]
                z[b] += t * h[b]
                total += s * t * reml_criterion(V(z), X, y)
            H[a, b] = H[b, a] = total / (4.0 * h[a] * h[b])
    W = 2.0 * np.linalg.inv(H)

    def variance(z):
        return np.diag(np.linalg.inv(X.T @ np.linalg.solve(V(z), X)))

    slopes = np.stack(
        [(variance(w + e) - variance(w - e)) / (2.0 * h[a]) for a, e in enumerate(np.diag(h))]
    )
    expected = 2.0 * variance(w) ** 2 / np.einsum("ap,ab,bp->p", slopes, W, slopes)
    found = m.coefficients(df="satterthwaite")["df"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3)


@pytest.mark.parametrize("kind", CASES)
def test_kenward_roger_equals_its_dense_definition(kind):
    formula, residual = CASES[kind]
    m = mlm.fit(formula, repeated_measures(3, n_ids=20), residual=residual)
    V, X, _, w = dense_pieces(m, kind, formula)
    k = len(w)
    steps = 1e-5 * np.maximum(1.0, np.abs(w))
    dV = [(V(w + e) - V(w - e)) / (2.0 * e.sum()) for e in np.diag(steps)]
    inverse = np.linalg.inv(V(w))
    Phi = np.linalg.inv(X.T @ inverse @ X)
    P = [-X.T @ inverse @ D @ inverse @ X for D in dV]
    Q = [[X.T @ inverse @ A @ inverse @ B @ inverse @ X for B in dV] for A in dV]
    info = np.array(
        [
            [
                0.5 * np.trace(inverse @ dV[i] @ inverse @ dV[j])
                - np.trace(Phi @ Q[i][j])
                + 0.5 * np.trace(Phi @ P[i] @ Phi @ P[j])
                for j in range(k)
            ]
            for i in range(k)
        ]
    )
    W = np.linalg.inv(info)
    inside = sum(W[i, j] * (Q[i][j] - P[i] @ Phi @ P[j]) for i in range(k) for j in range(k))
    adjusted = Phi + 2.0 * Phi @ inside @ Phi
    found = m.coefficients(df="kenward-roger")
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(adjusted)), rtol=1e-5)
    for a, row in enumerate(np.eye(len(Phi))):
        f = row @ Phi @ row
        s = np.array([row @ Phi @ P[i] @ Phi @ row for i in range(k)])
        assert found["df"][a] == pytest.approx(2.0 * f**2 / (s @ W @ s), rel=1e-4)


def test_unstructured_equals_the_multivariate_analysis():
    """Balanced data, everything free: the t test of a within-unit change is exact.

    With an unstructured covariance, the growth of each unit is one number; the contrast of two
    groups in the mean slope has 2(J/2 - 1) degrees of freedom (Kenward & Roger 1997 keep this).
    """
    rng = np.random.default_rng(8)
    n, times = 16, np.array([0.0, 1.0])
    group = np.repeat([0, 1], n // 2)
    y = rng.normal(size=(n, 2)) + np.outer(group, times) * 0.7
    data = {
        "y": y.ravel(), "time": np.tile(times, n), "group": np.repeat(group, 2),
        "id": np.repeat(np.arange(n), 2),
    }  # fmt: skip
    m = mlm.fit("y ~ time * group", data, residual="un(time | id)")
    change = y[:, 1] - y[:, 0]
    a, b = change[group == 1], change[group == 0]
    pooled = (a.var(ddof=1) * 7 + b.var(ddof=1) * 7) / 14
    t = (a.mean() - b.mean()) / np.sqrt(pooled * 2 / 8)
    for df in ("satterthwaite", "kenward-roger"):
        row = m.coefficients(df=df).set_index("term").loc["time:group"]
        assert row["df"] == pytest.approx(14.0, rel=1e-4), df
        assert row["statistic"] == pytest.approx(t, rel=1e-5), df


def test_kenward_roger_of_unstructured_occasions_is_hotellings_test():
    """The multivariate repeated-measures analysis: F = T2 (n - k) / (k (n - 1)) on k, n - k df.

    Kenward & Roger 1997, section 5: for balanced data with an unstructured covariance the scaled
    F statistic of the occasions is Hotelling's.
    """
    rng = np.random.default_rng(4)
    n, T = 14, 4
    y = rng.normal(size=(n, T)) @ rng.normal(size=(T, T)) + np.array([0.0, 0.5, 0.2, 1.0])
    data = {
        "y": y.ravel(), "visit": np.tile([f"v{k}" for k in range(T)], n),
        "id": np.repeat(np.arange(n), T),
    }  # fmt: skip
    m = mlm.fit("y ~ visit", data, residual="un(visit | id)")
    row = m.anova(df="kenward-roger").iloc[0]
    D = y[:, 1:] - y[:, :1]
    k = T - 1
    T2 = n * D.mean(0) @ np.linalg.solve(np.cov(D.T), D.mean(0))
    assert row["df_num"] == k
    assert row["df"] == pytest.approx(n - k, rel=1e-6)
    assert row["statistic"] == pytest.approx(T2 * (n - k) / (k * (n - 1)), rel=1e-6)


def test_multivariate_analysis_of_two_groups_is_the_unstructured_model():
    """Occasions, and groups by occasions: Hotelling's F on k, n - k - 1 df; groups: split-plot F.

    Source: Morrison 2005, Multivariate Statistical Methods, section 4.6 (profile analysis), from
    differences to the first occasion and the pooled covariance; occasions by the unweighted mean
    of the groups.
    """
    rng = np.random.default_rng(2)
    sizes, T = (9, 7), 4
    n, k = sum(sizes), T - 1
    group = np.repeat([0, 1], sizes)
    y = rng.normal(size=(n, T)) @ rng.normal(size=(T, T)) + 0.3 * np.arange(T)
    y += group[:, None] * np.array([0.0, 0.5, 1.0, 1.5])
    data = {
        "y": y.ravel(), "visit": np.tile([f"v{j}" for j in range(T)], n),
        "id": np.repeat(np.arange(n), T), "group": np.repeat(np.array(["a", "b"])[group], T),
    }  # fmt: skip
    m = mlm.fit("y ~ visit * group", data, residual="un(visit | id)")
    table = m.anova(df="kenward-roger").set_index("term")

    def pooled(values):
        parts = [values[group == g] - values[group == g].mean(0) for g in (0, 1)]
        return sum(part.T @ part for part in parts) / (n - 2)

    D = y[:, 1:] - y[:, :1]
    means = [D[group == g].mean(0) for g in (0, 1)]
    width = 1.0 / sizes[0] + 1.0 / sizes[1]
    for term, contrast, factor in (
        ("visit:group", means[0] - means[1], width),
        ("visit", (means[0] + means[1]) / 2.0, width / 4.0),
    ):
        T2 = contrast @ np.linalg.solve(pooled(D), contrast) / factor
        row = table.loc[term]
        assert (row["df_num"], row["df"]) == pytest.approx((k, n - k - 1), rel=1e-5), term
        assert row["statistic"] == pytest.approx(T2 * (n - k - 1) / (k * (n - 2)), rel=1e-5), term
    subject = y.mean(axis=1)[:, None]
    gap = subject[group == 0].mean() - subject[group == 1].mean()
    row = table.loc["group"]
    assert row["df"] == pytest.approx(n - 2, rel=1e-5)
    assert row["statistic"] == pytest.approx(gap**2 / (pooled(subject)[0, 0] * width), rel=1e-5)
