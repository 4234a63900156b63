"""Degrees of freedom against lmerTest 3.1-3, pbkrtest 0.5.2 and published values.

Tolerances. Both programs start from lme4's derivative-free optimum, which is off by up to 1e-6 in
a standard error; lmerTest differences the criterion twice (numDeriv), good to about 1e-6. So df
and F are compared to 2e-5, standard errors to 1e-6; the worst seen is 5e-6 (an ML fit of HSB).
P-values in the far tail multiply the relative error of F by df times log F: 1e-4.
"""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from tests.reference.lme4_fits import (
    REFERENCES,
    by_key,
    column_key,
    fitted,
    label,
    ours,
    table,
)

SATTERTHWAITE = [r for r in REFERENCES if r.get("df_satterthwaite")]
KENWARD_ROGER = [r for r in REFERENCES if r.get("kenward_roger")]
ANOVA = [r for r in REFERENCES if r.get("anova3")]


def named(values):
    """R writes a model with one fixed effect without its name."""
    return by_key(values if isinstance(values, dict) else {"(Intercept)": values[0]}, column_key)


def column(frame, name):
    return by_key(frame.set_index("term")[name].to_dict(), column_key)


@pytest.mark.parametrize("reference", SATTERTHWAITE, ids=label)
def test_satterthwaite(reference):
    found = column(ours(reference).coefficients(df="satterthwaite"), "df")
    assert found == pytest.approx(named(reference["df_satterthwaite"]), rel=2e-5)


@pytest.mark.parametrize("reference", KENWARD_ROGER, ids=label)
def test_kenward_roger(reference):
    frame = ours(reference).coefficients(df="kenward-roger")
    expected = reference["kenward_roger"]
    assert column(frame, "df") == pytest.approx(named(expected["df"]), rel=2e-5)
    assert column(frame, "std_error") == pytest.approx(named(expected["se"]), rel=1e-6)


@pytest.mark.parametrize("reference", ANOVA, ids=label)
def test_type_3(reference):
    found = ours(reference).anova(type=3)
    rows = {column_key(row["term"]): row for row in reference["anova3"]}
    assert len(found) == len(rows)
    for row in found.itertuples():
        expected = rows[column_key(row.term)]
        assert row.df_num == expected["NumDF"]
        assert row.df == pytest.approx(expected["DenDF"], rel=2e-5)
        assert row.statistic == pytest.approx(expected["F value"], rel=2e-5)
        assert row.p_value == pytest.approx(expected["Pr(>F)"], rel=1e-4)


# Twelve schools of HSB with cses, meanses and sector: lmerTest and pbkrtest as published, to the
# digits printed.
TWELVE = (1224, 1288, 1296, 1308, 1317, 1358, 1374, 1433, 1436, 1461, 1462, 1477)


@pytest.fixture(scope="module")
def twelve():
    frame = table("Hsb82")
    schools = frame["school"].astype(str).astype(int)
    # the published intercept is that of Public schools
    frame = frame[schools.isin(TWELVE)].assign(sector=lambda d: (d["sector"] == "Catholic") * 1.0)
    return mlm.fit("mAch ~ cses + meanses + sector + (cses | school)", frame)


def test_twelve_schools_satterthwaite(twelve):
    found = twelve.coefficients()
    assert found["df"].to_numpy() == pytest.approx([8.357, 10.429, 7.833, 8.430], abs=6e-4)
    assert "Satterthwaite" in found.attrs["sentence"]


def test_twelve_schools_kenward_roger(twelve):
    found = twelve.coefficients(df="kenward-roger")
    assert found["df"].to_numpy() == pytest.approx([10.070, 10.318, 7.729, 8.326], abs=6e-4)
    assert found["std_error"].to_numpy() == pytest.approx(
        [0.68726, 0.60347, 1.14056, 1.03117], abs=6e-6
    )


def test_between_within_of_the_final_hsb_model():
    # 160 schools and 3 effects of level 2; 7185 pupils and 3 effects of level 1
    m = fitted("Hsb82", "mAch ~ meanses * cses + sector * cses + (cses | school)", "REML")
    found = m.coefficients(df="between-within").set_index("term")["df"].to_dict()
    assert {k: v for k, v in found.items() if "cses" not in k} == {
        "(Intercept)": 157, "meanses": 157, "sector[Public]": 157
    }  # fmt: skip
    assert {v for k, v in found.items() if "cses" in k} == {7022}


@pytest.mark.slow
def test_inst_eval_in_minutes():
    m = fitted("InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", "REML")
    satterthwaite, kenward_roger = m.coefficients(), m.coefficients(df="kenward-roger")
    # no outside value: lmerTest and pbkrtest give up; both methods must tell the same story
    assert np.all(kenward_roger["std_error"] > satterthwaite["std_error"])
    np.testing.assert_allclose(kenward_roger["df"], satterthwaite["df"], rtol=0.1)
    assert kenward_roger.loc[0, "df"] < 20  # 14 departments
