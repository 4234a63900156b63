"""The door of structural models: options, tables, words."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError, ModelError, TableError

TEXT = """
level: within
  f =~ y1 + y2 + y3
  f ~ slope*x
level: between
  fb =~ y1 + y2 + y3
  fb ~ w
  twice := 2 * slope
"""
ROOMS = list(
    itertools.product(
        ("fiml", "listwise"),
        ("auto", "fixed", "modelled"),
        ("loading", "variance"),
        ("observed", "expected", "robust"),
    )
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(70), 6)
    x, w = rng.normal(size=420), rng.normal(size=70)
    f = 0.6 * x + (0.5 * w + 0.7 * rng.normal(size=70))[g] + rng.normal(size=420)
    own = {f"y{k}": k * f + rng.normal(size=70)[g] + rng.normal(size=420) for k in (1, 2, 3)}
    table = pd.DataFrame({"g": g, "x": x, "w": w[g], **own})
    table.loc[::9, "y2"] = np.nan
    table.loc[4::50, "x"] = np.nan
    return table


@pytest.fixture(scope="module")
def result(data):
    return mlm.sem(TEXT, data, cluster="g")


@pytest.mark.parametrize(("missing", "exogenous", "scale", "errors"), ROOMS)
def test_every_combination_of_options_is_honoured(data, missing, exogenous, scale, errors):
    found = mlm.sem(TEXT, data, cluster="g", missing=missing, exogenous=exogenous,
                    latent_scale=scale, std_errors=errors)  # fmt: skip
    assert found.certificate.is_certified
    n_complete = len(data.dropna())
    n_x = int(data["x"].notna().sum())
    rows = {("listwise",): n_complete, ("fiml", "fixed"): n_x}
    n = rows.get((missing,), rows.get((missing, exogenous), len(data)))
    assert found.problem.design.n_rows == n
    is_x_fixed = exogenous == "fixed" or (exogenous == "auto" and missing == "listwise")
    fixed = (("x",) if is_x_fixed else ()) + (() if exogenous == "modelled" else ("w",))
    assert found.fit.model.fixed_exogenous == fixed
    table = found.parameters()
    loading = table[(table["op"] == "=~") & (table["rhs"] == "y1")]
    assert loading["status"].tolist() == ["fixed" if scale == "loading" else "free"] * 2
    words = {"observed": "observed information", "expected": "expected information",
             "robust": "scores of 70 clusters"}  # fmt: skip
    assert words[errors] in table.attrs["sentence"]
    other = found.parameters(std_errors="observed")["std_error"]
    same = np.allclose(table["std_error"].dropna(), other.dropna(), rtol=1e-6)
    assert same == (errors == "observed")


def test_the_unit_of_latent_variables_does_not_change_the_fit(data, result):
    unit = mlm.sem(TEXT, data, cluster="g", latent_scale="variance")
    assert unit.minus2_loglik == pytest.approx(result.minus2_loglik, rel=1e-10)
    one, two = (
        r.standardized().query("op in ('=~', '~')")["estimate"].to_numpy() for r in (unit, result)
    )
    assert one == pytest.approx(two, rel=1e-5)


def test_conditioning_on_a_complete_predictor_does_not_change_slopes(data):
    whole = data.dropna()
    fixed, modelled = (
        mlm.sem(TEXT, whole, cluster="g", exogenous=e) for e in ("fixed", "modelled")
    )
    one, two = (r.parameters().query("op == '~'") for r in (fixed, modelled))
    assert one["estimate"].to_numpy() == pytest.approx(two["estimate"].to_numpy(), rel=1e-6)
    assert one["std_error"].to_numpy() == pytest.approx(two["std_error"].to_numpy(), rel=1e-5)
    assert modelled.fit.n_parameters == fixed.fit.n_parameters + 4


def test_tables(result):
    table = result.parameters(conf_level=0.9)
    free = table[table["status"] == "free"]
    n_held = (table["status"] == "boundary").sum()  # y3 ~~ y3 between clusters is zero
    assert n_held == 1
    assert len(free) + n_held == result.fit.n_parameters == len(result.vcov())
    width = (free["conf_high"] - free["conf_low"]) / free["std_error"]
    assert width.to_numpy() == pytest.approx(2 * 1.6448536, rel=1e-6)
    assert free["statistic"].to_numpy() == pytest.approx(free["estimate"] / free["std_error"])
    assert table.loc[table["status"] != "free", "std_error"].isna().all()
    slope = table.loc[table["label"] == "slope"].iloc[0]
    defined = result.defined().iloc[0]
    assert defined["estimate"] == pytest.approx(2 * slope["estimate"])
    assert defined["std_error"] == pytest.approx(2 * slope["std_error"])


def test_standardised_values_are_ratios_of_implied_moments(result):
    std = result.standardized().set_index(["level", "lhs", "op", "rhs"])["estimate"]
    r2 = result.r_squared().set_index(["level", "outcome"])["r_squared"]
    # one predictor: R2 is the squared standardised slope; one factor: of the loading
    assert r2["within", "f"] == pytest.approx(std["within", "f", "~", "x"] ** 2, rel=1e-8)
    assert r2["between", "y2"] == pytest.approx(std["between", "fb", "=~", "y2"] ** 2, rel=1e-8)
    residual = std["within", "y3", "~~", "y3"]
    assert residual == pytest.approx(1.0 - r2["within", "y3"], rel=1e-8)


def test_standard_errors_of_standardised_values(result):
    # a copy with every parameter moved by a little: differences of the standardised solution
    from multilevel.estimate.structural import StructuralFit
    from multilevel.interpret.structural import standardized_solution

    fit, h = result.fit, 1e-6
    value, jacobian = standardized_solution(result.problem, fit)
    for a in range(fit.n_parameters):
        ends = []
        for sign in (1, -1):
            theta = fit.theta + sign * h * np.eye(fit.n_parameters)[a]
            moved = StructuralFit(fit.model, theta, fit.criterion, 1, 1, fit.certificate)
            ends.append(standardized_solution(result.problem, moved)[0])
        slope = (ends[0] - ends[1]) / (2 * h)
        assert jacobian[:, a] == pytest.approx(slope, rel=1e-6, abs=1e-7)
    assert np.all(np.isfinite(value))


def test_summary(result):
    text = str(result)
    places = [text.index(word) for word in (
        "Two-level structural model", "Data", "Level 1 (within g)", "model for the means",
        "model for the variance", "Level 2 (between g)", "Defined parameters", "Explained variance",
        "SRMR within", "At the optimum")]  # fmt: skip
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= 80
    assert "<table" in result._repr_html_()
    assert str(pickle.loads(pickle.dumps(result))) == text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"missing": "drop"}, ModelError, "missing is one of"),
        ({"latent_scale": "mean"}, ModelError, "latent_scale is one of"),
        ({"std_errors": "MLR"}, InferenceError, "std_errors is one of"),
        ({"allow": ("everything",)}, ModelError, "allow is one of"),
        ({"cluster": "school"}, TableError, "'school' must be a column"),
        ({"group": "sex"}, TableError, "'sex' must be a column"),
        ({"cluster": None}, ModelError, "needs clusters"),
    ],
)
def test_wrong_options(data, options, error, message):
    with pytest.raises(error, match=message):
        mlm.sem(TEXT, data, **{"cluster": "g", **options})


@pytest.mark.parametrize("exogenous", ["auto", "fixed"])
def test_a_level_2_value_may_stand_in_one_row_of_its_cluster(data, exogenous):
    once = data.copy()
    once.loc[once["g"].duplicated(), "w"] = np.nan
    text = "level: 1\ny1 ~~ y3\nlevel: 2\ny1 ~ w\ny3 ~ w"
    one, two = (mlm.sem(text, d, cluster="g", exogenous=exogenous) for d in (data, once))
    assert two.fit.model.fixed_exogenous == ("w",)
    assert two.minus2_loglik == one.minus2_loglik
