"""Structural models of three levels: what the text may say, and what is added by default."""

from __future__ import annotations

import pytest

from multilevel.errors import FormulaError, ModelError
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.identify import check_identified
from multilevel.model.structural.mediation_nested import plan_nested_mediation
from multilevel.model.structural.parse import parse_structural
from multilevel.model.structural.reference import independence_model, saturated_model


def _model(text, fixed=True):
    parsed = parse_structural(text, "class", ("school",))
    chosen = fixed_candidates(parsed) if fixed else ()
    return build_structural(parsed, cluster="class", fixed=chosen)


TEXT = """
level: within
  s | y ~ m
  m ~ x
level: class
  y ~ m + z
  m ~ z
  s ~ v
level: school
  y ~ w
  m ~ w
  z ~ w
  s ~ w
"""


def test_parts_follow_the_levels():
    model = _model(TEXT)
    assert model.both == ("m", "y")
    assert model.within_only == ("x",)
    assert model.between_only == ("z", "v")
    high = model.higher[0]
    assert (high.name, high.parts, high.only) == ("school", ("m", "y", "s", "z"), ("w",))
    assert model.levels == ("within", "between", "school")
    assert model.clusters == ("class", "school")
    assert model.located("school") == ("m", "y", "s", "z", "w")
    assert model.observed("school") == ("m", "y", "z", "w")
    assert model.fixed_exogenous == ("x", "v", "w")


def test_means_stand_at_the_highest_level_and_slopes_covary_at_each():
    names = _model(TEXT).free_names
    assert [n for n in names if "~ 1" in n] == [f"{v} ~ 1 [school]" for v in ("y", "m", "z", "s")]
    for level in ("class", "school"):
        assert {f"s ~~ m [{level}]", f"s ~~ y [{level}]", f"s ~~ s [{level}]"} <= set(names)


def test_a_slope_without_variance_at_a_level_has_no_covariances_there():
    text = TEXT.replace("  s ~ v\n", "  s ~~ 0*s\n")
    names = _model(text).free_names
    assert not [n for n in names if n.startswith("s ~~") and "class" in n]
    assert [n for n in names if n.startswith("s ~~") and "school" in n]


def test_levels_have_numbers_and_names():
    text = "level: 1; y ~ x; level: 2; y ~ x; level: 3; y ~ x"
    named = "level: within; y ~ x; level: class; y ~ x; level: school; y ~ x"
    assert _model(text).free_names == _model(named).free_names


def test_reference_models_have_all_levels():
    text = "level: 1; y ~ x; level: 2; y ~ x; level: 3; y ~ x + w"
    model = _model(text)
    check_identified(model)
    assert {p.level for p in saturated_model(model).parameters} == set(model.levels)
    assert "y ~~ w [school, 1]" in saturated_model(model).free_names
    assert "y ~~ w [school, 1]" not in independence_model(model).free_names


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("level: between\ny ~ x", FormulaError, "name the level: level: class or level: school"),
        ("level: pupil\ny ~ x", FormulaError, r"class \(or 2\), school \(or 3\)"),
        ("level: 1\ny ~ x\nlevel: 3\ny ~ x", ModelError, "no level: class"),
        ("level: 1;y ~ x;level: 2;y ~~ y;level: 3;x ~~ x", ModelError, "not at class"),
        ("y ~ x", FormulaError, "level: class before those of clusters"),
        ("level: 1; s | y ~ x; level: 3; y ~~ y", ModelError, "variable of the class level"),
    ],
)
def test_errors_say_what_to_write(text, error, match):
    with pytest.raises(error, match=match):
        _model(text)


def test_means_at_two_levels_are_refused():
    text = "level: 1; y ~ x; level: 2; y ~ z; y ~ NA*1; level: 3; y ~ w"
    with pytest.raises(ModelError, match="highest of its levels"):
        check_identified(_model(text))


def test_the_mediation_plan_names_levels_by_number():
    homes = {"x": (2, 3), "m": (1, 2, 3), "y": (1, 2, 3)}
    plan = plan_nested_mediation("x", "m", "y", (), homes, ("class id", "school"))
    assert plan.design == "2-1-1"
    assert plan.levels == ("level2", "level3")
    assert plan.title("level2") == "class id"
    assert "indirect_contextual3 := indirect_level3 - indirect_level2" in plan.text
    parsed = parse_structural(plan.text, "class id", ("school",))
    check_identified(build_structural(parsed, cluster="class id"))
    with pytest.raises(ModelError, match="neighbouring levels"):
        plan_nested_mediation("x", "m", "y", (), homes | {"x": (1, 3)}, ("class", "school"))
    apart = {"x": (3,), "m": (2,), "y": (1,)}
    with pytest.raises(ModelError, match="all vary"):
        plan_nested_mediation("x", "m", "y", (), apart, ("class", "school"))
