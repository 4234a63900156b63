"""Centring learns its means on stated rows; designs replay on new rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.design.build import build_design
from multilevel.design.replay import replay
from multilevel.errors import DesignError
from multilevel.model.formula import parse_formula


def frame(n=90, seed=5):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(50.0, 3.0, n),
            "s": np.resize(["u", "v", "w", "v"], n),
            "b": rng.random(n) > 0.5,
            "g": np.resize(np.arange(9), n),
            "k": np.resize(list("ab"), n),
        }
    )


def design(formula, data, **options):
    return build_design(parse_formula(formula), data, **options)


def column(made, name):
    return made.X[:, made.names.index(name)]


def test_centring_by_hand():
    d = frame()
    made = design("y ~ within(x, g) + between(x, g, at=50) + (1 | g)", d)
    mean = d.groupby("g").x.transform("mean")
    np.testing.assert_allclose(column(made, "within(x, g)"), d.x - mean, atol=1e-12)
    np.testing.assert_allclose(column(made, "between(x, g, at=50)"), mean - 50, atol=1e-12)
    np.testing.assert_allclose(
        column(design("y ~ center(x)", d), "center(x)"), d.x - d.x.mean(), atol=1e-12
    )
    np.testing.assert_array_equal(column(design("y ~ center(x, 48)", d), "center(x, 48)"), d.x - 48)
    np.testing.assert_allclose(
        column(design("y ~ scale(x)", d), "scale(x)"), (d.x - d.x.mean()) / d.x.std(), atol=1e-12
    )
    both = d.groupby(["g", "k"]).x.transform("mean")
    np.testing.assert_allclose(
        column(design("y ~ within(x, g:k)", d), "within(x, g:k)"), d.x - both, atol=1e-12
    )
    logged = np.log(d.x)
    np.testing.assert_allclose(
        column(design("y ~ within(log(x), g)", d), "within(log(x), g)"),
        logged - logged.groupby(d.g).transform("mean"),
        atol=1e-12,
    )
    share = d.groupby("g").b.transform("mean")
    np.testing.assert_allclose(column(design("y ~ between(b, g)", d), "between(b, g)"), share)


def test_means_use_the_analysed_rows_unless_told_otherwise():
    d = frame()
    d.loc[:14, "y"] = np.nan
    d.loc[20, "x"] = np.nan
    used = d.dropna(subset=["y", "x"])
    made = design("y ~ within(x, g) + (1 | g)", d)
    np.testing.assert_allclose(
        made.X[:, 1], used.x - used.groupby("g").x.transform("mean"), atol=1e-12
    )
    learnt = made.recipe.centring[0]
    assert (learnt.n_rows, learnt.n_groups) == (len(used), 9)
    assert "analysed rows" in learnt.sentence
    every = design('y ~ within(x, g, rows="all") + (1 | g)', d)
    np.testing.assert_allclose(
        every.X[:, 1], (d.x - d.groupby("g").x.transform("mean"))[used.index], atol=1e-12
    )
    assert every.recipe.centring[0].n_rows == 89
    assert "all rows" in every.recipe.centring[0].sentence


def test_centring_inside_terms():
    d = frame()
    made = design("y ~ within(x, g) * s + I(within(x, g)^2) + (within(x, g) | g)", d)
    w = d.x - d.groupby("g").x.transform("mean")
    np.testing.assert_allclose(column(made, "within(x, g):s[v]"), w * (d.s == "v"), atol=1e-12)
    np.testing.assert_allclose(column(made, "I(within(x, g)^2)"), w**2, atol=1e-12)
    np.testing.assert_allclose(made.blocks[0].columns[:, 1], w, atol=1e-12)
    assert len(made.recipe.centring) == 1


def test_a_group_level_variable_has_nothing_within():
    d = frame().assign(c=lambda t: t.g * 0.1)
    made = design("y ~ within(c, g) + (1 | g)", d)
    assert made.dropped_columns == {"within(c, g)": "within(c, g) is 0 in every row"}
    with pytest.raises(DesignError, match=r"0 in every row|one value in every group"):
        design("y ~ (within(c, g) | g)", d)
    with pytest.raises(DesignError, match="one value in every group"):
        design("y ~ (between(x, g) | g)", d)


FORMULA = (
    "y ~ within(x, g) + between(x, g) + scale(x) + poly(x, 2) + bs(x, df=4) + s * b + C(k)"
    " + offset(x) + (1 + b | g) + (1 | k:g)"
)


def test_replay_of_the_same_rows_is_the_design():
    d = frame()
    made = design(FORMULA, d)
    again = replay(made, d, response=True)
    np.testing.assert_allclose(again.X, made.X, atol=1e-12)
    np.testing.assert_array_equal(again.y, made.y)
    np.testing.assert_array_equal(again.offset, made.offset)
    for one, two in zip(made.blocks, again.blocks, strict=True):
        np.testing.assert_array_equal(one.codes, two.codes)
        np.testing.assert_array_equal(one.columns, two.columns)
        assert one.group == two.group
        assert two.new_levels == ()
    assert again.new_groups == {}


def test_replay_of_a_few_rows_keeps_what_was_learnt():
    d = frame()
    made = design(FORMULA, d)
    few = replay(made, d.iloc[[5, 6]])
    np.testing.assert_allclose(few.X, made.X[[5, 6]], atol=1e-12)
    np.testing.assert_array_equal(few.blocks[0].codes, made.blocks[0].codes[[5, 6]])
    assert few.y is None


def test_replay_with_new_and_missing_groups():
    d = frame()
    made = design("y ~ within(x, g) + (1 | g) + (1 | k)", d)
    new = pd.DataFrame(
        {"x": [40.0, 44.0, 50.0, np.nan], "g": [77, 77, 3, 3], "k": ["a", None, "b", "a"]}
    )
    found = replay(made, new)
    np.testing.assert_allclose(found.X[:, 1], [-2.0, 2.0, 50.0 - d.x[d.g == 3].mean()], atol=1e-12)
    assert found.new_groups == {"within(x, g)": (77,)}
    blocks = {block.group: block for block in found.blocks}
    assert blocks["g"].codes.tolist() == [-1, -1, 3]
    assert blocks["g"].new_levels == (77,)
    assert blocks["k"].codes.tolist() == [0, -1, 1]
    assert found.rows.kept.tolist() == [0, 1, 2]
    assert found.rows.missing == {"x": 1}


def test_replay_for_the_population_needs_no_groups():
    made = design("y ~ x + (1 | g)", frame())
    found = replay(made, {"x": [50.0]}, groups="ignore")
    assert found.blocks[0].codes.tolist() == [-1]
    with pytest.raises(DesignError, match="'g'"):
        replay(made, {"x": [50.0]})
    with pytest.raises(DesignError, match="match"):
        replay(made, {"x": [50.0]}, groups="no")  # type: ignore[arg-type]


def test_replay_refuses_what_it_has_not_learnt():
    d = frame()
    made = design("y ~ x + s + C(k) + bs(x, df=4) + (1 | g)", d)
    good = {"x": [50.0, 51.0], "s": ["u", "v"], "k": ["a", "b"], "g": [1, 2]}
    assert replay(made, good).n == 2
    with pytest.raises(DesignError, match="s is 'zzz' in row 1"):
        replay(made, {**good, "s": ["u", "zzz"]})
    with pytest.raises(DesignError, match=r"C\(k\) is 'q' in row 0"):
        replay(made, {**good, "k": ["q", "b"]})
    with pytest.raises(DesignError, match="same kind"):
        replay(made, {**good, "x": ["u", "v"]})
    with pytest.raises(DesignError, match="bs"):
        replay(made, {**good, "x": [1e6, 50.0]})
    with pytest.raises(DesignError, match="ids"):
        replay(made, {**good, "g": ["1", "2"]})
    with pytest.raises(DesignError, match=r"did you mean|check the spelling"):
        replay(made, {k: v for k, v in good.items() if k != "x"})


def test_unknown_category_names_the_row_of_the_table():
    made = design("y ~ x + s", frame())
    new = {"x": [np.nan, 1.0, 2.0], "s": ["u", "u", "no"]}
    with pytest.raises(DesignError, match="row 2"):
        replay(made, new)


def test_replay_without_any_complete_row():
    made = design("y ~ within(x, g) + s + (x | g)", frame())
    found = replay(made, {"x": [np.nan], "s": ["u"], "g": [1]})
    assert found.X.shape == (0, 4)
    assert found.blocks[0].columns.shape == (0, 2)
    assert found.blocks[0].codes.shape == (0,)


def test_categories_stay_learnt_when_new_rows_have_fewer():
    made = design("y ~ s + b + (1 | g)", frame())
    found = replay(made, {"s": ["v"], "b": [True], "g": [0]})
    np.testing.assert_array_equal(found.X, [[1.0, 1.0, 0.0, 1.0]])
