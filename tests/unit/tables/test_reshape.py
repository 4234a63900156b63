"""Wide to long and back: no person is lost, no value moves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multilevel.errors import TableError
from multilevel.tables.reshape import to_long, to_wide
from multilevel.tables.table import Table

WIDE = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "y1": [1, 2, 3, 4],
        "y2": [5.0, np.nan, np.nan, 8.0],
        "x1": [10.0, 20.0, np.nan, 40.0],
        "age1": [8.1, 8.2, 8.3, 8.4],
        "age2": [9.1, 9.2, 9.3, 9.4],
        "sex": pd.Categorical(["f", "m", "f", "m"]),
    }
)


def test_only_rows_without_outcome_are_left_out():
    long = to_long(WIDE, id="id", columns={"y": ["y1", "y2"]}, time="age", times=["age1", "age2"])
    assert long.columns == ("id", "age", "y", "x1", "sex")
    assert long.column("id").tolist() == ["a", "a", "b", "c", "d", "d"]
    np.testing.assert_array_equal(long.column("age"), [8.1, 9.1, 8.2, 8.3, 8.4, 9.4])
    np.testing.assert_array_equal(long.column("y"), [1, 5, 2, 3, 4, 8])
    assert long.categories("sex") == ("f", "m")
    assert long.notes == ("to_long left out 2 rows without any outcome",)
    every = to_long(WIDE, id="id", columns={"y": ["y1", "y2"]}, drop_missing=False)
    assert every.n_rows == 8
    assert every.notes == ()


def test_a_row_stays_if_one_of_several_outcomes_is_there():
    data = {"id": [1, 2], "y1": [1.0, None], "y2": [None, None], "z1": [None, 3.0], "z2": [4, 5]}
    long = to_long(data, id="id", columns=["y", "z"])
    assert long.n_rows == 4
    np.testing.assert_array_equal(long.column("y"), [1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(long.column("z"), [np.nan, 4, 3, 5])


def test_persons_without_any_outcome_are_told():
    long = to_long({"id": [1, 2], "y1": [1.0, None], "y2": [2.0, None]}, id="id", columns="y")
    assert long.column("id").tolist() == [1, 1]
    assert long.notes[1] == "1 person has no outcome at all, and so no row"


def test_stubs_take_their_times_from_the_names():
    data = {"id": [1], "y_0": [5], "y3": [6], "y.12": [7], "yes1": [9], "x3": [8]}
    long = to_long(data, id="id", columns=["y", "x"])
    assert long.columns == ("id", "time", "y", "x", "yes1")
    assert long.column("time").tolist() == [0, 3, 12]
    assert long.column("y").tolist() == [5, 6, 7]
    np.testing.assert_array_equal(long.column("x"), [np.nan, 8, np.nan])
    named = to_long(data, id="id", columns="y", times=["pre", "mid", "post"], time="wave")
    assert named.column("wave").tolist() == ["pre", "mid", "post"]


def test_labels_travel():
    table = Table(
        pd.DataFrame({"id": [1], "y1": [0], "y2": [1], "sex": [0]}),
        {"sex": "Sex", "y1": "First"},
        {"sex": {0: "male"}, "y1": {0: "no"}, "y2": {0: "no"}},
    )
    long = to_long(table, id="id", columns="y")
    assert long.variable_labels == {"sex": "Sex"}
    assert long.value_labels == {"sex": {0: "male"}, "y": {0: "no"}}
    wide = to_wide(long, id="id", columns="y", time="time")
    assert wide.value_labels == {"sex": {0: "male"}, "y1": {0: "no"}, "y2": {0: "no"}}
    assert wide.label("sex") == "Sex"


def test_polars_and_several_id_columns():
    data = pl.DataFrame({"school": [1, 1, 2], "child": [1, 2, 1], "y1": [1, 2, 3], "y2": [4, 5, 6]})
    long = to_long(data, id=["school", "child"], columns="y")
    assert long.column("y").tolist() == [1, 4, 2, 5, 3, 6]
    wide = to_wide(long, id=["school", "child"], columns="y", time="time")
    pd.testing.assert_frame_equal(wide.to_pandas(), data.to_pandas())


@st.composite
def long_data(draw):
    """Persons with occasions at times of their own; each row has an outcome."""
    ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True))
    rows = []
    for one in ids:
        ages = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True))
        trait = draw(st.sampled_from("uvw"))
        for age in sorted(ages):
            y = draw(st.floats(-1e6, 1e6))
            z = draw(st.one_of(st.just(float("nan")), st.floats(-5, 5)))
            rows.append((one, age / 4, y, z, trait))
    return pd.DataFrame(rows, columns=["id", "age", "y", "z", "trait"])


@given(long_data(), st.randoms(use_true_random=False))
def test_round_trip_with_times_of_their_own(frame, random):
    order = list(range(len(frame)))
    random.shuffle(order)
    wide = to_wide(frame.iloc[order], id="id", columns=["y", "z"], time="age", own_times=True)
    assert wide.n_rows == frame["id"].nunique()
    n_occasions = int(frame.groupby("id").size().max())
    numbers = range(1, n_occasions + 1)
    long = to_long(
        wide,
        id="id",
        columns={name: [f"{name}{k}" for k in numbers] for name in ("y", "z")},
        time="age",
        times=[f"age{k}" for k in numbers],
    ).to_pandas()
    expected = frame.sort_values(["id", "age"]).reset_index(drop=True)
    again = long.sort_values(["id", "age"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(again, expected[again.columns], check_dtype=False)


@given(long_data())
def test_round_trip_with_common_times(frame):
    frame = frame.drop(columns="z")
    wide = to_wide(frame, id="id", columns="y", time="age", separator="_at_")
    ages = sorted(frame["age"].unique())
    # The label of a time in a name is the label of the level, whole numbers without a point.
    names = [name for name in wide.columns if name.startswith("y_at_")]
    assert [float(name.removeprefix("y_at_")) for name in names] == ages
    assert wide.n_rows == frame["id"].nunique()
    long = to_long(wide, id="id", columns={"y": names}, time="age", times=ages).to_pandas()
    pd.testing.assert_frame_equal(long, frame[long.columns], check_dtype=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "zz", "columns": "y"}, "'zz' must be a column"),
        ({"id": [], "columns": "y"}, "id is empty"),
        ({"id": "sex", "columns": "y"}, "sex='f' is in rows 1 and 3"),
        ({"id": "x1", "columns": "y"}, "x1 is missing in row 3"),
        ({"id": "id", "columns": "zz"}, "named 'zz' and a number"),
        ({"id": "id", "columns": []}, "an outcome"),
        ({"id": "id", "columns": {}}, "no outcome"),
        ({"id": "id", "columns": {"y": []}}, "y: 0"),
        ({"id": "id", "columns": {"y": ["y1", "y2"], "x": ["x1"]}}, "y: 2, x: 1"),
        ({"id": "id", "columns": {"y": ["y1", "y1"]}}, "'y1' is listed twice"),
        ({"id": "id", "columns": {"y": ["y1", "zz"]}}, "'zz' must be a column"),
        ({"id": "y1", "columns": "y"}, "cannot be an outcome"),
        ({"id": "id", "columns": "y", "time": "sex"}, "'sex' would occur twice"),
        ({"id": "id", "columns": "y", "times": [1]}, "1 times, 2 occasions"),
        ({"id": "id", "columns": "y", "times": [1, 1]}, "must differ"),
        ({"id": "id", "columns": "y", "times": ["age1", "pre"]}, "'pre' is not a column"),
        ({"id": "id", "columns": {"y": ["y1", "sex"]}}, "'sex' is category"),
    ],
)
def test_what_cannot_become_long(options, message):
    with pytest.raises(TableError, match=message) as caught:
        to_long(WIDE, **options)
    assert caught.value.remedy


def test_two_columns_for_one_occasion():
    with pytest.raises(TableError, match="'y1' and 'y_1' both read as occasion 1"):
        to_long({"id": [1], "y1": [1], "y_1": [2]}, id="id", columns="y")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"t": [1, 1], "y": [1, 2]}, "i=1, t=1 is in rows 1 and 2"),
        ({"t": [1, None], "y": [1, 2]}, "t is missing in row 2"),
        ({"t": [1, 2], "y": [1, 2], "z": [1, 5]}, "has 1 in row 1 and 5 in row 2"),
        ({"t": [1, 2], "y": [1, 2], "y1": [1, 1]}, "'y1' would occur twice"),
        ({"t": [1, 2]}, "'y' must be a column"),
    ],
)
def test_what_cannot_become_wide(data, message):
    with pytest.raises(TableError, match=message) as caught:
        to_wide({"i": [1, 1], **data}, id="i", columns="y", time="t")
    assert caught.value.remedy


def test_roles_must_differ():
    with pytest.raises(TableError, match="'t' has two roles"):
        to_wide({"i": [1], "t": [1]}, id="i", columns="t", time="t")
