"""The door: options, warnings, seconds, and what comes out."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.api import fit as door
from multilevel.errors import (
    ConvergenceWarning,
    DataWarning,
    DesignError,
    EstimationError,
    FormulaError,
    ModelError,
    TableError,
)
from tests.unit.interpret.support import certificate


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 6)
    x = np.tile(np.arange(6.0), 30)
    y = 1 + x + rng.standard_normal(30)[g] + 0.5 * rng.standard_normal(180)
    return pd.DataFrame({"y": y, "x": x, "g": g, "w": rng.uniform(0.5, 2, 180)})


def test_defaults(data):
    result = mlm.fit("y ~ x + (1 | g)", data)
    assert result.method == "reml"
    assert result.n == 180
    assert list(result.fit.seconds) == ["formula", "design", "cross-products", "estimation"]
    assert all(value >= 0 for value in result.fit.seconds.values())


def test_no_warning_for_a_singular_fit(data):
    flat = data.assign(y=data["y"] - data.groupby("g")["y"].transform("mean"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = mlm.fit("y ~ x + (1 | g)", flat)
    assert result.is_singular
    assert result.certificate.is_certified


def test_a_dropped_column_is_a_warning_or_an_error(data):
    twice = data.assign(x2=2 * data["x"])
    with pytest.warns(DataWarning, match="1 fixed-effect column.*x2") as caught:
        result = mlm.fit("y ~ x + x2 + (1 | g)", twice)
    assert caught[0].filename == __file__
    assert list(result.fixed_effects.index) == ["(Intercept)", "x"]
    with pytest.raises(DesignError, match="x2"):
        mlm.fit("y ~ x + x2 + (1 | g)", twice, rank_deficient="refuse")


def test_an_uncertified_fit_is_refused_at_the_door_unless_allowed(data, monkeypatch):
    solve = door.solve

    def stopped(prepared):
        from dataclasses import replace

        return replace(
            solve(prepared), certificate=certificate("not_certified", sentence="It stopped early.")
        )

    monkeypatch.setattr(door, "solve", stopped)
    with pytest.raises(EstimationError, match="It stopped early") as refused:
        mlm.fit("y ~ x + (1 | g)", data)
    assert 'allow=("not_certified",)' in refused.value.remedy
    with pytest.warns(ConvergenceWarning, match="It stopped early") as caught:
        m = mlm.fit("y ~ x + (1 | g)", data, allow="not_certified")
    assert caught[0].filename == __file__
    assert m.advice[0].code == "not_certified"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "mle"}, ModelError, "'reml' or 'ml'"),
        ({"engine": "fast"}, EstimationError, "nested"),
        ({"rank_deficient": "ignore"}, DesignError, "'drop' or 'refuse'"),
        ({"weights": "z"}, (DesignError, TableError), "z"),
    ],
)
def test_options_are_checked_with_the_allowed_list(data, options, error, words):
    with pytest.raises(error, match=words):
        mlm.fit("y ~ x + (1 | g)", data, **options)


def test_bad_formula_and_bad_data(data):
    with pytest.raises(FormulaError):
        mlm.fit("y ~ x + (1 | g", data)
    with pytest.raises((TableError, DesignError), match="z"):
        mlm.fit("y ~ z + (1 | g)", data)
    with pytest.raises(TableError, match="must be a table"):
        mlm.fit("y ~ x + (1 | g)", 3)


def test_constant_weights_change_nothing_but_the_scale(data):
    plain = mlm.fit("y ~ x + (1 | g)", data)
    heavy = mlm.fit("y ~ x + (1 | g)", data, weights=np.full(180, 4.0))
    np.testing.assert_allclose(heavy.fixed_effects, plain.fixed_effects, rtol=1e-7)
    assert heavy.residual_variance == pytest.approx(4 * plain.residual_variance, rel=1e-6)


def test_engines_agree(data):
    chosen = mlm.fit("y ~ x + (1 | g)", data)
    for engine in ("small", "nested", "sparse"):
        other = mlm.fit("y ~ x + (1 | g)", data, engine=engine)
        assert other.fit.engine == engine
        assert other.reml_criterion == pytest.approx(chosen.reml_criterion, abs=1e-6)


def test_advice_can_be_left_out_of_the_summary(data):
    mixed = data.assign(x=data["x"] + 5 * np.sin(data["g"]))
    assert "Advice" in str(mlm.fit("y ~ x + (1 | g)", mixed))
    quiet = mlm.fit("y ~ x + (1 | g)", mixed, advice=False)
    assert "Advice" not in str(quiet)
    assert "Advice" not in quiet._repr_html_()
    assert quiet.advice[0].code == "smushed_slope"


def test_labels_of_a_table_reach_the_summary():
    assert "Mathematics achievement" in str(mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb()))
