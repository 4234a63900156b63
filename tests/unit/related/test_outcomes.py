"""Generalized families with memberships and related levels, against first principles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.generalized import GeneralizedRequest, build_generalized
from multilevel.design.relations import from_covariance
from multilevel.design.response import ResponseRequest
from multilevel.errors import InferenceError, LikelihoodError, ModelError
from multilevel.estimate.generalized.prepare import prepare_generalized
from multilevel.interpret.generalized.effect_variance import ConditionalVariance
from multilevel.likelihood.generalized.related import RelatedLaplace
from multilevel.model.families.request import request_family
from multilevel.model.formula.parse import parse_formula
from multilevel.tables.table import as_table
from tests.support.laplace_oracle import differences
from tests.unit.related.support import membership_matrix, pedigree_relation, table

N_ANIMALS = 30
NAMES = [f"a{i}" for i in range(N_ANIMALS)]


def binary_table(seed=3, n=90):
    rng = np.random.default_rng(seed)
    data = table(rng, n)
    data["y"] = (rng.uniform(size=n) < 0.5).astype(float)
    return data


def problem_of(formula, data, related, family="binomial"):
    asked = request_family(family, None, truncated=False, zero="", thresholds=None, interval=False)
    model = replace(parse_formula(formula, "ml"), family=asked.base.name)
    request = GeneralizedRequest(
        family_of=asked.family,
        response=ResponseRequest(asked.base.response, None, ()),
        related=related,
    )
    return prepare_generalized(build_generalized(model, as_table(data), request)).problem


class Dense:
    """Laplace's approximation of a logistic model by definition: ``b ~ N(0, V)``, all of it."""

    def __init__(self, y, fixed, Z, V):
        self.Z, root = Z, np.linalg.cholesky(V + 0.0)
        U, u = Z @ root, np.zeros(Z.shape[1])
        for _ in range(100):
            p = 1.0 / (1.0 + np.exp(-(fixed + U @ u)))
            g = U.T @ (y - p) - u
            H = np.eye(len(u)) + U.T @ ((p * (1 - p))[:, None] * U)
            u = u + np.linalg.solve(H, g)
        eta = fixed + U @ u
        p = 1.0 / (1.0 + np.exp(-eta))
        H = np.eye(len(u)) + U.T @ ((p * (1 - p))[:, None] * U)
        assert np.abs(U.T @ (y - p) - u).max() < 1e-10
        h = float((y * eta - np.log1p(np.exp(eta))).sum()) - 0.5 * u @ u
        self.criterion = -2.0 * h + np.linalg.slogdet(H)[1]
        self.b = root @ u
        self.covariance = root @ np.linalg.inv(H) @ root.T


def _by_level(loads, columns):
    return np.einsum("ij,iq->ijq", loads, columns).reshape(len(loads), -1)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_laplace_of_an_animal_model_with_slopes_is_that_of_its_definition(storage):
    rng = np.random.default_rng(1)
    data = binary_table()
    relation, A = pedigree_relation(N_ANIMALS, 6, rng)
    problem = problem_of("y ~ x + (1 + x | animal)", data, {"animal": relation})
    psi = np.array([0.2, -0.4, 0.9, 0.3, 0.6])
    objective = RelatedLaplace(problem, storage)
    L = np.array([[0.9, 0.0], [0.3, 0.6]])
    X = np.column_stack([np.ones(len(data)), data["x"]])
    loads = np.array([[float(a == name) for name in NAMES] for a in data["animal"]])
    truth = Dense(data["y"].to_numpy(), X @ psi[:2], _by_level(loads, X), np.kron(A, L @ L.T))
    assert objective.value(psi) == pytest.approx(truth.criterion, abs=1e-8)
    np.testing.assert_allclose(objective.modes()[0] @ L.T, truth.b.reshape(-1, 2), atol=1e-7)
    own = truth.covariance.reshape(N_ANIMALS, 2, N_ANIMALS, 2)
    found = L @ objective.mode_covariance(0) @ L.T
    at = np.arange(N_ANIMALS)
    np.testing.assert_allclose(found, own[at, :, at, :], atol=1e-8)
    np.testing.assert_allclose(objective.gradient(), differences(objective.value, psi), atol=5e-5)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_laplace_of_memberships_is_that_of_its_definition(storage):
    data = binary_table()
    formula = "y ~ x + (1 | mm(s1, s2, weights=[w1, w2])) + (1 | herd)"
    problem = problem_of(formula, data, {})
    psi = np.array([0.1, 0.5, 0.8, 0.6])
    objective = RelatedLaplace(problem, storage)
    schools, herds = list(range(1, 8)), list("hijkl")
    loads = membership_matrix(data, ["s1", "s2"], ["w1", "w2"], schools)
    own = np.array([[float(h == name) for name in herds] for h in data["herd"]])
    V = np.diag(np.repeat([psi[2] ** 2, psi[3] ** 2], [len(schools), len(herds)]))
    truth = Dense(
        data["y"].to_numpy(), psi[0] + psi[1] * data["x"].to_numpy(), np.hstack([loads, own]), V
    )
    assert objective.value(psi) == pytest.approx(truth.criterion, abs=1e-8)
    np.testing.assert_allclose(objective.gradient(), differences(objective.value, psi), atol=5e-5)
    assert objective.cluster_scores() is None


