"""Dependent columns are found, named and dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.design.build import build_design
from multilevel.design.rank import find_dependent
from multilevel.errors import DesignError
from multilevel.model.formula import parse_formula


def columns(n=400, seed=3):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    return a, b


def test_later_duplicates_are_named_and_dropped():
    a, b = columns()
    d = pd.DataFrame({"y": a - b, "a": a, "b": b, "twice": 2 * a, "rest": 1 - b, "c": 5.0})
    d["sum"] = a + b
    d["g"] = np.resize(np.arange(10), len(a))
    made = build_design(parse_formula("y ~ a + twice + b + rest + c + sum + (1 | g)"), d)
    assert made.names == ("(Intercept)", "a", "b")
    assert made.dropped_columns == {
        "twice": "twice = 2 * a",
        "rest": "rest = 1 - b",
        "c": "c is 5 in every row, which the intercept already is",
        "sum": "sum = a + b",
    }
    assert np.linalg.matrix_rank(made.X) == 3
    with pytest.raises(DesignError, match=r"twice = 2 \* a"):
        build_design(parse_formula("y ~ a + twice + (1 | g)"), d, rank_deficient="refuse")
    with pytest.raises(DesignError, match="rank_deficient"):
        build_design(parse_formula("y ~ a"), d, rank_deficient="keep")  # type: ignore[arg-type]


def test_empty_cells_of_interactions():
    d = pd.DataFrame({"f": np.resize(["a", "b"], 40), "h": np.resize(["p", "p", "q", "q"], 40)})
    d.loc[(d.f == "b") & (d.h == "q"), "h"] = "p"
    d["y"] = np.random.default_rng(0).normal(size=40)
    made = build_design(parse_formula("y ~ f * h"), d)
    assert made.names == ("(Intercept)", "f[b]", "h[q]")
    assert made.dropped_columns == {"f[b]:h[q]": "f[b]:h[q] is 0 in every row"}


@pytest.mark.parametrize("location", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(location, scale):
    a, b = columns()
    X = np.column_stack([np.ones(len(a)), (a + location) * scale, b, (a + location) * scale * 3])
    report = find_dependent(X, ("(Intercept)", "a", "b", "a3"))
    assert report.kept == (0, 1, 2)
    assert list(report.dropped) == [3]


def test_nearly_collinear_columns_stay():
    year = np.resize(np.arange(2000.0, 2021.0), 500)
    X = np.column_stack([np.ones(500), year, year**2])
    assert find_dependent(X, ("(Intercept)", "t", "t2")).kept == (0, 1, 2)
    a, _ = columns(500)
    X = np.column_stack([np.ones(500), a, a + 1e-5 * np.sin(np.arange(500))])
    assert find_dependent(X, ("(Intercept)", "a", "near")).kept == (0, 1, 2)


def test_without_intercept_constants_stay():
    a, b = columns()
    X = np.column_stack([np.full(len(a), 5.0), a, b, a - 2 * b])
    report = find_dependent(X, ("c", "a", "b", "d"))
    assert report.kept == (0, 1, 2)
    assert report.dropped == {3: "d = a - 2 * b"}


def test_rank_agrees_with_numpy_on_random_integer_matrices():
    rng = np.random.default_rng(11)
    for _ in range(60):
        base = rng.integers(-2, 3, (30, 4)).astype(float)
        mixed = base @ rng.integers(-1, 2, (4, 7))
        X = np.column_stack([np.ones(30), mixed])
        names = ("(Intercept)", *"abcdefg")
        report = find_dependent(X, names)
        assert len(report.kept) == np.linalg.matrix_rank(X)
        assert np.linalg.matrix_rank(X[:, list(report.kept)]) == len(report.kept)


def test_chunks_do_not_matter():
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(150_000), rng.normal(1e5, 1.0, (150_000, 2))])
    X = np.column_stack([X, X[:, 1] - X[:, 2]])
    report = find_dependent(X, ("(Intercept)", "a", "b", "gap"))
    assert report.dropped == {3: "gap = a - b"}
