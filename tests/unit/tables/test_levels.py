"""Codes of grouping columns: the round trip, sorting, missing ids."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multilevel.errors import TableError
from multilevel.tables.levels import codes, combine_codes

IDS = st.one_of(
    st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=40),
    st.lists(st.integers(-(2**62), 2**62), max_size=40),
    st.lists(st.integers(-5, 20), max_size=40),
    st.lists(st.booleans(), max_size=40),
    st.lists(st.one_of(st.just(float("nan")), st.floats(allow_nan=False)), max_size=40),
    st.lists(st.one_of(st.none(), st.integers(0, 3), st.text(max_size=2)), max_size=40),
)


def is_missing(value):
    return value is None or value != value


@given(IDS)
def test_codes_round_trip(values):
    found, levels = codes(values)
    assert found.dtype == np.int32
    assert len(found) == len(values)
    for code, value in zip(found, values, strict=True):
        if is_missing(value):
            assert code == -1
        else:
            assert levels[code] == value
    # Every level is used, none twice.
    assert sorted(set(found[found >= 0].tolist())) == list(range(len(levels)))


@given(IDS, st.randoms(use_true_random=False))
def test_codes_do_not_depend_on_the_order_of_rows(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    found, levels = codes(values)
    shuffled, shuffled_levels = codes([values[i] for i in order])
    # 1 and True, 0.0 and -0.0 are one id; which of them is shown is up to the first row.
    assert shuffled_levels.tolist() == levels.tolist()
    np.testing.assert_array_equal(shuffled, found[order])


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.booleans()), max_size=40))
def test_combined_codes_are_the_combinations_that_occur(rows):
    first = codes([None if hole else one for one, _, hole in rows])
    second = codes([two for _, two, _ in rows])
    found, levels = combine_codes([first, second])
    labels = [None if hole else f"{one}:{two}" for one, two, hole in rows]
    assert [None if code < 0 else levels[code] for code in found] == labels
    assert levels.tolist() == sorted({label for label in labels if label is not None})


def test_levels_are_sorted():
    assert codes([10, 2, 33])[1].tolist() == [2, 10, 33]
    assert codes(["b", "a"])[1].tolist() == ["a", "b"]
    assert codes(pd.Series(["b", "a"], dtype="category"))[1].tolist() == ["a", "b"]
    ordered = pd.Categorical(["low", "high"], categories=["low", "mid", "high"], ordered=True)
    found, levels = codes(ordered)
    assert levels.tolist() == ["low", "high"]
    assert found.tolist() == [0, 1]
    unordered = pd.Categorical(["b", None, "a"], categories=["b", "unused", "a"])
    found, levels = codes(unordered)
    assert levels.tolist() == ["a", "b"]
    assert found.tolist() == [1, -1, 0]


def test_whole_floats_are_integers():
    found, levels = codes(np.array([3.0, np.nan, 1.0]))
    assert levels.dtype.kind == "i"
    assert levels.tolist() == [1, 3]
    assert found.tolist() == [1, -1, 0]
    assert codes([0.5, 2.0])[1].tolist() == [0.5, 2.0]


def test_lookup_and_hashing_agree(monkeypatch):
    values = np.random.default_rng(1).integers(-50, 50, 500)
    found, levels = codes(values)
    monkeypatch.setattr("multilevel.tables.levels._SLOTS_PER_ROW", 0)
    monkeypatch.setattr("multilevel.tables.levels._SLOTS_FREE", 0)
    hashed, hashed_levels = codes(values)
    np.testing.assert_array_equal(found, hashed)
    np.testing.assert_array_equal(levels, hashed_levels)


def test_three_factors_combine():
    parts = [codes([2, 1, 1]), codes(["x", "x", "y"]), codes([True, True, True])]
    found, levels = combine_codes(parts)
    assert levels.tolist() == ["1:x:True", "1:y:True", "2:x:True"]
    assert found.tolist() == [2, 0, 1]


def test_labels_that_would_coincide_are_refused():
    with pytest.raises(TableError, match="'a:b:c'"):
        combine_codes([codes(["a:b", "a"]), codes(["c", "b:c"])])


@pytest.mark.parametrize("values", [np.zeros((2, 2)), [[1], [2]], [{"a": 1}]])
def test_what_is_no_id(values):
    with pytest.raises(TableError) as caught:
        codes(values)
    assert caught.value.remedy


def test_no_columns_combine_to_nothing():
    with pytest.raises(TableError, match="needs columns"):
        combine_codes([])
