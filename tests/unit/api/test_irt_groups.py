"""Models with slopes whose persons lie in groups or whose items differ between persons."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import multilevel as mlm
from multilevel.errors import DataWarning, DesignError, InferenceError, ModelError
from tests.unit.api.test_irt import NAMES, wide

WIDE = {"person": "pupil", "items": NAMES}
ORDER = ["no", "perhaps", "yes"]


@lru_cache(maxsize=4)
def grouped(model="1pl", groups="school"):
    return mlm.irt(wide(), model=model, persons="x", person_groups=groups, **WIDE)


@lru_cache(maxsize=4)
def verbal(model, **more):
    return mlm.irt(mlm.load_verbagg(), person="id", response="r2", model=model, **more)


def test_equal_slopes_are_the_three_level_rasch_model():
    ours = grouped()
    rows = mlm.irt(
        wide(), persons="x", person_groups="school", n_quad=25, accuracy="none", **WIDE
    )  # fmt: skip
    assert ours.minus2_loglik == pytest.approx(rows.minus2_loglik, abs=1e-4)
    assert ours.n_parameters == rows.n_parameters
    slope = ours.items().discrimination[0]
    between = ours.variances().set_index("group").estimate["school"]
    theirs = rows.variances().set_index("group").estimate
    assert slope**2 == pytest.approx(theirs["pupil"], rel=1e-4)
    assert between * slope**2 == pytest.approx(theirs["school"], rel=1e-4)
    effect, error = ours.coefficients().iloc[0][["estimate", "std_error"]]
    found = rows.coefficients().set_index("term").loc["x"]
    assert effect * slope == pytest.approx(found.estimate, rel=1e-4)
    # the ratio of two estimates: their errors differ by that of the slope only
    assert error * slope == pytest.approx(found.std_error, rel=0.1)
    np.testing.assert_allclose(
        ours.items().easiness, rows.items().easiness, atol=1e-4
    )  # fmt: skip
    np.testing.assert_allclose(ours.items().std_error, rows.items().std_error, rtol=2e-3)
    assert "school" in ours.summary()
    assert "share of the variance between persons" in " ".join(ours.summary().split())


def test_person_estimates_add_up_and_groups_are_tested():
    found = grouped("2pl")
    persons = found.persons()
    persons["school"] = wide().set_index("pupil").school[persons.person].to_numpy()
    own = persons.estimate - persons.predicted - persons.group_effect
    assert persons.groupby("school").group_effect.nunique().eq(1).all()
    assert 0.4 < own.std() < 1.0
    alone = mlm.irt(wide(), model="2pl", persons="x", **WIDE)
    test = found.likelihood_ratio_test(alone)
    assert test.statistic[0] == pytest.approx(alone.minus2_loglik - found.minus2_loglik)
    assert test.distribution[0] == "50:50 mixture of chi2(0) and chi2(1)"
    assert test.p_value[0] < 1e-3
    assert "the larger model fits better" in test.attrs["sentence"]
    assert found.item_fit().infit.between(0.8, 1.2).all()


def test_a_variance_of_groups_of_zero_is_reached():
    rng = np.random.default_rng(0)
    table = wide().assign(team=rng.permutation(np.repeat(np.arange(30), 20)))
    found = mlm.irt(table, model="1pl", person_groups="team", **WIDE)
    alone = mlm.irt(table, model="1pl", **WIDE)
    assert found.certificate.is_certified
    gain = alone.minus2_loglik - found.minus2_loglik
    assert -1e-6 < gain < 4.0
    if gain < 1e-5:
        assert found.variances().estimate[0] < 1e-4


def test_slopes_and_groups_are_recovered():
    rng = np.random.default_rng(12)
    school = np.repeat(np.arange(150), 20)
    theta = rng.normal(size=3000) + 0.7 * rng.normal(size=150)[school]
    a, d = np.linspace(0.6, 1.8, 10), np.linspace(-1.5, 1.5, 10)
    y = (rng.random((3000, 10)) < expit(theta[:, None] * a + d)).astype(int)
    names = [f"q{k}" for k in range(10)]
    table = pd.DataFrame(y, columns=names).assign(id=np.arange(3000), school=school)
    found = mlm.irt(table, person="id", items=names, model="2pl", person_groups="school")
    items = found.items()
    z = (items.discrimination - a) / items.discrimination_std_error
    assert np.abs(z).max() < 3.5
    assert 0.3 < z.std() < 2.0
    fit = found._source.fit
    assert abs(fit.psi[-1] - 0.7) / np.sqrt(fit.vcov[-1, -1]) < 3.0
    assert found.variances().estimate[0] == pytest.approx(fit.psi[-1] ** 2)


def test_differential_functioning_with_equal_slopes_is_that_of_the_rasch_model():
    ours = verbal("1pl", dif="Gender")
    rows = verbal("rasch", dif="Gender", n_quad=25, accuracy="none")
    assert ours.minus2_loglik == pytest.approx(rows.minus2_loglik, abs=1e-4)
    assert ours.n_parameters == rows.n_parameters == 49
    theirs = rows.coefficients().set_index("term")
    mine = ours.coefficients().set_index("term")
    assert list(mine.index) == list(theirs.index)
    slope = ours.items().discrimination[0]
    assert mine.estimate["Gender[M]"] * slope == pytest.approx(
        theirs.estimate["Gender[M]"], abs=1e-3
    )
    np.testing.assert_allclose(mine.estimate[1:], theirs.estimate[1:], atol=1e-3)
    np.testing.assert_allclose(mine.std_error[1:], theirs.std_error[1:], rtol=1e-2)
    a, b = ours.item_fit(), rows.item_fit()
    # one averages over EAPs, the other over modes: outfit is the more sensitive to that
    np.testing.assert_allclose(a.infit, b.infit, atol=0.03)


def test_differential_functioning_beside_slopes_is_tested():
    plain = verbal("2pl", persons="Gender")
    found = verbal("2pl", dif="Gender")
    test = found.likelihood_ratio_test(plain)
    assert test.df[0] == 23
    assert test.p_value[0] < 1e-4
    assert "those of S1DoCurse are zero" in " ".join(found.summary().split())
    steps = mlm.irt(
        mlm.load_verbagg(), person="id", response="resp", model="graded", categories=ORDER,
        dif="Gender",
    )  # fmt: skip
    assert steps.n_parameters == 24 * 3 + 1 + 23
    assert len(steps.items()) == 48


def test_tests_refuse_models_that_are_not_nested():
    two, one = verbal("2pl"), verbal("1pl")
    test = two.likelihood_ratio_test(one)
    assert test.df[0] == 23
    assert test.distribution[0] == "chi2(23)"
    with pytest.raises(InferenceError, match="lacks"):
        one.likelihood_ratio_test(two)
    with pytest.raises(InferenceError, match="fitted by rows"):
        two.likelihood_ratio_test(verbal("rasch", n_quad=1, accuracy="none"))
    with pytest.raises(InferenceError, match="lacks"):
        two.likelihood_ratio_test(verbal("1pl", dif="Gender"))
    with pytest.raises(InferenceError, match="persons or items"):
        grouped().likelihood_ratio_test(one)
    with pytest.raises(InferenceError, match="likelihood_ratio_test"):
        mlm.compare(one, two)


def test_what_cannot_be_had_is_said():
    data = mlm.load_verbagg().to_pandas()
    options = {"person": "id", "response": "r2", "model": "2pl"}
    with pytest.raises(DesignError, match="2 to 12 values"):
        mlm.irt(data, dif="Anger", **options)
    with pytest.raises(DesignError, match="same in all rows"):
        mlm.irt(data, person_groups="situ", **options)
    with pytest.raises(DesignError, match="at least two groups"):
        mlm.irt(data.assign(one=1), person_groups="one", **options)
    with pytest.raises(ModelError, match="one grouping"):
        mlm.irt(data, person_groups=("Gender", "Anger"), **options)
    table = wide().assign(school=wide().school.mask(wide().pupil == "p3"))
    with pytest.warns(DataWarning, match="1 person"):
        found = mlm.irt(table, model="1pl", person_groups="school", **WIDE)
    assert len(found.persons()) == 599
