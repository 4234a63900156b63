"""The language of structural models: what is read, what is added, what is refused and where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from multilevel.errors import FormulaError, ModelError
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.identify import check_identified
from multilevel.model.structural.parse import parse_structural
from multilevel.model.structural.reference import independence_model, saturated_model

FACTOR = """
level: within           # comment
  f =~ y1 + a*y2 + y3   ! another
  f ~ x
level: between
  fb =~ y1 + a*y2 +
        y3
  fb ~ w1 + w2
"""


def build(text, *, groups=("",), fixed=None, **options):
    parsed = parse_structural(text, "school")
    fixed = fixed_candidates(parsed) if fixed is None else fixed
    return build_structural(parsed, cluster="school", groups=groups, fixed=fixed, **options)


def rows(model, level="within", group=0):
    return {p.name: p for p in model.block(level, group)}


def test_roles_of_variables():
    model = build(FACTOR)
    assert model.both == ("y1", "y2", "y3")
    assert model.within_only == ("x",)
    assert model.between_only == ("w1", "w2")
    assert model.latent_within == ("f",)
    assert model.latent_between == ("fb",)
    assert model.fixed_exogenous == ("x", "w1", "w2")


def test_defaults():
    model = build(FACTOR)
    within, between = rows(model), rows(model, "between")
    assert within["f =~ y1"].value == between["fb =~ y1"].value == 1.0
    assert within["f =~ y2"].free == between["fb =~ y2"].free >= 0
    assert within["y1 ~ 1"].value == 0.0
    assert between["y1 ~ 1"].is_free
    assert within["f ~ 1"].value == 0.0
    assert within["x ~~ x"].origin == "exogenous"
    assert between["w1 ~~ w2"].origin == "exogenous"
    assert within["f ~~ f"].is_free
    assert "y1 ~~ y2" not in within
    # 4 loadings - 1 equal, x, w1, w2, 3 + 3 + 1 + 1 variances, 3 means
    assert model.n_free == 3 + 3 + 8 + 3


def test_covariances_that_are_free_by_default():
    within = "level: 1\n y ~ x1 + m\n z ~ x1\n m ~ x1\n f =~ a + b + c\n g =~ d + e + h\n"
    text = within + "level: 2\n y ~~ z"
    own = rows(build(text, fixed=()))
    assert own["y ~~ z"].is_free
    assert own["f ~~ g"].is_free
    assert "y ~~ m" not in own
    assert "f ~~ x1" not in own


def test_modelled_predictors_are_free():
    model = build(FACTOR, fixed=("x", "w1"))
    between = rows(model, "between")
    assert between["w1 ~~ w1"].origin == "exogenous"
    assert between["w2 ~~ w2"].is_free
    assert between["w1 ~~ w2"].is_free
    assert between["w2 ~ 1"].is_free


def test_written_moments_of_a_predictor_make_it_modelled():
    parsed = parse_structural("level: 1\ny ~ x\nx ~~ x\nlevel: 2\ny ~ w", "school")
    assert fixed_candidates(parsed) == ("w",)


def test_single_indicator_has_no_residual_variance():
    own = rows(build("level: 1\n f =~ y\n z ~ f\nlevel: 2\n y ~~ z"))
    assert own["y ~~ y"].value == 0.0


def test_unit_by_variance():
    own = rows(build(FACTOR, latent_scale="variance"))
    assert own["f ~~ f"].value == 1.0
    assert own["f =~ y1"].is_free


def test_modifiers():
    text = "level: 1\n f =~ NA*y1 + start(0.5)*y2 + -1*y3\n f ~~ 1*f\n y1 ~ lab*x + 0.25*z"
    own = rows(build(text))
    assert own["f =~ y1"].is_free
    assert own["f =~ y2"].start == 0.5
    assert own["f =~ y3"].value == -1.0
    assert own["f ~~ f"].value == 1.0
    assert own["y1 ~ x"].label == "lab"
    assert own["y1 ~ z"].value == 0.25
    assert math.isnan(own["y1 ~ x"].start)


def test_modifiers_of_one_parameter_add_up():
    own = rows(build("level: 1\n y ~ a*x + start(2)*x"))
    assert (own["y ~ x"].label, own["y ~ x"].start) == ("a", 2.0)


def test_equality_constraints():
    model = build("level: 1\n y ~ a*x1 + b*x2 + c*x3 + d*x4\n a == b\n c == -0.5\nlevel: 2\n y ~ 1")
    own = rows(model)
    assert own["y ~ x1"].free == own["y ~ x2"].free >= 0
    assert own["y ~ x3"].value == -0.5
    assert own["y ~ x4"].free not in (-1, own["y ~ x1"].free)


def test_groups():
    model = build(
        "level: 1\n y ~ c(a, b)*x + c(1, NA)*z + e*v\nlevel: 2\n y ~ 1", groups=("no", "yes")
    )
    one, two = rows(model), rows(model, group=1)
    assert one["y ~ x"].free != two["y ~ x"].free
    assert one["y ~ z"].value == 1.0
    assert two["y ~ z"].is_free
    assert one["y ~ v"].free == two["y ~ v"].free


@pytest.mark.parametrize("heading", ["between", "Between", "2", "school", "'between'"])
def test_names_of_level_two(heading):
    assert build(f"level: 1\ny ~ x\nlevel: {heading}\ny ~ w").between_only == ("w",)


def test_random_slope_is_read():
    parsed = parse_structural("level: within\n s | y ~ x\nlevel: between\n s ~ w\n y ~~ s")
    assert parsed.slopes[0].name == "s"
    assert parsed.latent("between") == ("s",)
    model = build_structural(parsed, cluster="school")
    assert model.slope_names == ("s",)
    assert model.located("between") == ("y", "s", "w")
    between = {p.name for p in model.block("between", 0) if p.is_free}
    assert {"s ~ 1", "s ~~ s", "s ~ w", "y ~~ s"} <= between


def test_random_slopes_covary_unless_one_predicts_the_other():
    text = "level: 1; s | y ~ x; t | y ~ z; level: 2; y ~ w + t; s ~~ 0*y"
    model = build_structural(parse_structural(text), cluster="school")
    free = {p.name for p in model.block("between", 0) if p.is_free and p.op == "~~"}
    assert "s ~~ t" in free
    assert not {"s ~~ y", "t ~~ y", "y ~~ t"} & free


def test_definition_has_exact_derivatives():
    model = build(
        "level: 1\n y ~ a*x + b*z\nlevel: 2\n y ~ 1\n"
        "first := a * b\n second := exp(-first^2) / (1 + sqrt(b)) + a^b - log(b)"
        " + tanh(a)*logistic(b) + atanh(a/2)"
    )
    at = {"a": 0.7, "b": 1.3}

    def both(a, b):
        known = {"a": (a, np.array([1.0, 0.0])), "b": (b, np.array([0.0, 1.0]))}
        for d in model.defined:
            known[d.name] = d.expression.evaluate(known, 2)
        return known["second"]

    def by_hand(a, b):
        logistic = 1 / (1 + np.exp(-b))
        return (
            np.exp(-((a * b) ** 2)) / (1 + np.sqrt(b)) + a**b - np.log(b)
            + np.tanh(a) * logistic + np.arctanh(a / 2)
        )  # fmt: skip

    value, slope = both(**at)
    assert value == pytest.approx(by_hand(**at), rel=1e-14)
    h = 1e-6
    for k, name in enumerate(("a", "b")):
        up, down = {**at, name: at[name] + h}, {**at, name: at[name] - h}
        assert slope[k] == pytest.approx((by_hand(**up) - by_hand(**down)) / (2 * h), rel=1e-8)


def test_definition_outside_its_domain():
    model = build("level: 1\n y ~ a*x\nlevel: 2\n y ~ 1\n bad := log(a)")
    with pytest.raises(ModelError, match="must exist and be differentiable"):
        model.defined[0].expression.evaluate({"a": (-1.0, np.ones(1))}, 1)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("level: 1\ny ~ x +", "+", "Every \\+ stands between"),
        ("level: 1\ny ~ c(a, x", "(", "never closed"),
        ("level: 1\ny ~ x)", ")", "closes nothing"),
        ("level: 1\ny ~ $x", "$", "has names, numbers"),
        ("level: 3\ny ~ x", "3", "name two cluster columns"),
        ("groups: 1\ny ~ x", "groups", "A heading opens a level"),
        ("level: 1\ny x", "y", "one of =~ ~ ~~"),
        ("level: 1\ny ~ x ~ z", "~ z", "one operator"),
        ("level: 1\ny ~ y", "y", "not regressed on itself"),
        ("level: 1\ny ~ x\ny ~ x", "x", "written once per level"),
        ("level: 1\ny ~ 2", "2", "1 stands for the intercept"),
        ("level: 1\ny ~ f(2)*x", "f(2)", "stands a label"),
        ("level: 1\ny ~ x\nk := 2 +", "", "the end of the statement"),
        ("level: 1\ny ~ a*x\nk := a + q", "k := ", "'q' in k"),
        ("level: 1\ny ~ a*x\nk := sin(a)", "sin", "the function 'sin'"),
        ("level: 1\ny ~ a*x\na == q", "a == q", "about labels of the model"),
        ("level: 1\ny ~ a*x\na == 2*a", "a == 2", "sets one label"),
        ("level: 1\ny ~ c(a, b, d)*x", "x", "one entry for each group"),
        ("level: 1\ny ~ a*x + b*x", "x + b", "has one label"),
        ('level: 1\ny ~ "a*x', '"', "Every quote is closed"),
        ("y ~ x", "y", "which relations hold at which level"),
        ("# nothing", "#", "at least one relation"),
    ],
)
def test_errors_point_at_the_character(text, at, message):
    with pytest.raises(FormulaError, match=message) as caught:
        build(text)
    shown = str(caught.value).splitlines()
    pointer = next(i for i, line in enumerate(shown) if line.strip() == "^")
    column = shown[pointer].index("^")
    assert shown[pointer - 1][column:].startswith(at)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level: 1\n f =~ NA*y1 + y2 + y3\nlevel: 2\n y1 ~~ y2", "f at the within level"),
        ("level: 1\n f =~ y1 + y2\nlevel: 2\n y1 ~~ y2", "the within level has 3 for 4 parameters"),
        ("level: 1\n y ~ x\n y ~ 1\nlevel: 2\n y ~ w", r"y ~ 1 is free at both levels"),
    ],
)
def test_models_that_cannot_be_identified(text, message):
    text = text.replace("y ~ 1\nlevel", "y ~ NA*1\nlevel")
    with pytest.raises(ModelError, match=message):
        check_identified(build(text))


def test_reference_models():
    model = build(FACTOR)
    h1, h0 = saturated_model(model), independence_model(model)
    # within: 10 covariances - 1 fixed; between: 15 - 3 fixed; 3 means
    assert h1.n_free == 9 + 12 + 3
    assert h0.n_free == 3 + 3 + 3
    assert rows(h0, "between")["w1 ~~ w2"].origin == "exogenous"
