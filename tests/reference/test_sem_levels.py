"""Fit of one level, the other saturated, against lavaan 0.6-14."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
TRUTH = json.loads((DATA / "sem_levels.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def demo():
    return pd.read_csv(DATA / "Demo.twolevel.csv.gz")


@pytest.mark.parametrize("name", ["items", "items_mlr", "predictors"])
def test_chi_square_of_each_level(name, demo):
    case = TRUTH[name]
    is_robust = name.endswith("mlr")
    model = mlm.sem(
        case["model"], demo, cluster="cluster", std_errors="robust" if is_robust else "observed"
    )
    found = model.fit_by_level().set_index("level")
    for level in ("within", "between"):
        ours, theirs = found.loc[level], case[level]
        # lavaan stops the search for its saturated model early; the density of chi-square(2) is
        # at most 0.5, so that p is half as far off
        assert ours["chi_square"] == pytest.approx(theirs["chisq"], abs=1e-3)
        assert ours["df"] == theirs["df"]
        assert ours["p_value"] == pytest.approx(theirs["pvalue"], abs=5e-4)
        if is_robust:
            factor = theirs["chisq.scaling.factor"]
            assert ours["scaling"] == pytest.approx(factor, rel=2e-3)
            assert ours["chi_square_scaled"] == pytest.approx(theirs["chisq.scaled"], rel=3e-3)


def test_indices_of_each_level_by_their_formulas(demo):
    case = TRUTH["items"]
    found = mlm.sem(case["model"], demo, cluster="cluster").fit_by_level().set_index("level")
    for level, units in (("within", 2500), ("between", 200)):
        own, base = case[level], case[f"{level}_baseline"]
        excess = max(own["chisq"] - own["df"], 0.0)
        ours = found.loc[level]
        assert ours["n_units"] == units
        assert ours["rmsea"] == pytest.approx((excess / own["df"] / units) ** 0.5, abs=1e-4)
        assert ours["cfi"] == pytest.approx(1 - excess / (base["chisq"] - base["df"]), abs=1e-5)
        ratio = (own["chisq"] / own["df"] - 1) / (base["chisq"] / base["df"] - 1)
        assert ours["tli"] == pytest.approx(1 - ratio, abs=1e-5)
    assert found.loc["between", "cfi"] < 0.95 < found.loc["within", "cfi"]
