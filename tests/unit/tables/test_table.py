"""Any table in, the same plain columns out."""

from __future__ import annotations

import datetime
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from multilevel.errors import TableError
from multilevel.tables.table import Table, as_table

RAW = {
    "id": [3, 1, 2, 1],
    "x": [1.5, None, 2.0, -1.0],
    "name": ["b", "a", None, "a"],
    "flag": [True, False, True, True],
}


def frames():
    frame = pl.DataFrame(RAW)
    return {
        "dict": RAW,
        "dict of arrays": {name: np.array(values) for name, values in RAW.items()},
        "pandas": pd.DataFrame(RAW),
        "pandas with an index": pd.DataFrame(RAW, index=[7, 7, 8, 9]),
        "pandas nullable": pd.DataFrame(RAW).convert_dtypes(),
        "pandas on arrow": pd.DataFrame(RAW).convert_dtypes(dtype_backend="pyarrow"),
        "polars": frame,
        "lazy polars": frame.lazy(),
        "pyarrow": pa.table(RAW),
        "table": as_table(RAW),
    }


@pytest.mark.parametrize("source", list(frames()))
def test_every_source_gives_the_same_columns(source):
    table = as_table(frames()[source])
    assert table.columns == ("id", "x", "name", "flag")
    assert table.n_rows == len(table) == 4
    np.testing.assert_array_equal(table.column("id"), [3.0, 1.0, 2.0, 1.0])
    np.testing.assert_array_equal(table.column("x"), [1.5, np.nan, 2.0, -1.0])
    assert table.column("name").tolist() == ["b", "a", None, "a"]
    np.testing.assert_array_equal(table.column("flag"), [1.0, 0.0, 1.0, 1.0])
    kinds = [table.kind(name) for name in table.columns]
    assert kinds == ["numeric", "numeric", "text", "boolean"]
    plain = table.to_pandas(["flag", "id"])
    assert list(plain.columns) == ["flag", "id"]
    assert list(plain.index) == [0, 1, 2, 3]
    assert plain["flag"].dtype == bool
    assert plain["id"].dtype.kind == "i"
    codes, levels = table.codes("name")
    assert codes.tolist() == [1, 0, -1, 0]
    assert levels.tolist() == ["a", "b"]


def test_numeric_columns_share_memory():
    frame = pd.DataFrame({"x": np.arange(5.0), "y": np.arange(5.0) ** 2, "z": list("abcde")})
    table = as_table(frame)
    assert np.shares_memory(table.column("x"), frame["x"].to_numpy())
    assert np.shares_memory(
        table.to_pandas(["y"], copy=False)["y"].to_numpy(), frame["y"].to_numpy()
    )
    own = table.to_pandas(["y"])
    own.loc[0, "y"] = -7.0  # a frame that users may change
    assert table.series("y")[0] != -7.0
    values = pl.Series("x", [1.0, 2.0])
    assert np.shares_memory(as_table(pl.DataFrame([values])).column("x"), values.to_numpy())


def test_columns_are_read_only_so_that_a_table_stays_as_it_is():
    frame = pd.DataFrame({"x": np.arange(5.0)})
    with pytest.raises(ValueError, match="read-only"):
        as_table(frame).column("x")[0] = 1.0
    assert frame["x"].iloc[0] == 0.0


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([Decimal("1.5"), None], "numeric", [1.5, np.nan]),
        ([1, 2.5], "numeric", [1.0, 2.5]),
        ([None, None], "numeric", [np.nan, np.nan]),
        ([True, None], "category", [True, None]),
        (pd.Categorical(["u", None], categories=["v", "u"]), "category", ["u", None]),
        (pd.array([2**60, None], dtype="Int64"), "numeric", [float(2**60), np.nan]),
        (pd.array([True, None], dtype="boolean"), "category", [True, None]),
        ([1, "a"], "other", [1, "a"]),
        (np.array(["a", "b"]), "text", ["a", "b"]),
    ],
)
def test_awkward_columns(values, kind, expected):
    table = as_table({"x": values})
    assert table.kind("x") == kind
    assert str(table.column("x").tolist()) == str(expected)


