"""Pictures of generalized fits: what is drawn, and that it can be drawn."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.report.plots.backend import to_png
from multilevel.report.plots.generalized.catalogue import PICTURES, pictures_for
from tests.unit.interpret.generalized.models import FAMILIES, fitted, table

FAST = [name for name in FAMILIES if name != "nominal"]


@pytest.mark.parametrize("name", FAST)
def test_every_family_names_pictures_that_it_can_give(name):
    fit = fitted(name)
    names = pictures_for(fit._evidence())
    assert "quantile_residuals" in names
    for picture in names:
        assert fit.plot(picture).layers


@pytest.mark.parametrize("name", [n for n in PICTURES if n != "categories"])
def test_pictures_are_drawn(name):
    assert to_png(fitted("poisson").plot(name), dpi=40)[:4] == b"\x89PNG"


def test_categories_are_drawn_and_add_up_to_one():
    picture = fitted("cumulative").plot("categories", predictor="x")
    assert to_png(picture, dpi=40)[:4] == b"\x89PNG"
    assert picture.data.groupby("x")["y"].sum().to_numpy() == pytest.approx(1.0)


def test_the_expected_curve_is_the_prediction():
    data = {**table(), "w": np.sin(np.arange(300.0)), "c": np.array(["a", "b"])[np.arange(300) % 2]}
    fit = mlm.fit("binary ~ x + w + c + (1 | g)", data, family="binomial", n_quad=1)
    drawn = fit.plot("expected", predictor="x").data
    kinds = {"random effects of zero": "population", "averaged over clusters": "marginal"}
    for label, kind in kinds.items():
        rows = drawn[drawn["Expectation"] == label]
        k = len(rows)
        new = {"x": rows["x"], "w": np.full(k, data["w"].mean()), "c": np.full(k, "a")}
        found = fit.predict(new, kind=kind, interval=True)
        assert np.allclose(rows["y"], found["estimate"])
        assert np.allclose(rows["high"], found["conf_high"])


def test_cluster_curves_are_conditional_predictions():
    fit = fitted("logit", "(x | g)")

    drawn = fit.plot("clusters").data
    one = drawn[drawn["cluster"] == "3"]
    level = fit.design.blocks[0].levels[3]
    found = fit.predict({"x": one["x"], "g": np.full(len(one), level)})
    assert np.allclose(one["y"], found["estimate"])


def test_rootogram_hangs_observed_frequencies():
    picture = fitted("poisson").plot("rootogram")
    bars = picture.data
    height = (bars["top"] - bars["bottom"]).to_numpy()
    counts = np.bincount(table()["count"].astype(int))[: len(bars)]
    assert np.allclose(height**2, counts)


@pytest.mark.parametrize(
    ("name", "picture", "options", "named"),
    [
        ("logit", "rootogram", {}, "counts"),
        ("logit", "categories", {}, "expected"),
        ("cumulative", "expected", {}, "categories"),
        ("logit", "piles", {}, "caterpillar"),
        ("logit", "expected", {"group": "g"}, "predictor"),
        ("logit", "clusters", {"group": "zz"}, "one of g"),
    ],
)
def test_what_cannot_be_drawn_says_why(name, picture, options, named):
    with pytest.raises(InferenceError, match=named):
        fitted(name).plot(picture, **options)
