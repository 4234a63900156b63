"""The door to item response models: formulas, tables of items and persons, comparisons, errors."""

from __future__ import annotations

import pickle
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import multilevel as mlm
from multilevel.errors import (
    DataWarning,
    DesignError,
    EstimationError,
    InferenceError,
    ModelError,
    TableError,
)
from multilevel.model.irt import ItemWords, item_formula

FEATURES = "btype + situ + mode"
NAMES = [f"i{k}" for k in range(1, 9)]


def formula_of(model: str, **more) -> str:
    return item_formula(ItemWords("p", "i", "y", model, **more)).formula


@lru_cache(maxsize=16)
def verbal(model: str, **more):
    more.setdefault("n_quad", 1 if model not in ("2pl", "1pl") else None)
    return mlm.irt(
        mlm.load_verbagg(), person="id", response="r2", model=model, accuracy="none", **more
    )


@lru_cache(maxsize=2)
def wide() -> pd.DataFrame:
    """Eight items, 600 persons in 30 schools, one predictor, some responses missing."""
    rng = np.random.default_rng(8)
    x, school = rng.normal(size=600), np.repeat(np.arange(30), 20)
    theta = 0.6 * x + rng.normal(size=600) + 0.5 * rng.normal(size=30)[school]
    y = (rng.random((600, 8)) < expit(theta[:, None] + np.linspace(-1.5, 1.5, 8))).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    frame = pd.DataFrame(y, columns=NAMES)
    frame.insert(0, "pupil", [f"p{k}" for k in range(600)])
    return frame.assign(x=x, school=school)


@pytest.mark.parametrize(
    ("model", "more", "formula"),
    [
        ("empty", {}, "y ~ 1"),
        ("persons", {}, "y ~ 1 + (1 | p)"),
        ("items", {}, "y ~ 1 + (1 | i)"),
        ("rasch", {}, "y ~ 0 + i + (1 | p)"),
        ("rasch", {"persons": "x + z"}, "y ~ 0 + i + x + z + (1 | p)"),
        ("rasch", {"dif": "g"}, "y ~ 0 + i + g + i:g + (1 | p)"),
        ("rasch", {"dif": "g", "persons": "g"}, "y ~ 0 + i + g + i:g + (1 | p)"),
        ("rasch", {"person_groups": ("s",)}, "y ~ 0 + i + (1 | s) + (1 | p)"),
        ("rasch", {"family": "cumulative"}, "y ~ i + (1 | p)"),
        ("random_items", {"testlets": ("t",)}, "y ~ 1 + (1 | p) + (1 | t) + (1 | i)"),
        ("lltm", {"features": "a + b"}, "y ~ a + b + (1 | p)"),
        ("lltm_error", {"features": "a + b", "dif": "g"},
         "y ~ a + b + g + a:g + b:g + (1 | p) + (1 | i)"),
        ("lltm_error", {"features": "a", "slopes": ("a",)}, "y ~ a + (1 + a | p) + (1 | i)"),
        ("pcm", {}, "y ~ 0 + (1 | p)"),
    ],
)  # fmt: skip
def test_formula_of_each_model(model, more, formula):
    assert formula_of(model, **more) == formula


def test_lltm_is_the_multilevel_model_of_its_call():
    found = verbal("lltm_error", features=FEATURES)
    assert found.call.startswith(f'fit("r2 ~ {FEATURES} + (1 | id) + (1 | item)"')
    plain = mlm.fit(
        f"r2 ~ {FEATURES} + (1 | id) + (1 | item)",
        mlm.load_verbagg(),
        family="binomial",
        accuracy="none",
    )
    assert found.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-8)
    table = found.coefficients()
    np.testing.assert_allclose(table.estimate, plain.fixed_effects, rtol=1e-8)
    np.testing.assert_allclose(table.std_error, np.sqrt(np.diag(plain.vcov_fixed)), rtol=1e-8)
    assert found.model.minus2_loglik == found.minus2_loglik
    assert found.aic == found.minus2_loglik + 2 * 7
    assert found.bic == pytest.approx(found.minus2_loglik + 7 * np.log(7584))


