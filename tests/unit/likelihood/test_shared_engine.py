"""Levels that share Z'Z: every product equals the plain nested engine; fits are the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.estimate.choose import choose_engine
from multilevel.estimate.prepare import prepare
from multilevel.likelihood.gaussian import shared
from multilevel.likelihood.gaussian.nested import NestedEngine
from multilevel.likelihood.gaussian.objective import GaussianObjective
from multilevel.likelihood.gaussian.shared import SharedEngine, shared_patterns
from multilevel.model.formula.parse import parse_formula

FORMULA = "y ~ x + ar1(0 + time | id)"


def visits(n=40, times=9, seed=1, weights=False):
    """Subjects who stay for four to all occasions, so that few sets of occasions occur."""
    rng = np.random.default_rng(seed)
    rows = []
    for j in range(n):
        u = np.zeros(times)
        for t in range(times):
            u[t] = (0.7 * u[t - 1] if t else 0.0) + rng.normal()
        stays = times - int(rng.integers(0, 3))
        rows += [
            (j, t, rng.normal(), 1.0 + u[t] + 0.6 * rng.normal(), rng.uniform(0.5, 2.0))
            for t in range(stays)
        ]
    data = pd.DataFrame(rows, columns=["id", "time", "x", "y", "w"])
    return data.sample(frac=1.0, random_state=2).reset_index(drop=True)


def engines(method="reml", formula=FORMULA):
    prepared = prepare(build_design(parse_formula(formula, method), visits()), method=method)
    pattern = shared_patterns(prepared.cross)
    assert pattern is not None
    maps = [block.structure for block in prepared.design.blocks]
    out = []
    for engine in (SharedEngine(prepared.cross, pattern), NestedEngine(prepared.cross)):
        p = prepared.cross
        out.append(GaussianObjective(engine, maps, p.n, p.n_fixed, method == "reml"))
    return out


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("formula", [FORMULA, "y ~ x + (1 | id) + arh1(0 + time | id)"])
def test_value_gradient_and_both_curvatures(method, formula):
    one, two = engines(method, formula)
    theta = np.linspace(0.6, 0.2, one.n_parameters)
    assert one.value(theta) == pytest.approx(two.value(theta), abs=1e-10)
    np.testing.assert_allclose(one.gradient(), two.gradient(), atol=1e-9)
    np.testing.assert_allclose(one.exact_hessian(), two.exact_hessian(), atol=1e-8)
    np.testing.assert_allclose(one.average_information(), two.average_information(), atol=1e-8)
    np.testing.assert_allclose(
        one.exact_hessian(), one.differenced_hessian(theta), atol=1e-4, rtol=1e-5
    )


def test_every_product():
    one, two = engines()
    theta = np.array([0.8, 0.6])
    one.set(theta)
    two.set(theta)
    for name in ("cross", "information_blocks", "information_sum"):
        np.testing.assert_allclose(
            getattr(one.engine, name)(0), getattr(two.engine, name)(0), atol=1e-11, err_msg=name
        )
    C = np.random.default_rng(1).normal(size=(40, 9, 3))
    np.testing.assert_allclose(
        one.engine.information_product([C])[0], two.engine.information_product([C])[0], atol=1e-10
    )


def test_what_is_not_there_is_refused():
    engine = engines()[0].engine
    with pytest.raises(mlm.errors.LikelihoodError, match="no factorisation"):
        engine.cross(0)
    engine.factorise([np.eye(9)])
    with pytest.raises(mlm.errors.LikelihoodError, match="block 1 of one"):
        engine.information_sum(1)


def test_who_shares():
    prepared = prepare(build_design(parse_formula(FORMULA, "ml"), visits()), method="ml")
    pattern = shared_patterns(prepared.cross)
    assert pattern is not None
    assert pattern.max() == 2  # three lengths of stay
    assert isinstance(choose_engine(prepared.cross).make(prepared.cross), SharedEngine)
    weighted = build_design(parse_formula(FORMULA, "ml"), visits(), weights="w")
    assert shared_patterns(prepare(weighted, method="ml").cross) is None
    slopes = "y ~ x + (x | id) + ar1(0 + time | id)"  # x differs between all rows
    slopes_design = build_design(parse_formula(slopes, "ml"), visits())
    assert shared_patterns(prepare(slopes_design, method="ml").cross) is None
    narrow = build_design(parse_formula("y ~ x + (1 | id)", "ml"), visits())
    assert shared_patterns(prepare(narrow, method="ml").cross) is None


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_a_fit_and_its_verbs_do_not_depend_on_it(monkeypatch, method):
    one = mlm.fit(FORMULA, visits(), method=method)
    monkeypatch.setattr(shared, "WIDE", 1000)
    two = mlm.fit(FORMULA, visits(), method=method)
    assert one.fit.criterion == pytest.approx(two.fit.criterion, abs=1e-8)
    np.testing.assert_allclose(one.vcov_fixed, two.vcov_fixed, rtol=1e-6)
    for name in ("estimate", "std_error"):
        np.testing.assert_allclose(one.random_effects()[name], two.random_effects()[name],
                                   rtol=1e-5, atol=1e-7)  # fmt: skip
    np.testing.assert_allclose(one.coefficients()["df"], two.coefficients()["df"], rtol=1e-4)
