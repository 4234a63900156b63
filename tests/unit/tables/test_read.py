"""Files in, tables out; everything else is a TableError."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pyreadstat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multilevel.errors import TableError
from multilevel.tables.read import _FORMATS, read
from multilevel.tables.table import Table

FRAME = pd.DataFrame(
    {"id": [1, 1, 2], "y": [0.1, np.nan, 1e-300], "name": ["a", "b", "ä"], "g": [0, 1, 1]}
)
ASCII = FRAME.rename(columns=str.upper).assign(NAME=["a", "b", "a"])  # all that .por can hold
WRITERS = {
    ".csv": lambda path: FRAME.to_csv(path, index=False),
    ".tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    ".csv.gz": lambda path: FRAME.to_csv(path, index=False),
    ".tsv.gz": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda path: FRAME.to_parquet(path),
    ".feather": lambda path: FRAME.to_feather(path),
    ".arrow": lambda path: pyarrow.feather.write_feather(pa.Table.from_pandas(FRAME), str(path)),
    ".dta": lambda path: pyreadstat.write_dta(FRAME, str(path)),
    ".sav": lambda path: pyreadstat.write_sav(FRAME, str(path)),
    ".zsav": lambda path: pyreadstat.write_sav(FRAME, str(path), compress=True),
    ".por": lambda path: pyreadstat.write_por(ASCII, str(path)),
    ".xpt": lambda path: pyreadstat.write_xport(FRAME, str(path)),
    ".xlsx": lambda path: FRAME.to_excel(path, index=False),
}


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_every_format_gives_the_same_table(suffix, tmp_path):
    path = tmp_path / f"data{suffix}"
    WRITERS[suffix](path)
    table = read(path)
    upper = suffix == ".por"
    assert isinstance(table, Table)
    assert table.source == path.name
    assert table.notes == ()
    assert [name.lower() for name in table.columns] == ["id", "y", "name", "g"]
    column = {name.lower(): table.column(name) for name in table.columns}
    np.testing.assert_array_equal(column["id"], [1, 1, 2])
    # SAS transport and SPSS portable files have number formats of their own, of less range.
    exact = suffix not in (".xpt", ".por")
    np.testing.assert_allclose(column["y"], FRAME["y"], rtol=0 if exact else 1e-12, atol=1e-77)
    if not upper:
        assert column["name"].tolist() == ["a", "b", "ä"]
    two = read(path, columns=[table.columns[1], table.columns[0]])
    assert two.columns == (table.columns[1], table.columns[0])
    with pytest.raises(TableError, match="'zzz' must be in the file"):
        read(str(path), columns=["zzz"])


@pytest.mark.parametrize("suffix", list(_FORMATS))
def test_bad_files_under_every_suffix(suffix, tmp_path):
    path = tmp_path / f"data{suffix}"
    with pytest.raises(TableError, match="must exist") as caught:
        read(path)
    assert caught.value.remedy
    path.write_bytes(b"")
    with pytest.raises(TableError, match="is empty"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TableError, match="is a folder"):
        read(path)


@pytest.mark.parametrize("suffix", list(_FORMATS))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(min_size=1, max_size=400))
def test_random_bytes_give_a_table_or_a_table_error(suffix, content, tmp_path):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(content)
    try:
        outcome: Table | TableError = read(path)
    except TableError as error:
        outcome = error
    if isinstance(outcome, TableError):
        assert outcome.must
        assert outcome.found
        assert outcome.remedy
    else:
        # Some bytes are a readable text table; nothing else can come out of noise.
        assert suffix in (".csv", ".tsv")
        assert outcome.n_rows > 0


@cache
def valid_bytes(suffix):
    """One valid file per suffix: written anew, its time stamp would change what is damaged."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"data{suffix}"
        WRITERS[suffix](path)
        return path.read_bytes()


@pytest.mark.parametrize("suffix", list(WRITERS))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_give_a_table_or_a_table_error(suffix, data, tmp_path):
    path = tmp_path / f"data{suffix}"
    content = bytearray(valid_bytes(suffix))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(content)))
    path.write_bytes(bytes(content[: end if data.draw(st.booleans()) else len(content)]))
    try:
        outcome: Table | TableError = read(path)
    except TableError as error:
        outcome = error
    assert outcome.remedy if isinstance(outcome, TableError) else outcome.n_rows > 0


@pytest.mark.parametrize("name", ["data.json", "data", "data.rds", "data.gz", "csv"])
def test_unknown_suffixes(name, tmp_path):
    path = tmp_path / name
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match=r"must end in one of \.csv"):
        read(path)