def test_easiness_of_features_is_their_linear_predictor():
    found = verbal("lltm", features=FEATURES, persons="Anger + Gender")
    b = found.model.fixed_effects
    items = found.items().set_index("item")
    expected = b["(Intercept)"] + b["btype[scold]"] + b["situ[self]"]
    assert items.easiness["S3DoScold"] == pytest.approx(expected)
    V = found.model.vcov_fixed
    at = ["(Intercept)", "btype[scold]", "situ[self]"]
    assert items.std_error["S3DoScold"] == pytest.approx(np.sqrt(V.loc[at, at].to_numpy().sum()))
    np.testing.assert_array_equal(items.difficulty, -items.easiness)


def test_random_items_shrink_towards_what_is_predicted():
    empty, explained = verbal("random_items"), verbal("lltm_error", features=FEATURES)
    lltm = verbal("lltm", features=FEATURES)
    fixed = verbal("rasch").items().set_index("item").easiness
    centre = empty.coefficients().estimate[0]
    shrunken = empty.items().set_index("item").easiness
    away = np.abs(fixed - fixed.mean()) > 0.2
    ratio = ((shrunken - centre) / (fixed - fixed.mean()))[away]
    assert ratio.between(0.8, 1.0).all()
    rows = explained._source.rows
    first = [int(np.flatnonzero(rows.item_codes == i)[0]) for i in range(24)]
    predicted = rows.design.parts[0].X[first] @ rows.fit.beta
    residual = explained.items().easiness - predicted
    assert residual.std() < (fixed.to_numpy() - predicted).std()
    r = verbal("rasch").compare_easiness("rasch", random=empty, lltm=lltm)
    own = lltm.items().set_index("item").easiness
    assert r.loc["rasch", "random"] > 0.999
    assert r.loc["rasch", "lltm"] == pytest.approx(np.corrcoef(fixed, own)[0, 1])
    assert r.attrs["easiness"].shape == (24, 3)


def test_item_variance_explained_and_still_needed():
    empty, explained = verbal("random_items"), verbal("lltm_error", features=FEATURES)
    r2 = explained.item_r2(empty)
    tau = [one.variances().set_index("group").estimate["item"] for one in (empty, explained)]
    assert r2.estimate[0] == pytest.approx(1 - tau[1] / tau[0])
    lltm = verbal("lltm", features=FEATURES)
    test = explained.item_residual_test(lltm)
    statistic = lltm.minus2_loglik - explained.minus2_loglik
    assert test.statistic[0] == pytest.approx(statistic)
    assert 0 < test.p_value[0] < 1e-15
    assert "50:50 mixture" in test.attrs["sentence"]
    with pytest.raises(InferenceError, match="item residual alone"):
        explained.item_residual_test(empty)
    with pytest.raises(InferenceError, match="random items"):
        lltm.item_r2(empty)


def test_icc_has_the_variance_of_a_response_in_it():
    table = verbal("random_items").variances()
    total = table.estimate.sum() + np.pi**2 / 3
    np.testing.assert_allclose(table.icc, table.estimate / total)


def test_persons_and_reliability():
    found = verbal("rasch")
    persons = found.persons()
    assert len(persons) == 316
    # with fixed items the sum score says everything about a person
    assert persons.groupby("score").estimate.nunique(dropna=False).max() <= 316
    spread = persons.groupby("score").estimate.agg(np.ptp)
    assert spread.max() < 1e-6
    tau2 = found.variances().estimate[0]
    v = persons.std_error**2
    error = 1 / (1 / v - 1 / tau2)
    table = found.reliability()
    assert table.estimate[0] == pytest.approx(tau2 / (tau2 + error.mean()))
    assert table.marginal[0] == pytest.approx(1 - v.mean() / tau2)


def test_person_estimates_add_up():
    more = {"person": "pupil", "items": NAMES, "accuracy": "none"}
    found = mlm.irt(wide(), persons="x", person_groups="school", **more)
    persons = found.persons()
    slope = found.coefficients().set_index("term").estimate["x"]
    x = wide().set_index("pupil").x[persons.person]
    np.testing.assert_allclose(persons.predicted, slope * x, rtol=1e-8)
    own = persons.estimate - persons.predicted - persons.group_effect
    block = [b.group for b in found.model.design.blocks].index("pupil")
    fit = found.model.fit
    modes = (fit.modes[block] @ fit.relative_factors[block].T)[:, 0]
    np.testing.assert_allclose(own, modes, atol=1e-10)
    assert set(found.variances().group) == {"pupil", "school"}


