"""Item response models against other programs and published fits.

* LSAT, section 6: the two-parameter and the Rasch model as the R package ltm prints them
  (Rizopoulos 2006, Journal of Statistical Software 17(5), section 3.1; its documentation of ``ltm``
  and ``rasch``), by 21 Gauss-Hermite points and a quasi-Newton search that stops at gradients of
  0.02: estimates to 2e-3 in difficulty, standard errors to 1e-2 of themselves.
* Verbal aggression: slopes by the Python package mirt 1.2.0 (``tests/data/irt.json``); its EM stops
  within 1e-3 of slopes, its normalised weights move -2LL by less than 1e-3.
* Rasch with fixed items: lme4 with 15 points and glmmTMB's Laplace (``tests/data/glmm.json``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm

DATA = Path(__file__).resolve().parents[1] / "data"
ITEMS = ["q1", "q2", "q3", "q4", "q5"]
CATEGORIES = ["no", "perhaps", "yes"]
REFERENCES = json.loads((DATA / "irt.json").read_text("utf-8"))["VerbAgg"]
RASCH = next(
    r
    for r in json.loads((DATA / "glmm.json").read_text("utf-8"))
    if r["formula"] == "r2 ~ 0 + item + (1 | id)"
)


@lru_cache(maxsize=4)
def lsat() -> pd.DataFrame:
    patterns = pd.read_csv(DATA / "LSAT.csv.gz")
    rows = patterns.loc[patterns.index.repeat(patterns.persons), ITEMS].reset_index(drop=True)
    rows.insert(0, "person", np.arange(len(rows)))
    return rows


@lru_cache(maxsize=16)
def verbal(model: str, **more):
    binary = model in ("rasch", "1pl", "2pl")
    options = {} if binary else {"categories": CATEGORIES}
    return mlm.irt(
        mlm.load_verbagg(),
        person="id",
        response="r2" if binary else "resp",
        model=model,
        accuracy="none",
        **options,
        **more,
    )


def test_lsat_two_parameter_model():
    fit = mlm.irt(lsat(), person="person", items=ITEMS, model="2pl")
    assert fit.minus2_loglik / -2 == pytest.approx(-2466.653, abs=6e-4)
    assert (fit.aic, fit.n_parameters) == (pytest.approx(4953.307, abs=2e-3), 10)
    items = fit.items()
    np.testing.assert_allclose(
        items.difficulty, [-3.3597, -1.3696, -0.2799, -1.8659, -3.1236], rtol=1e-3
    )
    np.testing.assert_allclose(
        items.discrimination, [0.8254, 0.7229, 0.8905, 0.6886, 0.6575], rtol=1.2e-3
    )
    np.testing.assert_allclose(
        items.difficulty_std_error, [0.8669, 0.3073, 0.0997, 0.4341, 0.8700], rtol=1e-2
    )
    np.testing.assert_allclose(
        items.discrimination_std_error, [0.2581, 0.1867, 0.2326, 0.1852, 0.2100], rtol=1e-2
    )


def test_lsat_rasch_model():
    fit = mlm.irt(lsat(), person="person", items=ITEMS, model="1pl")
    assert fit.minus2_loglik / -2 == pytest.approx(-2466.938, abs=6e-4)
    items = fit.items()
    np.testing.assert_allclose(items.discrimination, 0.7551, atol=1e-4)
    np.testing.assert_allclose(
        items.difficulty, [-3.6153, -1.3224, -0.3176, -1.7301, -2.7802], atol=2e-4
    )


@pytest.mark.parametrize("model", ["2pl", "graded", "gpcm"])
def test_slopes_of_verbal_aggression(model):
    reference, fit = REFERENCES[model], verbal(model)
    assert fit.certificate.is_certified
    assert fit.minus2_loglik == pytest.approx(reference["minus2ll"], abs=1e-3)
    items = fit.items()
    own = items.drop_duplicates("item").discrimination
    np.testing.assert_allclose(own, reference["discrimination"], atol=1e-3)
    np.testing.assert_allclose(items.difficulty, reference["difficulty"], atol=3e-3)


def test_rasch_by_rows_equals_lme4_with_15_points():
    reference = RASCH["fits"]["agq15"]
    fit = verbal("rasch", n_quad=15)
    easiness = fit.items().set_index("item")["easiness"]
    theirs = pd.Series({k.removeprefix("item"): v for k, v in reference["fixef"].items()})
    # lme4 stops its search at about 1e-3 of a standard error
    np.testing.assert_allclose(easiness[theirs.index], theirs, atol=2e-4)
    assert np.sqrt(fit.variances().estimate[0]) == pytest.approx(reference["theta"], abs=1e-4)


def test_rasch_by_laplace_equals_glmmtmb():
    reference = RASCH["fits"]["laplace"]
    fit = verbal("rasch", n_quad=1)
    assert fit.minus2_loglik == pytest.approx(reference["minus2ll"], abs=1e-6)


def test_one_slope_is_the_rasch_model_on_another_scale():
    """The integral by equally spaced points equals adaptive quadrature with many points."""
    by_rows, by_slopes = verbal("rasch", n_quad=25), verbal("1pl")
    assert by_slopes.minus2_loglik == pytest.approx(by_rows.minus2_loglik, abs=1e-5)
    np.testing.assert_allclose(by_slopes.items().easiness, by_rows.items().easiness, atol=1e-5)
    slope = by_slopes.items().discrimination[0]
    assert slope**2 == pytest.approx(by_rows.variances().estimate[0], rel=1e-5)
    np.testing.assert_allclose(by_slopes.items().std_error, by_rows.items().std_error, rtol=1e-4)


def test_partial_credit_by_rows_equals_one_slope():
    by_rows, by_slopes = verbal("pcm", n_quad=15), verbal("pcm_equal")
    assert by_rows.minus2_loglik == pytest.approx(by_slopes.minus2_loglik, abs=1e-4)
    np.testing.assert_allclose(by_rows.items().easiness, by_slopes.items().easiness, atol=1e-4)
    rating = verbal("rsm", n_quad=15)
    assert rating.n_parameters == by_rows.n_parameters - 23
    assert rating.minus2_loglik > by_rows.minus2_loglik
