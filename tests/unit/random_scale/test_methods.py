"""``random_scale=`` and ``by=`` at the door: identities, every verb, errors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, FormulaError, InferenceError, ModelError


@lru_cache
def table():
    rng = np.random.default_rng(11)
    J, size = 60, 8
    school = np.repeat(np.arange(J), size)
    w = rng.normal(size=J)
    sector = np.arange(J) % 2
    d = np.exp(0.5 * w + 0.4 * sector)
    x = rng.normal(size=len(school))
    u = rng.normal(size=(J, 2)) @ np.array([[0.9, 0.2], [0.0, 0.5]])
    y = 1.0 + 0.5 * x + (d[:, None] * u)[school, 0] + (d[:, None] * u)[school, 1] * x
    return pd.DataFrame({
        "y": y + rng.normal(size=len(x)), "x": x, "school": school, "w": w[school],
        "sector": np.array(["public", "catholic"])[sector][school],
        "d0": (sector == 1)[school] * 1.0, "d1": (sector == 0)[school] * 1.0,
        "class_": np.arange(len(x)) // 4,
    })  # fmt: skip


@lru_cache
def scaled(method="reml"):
    return mlm.fit("y ~ x + (1 | school)", table(), random_scale="~ w + sector", method=method)


def test_by_is_a_block_diagonal_covariance_over_dummies():
    data = table().assign(s0=lambda t: t.d0 * t.x, s1=lambda t: t.d1 * t.x)
    by = mlm.fit("y ~ x + (1 + x | school, by=sector)", data)
    dummies = mlm.fit("y ~ x + (0 + d0 + s0 | school) + (0 + d1 + s1 | school)", data)
    assert by.reml_criterion == pytest.approx(dummies.reml_criterion, abs=1e-8)
    assert by.random_covariance["school"].to_numpy() == pytest.approx(
        dummies.random_covariance["school"].to_numpy(), abs=1e-5
    )
    assert "(Intercept) [sector=catholic]" in by.random_covariance["school"].columns
    # each school has the effects of its own sector only
    assert len(by.random_effects()) == 2 * 60
    assert set(by.random_effects()["term"]) == {"(Intercept)", "x"}
    assert "by=sector" not in by.equations
    assert "U_1c" in by.equations


def test_a_dummy_predictor_and_by_are_one_model():
    one = mlm.fit("y ~ x + (1 | school)", table(), random_scale={"school": "~ sector"})
    two = mlm.fit("y ~ x + (1 | school, by=sector)", table())
    assert one.reml_criterion == pytest.approx(two.reml_criterion, abs=1e-8)
    for df in ("satterthwaite", "kenward-roger"):
        a, b = one.coefficients(df=df), two.coefficients(df=df)
        assert a["df"].to_numpy() == pytest.approx(b["df"].to_numpy(), rel=1e-4)
        assert a["std_error"].to_numpy() == pytest.approx(b["std_error"].to_numpy(), rel=1e-5)
    assert one.random_effects()["estimate"].to_numpy() == pytest.approx(
        two.random_effects()["estimate"].to_numpy(), abs=1e-6
    )
    new = table().iloc[[0, 9, 300]]
    columns = ["estimate", "prediction_std_error", "conf_low", "conf_high"]
    a, b = (m.predict(new, interval="prediction")[columns].to_numpy() for m in (one, two))
    assert a == pytest.approx(b, rel=1e-5)
    a, b = (m.row_variances(new).to_numpy() for m in (one, two))
    assert a == pytest.approx(b, rel=1e-4)
    for level in (0, 1):
        a, b = (m.cluster_random_covariance(level)[0].to_numpy() for m in (one, two))
        assert a == pytest.approx(b, rel=1e-4)
    plain = mlm.fit("y ~ x + (1 | school)", table())
    tests = [mlm.compare(plain, m).result.tests[0] for m in (one, two)]
    assert [t.df for t in tests] == [1, 1]
    assert tests[0].statistic == pytest.approx(tests[1].statistic, abs=1e-6)
    assert tests[0].p_value == pytest.approx(tests[0].p_naive)


def test_recovers_and_says_so():
    m = scaled("ml")
    found = m.random_scale_effects().set_index("term")
    assert found.loc["w", "estimate"] == pytest.approx(0.5, abs=3 * found.loc["w", "std_error"])
    low, high = found.loc["w", ["percent_variance_low", "percent_variance_high"]]
    assert low < 100 * (np.exp(2 * 0.5) - 1) < high
    assert "larger (95% interval" in found.loc["w", "sentence"]
    text = m.summary()
    assert "Model for the standard deviations of random effects" in text
    assert "log SD(U_0c) = alpha_00 + alpha_01 w_c" in text
    assert "The log standard deviations of the random effects of school depended on w" in (
        m.methods_paragraph()
    )
    assert "Residual structure" not in text


def test_variances_follow_the_predictors():
    m = scaled()
    alpha = m.random_scale_effects().set_index("term")["estimate"]
    G0 = float(m.random_covariance["school"].iloc[0, 0])
    shown = m.row_variances(pd.DataFrame({
        "x": [0.0, 0.0], "w": [0.0, 1.0], "sector": ["catholic"] * 2, "school": [0, 0],
    }))  # fmt: skip
    expected = G0 * np.exp(2.0 * np.array([0.0, alpha["w"]]))
    assert shown["location_variance"].to_numpy() == pytest.approx(expected, rel=1e-10)
    share = expected / (expected + m.residual_variance)
    assert shown["icc"].to_numpy() == pytest.approx(share, rel=1e-10)
    assert ((shown["conf_low"] < shown["icc"]) & (shown["icc"] < shown["conf_high"])).all()
    V = m.cluster_covariance("school", 4)[0].to_numpy()
    G = m.cluster_random_covariance(4)[0].iloc[0, 0]
    assert V[0, 1] == pytest.approx(G, rel=1e-10)
    # the analysed rows are rows like others
    own, again = m.row_variances(), m.row_variances(table())
    assert own.to_numpy() == pytest.approx(again.to_numpy(), rel=1e-9)


def test_simulated_and_bootstrapped():
    m = scaled("ml")
    drawn = m.simulate(400, seed=2)
    means = drawn.reshape(60, 8, -1).mean(axis=1)
    expected = [m.cluster_random_covariance(j)[0].iloc[0, 0] for j in (0, 1, 2)]
    found = means[:3].var(axis=1) - m.residual_variance / 8
    assert found == pytest.approx(np.array(expected), rel=0.35, abs=0.1)
    for kind in ("parametric", "cluster"):
        frame = m.bootstrap(n_boot=3, seed=1, kind=kind)
        assert "log_sd(school: w)" in frame.columns
    again = m.refit(m.design.y)
    assert again.minus2_loglik == pytest.approx(m.minus2_loglik, abs=1e-7)
    by_reml = m.update(method="reml")
    assert by_reml.reml_criterion == pytest.approx(scaled().reml_criterion, abs=1e-7)


def test_intervals_by_profile_hold_the_estimate():
    m = scaled()
    found = m.confint("profile").set_index("term")
    row = found.loc["log_sd(school: w)"]
    assert row["conf_low"] < row["estimate"] < row["conf_high"]


def test_three_levels_with_residual_and_scale():
    data = table()
    m = mlm.fit(
        "y ~ x + (1 | school/class_)", data, random_scale={"school": "~ w"}, scale="~ sector"
    )
    assert m.certificate.is_certified
    names = m.residual_parameters()["term"].tolist()
    assert names == ["log_variance(sector[public])", "log_sd(school: w)"]
    assert "(Intercept)" in m.random_scale_effects()["effect"].tolist()


def test_slopes_have_coefficients_of_their_own():
    m = mlm.fit("y ~ x + (1 + x | school)", table(), random_scale="~ w", method="ml")
    assert m.random_scale_effects()["effect"].tolist() == ["(Intercept)", "x"]
    G, C = m.cluster_random_covariance(7)
    G0 = m.random_covariance["school"].to_numpy()
    assert C.iloc[0, 1] == pytest.approx(G0[0, 1] / np.sqrt(G0[0, 0] * G0[1, 1]), rel=1e-9)
    assert G.iloc[0, 0] != pytest.approx(G0[0, 0], rel=1e-3)


@pytest.mark.parametrize(
    ("formula", "options", "error", "match"),
    [
        ("y ~ x + (1 | school)", {"random_scale": "~ x"}, DesignError, "in school 0 and 59 more"),
        ("y ~ x + (1 | school, by=x)", {}, DesignError, "values|value"),
        ("y ~ x + (1 | school, by=class_)", {}, DesignError, "groups"),
        ("y ~ x + (1 | school, sector)", {}, FormulaError, "by="),
        ("y ~ x + (1 | school)", {"random_scale": {"class_": "~ w"}}, ModelError, "class_"),
        ("y ~ x + (1 | school)", {"random_scale": "w"}, ModelError, "one-sided"),
        ("y ~ x", {"random_scale": "~ w"}, ModelError, "names the grouping factor"),
        ("y ~ x + (1 | school)", {"random_scale": "~ w + I(2 * w)"}, DesignError, "repeat each"),
        (
            "y > 1 ~ x + (1 | school)", {"random_scale": "~ w", "family": "binomial"},
            ModelError, "by=sector",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(formula, options, error, match):
    with pytest.raises(error, match=match):
        mlm.fit(formula, table(), **options)


def test_a_plain_fit_has_no_such_effects():
    plain = mlm.fit("y ~ x + (1 | school)", table())
    with pytest.raises(InferenceError, match="random_scale"):
        plain.random_scale_effects()
    same = plain.cluster_random_covariance(3)[0].to_numpy()
    assert same == pytest.approx(plain.random_covariance["school"].to_numpy())


def test_by_in_a_generalized_model():
    data = table().assign(high=lambda t: (t.y > 1.0) * 1)
    by = mlm.fit("high ~ x + (1 | school, by=sector)", data, family="binomial")
    two = mlm.fit("high ~ x + (0 + d0 | school) + (0 + d1 | school)", data, family="binomial")
    assert by.minus2_loglik == pytest.approx(two.minus2_loglik, abs=1e-6)