@pytest.mark.parametrize("path", [None, 3, b"data.csv", "\0.csv"])
def test_what_is_no_path(path):
    with pytest.raises(TableError, match=r"The (path|file) must") as caught:
        read(path)
    assert caught.value.remedy


def text_file(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_text_files(tmp_path):
    plain = read(text_file(tmp_path, "\ufeffid, y \n1,0.1\n2,.\n3,NA\n4,-999\n"), na_values=[-999])
    assert plain.columns == ("id", "y")
    np.testing.assert_array_equal(plain.column("y"), [0.1, np.nan, np.nan, np.nan])
    semicolon = read(text_file(tmp_path, 'id;"a,b"\n1;0,5\n'), decimal=",")
    assert semicolon.columns == ("id", "a,b")
    assert semicolon.column("a,b")[0] == 0.5
    tabbed = read(text_file(tmp_path, "id\ty\n1\t2\n"))
    assert tabbed.columns == ("id", "y")
    piped = read(text_file(tmp_path, "id|y\n1|2\n"), delimiter="|")
    assert piped.columns == ("id", "y")
    exact = read(text_file(tmp_path, "y\n0.1234567890123456789\n8.589934592e9\n"))
    assert exact.column("y").tolist() == [0.1234567890123456789, 8.589934592e9]


def test_row_names_of_r(tmp_path):
    named = read(text_file(tmp_path, '"","y"\n"1",5\n"2",6\n'))
    assert named.columns == ("unnamed_1", "y")
    assert "column 1 has no name" in named.notes[0]
    with pytest.raises(TableError, match="more fields than the header") as caught:
        read(text_file(tmp_path, '"x","y"\n"1",5,1\n"2",6,2\n'))
    assert "row.names" in caught.value.remedy
    trailing = read(text_file(tmp_path, "x,y,\n1,2,\n"))
    assert trailing.columns == ("x", "y")
    assert trailing.notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,a\n1,2,3\n", "'a' names columns 1 and 3"),
        ("a,b\n", "no rows"),
        ("\n\n\n", "blank|at least one row|header"),
        ("a,b\n1,2\n1,2,3\n", "line 3"),
        (b"a,b\n\xe4,1\n", "cp1252"),
        ('a,b\n"1,2\n', "one record per line"),
    ],
)
def test_text_files_that_cannot_be_used(content, message, tmp_path):
    with pytest.raises(TableError, match=message) as caught:
        read(text_file(tmp_path, content))
    assert caught.value.remedy


def test_encodings(tmp_path):
    path = text_file(tmp_path, "a\nä\n".encode("cp1252"))
    assert read(path, encoding="cp1252").column("a").tolist() == ["ä"]
    with pytest.raises(TableError, match="encoding='nonsense'"):
        read(path, encoding="nonsense")
    with pytest.raises(TableError, match="one that Python knows"):
        read(path, encoding="base64")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("data.csv", {"sheet": 1}, "no option 'sheet'"),
        ("data.csv", {"labels": "categories"}, "no option 'labels'"),
        ("data.csv", {"labels": "yes"}, "labels must be 'numeric' or 'categories'"),
        ("data.csv", {"user_missing": "values"}, "no option 'user_missing'"),
        ("data.csv", {"user_missing": "no"}, "must be 'missing' or 'values'"),
        ("data.csv", {"decimal": ";"}, "decimal must be"),
        ("data.csv", {"decimal": ",", "delimiter": ","}, "must differ"),
        ("data.csv", {"delimiter": "ab"}, "one character"),
        ("data.parquet", {"delimiter": ";"}, "no option 'delimiter'"),
        ("data.dta", {"user_missing": "values"}, "no option 'user_missing'"),
        ("data.xlsx", {"encoding": "utf-8"}, "no option 'encoding'"),
    ],
)
def test_no_option_is_ignored(name, options, message, tmp_path):
    with pytest.raises(TableError, match=message) as caught:
        read(text_file(tmp_path, "a\n1\n", name), **options)
    assert caught.value.remedy


def spss_file(folder: Path) -> Path:
    path = folder / "data.sav"
    frame = pd.DataFrame(
        {"q": [1.0, 2.0, -9.0, 99.0, -9.0, np.nan], "s": ["a", "", "b", "XX", "c", "d"]}
    )
    pyreadstat.write_sav(
        frame,
        str(path),
        column_labels={"q": "Question"},
        variable_value_labels={"q": {1.0: "no", 2.0: "yes", -9.0: "refused"}},
        missing_ranges={"q": [-9, {"lo": 98, "hi": 100}], "s": ["XX"]},
    )
    return path


