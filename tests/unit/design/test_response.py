"""Responses of generalized models: what is accepted, what is refused, and the words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, ModelError

G = np.repeat(np.arange(12), 10)
RNG = np.random.default_rng(1)
X = RNG.normal(size=120)


def table(**columns):
    return pd.DataFrame({"g": G, "x": X, **columns})


def fitted(response, data, **options):
    options.setdefault("n_quad", 1)
    options.setdefault("accuracy", "none")
    return mlm.fit(f"{response} ~ x + (1 | g)", data, **options)


@pytest.mark.parametrize(
    ("values", "event", "words"),
    [
        (RNG.integers(0, 2, 120), None, "y = 1 (against 0)"),
        (RNG.integers(0, 2, 120).astype(bool), None, "y = True (against False)"),
        (np.array(["no", "yes"])[RNG.integers(0, 2, 120)], None, "y = yes (against no)"),
        (np.array(["no", "yes"])[RNG.integers(0, 2, 120)], "no", "y = no (against yes)"),
        (RNG.integers(1, 3, 120), 2, "y = 2 (against 1)"),
        (np.array(["a", "b", "c"])[RNG.integers(0, 3, 120)], "b", "y = b (against a or c)"),
    ],
)
def test_the_event_is_named(values, event, words):
    fit = fitted("y", table(y=values), family="binomial", event=event)
    assert words in fit.design.response.sentence
    assert words in fit.summary()
    expected = np.asarray(values == event if event is not None else values == np.unique(values)[-1])
    assert np.array_equal(fit.design.response.y, expected.astype(float))


@pytest.mark.parametrize(
    ("response", "columns", "options", "words"),
    [
        ("y", {"y": RNG.integers(0, 3, 120)}, {"family": "binomial"}, "0, 1, 2"),
        ("y", {"y": RNG.integers(0, 2, 120)}, {"family": "binomial", "event": 7}, "event=7"),
        ("y", {"y": RNG.normal(size=120)}, {"family": "poisson"}, "whole numbers"),
        ("y", {"y": RNG.integers(0, 4, 120) - 1}, {"family": "poisson"}, "not negative"),
        ("y", {"y": RNG.integers(0, 3, 120)}, {"family": "gamma"}, "be positive"),
        ("y", {"y": RNG.integers(0, 2, 120)}, {"family": "beta"}, "strictly between"),
        ("y", {"y": np.array(["lo", "hi", "mid"])[RNG.integers(0, 3, 120)]},
         {"family": "cumulative"}, "order of the categories"),
        ("y", {"y": RNG.integers(0, 3, 120)},
         {"family": "cumulative", "categories": [0, 1]}, "list every category"),
        ("y", {"y": RNG.integers(0, 2, 120)},
         {"family": "cumulative", "categories": [0, 1, 2]}, "must occur"),
        ("y", {"y": RNG.integers(0, 9, 120), "n": np.full(120, 5)},
         {"family": "binomial", "trials": "n"}, "more successes than trials"),
        ("y", {"y": RNG.uniform(size=120), "n": np.full(120, 5)},
         {"family": "binomial", "trials": "n"}, "must be a whole number"),
        ("y", {"y": RNG.integers(0, 9, 120), "n": np.full(120, 5)},
         {"family": "poisson", "trials": "n"}, "go with a binomial family"),
        ("y", {"y": np.ones(120)}, {"family": "binomial"}, "must vary"),
        ("cbind(y, z)", {"y": RNG.integers(0, 9, 120), "z": np.full(120, 5)},
         {"family": "poisson"}, "one column"),
        ("interval(y, z)", {"y": np.full(120, 5.0), "z": RNG.normal(size=120)}, {},
         "must not exceed"),
        ("interval(y, z)", {"y": np.where(X > 0, np.nan, X), "z": np.where(X > 0, np.inf, X)}, {},
         "finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_response_is_named(response, columns, options, words):
    with pytest.raises(DesignError, match=words):
        fitted(response, table(**columns), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "gama"}, "choose one of"),
        ({"family": "binomial", "link": "sqrt"}, "logit"),
        ({"family": "binomial", "zero": "~ 1"}, "Zero inflation"),
        ({"family": "poisson", "zero": "~ 1", "hurdle": "~ 1"}, "one of two"),
        ({"family": "nominal", "thresholds": "~ x"}, "[Tt]hresholds"),
        ({"family": "binomial", "exposure": "x"}, "log link"),
        ({"family": "poisson", "method": "reml"}, "conditionally normal"),
        ({"family": "poisson", "engine": "nested"}, "engine="),
        ({"family": "poisson", "dispersion": 3}, "right-hand side"),
    ],
)
def test_combinations_that_do_not_exist(options, words):
    with pytest.raises(ModelError, match=words):
        fitted("y", table(y=RNG.integers(0, 2, 120)), **options)


def test_dispersion_needs_a_family_that_has_one():
    with pytest.raises(DesignError, match="dispersion"):
        fitted("y", table(y=RNG.integers(0, 4, 120)), family="poisson", dispersion="~ x")


def test_rows_missing_in_any_part_are_left_out_and_counted():
    data = table(y=RNG.poisson(2.0, 120), z=RNG.normal(size=120), t=np.full(120, 2.0))
    data.loc[3, "z"] = np.nan
    data.loc[[5, 6], "t"] = np.nan
    fit = fitted("y", data, family="poisson", zero="~ z", exposure="t")
    assert fit.n == 117
    assert fit.design.mean.rows.missing == {"z": 1, "t": 2}


def test_a_missing_bound_is_an_open_side():
    y = X + RNG.normal(size=120)
    low, high = np.where(y < -1, np.nan, y), np.where(y < -1, -1.0, y)
    fit = fitted("interval(low, high)", table(low=low, high=high))
    assert f"{int((y < -1).sum())} left-censored" in fit.design.response.sentence
    naive = mlm.fit("z ~ x + (1 | g)", table(z=high), method="ml")
    assert fit.fixed_effects["x"] > naive.fixed_effects["x"]  # censoring flattens the slope


def test_an_ordered_categorical_brings_its_order():
    values = pd.Categorical(
        np.array(["lo", "mid", "hi"])[RNG.integers(0, 3, 120)], ["lo", "mid", "hi"], ordered=True
    )
    fit = fitted("y", table(y=values), family="cumulative")
    assert fit.design.response.categories == ("lo", "mid", "hi")
    assert "lo < mid < hi" in fit.design.response.sentence
