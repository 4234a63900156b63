"""Hypotheses in words, contrasts, terms, marginal means and adjustments."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.infer.adjust import adjusted_p, simultaneous_critical
from multilevel.infer.linear_hypothesis import combination_rows, matrix_rows, parse_hypotheses

NAMES = (
    "(Intercept)",
    "ses",
    "sector[Public]",
    "within(ses, school)",
    "between(ses, school)",
    "meanses:sector[Public]",
    "Machine[B]",
    "Machine[C]",
    "C(year)[2010]",
    "I(x - 2)",
)


def row(text):
    found = parse_hypotheses(text, NAMES)
    return {NAMES[k]: v for k, v in enumerate(found.L[0]) if v}, found.rhs[0]


@pytest.mark.parametrize(
    ("text", "weights", "rhs"),
    [
        ("ses = 0", {"ses": 1}, 0),
        ("ses=2.5", {"ses": 1}, 2.5),
        ("-ses = -1e-3", {"ses": -1}, -0.001),
        ("sector = 0", {"sector[Public]": 1}, 0),
        ("sector[Public] = 0", {"sector[Public]": 1}, 0),
        ("`sector[Public]` = 0", {"sector[Public]": 1}, 0),
        ("sector:meanses = 0", {"meanses:sector[Public]": 1}, 0),
        ("between - within = 0", {"between(ses, school)": 1, "within(ses, school)": -1}, 0),
        ("between(ses,school) = within( ses, school)",
         {"between(ses, school)": 1, "within(ses, school)": -1}, 0),
        ("2 * ses + sector / 4 - 1 = 3", {"ses": 2, "sector[Public]": 0.25}, 4),
        ("ses*2 = Machine[B]", {"ses": 2, "Machine[B]": -1}, 0),
        ("Intercept = 10", {"(Intercept)": 1}, 10),
        ("year = 0", {"C(year)[2010]": 1}, 0),
        ("I(x - 2) = 0", {"I(x - 2)": 1}, 0),
    ],
)  # fmt: skip
def test_equations(text, weights, rhs):
    assert row(text) == (weights, rhs)


def test_several_equations():
    found = parse_hypotheses("Machine = 0, ses = sector = 0", NAMES)
    assert found.labels == ("Machine[B] = 0", "Machine[C] = 0", "ses = sector", "sector = 0")
    np.testing.assert_array_equal(found.L[:2], np.eye(10)[[6, 7]])
    np.testing.assert_array_equal(found.L[2], np.eye(10)[1] - np.eye(10)[2])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sess = 0", "did you mean ses"),
        ("Sector[public] = 0", r"did you mean sector\[Public\]"),
        ("ses", "form 'effect = number'"),
        ("ses = ", "form 'effect = number'"),
        ("", "needs a hypothesis"),
        ("ses * sector = 0", "linear"),
        ("1 / ses = 0", "linear"),
        ("ses / 0 = 0", "divided by zero"),
        ("Machine - ses = 0", "one fixed effect"),
        ("ses - ses = 0", "involve a fixed effect"),
        ("3 = 0", "involve a fixed effect"),
    ],
)
def test_refusals(text, says):
    with pytest.raises(InferenceError, match=says):
        parse_hypotheses(text, NAMES)


def test_contrast_rows():
    found = combination_rows({"contextual": {"between": 1, "within": -1}}, NAMES)
    assert found.labels == ("contextual",)
    np.testing.assert_array_equal(found.L[0], np.eye(10)[4] - np.eye(10)[3])
    with pytest.raises(InferenceError, match="finite"):
        combination_rows({"a": {"ses": float("nan")}}, NAMES)
    with pytest.raises(InferenceError, match="one finite number per fixed effect"):
        matrix_rows(np.ones(3), None, 10)
    with pytest.raises(InferenceError, match="one label per row"):
        matrix_rows(np.ones((2, 10)), ["a"], 10)


# -- on a fit --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    n, J = 300, 20
    frame = pd.DataFrame({
        "g": np.repeat(np.arange(J), n // J),
        "a": rng.choice(["p", "q", "r"], n),
        "b": rng.choice(["u", "v"], n),
        "x": rng.standard_normal(n) + 3.0,
    })  # fmt: skip
    effect = frame["a"].map({"p": 0.0, "q": 1.0, "r": 0.5}) + 0.3 * frame["x"]
    frame["y"] = effect + rng.standard_normal(J)[frame["g"]] + rng.standard_normal(n)
    return frame


def test_type_3_does_not_depend_on_the_coding(data):
    plain = mlm.fit("y ~ a * b * x + (1 | g)", data).anova()
    coded = mlm.fit("y ~ C(a, Sum) * C(b, Helmert) * x + (1 | g)", data)
    assert [t.replace(", Sum", "").replace(", Helmert", "") for t in coded.anova()["term"]] != []
    np.testing.assert_allclose(coded.anova()["statistic"], plain["statistic"], rtol=1e-5)
    np.testing.assert_allclose(coded.anova()["df"], plain["df"], rtol=1e-4)
    # with sum-to-zero coding the hypotheses are those of the coefficients
    direct = coded.test("C(b, Helmert) = 0").iloc[0]
    by_term = coded.anova().set_index("term").loc["C(b, Helmert)"]
    assert direct["statistic"] ** 2 == pytest.approx(by_term["statistic"], rel=1e-8)


def test_type_3_of_a_factor_without_its_main_effect(data):
    m = mlm.fit("y ~ b + a:b + (1 | g)", data)
    found = m.anova().set_index("term")
    assert found.loc["b", "df_num"] == 1
    assert found.loc["a:b", "df_num"] == 4  # a within each category of b


def test_type_2_is_type_3_of_the_model_without_the_terms_that_contain_it(data):
    full = mlm.fit("y ~ a * b + x + (1 | g)", data)
    second = full.anova(type=2).set_index("term")
    third = full.anova(type=3).set_index("term")
    for term in ("a:b", "x"):
        assert second.loc[term, "statistic"] == pytest.approx(third.loc[term, "statistic"])
    # by definition: R(a | b, x) in the metric of the fitted V
    beta, V = full.fit.beta, full.fit.vcov_beta
    names = list(full.design.names)
    P = np.linalg.inv(V)
    inter = [k for k, name in enumerate(names) if ":" in name]
    keep = [k for k in range(len(names)) if k not in inter]
    small = [k for k in keep if not names[k].startswith("a[")]
    c = P @ beta  # proportional to X'V^-1 y

    def explained(columns):
        return c[columns] @ np.linalg.solve(P[np.ix_(columns, columns)], c[columns])

    gain = explained(keep) - explained(small)
    assert second.loc["a", "statistic"] == pytest.approx(gain / 2, rel=1e-8)


def test_empty_cells_are_refused_by_type_3_only(data):
    holes = data[~((data["a"] == "q") & (data["b"] == "v"))]
    with pytest.warns(mlm.errors.DataWarning):
        m = mlm.fit("y ~ a * b + (1 | g)", holes)
    with pytest.raises(InferenceError, match="every combination"):
        m.anova()
    with pytest.raises(InferenceError, match="every combination"):
        m.marginal_means("a")
    assert m.anova(type=2)["p_value"].between(0, 1).all()
    with pytest.raises(InferenceError, match="type must be 3 or 2"):
        m.anova(type=1)


def test_marginal_means_are_averages_of_predictions(data):
    m = mlm.fit("y ~ a * b + I(x**2) + x + (1 | g)", data)
    means = m.marginal_means("a")
    at = data["x"].mean()
    for cell in means.itertuples():
        grid = pd.DataFrame({"a": cell.a, "b": ["u", "v"], "x": at})
        found = m.predict(grid, kind="population")["estimate"].mean()
        assert cell.estimate == pytest.approx(found, rel=1e-10)
    held = m.marginal_means(["a", "b"], at={"x": 1.0})
    grid = held[["a", "b"]].assign(x=1.0)
    found = m.predict(grid, kind="population", std_error=True)
    np.testing.assert_allclose(held["estimate"], found["estimate"])
    np.testing.assert_allclose(held["std_error"], found["std_error"])
    one = m.marginal_means("a", at={"b": "v", "x": 1})
    np.testing.assert_allclose(one["estimate"], held.loc[held["b"] == "v", "estimate"])
    assert "x = 1" in one.attrs["sentence"]
    for at, says in ({"z": 1}, "its variables are"), ({"b": "w"}, "its categories are u, v"):
        with pytest.raises(InferenceError, match=says):
            m.marginal_means("a", at=at)
    with pytest.raises(InferenceError, match="numeric"):
        m.marginal_means("x")


def test_pairwise_comparisons(data):
    m = mlm.fit("y ~ a * b + x + (1 | g)", data)
    means = m.marginal_means("a").set_index("a")["estimate"]
    plain = m.pairwise_comparisons("a", adjust="none")
    assert plain["term"].tolist() == ["a[p] - a[q]", "a[p] - a[r]", "a[q] - a[r]"]
    assert plain.loc[0, "estimate"] == pytest.approx(means["p"] - means["q"])
    holm = m.pairwise_comparisons("a", adjust="holm")["p_value"].to_numpy()
    raw = plain["p_value"].to_numpy()
    order = np.argsort(raw)
    expected = np.minimum(1, np.maximum.accumulate(raw[order] * [3, 2, 1]))
    np.testing.assert_allclose(holm[order], expected)
    tukey = m.pairwise_comparisons("a")
    assert ((tukey["p_value"] < 0.05) == ((tukey["conf_low"] > 0) | (tukey["conf_high"] < 0))).all()
    with pytest.raises(InferenceError, match="adjust must be one of"):
        m.pairwise_comparisons("a", adjust="sidak")


def test_tukey_with_two_means_is_the_t_test():
    t, df = np.array([2.3]), np.array([11.0])
    p = 2 * stats.t.sf(t, df)
    np.testing.assert_allclose(adjusted_p(p, t, df, 2, "tukey"), p, rtol=1e-6)
    critical = simultaneous_critical(df, 0.95, 2, "tukey")
    np.testing.assert_allclose(critical, stats.t.ppf(0.975, df), rtol=1e-5)
    bonferroni = simultaneous_critical(np.full(3, np.inf), 0.95, 3, "bonferroni")
    np.testing.assert_allclose(bonferroni, stats.norm.ppf(1 - 0.025 / 3))


def test_methods_agree_where_they_must(data):
    m = mlm.fit("y ~ a + x + (1 | g)", data)
    z = m.coefficients(df="none")
    assert np.isinf(z["df"]).all()
    np.testing.assert_allclose(z["p_value"], 2 * stats.norm.sf(abs(z["statistic"])))
    residual = m.coefficients(df="residual")
    assert (residual["df"] == 300 - 4).all()
    np.testing.assert_allclose(
        residual["conf_high"], z["estimate"] + stats.t.ppf(0.975, 296) * z["std_error"]
    )
    within = m.coefficients(df="between-within")
    assert within["df"].tolist() == [19, 277, 277, 277]
    contained = m.coefficients(df="containment")
    # the intercept is contained in g, whose indicators add 19 ranks; the others are in none
    assert contained["df"].tolist() == [19, 277, 277, 277]
    joint = m.test("a = 0", df="none").iloc[-1]
    assert joint["p_value"] == pytest.approx(stats.chi2.sf(joint["statistic"], 2))
    with pytest.raises(InferenceError, match="df must be one of"):
        m.coefficients(df="kenward")
    with pytest.raises(InferenceError, match="conf_level"):
        m.coefficients(conf_level=95)


def test_defaults_are_stated(data):
    m = mlm.fit("y ~ x + (1 | g)", data)
    assert "Satterthwaite" in m.coefficients().attrs["sentence"]
    ml = m.update(method="ml")
    assert np.isinf(ml.coefficients()["df"]).all()
    assert "default under ML" in ml.coefficients().attrs["sentence"]
    assert "z" in ml.summary().split("Model for the means")[1].splitlines()[1].split()
    again = pickle.loads(pickle.dumps(m))
    pd.testing.assert_frame_equal(again.coefficients(), m.coefficients())


def test_printing_never_waits_for_degrees_of_freedom(data, monkeypatch):
    from multilevel.api import means

    m = mlm.fit("y ~ x + (1 | g) + (1 | a)", data)
    monkeypatch.setattr(means, "PRINTING_SECONDS", 0.0)
    text = " ".join(m.summary().split())
    assert "ask with df='satterthwaite'" in text
    assert "Satterthwaite degrees of freedom" in " ".join(m.summary(df="satterthwaite").split())


def test_crossed_factors_have_no_between_within(data):
    m = mlm.fit("y ~ x + (1 | g) + (1 | a)", data)
    with pytest.raises(InferenceError, match="crossed grouping factors"):
        m.coefficients(df="between-within")


def test_an_iterative_engine_has_satterthwaite_only(data):
    m = mlm.fit("y ~ x + (1 | g) + (1 | a)", data, engine="iterative")
    exact = mlm.fit("y ~ x + (1 | g) + (1 | a)", data).coefficients()
    found = m.coefficients()
    assert "average information" in found.attrs["sentence"]
    # average in the place of observed information, and an optimum with Monte Carlo noise
    np.testing.assert_allclose(found["df"], exact["df"], rtol=0.2)
    with pytest.raises(InferenceError, match="exact engine"):
        m.coefficients(df="kenward-roger")


def test_large_df_are_said_to_be_so():
    rng = np.random.default_rng(2)
    g = rng.integers(0, 40, 12_000)
    frame = pd.DataFrame({"g": g, "x": rng.standard_normal(12_000)})
    frame["y"] = rng.standard_normal(40)[g] + rng.standard_normal(12_000)
    m = mlm.fit("y ~ 0 + x + (1 | g)", frame)
    assert "exceeds 10000: t and z tests agree" in m.coefficients().attrs["sentence"]
    both = mlm.fit("y ~ x + (1 | g)", frame)
    assert "exceeds 10000" not in both.coefficients().attrs["sentence"]


def test_a_model_without_fixed_effects(data):
    m = mlm.fit("y ~ 0 + (1 | g)", data)
    assert len(m.coefficients()) == 0
    assert "No fixed effects." in m.summary()
    with pytest.raises(InferenceError, match="without any"):
        m.coefficients(df="satterthwaite")


def test_a_default_that_cannot_be_had_is_replaced_and_explained(data):
    from multilevel.infer.means_tests import default_tests

    def impossible(method):
        raise InferenceError("x", "a Hessian that is not positive definite", "y")

    m = mlm.fit("y ~ x + (1 | g)", data)
    found = default_tests(m._prepared, m.fit, impossible)
    assert found.method == "none"
    assert "cannot be had: a Hessian that is not positive definite" in found.sentence
    assert "default under" not in found.sentence


def test_containment_of_a_crossed_design_counts_ranks(data):
    # a dense rank of [X Z] by singular values, random effects from the coarsest factor
    m = mlm.fit("y ~ x + (1 | g) + (x | a)", data)
    found = m.coefficients(df="containment").set_index("term")["df"]
    X = m.design.X
    one_a, one_g = (pd.get_dummies(data[k]).to_numpy(float) for k in ("a", "g"))
    entered = [X, one_a, one_a * data[["x"]].to_numpy(), one_g]
    ranks = [np.linalg.matrix_rank(np.hstack(entered[: k + 1])) for k in range(4)]
    added = np.diff(ranks)
    assert found["x"] == added[1]
    assert found["(Intercept)"] == added.min()


def test_type_3_of_splines_in_each_category(data):
    m = mlm.fit("y ~ bs(x, df=5) * b + (1 | g)", data)
    found = m.anova().set_index("term")
    assert found.loc["bs(x, df=5):b", "df_num"] == 5
    names = [name for name in m.design.names if ":" in name]
    direct = m.test(", ".join(f"`{name}` = 0" for name in names)).iloc[-1]
    assert direct["statistic"] == pytest.approx(found.loc["bs(x, df=5):b", "statistic"], rel=1e-8)