def test_memberships_of_related_levels_and_a_singular_matrix():
    data = binary_table()
    rng = np.random.default_rng(8)
    F = rng.normal(size=(7, 4))
    A = F @ F.T  # rank 4 of 7
    relation = from_covariance(A, list(range(1, 8)))
    assert relation.is_singular
    problem = problem_of("y ~ x + (1 | mm(s1, s2))", data, {"mm(s1, s2)": relation})
    psi = np.array([0.1, 0.5, 0.8])
    objective = RelatedLaplace(problem)
    loads = membership_matrix(data, ["s1", "s2"], None, range(1, 8))
    # a nearly singular matrix in the definition: the limit of no variance
    truth = Dense(
        data["y"].to_numpy(), psi[0] + psi[1] * data["x"].to_numpy(), loads @ F, 0.64 * np.eye(4)
    )
    assert objective.value(psi) == pytest.approx(truth.criterion, abs=1e-8)
    np.testing.assert_allclose(objective.modes()[0][:, 0] * 0.8, F @ truth.b, atol=1e-7)
    np.testing.assert_allclose(objective.gradient(), differences(objective.value, psi), atol=5e-5)
    objective.value(psi)
    error = objective.error_estimate(np.random.default_rng(1), 400)
    assert error.method == "importance sampling"
    assert abs(error.criterion) < 1.0


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_the_reported_error_leads_to_the_exact_likelihood(storage):
    """Three related animals, ten binary rows each: integration by a tensor grid."""
    A = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"animal": np.repeat(["p", "q", "r"], 10)})
    data["y"] = (rng.uniform(size=30) < np.repeat([0.2, 0.8, 0.6], 10)).astype(float)
    relation = mlm.pedigree({"id": list("pqr"), "sire": ["", "", "p"], "dam": ["", "", "q"]})
    problem = problem_of("y ~ 1 + (1 | animal)", data, {"animal": relation})
    psi = np.array([0.1, 1.3])
    objective = RelatedLaplace(problem, storage)
    laplace = objective.value(psi)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    u = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij")).reshape(3, -1)
    w = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * 3)), axis=0).ravel()
    eta = psi[0] + psi[1] * (np.linalg.cholesky(A) @ u)
    events = data.groupby("animal")["y"].sum().to_numpy()
    log_density = (events[:, None] * eta - 10.0 * np.log1p(np.exp(eta))).sum(axis=0)
    exact = -2.0 * np.log((w * np.exp(log_density)).sum())
    error = objective.error_estimate(np.random.default_rng(2), 20_000)
    assert abs(laplace - exact) > 0.02
    assert laplace - error.criterion == pytest.approx(exact, abs=max(4 * error.std_error, 0.003))
    second = objective.error_estimate(np.random.default_rng(2), 0)
    assert laplace - second.criterion == pytest.approx(exact, abs=0.15 * abs(laplace - exact))


