"""Every supported generalized model is fitted and checked; every other one says what is supported.

Checks. The criterion of nested intercepts is computed again from scipy densities, by Laplace's
method and by brute-force integration (25 adaptive points are exact to 1e-4 in these data). At the
estimates the criterion is level: its central differences in every parameter, in units of standard
errors, are below 2e-3 (a Newton decrement of 1e-6, the limit of a certificate, allows 1.5e-3).
"""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.model.families.bounded import BOUNDED
from multilevel.model.families.catalogue import FAMILIES
from multilevel.model.families.categories import CATEGORY_LINKS
from tests.identities.generalized_table import (
    DESIGNS,
    OUTCOMES,
    WITH_PRECISION,
    WITH_QUADRATURE,
    table,
)
from tests.identities.marginal_oracle import Marginal

DATA = table()
every_outcome = pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda o: o.name)


def fit(outcome, design, points=1, **more):
    formula = f"{outcome.response} ~ {outcome.right} + {DESIGNS[design]}"
    result = mlm.fit(formula, DATA, n_quad=points, accuracy="none", **{**outcome.arguments, **more})
    assert result.certificate.is_certified, result.certificate.sentence
    return result


def assert_level(result):
    """The criterion does not rise or fall at the estimates, by differences of its value."""
    objective = result._objective()
    psi, errors = result.fit.psi, np.sqrt(np.diag(result.fit.vcov))
    for k in np.flatnonzero(errors > 0.0):
        step = np.zeros(len(psi))
        step[k] = 3e-3 * errors[k]
        rise = objective.value(psi + step) - objective.value(psi - step)
        assert abs(rise) / 6e-3 < 2e-3, result.design.parts[0].names
    objective.value(psi)


def test_the_table_names_every_family_and_link():
    named = {(o.family, o.link) for o in OUTCOMES}
    catalogue = {(f, link) for f, entry in FAMILIES.items() for link in entry.links}
    catalogue |= {(f, "logit") for f in BOUNDED}
    catalogue |= {(f, link) for f, links in CATEGORY_LINKS.items() for link in links}
    assert named == catalogue
    assert len({o.name for o in OUTCOMES}) == len(OUTCOMES)


@every_outcome
def test_nested_intercepts_against_scipy(outcome):
    result = fit(outcome, "nested intercept")
    assert_level(result)
    oracle = Marginal(result, outcome.density)
    if len(oracle.parts) == 1:
        laplace = oracle.laplace(result.fit.modes[0][:, 0])
        assert result.minus2_loglik == pytest.approx(laplace, abs=2e-5)
    points = 25 if len(oracle.parts) == 1 else 15
    finer = make_objective(result._problem, points)
    finer.set_modes(result.fit.modes)
    assert finer.value(result.fit.psi) == pytest.approx(oracle.brute(), abs=1e-4)


@every_outcome
def test_crossed_slopes(outcome):
    assert_level(fit(outcome, "crossed slope"))


OTHERS = [
    (design, points)
    for design in DESIGNS
    for points in ((1, 5) if design in WITH_QUADRATURE else (1,))
    if (design, points) not in (("nested intercept", 1), ("crossed slope", 1))
]


@pytest.mark.slow
@pytest.mark.parametrize(("design", "points"), OTHERS)
@every_outcome
def test_every_other_design(outcome, design, points):
    result = fit(outcome, design, points)
    assert set(result.approximation.points) == {points}
    assert_level(result)


# -- weights -----------------------------------------------------------------------------------


def assert_weighted(outcome, more, **weights):
    plain = fit(outcome, "nested intercept")
    result = fit(outcome, "nested intercept", **more)
    assert abs(result.minus2_loglik - plain.minus2_loglik) > 1e-3  # not ignored
    oracle = Marginal(result, outcome.density, **weights)
    if len(oracle.parts) == 1:
        expected, found = oracle.laplace(result.fit.modes[0][:, 0]), result.minus2_loglik
    else:
        finer = make_objective(result._problem, 15)
        expected, found = oracle.brute(), finer.value(result.fit.psi)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@every_outcome
def test_frequency_weights(outcome):
    assert_weighted(outcome, {"frequency_weights": "w"}, frequency=DATA["w"])


@pytest.mark.slow
@every_outcome
def test_precision_weights(outcome):
    if outcome.family in WITH_PRECISION:
        assert_weighted(outcome, {"weights": "p"}, precision=DATA["p"])
        return
    # a binomial response takes them as numbers of trials, which here are not whole
    named = "trials" if outcome.family == "binomial" else "dispersion"
    with pytest.raises(mlm.errors.MultilevelError, match=named):
        fit(outcome, "nested intercept", weights="p")


@pytest.mark.slow
@every_outcome
def test_exposure(outcome):
    if outcome.link == "log" and outcome.family != "binomial":
        assert_weighted(outcome, {"exposure": "time"})
        return
    if outcome.link != "log":
        with pytest.raises(mlm.errors.ModelError, match="log link"):
            fit(outcome, "nested intercept", exposure="time")


# -- what is not supported ---------------------------------------------------------------------


@pytest.mark.parametrize("design", [d for d in DESIGNS if d not in WITH_QUADRATURE])
def test_quadrature_of_crossed_factors_names_laplace(design):
    for outcome in OUTCOMES[::12]:
        with pytest.raises(mlm.errors.MultilevelError, match="Laplace"):
            fit(outcome, design, 5)


@pytest.mark.parametrize(
    ("response", "options", "named"),
    [
        ("count", {"family": "zipf"}, "poisson"),
        ("count", {"family": "poisson", "link": "logit"}, "log, identity, sqrt"),
        ("grade", {"family": "adjacent", "link": "probit"}, "logit"),
        ("binary", {"family": "binomial", "truncated": True}, "poisson"),
        ("binary", {"family": "binomial", "zero": "~ x"}, "poisson"),
        ("binary", {"family": "binomial", "dispersion": "~ x"}, "dispersion"),
        ("count", {"family": "poisson", "dispersion": "~ x"}, "dispersion"),
        ("count", {"family": "poisson", "thresholds": "~ x"}, "cumulative"),
        ("grade", {"family": "nominal", "thresholds": "~ x"}, "nominal|ordered"),
        ("grade", {"family": "cumulative", "zero": "~ x"}, "counts"),
        ("grade", {"family": "cumulative", "truncated": True}, "counts"),
        ("number", {"family": "student", "zero": "~ x"}, "poisson"),
        ("number", {"family": "student", "hurdle": "~ x"}, "poisson"),
        ("positive", {"family": "gamma", "zero": "~ x"}, "poisson"),
        ("above", {"family": "poisson", "truncated": True, "hurdle": "~ x"}, "zeros not cut off"),
        ("zeros", {"family": "poisson", "zero": "~ x", "hurdle": "~ x"}, "hurdle="),
        ("share", {"family": "beta", "trials": "w"}, "binomial"),
        ("bounded", {"family": "ordered_beta", "hurdle": "~ x"}, "hurdle"),
        ("share", {"family": "ordered_beta", "link": "probit"}, "logit"),
    ],
)
def test_other_combinations_name_what_is_supported(response, options, named):
    with pytest.raises(mlm.errors.MultilevelError, match=named):
        mlm.fit(f"{response} ~ x + (1 | g)", DATA, **options)
