"""How residual structures are written, and how rows are laid out by the value of time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, ModelError
from multilevel.model.residual import check_scale, parse_residual
from tests.support.residual import repeated_measures


def test_structure_is_read():
    term = parse_residual("Toeplitz(time | id:arm, by=sex, band=2)")
    assert (term.structure, term.coordinates, term.factors, term.by, term.order) == (
        "toep", ("time",), ("id", "arm"), "sex", 2,
    )  # fmt: skip
    assert parse_residual("exp(`x pos` + y | id)").coordinates == ("x pos", "y")
    assert parse_residual("fa(t | id, rank=2)").order == 2
    assert parse_residual("ind(by=sex)").factors == ()
    assert check_scale(" ~ sex + x ") == "sex + x"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ar2(time | id)", "must be one of"),
        ("ar1(time)", "right of a bar"),
        ("ar1", "needs the unit"),
        ("ar1(1 | id)", "column of time"),
        ("ar1(time + x | id)", "one column of time"),
        ("ar1(time | id, band=2)", "belongs to toep"),
        ("fa(time | id, rank=0)", "at least 1"),
        ("un(time | id, order=2)", "by=, band= and rank="),
        ("ind(time | id)", "no time"),
        ("ar1 time", "name and a bracket"),
        ("ar1(time | id, x)", "one part"),
    ],
)
def test_faults_of_structures_are_named(text, word):
    with pytest.raises(ModelError, match=word):
        parse_residual(text)


@pytest.mark.parametrize("scale", ["sex", "~", "~ x + (1 | id)"])
def test_faults_of_scale_are_named(scale):
    with pytest.raises(ModelError):
        check_scale(scale)


def data(**changes):
    frame = pd.DataFrame(
        {
            "id": list("aaabbbcccddd"),
            "t": [0.0, 2.0, 6.0, 0.0, 4.0, 6.0, 2.0, 4.0, 6.0, 0.0, 2.0, 4.0],
            "g": list("uuuuuuvvvvvv"),
            "y": [1.0, 2.5, 3.1, 0.3, 1.9, 2.2, 2.0, 4.1, 3.7, 1.2, 0.4, 2.8],
        }
    )
    return frame.assign(**changes)


def layout(frame, residual, formula="y ~ t"):
    return mlm.fit(formula, frame, residual=residual, method="ml").design.residual


def test_gaps_are_decided_by_the_value_and_not_by_the_position():
    found = layout(data(), "ar1(t | id)")
    assert found.time.step == 2.0
    assert found.position[:3, 0].tolist() == [0.0, 1.0, 3.0]
    m = mlm.fit("y ~ t", data(), residual="ar1(t | id)", method="ml")
    R = m.residual_covariance("a")[1].to_numpy()
    rho = m.residual_parameters()["estimate"][0]
    assert R[0, 1] == pytest.approx(rho)
    assert R[1, 2] == pytest.approx(rho**2)
    assert R[0, 2] == pytest.approx(rho**3)


def test_order_of_rows_and_names_of_units_do_not_matter():
    frame = repeated_measures(5)
    m = mlm.fit("y ~ time + (1 | site)", frame, residual="arh1(time | id)")
    shuffled = frame.sample(frac=1.0, random_state=2).reset_index(drop=True)
    again = mlm.fit(
        "y ~ time + (1 | site)",
        shuffled.assign(id="z" + shuffled["id"]),
        residual="arh1(time | id)",
    )
    assert again.reml_criterion == pytest.approx(m.reml_criterion, abs=1e-8)


def test_categories_of_time_are_occasions_in_their_order():
    labels = {0.0: "before", 2.0: "during", 4.0: "after", 6.0: "late"}
    frame = data()
    frame["visit"] = pd.Categorical(frame["t"].map(labels), categories=list(labels.values()))
    by_value = mlm.fit("y ~ t", frame, residual="ar1(t | id)", method="ml")
    by_label = mlm.fit("y ~ t", frame, residual="ar1(visit | id)", method="ml")
    assert by_label.minus2_loglik == pytest.approx(by_value.minus2_loglik, abs=1e-9)


def test_time_in_other_units_changes_nothing():
    for residual in ("ar1(t | id)", "car1(t | id)", "toep(t | id, band=1)"):
        a = mlm.fit("y ~ g", data(), residual=residual, method="ml")
        b = mlm.fit("y ~ g", data(t=data()["t"] * 0.1 + 3.0), residual=residual, method="ml")
        assert a.minus2_loglik == pytest.approx(b.minus2_loglik, abs=1e-8)


def test_equal_steps_make_ar1_the_continuous_autoregression():
    frame = repeated_measures(6, n_ids=40)
    a = mlm.fit("y ~ time + (1 | site)", frame, residual="ar1(time | id)")
    b = mlm.fit("y ~ time + (1 | site)", frame, residual="car1(time | id)")
    c = mlm.fit("y ~ time + (1 | site)", frame, residual="exp(time | id)")
    assert a.residual_parameters()["estimate"][0] > 0.0
    assert b.reml_criterion == pytest.approx(a.reml_criterion, abs=1e-8)
    assert c.reml_criterion == pytest.approx(a.reml_criterion, abs=1e-8)
    assert b.residual_parameters()["estimate"][0] == pytest.approx(
        a.residual_parameters()["estimate"][0], abs=1e-5
    )


def test_positive_compound_symmetry_is_the_random_intercept_and_negative_is_reached():
    frame = repeated_measures(7)
    cs = mlm.fit("y ~ time + x", frame, residual="cs(1 | id)")
    intercept = mlm.fit("y ~ time + x + (1 | id)", frame)
    assert cs.reml_criterion == pytest.approx(intercept.reml_criterion, abs=1e-7)
    rng = np.random.default_rng(1)
    e = rng.normal(size=(60, 3))
    e -= 0.9 * e.mean(axis=1, keepdims=True)
    negative = {"y": e.ravel(), "id": np.repeat(np.arange(60), 3)}
    found = mlm.fit("y ~ 1", negative, residual="cs(1 | id)")
    rho = found.residual_parameters()["estimate"][0]
    assert -0.5 < rho < -0.3
    assert mlm.fit("y ~ 1 + (1 | id)", negative).reml_criterion > found.reml_criterion + 1.0


def test_places_in_the_plane():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"id": np.repeat(np.arange(12), 5), "u": rng.uniform(size=60),
                          "v": rng.uniform(size=60), "y": rng.normal(size=60)})  # fmt: skip
    m = mlm.fit("y ~ u", frame, residual="exp(u + v | id)", method="ml", allow=("not_certified",))
    rows = m.design.residual.order[:5]
    R = m.residual_covariance(0)[1].to_numpy()
    place = frame[["u", "v"]].to_numpy()[rows]
    d = np.sqrt(((place[:, None] - place[None]) ** 2).sum(-1))
    np.testing.assert_allclose(R, np.exp(-d / m.residual_parameters()["estimate"][0]), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "formula", "residual", "word"),
    [
        ({"t": [0.0, 0.0, 6.0] * 4}, "y ~ 1", "ar1(t | id)", "a has the same t in rows 0, 1"),
        ({"t": np.sqrt(np.arange(12.0))}, "y ~ 1", "ar1(t | id)", "no common step"),
        ({}, "y ~ 1 + (1 | id)", "cs(1 | id)", "both describe the same"),
        ({}, "y ~ 1 + (1 | id)", "un(t | id)", "both describe the same"),
        ({}, "y ~ 1 + (1 | id)", "ar1(t | g)", "same t in rows"),
        ({"g": list("uvuvuvuvuvuv")}, "y ~ 1", "ar1(t | id, by=g)", "constant inside each unit"),
        ({"t": [0.0, 1.0, 2.0] * 2 + [3.0, 4.0, 5.0] * 2}, "y ~ 1", "un(t | id)", "both occasions"),
        ({"t": list("kkkkkklmnopq")}, "y ~ 1", "car1(t | id)", "distances in time"),
        ({"id": list("abcdefghijkl")}, "y ~ 1", "ar1(t | id)", "units with several rows"),
    ],
)
def test_data_that_a_structure_cannot_be_laid_over_are_refused(change, formula, residual, word):
    with pytest.raises(DesignError, match=word):
        mlm.fit(formula, data(**change), residual=residual)


def test_missing_times_leave_their_rows_out():
    frame = repeated_measures(4)
    frame.loc[3, "time"] = np.nan
    m = mlm.fit("y ~ x", frame, residual="car1(time | id)", method="ml")
    assert m.n == len(frame) - 1
    assert m.design.rows.missing == {"time": 1}