def outcome(seed=5, n=300):
    rng = np.random.default_rng(seed)
    data = table(rng, n)
    relation, A = pedigree_relation(N_ANIMALS, 8, rng)
    b = relation.colour(rng.normal(size=(N_ANIMALS, 1)))[:, 0]
    eta = 0.3 + 0.8 * data["x"] + np.array([b[int(a[1:])] for a in data["animal"]])
    data["y"] = (rng.uniform(size=n) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
    data["count"] = rng.poisson(np.exp(0.5 * eta))
    return data, relation, A


def _same(one, other, rtol=1e-5):
    assert one.minus2_loglik == pytest.approx(other.minus2_loglik, abs=1e-6)
    np.testing.assert_allclose(one.fit.psi, other.fit.psi, rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(one.fit.vcov, other.fit.vcov, rtol=1e-3, atol=1e-7)


def test_all_weight_on_one_column_is_the_ordinary_model():
    data, _, _ = outcome()
    data["w1"], data["w2"] = 1.0, 0.0
    formula = "y ~ x + (1 + x | {})"
    mm = mlm.fit(formula.format("mm(s1, s2, weights=[w1, w2])"), data, family="binomial")
    plain = mlm.fit(formula.format("s1"), data, family="binomial", n_quad=1)
    _same(mm, plain)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_unrelated_levels_are_the_ordinary_model(kind):
    data, _, _ = outcome()
    animals = sorted(set(data["animal"]))
    eye = mlm.relationship(np.eye(len(animals)), animals)
    if kind == "sparse":
        blank = [""] * len(animals)
        eye = mlm.pedigree({"id": animals, "sire": blank, "dam": blank})
    formula = "count ~ x + (1 | animal) + (1 | herd)"
    made = mlm.fit(formula, data, family="poisson", related={"animal": eye})
    _same(made, mlm.fit(formula, data, family="poisson", n_quad=1))


def test_a_normal_family_by_laplace_is_the_linear_engine():
    data, relation, _ = outcome()
    data["y"] = data["y"] + np.random.default_rng(2).normal(size=len(data))
    formula = "y ~ x + (1 + x | animal) + (1 | mm(s1, s2))"
    linear = mlm.fit(formula, data, related={"animal": relation}, method="ml")
    made = mlm.fit(formula, data, family="gaussian", dispersion="~ 1", related={"animal": relation})
    assert made.minus2_loglik == pytest.approx(linear.minus2_loglik, abs=1e-5)
    np.testing.assert_allclose(made.fixed_effects, linear.fixed_effects, atol=1e-5)
    for group, G in linear.random_covariance.items():
        np.testing.assert_allclose(made.random_covariance[group], G, atol=2e-4)
    ours = made.random_effects().set_index(["group", "level", "term"])["estimate"]
    theirs = linear.random_effects().set_index(["group", "level", "term"])["estimate"]
    np.testing.assert_allclose(ours, theirs.loc[ours.index], atol=1e-3)
    assert made.approximation.error.criterion == pytest.approx(0.0, abs=1e-8)
    h2 = made.icc().set_index(["group", "component"])["estimate"]
    found = linear.icc().set_index(["group", "component"])["estimate"]
    np.testing.assert_allclose(h2, found.loc[h2.index], atol=1e-4)


def test_predictions_of_rows_and_their_errors():
    data, relation, A = outcome()
    m = mlm.fit(
        "y ~ x + (1 | animal) + (1 | mm(s1, s2, weights=[w1, w2]))",
        data, family="binomial", related={"animal": relation},
    )  # fmt: skip
    evidence = m._evidence()
    sds = [float(L[0, 0]) for L in m.fit.relative_factors]
    animals = np.array([[float(a == name) for name in NAMES] for a in data["animal"]])
    loads = membership_matrix(data, ["s1", "s2"], ["w1", "w2"], range(1, 8))
    V = np.zeros((N_ANIMALS + 7, N_ANIMALS + 7))
    V[:N_ANIMALS, :N_ANIMALS] = sds[0] ** 2 * A
    V[N_ANIMALS:, N_ANIMALS:] = (sds[1] ** 2 + 1e-12) * np.eye(7)
    Z = np.hstack([animals, loads])
    X = np.column_stack([np.ones(len(data)), data["x"]])
    truth = Dense(data["y"].to_numpy(), X @ m.fit.beta, Z, V)
    given = ConditionalVariance(evidence).given_parameters(evidence.rows)[:, 0, 0]
    np.testing.assert_allclose(given, np.einsum("ij,jk,ik->i", Z, truth.covariance, Z), atol=1e-6)
    link = m.predict(data, scale="link")["estimate"]
    np.testing.assert_allclose(link, X @ m.fit.beta + Z @ truth.b, atol=1e-6)
    # a relative without rows has an effect; a stranger to the pedigree and to the schools has none
    silent = sorted(set(NAMES) - set(data["animal"]))[0]
    new = pd.DataFrame({"x": [0.0, 0.0], "animal": [silent, "stranger"], "s1": [1, 99],
                        "s2": [np.nan, np.nan], "w1": [1.0, 1.0], "w2": [0.0, 0.0]})  # fmt: skip
    found = m.predict(new, scale="link", std_error=True)
    effects = m.random_effects().set_index(["group", "level"])["estimate"]
    school = m.design.blocks[1].group
    expected = m.fit.beta[0] + effects["animal", silent] + effects[school, 1]
    assert found["estimate"][0] == pytest.approx(expected, abs=1e-9)
    assert found["estimate"][1] == pytest.approx(m.fit.beta[0], abs=1e-9)
    whole = sds[0] ** 2 + sds[1] ** 2
    assert found["std_error"][1] ** 2 == pytest.approx(whole + m.fit.vcov[0, 0], rel=1e-6)


def test_simulated_responses_have_the_covariance_of_the_model():
    data, relation, A = outcome(n=60)
    data["y"] = data["y"] + np.random.default_rng(2).normal(size=len(data))
    m = mlm.fit(
        "y ~ 1 + (1 | animal)", data, family="gaussian", dispersion="~ 1",
        related={"animal": relation},
    )  # fmt: skip
    drawn = m.simulate(4000, seed=1)
    animals = np.array([[float(a == name) for name in NAMES] for a in data["animal"]])
    V = float(m.random_covariance["animal"].iloc[0, 0]) * animals @ A @ animals.T
    V += float(np.exp(m.fit.psi[1])) * np.eye(len(data))
    spread = np.sqrt(np.outer(np.diag(V), np.diag(V)) + V**2) / np.sqrt(4000)
    assert np.abs((np.cov(drawn) - V) / spread).max() < 5.0


def test_words_and_what_is_refused():
    data, relation, _ = outcome()
    m = mlm.fit("y ~ x + (1 | animal)", data, family="binomial", related={"animal": relation})
    text = str(m)
    assert text.startswith("Model with correlated levels for y: binomial")
    assert "Heritability of animal:" in text
    assert "pedigree" in m.methods_paragraph()
    h2 = m.icc().iloc[0]
    variance = float(m.random_covariance["animal"].iloc[0, 0])
    assert h2["component"] == "heritability"
    assert h2["estimate"] == pytest.approx(variance / (variance + np.pi**2 / 3))
    assert h2["conf_low"] < h2["estimate"] < h2["conf_high"]
    for refused in (m.robust, m.vcov_robust, m.design_effects, m.influence, m.within_between):
        with pytest.raises(InferenceError, match="not available where rows"):
            refused()
    for call in (
        lambda: m.icc("observation"),
        lambda: m.bootstrap(2, kind="cluster"),
        lambda: m.confint("bootstrap", kind="cluster"),
        lambda: m.information_criteria("sas"),
        lambda: m.plot("clusters"),
        lambda: m.coefficients(df="between-within"),
    ):
        with pytest.raises(InferenceError):
            call()
    with pytest.raises(LikelihoodError, match="independent clusters"):
        m.update(n_quad=5)
    with pytest.raises(ModelError, match="independent residuals"):
        mlm.fit("y ~ x + (1 | animal)", data, family="gamma", scale="~ (1 | herd)",
                related={"animal": relation})  # fmt: skip


def test_one_row_per_species_and_a_term_in_the_dispersion():
    """Counts of species on a tree; the variance of another family by herd of memberships."""
    data, relation, _ = outcome()
    one = data.drop_duplicates("animal")
    m = mlm.fit("count ~ x + (1 | animal)", one, family="poisson", related={"animal": relation})
    assert m.n == len(one)
    wide = mlm.fit(
        "count + 1 ~ x + (1 | mm(s1, s2))", data, family="gamma", link="log",
        dispersion="~ 1 + (1 | mm(s1, s2))",
    )  # fmt: skip
    assert wide.fit.psi.shape == (5,)
    assert list(wide.random_effects()["part"].unique()) == ["mean", "dispersion"]
