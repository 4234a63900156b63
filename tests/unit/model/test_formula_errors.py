"""What formulas refuse, and where they point."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from multilevel.errors import FormulaError, ModelError
from multilevel.model.formula import parse_formula

#: Formula with the fault marked by a caret in front of the character; and a word of the message.
FAULTS = [
    ("y^", "no ~"),
    ("^~ x", "response"),
    ("y ^~", "predictors"),
    ("y ~ x + ^(1 | g", "never closed"),
    ("y ~ x + 1 | g^)", "closes nothing"),
    ("y ~ ^[x)", "never closed|closes nothing"),
    ("y ~ (1 ^|)", "grouping factor"),
    ("y ~ (^| g)", "Left of the bar"),
    ("y ~ ^csx(1 | g)", "did you mean cs"),
    ("y ~ ^foo(1 | g)", "covariance structure"),
    ("y ~ (1 | a ^| b)", "two bars"),
    ("y ~ (1 | (1 ^| b))", "inside another"),
    ("y ~ (^(1 | a) + x | b)", "on its own"),
    ("(1 ^| g) ~ x", "response"),
    ("y ~ x:^(1 | g)", "on its own"),
    ("y ~ ^(1 | g):x", "on its own"),
    ("y ~ (x + ^(1 | g))", "on its own"),
    ("y ~ x ^$ z", r"\$"),
    ("y ~ x ^%in% z", "a:b"),
    ("y ~ (^offset(x) | g)", "offset"),
    ("y ~ offset(^(1 | g))", "on its own"),
    ("y ~ x:^offset(z)", "offset"),
    ("y ~ 1 ^| g", "parentheses"),
    ("y ~ x ^z", "operator"),
    ("y ~ x + ^", "must end"),
    ("y ~ x + ^+ z", "sign"),
    ("y ~ ^5 + x", "1 .an intercept"),
    ("y ~ x ^> 3", r"I\(x > 3\)"),
    ("y ~ (a + b)^^9", "power"),
    ("y ~ ^.", "every column"),
    ("y ~ ^as.factor(x)", r"factor\(x\)"),
    ("y ~ ^lgo(x)", "did you mean log"),
    ("y ~ ^cs(x)", r"cr\(x"),
    ("y ~ (1 | a ^+ b)", r"\(1 \| a\) \+ \(1 \| b\)"),
    ("y ~ (1 | factor^(g))", "column names"),
    ("y ~ cs(x ^|| g)", "double bar"),
    ("y ~ ^within(x)", "within"),
    ("y ~ within(x, ^2)", "grouping column"),
    ("y ~ between(x, g, at=^b)", "number"),
    ("y ~ within(x, g, rows=^'some')", "all"),
    ("y ~ center(^within(x, g))", "centred"),
    ("y ~ center(^poly(x, 2))", "centred"),
    ("y ~ ^center(x, 50, rows='all')", "one thing"),
    ("y ~ ^center(x, 50, at=3)", "one thing"),
    ("y ~ C(x, ^contr.nope)", "contr.sum"),
    ("y ~ between(x, g, by=^3)", "by"),
    ("y ~ x ^~ z", "one ~"),
    ("y ~ ^`", "never closed"),
    ("y ~ ^``", "backticks|Backticks"),
    ("y ~ ^poly(x, 100000000)", "columns"),
    ("^cbind(a) ~ x", "two columns"),
    ("y ~ ^cbind(a, b)", "stands alone"),
    ("^cbind(a, b) + 1 ~ x", "stands alone"),
    ("y ~ (1 | a/^a)", "once"),
    ("^3 ~ x", "column"),
]


@pytest.mark.parametrize(("marked", "message"), FAULTS)
def test_faults_point_at_their_character(marked, message):
    position = marked.index("^^") if "^^" in marked else marked.index("^")
    text = marked.replace("^^", "^") if "^^" in marked else marked.replace("^", "", 1)
    if "^^" in marked:
        position += 1
    with pytest.raises(FormulaError, match=message) as caught:
        parse_formula(text)
    error = caught.value
    if marked not in ("y^", "y ~ x + ^", "y ~ (1 ^|)", "y ~ (^| g)", "y ~ ^[x)"):
        assert error.position == position
    assert error.position is not None
    assert error.must
    assert error.remedy
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "text",
    [
        "y ~ __import__('os').system('ls')",
        "y ~ I(__import__('os'))",
        "y ~ I(().__class__)",
        "y ~ I(x)(y)",
        "y ~ I(x)[0]",
        "y ~ I(lambda: 0)",
        "y ~ I([z for z in y])",
        "y ~ {x}",
        "y ~ eval('1')",
        "y ~ I(eval)(x)",
        "y ~ np.load('f')",
        "y ~ I(9**9**9 * x)",
        "y ~ I(x ** (9 ** 9 ** 9))",
        "y ~ I('a' * 10 * x)",
        "y ~ I([1] * x)",
        "y ~ log(x, **y)",
        "y ~ log(*x)",
        "y ~ log(x, _state=1)",
        "y ~ C(x, contr.custom)",
        "y ~ C(x, contr.sum.__init__)",
        "y ~ log(log)(x)",
        "y ~ log()",
        "y ~ I(x := 3)",
        "y ~ I(f'{x}')",
    ],
)
def test_formulas_cannot_run_code(text):
    with pytest.raises(FormulaError):
        parse_formula(text)


def test_very_long_and_very_deep():
    for text in ["y ~ " + "x + " * 9000 + "x", "y ~ " + "(" * 200 + "x" + ")" * 200]:
        with pytest.raises(FormulaError):
            parse_formula(text)
    with pytest.raises(FormulaError, match="crossings"):
        parse_formula("y ~ " + "*".join(f"x{i}" for i in range(20)))
    many = parse_formula("y ~ " + " + ".join(f"x{i}" for i in range(300)))
    assert many.fixed.count("+") == 299


PIECES = (
    "y x g a.b `c\xa0d` 1 0 2 3.5 ~ + - * / : ^ ** | || ( ) [ ] , = == < & 's' log( I( C( poly( "
    "within( between( offset( cs( diag( (1| |g) . contr.sum factor center(x, rows= bs(x,df=4) "
    "lambda __import__ None"
)
WORDS = [*PIECES.split(), " ", "\n"]


def outcome(text):
    """The model, or the refusal; any other exception is a bug."""
    try:
        return parse_formula(text)
    except (FormulaError, ModelError) as error:
        return error.must


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
@example("y~-(x)")
@example("y~(((x)))")
@example("y~0-0")
@example("y~(x+0)*g")
@example("y~I(x)^2")
def test_only_our_errors_from_words(text):
    assert outcome(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_only_our_errors_from_any_text(text):
    for candidate in (text, f"y ~ {text}", f"y ~ I({text}) + (1 | g)", f"y ~ (1 | {text})"):
        assert outcome(candidate)