def test_user_missing_values_of_spss_are_missing_and_told(tmp_path):
    table = read(spss_file(tmp_path))
    np.testing.assert_array_equal(table.column("q"), [1, 2, np.nan, np.nan, np.nan, np.nan])
    assert table.column("s").tolist() == ["a", None, "b", None, "c", "d"]
    assert table.variable_labels == {"q": "Question"}
    assert table.value_labels == {"q": {1: "no", 2: "yes"}}
    assert table.notes == (
        "q: user-missing values set to missing, -9 ('refused'): 2, 99: 1",
        "s: user-missing values set to missing, XX: 1",
    )


def test_user_missing_values_of_spss_can_be_kept(tmp_path):
    table = read(spss_file(tmp_path), user_missing="values")
    np.testing.assert_array_equal(table.column("q"), [1, 2, -9, 99, -9, np.nan])
    assert table.value_labels["q"][-9] == "refused"
    assert table.notes == ()


def test_lettered_missing_values_of_stata_are_missing_and_told(tmp_path):
    path = tmp_path / "data.dta"
    pyreadstat.write_dta(
        pd.DataFrame({"q": [1, "a", 2, "a", "c"], "y": [1.5, 2.5, 3.5, 4.5, np.nan]}),
        str(path),
        variable_value_labels={"q": {1: "no", 2: "yes", "a": "refused"}},
        missing_user_values={"q": ["a", "c"]},
    )
    table = read(path)
    np.testing.assert_array_equal(table.column("q"), [1, np.nan, 2, np.nan, np.nan])
    assert table.value_labels == {"q": {1: "no", 2: "yes"}}
    assert table.notes == ("q: user-missing values set to missing, .a ('refused'): 2, .c: 1",)


def test_value_labels_become_categories_only_on_request(tmp_path):
    path = tmp_path / "data.dta"
    pyreadstat.write_dta(
        pd.DataFrame({"sector": [1, 0, 1], "scale": [0, 5, 10], "twice": [1, 2, 2]}),
        str(path),
        variable_value_labels={
            "sector": {0: "Public", 1: "Catholic", 2: "Other"},
            "scale": {0: "none", 10: "all"},
            "twice": {1: "x", 2: "x"},
        },
    )
    assert read(path).kind("sector") == "numeric"
    table = read(path, labels="categories")
    assert table.categories("sector") == ("Public", "Catholic")
    assert table.column("sector").tolist() == ["Catholic", "Public", "Catholic"]
    assert table.kind("scale") == table.kind("twice") == "numeric"
    assert table.notes == (
        "scale: stays as it is, 5 has no label",
        "twice: stays as it is, two values share a label",
    )


def test_sheets_of_a_workbook(tmp_path):
    path = tmp_path / "data.xlsx"
    with pd.ExcelWriter(path) as book:
        FRAME.to_excel(book, sheet_name="first", index=False)
        pd.DataFrame({"z": [1]}).to_excel(book, sheet_name="second", index=False)
        pd.DataFrame().to_excel(book, sheet_name="empty", index=False)
        pd.DataFrame([["a", "a"], [1, 2]]).to_excel(
            book, sheet_name="twice", index=False, header=False
        )
    first = read(path)
    assert first.n_rows == 3
    assert "first of 4 sheets, 'first'" in first.notes[0]
    assert read(path, sheet="second").columns == ("z",)
    assert read(path, sheet=2).columns == ("z",)
    for sheet, message in (
        ("empty", "is empty"),
        ("twice", "unique"),
        ("no", "'second'"),
        (9, "9"),
    ):
        with pytest.raises(TableError, match=message):
            read(path, sheet=sheet)


def test_repeated_names_in_columnar_files(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "data.parquet")
    with (
        pa.OSFile(str(tmp_path / "data.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    for name in ("data.parquet", "data.arrow"):
        with pytest.raises(TableError, match="'a' names columns 1 and 2"):
            read(tmp_path / name)


def test_a_gzipped_file_cut_short(tmp_path):
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    with pytest.raises(TableError, match="readable"):
        read(text_file(tmp_path, whole[: len(whole) // 2], "data.csv.gz"))


def test_a_header_that_tells_of_more_rows_than_the_file_can_hold(tmp_path):
    path = tmp_path / "data.dta"
    WRITERS[".dta"](path)
    content = path.read_bytes()
    assert content.count(b"<N>\x03\x00") == 1
    path.write_bytes(content.replace(b"<N>\x03\x00\x00\x00", b"<N>\x03\x00\x00\x70"))
    with pytest.raises(TableError, match=r"more than .* bytes can hold"):
        read(path)


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".parquet"])
def test_names_that_are_no_text(suffix, tmp_path):
    path = tmp_path / f"data{suffix}"
    WRITERS[suffix](path)
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xffme"))
    with pytest.raises(TableError, match="readable"):
        read(path)
