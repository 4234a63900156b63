"""The shipped data are the data of their source."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multilevel.errors import TableError
from multilevel.tables.shipped import load_hsb, shipped_path

SOURCE = Path(__file__).parents[2] / "data" / "Hsb82.csv.gz"


def test_the_file_is_the_one_described():
    path = shipped_path("hsb")
    described = (path.parent / "README.md").read_text()
    assert re.findall(r"\b[0-9a-f]{64}\b", described) == [
        hashlib.sha256(path.read_bytes()).hexdigest()
    ]


def test_hsb_is_hsb82():
    table = load_hsb()
    with gzip.open(SOURCE, "rt") as lines:
        raw = pd.read_csv(lines, dtype={"school": str})
    assert table.n_rows == 7185
    assert len(table.codes("school")[1]) == 160
    assert table.column("school").tolist() == raw["school"].tolist()
    np.testing.assert_array_equal(table.column("mathach"), raw["mAch"])
    np.testing.assert_array_equal(table.column("ses"), raw["ses"])
    np.testing.assert_array_equal(table.column("meanses"), raw["meanses"])
    for name, old in (("minority", "minrty"), ("female", "sx"), ("sector", "sector")):
        named = [table.value_labels[name][int(value)] for value in table.column(name)]
        assert named == raw[old].tolist()
    assert all(table.label(name) for name in table.columns)
    assert table.notes == ()


def test_unknown_data():
    with pytest.raises(TableError, match="'hsb'"):
        shipped_path("iris")
