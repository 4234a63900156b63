"""What formulas mean."""

from __future__ import annotations

import re

import pytest

from multilevel.errors import FormulaError, ModelError
from multilevel.model.covariance.curves import TIMED
from multilevel.model.covariance.structures import FORMULA_NAMES
from multilevel.model.formula import parse_formula
from multilevel.model.formula.compile import compile_columns, term_labels
from multilevel.model.formula.scan import scan


def random(text):
    return [(t.columns, t.factors, t.structure) for t in parse_formula(text).random]


def test_parts_of_a_formula():
    model = parse_formula("log(y) ~ x*z + (1 + x | g) + offset(log(e)) - 1", method="ML")
    assert model.response == "log(y)"
    assert model.fixed == "x*z - 1"
    assert model.offsets == ("log(e)",)
    assert model.method == "ml"
    assert model.family == "gaussian"
    term = model.random[0]
    assert (term.columns, term.factors, term.group) == ("1 + x", ("g",), "g")
    assert model.formula[term.position :].startswith("(1 + x | g)")
    assert term.text == "(1 + x | g)"


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("y ~ (1 | g)", "1"),
        ("y ~ 0 + (1 | g)", "0"),
        ("y ~ -1 + x + (1 | g)", "-1 + x"),
        ("y ~ (1 | g) + x", "x"),
        ("y ~ (1 | g) - x", "-x"),
        ("y ~ 1", "1"),
        ("y ~ (a + b)^2", "(a + b)^2"),
        ("y ~\n  a +\n  b", "a + b"),
    ],
)
def test_fixed_part(text, fixed):
    assert parse_formula(text).fixed == fixed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y ~ (1 | a/b)", [("1", ("a",)), ("1", ("a", "b"))]),
        ("y ~ (1 | a/b/c)", [("1", ("a",)), ("1", ("a", "b")), ("1", ("a", "b", "c"))]),
        ("y ~ (1 | a:b/c)", [("1", ("a", "b")), ("1", ("a", "b", "c"))]),
        ("y ~ (1 | a:b)", [("1", ("a", "b"))]),
        ("y ~ (x | a) + (1 | b)", [("x", ("a",)), ("1", ("b",))]),
        ("y ~ (1 | `a b`)", [("1", ("a b",))]),
        ("y ~ (1 | a.b)", [("1", ("a.b",))]),
    ],
)
def test_grouping(text, expected):
    assert [(c, f) for c, f, _ in random(text)] == expected


@pytest.mark.parametrize("text", ["y ~ (x | a/b)", "y ~ cs(x | a/b)", "y ~ (x || a/b)"])
def test_nesting_is_the_sum_of_its_parts(text):
    inside = text[4:].replace("a/b", "{}")
    assert random(text) == random(f"y ~ {inside.format('a')} + {inside.format('a:b')}")


@pytest.mark.parametrize(("name", "structure"), FORMULA_NAMES.items())
def test_structures(name, structure):
    if structure in TIMED:  # an effect for each value of a column
        assert random(f"y ~ {name}(0 + x | g)") == [("0 + C(x)", ("g",), structure)]
    else:
        assert random(f"y ~ {name}(1 + x | g)") == [("1 + x", ("g",), structure)]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("toep(0 + t | g, band=3)", 3),
        ("toep(0 + t | g)", 0),
        ("fa(0 + x + z + w | g, rank=2)", 2),
        ("rr(0 + x + z | g, 2)", 2),
        ("rr(0 + x + z | g)", 1),
    ],
)
def test_bands_and_ranks(text, order):
    assert [term.order for term in parse_formula(f"y ~ {text}").random] == [order]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ar1(1 + t | g)", "0 + t"),
        ("ar1(t | g)", "0 + t"),
        ("ar1(0 + t + s | g)", "0 + t"),
        ("ar1(0 + t | g, band=2)", "band= belongs to toep"),
        ("toep(0 + t | g, rank=2)", "band= belongs to toep"),
        ("toep(0 + t | g, band=0)", "whole number"),
        ("fa(0 + x + z | g, rank=1.5)", "whole number"),
    ],
)
def test_structures_say_what_they_need(text, told):
    with pytest.raises(FormulaError, match=re.escape(told)):
        parse_formula(f"y ~ {text}")


def test_double_bar_is_diagonal():
    assert random("y ~ (x || g)") == [("x", ("g",), "diagonal")]
    assert random("y ~ diag(x || g)") == [("x", ("g",), "diagonal")]


def test_columns_and_identifiers():
    compiled = compile_columns("total.fruits + log(total.fruits) + `a b` + within(log(x), s:c)")
    assert compiled.variables == ("total.fruits", "a b", "x", "s", "c")
    assert all(identifier.isidentifier() for identifier, _ in compiled.columns)
    shown = dict(compiled.display)
    assert "log(total.fruits)" in shown.values()
    assert "within(log(x), s:c)" in shown.values()
    call = compiled.centring[0][1]
    assert (call.kind, call.shown, call.factors, call.rows) == (
        "within",
        "log(x)",
        ("s", "c"),
        "analysis",
    )


def test_columns_named_like_functions_are_columns():
    compiled = compile_columns("log + log(log) + np")
    assert compiled.variables == ("log", "np")
    assert not {"log", "np"} & {identifier for identifier, _ in compiled.columns}


def test_arguments_of_centring():
    calls = [
        c for _, c in compile_columns("between(x, g, at=-2.5, rows='all') + center(x, 50)").centring
    ]
    assert (calls[0].at, calls[0].rows) == (-2.5, "all")
    assert calls[1].at == 50.0


def test_powers_read_as_in_r():
    assert compile_columns("I(x^2)").text == "I(x ** 2)"
    assert set(term_labels(compile_columns("(a + b)^2"))) == {"1", "a", "b", "a:b"}


def test_tokens_know_their_place():
    text = "y ~ log(`a b`) + 1.5e3"
    for token in scan(text):
        assert token.text in text[token.start : token.stop]


def test_same_formula_same_model():
    assert parse_formula("y ~ x + (1 | g)") is parse_formula("y ~ x + (1 | g)")


def test_wrong_method_and_type():
    with pytest.raises(ModelError, match="reml"):
        parse_formula("y ~ x", method="mle")
    with pytest.raises(ModelError, match="text"):
        parse_formula(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "y ~ (1 | g) + (x | g)",
        "y ~ (1 | a/b) + (1 | a)",
        "y ~ (0 + x | a:b) + (0 + x | b:a)",
        "y ~ (x || g) + (0 + x | g)",
        "y ~ (0 + total.n | g) + (0 + `total.n` | g)",
    ],
)
def test_same_effect_twice_on_one_factor(text):
    with pytest.raises(FormulaError, match="twice over") as caught:
        parse_formula(text)
    assert caught.value.position == parse_position(text)


def parse_position(text):
    return text.rindex("(")


def test_several_terms_on_one_factor_may_share_nothing():
    assert len(random("y ~ (1 | g) + (0 + x | g) + (0 + z | g)")) == 3
