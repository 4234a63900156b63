"""The door to descriptions."""

from __future__ import annotations

import json

import pytest

import multilevel as mlm
from multilevel.errors import TableError


def test_one_cluster_or_several():
    hsb = mlm.load_hsb()
    one = mlm.describe(hsb, "mathach", clusters="school", variables=["ses"])
    several = mlm.describe(hsb, "mathach", clusters=["school"], variables=["ses"])
    assert str(one) == str(several)
    assert "school" in str(one)
    assert "160" in str(one)
    assert one._repr_html_().startswith("<div")
    json.dumps(one.to_dict(), allow_nan=False)
    assert one.record.factors[0].n_groups == 160


def test_an_unknown_column_is_named():
    with pytest.raises(TableError, match="schol"):
        mlm.describe(mlm.load_hsb(), "mathach", clusters="schol")
