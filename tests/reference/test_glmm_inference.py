"""Inference on generalized fits, held against lme4 and glmmTMB.

Tolerances. z statistics follow from estimates and standard errors (see ``test_glmm``). lme4's
profiles interpolate a spline through about ten points, glmmTMB's solve to about 1e-4: limits agree
to 2e-3 of a standard error.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import chi2, norm

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
FITS = json.loads((DATA / "glmm.json").read_text("utf-8"))
PROFILES = json.loads((DATA / "glmm_profile.json").read_text("utf-8"))


def table(name: str) -> pd.DataFrame:
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    if name == "grouseticks":
        frame["cHEIGHT"] = (frame.HEIGHT - frame.HEIGHT.mean()) / 100
        frame["YEAR"] = frame.YEAR.astype(str)
    if name == "cbpp":
        frame["period"] = frame.period.astype(str)
    return frame


def plain(name: str) -> str:
    return name.replace("[", "").replace("]", "")


@lru_cache(maxsize=4)
def cattle():
    return mlm.fit(FITS[0]["formula"], table("cbpp"), family="binomial", n_quad=1, accuracy="none")


@lru_cache(maxsize=4)
def grouse(family: str):
    formula = PROFILES[1]["formula"]
    return mlm.fit(formula, table("grouseticks"), family=family, n_quad=1, accuracy="none")


def test_z_tests_are_those_of_glmmtmb():
    theirs = FITS[0]["fits"]["laplace"]
    found = cattle().coefficients()
    assert found.attrs["df"] == "none"
    for row in found.itertuples():
        name = plain(row.term)
        z = theirs["fixef"][name] / theirs["se"][name]
        assert row.statistic == pytest.approx(z, rel=2e-3)
        assert row.p_value == pytest.approx(2 * norm.sf(abs(row.statistic)), rel=1e-10)
        assert row.std_error == pytest.approx(theirs["se"][name], rel=5e-4)
        assert row.conf_high == pytest.approx(
            row.estimate + norm.ppf(0.975) * row.std_error, abs=1e-12
        )


@pytest.mark.parametrize("index", [0, 1])
def test_profile_intervals_are_those_of_other_programs(index):
    reference = PROFILES[index]
    fit = cattle() if index == 0 else grouse("negative_binomial")
    found = fit.confint("profile", components=["fixed", "sd"])
    ours = {plain(row.term): row for row in found.itertuples() if row.component == "fixed"}
    ours[".sig01"] = next(row for row in found.itertuples() if row.component == "sd")
    for theirs in reference["profile"]:
        row = ours[theirs["term"]]
        size = (theirs["high"] - theirs["low"]) / 4
        assert row.status == "ok"
        assert abs(row.conf_low - theirs["low"]) < 2e-3 * size
        assert abs(row.conf_high - theirs["high"]) < 2e-3 * size


def test_negative_binomial_against_poisson():
    poisson, negative = grouse("poisson"), grouse("negative_binomial")
    row = mlm.compare(poisson, negative).to_frame().iloc[1]
    theirs = PROFILES[1]["minus2ll_poisson"] - PROFILES[1]["minus2ll"]
    assert row.statistic == pytest.approx(theirs, abs=1e-4)
    assert row.p_value == pytest.approx(0.5 * chi2.sf(row.statistic, 1), rel=1e-10)
    alone = poisson.overdispersion_test().iloc[0]
    assert alone.statistic == pytest.approx(row.statistic, abs=1e-6)
    assert alone.p_value == pytest.approx(row.p_value, rel=1e-5)
