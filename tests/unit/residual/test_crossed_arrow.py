"""Leaf by cluster and dense core against the dense twin, the dense density, and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.estimate.structured import prepare_structured
from multilevel.likelihood.residual import arrow
from multilevel.likelihood.residual import arrow_layout as limits
from multilevel.likelihood.residual.arrow import ArrowObjective
from multilevel.likelihood.residual.arrow_engine import ArrowEngine
from multilevel.likelihood.residual.arrow_layout import arrow_layout
from multilevel.likelihood.residual.crossed import CrossedObjective
from multilevel.likelihood.residual.objective import StructuredObjective
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import parse_residual
from tests.unit.residual.test_crossed import FORMULA, KINDS, data_of, problem, ratings
from tests.unit.residual.test_likelihood import (
    STRUCTURES,
    check_value_and_gradient,
    some_point,
)

RANDOM = {
    "items": " + (1 | item)",
    "persons and items": " + (1 | id) + (1 | item)",
    "slopes": " + (x | item) + (1 | site)",
    "inside units": " + (1 | id) + (1 | id:item)",
    "three": " + (x | id) + (1 | site) + (1 + x | item)",
}


def prepared_of(structure, random, method):
    model = replace(parse_formula("y ~ time + x" + RANDOM[random], method),
                    residual=parse_residual(STRUCTURES[structure]))  # fmt: skip
    return prepare_structured(build_design(model, data_of(structure)), method=method)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize("structure", KINDS)
def test_everything_equals_the_dense_twin(structure, random, method):
    prepared = prepared_of(structure, random, method)
    found = prepared.objective()
    assert isinstance(found, ArrowObjective)
    twin = CrossedObjective(prepared.problem, method == "reml")
    psi = some_point(prepared)
    if random == "three":
        psi[found.n_theta - 1] = 0.0  # a singular factor of the core
    assert found.value(psi) == pytest.approx(twin.value(psi), abs=1e-10)
    np.testing.assert_allclose(found.gradient(psi), twin.gradient(psi), atol=1e-9)
    np.testing.assert_allclose(
        found.average_information(psi), twin.average_information(psi), atol=1e-8
    )
    np.testing.assert_allclose(
        found.conditional_residuals(psi), twin.conditional_residuals(psi), atol=1e-10
    )
    for one, two in zip(found.projection(psi), twin.projection(psi), strict=True):
        p = prepared.problem.p
        np.testing.assert_allclose(one[:, :p], two[:, :p], atol=1e-10)


@pytest.mark.parametrize("random", RANDOM)
def test_every_product_of_the_engine_equals_the_dense_twin(random):
    prepared = prepared_of("ar1", random, "reml")
    found, twin = prepared.objective(), CrossedObjective(prepared.problem, True)
    psi = some_point(prepared)
    one, two = found.ensure(psi).engine, twin.ensure(psi).engine
    assert isinstance(one, ArrowEngine)
    rng = np.random.default_rng(3)
    sizes = zip(prepared.problem.levels, prepared.problem.widths, strict=True)
    X = [rng.normal(size=(J, q, 2)) for J, q in sizes]
    for t in range(len(X)):
        for name in ("cross", "information_blocks", "information_sum", "solution",
                     "posterior_blocks"):  # fmt: skip
            np.testing.assert_allclose(
                getattr(one, name)(t), getattr(two, name)(t), atol=1e-10, err_msg=name
            )
        np.testing.assert_allclose(one.products.own[t], two.products.own[t], atol=1e-10)
        np.testing.assert_allclose(one.products.rhs[t], two.products.rhs[t], atol=1e-10)
    for name in ("information_product", "posterior_product"):
        for a, b in zip(getattr(one, name)(X), getattr(two, name)(X), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("structure", ["ar1", "toep banded"])
def test_dense_density_with_a_singular_free_core(structure, method):
    text = STRUCTURES[structure]
    check_value_and_gradient(prepared_of(structure, "three", method), text.partition("(")[0],
                             None, [])  # fmt: skip


def test_what_is_leaf_and_what_is_core():
    """Persons and their own items go by cluster; items that all share stay."""
    laid = arrow_layout(prepared_of("ar1", "three", "reml").problem)
    names = [b.group for b in prepared_of("ar1", "three", "reml").plain.design.blocks]
    assert laid is not None
    assert [names[t] for t in laid.core][-1:] == ["item"]
    assert "id" in [names[t] for t in laid.leaf]
    inside = arrow_layout(prepared_of("ar1", "inside units", "reml").problem)
    assert inside is not None
    assert inside.core == ()
    assert inside.n_effects == 0


def test_a_nested_design_gives_the_same():
    model = replace(parse_formula("y ~ time + (x | site/id)", "reml"),
                    residual=parse_residual("ar1(time | id)"))  # fmt: skip
    prepared = prepare_structured(build_design(model, data_of("ar1")), method="reml")
    one = StructuredObjective(prepared.problem, True)
    two = ArrowObjective(prepared.problem, True)
    psi = some_point(prepared)
    assert two.value(psi) == pytest.approx(one.value(psi), abs=1e-10)
    np.testing.assert_allclose(two.gradient(psi), one.gradient(psi), atol=1e-9)


def test_scattering_in_pieces_changes_nothing(monkeypatch):
    prepared = prepared_of("ar1", "persons and items", "reml")
    psi = some_point(prepared)
    expected = prepared.objective().value(psi)
    monkeypatch.setattr("multilevel.likelihood.residual.arrow_engine.CHUNK", 7)
    assert prepared.objective().value(psi) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", ["items", "persons and items", "three"])
@pytest.mark.parametrize("structure", ["ar1", "car1", "ar1 by"])
def test_the_compiled_score_equals_the_plain_one(monkeypatch, structure, random, method):
    prepared = prepared_of(structure, random, method)
    psi = some_point(prepared)
    if structure == "ar1":
        psi[-1] = 0.0  # no correlation: rows do not mix, their derivative does
    expected = prepared.objective().gradient(psi)
    monkeypatch.setattr(arrow, "COMPILED_FROM", 0)
    np.testing.assert_allclose(prepared.objective().gradient(psi), expected, atol=1e-9)


def test_more_effects_than_the_dense_route_takes():
    """4,000 persons beside 20 items: refused by the dense layout, recovered here."""
    data = ratings(4_000, 20, 4, seed=5)
    m = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    assert m.certificate.is_certified
    assert "leaf by cluster" in m.fit.plan
    rho = m.residual_parameters().loc[0]
    assert rho["conf_low"] < 0.5 < rho["conf_high"]
    assert len(m.random_effects()) == 4_020
    table = m.coefficients()
    assert abs(table.loc[1, "estimate"] - 0.5) < 4.0 * table.loc[1, "std_error"]


def test_the_dense_route_serves_large_units(monkeypatch):
    data = ratings()
    one = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    monkeypatch.setattr(limits, "MOST_LOCAL", 100)
    two = mlm.fit(FORMULA, data, residual="ar1(time | person)")
    assert "dense engine" in two.fit.plan
    assert two.fit.criterion == pytest.approx(one.fit.criterion, abs=1e-8)
    np.testing.assert_allclose(two.vcov_fixed, one.vcov_fixed, rtol=1e-5)
    np.testing.assert_allclose(
        two.random_effects()["std_error"], one.random_effects()["std_error"], rtol=1e-5
    )


@pytest.mark.parametrize("structure", [None, "csh"])
def test_scale_formula_and_weights(structure):
    prepared = problem(structure, "persons and items", "reml", scale="x + w", weights="w")
    assert isinstance(prepared.objective(), ArrowObjective)