def test_wide_and_long_are_the_same_and_missing_responses_drop_out():
    frame = wide()
    long = frame.melt(["pupil", "x", "school"], NAMES, "item", "response")
    options = {"person": "pupil", "model": "2pl"}
    one = mlm.irt(frame, items=NAMES, **options)
    other = mlm.irt(long, **options)
    assert one.n == other.n == int(frame[NAMES].notna().sum().sum())
    assert one.minus2_loglik == pytest.approx(other.minus2_loglik, abs=1e-9)
    pd.testing.assert_frame_equal(one.items(), other.items())
    assert one.items().item.tolist() == NAMES
    reordered = mlm.irt(frame, items=NAMES[::-1], **options)
    assert reordered.items().item.tolist() == NAMES[::-1]


def test_predictors_of_persons_in_models_with_slopes():
    found = mlm.irt(wide(), person="pupil", items=NAMES, model="1pl", persons="x")
    by_rows = mlm.irt(wide(), person="pupil", items=NAMES, persons="x", n_quad=21, accuracy="none")
    assert found.minus2_loglik == pytest.approx(by_rows.minus2_loglik, abs=1e-4)
    tau = found.items().discrimination[0]
    effect = by_rows.coefficients().set_index("term").estimate["x"]
    assert found.coefficients().estimate[0] * tau == pytest.approx(effect, abs=1e-4)
    with pytest.warns(DataWarning, match="1 person"):
        mlm.irt(
            wide().assign(x=wide().x.mask(wide().pupil == "p3")),
            person="pupil", items=NAMES, model="1pl", persons="x",
        )  # fmt: skip


def test_metrics_convert_by_the_factor_of_birnbaum():
    found = verbal("2pl")
    logit, probit = found.items(metric="logit"), found.items(metric="probit")
    pd.testing.assert_frame_equal(logit, found.items())
    np.testing.assert_allclose(probit.discrimination, logit.discrimination / 1.7)
    np.testing.assert_allclose(probit.easiness, logit.easiness / 1.7)
    np.testing.assert_allclose(probit.difficulty, logit.difficulty)
    ogive = verbal("2pl", link="probit")
    ratio = ogive.items(metric="logit").discrimination / logit.discrimination
    ratio = ratio[logit["mean"].between(0.1, 0.9)]  # a rare response tells the tails apart
    assert ratio.between(0.9, 1.1).all()
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    with pytest.raises(InferenceError, match="metric"):
        found.items(metric="normal")


@pytest.mark.parametrize(
    "more",
    [
        {"model": "rsm"},
        {"model": "pcm"},
        {"model": "rasch", "family": "cumulative"},
        {"model": "lltm_error", "features": FEATURES, "family": "cumulative", "persons": "Gender"},
    ],
    ids=lambda more: "-".join(map(str, more.values())),
)
def test_steps_reproduce_the_probabilities_of_the_fit(more):
    from multilevel.interpret.irt.by_rows import predictors_of_rows
    from multilevel.interpret.irt.curves import tables_of_item
    from multilevel.interpret.irt.source import _mean_part_easiness

    found = mlm.irt(
        mlm.load_verbagg(), person="id", response="resp", categories=["no", "perhaps", "yes"],
        n_quad=1, accuracy="none", **more,
    )  # fmt: skip
    rows, items = found._source.rows, found._source.items()
    eta, _ = predictors_of_rows(rows)
    place = eta - _mean_part_easiness(rows, items)[rows.item_codes]
    predictors = found.model._problem.fixed_predictors(found.model.fit.psi)
    predictors[0] = eta
    expected = found.model._problem.row_likelihood().mean(predictors)
    for i in range(24):
        at = rows.item_codes == i
        ours = tables_of_item(items, i, place[at]).probabilities[0]
        np.testing.assert_allclose(ours, expected[:, at], atol=1e-12)


def test_curves_and_information_by_definition():
    found = verbal("2pl")
    items = found.items().set_index("item")
    a, d = items.discrimination["S1DoCurse"], items.easiness["S1DoCurse"]
    p = expit(a * 0.5 + d)
    curve = found.curves([0.5]).query("item == 'S1DoCurse' and category == 1")
    assert curve.probability.item() == pytest.approx(p)
    table = found.information([0.5])
    assert table["S1DoCurse"][0] == pytest.approx(a**2 * p * (1 - p))
    assert table.test[0] == pytest.approx(table[list(items.index)].iloc[0].sum())
    assert table.std_error[0] == pytest.approx(table.test[0] ** -0.5)
    with pytest.raises(InferenceError, match="finite numbers"):
        found.curves([np.nan])


