"""Within, between, contextual and smushed slopes against one another and against refits."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.interpret.smushed import unmix
from multilevel.interpret.variance_parts import variance_parts
from multilevel.interpret.variance_share import Evidence

GROUP = "(1 | school)"


@pytest.fixture(scope="module")
def hsb():
    data = mlm.load_hsb().to_pandas()
    data["mean"] = data.groupby("school")["ses"].transform("mean")
    data["dev"] = data["ses"] - data["mean"]
    data["rounded"] = data["mean"].round(3) - 0.2
    return data


def evidence_of(m):
    return Evidence(m._prepared, m.fit, m._objective())


@pytest.fixture(scope="module")
def reference(hsb):
    return mlm.fit(f"mathach ~ dev + mean + {GROUP}", hsb)


@pytest.mark.parametrize(
    ("formula", "pairs", "tolerance"),
    [
        ("within(ses, school) + between(ses, school)", None, 1e-6),
        ("ses + between(ses, school, at=0.3)", None, 1e-6),
        ("ses + mean", None, 1e-6),
        ("ses + dev", None, 1e-6),
        ("center(ses) + mean", None, 1e-6),
        ("ses + rounded", None, 2e-3),
        ("within(ses, school) + meanses", None, 1e-6),
        ("dev + mean", {"dev": "mean"}, 1e-6),
    ],
)
def test_three_effects_whichever_way_it_was_centred(hsb, reference, formula, pairs, tolerance):
    m = mlm.fit(f"mathach ~ {formula} + {GROUP}", hsb)
    table = m.within_between(pairs=pairs, df="none").set_index("component")
    b, V = reference.fixed_effects, reference.vcov_fixed
    assert list(table.index) == ["within", "between", "contextual"]
    assert table["estimate"]["within"] == pytest.approx(b["dev"], rel=tolerance)
    assert table["estimate"]["between"] == pytest.approx(b["mean"], rel=tolerance)
    assert table["estimate"]["contextual"] == pytest.approx(b["mean"] - b["dev"], rel=tolerance)
    error = np.sqrt(V.loc["dev", "dev"] + V.loc["mean", "mean"] - 2 * V.loc["dev", "mean"])
    assert table["std_error"]["contextual"] == pytest.approx(error, rel=max(tolerance, 1e-4))
    assert table["std_error"]["between"] == pytest.approx(
        np.sqrt(V.loc["mean", "mean"]), rel=max(tolerance, 1e-4)
    )


def test_smushed_slope_is_the_precision_weighted_mean(hsb):
    """The textbook formula, from raw rows, to six digits on real data."""
    m = mlm.fit(f"mathach ~ ses + {GROUP}", hsb)
    tau2, sigma2 = float(m.random_covariance["school"].iloc[0, 0]), m.residual_variance
    groups = hsb.groupby("school")
    n, xbar, ybar = groups.size(), groups["ses"].mean(), groups["mathach"].mean()
    y_dev = hsb["mathach"] - groups["mathach"].transform("mean")
    ss = float((hsb["dev"] ** 2).sum())
    b_within = float((hsb["dev"] * y_dev).sum()) / ss
    h = n / (sigma2 + n * tau2)
    xh, yh = (h * xbar).sum() / h.sum(), (h * ybar).sum() / h.sum()
    w_between = float((h * (xbar - xh) ** 2).sum())
    b_between = float((h * (xbar - xh) * (ybar - yh)).sum()) / w_between
    w_within = ss / sigma2
    total = w_within + w_between
    mean = (w_within * b_within + w_between * b_between) / total
    assert m.fixed_effects["ses"] == pytest.approx(mean, rel=1e-6)
    found = unmix(evidence_of(m), 1, 0)
    assert found.slopes == pytest.approx([b_within, b_between], rel=1e-6)
    assert found.weights == pytest.approx([w_within / total, w_between / total], rel=1e-6)
    assert np.diag(found.covariance) == pytest.approx([1 / w_within, 1 / w_between], rel=1e-6)
    table = m.within_between()
    assert table["component"].tolist() == ["smushed"]
    assert f"weight {w_within / total:.3f}" in table.attrs["sentence"]


@pytest.mark.parametrize("formula", ["ses + sector + female", "ses * sector", "ses + minority"])
def test_the_weighted_mean_holds_with_other_predictors_and_slopes(hsb, formula):
    m = mlm.fit(f"mathach ~ {formula} + (ses | school)", hsb)
    found = unmix(evidence_of(m), list(m.design.names).index("ses"), 0)
    assert found.mean == pytest.approx(m.fixed_effects["ses"], rel=1e-6)
    assert found.weights.sum() == pytest.approx(1.0)


def test_standardised_slopes_state_their_sds(hsb, reference):
    table = reference.within_between(pairs={"dev": "mean"}).set_index("component")
    parts = variance_parts(reference.design, reference.fit)
    within = table.loc["within"]
    assert within["sd_x"] == pytest.approx(hsb["dev"].std(ddof=0))
    assert within["sd_y"] == pytest.approx(np.sqrt(parts.at("rows")))
    assert within["standardised"] == pytest.approx(
        within["estimate"] * within["sd_x"] / within["sd_y"]
    )
    assert table.loc["between", "sd_x"] == pytest.approx(hsb["mean"].std(ddof=0))
    assert np.isnan(table.loc["contextual", "standardised"])


def test_a_missing_mean_is_said(hsb):
    m = mlm.fit(f"mathach ~ within(ses, school) + {GROUP}", hsb)
    table = m.within_between()
    assert table["component"].tolist() == ["within"]
    assert "between effect is missing" in table.attrs["sentence"]


def test_interactions_are_said(hsb):
    m = mlm.fit(f"mathach ~ ses * sector + mean + {GROUP}", hsb)
    assert "effects of ses at sector = 0" in m.within_between().attrs["sentence"]


def test_each_factor_has_its_own_split(hsb):
    data = hsb.assign(room=hsb["school"].astype(str) + "-" + (hsb.index % 3).astype(str))
    m = mlm.fit("mathach ~ ses + between(ses, room) + (1 | school) + (1 | room)", data)
    table = m.within_between(df="none").set_index(["group", "component"])
    b = m.fixed_effects
    assert table.loc[("room", "contextual"), "estimate"] == pytest.approx(b["between(ses, room)"])
    assert table.loc[("room", "within"), "estimate"] == pytest.approx(b["ses"])
    # the room mean still mixes rooms within schools with schools; the own value does not
    over_school = m.within_between(df="none").query("group == 'school'")
    assert over_school["term"].tolist() == ["between(ses, room)"]
    assert over_school["component"].tolist() == ["smushed"]
    parts = variance_parts(m.design, m.fit)
    between = np.sqrt(parts.at("room") + parts.at("school"))
    assert table.loc[("room", "between"), "sd_y"] == pytest.approx(between)
    assert table.loc[("room", "within"), "sd_y"] == pytest.approx(np.sqrt(parts.at("rows")))


def test_degrees_of_freedom_of_each_effect(hsb):
    m = mlm.fit(f"mathach ~ ses + mean + {GROUP}", hsb)
    table = m.within_between(df="satterthwaite").set_index("component")
    assert table["df"]["within"] > 5000
    assert 100 < table["df"]["between"] < 300


def test_refusals(hsb, reference):
    m = mlm.fit(f"mathach ~ sector + {GROUP}", hsb)
    with pytest.raises(InferenceError, match="vary at both levels"):
        m.within_between()
    with pytest.raises(InferenceError, match="pair"):
        reference.within_between(pairs={"dev": "age"})
