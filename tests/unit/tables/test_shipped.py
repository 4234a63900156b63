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
from multilevel.tables.shipped import load_hsb, load_verbagg, shipped_path

SOURCE = Path(__file__).parents[2] / "data" / "Hsb82.csv.gz"


def test_the_files_are_the_ones_described():
    paths = [shipped_path(name) for name in ("hsb", "verbagg")]
    described = (paths[0].parent / "README.md").read_text()
    assert re.findall(r"\b[0-9a-f]{64}\b", described) == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    ]


def test_verbagg_is_the_data_frame_of_lme4():
    assert shipped_path("verbagg").read_bytes() == SOURCE.with_name("VerbAgg.csv.gz").read_bytes()
    table = load_verbagg()
    assert table.n_rows == 7584
    assert (len(table.codes("id")[1]), len(table.codes("item")[1])) == (316, 24)


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
