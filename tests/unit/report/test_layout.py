from __future__ import annotations

import math

import pytest

from multilevel.report.layout import (
    Grid,
    Section,
    decimals_for,
    grid_lines,
    join_words,
    number,
    render_text,
    share,
    short,
)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([0.2436], 4), ([6.825, 1.546], 3), ([612.0, 35.07], 2), ([5e4], 2), ([1e-9], 4), ([], 2)],
)
def test_decimals_give_the_smallest_value_four_digits(values, decimals):
    assert decimals_for(values) == decimals


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.23456, "1.235"), (0.0, "0.000"), (-0.0, "0.000"), (0.0012, "1.20e-03"), (math.nan, ".")],
)
def test_number_hides_nothing(value, text):
    assert number(value, 3) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.193, "2.193"), (-12.3456, "-12.35"), (0.0, "0"), (123456.0, "123456"), (1e-7, "1.00e-07")],
)
def test_short_keeps_four_digits(value, text):
    assert short(value) == text


def test_share_has_two_decimals_and_no_negative_zero():
    assert [share(v) for v in (0.0656, -0.001, math.nan)] == ["0.07", "0.00", "."]


def test_words_are_joined_as_in_a_sentence():
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words(["a"]) == "a"


def test_grid_columns_line_up_and_long_names_wrap_inside_the_width():
    name = "a_very_long_predictor_name " * 4
    lines = grid_lines(Grid(("Term", "Estimate"), ((name, "1.0"), ("x", "-22.5"))), 50)
    assert max(map(len, lines)) <= 50
    ends = {len(line) for line in lines if line.rstrip().endswith(("Estimate", "1.0", "-22.5"))}
    assert len(ends) == 1


def test_wide_titles_of_numbers_go_over_two_lines():
    header = ("Variable", *(f"ICC factor_{k}" for k in range(6)))
    lines = grid_lines(Grid(header, (("x", *["0.50"] * 6),)), 72)
    assert max(map(len, lines)) <= 72
    assert lines[0].split() == ["Variable", *["ICC"] * 6]
    assert lines[1].split() == [f"factor_{k}" for k in range(6)]


def test_a_call_is_never_broken_over_two_lines():
    text = "word " * 12 + "within(ses, school) " + "word " * 5
    out = render_text(("title",), [Section("Heading", sentences=(text,))], 72)
    assert "within(ses, school)" in out
    assert max(map(len, out.splitlines())) <= 72


def test_empty_sections_are_not_printed():
    assert render_text(("title",), [Section("Nothing here")]) == "title"
