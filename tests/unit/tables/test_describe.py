"""The description of a design: sizes, nesting, reused ids, variation; against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multilevel.errors import TableError
from multilevel.tables.describe import describe_design
from multilevel.tables.shipped import load_hsb
from multilevel.tables.table import Table

DATA = Path(__file__).parents[2] / "data"


def fields(record):
    return {name: value for name, value in vars(record).items() if name not in ("sizes", "levels")}


def anova(values, groups):
    """Variance components from the definitions, group by group."""
    frame = pd.DataFrame({"y": values, "g": groups}).dropna()
    parts = [part["y"].to_numpy() for _, part in frame.groupby("g")]
    n, n_groups = len(frame), len(parts)
    grand = frame["y"].mean()
    within = sum(((part - part.mean()) ** 2).sum() for part in parts) / (n - n_groups)
    between = sum(len(part) * (part.mean() - grand) ** 2 for part in parts) / (n_groups - 1)
    n0 = (n - sum(len(part) ** 2 for part in parts) / n) / (n_groups - 1)
    return within, (between - within) / n0


def test_sizes_of_groups():
    data = {"g": ["a", "a", "a", "b", "b", "c", None, "d"], "y": [1, 2, 3, 4, 5, 6, 7, None]}
    design = describe_design(data, "y", ["g"])
    assert (design.n_table, design.n_rows, design.n_rows_complete) == (8, 7, 6)
    factor = design.factor("g")
    assert fields(factor) == {
        "name": "g",
        "label": "",
        "n_rows": 6,
        "n_missing": 1,
        "n_groups": 3,
        "size_min": 1,
        "size_median": 2.0,
        "size_mean": 2.0,
        "size_max": 3,
        "size_effective": 14 / 6,
        "size_anova": (6 - 14 / 6) / 2,
        "n_singletons": 1,
    }
    assert factor.levels.tolist() == ["a", "b", "c"]  # d has no outcome
    assert factor.sizes.tolist() == [3, 2, 1]
    assert describe_design(data, None, ["g"]).factor("g").n_groups == 4


def test_hsb():
    design = describe_design(load_hsb(), "mathach", ["school"])
    assert design.factor("school").n_groups == 160
    assert design.factor("school").label == "School"
    levels = {variable.name: variable.level for variable in design.variables}
    assert levels == {
        "mathach": "row",
        "minority": "row",
        "female": "row",
        "ses": "row",
        "sector": "school",
        "meanses": "school",
    }
    sector = design.variable("sector")
    assert sector.is_binary
    assert sector.value_labels == {0: "Public", 1: "Catholic"}
    assert sector.variation("school").share_constant == 1.0
    assert sector.variation("school").sd_within == 0.0
    assert sector.variation("school").icc == 1.0
    assert sector.varies_at == ("school",)
    frame = load_hsb().to_pandas()
    for name in ("mathach", "ses"):
        within, tau2 = anova(frame[name], frame["school"])
        found = design.variable(name).variation("school")
        assert found.sd_within == pytest.approx(np.sqrt(within), rel=1e-12)
        assert found.sd_between == pytest.approx(np.sqrt(tau2), rel=1e-12)
        assert found.icc == pytest.approx(tau2 / (tau2 + within), rel=1e-12)
        sizes = frame.groupby("school").size()
        kish = (sizes**2).sum() / sizes.sum()
        assert found.design_effect == pytest.approx(1 + (kish - 1) * found.icc)
        assert found.n_effective == pytest.approx(7185 / found.design_effect)
        reliability = (tau2 / (tau2 + within / sizes)).mean()
        assert found.reliability == pytest.approx(reliability)
        assert found.sd_means == pytest.approx(frame.groupby("school")[name].mean().std())
        assert design.variable(name).mean == pytest.approx(frame[name].mean())
        assert design.variable(name).sd == pytest.approx(frame[name].std())


@pytest.mark.parametrize(
    ("name", "factors", "relation", "lower", "share"),
    [
        ("Penicillin", ["plate", "sample"], "crossed", None, 1.0),
        ("Pastes", ["sample", "batch"], "nested", "sample", 0.1),
        ("Pastes", ["batch", "sample"], "nested", "sample", 0.1),
        ("InstEval", ["d", "dept"], "nested", "d", 1 / 14),
        ("InstEval", ["s", "d"], "partially crossed", None, 73421 / (2972 * 1128)),
    ],
)
def test_relations_in_known_designs(name, factors, relation, lower, share):
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    pair = describe_design(frame, None, factors, []).pair(*factors)
    assert pair.relation == relation
    assert pair.lower == lower
    assert pair.share_cells == pytest.approx(share)
    assert pair.reused is None


def test_identical_factors_and_components():
    data = {"a": [1, 1, 2, 2, 3], "b": ["x", "x", "y", "y", "z"]}
    pair = describe_design(data, None, ["a", "b"]).pair("b", "a")
    assert pair.relation == "identical"
    assert pair.n_components == 3
    assert pair.largest_component == pytest.approx(0.4)
    # Raters of two sites who never meet: not nested, and not comparable across sites either.
    data = {"rater": [1, 1, 2, 2, 3, 3, 4], "essay": [1, 2, 1, 2, 8, 9, 8]}
    pair = describe_design(data, None, ["rater", "essay"]).pairs[0]
    assert pair.relation == "partially crossed"
    assert (pair.n_components, pair.largest_component) == (2, pytest.approx(4 / 7))
    assert (pair.n_first_in_many, pair.n_second_in_many) == (3, 3)


def test_reused_ids_are_named_with_their_formula():
    rows = [(s, c) for s in range(1, 8) for c in range(1, 3 + s % 3) for _ in range(4)]
    frame = pd.DataFrame(rows, columns=["school", "class"])
    for order in (["school", "class"], ["class", "school"]):
        pair = describe_design(frame, None, order).pairs[0]
        assert pair.relation == "partially crossed"
        assert pair.reused is not None
        assert (pair.reused.lower, pair.reused.upper) == ("class", "school")
        assert pair.reused.formula == "(1 | school/class)"
        assert pair.reused.is_numbering_uneven
        assert pair.reused.share_from_first == 1.0
        assert (pair.reused.n_ids, pair.reused.n_units) == (4, 7)
        assert pair.reused.n_cells == frame.drop_duplicates().shape[0]
    nested = describe_design(frame, None, ["school/class"])
    assert [factor.name for factor in nested.factors] == ["school", "school:class"]
    assert nested.pairs[0].relation == "nested"
    assert nested.pairs[0].lower == "school:class"
    assert nested.pairs[0].reused is None


def test_full_crossing_is_only_a_question_and_cells_of_one_row_are_none():
    casks = describe_design(pd.read_csv(DATA / "Pastes.csv.gz"), None, ["batch", "cask"], [])
    reused = casks.pairs[0].reused
    assert reused is not None
    assert reused.formula == "(1 | batch/cask)"
    assert not reused.is_numbering_uneven
    plates = describe_design(pd.read_csv(DATA / "Penicillin.csv.gz"), None, ["plate", "sample"])
    assert plates.pairs[0].reused is None


def test_levels_of_variables_in_nested_and_crossed_designs():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        [(s, 10 * s + c, r) for s in range(6) for c in range(3) for r in range(5)],
        columns=["school", "class", "row"],
    )
    frame["item"] = frame["row"]
    frame["of_school"] = frame["school"].map(dict(enumerate(rng.normal(size=6))))
    frame["of_class"] = frame["class"] % 7 + frame["school"] * 0.1
    frame["of_item"] = list("uvwvw") * 18
    frame["of_row"] = rng.normal(size=90)
    frame["fixed"] = 3.0
    design = describe_design(frame, "of_row", ["school", "class", "item"], None)
    levels = {variable.name: variable.level for variable in design.variables}
    assert levels == {
        "of_row": "row",
        "row": "item",
        "of_school": "school",
        "of_class": "class",
        "of_item": "item",
        "fixed": "constant",
    }
    assert design.variable("of_school").variation("class").is_constant_within
    assert design.variable("of_item").variation("school").is_constant_within is False
    assert design.variable("of_item").kind == "text"
    assert design.variable("fixed").varies_at == ()
    assert np.isnan(design.variable("fixed").variation("school").icc)
    assert design.variable("fixed").variation("school").is_constant_between


def test_negative_variance_is_clamped_and_told():
    data = {"g": [1, 1, 2, 2, 3, 3], "y": [-1.0, 1.0, -2.0, 2.0, -3.0, 3.0]}
    found = describe_design(data, "y", ["g"]).variable("y").variation("g")
    assert found.is_clamped
    assert found.icc == 0.0
    assert found.icc_unclamped == pytest.approx(-1.0)
    assert found.sd_between == 0.0
    assert found.design_effect == 1.0


def test_group_means_with_rounding_errors_belong_to_the_group():
    frame = load_hsb().to_pandas()
    rng = np.random.default_rng(1)
    frame["noisy"] = frame["meanses"] * (1 + rng.uniform(-1, 1, len(frame)) * 1e-15)
    noisy = describe_design(frame, "mathach", ["school"], ["noisy"]).variable("noisy")
    assert noisy.level == "school"
    assert noisy.variation("school").sd_within == 0.0


def test_large_means_do_not_spoil_small_variances():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(50), 8)
    small = rng.normal(size=50)[groups] + rng.normal(size=400)
    plain = describe_design({"g": groups, "y": small}, "y", ["g"]).variable("y").by_factor[0]
    moved = describe_design({"g": groups, "y": small + 1e8}, "y", ["g"]).variable("y").by_factor[0]
    assert moved.icc == pytest.approx(plain.icc, rel=1e-6)


def test_missing_and_infinite_values_are_counted():
    data = Table(
        pd.DataFrame(
            {"g": [1, 1, 2, 2], "y": [1.0, np.nan, 3.0, 4.0], "x": [np.inf, 1, np.nan, 2]}
        ),
        {"x": "Some x"},
    )
    design = describe_design(data, "y", ["g"])
    x = design.variable("x")
    assert (x.label, x.n_missing, x.n_infinite, x.n_distinct) == ("Some x", 1, 1, 1)
    assert design.variable("y").n_missing == 1
    assert x.variation("g").n_rows == 1


def test_single_groups_and_single_rows_have_no_icc():
    one = describe_design({"g": [1, 1], "y": [1.0, 2.0]}, "y", ["g"]).variable("y").by_factor[0]
    assert np.isnan(one.icc)
    assert one.sd_within == pytest.approx(np.sqrt(0.5))
    rows = describe_design({"g": [1, 2], "y": [1.0, 2.0]}, "y", ["g"])
    assert np.isnan(rows.variable("y").by_factor[0].icc)
    assert np.isnan(rows.variable("y").by_factor[0].share_constant)
    assert rows.variable("y").level == "row"
    assert rows.factor("g").n_singletons == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zz", ["g"]), "'zz' must be a column of the data to serve as outcome"),
        (("y", ["zz"]), "to serve as a group"),
        (("y", ["g/zz"]), "'zz' must be a column"),
        (("y", ["g"], ["zz"]), "'zz' must be a column"),
        (("empty", ["g"]), "missing in all 2 rows"),
        (("y", ["empty"]), "missing in all 2 rows"),
    ],
)
def test_what_cannot_be_described(arguments, message):
    data = {"g": [1, 2], "y": [1.0, 2.0], "empty": [None, None]}
    with pytest.raises(TableError, match=message) as caught:
        describe_design(data, *arguments)
    assert caught.value.remedy


def test_unknown_names_in_the_description():
    design = describe_design({"g": [1, 2], "h": [1, 1], "y": [1.0, 2.0]}, "y", ["g", "h"])
    for look in (
        lambda: design.factor("zz"),
        lambda: design.variable("zz"),
        lambda: design.pair("g", "zz"),
        lambda: design.variable("y").variation("zz"),
    ):
        with pytest.raises(TableError, match="zz"):
            look()
    with pytest.raises(TableError, match="must have rows"):
        describe_design({"g": [], "y": []}, "y", ["g"])


@st.composite
def designs(draw):
    n = draw(st.integers(1, 40))
    column = st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=n, max_size=n)
    numbers = st.lists(st.integers(-50, 50), min_size=n, max_size=n)
    return {
        "a": [0, *draw(column)[1:]],
        "b": ["u", *(None if one is None else "uvwxyz"[one] for one in draw(column)[1:])],
        "y": np.array(draw(numbers)) / 4,
        "x": [None if one == 0 else one for one in draw(numbers)],
    }


def close(one, other):
    if isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            close(left, right)
    elif hasattr(one, "__dataclass_fields__"):
        for name in one.__dataclass_fields__:
            close(getattr(one, name), getattr(other, name))
    else:
        assert one == other


@given(designs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(data, random):
    order = list(range(len(data["y"])))
    random.shuffle(order)
    shuffled = {name: [values[i] for i in order] for name, values in data.items()}
    close(describe_design(data, "y", ["a", "b"]), describe_design(shuffled, "y", ["a", "b"]))


@given(designs())
def test_moments_and_cells_follow_from_plain_loops(data):
    design = describe_design(data, "y", ["a", "b"])
    frame = pd.DataFrame(data)
    pairs = frame.dropna(subset=["a", "b"])
    cells = pairs.groupby(["a", "b"]).size()
    pair = design.pairs[0]
    assert (pair.n_cells, pair.n_rows) == (len(cells), len(pairs))
    assert (pair.cell_min, pair.cell_max) == (cells.min(), cells.max())
    assert pair.n_first_in_many == (pairs.groupby("a")["b"].nunique() > 1).sum()
    assert pair.n_second_in_many == (pairs.groupby("b")["a"].nunique() > 1).sum()
    found = design.variable("y").variation("a")
    n_groups = frame["a"].nunique()
    known = frame["a"].notna().sum()
    if 1 < n_groups < known:
        within, tau2 = anova(frame["y"], frame["a"])
        assert found.sd_within == pytest.approx(np.sqrt(within), abs=1e-9)
        assert found.sd_between == pytest.approx(np.sqrt(max(tau2, 0)), abs=1e-6)
        assert found.is_clamped == (tau2 < 0) or abs(tau2) < 1e-9
    else:
        assert np.isnan(found.icc)
