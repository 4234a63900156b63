"""Structural models against lavaan on its own two-level example data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
FIRST = json.loads((DATA / "sem.json").read_text("utf-8"))
MORE = json.loads((DATA / "sem_more.json").read_text("utf-8"))
LEVELS = {1: "within", 2: "between"}
#: lavaan stops its search early. A criterion that is d above its minimum leaves the estimates
#: within sqrt(d) standard errors of it, and -2 log-likelihoods are held to 1e-5.
OF_STANDARD_ERROR = 3e-3


def _data(kind: str) -> pd.DataFrame:
    """The holes and groups of scripts/regenerate_reference_sem.R."""
    full = pd.read_csv(DATA / "Demo.twolevel.csv.gz")
    i = np.arange(1, len(full) + 1)
    full["g"] = np.where(full["cluster"] % 2 == 0, "even", "odd")
    if kind == "full":
        return full
    holes = full.copy()
    holes.loc[i % 7 == 3, "y1"] = np.nan
    holes.loc[i % 11 == 5, "y2"] = np.nan
    holes.loc[full["x1"] > 1.2, "y3"] = np.nan
    holes.loc[i % 13 == 0, "x2"] = np.nan
    if kind == "holes_level2":
        holes.loc[full["cluster"] % 10 == 4, "w1"] = np.nan
    return holes


def _std_errors(case: dict) -> str:
    if case["estimator"] == "MLR":
        return "robust"
    return case.get("information", "observed")


@pytest.fixture(scope="module", params=range(len(FIRST) + len(MORE)), ids=lambda k: (
    lambda c: f"{c['name']}-{c['estimator']}"
)((FIRST + MORE)[k]))  # fmt: skip
def pair(request):
    case = (FIRST + MORE)[request.param]
    result = mlm.sem(
        case["model"],
        _data(case.get("data", "full")),
        cluster="cluster" if case.get("has_cluster", True) else None,
        group=case.get("group"),
        exogenous="modelled" if case.get("is_modelled") else "auto",
        std_errors=_std_errors(case),
    )
    return case, result


def _rows(case, result):
    """Rows of both programs side by side: (theirs, ours)."""
    table = result.parameters()
    groups = list(dict.fromkeys(table["group"]))
    table["rhs"] = table["rhs"].where(table["op"] != "~1", "")
    place = {}
    for row in table.itertuples():
        key = (row.level, groups.index(row.group) + 1, row.op)
        place[(*key, row.lhs, row.rhs)] = row
        if row.op == "~~":
            place[(*key, row.rhs, row.lhs)] = row
    out = []
    for e in case["est"]:
        if e["op"] in ("~", "~~", "=~", "~1"):
            level = LEVELS[e["level"]]
            out.append((e, place[level, e.get("group", 1), e["op"], e["lhs"], e["rhs"]]))
    return out


def test_optimum_is_certified_and_not_above_lavaans(pair):
    case, result = pair
    assert result.certificate.is_certified
    assert not result.inadmissible
    assert result.minus2_loglik == pytest.approx(case["minus2ll"], abs=1e-5)
    assert result.fit.n_parameters == case.get("npar", case["fit"].get("npar"))


def test_estimates(pair):
    for theirs, ours in _rows(*pair):
        size = max(1e-4 * abs(theirs["est"]), OF_STANDARD_ERROR * theirs["se"], 2e-5)
        assert ours.estimate == pytest.approx(theirs["est"], abs=size), ours
        assert (ours.status == "free") == (theirs["se"] > 0.0)


def _is_mean_of_within_only(pair, row) -> bool:
    """lavaan's robust error of a within-only mean is 0.7% off what the definition gives."""
    case, result = pair
    names = result.fit.model.within_only
    is_two_level = case.get("has_cluster", True)
    return case["estimator"] == "MLR" and is_two_level and row.op == "~1" and row.lhs in names


def test_robust_error_of_a_within_only_mean_is_its_definition():
    data = _data("full")
    text = next(c["model"] for c in MORE if c["name"] == "path")
    result = mlm.sem(text, data, cluster="cluster", exogenous="modelled", std_errors="robust")
    table = result.parameters()
    ours = table[(table["lhs"] == "x1") & (table["op"] == "~1")]["std_error"].item()
    sums = (data["x1"] - data["x1"].mean()).groupby(data["cluster"]).sum()
    assert ours == pytest.approx(np.sqrt((sums**2).sum()) / len(data), rel=1e-9)


def test_standard_errors(pair):
    for theirs, ours in _rows(*pair):
        if theirs["se"] > 0.0 and not _is_mean_of_within_only(pair, ours):
            assert ours.std_error == pytest.approx(theirs["se"], rel=1e-3), ours


def test_standardized_solution(pair):
    case, result = pair
    checked = 0
    for theirs, ours in _rows(case, result):
        if theirs.get("std") is not None and ours.status == "free":
            assert ours.standardized == pytest.approx(theirs["std"], abs=2e-4), ours
            checked += 1
    assert checked or case in FIRST


def test_fit_measures(pair):
    case, result = pair
    theirs, ours = case["fit"], result.fit_measures
    assert ours.model.df == theirs["df"]
    # the saturated model of lavaan stops early (EM), and never below ours
    assert -1e-4 < ours.model.statistic - theirs["chisq"] < 5e-3
    assert ours.aic == pytest.approx(theirs["aic"], abs=1e-4)
    assert ours.bic == pytest.approx(theirs["bic"], abs=1e-4)
    assert ours.cfi == pytest.approx(theirs["cfi"], abs=1e-4)
    assert ours.tli == pytest.approx(theirs["tli"], abs=1e-4)
    assert ours.rmsea == pytest.approx(theirs["rmsea"], abs=1e-4)
    if "baseline.chisq" in theirs:
        assert ours.baseline.df == theirs["baseline.df"]
        assert ours.baseline.statistic == pytest.approx(theirs["baseline.chisq"], rel=1e-4)
    if "srmr_within" in theirs:
        assert ours.srmr_within == pytest.approx(theirs["srmr_within"], abs=2e-4)
        assert ours.srmr_between == pytest.approx(theirs["srmr_between"], abs=2e-4)
    if theirs["df"] and "rmsea.ci.upper" in theirs:
        assert ours.rmsea_high == pytest.approx(theirs["rmsea.ci.upper"], abs=1e-4)
        assert ours.rmsea_low == pytest.approx(theirs["rmsea.ci.lower"], abs=1e-4)
    if theirs["df"] and "chisq.scaling.factor" in theirs:
        # modelled within-only predictors: lavaan's scores of their means are off (see above)
        rel = 5e-3 if case["is_modelled"] and case["has_cluster"] else 1e-3
        assert ours.model.scaling == pytest.approx(theirs["chisq.scaling.factor"], rel=rel)
        assert ours.cfi_robust == pytest.approx(theirs["cfi.robust"], abs=2e-4)
        assert ours.rmsea_robust == pytest.approx(theirs["rmsea.robust"], abs=2e-4)
