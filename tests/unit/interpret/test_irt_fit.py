"""Infit and outfit: by definition, and with expectation 1 where the model holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import multilevel as mlm
from multilevel.interpret.irt.fit import ResponseMoments, mean_squares, response_moments
from multilevel.interpret.irt.parameters import ItemParameters

ITEMS = [f"i{k}" for k in range(12)]


def parameters(steps, n_categories, kind):
    n_items = len(n_categories)
    return ItemParameters(
        items=tuple(ITEMS[:n_items]),
        n_categories=n_categories,
        kind=kind,
        link="logit",
        slopes=np.ones(n_items),
        steps=np.asarray(steps),
        vcov=np.zeros((n_items + len(steps),) * 2),
        n=np.ones(n_items),
        mean_score=np.ones(n_items),
        theta_variance=1.0,
        has_slopes=False,
        sentence="",
    )


def test_mean_squares_by_definition_where_persons_are_known():
    rng = np.random.default_rng(0)
    items = parameters([0.5, -0.4, 1.0], (2, 2, 2), "partial_credit")
    person, item = np.divmod(np.arange(30), 3)
    place = rng.normal(size=10)[person]
    y = rng.integers(0, 2, 30).astype(float)
    moments = response_moments(items, item, y, place, np.zeros(30))
    p = expit(place + items.steps[item])
    w = p * (1 - p)
    found = mean_squares(moments, item, 3)
    for i in range(3):
        at = item == i
        assert found.outfit[i] == pytest.approx(np.mean((y - p)[at] ** 2 / w[at]))
        assert found.infit[i] == pytest.approx(((y - p)[at] ** 2).sum() / w[at].sum())
    # Var (y - p)^2 = w (1 - 4 w) for two categories
    sd = np.sqrt([(w * (1 - 4 * w))[item == i].sum() for i in range(3)])
    np.testing.assert_allclose(found.infit_sd * [w[item == i].sum() for i in range(3)], sd)


def test_three_categories_count_their_scores():
    items = parameters([0.3, -0.5], (3,), "graded")
    moments = response_moments(items, np.zeros(1, int), np.array([2.0]), np.zeros(1), np.zeros(1))
    upper = expit(items.steps)
    p = np.array([1 - upper[0], upper[0] - upper[1], upper[1]])
    mean = p @ [0, 1, 2]
    assert moments.squared[0] == pytest.approx((2 - mean) ** 2)
    assert moments.variance[0] == pytest.approx(p @ (np.arange(3) - mean) ** 2)


def test_levels_without_responses_are_not_numbers():
    zero = np.zeros(0)
    found = mean_squares(ResponseMoments(*(zero,) * 5), zero.astype(int), 2)
    assert np.isnan(found.infit).all()


@pytest.mark.parametrize("model", ["rasch", "2pl"])
def test_expected_value_is_one_where_the_model_holds(model):
    rng = np.random.default_rng(11)
    theta = rng.normal(0.0, 1.3, 1500)
    y = (rng.random((1500, 12)) < expit(theta[:, None] + np.linspace(-1.5, 1.5, 12))).astype(int)
    frame = pd.DataFrame(y, columns=ITEMS).assign(person=np.arange(1500))
    fit = mlm.irt(frame, person="person", items=ITEMS, model=model, accuracy="none")
    table = fit.item_fit()
    # the normal approximation of the posterior costs a little in outfit
    assert table.infit.mean() == pytest.approx(1.0, abs=0.01)
    assert table.outfit.mean() == pytest.approx(1.0, abs=0.03)
    inside = table.infit.between(table.infit_low, table.infit_high).mean()
    assert inside >= 0.75
    persons = fit.person_fit()
    assert persons.infit.mean() == pytest.approx(1.0, abs=0.03)


def test_a_noisy_item_stands_out():
    rng = np.random.default_rng(12)
    theta = rng.normal(0.0, 1.3, 1500)
    y = (rng.random((1500, 12)) < expit(theta[:, None] + np.linspace(-1.5, 1.5, 12))).astype(int)
    y[:, 5] = rng.integers(0, 2, 1500)
    frame = pd.DataFrame(y, columns=ITEMS).assign(person=np.arange(1500))
    fit = mlm.irt(frame, person="person", items=ITEMS, accuracy="none")
    table = fit.item_fit().set_index("item")
    assert table.infit.idxmax() == "i5"
    assert table.infit["i5"] > table.infit_high["i5"]