def test_pickle_keeps_the_answers():
    for found in (verbal("2pl"), verbal("random_items")):
        again = pickle.loads(pickle.dumps(found))
        pd.testing.assert_frame_equal(again.items(), found.items())
        pd.testing.assert_frame_equal(again.persons(), found.persons())


def test_errors_of_random_items_are_those_of_fixed_ones_shrunken():
    """Items that are hardly shrunken are known about as well as fixed ones, with testlets too."""
    data = mlm.load_verbagg().to_pandas()
    data["situation"] = data["item"].str[:2]
    fixed = verbal("rasch").items().set_index("item")
    for more in ({}, {"testlets": "situation"}):
        found = mlm.irt(
            data, person="id", response="r2", model="random_items", accuracy="none", **more
        )
        ratio = found.items().set_index("item").std_error / fixed.std_error
        assert ratio.between(0.88, 1.02).all()


@pytest.mark.parametrize("width", [60, 80])
def test_summary_speaks_of_persons_and_items(width):
    for found in (verbal("lltm_error", features=FEATURES), verbal("2pl"), verbal("empty")):
        text = found.summary(width=width)
        assert "7584 responses of 316 persons to 24 items" in text
        assert "S4wantCurse" in text
    text = verbal("2pl").summary()
    assert "logit P(y_pi = 1) = a_i theta_p + d_i" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "<code>" in verbal("2pl")._repr_html_()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model": "3pl"}, "model= is one of"),
        ({"model": "lltm"}, "Item features belong to the LLTM"),
        ({"model": "rasch", "features": "btype"}, "Item features belong to the LLTM"),
        ({"model": "2pl", "slopes": "mode"}, "slopes= goes with models"),
        ({"model": "2pl", "testlets": "situ"}, "testlets= goes with models"),
        ({"model": "items", "persons": "Anger"}, "persons= goes with models"),
        ({"model": "random_items", "dif": "Gender"}, "DIF is an interaction"),
        ({"model": "rasch", "family": "poisson"}, "family= of an item response model"),
        ({"model": "2pl", "family": "cumulative"}, "say by their name"),
        ({"model": "pcm", "family": "cumulative"}, "adjacent-category models"),
        ({"model": "pcm", "link": "probit"}, "logit link"),
        ({"model": "rasch", "link": "cloglog"}, "'logit' or 'probit'"),
    ],
)
def test_models_that_do_not_exist_are_refused(more, words):
    with pytest.raises(ModelError, match=words):
        mlm.irt(mlm.load_verbagg(), person="id", response="r2", **more)


def test_data_that_do_not_fit_are_refused():
    data = mlm.load_verbagg().to_pandas()
    with pytest.raises(ModelError, match="two kinds of response"):
        mlm.irt(data, person="id", response="resp", model="2pl",
                categories=["no", "perhaps", "yes"])  # fmt: skip
    with pytest.raises(TableError, match="order of three or more"):
        mlm.irt(data, person="id", response="resp", model="graded")
    with pytest.raises(TableError, match="may answer an item once"):
        mlm.irt(pd.concat([data, data.iloc[[5]]]), person="id", response="r2", model="2pl")
    flat = data.assign(r2=data.r2.mask(data.item == "S1DoCurse", "Y"))
    with pytest.raises(TableError, match="must differ between persons"):
        mlm.irt(flat, person="id", response="r2", model="2pl")
    with pytest.raises(DesignError, match="same in all rows of a person"):
        mlm.irt(data, person="id", response="r2", model="2pl", persons="mode")
    with pytest.raises(TableError, match="among the categories"):
        mlm.irt(data, person="id", response="resp", model="graded", categories=["no", "yes"])
    with pytest.raises(EstimationError, match="must be shown to be at the optimum"):
        mlm.irt(wide(), person="pupil", items=NAMES[:2], model="2pl")
    with pytest.raises(InferenceError, match="random effect of persons"):
        verbal("items").persons()
