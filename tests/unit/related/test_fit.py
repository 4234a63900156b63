"""The door and the verbs: identities with ordinary fits, dense first principles, refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.api.related import INHERITED, RelatedFit
from multilevel.api.result import MultilevelFit
from multilevel.errors import DesignError, FormulaError, InferenceError, ModelError
from tests.unit.related.support import dense_criterion, membership_matrix, pedigree_relation


@pytest.fixture(scope="module")
def animals():
    rng = np.random.default_rng(11)
    relation, A = pedigree_relation(120, 20, rng)
    breeding = np.linalg.cholesky(A) @ rng.normal(size=120)
    place = rng.integers(0, 110, 400)  # the ten youngest have no rows
    data = pd.DataFrame(
        {
            "animal": [f"a{k}" for k in place],
            "herd": rng.choice(list("pqrst"), 400),
            "x": rng.normal(size=400),
        }
    )
    data["y"] = 5.0 + 0.5 * data["x"] + breeding[place] + rng.normal(size=400)
    m = mlm.fit("y ~ x + (1 | animal) + (1 | herd)", data, related={"animal": relation})
    return m, data, relation, A


@pytest.fixture(scope="module")
def movers():
    rng = np.random.default_rng(12)
    n, J = 500, 40
    first, second = rng.integers(0, J, n), rng.integers(0, J, n).astype(float)
    moves = rng.uniform(size=n) < 0.4
    w = np.where(moves, rng.uniform(0.2, 0.8, n), 1.0)
    effects, x = rng.normal(size=J), rng.normal(size=n)
    y = 1 + 0.3 * x + w * effects[first] + (1 - w) * effects[second.astype(int)]
    second[~moves] = np.nan
    data = pd.DataFrame({"y": y + rng.normal(size=n), "x": x, "s1": first, "s2": second})
    data["w1"], data["w2"] = w, 1.0 - w
    return mlm.fit("y ~ x + (1 | mm(s1, s2, weights=[w1, w2]))", data), data


def _effects(m, group):
    table = m.random_effects(std_error="prediction")
    return table[table["group"] == group]


def test_reml_of_an_animal_model_from_first_principles(animals):
    m, data, _, A = animals
    Z = np.eye(120)[[int(a[1:]) for a in data["animal"]]]
    H = pd.get_dummies(data["herd"]).to_numpy(float)
    X = np.column_stack([np.ones(400), data["x"]])
    s2 = m.residual_variance
    g, h = (float(m.random_covariance[k].iloc[0, 0]) for k in ("animal", "herd"))
    V = np.eye(400) + g / s2 * Z @ A @ Z.T + h / s2 * H @ H.T
    d, beta, sigma2 = dense_criterion(data["y"].to_numpy(), X, V, reml=True)
    assert m.reml_criterion == pytest.approx(d, abs=1e-6)
    assert sigma2 == pytest.approx(s2, rel=1e-6)
    np.testing.assert_allclose(m.fixed_effects, beta, rtol=1e-6)
    for factor in (0.95, 1.05):  # the optimum, in both variances
        for k, other in ((factor, 1.0), (1.0, factor)):
            W = np.eye(400) + k * g / s2 * Z @ A @ Z.T + other * h / s2 * H @ H.T
            assert dense_criterion(data["y"].to_numpy(), X, W, reml=True)[0] >= d - 1e-6
    inverse = np.linalg.inv(V) / s2
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    blup = g * A @ Z.T @ P @ data["y"].to_numpy()
    spread = g * A - (g * A @ Z.T) @ P @ (g * A @ Z.T).T  # Henderson's prediction error
    found = _effects(m, "animal").set_index("level").loc[[f"a{k}" for k in range(120)]]
    np.testing.assert_allclose(found["estimate"], blup, atol=1e-6)
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(spread)), rtol=1e-6)


def test_levels_that_are_unrelated_make_the_ordinary_fit(animals):
    _, data, _, _ = animals
    names = sorted(data["animal"].unique())
    unit = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    one = mlm.fit("y ~ x + (1 + x | animal) + (1 | herd)", data, related={"animal": unit})
    two = mlm.fit("y ~ x + (1 + x | animal) + (1 | herd)", data)
    assert isinstance(one, RelatedFit)
    assert one.reml_criterion == pytest.approx(two.reml_criterion, abs=1e-7)
    np.testing.assert_allclose(one.fixed_effects, two.fixed_effects, atol=1e-6)
    np.testing.assert_allclose(one.vcov_fixed, two.vcov_fixed, atol=1e-6)
    np.testing.assert_allclose(
        one.random_covariance["animal"], two.random_covariance["animal"], atol=1e-4
    )
    np.testing.assert_allclose(one.coefficients()["df"], two.coefficients()["df"], rtol=1e-3)
    new = data.head(5)
    a = one.predict(new, std_error=True)
    b = two.predict(new, std_error=True)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_all_weight_on_the_first_level_makes_the_ordinary_fit(movers):
    _, data = movers
    data = data.assign(all=1.0, none=0.0)
    one = mlm.fit("y ~ x + (1 | mm(s1, s2, weights=[all, none]))", data)
    two = mlm.fit("y ~ x + (1 | s1)", data)
    assert one.reml_criterion == pytest.approx(two.reml_criterion, abs=1e-9)
    np.testing.assert_allclose(one.vcov_fixed, two.vcov_fixed, atol=1e-8)
    a, b = one.random_effects(), two.random_effects()
    np.testing.assert_allclose(a["estimate"], b["estimate"], atol=1e-6)
    np.testing.assert_allclose(a["std_error"], b["std_error"], atol=1e-6)
    np.testing.assert_allclose(one.coefficients()["df"], two.coefficients()["df"], rtol=1e-4)
    half, whole = one.design_effects(), two.design_effects()
    kish = whole[whole["component"] == "Kish size"]["estimate"].iloc[0]
    assert half["estimate"].iloc[0] == pytest.approx(kish, rel=1e-6)


def test_weights_are_divided_by_their_sum_unless_asked(movers):
    m, data = movers
    twice = data.assign(w1=2 * data["w1"], w2=2 * data["w2"])
    same = mlm.fit("y ~ x + (1 | mm(s1, s2, weights=[w1, w2]))", twice)
    assert same.reml_criterion == pytest.approx(m.reml_criterion, abs=1e-8)
    kept = mlm.fit("y ~ x + (1 | mm(s1, s2, weights=[w1, w2], scale=False))", twice)
    G = kept.random_covariance["mm(s1, s2)"].iloc[0, 0]
    expected = m.random_covariance["mm(s1, s2)"].iloc[0, 0] / 4.0
    assert pytest.approx(expected, rel=1e-4) == G


def test_memberships_from_first_principles(movers):
    m, data = movers
    levels = sorted(set(data["s1"]) | set(data["s2"].dropna().astype(int)))
    L = membership_matrix(data, ["s1", "s2"], ["w1", "w2"], levels)
    ratio = m.random_covariance["mm(s1, s2)"].iloc[0, 0] / m.residual_variance
    X = np.column_stack([np.ones(len(data)), data["x"]])
    V = np.eye(len(data)) + ratio * L @ L.T
    d, beta, _ = dense_criterion(data["y"].to_numpy(), X, V, reml=True)
    assert m.reml_criterion == pytest.approx(d, abs=1e-7)
    np.testing.assert_allclose(m.fixed_effects, beta, rtol=1e-7)
    average = m.icc().set_index("component").loc["average row", "estimate"]
    tau = ratio * (L**2).sum(axis=1).mean()
    assert average == pytest.approx(tau / (1.0 + tau), rel=1e-8)
    deff = m.design_effects()["estimate"].iloc[0]
    by_hand = V.sum() / np.trace(V)
    assert deff == pytest.approx(by_hand, rel=1e-8)


def test_predictions_of_new_rows(animals, movers):
    m, data, _, _ = animals
    new = data.head(3).assign(animal=["a3", "a119", "stranger"])
    found = m.predict(new, std_error=True)
    plain = m.predict(new, kind="population")
    table = m.random_effects().set_index(["group", "level"])["estimate"]
    for k, animal in enumerate(("a3", "a119")):
        extra = table["animal", animal] + table["herd", new["herd"].iloc[k]]
        assert found["estimate"][k] == pytest.approx(plain["estimate"][k] + extra, abs=1e-9)
    assert found.attrs["new_levels"] == {"animal": ("stranger",)}
    assert found["std_error"][2] > found["std_error"][0]
    with pytest.raises(InferenceError, match="stranger"):
        m.predict(new, new_levels="error")
    own = m.predict(data, std_error=True)
    np.testing.assert_allclose(own["estimate"], m.fitted(), atol=1e-9)
    school, pupils = movers
    rows = school.predict(pupils, std_error=True)
    np.testing.assert_allclose(rows["estimate"], school.fitted(), atol=1e-9)
    # the error of a predicted mean from the dense mixed-model equations
    levels = sorted(set(pupils["s1"]) | set(pupils["s2"].dropna().astype(int)))
    L = membership_matrix(pupils, ["s1", "s2"], ["w1", "w2"], levels)
    X = np.column_stack([np.ones(len(pupils)), pupils["x"]])
    W = np.hstack([X, L])
    ratio = school.random_covariance["mm(s1, s2)"].iloc[0, 0] / school.residual_variance
    penalty = np.diag([0.0, 0.0, *([1.0 / ratio] * len(levels))])
    C = np.linalg.inv(W.T @ W + penalty) * school.residual_variance
    np.testing.assert_allclose(rows["std_error"] ** 2, np.einsum("ia,ab,ib->i", W, C, W), rtol=1e-6)


def test_drawn_responses_have_the_covariance_of_the_model(animals):
    m, _, _, _ = animals
    draws = m.simulate(400, seed=1) - m.fitted("population")[:, None]
    V, _ = m.cluster_covariance("herd", "p")
    rows = [int(r) for r in V.index]
    inverse = np.linalg.inv(V.to_numpy())
    quadratic = np.einsum("ik,ij,jk->k", draws[rows], inverse, draws[rows]).mean() / len(rows)
    assert quadratic == pytest.approx(1.0, abs=4 * np.sqrt(2 / (400 * len(rows))))


def test_the_bootstrap_draws_relatives_together(animals):
    m, _, _, _ = animals
    drawn = m.bootstrap(60, seed=3)
    assert set(drawn["status"]) <= {"ok", "singular"}
    animal = drawn["sd((Intercept) | animal)"]
    estimate = np.sqrt(m.random_covariance["animal"].iloc[0, 0])
    assert animal.mean() == pytest.approx(estimate, abs=4 * animal.std() / np.sqrt(60))
    residual = drawn["sd(Residual)"]
    assert residual.mean() == pytest.approx(
        np.sqrt(m.residual_variance), abs=4 * residual.std() / np.sqrt(60)
    )
    with pytest.raises(InferenceError, match="parametric"):
        m.bootstrap(10, kind="cluster")


def test_intervals_and_tests(animals, movers):
    m, data, _, _ = animals
    wald, profile = m.confint(), m.confint("profile", components=["sd"])
    animal = profile[profile["group"] == "animal"].iloc[0]
    assert animal["conf_low"] < animal["estimate"] < animal["conf_high"]
    assert wald["conf_low"].notna().all()
    tests = m.random_tests().set_index("group")
    assert tests.loc["animal", "p_value"] < 0.001
    share = m.icc()
    assert share.loc[0, "component"] == "heritability"
    g, s2 = m.random_covariance["animal"].iloc[0, 0], m.residual_variance
    h = m.random_covariance["herd"].iloc[0, 0]
    assert share.loc[0, "estimate"] == pytest.approx(g / (g + h + s2))
    assert share.loc[0, "conf_low"] < share.loc[0, "estimate"] < share.loc[0, "conf_high"]
    for df in ("containment", "between-within"):
        with pytest.raises(InferenceError, match="satterthwaite"):
            m.coefficients(df=df)
    smaller = mlm.fit("y ~ x + (1 | herd)", data)
    table = mlm.compare(smaller, m).to_frame()
    assert table["distribution"][1] == "50:50 mixture of chi2(0) and chi2(1)"
    plain = mlm.fit("y ~ x + (1 | animal) + (1 | herd)", data)
    assert np.isnan(mlm.compare(plain, m).to_frame()["p_value"]).all()
    again = pickle.loads(pickle.dumps(m))
    assert again.reml_criterion == m.reml_criterion
    assert len(again.random_effects()) == len(m.random_effects())


def test_the_summary_says_what_is_known(animals, movers):
    text = " ".join(str(animals[0]).split())
    assert "levels correlated by the pedigree given: additive" in text
    assert "Heritability of animal" in text
    assert "have no rows" in text
    text = " ".join(str(movers[0]).split())
    assert "weights w1, w2, divided by their sum in each row" in text
    assert "rows have several levels" in text
    assert "Multiple-membership model" in text
    assert movers[0].to_json()


def test_every_verb_works_or_says_what_to_use(movers):
    m, _ = movers
    for name in dir(MultilevelFit):
        if name.startswith("_") or name in INHERITED or name in RelatedFit.__dict__:
            continue
        pytest.fail(f"{name} is neither inherited nor refused")
    for name in ("robust", "vcov_robust", "heteroscedasticity", "within_between"):
        with pytest.raises(InferenceError, match="several levels or levels are correlated"):
            getattr(m, name)()
    with pytest.raises(InferenceError, match="caterpillar"):
        m.plot("piles")


def test_a_genomic_matrix_of_lower_rank(animals):
    _, data, _, _ = animals
    rng = np.random.default_rng(9)
    markers = rng.normal(size=(120, 15))
    names = [f"a{k}" for k in range(120)]
    G = pd.DataFrame(markers @ markers.T / 15, index=names, columns=names)
    m = mlm.fit("y ~ x + (1 | animal)", data, related={"animal": G})
    assert "rank 15" in " ".join(str(m).split())
    Z = np.eye(120)[[int(a[1:]) for a in data["animal"]]]
    ratio = m.random_covariance["animal"].iloc[0, 0] / m.residual_variance
    V = np.eye(400) + ratio * Z @ G.to_numpy() @ Z.T
    X = np.column_stack([np.ones(400), data["x"]])
    d, _, _ = dense_criterion(data["y"].to_numpy(), X, V, reml=True)
    assert m.reml_criterion == pytest.approx(d, abs=1e-6)


@pytest.mark.parametrize(
    ("formula", "options", "error", "words"),
    [
        ("y ~ x + (1 | mm(s1))", {}, FormulaError, "two columns"),
        ("y ~ x + (1 | mm(s1, s2, weights=[w1]))", {}, FormulaError, "1 weights for 2"),
        ("y ~ x + (1 | mm(s1, s2, power=2))", {}, FormulaError, "options of mm"),
        ("y ~ x + (1 | mm(s1, nope))", {}, DesignError, "nope"),
        ("y ~ x + (1 | mm(s1, s2, weights=[x, x]))", {}, DesignError, "not negative"),
        ("y ~ x + (1 | mm(s1, s2))", {"scale": "~ x"}, ModelError, "independent residuals"),
        ("y ~ x + (1 | s1)", {"related": {"s9": pd.DataFrame(np.eye(2))}}, DesignError, "s9"),
        (
            "y ~ x + (1 | s1)", {"related": {"s1": pd.DataFrame(np.eye(30))}}, DesignError,
            "10 that are not: 30, 31",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_refused_with_a_name(movers, formula, options, error, words):
    with pytest.raises(error, match=words):
        mlm.fit(formula, movers[1], **options)


def test_rows_without_any_level_are_left_out(movers):
    _, data = movers
    lost = data.copy()
    lost["s1"] = lost["s1"].astype(float)
    lost.loc[[0, 5], "s1"] = np.nan
    lost.loc[[0, 5], "s2"] = np.nan
    m = mlm.fit("y ~ x + (1 | mm(s1, s2))", lost)
    assert m.n == len(data) - 2
    assert m.design.rows.missing == {"mm(s1, s2)": 2}
