"""Intervals of explained variance: each replicate is what the plain functions give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare, with_response
from multilevel.infer.bootstrap_draws import draw_response
from multilevel.interpret.explained_intervals import explained_intervals
from multilevel.interpret.explained_variance import empty_model, explained_variance, reductions
from multilevel.interpret.variance_parts import part_forms, variance_parts
from tests.support.designs import design_of
from tests.support.oracle import random_rows


def problem(kind, seed=2, weighted=True, offset=False, method="reml"):
    rows = random_rows(kind, seed, weighted)
    shift = np.linspace(-1.0, 1.0, len(rows.y)) if offset else None
    prepared = prepare(design_of(rows, offset=shift), method=method)
    return prepared, solve(prepared)


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("kind", ["one", "slope", "nested", "crossed_slopes"])
def test_forms_equal_the_split_of_one_fit(kind, offset):
    """The quick form in (beta, G, sigma2) against ``variance_parts``, at several estimates."""
    prepared, fit = problem(kind, offset=offset)
    forms = part_forms(prepared.design)
    for k in (0.0, 1.0, -0.7):
        other = replace(
            fit,
            beta=fit.beta + k,
            random_covariance=tuple((1 + k**2) * G for G in fit.random_covariance),
            sigma2=fit.sigma2 * (1 + k**2),
        )
        plain = variance_parts(prepared.design, other)
        quick = forms.at(other)
        assert quick.levels == plain.levels
        assert quick.values == pytest.approx(plain.values, abs=1e-9 * plain.total)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(("weighted", "offset"), [(False, False), (True, True)])
def test_replicates_are_the_measures_of_refits(weighted, offset, batched):
    """By definition: draw, refit both models, apply the plain functions, take quantiles."""
    prepared, fit = problem("slope", 4, weighted, offset)
    other = empty_model(prepared)
    found = explained_intervals(
        prepared, fit, 40, np.random.SeedSequence(5), other=other, name="the empty model",
        conf_level=0.8, batched=batched,
    )  # fmt: skip
    by_hand = []
    for child in np.random.SeedSequence(5).spawn(40):
        y = draw_response(prepared.design, fit, np.random.default_rng(child))
        mine, theirs = with_response(prepared, y), with_response(other[0], y)
        f, f0 = solve(mine), solve(theirs)
        records = [
            *explained_variance(mine.design, f),
            *reductions(mine.design, f, theirs.design, f0, "the empty model"),
        ]
        by_hand.append({(r.measure, r.group, r.term, r.component): r.estimate for r in records})
    assert {r.measure for r in found.rows} == {
        "total", "nakagawa", "rights_sterba", "reduction", "snijders_bosker",
    }  # fmt: skip
    for row in found.rows:
        key = (row.measure, row.group, row.term, row.component)
        missing = 0.0 if row.component.startswith("v") else np.nan
        drawn = np.array([d.get(key, missing) for d in by_hand])
        drawn = drawn[~np.isnan(drawn)]
        assert [row.conf_low, row.conf_high] == pytest.approx(
            np.quantile(drawn, [0.1, 0.9]), abs=2e-5
        )
        assert row.std_error == pytest.approx(drawn.std(ddof=1), abs=2e-5)


@pytest.mark.parametrize("kind", ["residual", "cluster"])
def test_batch_and_other_kinds(kind):
    prepared, fit = problem("one", 3)
    seed = np.random.SeedSequence
    plain = explained_intervals(prepared, fit, 40, seed(1), kind=kind, batched=False)
    quick = explained_intervals(prepared, fit, 40, seed(1), kind=kind, batched=True)
    assert "40 refits" in plain.sentence
    for a, b in zip(plain.rows, quick.rows, strict=True):
        assert (a.conf_low, a.conf_high) == pytest.approx((b.conf_low, b.conf_high), abs=2e-5)
        assert a.conf_low < a.conf_high


@pytest.mark.slow
def test_processes_change_nothing():
    prepared, fit = problem("crossed_slopes", 3)
    alone, shared = (
        explained_intervals(
            prepared, fit, 20, np.random.SeedSequence(1), other=empty_model(prepared),
            name="the empty model", workers=workers,
        )
        for workers in (1, 2)
    )  # fmt: skip
    assert repr(shared) == repr(alone)  # NaN included


def test_an_estimate_outside_its_interval_is_said():
    """One slope for both levels: HSB's schools differ by more than that model can draw."""
    m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb(), advice=False)
    drawn = m.r2("empty", intervals="bootstrap", n_boot=400, seed=2)
    row = drawn[(drawn["measure"] == "reduction") & (drawn["group"] == "school")].iloc[0]
    assert row["conf_high"] < row["estimate"]
    assert "outside their interval" in drawn.attrs["sentence"]
    clusters = m.r2("empty", intervals="bootstrap", n_boot=100, seed=2, kind="cluster")
    row = clusters[(clusters["measure"] == "reduction") & (clusters["group"] == "school")].iloc[0]
    assert row["conf_low"] < row["estimate"] < row["conf_high"]


def test_door():
    formula = "mathach ~ ses + between(ses, school) + (1 | school)"
    m = mlm.fit(formula, mlm.load_hsb(), advice=False)
    told = []
    found = m.r2(
        "empty", intervals="bootstrap", n_boot=400, seed=2, interval="bias-corrected",
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    plain = m.r2("empty")
    assert found["estimate"].tolist() == plain["estimate"].tolist()
    assert list(found.columns) == [
        "measure", "group", "term", "component", "estimate", "std_error", "conf_low", "conf_high",
        "sentence",
    ]  # fmt: skip
    assert (found["conf_low"] < found["estimate"]).all()
    assert (found["estimate"] < found["conf_high"]).all()
    assert told[-1] == (400, 400)
    assert "bias-corrected" in found.attrs["sentence"]
    for match, options in {
        "cannot be used without": {"n_boot": 5},
        "by bootstrap": {"intervals": "wald"},
        "at least 20": {"intervals": "bootstrap", "n_boot": 5},
        "pigeonhole": {"intervals": "bootstrap", "kind": "pigeonhole"},
        "conf": {"intervals": "bootstrap", "conf_level": 2.0},
        "workers": {"intervals": "bootstrap", "workers": 0},
        "progress must": {"intervals": "bootstrap", "progress": "yes"},
    }.items():
        with pytest.raises(InferenceError, match=match):
            m.r2(**options)
