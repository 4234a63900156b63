"""Diagnostics and Kenward-Roger of fits with memberships and relations, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.related.support import membership_matrix, pedigree_relation, table

NAMES = [f"a{i}" for i in range(30)]
FORMULA = "y ~ x + (1 | animal) + (1 | mm(s1, s2, weights=[w1, w2]))"


class Case:
    """A fit and its matrices: V, its derivatives, Z and the covariance of the effects."""

    def __init__(self, kind):
        rng = np.random.default_rng(11)
        self.data = table(rng, 70)
        relation, self.A = pedigree_relation(30, 6, rng)
        if kind == "dense":
            relation = mlm.relationship(self.A, NAMES)
        b = relation.colour(rng.normal(size=(30, 1)))[:, 0]
        s = rng.normal(size=7)
        animals = np.array([[float(a == name) for name in NAMES] for a in self.data["animal"]])
        schools = membership_matrix(self.data, ["s1", "s2"], ["w1", "w2"], range(1, 8))
        self.data["y"] += 1.5 * animals @ b + schools @ s
        self.m = mlm.fit(FORMULA, self.data, related={"animal": relation})
        self.y = self.data["y"].to_numpy()
        self.X = np.column_stack([np.ones(70), self.data["x"]])
        self.Z = np.hstack([animals, schools])
        variances = [float(G.iloc[0, 0]) for G in self.m.random_covariance.values()]
        self.variances = [*variances, self.m.residual_variance]
        self.parts = [animals @ self.A @ animals.T, schools @ schools.T, np.eye(70)]
        self.V = sum(v * D for v, D in zip(self.variances, self.parts, strict=True))
        prior = np.zeros((37, 37))
        prior[:30, :30], prior[30:, 30:] = variances[0] * self.A, variances[1] * np.eye(7)
        self.prior = prior
        self.inverse = np.linalg.inv(self.V)
        self.M = np.linalg.inv(self.X.T @ self.inverse @ self.X)
        self.P = self.inverse - self.inverse @ self.X @ self.M @ self.X.T @ self.inverse


@pytest.fixture(scope="module", params=["dense", "sparse"])
def case(request):
    return Case(request.param)


def test_rows(case):
    m, s2 = case.m, case.m.residual_variance
    found = m.row_diagnostics()
    beta = case.M @ case.X.T @ case.inverse @ case.y
    marginal = case.y - case.X @ beta
    np.testing.assert_allclose(found["marginal"], marginal, atol=1e-6)
    conditional = marginal - case.Z @ case.prior @ case.Z.T @ case.inverse @ marginal
    np.testing.assert_allclose(found["conditional"], conditional, atol=1e-6)
    np.testing.assert_allclose(found["leverage"], 1.0 - s2 * np.diag(case.P), atol=1e-6)
    hat = case.X @ case.M @ case.X.T @ case.inverse
    np.testing.assert_allclose(found["leverage_fixed"], np.diag(hat), atol=1e-6)
    spread = np.sqrt(np.diag(case.V - case.X @ case.M @ case.X.T))
    np.testing.assert_allclose(found["marginal_std"], marginal / spread, atol=1e-6)
    given = s2**2 * case.P  # covariance of the conditional residuals s2 P y
    np.testing.assert_allclose(
        found["conditional_std"], conditional / np.sqrt(np.diag(given)), atol=1e-6
    )


def test_rows_left_out(case):
    found = case.m.influence("row")
    for i in (0, 17, 69):
        keep = np.arange(70) != i
        X, y = case.X[keep], case.y[keep]
        inverse = np.linalg.inv(case.V[np.ix_(keep, keep)])
        beta = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
        change = found.loc[i, ["change[(Intercept)]", "change[x]"]].to_numpy(float)
        np.testing.assert_allclose(change, case.m.fit.beta - beta, atol=1e-7)
    with pytest.raises(InferenceError, match="not available where rows"):
        case.m.influence("animal")


def test_reliability_and_accuracy(case):
    C = case.prior - case.prior @ case.Z.T @ case.inverse @ case.Z @ case.prior
    known = (1.0 - np.diag(C) / np.diag(case.prior))[:30]
    found = case.m.reliability().set_index(["group", "component"])
    assert found.loc[("animal", "prediction"), "estimate"] == pytest.approx(known.mean(), abs=1e-6)
    accuracy = found.loc[("animal", "accuracy")]
    assert accuracy["estimate"] == pytest.approx(np.sqrt(known).mean(), abs=1e-6)
    assert accuracy["minimum"] == pytest.approx(np.sqrt(known.min()), abs=1e-6)
    effects = case.m.random_effect_diagnostics()
    b = case.prior @ case.Z.T @ case.P @ case.y
    own = case.prior @ case.Z.T @ case.P @ case.Z @ case.prior
    expected = (b / np.sqrt(np.diag(own)))[:30]
    np.testing.assert_allclose(effects["std"][:30].to_numpy(float), expected, atol=1e-5)


def test_explained_variance(case):
    found = case.m.r2().set_index(["measure", "component"])["estimate"]
    f = float((case.X @ case.m.fit.beta).var())
    whole = f + float(np.trace(case.V)) / 70
    assert found["nakagawa", "marginal"] == pytest.approx(f / whole, abs=1e-8)
    rest = 1.0 - case.m.residual_variance / whole
    assert found["nakagawa", "conditional"] == pytest.approx(rest, abs=1e-8)
    with pytest.raises(InferenceError, match="compared_with"):
        case.m.r2(case.m)


def test_kenward_roger_is_that_of_its_definition(case):
    """Kenward & Roger 1997: V is linear in the variances, so that R vanishes."""
    k, X, inverse, Phi = 3, case.X, case.inverse, case.M
    Pi = [-X.T @ inverse @ D @ inverse @ X for D in case.parts]
    Q = [[X.T @ inverse @ D @ inverse @ E @ inverse @ X for E in case.parts] for D in case.parts]
    information = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            t = np.trace(inverse @ case.parts[i] @ inverse @ case.parts[j])
            t += np.trace(-2 * Phi @ Q[i][j] + Phi @ Pi[i] @ Phi @ Pi[j])
            information[i, j] = 0.5 * t
    W = np.linalg.inv(information)
    middle = sum(W[i, j] * (Q[i][j] - Pi[i] @ Phi @ Pi[j]) for i in range(k) for j in range(k))
    adjusted = Phi + 2.0 * Phi @ middle @ Phi
    found = case.m.coefficients(df="kenward-roger")
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(adjusted)), rtol=1e-5)
    for row in range(2):
        s = np.array([(Phi @ one @ Phi)[row, row] for one in Pi])
        df = 2.0 * Phi[row, row] ** 2 / (s @ W @ s)
        assert found["df"][row] == pytest.approx(df, rel=1e-4)


def test_words_of_a_paper_and_of_an_overview(case, tmp_path):
    text = case.m.methods_paragraph()
    assert "A multilevel model for y" in text
    assert "weighted by w1 and w2 (weights of a row sum to 1)" in text
    assert "Random effects of animal were correlated as given by the" in text
    assert "of the variance" in text
    report = case.m.report(tmp_path / "animals.md", pictures=False)
    assert "accuracy" in report.read_text()
    assert "Residuals:" in str(case.m.diagnose())
    assert set(case.m.normality()["group"]) >= {"animal"}


def test_unrelated_levels_have_the_checks_of_the_ordinary_model():
    rng = np.random.default_rng(2)
    data = table(rng)
    animals = sorted(set(data["animal"]))
    data["y"] += 1.2 * rng.normal(size=len(animals))[np.searchsorted(animals, data["animal"])]
    eye = mlm.relationship(np.eye(len(animals)), animals)
    formula = "y ~ x + (1 + x | animal)"
    related, plain = mlm.fit(formula, data, related={"animal": eye}), mlm.fit(formula, data)
    for one, other in (
        (related.row_diagnostics(), plain.row_diagnostics()),
        (related.coefficients(df="kenward-roger"), plain.coefficients(df="kenward-roger")),
    ):
        numbers = one.select_dtypes("number").columns
        np.testing.assert_allclose(one[numbers], other[numbers], rtol=2e-3, atol=1e-4)