def test_dates():
    days = [datetime.date(2020, 1, 2), None]
    for table in (as_table({"d": days}), as_table(pl.DataFrame({"d": days}))):
        assert table.kind("d") == "date"
        assert table.column("d")[0] == np.datetime64("2020-01-02")
        assert np.isnat(table.column("d")[1])
    zoned = pd.Series(pd.to_datetime(["2020-01-02T03:00+03:00"]))
    assert as_table({"d": zoned}).column("d")[0] == np.datetime64("2020-01-02T00:00")


def test_categories_keep_their_order_but_not_polars_order_of_appearance():
    kept = as_table(pd.DataFrame({"g": pd.Categorical(["u", "v"], categories=["v", "u"])}))
    assert kept.categories("g") == ("v", "u")
    values = ["z", "a", "z"]
    appeared = as_table(pl.DataFrame({"g": pl.Series(values, dtype=pl.Categorical)}))
    assert appeared.categories("g") == ("a", "z")
    chosen = as_table(pl.DataFrame({"g": pl.Series(values, dtype=pl.Enum(["z", "a"]))}))
    assert chosen.categories("g") == ("z", "a")
    assert chosen.categories("g") == as_table(chosen).categories("g")
    assert as_table({"x": [1]}).categories("x") == ()


def test_large_ids_with_gaps_keep_their_digits():
    ids = pd.array([2**60, None, 2**60 + 1], dtype="Int64")
    codes, levels = as_table({"id": ids}).codes("id")
    assert codes.tolist() == [0, -1, 1]
    assert levels.tolist() == [2**60, 2**60 + 1]


def test_codes_of_combined_columns():
    table = as_table({"a": [1, 2, 1], "b": ["x", "x", None]})
    codes, levels = table.codes("a:b")
    assert codes.tolist() == [0, 1, -1]
    assert levels.tolist() == ["1:x", "2:x"]
    odd = as_table({"a:b": [5, 5]})
    assert odd.codes("a:b")[1].tolist() == [5]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 2)), "ndarray"),
        ([1, 2], "list"),
        (pd.Series([1.0], name="x"), "Series"),
        (pl.Series("x", [1.0]), "Series"),
        (None, "NoneType"),
        ({"x": [1, 2], "y": [1]}, "x: 2, y: 1"),
        ({"x": 1.0}, "one-dimensional"),
        ({"x": "text"}, "one-dimensional"),
        ({"x": np.zeros((2, 2))}, r"shape \(2, 2\)"),
        ({1: [1]}, "must be text"),
        ({"": [1]}, "must have a name"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' occurs more than once"),
        (pd.DataFrame([[1, 2]]), "must be text"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), "unique"),
    ],
)
def test_what_is_no_table(data, message):
    with pytest.raises(TableError, match=message) as caught:
        as_table(data)
    assert caught.value.remedy


def test_unknown_columns_suggest_the_near_ones():
    table = as_table({"mathach": [1.0], "SES": [2.0]})
    with pytest.raises(TableError, match="did you mean 'mathach'"):
        table.column("matach")
    with pytest.raises(TableError, match="did you mean 'SES'"):
        table.to_pandas(["ses"])
    with pytest.raises(TableError, match="as a group"):
        table.check(["zzz"], "as a group")
    with pytest.raises(TableError, match="'zzz'"):
        table.label("zzz")


def test_a_table_shows_itself_briefly():
    table = Table(
        pd.DataFrame({"sector": [0, 1, 0, 1], "<b>": ["u", None, "a long text indeed", "v"]}),
        {"sector": "Sector of the school"},
        {"sector": {0: "Public", 1: "Catholic"}},
        "file.dta",
        ("a note",),
    )
    text = repr(table)
    assert text.splitlines()[0] == "Table from file.dta: 4 rows, 2 columns"
    assert "Sector of the school (0 Public, 1 Catholic)" in text
    assert "u, ., a long text i" in text.replace("…", "")[:400]
    assert text.splitlines()[-1] == "  Note: a note"
    html = table._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    wide = as_table({f"c{i}": [1] for i in range(40)})
    assert "... and 16 more columns" in repr(wide)
    assert repr(as_table({"x": np.zeros(0)})).startswith("Table: 0 rows, 1 columns")


def test_a_table_survives_pickling():
    table = Table(pd.DataFrame({"x": [1.0]}), {"x": "label"})
    table.column("x")
    again = pickle.loads(pickle.dumps(table))
    assert again.label("x") == "label"
    assert again.columns == ("x",)
