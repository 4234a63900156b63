"""Judges of scale effects, related levels and drifting effects; the sections of the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks import page, variance
from benchmarks.criterion import Estimates
from benchmarks.criterion_variance import (
    LocationScaleJudge,
    OccasionsJudge,
    RelatedJudge,
    relationships,
)
from benchmarks.models import Model, Relation, location_scale, occasions, related
from benchmarks.peers import PEERS
from benchmarks.workloads import SECTIONS, WORKLOADS
from scipy import integrate, stats

MM = related("y", ("x",), Relation("mm", ("s1", "s2"), ("w1", "w2")))
ANIMALS = related("y", ("x",), Relation("pedigree", ("animal",), ("sire", "dam")))


def reml(V, X, y):
    inverse = np.linalg.inv(V)
    T = X.T @ inverse @ X
    e = y - X @ np.linalg.solve(T, X.T @ inverse @ y)
    size = len(y) - X.shape[1]
    logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(T)[1]
    return size * np.log(2 * np.pi) + logs + e @ inverse @ e


def test_rows_of_several_levels():
    rng = np.random.default_rng(1)
    n = 30
    table = {"y": rng.normal(size=n), "x": rng.normal(size=n), "s1": np.arange(n) % 6,
             "s2": rng.integers(0, 6, n), "w1": rng.uniform(0.3, 2, n),
             "w2": rng.uniform(0, 1, n)}  # fmt: skip
    Z = np.zeros((n, 6))
    for k in range(n):
        total = table["w1"][k] + table["w2"][k]
        Z[k, table["s1"][k]] += table["w1"][k] / total
        Z[k, table["s2"][k]] += table["w2"][k] / total
    X = np.column_stack([np.ones(n), table["x"]])
    found = Estimates(np.zeros(2), 1.2, (np.array([[0.5]]),))
    expected = reml(1.2 * np.eye(n) + 0.5 * Z @ Z.T, X, table["y"])
    assert RelatedJudge(table, MM).criterion(found) == pytest.approx(expected, abs=1e-9)


def test_animals_of_a_pedigree():
    # 3 and 4 are full sibs, 5 is their child: inbred by a quarter (Henderson 1976)
    parents = np.array([[-1, -1], [-1, -1], [0, 1], [0, 1], [2, 3]])
    A = relationships(parents)
    np.testing.assert_allclose(A[4], [0.5, 0.5, 0.75, 0.75, 1.25])
    rng = np.random.default_rng(2)
    at = np.array([0, 1, 2, 3, 4, 4, 2, 0, 1, 1])
    table = {"y": rng.normal(size=10), "x": rng.normal(size=10), "animal": at + 1,
             "sire": parents[at, 0] + 1, "dam": parents[at, 1] + 1}  # fmt: skip
    X = np.column_stack([np.ones(10), table["x"]])
    found = Estimates(np.zeros(2), 0.8, (np.array([[0.6]]),))
    expected = reml(0.8 * np.eye(10) + 0.6 * A[np.ix_(at, at)], X, table["y"])
    assert RelatedJudge(table, ANIMALS).criterion(found) == pytest.approx(expected, abs=1e-9)


def test_the_table_of_animals_names_the_variance_given_the_parents():
    table = variance.animals(0.01)
    J = int(table["animal"].max())
    parents = np.zeros((J, 2), dtype=int)
    parents[table["animal"] - 1] = np.column_stack([table["sire"], table["dam"]])
    inbreeding = np.append(np.diag(relationships(parents - 1)) - 1.0, -1.0)  # unknown: -1
    expected = 0.5 - 0.25 * inbreeding[parents - 1].sum(axis=1)
    np.testing.assert_allclose(table["mendelian"], expected[table["animal"] - 1], atol=1e-12)
    assert inbreeding.max() > 0


def test_effects_of_occasions():
    rng = np.random.default_rng(3)
    time, person = np.tile([0, 0, 1, 3], 4), np.repeat(np.arange(4), 4)
    table = {"y": rng.normal(size=16), "x": rng.normal(size=16), "time": time, "person": person}
    found = Estimates(np.zeros(2), 0.9, (), np.array([0.6, 1.5]))
    same = person[:, None] == person
    V = 0.9 * (np.eye(16) + 1.5 * same * 0.6 ** np.abs(time[:, None] - time))
    X = np.column_stack([np.ones(16), table["x"]])
    judge = OccasionsJudge(table, occasions("y", ("x",), "time", "person"))
    assert judge.criterion(found) == pytest.approx(reml(V, X, table["y"]), abs=1e-9)


@pytest.mark.parametrize("family", ["location_scale", "location_scale_gamma"])
def test_location_and_scale_effects_by_another_integral(family):
    rng = np.random.default_rng(4)
    model = location_scale("y", (), ("x",), "g", 11, family)
    table = {"y": rng.gamma(2.0, size=6), "x": rng.normal(size=6), "g": np.repeat([0, 1], 3)}
    G, extra = np.array([[0.5, 0.1], [0.1, 0.2]]), np.array([0.1, 0.3])
    found = Estimates(np.array([0.4]), 1.0, (G,), extra)

    def row(y, eta, log_variance):
        if family == "location_scale":
            return stats.norm.pdf(y, eta, np.exp(0.5 * log_variance))
        shape = np.exp(-log_variance)
        return stats.gamma.pdf(y, shape, scale=np.exp(eta) / shape)

    expected = 0.0
    prior = stats.multivariate_normal([0, 0], G).pdf
    for g in range(2):
        mine = table["g"] == g

        def joint(v, u, mine=mine):
            rows = row(table["y"][mine], 0.4 + u, extra[0] + extra[1] * table["x"][mine] + v)
            return rows.prod() * prior([u, v])

        value, _ = integrate.dblquad(joint, -5, 5, -3.5, 3.5, epsabs=1e-9, epsrel=1e-7)
        expected += -2 * np.log(value)
    assert LocationScaleJudge(table, model).criterion(found) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["row21", "mm_50k", "pedigree_10k", "ar1_effects"])
def test_our_estimates_are_at_the_criterion_that_we_print(name):
    from benchmarks.adapters import multilevel as ours
    from benchmarks.runner import _KINDS

    workload = next(w for w in WORKLOADS if w.name == name)
    table, model = workload.make(0.02), workload.model
    found = ours.estimates(ours.fit(ours.load(table, model), model, 1), model)
    value = _KINDS[model.family](table, model).criterion(Estimates.from_dict(found))
    # scale effects are integrated by 11 points
    assert value == pytest.approx(found["reported"], abs=1e-4 if model.scale else 1e-6)


def test_models_reach_a_worker_whole_and_only_programs_that_have_them_run():
    for name, programs in {
        "location_scale": {"multilevel"}, "mm_50k": {"multilevel", "lme4_modular"},
        "ar1_effects": {"multilevel", "glmmTMB"},
    }.items():  # fmt: skip
        workload = next(w for w in WORKLOADS if w.name == name)
        assert Model.from_dict(workload.model.to_dict()) == workload.model
        assert {p.name for p in PEERS if p.takes(workload)} == programs


def test_the_page_has_a_section_for_each_kind(tmp_path):
    chosen = ["import", "ar1_effects", "row18", "row14", "sleepstudy"]
    records = []
    for name in chosen:
        w = next(w for w in WORKLOADS if w.name == name)
        records += [
            {"workload": name, "peer": "multilevel", "variant": "asked", "title": w.title,
             "formula": w.model.formula, "method": w.model.method, "operation": w.operation,
             "target": None, "family": None, "size": None, "load": 0.0, "status": "ok",
             "seconds": [0.1], "median": 0.1}
        ]  # fmt: skip
    machine = {"processor": "p", "cores": 2, "memory_gb": 8, "system": "s", "commit": "",
               "ours": {}, "peers": {}, "R": {}}  # fmt: skip
    source = tmp_path / "r.json"
    source.write_text(json.dumps({
        "date": "d", "scale": 1.0, "repeats": 1, "timeout": 1, "memory_limit_gb": 1,
        "threads": {"OMP_NUM_THREADS": "2"}, "machine": machine, "records": records,
    }))  # fmt: skip
    page.write(source, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    at = [text.index(f"### {heading}") for heading in SECTIONS.values()]
    assert at == sorted(at)
    order = [text.index(f"### {r['title']}\n\n`") for r in reversed(records)]
    assert order == sorted(order)
