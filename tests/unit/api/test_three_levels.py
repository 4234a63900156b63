"""What users see of structural models and mediation with three levels."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import ModelError
from tests.unit.nested_data import CLUSTER, INDIRECT, MEDIATION, nested_rows


@pytest.fixture(scope="module")
def data():
    return nested_rows(21, schools=50, classes=5, rows=6, holes=0.1)


@pytest.fixture(scope="module")
def answer(data):
    return mlm.mediate(x="x", m="m", y="y", data=data, cluster=CLUSTER)


def test_mediation_answers_at_each_level(answer):
    assert answer.design == "1-1-1"
    table = answer.effects()
    indirect = table[table["effect"] == "indirect"].set_index("level")
    assert list(indirect.index) == ["within", "cls", "school", "contextual cls",
                                    "contextual school"]  # fmt: skip
    for level, truth in INDIRECT.items():
        row = indirect.loc[level]
        assert abs(row["estimate"] - truth) < 3.5 * row["std_error"]
    gap = indirect.loc["school", "estimate"] - indirect.loc["cls", "estimate"]
    assert indirect.loc["contextual school", "estimate"] == pytest.approx(gap)
    words = answer.summary(width=200)
    for place in ("Within cls", "Between cls of one school", "Between school"):
        assert f"{place}, the effect of x on y" in words
    assert "clusters: cls in school" in words


def test_mediation_is_the_model_written_by_hand(answer, data):
    by_hand = mlm.sem(MEDIATION, data, cluster=CLUSTER)
    assert answer.model.minus2_loglik == pytest.approx(by_hand.minus2_loglik, rel=1e-12)
    table = answer.effects()
    indirect = table[table["effect"] == "indirect"]["estimate"].to_numpy()[:3]
    assert indirect == pytest.approx(by_hand.defined()["estimate"].to_numpy(), rel=1e-5)


def test_a_predictor_of_schools_works_between_schools_only(data):
    found = mlm.mediate(x="w", m="m", y="y", data=data, cluster=CLUSTER)
    assert found.design == "3-1-1"
    assert set(found.effects()["level"]) == {"school"}
    assert "Within cls, no indirect effect exists" in found.summary(width=200)


def test_labels_that_repeat_need_the_nesting_written_out(data, answer):
    repeated = data.assign(cls=data.groupby("school")["cls"].transform(lambda v: v - v.min()))
    with pytest.raises(ModelError, match='cluster="school/cls"'):
        mlm.mediate(x="x", m="m", y="y", data=repeated, cluster=CLUSTER)
    found = mlm.mediate(x="x", m="m", y="y", data=repeated, cluster="school/cls")
    assert found.model.minus2_loglik == pytest.approx(answer.model.minus2_loglik, rel=1e-12)


def test_what_mediation_does_not_have_is_refused(data):
    with pytest.raises(ModelError, match="own column"):
        mlm.mediate(x="x", m="m", y="y", data=data, cluster=["school", "school"])


def test_every_verb_answers(answer, tmp_path):
    model = answer.model
    table = model.parameters()
    assert set(table["level"]) == {"within", "cls", "school"}
    slopes = model.level_two_slopes()
    assert set(slopes["level"]) == {"cls", "school"}
    school = slopes[(slopes["level"] == "school") & (slopes["outcome"] == "m")].iloc[0]
    cls = slopes[(slopes["level"] == "cls") & (slopes["outcome"] == "m")].iloc[0]
    assert school["within"] == pytest.approx(cls["between"])
    assert school["contextual"] == pytest.approx(school["between"] - cls["between"])
    assert set(model.r_squared()["level"]) == {"within", "cls", "school"}
    assert model.fit_measures.model.df == 0
    free = table["status"] == "free"
    observed = table["std_error"][free]
    for kind in ("robust", "expected"):
        other = model.parameters(std_errors=kind)["std_error"][free]
        assert np.exp(np.mean(np.abs(np.log(other / observed)))) < 1.25
    picture = model.plot("paths")
    panels = set(picture.data["panel"])
    assert panels == {"1 Within cls", "2 cls within school", "3 school"}
    path = answer.report(tmp_path / "answer.md", pictures=False)
    assert "Level 3 (school)" in path.read_text()


def test_modification_indices_find_what_is_missing(data):
    text = (
        "level: 1; m ~ x; y ~ x; m ~~ y; level: 2; m ~ x; y ~ x; m ~~ 0*y; level: 3; m ~ x; y ~ x"
    )
    model = mlm.sem(text, data, cluster=CLUSTER)
    first = model.modification_indices().iloc[0]
    assert (first["level"], {first["lhs"], first["rhs"]}) == ("cls", {"m", "y"})
    larger = mlm.sem(text.replace("m ~~ 0*y", "m ~~ y"), data, cluster=CLUSTER)
    gain = model.minus2_loglik - larger.minus2_loglik
    assert first["index"] == pytest.approx(gain, rel=0.35)


def test_intervals_agree():
    data = nested_rows(23, schools=60, classes=4, rows=3)
    model = mlm.sem(MEDIATION, data, cluster=CLUSTER)
    delta = model.defined()
    for kind, options in (("profile", {}), ("monte_carlo", {"seed": 1})):
        found = model.defined(interval=kind, **options)
        width = delta["conf_high"] - delta["conf_low"]
        assert (abs(found["conf_low"] - delta["conf_low"]) < 0.25 * width).all()
        assert (abs(found["conf_high"] - delta["conf_high"]) < 0.25 * width).all()


def test_the_bootstrap_draws_the_highest_units():
    data = nested_rows(24, schools=30, classes=3, rows=4)
    text = "level: 1; y ~ b1*x; level: 2; y ~~ y; level: 3; y ~~ v*y; share := b1 / sqrt(v)"
    model = mlm.sem(text, data, cluster=CLUSTER)
    delta = model.defined()
    drawn = model.defined(interval="bootstrap", n_draws=50, seed=2)
    assert "50 bootstrap samples of 30 clusters" in drawn.attrs["sentence"]
    assert (drawn["conf_low"] < delta["estimate"]).all()
    assert (drawn["conf_high"] > delta["estimate"]).all()


def test_advice_names_levels_that_were_left_out(data):
    text = "level: 1; y ~ m; level: cls; y ~ m; level: school; y ~~ y"
    advice = " ".join(mlm.sem(text, data, cluster=CLUSTER).advice)
    assert "of the variance of m between cls lies between school" in advice


def test_four_levels_come_with_the_recursion(data):
    four = data.assign(region=data["school"] % 10)
    text = (
        "level: 1; y ~ x; level: cls; y ~ x; level: school; y ~ x; level: region; x ~~ 0*x;"
        " y ~~ 0*y"
    )
    three = "level: 1; y ~ x; level: cls; y ~ x; level: school; y ~ x"
    found = mlm.sem(text, four, cluster=[*CLUSTER, "region"])
    expected = mlm.sem(three, data, cluster=CLUSTER).minus2_loglik
    assert found.minus2_loglik == pytest.approx(expected, rel=1e-11)
    assert "Four-level" in found.summary()
