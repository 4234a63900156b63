"""Every piece of advice fires where it should, and stays silent where it should not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from multilevel.design.build import build_design
from multilevel.estimate.records import RedundantDirection
from multilevel.interpret.advice.advise import advise
from multilevel.interpret.advice.centring import about_predictors, about_random_slopes, about_scales
from multilevel.interpret.advice.clusters import about_numbers, about_sizes
from multilevel.interpret.advice.columns import split
from multilevel.interpret.advice.optimum import about_boundary, about_certificate
from multilevel.model.formula.parse import parse_formula
from tests.unit.interpret.support import block, certificate, design, fit

ONE = ("(Intercept)",)


def table(J=40, n=10, seed=0, mixed=1.0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    x = rng.standard_normal(J * n) + mixed * rng.standard_normal(J)[g]
    frame = pd.DataFrame({"y": rng.standard_normal(J * n), "x": x, "g": g})
    frame["x_mean"] = frame.groupby("g")["x"].transform("mean")
    frame["x_within"] = frame["x"] - frame["x_mean"]
    frame["w"] = rng.standard_normal(J)[g]
    frame["code"] = np.tile([-0.5, 0.5], J * n // 2)
    frame["time"] = np.tile(np.arange(n) - (n - 1) / 2, J)
    frame["kind"] = np.where(rng.random(J * n) < 0.1 + 0.8 * rng.random(J)[g], "in", "out")
    frame["school"] = frame["g"] // 2
    return frame


def laid(formula, data=None):
    return build_design(parse_formula(formula), table() if data is None else data)


def codes(found):
    return [advice.code for advice in found]


class TestSmushedSlope:
    def test_a_mixed_predictor_alone(self):
        (found,) = about_predictors(laid("y ~ x + (1 | g)"))
        assert (found.code, found.severity) == ("smushed_slope", "warning")
        icc = split(table()["x"].to_numpy(), laid("y ~ x + (1 | g)").blocks[0]).icc
        assert f"{100 * icc:.0f}% of the variance of x" in found.sentence
        assert "+ between(x, g)" in found.mend

    @pytest.mark.parametrize("name", ["center(x)", "center(x, 3)", "scale(x)"])
    def test_subtracting_a_constant_does_not_help(self, name):
        (found,) = about_predictors(laid(f"y ~ {name} + (1 | g)"))
        assert found.code == "smushed_slope"
        assert "between(x, g)" in found.mend

    def test_the_mend_mends_it(self):
        assert about_predictors(laid("y ~ x + between(x, g) + (1 | g)")) == []

    @pytest.mark.parametrize(
        "fixed", ["x + x_mean", "x_within + x_mean", "x + x_within", "x + I(x_mean * 10)"]
    )
    def test_silent_where_both_parts_can_be_told_apart(self, fixed):
        assert about_predictors(laid(f"y ~ {fixed} + (1 | g)")) == []

    def test_silent_for_a_mean_from_slightly_other_rows(self):
        data = table()
        data["x_mean"] += 0.02 * np.sin(data["g"])
        assert about_predictors(laid("y ~ x + x_mean + (1 | g)", data)) == []

    def test_another_cluster_predictor_is_not_the_mean(self):
        assert codes(about_predictors(laid("y ~ x + w + (1 | g)"))) == ["smushed_slope"]

    def test_an_indicator_of_a_category(self):
        (found,) = about_predictors(laid("y ~ kind + (1 | g)"))
        assert "kind[out]" in found.sentence
        assert "share" in found.mend

    @pytest.mark.parametrize("fixed", ["w", "code", "time", "x_within + x_mean", "log(abs(x))"])
    def test_silent_without_two_parts_or_for_transformations(self, fixed):
        assert about_predictors(laid(f"y ~ {fixed} + (1 | g)")) == []

    def test_silent_without_a_random_intercept(self):
        assert about_predictors(laid("y ~ x + (0 + time | g)")) == []


class TestClusterMeanLeftOut:
    def test_within_part_alone(self):
        (found,) = about_predictors(laid("y ~ x_within + (1 | g)"))
        assert (found.code, found.severity) == ("cluster_mean_left_out", "note")

    def test_within_call_alone(self):
        (found,) = about_predictors(laid("y ~ within(x, g) + (1 | g)"))
        assert found.mend == "Add + between(x, g) to the formula."

    @pytest.mark.parametrize(
        "fixed",
        ["x_within + x_mean", "within(x, g) + between(x, g)", "code", "time", "code * time"],
    )
    def test_silent_with_the_mean_and_for_balanced_codes(self, fixed):
        assert about_predictors(laid(f"y ~ {fixed} + (1 | g)")) == []


class TestRandomSlopes:
    def test_slope_of_a_mixed_predictor(self):
        (found,) = about_random_slopes(laid("y ~ x + x_mean + (x | g)"))
        assert (found.code, found.severity) == ("random_slope_of_mixed_predictor", "warning")
        assert "within(x, g)" in found.mend

    def test_the_mend_mends_it(self):
        formula = "y ~ within(x, g) + between(x, g) + (within(x, g) | g)"
        assert about_random_slopes(laid(formula)) == []

    @pytest.mark.parametrize("name", ["code", "time"])
    def test_silent_for_predictors_without_a_between_part(self, name):
        assert about_random_slopes(laid(f"y ~ {name} + ({name} | g)")) == []

    def test_slope_without_a_fixed_slope(self):
        (found,) = about_random_slopes(laid("y ~ 1 + (time | g)"))
        assert found.code == "random_without_fixed"
        assert "time has a random slope over g but no fixed slope" in found.sentence

    def test_intercept_without_a_fixed_intercept(self):
        (found,) = about_random_slopes(laid("y ~ 0 + x + (1 | g)"))
        assert found.code == "random_without_fixed"
        assert "average is held at zero" in found.sentence

    def test_all_indicators_stand_for_the_intercept(self):
        assert about_random_slopes(laid("y ~ 0 + kind + (0 + kind | g)")) == []
        assert about_random_slopes(laid("y ~ kind + (0 + kind | g)")) == []

    def test_slope_of_a_cluster_predictor(self):
        by_hand = table()
        g = block(
            "g", by_hand["g"], np.column_stack([np.ones(400), by_hand["w"]]), ("(Intercept)", "w")
        )
        X = np.column_stack([np.ones(400), by_hand["w"]])
        found = about_random_slopes(design(by_hand["y"], X, ("(Intercept)", "w"), [g]))
        assert codes(found) == ["random_slope_of_cluster_predictor"]


def one_block(sizes, q=1, weights=None):
    rows = np.repeat(np.arange(len(sizes)), sizes)
    columns = np.column_stack([np.ones(len(rows)), np.arange(len(rows))])[:, :q]
    g = block("g", rows, columns, ("(Intercept)", "x")[:q])
    return design(np.arange(len(rows)), np.ones(len(rows)), ONE, [g], weights=weights)


class TestNumbersAndSizes:
    @pytest.mark.parametrize(
        ("J", "expected"), [(9, "warning"), (10, "note"), (29, "note"), (30, None)]
    )
    def test_few_clusters(self, J, expected):
        found = about_numbers(one_block([5] * J))
        assert [advice.severity for advice in found] == ([expected] if expected else [])
        assert all(f"g has {J} levels" in advice.sentence for advice in found)

    def test_rather_few_clusters_depends_on_the_method(self):
        data = table(J=20)
        (found,) = about_numbers(laid("y ~ x + w + (1 | g)", data))
        assert "about 18 denominator degrees of freedom" in found.sentence
        ml = build_design(parse_formula("y ~ x + w + (1 | g)", "ml"), data)
        (found,) = about_numbers(ml)
        assert 'method="reml"' in found.mend

    def test_many_cluster_predictors(self):
        data = table(J=30)
        for k in range(4):
            data[f"w{k}"] = np.sin((k + 1.3) * data["g"])
        most = about_numbers(laid("y ~ x + w0 + w1 + w2 + (1 | g)", data))
        assert most == []
        (found,) = about_numbers(laid("y ~ x + w0 + w1 + w2 + w3 + (1 | g)", data))
        assert found.sentence.startswith("4 coefficients (w0, w1, w2, w3) rest on the 30 levels")

    def test_clusters_no_larger_than_their_random_effects(self):
        (found,) = about_sizes(one_block([2, 2, 2, 2, 5, 6, 7], q=2))
        assert (found.code, found.severity) == ("small_clusters", "warning")
        assert "4 of 7 levels of g have at most 2 rows" in found.sentence
        assert about_sizes(one_block([2, 2, 2, 5, 5, 6, 7], q=2)) == []

    def test_clusters_of_one_or_two(self):
        (found,) = about_sizes(one_block([1, 2, 2, 2, 5, 6]))
        assert found.severity == "note"
        assert about_sizes(one_block([3, 3, 2, 2, 5, 6])) == []

    def test_one_row_in_every_cluster(self):
        (found,) = about_sizes(one_block([1] * 40))
        assert (found.code, found.severity) == ("one_row_per_cluster", "error")
        (weighted,) = about_sizes(one_block([1] * 40, weights=np.linspace(1, 2, 40)))
        assert weighted.severity == "warning"


class TestOptimum:
    def test_not_certified(self):
        bad = fit([0.0], [[[1.0]]], 1.0, cert=certificate("not_certified", sentence="It stopped."))
        (found,) = about_certificate(bad)
        assert (found.code, found.severity) == ("not_certified", "error")
        assert "It stopped." in found.sentence
        assert about_certificate(fit([0.0], [[[1.0]]], 1.0)) == []

    def test_a_redundant_direction_speaks_for_itself(self):
        direction = RedundantDirection("g", {"x": 1.0}, "The slope of x does not vary over g.")
        cert = certificate("singular", (direction,))
        singular = fit([0.0], [np.diag([1.0, 0.0])], 1.0, cert=cert)
        (found,) = about_boundary(one_block([5] * 40, q=2), singular)
        assert found.sentence == "The slope of x does not vary over g."
        assert "(1 + x || g)" in found.mend

    def test_a_correlation_near_one(self):
        tied = np.array([[1.0, 0.0], [1.0, 0.05]])
        (found,) = about_boundary(one_block([5] * 40, q=2), fit([0.0], [tied], 1.0))
        assert "correlate 0.999" in found.sentence
        free = np.array([[1.0, 0.0], [1.0, 0.5]])
        assert about_boundary(one_block([5] * 40, q=2), fit([0.0], [free], 1.0)) == []


def test_scales():
    data = table()
    data["income"] = 40_000 * data["time"]
    (found,) = about_scales(laid("y ~ code + income + (1 | g)", data))
    assert found.severity == "note"
    assert "income" in found.sentence
    assert "code" in found.sentence
    assert about_scales(laid("y ~ code + time + (1 | g)")) == []


def test_all_together_errors_first():
    data = table(J=8)
    laid_out = laid("y ~ x + (1 | g)", data)
    bad = fit([0.0, 0.0], [[[1.0]]], 1.0, cert=certificate("not_certified"))
    found = advise(laid_out, bad)
    assert codes(found)[0] == "not_certified"
    assert set(codes(found)) == {"not_certified", "smushed_slope", "few_clusters"}
    assert str(found[0]).startswith("error: ")
    good = replace(bad, certificate=certificate())
    assert advise(laid("y ~ x_within + x_mean + (1 | g)"), good) == ()
