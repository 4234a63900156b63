"""Advice on means, deviations, products and ids: fires where it should, silent where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.interpret.advice.columns import split
from multilevel.interpret.advice.deviations import about_deviations
from multilevel.interpret.advice.ids import about_ids
from multilevel.interpret.advice.interactions import about_products, products
from multilevel.interpret.advice.means import (
    about_contextual,
    about_reliability,
    about_rows_of_means,
    about_standardised,
    mean_pairs,
    mean_reliability,
)
from multilevel.model.formula.parse import parse_formula


def table(J=40, n=10, seed=0, between=1.0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    frame = pd.DataFrame({"g": g, "x": rng.standard_normal(J * n)})
    frame["x"] += between * rng.standard_normal(J)[g]
    frame["x_mean"] = frame.groupby("g")["x"].transform("mean")
    frame["x_dev"] = frame["x"] - frame["x_mean"]
    frame["w"] = rng.standard_normal(J)[g]
    frame["age"] = 50 + 10 * rng.random(J * n)
    frame["sex"] = (rng.random(J * n) < 0.4).astype(float)
    frame["y"] = frame["x"] + frame["x_mean"] + rng.standard_normal(J)[g] + rng.normal(size=J * n)
    return frame


def laid(formula, data=None):
    return build_design(parse_formula(formula), table() if data is None else data)


def codes(found):
    return [advice.code for advice in found]


class TestContextual:
    @pytest.mark.parametrize("fixed", ["x + between(x, g)", "x + x_mean", "center(x) + x_mean"])
    def test_states_the_between_effect(self, fixed):
        m = mlm.fit(f"y ~ {fixed} + (1 | g)", table())
        (found,) = about_contextual(m.design, m.fit)
        parts = mlm.fit("y ~ within(x, g) + between(x, g) + (1 | g)", table())
        between = parts.fixed_effects["between(x, g)"]
        error = parts.coefficients()["std_error"].iloc[2]
        assert f"the between effect is {between:.3g} (standard error {error:.2g})" in found.sentence
        assert f"({m.fixed_effects.iloc[2]:.3g}) is the contextual" in found.sentence
        assert found in m.advice

    @pytest.mark.parametrize("fixed", ["x", "within(x, g) + between(x, g)", "x + w", "x_mean"])
    def test_silent_without_the_raw_predictor_and_its_mean(self, fixed):
        m = mlm.fit(f"y ~ {fixed} + (1 | g)", table())
        assert about_contextual(m.design, m.fit) == []


class TestReliability:
    @pytest.mark.parametrize("fixed", ["x + between(x, g)", "within(x, g) + between(x, g)"])
    def test_small_clusters_of_a_mostly_level_1_predictor(self, fixed):
        design = laid(f"y ~ {fixed} + (1 | g)", table(n=4, between=0.5))
        (found,) = about_reliability(design)
        x = table(n=4, between=0.5)["x"].to_numpy().reshape(40, 4)
        msb = 4 * x.mean(1).var(ddof=1)
        msw = x.var(axis=1, ddof=1).mean()
        expected = 1 - msw / msb  # equal sizes: tau2 / (tau2 + sigma2 / n)
        (pair,) = mean_pairs(design)
        assert mean_reliability(pair.parts, pair.block) == pytest.approx(expected)
        assert f"reliability of {expected:.2f}" in found.sentence

    def test_silent_for_large_clusters(self):
        assert about_reliability(laid("y ~ x + between(x, g) + (1 | g)", table(n=30))) == []

    def test_silent_without_a_mean(self):
        assert about_reliability(laid("y ~ x + w + (1 | g)", table(n=3, between=0.1))) == []


class TestRowsOfMeans:
    def lossy(self, share):
        data = table()
        data.loc[data.index[: int(share * len(data))], "w"] = np.nan
        return data

    def test_means_of_all_rows(self):
        design = laid('y ~ x + between(x, g, rows="all") + w + (1 | g)', self.lossy(0.02))
        (found,) = about_rows_of_means(design)
        assert found.code == "means_of_other_rows"
        assert "means of 400 rows; the model has 392" in found.sentence

    def test_many_rows_lost(self):
        (found,) = about_rows_of_means(laid("y ~ x + between(x, g) + w + (1 | g)", self.lossy(0.2)))
        assert (found.code, found.severity) == ("means_of_fewer_rows", "warning")
        assert "80 of 400 rows" in found.sentence
        assert "most of them for w" in found.sentence

    @pytest.mark.parametrize(
        ("formula", "share"),
        [
            ("y ~ x + between(x, g) + w + (1 | g)", 0.02),
            ("y ~ x + w + (1 | g)", 0.3),
            ('y ~ x + between(x, g, rows="all") + (1 | g)', 0.3),
        ],
    )
    def test_silent_for_small_losses_and_without_means(self, formula, share):
        assert about_rows_of_means(laid(formula, self.lossy(share))) == []


class TestStandardised:
    @pytest.mark.parametrize("mean", ["between(x, g)", "x_mean"])
    def test_the_spread_within_is_given(self, mean):
        (found,) = about_standardised(laid(f"y ~ scale(x) + {mean} + (1 | g)"))
        data = table()
        within = np.sqrt((data["x_dev"] ** 2).sum() / 360)
        assert f"is {within / data['x'].std():.2f} of that" in found.sentence

    @pytest.mark.parametrize("fixed", ["x + between(x, g)", "scale(x)", "scale(x) + w", "x"])
    def test_silent(self, fixed):
        assert about_standardised(laid(f"y ~ {fixed} + (1 | g)")) == []

    def test_silent_where_hardly_anything_lies_between(self):
        design = laid("y ~ scale(x) + x_mean + (1 | g)", table(n=50, between=0.0))
        assert about_standardised(design) == []


class TestDeviations:
    def test_rows_filtered_after_centring(self):
        data = table().drop(index=[3, 4, 57])
        (found,) = about_deviations(laid("y ~ x_dev + x_mean + (1 | g)", data))
        assert (found.code, found.severity) == ("not_recentred", "warning")
        assert "in 38 levels of g but not in 2 (0, 5)" in found.sentence

    def test_within_of_all_rows(self):
        data = table()
        data.loc[12, "w"] = np.nan
        (found,) = about_deviations(laid('y ~ within(x, g, rows="all") + w + (1 | g)', data))
        assert "not in 1 (1)" in found.sentence
        assert "within(x, g) without rows=" in found.mend

    @pytest.mark.parametrize("fixed", ["x_dev", "x", "age", "within(x, g)", "sex", "w"])
    def test_silent_where_nothing_was_filtered(self, fixed):
        assert about_deviations(laid(f"y ~ {fixed} + (1 | g)")) == []

    def test_silent_for_balanced_codes_with_a_row_missing(self):
        data = table()
        data["time"] = np.tile(np.arange(10) - 4.5, 40)
        assert about_deviations(laid("y ~ time + (1 | g)", data.drop(index=[3]))) == []

    def test_centred_indicator(self):
        (found,) = about_deviations(laid("y ~ within(sex, g) + (1 | g)"))
        assert found.code == "centred_indicator"
        assert "sex has two values" in found.sentence
        assert "sex + between(sex, g)" in found.mend


class TestProducts:
    def test_which_columns_are_products(self):
        design = laid("y ~ x * w + within(x, g):w + age + (1 | g)")
        assert products(design) == [("x:w", ("x", "w")), ("within(x, g):w", ("within(x, g)", "w"))]

    def test_a_part_left_out(self):
        (found,) = [
            a for a in about_products(laid("y ~ x + x:w + (x | g)")) if a.severity == "warning"
        ]
        assert found.code == "product_without_parts"
        assert "x:w but not w: its slope is held" in found.sentence
        assert found.mend == "Add + w to the formula."

    def test_zero_out_of_reach(self):
        found = about_products(laid("y ~ age * x + (x | g)"))
        assert codes(found) == ["zero_out_of_reach"]
        low, high = table()["age"].min(), table()["age"].max()
        assert f"slope of x is the one at age = 0, but age runs from {low:.4g} to {high:.4g}" in (
            found[0].sentence
        )
        assert about_products(laid("y ~ center(age) * x + (x | g)")) == []

    def test_cross_level_interaction_without_a_random_slope(self):
        (found,) = about_products(laid("y ~ x * w + (1 | g)"))
        assert (found.code, found.severity) == ("cross_level_without_slope", "note")
        assert "slope of x differ between levels of g by w only" in found.sentence

    @pytest.mark.parametrize("random", ["(x | g)", "(x || g)"])
    def test_silent_with_the_random_slope(self, random):
        assert about_products(laid(f"y ~ x * w + {random}")) == []

    @pytest.mark.parametrize("fixed", ["x * x_dev", "w * x_mean", "x + w"])
    def test_silent_within_one_level(self, fixed):
        assert about_products(laid(f"y ~ {fixed} + (1 | g)")) == []

    def test_silent_for_categories(self):
        data = table()
        data["kind"] = np.where(data["sex"] > 0, "a", "b")
        assert about_products(laid("y ~ kind + kind:w + (1 | g)", data)) == []


class TestIds:
    def crossed(self, sizes, start=1):
        a = np.repeat(np.arange(len(sizes)), sizes)
        b = np.concatenate([np.arange(start, start + k) for k in sizes])
        data = pd.DataFrame({"school": np.repeat(a, 3), "room": np.repeat(b, 3)})
        data["y"] = np.random.default_rng(0).standard_normal(len(data))
        return data

    def test_numbered_within(self):
        data = self.crossed([3, 4, 5, 3, 6, 4, 5, 3])
        (found,) = about_ids(laid("y ~ 1 + (1 | school) + (1 | room)", data))
        assert found.code == "reused_ids"
        assert "numbered from 1 in each of the 8 levels of school (up to 6)" in found.sentence
        assert "(1 | school/room)" in found.mend

    def test_the_mend_mends_it(self):
        data = self.crossed([3, 4, 5, 3, 6, 4, 5, 3])
        assert about_ids(laid("y ~ 1 + (1 | school/room)", data)) == []

    def test_silent_where_everybody_meets_the_same(self):
        data = self.crossed([5] * 8)
        assert about_ids(laid("y ~ 1 + (1 | school) + (1 | room)", data)) == []

    def test_silent_for_other_numbers(self):
        data = self.crossed([3, 4, 5, 3, 6, 4, 5, 3], start=101)
        assert about_ids(laid("y ~ 1 + (1 | school) + (1 | room)", data)) == []

    def test_nested_but_for_a_few(self):
        room = np.repeat(np.arange(60), 5)
        school = room // 6
        school[[4, 299]] = [3, 0]
        data = pd.DataFrame({"room": room, "school": school})
        data["y"] = np.random.default_rng(0).standard_normal(300)
        formula = "y ~ 1 + (1 | room) + (1 | school)"
        (found,) = about_ids(laid(formula, data))
        assert found.code == "nearly_nested"
        assert "2 of 60 levels of room occur in more than one level of school (0, 59)" in (
            found.sentence
        )
        data["school"] = data["room"] // 6
        assert about_ids(laid(formula, data)) == []

    def test_a_few_that_moved_declared_nested(self):
        room = np.repeat(np.arange(60), 5)
        school = room // 6
        data = pd.DataFrame({"room": room, "school": school})
        data["y"] = np.random.default_rng(0).standard_normal(300)
        assert about_ids(laid("y ~ 1 + (1 | school/room)", data)) == []
        data.loc[[4, 299], "school"] = [3, 0]
        (found,) = about_ids(laid("y ~ 1 + (1 | school/room)", data))
        assert (found.code, found.severity) == ("declared_nested", "warning")
        assert "2 of 60 ids of room occur in more than one level of school (0, 59)" in (
            found.sentence
        )
        assert "(1 | school) + (1 | room)" in found.mend
        data["room"] = data["room"] % 6
        assert about_ids(laid("y ~ 1 + (1 | school/room)", data)) == []


def test_split_is_what_the_pairs_are_found_by():
    design = laid("y ~ x + x_mean + (1 | g)")
    (pair,) = mean_pairs(design)
    assert (pair.level1, pair.mean, pair.is_within) == (1, 2, False)
    assert pair.parts.icc == split(design.X[:, 1], design.blocks[0]).icc
