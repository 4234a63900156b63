"""Explained variance against brute force from V and from raw rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.interpret.level_parts import level_parts
from multilevel.interpret.variance_parts import variance_parts
from tests.reference.lme4_fits import DATA


@pytest.fixture(scope="module")
def hsb():
    return mlm.load_hsb().to_pandas()


@pytest.fixture(scope="module")
def centred(hsb):
    return mlm.fit(
        "mathach ~ within(ses, school) * sector + between(ses, school) + "
        "(within(ses, school) | school)",
        hsb,
    )


def shares(m, measure="rights_sterba"):
    table = m.r2()
    table = table[table["measure"] == measure]
    return table.set_index(["group", "component"])["estimate"]


def test_total_and_nakagawa_by_hand(hsb, centred):
    X, beta = centred.design.X, centred.fit.beta
    prediction = X @ beta
    found = shares(centred, "total")["total", "f"]
    assert found == pytest.approx(np.corrcoef(hsb["mathach"], prediction)[0, 1] ** 2)
    G = centred.random_covariance["school"].to_numpy()
    Z = centred.design.blocks[0].columns
    random = np.mean([z @ G @ z for z in Z])
    total = prediction.var() + random + centred.residual_variance
    found = shares(centred, "nakagawa")
    assert found["total", "marginal"] == pytest.approx(prediction.var() / total)
    assert found["total", "conditional"] == pytest.approx((prediction.var() + random) / total)


def test_rights_and_sterba_formulas_for_centred_predictors(hsb, centred):
    """Their f1, f2, v, m from covariance matrices of the predictors, as in the paper."""
    beta = centred.fixed_effects
    within = hsb["ses"] - hsb.groupby("school")["ses"].transform("mean")
    columns = {
        "within(ses, school)": within,
        "within(ses, school):sector": within * hsb["sector"],
    }
    W = np.column_stack(list(columns.values()))
    gw = beta[list(columns)].to_numpy()
    f1 = gw @ np.cov(W.T, ddof=0) @ gw
    B = np.column_stack([hsb["sector"], hsb.groupby("school")["ses"].transform("mean")])
    gb = beta[["sector", "between(ses, school)"]].to_numpy()
    f2 = gb @ np.cov(B.T, ddof=0) @ gb
    G = centred.random_covariance["school"].to_numpy()
    v, m, s2 = G[1, 1] * within.var(ddof=0), G[0, 0], centred.residual_variance
    total = f1 + f2 + v + m + s2
    found = shares(centred)
    assert found["total", "f rows"] == pytest.approx(f1 / total)
    assert found["total", "f school"] == pytest.approx(f2 / total)
    assert found["total", "v rows"] == pytest.approx(v / total)
    assert found["total", "m school"] == pytest.approx(m / total)
    assert found["rows", "f"] == pytest.approx(f1 / (f1 + v + s2))
    assert found["school", "f"] == pytest.approx(f2 / (f2 + m))
    for _, part in found.groupby(level=0):
        assert part.sum() == pytest.approx(1.0)


def test_total_variance_is_that_of_V(hsb):
    """Uncentred slope: the parts add up to the mean diagonal of V plus the fixed variance."""
    m = mlm.fit("mathach ~ ses + (ses | school)", hsb)
    diagonal = []
    for level in m.design.blocks[0].levels:
        V, _ = m.cluster_covariance("school", level)
        diagonal += np.diag(V).tolist()
    parts = variance_parts(m.design, m.fit)
    assert parts.total == pytest.approx(np.mean(diagonal) + (m.design.X @ m.fit.beta).var())
    # what V says about deviations from the school means; the residual loses 1/n_c there
    within = 0.0
    for level in m.design.blocks[0].levels:
        V, _ = m.cluster_covariance("school", level)
        within += float(np.trace(V) - V.to_numpy().sum() / len(V))
    f = pd.Series(m.design.X @ m.fit.beta)
    fixed = float(((f - f.groupby(hsb["school"]).transform("mean")) ** 2).sum())
    lost = 160 / 7185 * m.residual_variance
    assert parts.at("rows") - lost == pytest.approx((within + fixed) / 7185)


def three_levels(seed=3):
    rng = np.random.default_rng(seed)
    rows = []
    for school in range(12):
        for room in range(rng.integers(3, 6)):
            rows += [(school, f"{school}-{room}")] * int(rng.integers(4, 9))
    data = pd.DataFrame(rows, columns=["school", "room"])
    data["x"] = rng.normal(size=len(data)) + data["room"].map(
        pd.Series(rng.normal(size=data["room"].nunique()), index=data["room"].unique())
    )
    data["w"] = data["school"].map(dict(enumerate(rng.normal(size=12))))
    effect = (
        rng.normal(size=12)[data["school"]]
        + 0.5 * rng.normal(size=12)[data["school"]] * (data["x"])
    )
    room = pd.Series(rng.normal(size=data["room"].nunique()), index=data["room"].unique())
    data["y"] = data["x"] + data["w"] + effect + data["room"].map(room) + rng.normal(size=len(data))
    return data


def test_three_levels_by_raw_rows():
    data = three_levels()
    m = mlm.fit("y ~ x + w + (x | school) + (1 | room)", data)
    f = pd.Series(m.design.X @ m.fit.beta)
    room, school = f.groupby(data["room"]).transform("mean"), f.groupby(data["school"])
    school = school.transform("mean")
    parts = variance_parts(m.design, m.fit)
    assert parts.levels == ("room", "school", "rows")
    assert parts.values[2, 0] == pytest.approx((f - room).var(ddof=0))
    assert parts.values[0, 0] == pytest.approx((room - school).var(ddof=0))
    assert parts.values[1, 0] == pytest.approx(school.var(ddof=0))
    slope = m.random_covariance["school"].loc["x", "x"]
    x = data["x"]
    xr, xs = x.groupby(data["room"]).transform("mean"), x.groupby(data["school"])
    xs = xs.transform("mean")
    assert parts.values[2, 1] == pytest.approx(slope * (x - xr).var(ddof=0))
    assert parts.values[0, 1] == pytest.approx(slope * (xr - xs).var(ddof=0))
    assert parts.values[1, 1] == pytest.approx(slope * xs.var(ddof=0))
    G = m.random_covariance["school"].to_numpy()
    mean = np.array([1.0, x.mean()])
    assert parts.values[1, 2] == pytest.approx(mean @ G @ mean)
    assert parts.values[0, 2] == pytest.approx(m.random_covariance["room"].iloc[0, 0])
    Z = m.design.blocks[1].columns
    whole = np.einsum("ia,ab,ib->i", Z, G, Z).mean() + parts.values[0, 2] + m.residual_variance
    assert parts.total == pytest.approx(whole + f.var(ddof=0))


def test_crossed_parts_balanced_and_not():
    rng = np.random.default_rng(8)
    grid = pd.DataFrame([(s, i) for s in range(15) for i in range(8)], columns=["s", "i"])
    grid["a"] = rng.normal(size=15)[grid["s"]]
    grid["c"] = rng.normal(size=8)[grid["i"]]
    grid["y"] = (
        grid["a"] + grid["c"] + rng.normal(size=15)[grid["s"]] + rng.normal(size=8)[grid["i"]]
        + 0.5 * rng.normal(size=15)[grid["s"]] * grid["c"] + rng.normal(size=len(grid))
    )  # fmt: skip
    m = mlm.fit("y ~ a + c + (c | s) + (1 | i)", grid)
    parts = variance_parts(m.design, m.fit)
    beta = m.fixed_effects
    assert parts.levels == ("s", "i", "rows")
    assert parts.values[0, 0] == pytest.approx(beta["a"] ** 2 * grid["a"].var(ddof=0))
    assert parts.values[1, 0] == pytest.approx(beta["c"] ** 2 * grid["c"].var(ddof=0))
    assert parts.values[2, 0] == pytest.approx(0.0, abs=1e-9)
    # a slope of an item feature over subjects varies between rows, not between items
    slope = m.random_covariance["s"].loc["c", "c"]
    assert parts.values[2, 1] == pytest.approx(slope * grid["c"].var(ddof=0))
    some = grid.sample(70, random_state=2)
    m = mlm.fit("y ~ a + c + (1 | s) + (1 | i)", some)
    parts = variance_parts(m.design, m.fit)
    f = m.design.X @ m.fit.beta
    assert parts.values[:, 0].sum() == pytest.approx(f.var())
    dummies = pd.get_dummies(some[["s", "i"]].astype(str)).to_numpy(dtype=float)
    split = level_parts(m.design, rng.normal(size=70))
    again = level_parts(m.design, sum(split[:2]))
    assert np.allclose(again[2], 0.0, atol=1e-9)
    assert np.allclose(dummies.T @ split[2], 0.0, atol=1e-8)


def test_reductions_and_snijders_bosker(hsb):
    m0 = mlm.fit("mathach ~ 1 + (1 | school)", hsb)
    m1 = mlm.fit("mathach ~ ses + (1 | school)", hsb)
    table = m1.r2(compared_with=m0)
    reduction = table[table["measure"] == "reduction"].set_index("group")["estimate"]
    tau0, tau1 = (float(m.random_covariance["school"].iloc[0, 0]) for m in (m0, m1))
    assert reduction["school"] == pytest.approx((tau0 - tau1) / tau0)
    s0, s1 = m0.residual_variance, m1.residual_variance
    assert reduction["Residual"] == pytest.approx((s0 - s1) / s0)
    sb = table[table["measure"] == "snijders_bosker"].set_index("group")["estimate"]
    n = 160 / (1 / hsb.groupby("school").size()).sum()
    assert sb["rows"] == pytest.approx(1 - (s1 + tau1) / (s0 + tau0))
    assert sb["school"] == pytest.approx(1 - (s1 / n + tau1) / (s0 / n + tau0))
    again = m1.r2(compared_with="empty")
    assert again["estimate"].to_numpy() == pytest.approx(table["estimate"].to_numpy(), rel=1e-5)
    assert "the empty model" in again["sentence"].iloc[-1]


def test_a_negative_reduction_is_explained(hsb):
    m0 = mlm.fit("mathach ~ 1 + (1 | school)", hsb)
    m1 = mlm.fit("mathach ~ within(ses, school) + (1 | school)", hsb)
    table = m1.r2(compared_with=m0)
    row = table[(table["measure"] == "reduction") & (table["group"] == "school")].iloc[0]
    assert row["estimate"] < 0
    assert "negative" in row["sentence"]
    assert "put down to chance" in row["sentence"]


def test_comparisons_need_the_same_rows_and_method(hsb):
    m = mlm.fit("mathach ~ ses + (1 | school)", hsb)
    fewer = mlm.fit("mathach ~ ses + (1 | school)", hsb.iloc[:-50])
    with pytest.raises(InferenceError, match="same outcome, rows"):
        m.r2(compared_with=fewer)
    with pytest.raises(InferenceError, match="method"):
        m.r2(compared_with=m.update(method="ml"))
    with pytest.raises(InferenceError, match="fitted model"):
        m.r2(compared_with="null")


def test_sleepstudy_shares_add_up():
    m = mlm.fit("Reaction ~ Days + (Days | Subject)", pd.read_csv(DATA / "sleepstudy.csv.gz"))
    found = shares(m)
    assert found["total"].sum() == pytest.approx(1.0)
    # balanced days: nothing of the slopes' variance lies between subjects
    assert ("total", "v Subject") not in found.index
