"""Sums over clusters that look alike: the same criterion and derivatives as row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.estimate.structured import prepare_structured, solve_structured
from multilevel.likelihood.residual import objective as objective_rows
from multilevel.likelihood.residual import pattern_layout
from multilevel.likelihood.residual.pattern_layout import find_patterns
from multilevel.likelihood.residual.pattern_objective import PatternObjective
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import parse_residual
from tests.unit.residual.test_likelihood import CELLS, RANDOM, STRUCTURES, problem, some_point


def by_pattern(prepared):
    found = find_patterns(prepared.problem)
    assert found is not None
    return PatternObjective(prepared.problem, found, prepared.method == "reml")


def check_twins(prepared, hessian=False):
    rows, patterns = prepared.objective(), by_pattern(prepared)
    psi = some_point(prepared)
    assert patterns.value(psi) == pytest.approx(rows.value(psi), abs=1e-9)
    gradient = rows.gradient(psi)
    np.testing.assert_allclose(patterns.gradient(psi), gradient, atol=1e-9)
    H = rows.average_information(psi)
    np.testing.assert_allclose(
        patterns.average_information(psi), H, atol=1e-9 * max(1.0, np.abs(H).max(initial=0.0))
    )
    if hessian:
        differenced = rows.hessian(psi)
        limit = 1e-7 * max(1.0, np.abs(differenced).max())
        np.testing.assert_allclose(patterns.hessian(psi), differenced, atol=limit)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize(("structure", "random"), CELLS)
def test_every_structure_as_row_by_row(structure, random, method):
    check_twins(problem(STRUCTURES[structure], RANDOM[random], method), hessian=method == "reml")


@pytest.mark.parametrize("structure", [None, "ar1(time | id)", "un(time | id, by=arm)"])
def test_unequal_variances_and_weights(structure):
    random = "" if structure is not None and structure.startswith("un") else RANDOM["slope"]
    check_twins(problem(structure, random, "ml", scale="x + w", weights="w"), hessian=True)


def visits(n_ids, seed=0, n_times=5):
    """Complete data: every id at every time."""
    rng = np.random.default_rng(seed)
    e = np.cumsum(rng.normal(size=(n_ids, n_times)), axis=1) * 0.5 + rng.normal(size=(n_ids, 1))
    return pd.DataFrame({
        "y": (e + 0.3 * rng.normal(size=e.shape)).ravel(),
        "time": np.tile(np.arange(n_times), n_ids),
        "id": np.repeat(np.arange(n_ids), n_times),
        "x": rng.normal(size=e.size),
    })  # fmt: skip


def prepared_from(data, residual="ar1(time | id)", random=" + (1 | id)"):
    model = replace(parse_formula("y ~ time + x" + random, "reml"),
                    residual=parse_residual(residual))  # fmt: skip
    return prepare_structured(build_design(model, data), method="reml")


def test_complete_data_have_one_pattern_and_cost_nothing_more_with_more_ids():
    few, many = (prepared_from(visits(n)).patterns for n in (20, 400))
    assert few is not None
    assert many is not None
    assert few.n_patterns == many.n_patterns == 1
    assert few.stacks[0].sums.shape == many.stacks[0].sums.shape


def test_a_gap_and_a_later_start_are_told_apart_or_put_together_by_lags():
    data = visits(30)
    gap = data[~((data["id"] == 3) & (data["time"] == 2))]
    found = prepared_from(gap).patterns
    assert found is not None
    assert found.n_patterns == 2
    # ar1 knows differences of time only: an id that starts one step later is not another pattern
    later = data.assign(time=data["time"] + (data["id"] == 3))
    found = prepared_from(later).patterns
    assert found is not None
    assert found.n_patterns == 1
    # un names its occasions: the first and the last two of them are different patterns
    parts = data[~data["id"].isin([1, 2])], data[data["id"].eq(1) & data["time"].lt(2)]
    pieces = pd.concat([*parts, data[data["id"].eq(2) & data["time"].gt(2)]])
    for residual, expected in (("un(time | id)", 3), ("ar1(time | id)", 2)):
        found = prepared_from(pieces, residual, "").patterns
        assert found is not None
        assert found.n_patterns == expected


def test_random_slopes_of_a_free_predictor_go_row_by_row(monkeypatch):
    monkeypatch.setattr(pattern_layout, "SMALL", 0)
    data = visits(300)
    assert prepared_from(data).patterns is not None
    by_rows = prepared_from(data, random=" + (x | id)")
    assert by_rows.patterns is None
    whitened, fit = solve_structured(by_rows)
    assert "row" in whitened.engine_plan.sentence
    assert fit.certificate.is_certified


@pytest.mark.parametrize("residual", ["ar1(time | id)", "toep(time | id, band=2)", "cs(1 | id)"])
def test_fits_by_pattern_and_row_by_row_agree(residual):
    data = visits(60).sample(frac=0.9, random_state=1)
    random = "" if residual.startswith("cs") else " + (1 | id)"
    prepared = prepared_from(data, residual, random)
    assert prepared.patterns is not None
    one = solve_structured(prepared)[1]
    two = solve_structured(replace(prepared, patterns=None))[1]
    assert one.certificate.is_certified
    assert two.certificate.is_certified
    assert one.criterion == pytest.approx(two.criterion, abs=1e-9)
    np.testing.assert_allclose(one.beta, two.beta, atol=1e-6)
    assert one.residual is not None
    assert two.residual is not None
    np.testing.assert_allclose(one.residual.std_errors, two.residual.std_errors, rtol=1e-4)


def test_order_of_rows_does_not_matter():
    data = visits(25)
    one = mlm.fit("y ~ time + (1 | id)", data, residual="ar1(time | id)")
    two = mlm.fit(
        "y ~ time + (1 | id)", data.sample(frac=1.0, random_state=3), residual="ar1(time | id)"
    )
    assert one.fit.criterion == pytest.approx(two.fit.criterion, abs=1e-9)


def test_a_covariance_that_is_not_positive_definite_is_refused():
    prepared = problem("toep(time | id, band=2)", "", "ml")
    objective = by_pattern(prepared)
    with pytest.raises(mlm.errors.LikelihoodError, match="positive definite"):
        objective.value(np.array([3.0, -3.0]))
    with pytest.raises(mlm.errors.LikelihoodError, match="numeric range"):
        objective.value(np.array([np.nan, 0.0]))


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize("structure", ["ar1", "arh1", "car1", "ar1 by", "exp by"])
def test_the_compiled_score_is_the_plain_one(structure, random, method, monkeypatch):
    prepared = problem(STRUCTURES[structure], RANDOM[random], method, scale="x")
    psi = some_point(prepared)
    plain = prepared.objective().gradient(psi)
    monkeypatch.setattr(objective_rows, "COMPILED_FROM", 1)
    np.testing.assert_allclose(prepared.objective().gradient(psi), plain, atol=1e-10)
