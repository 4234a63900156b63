"""Factor scores, modification indices and measurement invariance against lavaan 0.6-14."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
TRUTH = json.loads((DATA / "sem_measurement.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def demo():
    return pd.read_csv(DATA / "Demo.twolevel.csv.gz")


@pytest.fixture(scope="module")
def children():
    return pd.read_csv(DATA / "HolzingerSwineford1939.csv.gz")


def test_factor_scores_of_both_levels(demo):
    case = TRUTH["scores"]
    scores = mlm.sem(case["model"], demo, cluster="cluster").factor_scores()
    within = scores[scores["variable"] == "f"]["estimate"].to_numpy()
    between = scores[scores["variable"] == "fb"]["estimate"].to_numpy()
    # lavaan stops its search early: its parameters are good to about 1e-4
    assert np.abs(within - case["within"]).max() < 3e-4
    assert np.abs(between - case["between"]).max() < 3e-4
    assert scores[scores["variable"] == "f"]["row"].tolist() == list(range(len(demo)))


@pytest.mark.parametrize("name", ["modification", "modification_single"])
def test_modification_indices(name, demo, children):
    case = TRUTH[name]
    single = name.endswith("single")
    result = mlm.sem(case["model"], children if single else demo,
                     cluster=None if single else "cluster")  # fmt: skip
    assert result.minus2_loglik == pytest.approx(case["minus2ll"], abs=1e-5)
    found = result.modification_indices()
    ours = {}
    for row in found.itertuples():
        ours[row.level, row.op, row.lhs, row.rhs] = row
        if row.op == "~~":
            ours[row.level, row.op, row.rhs, row.lhs] = row
    size = {"modification": 6, "modification_single": 54}[name]
    assert len(case["rows"]) == size
    for theirs in case["rows"]:
        level = "between" if theirs["level"] == 2 else "within"
        row = ours[level, theirs["op"], theirs["lhs"], theirs["rhs"]]
        assert row.index == pytest.approx(theirs["mi"], rel=2e-3, abs=2e-3)
        assert row.expected_change == pytest.approx(theirs["epc"], rel=2e-3, abs=5e-4)


@pytest.mark.parametrize("name", ["levels_ml", "levels_mlr", "groups_ml", "groups_mlr"])
def test_invariance(name, demo, children):
    case = TRUTH[name]
    kind = {"std_errors": "robust" if name.endswith("mlr") else "observed"}
    if name.startswith("levels"):
        found = mlm.invariance("f =~ y1 + y2 + y3", demo, cluster="cluster", **kind)
        assert found.highest == "weak"
    else:
        found = mlm.invariance(TRUTH["groups_model"], children, group="school", **kind)
        assert found.highest == "weak"
    models = found.models()
    assert models["step"].tolist() == [s["name"] for s in case["steps"]]
    for ours, step in zip(models.itertuples(), case["steps"], strict=True):
        theirs = {k: v for k, v in step["fit"].items() if isinstance(v, (int, float))}
        assert ours.n_parameters == theirs["npar"]
        assert ours.df == theirs["df"]
        assert ours.minus2_loglik == pytest.approx(step["minus2ll"], abs=1e-5)
        assert ours.chi_square == pytest.approx(theirs["chisq"], abs=1e-3)
        assert ours.aic == pytest.approx(theirs["aic"], abs=1e-4)
        assert ours.bic == pytest.approx(theirs["bic"], abs=1e-4)
        assert ours.rmsea == pytest.approx(theirs["rmsea"], abs=1e-5)
        # lavaan's baseline model does not converge for one of the steps
        for name_of in ("cfi", "tli"):
            if name_of in theirs:
                assert getattr(ours, name_of) == pytest.approx(theirs[name_of], abs=1e-5)
        if "srmr_within" in theirs:
            assert ours.srmr_within == pytest.approx(theirs["srmr_within"], abs=3e-4)
            assert ours.srmr_between == pytest.approx(theirs["srmr_between"], abs=3e-4)
        if "chisq.scaled" in theirs and theirs["df"]:
            assert ours.chi_square_scaled == pytest.approx(theirs["chisq.scaled"], rel=2e-3)


@pytest.mark.parametrize("name", ["levels_ml", "groups_ml", "groups_mlr"])
def test_difference_tests(name, demo, children):
    case = TRUTH[name]["tests"]
    kind = {"std_errors": "robust" if name.endswith("mlr") else "observed"}
    if name.startswith("levels"):
        found = mlm.invariance("f =~ y1 + y2 + y3", demo, cluster="cluster", **kind)
    else:
        found = mlm.invariance(TRUTH["groups_model"], children, group="school", **kind)
    tests = found.tests()
    assert tests["df"].tolist() == case["df"]
    assert tests["statistic"].tolist() == pytest.approx(case["statistic"], abs=1e-3)
    assert tests["p_value"].tolist() == pytest.approx(case["p_value"], abs=1e-4)
