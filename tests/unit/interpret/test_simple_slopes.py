"""Simple slopes, comparisons and Johnson-Neyman regions against refits with moved zero points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.design.grid import Grid
from multilevel.errors import DesignError, InferenceError


@pytest.fixture(scope="module")
def hsb():
    data = mlm.load_hsb().to_pandas()
    data["sex"] = data["female"].map({0: "male", 1: "female"})
    data["positive"] = 1.0 + np.exp(data["ses"] / 2)
    return data


@pytest.fixture(scope="module")
def model(hsb):
    return mlm.fit("mathach ~ ses * meanses * sector + (ses | school)", hsb)


def row_of(table, component, at):
    return table[(table["component"] == component) & (table["at"] == at)].iloc[0]


@pytest.mark.parametrize("df", ["satterthwaite", "between-within", "none"])
def test_simple_slopes_are_the_coefficients_of_a_recentred_model(hsb, model, df):
    table = model.slopes("ses", at={"meanses": [0.4], "sector": [1]}, df=df)
    moved = hsb.assign(meanses=hsb["meanses"] - 0.4, sector=hsb["sector"] - 1)
    again = mlm.fit("mathach ~ ses * meanses * sector + (ses | school)", moved)
    approach = again.slopes("ses", at={"meanses": 0, "sector": 0}, df=df)
    b, V = again.fixed_effects, again.vcov_fixed
    for component, term in (("slope", "ses"), ("intercept", "(Intercept)")):
        row = row_of(table, component, "meanses = 0.4, sector = 1")
        assert row["estimate"] == pytest.approx(b[term], rel=1e-5)
        assert row["std_error"] == pytest.approx(np.sqrt(V.loc[term, term]), rel=1e-4)
        same = approach[approach["component"] == component].iloc[0]
        assert row["df"] == pytest.approx(same["df"], rel=1e-2)
        p = 2 * stats.t.sf(abs(row["statistic"]), row["df"])
        assert row["p_value"] == pytest.approx(p, rel=1e-9)


def test_differences_are_differences(model):
    table = model.slopes("ses", at={"meanses": "mean"}, df="none")
    slopes = table[table["component"] == "slope"]["estimate"].to_numpy()
    difference = table[table["component"] == "difference"]
    assert difference["estimate"].iloc[0] == pytest.approx(slopes[1] - slopes[0])
    assert "sector = 1" in difference["at"].iloc[0]


def test_default_values_of_moderators(hsb, model):
    table = model.slopes("ses", df="none")
    assert (table["component"] == "slope").sum() == 3 * 2
    labels = table[table["component"] == "slope"]["at"].tolist()
    low = hsb["meanses"].mean() - hsb["meanses"].std()
    assert labels[0] == f"meanses = {low:.4g}, sector = 0"


def test_zero_points_of_intercepts_are_named(hsb):
    m = mlm.fit("mathach ~ ses * sector + sex + (1 | school)", hsb)
    table = m.slopes("ses", df="none")
    assert "at ses = 0, sex = female." in table.attrs["sentence"]
    b = m.fixed_effects
    row = row_of(table, "intercept", "sector = 1")
    assert row["estimate"] == pytest.approx(b["(Intercept)"] + b["sector"])


def test_centring_calls_are_predictors(hsb):
    m = mlm.fit("mathach ~ within(ses, school) * sector + between(ses, school) + (1 | school)", hsb)
    table = m.slopes("within", df="none")
    b = m.fixed_effects
    assert table["estimate"].iloc[0] == pytest.approx(b["within(ses, school)"])
    assert table["estimate"].iloc[1] == pytest.approx(
        b["within(ses, school)"] + b["within(ses, school):sector"]
    )
    assert m.slopes("between", df="none")["estimate"].iloc[0] == pytest.approx(
        b["between(ses, school)"]
    )
    with pytest.raises(DesignError, match="fixed part"):
        m.slopes("ses")


def test_center_and_scale_follow_their_variable(hsb):
    plain = mlm.fit("mathach ~ ses * sector + (1 | school)", hsb)
    moved = mlm.fit("mathach ~ scale(ses) * sector + (1 | school)", hsb)
    for a, b in zip(
        plain.slopes("ses", df="none")["estimate"],
        moved.slopes("ses", df="none")["estimate"],
        strict=True,
    ):
        assert a == pytest.approx(b, rel=1e-6)


def test_curved_effects_by_differences(hsb):
    m = mlm.fit("mathach ~ log(positive) + I(ses**2) + ses + (1 | school)", hsb)
    b = m.fixed_effects
    table = m.slopes("positive", at={"positive": 1.7}, df="none")
    assert table["estimate"].tolist() == pytest.approx([b["log(positive)"] / 1.7], rel=1e-9)
    table = m.slopes("ses", at={"ses": 0.3}, df="none")
    square = next(name for name in m.fixed_effects.index if "2" in name)
    assert table["estimate"].tolist() == pytest.approx([b["ses"] + 0.6 * b[square]], rel=1e-9)
    assert "central differences" in table.attrs["sentence"]


def test_comparisons_of_categories_and_numbers(hsb):
    m = mlm.fit("mathach ~ sex * ses + C(minority) + (1 | school)", hsb)
    b = m.fixed_effects
    table = m.comparisons("sex", at={"ses": [0.0, 2.0]}, df="none")
    assert table["component"].unique().tolist() == ["male - female"]
    assert table["estimate"].tolist() == pytest.approx(
        [b["sex[male]"], b["sex[male]"] + 2 * b["sex[male]:ses"]]
    )
    with pytest.raises(InferenceError, match="numeric predictor"):
        m.slopes("sex")
    with pytest.raises(DesignError, match="categories that the model knows"):
        m.comparisons("sex", at={"sex": ["male", "other"]})
    assert m.comparisons("minority", df="none")["estimate"].tolist() == pytest.approx(
        [b["C(minority)[1]"]]
    )
    slope = m.slopes("ses", at={"sex": ["female"]}, df="none")["estimate"].iloc[0]
    one_more = m.comparisons("ses", at={"sex": ["female"]}, df="none")["estimate"].iloc[0]
    assert one_more == pytest.approx(slope)


def test_grid_rows_are_the_rows_of_the_design(hsb, model):
    chosen = hsb.iloc[[0, 500, 7000]]
    names = ["ses", "meanses", "sector"]
    rows = Grid(model.design).rows({name: chosen[name].tolist() for name in names})
    assert rows == pytest.approx(model.design.X[[0, 500, 7000]])


@pytest.mark.parametrize("df", ["none", "satterthwaite", "between-within"])
def test_bounds_are_where_p_is_five_percent(hsb, df):
    m = mlm.fit("mathach ~ ses * meanses + sector * ses + (ses | school)", hsb)
    regions = m.johnson_neyman("ses", "meanses", at={"sector": [0, 1]}, df=df)
    bounds = [(row["at"], row["low"]) for _, row in regions.iterrows() if np.isfinite(row["low"])]
    span = 5 * (hsb["meanses"].max() - hsb["meanses"].min()) + 1
    tested = 0
    for at, bound in bounds:
        sector = float(at.removeprefix("sector = "))
        row = m.slopes("ses", at={"sector": sector, "meanses": bound}, df=df).iloc[0]
        if abs(bound) < span - 1 - 1e-9 and row["p_value"] < 0.06:
            assert row["p_value"] == pytest.approx(0.05, rel=1e-6)
            tested += 1
        inside = hsb["meanses"].min() <= bound <= hsb["meanses"].max()
        found = regions[(regions["at"] == at) & (regions["low"] == bound)].iloc[0]
        assert found["low_inside"] == inside
    assert tested >= 2
    searched = "bounds were searched for" in regions.attrs["sentence"]
    assert searched == bool(np.isfinite(regions["low"].min()))
    for _, row in regions.iterrows():
        low = row["low"] if np.isfinite(row["low"]) else row["high"] - 1
        high = row["high"] if np.isfinite(row["high"]) else low + 1
        sector = float(row["at"].removeprefix("sector = "))
        middle = {"sector": sector, "meanses": (low + high) / 2}
        test = m.slopes("ses", at=middle, df=df).iloc[0]
        assert (test["p_value"] < 0.05) == row["is_significant"]
        assert row["sign"] in (0, np.sign(test["estimate"]))


def test_false_discovery_by_hand(hsb):
    m = mlm.fit("mathach ~ female * meanses + (1 | school)", hsb)
    found = m.johnson_neyman("female", "meanses", df="none", false_discovery=True)
    values = np.unique(hsb["meanses"])
    at = m.slopes("female", at={"meanses": values[:150]}, df="none")
    rest = m.slopes("female", at={"meanses": values[150:]}, df="none")
    p = [*at[at["component"] == "slope"]["p_value"], *rest[rest["component"] == "slope"]["p_value"]]
    p = np.sort(p)
    ranks = np.arange(1, len(p) + 1)
    largest = max(ranks[p <= 0.05 * ranks / len(p)], default=1)
    assert found.attrs["alpha"] == pytest.approx(0.05 * largest / len(p))
    plain = m.johnson_neyman("female", "meanses", df="none")
    assert plain.attrs["alpha"] == pytest.approx(0.05)


def test_refusals(hsb, model):
    m = mlm.fit("mathach ~ ses * sex + meanses + (1 | school)", hsb)
    with pytest.raises(InferenceError, match="share a term"):
        m.johnson_neyman("ses", "meanses")
    with pytest.raises(InferenceError, match="numeric moderator"):
        m.johnson_neyman("ses", "sex")
    with pytest.raises(InferenceError, match="sd"):
        model.slopes("ses", at={"meanses": "median"})
    with pytest.raises(InferenceError, match="combinations"):
        model.slopes("ses", at={"meanses": np.arange(300.0)})
    with pytest.raises(DesignError, match="fixed part"):
        model.slopes("age")
