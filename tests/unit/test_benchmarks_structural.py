"""The judge of structural models against one normal density, and against what we print."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.criterion import Estimates
from benchmarks.criterion_structural import StructuralJudge, random_slopes
from benchmarks.models import Model, Structural, structural_model
from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS
from scipy import stats

SMALL = structural_model(
    Structural(
        "level: 1\n a | m ~ x\n b | y ~ m\n y ~ x\nlevel: 2\n m ~~ y", ("g",), ("y", "m"), ("x",)
    )
)


def test_random_slopes_are_the_stacked_normal_density():
    """m given x, y given m and x, the four effects of a cluster integrated out by hand."""
    rng = np.random.default_rng(1)
    g = rng.permutation(np.repeat(np.arange(5), 4))
    table = {name: rng.normal(size=20) for name in ("x", "m", "y")} | {"g": g}
    table["m"][3] = np.nan  # m of a row is missing where y does not depend on it
    table["y"][3] = np.nan
    root = rng.normal(size=(4, 4))
    G = root @ root.T + np.eye(4)  # of m, y, a, b
    means = {"m": 0.3, "y": -0.2, "a": 0.5, "b": 0.4}
    names = list(means)
    lines = [(2, name, "~1", "", value) for name, value in means.items()]
    lines += [(2, names[i], "~~", names[j], G[i, j]) for i in range(4) for j in range(i + 1)]
    lines += [(1, "m", "~~", "m", 1.3), (1, "y", "~~", "y", 0.7), (1, "y", "~", "x", 0.25)]
    lines += [(1, "x", "~~", "x", 9.0), (1, "x", "~1", "", 9.0)]
    expected = 0.0
    for cluster in range(5):
        rows = np.flatnonzero((g == cluster) & np.isfinite(table["m"]))
        x, m = table["x"][rows], table["m"][rows]
        none, one = np.zeros(len(rows)), np.ones(len(rows))
        Z = np.block([[np.column_stack([one, none, x, none])],
                      [np.column_stack([none, one, none, m])]])  # fmt: skip
        R = np.diag(np.concatenate([1.3 * one, 0.7 * one]))
        mean = Z @ np.array(list(means.values())) + np.concatenate([none, 0.25 * x])
        values = np.concatenate([m, table["y"][rows]])
        expected += -2 * stats.multivariate_normal.logpdf(values, mean, Z @ G @ Z.T + R)
    found = Estimates(np.zeros(0), 1.0, (), parameters=tuple(lines))
    assert StructuralJudge(table, SMALL).criterion(found) == pytest.approx(expected, abs=1e-9)
    assert random_slopes(SMALL.structural.text) == [("a", "m", "x"), ("b", "y", "m")]


def test_a_factor_measured_at_two_levels():
    model = structural_model(
        Structural("level: 1\n f =~ y + z\nlevel: 2\n y ~ w\n z ~~ y", ("g",), ("y", "z"), ("w",))
    )
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(3), 2)
    table = {"y": rng.normal(size=6), "z": rng.normal(size=6), "w": g * 0.5, "g": g}
    lines = (
        (1, "f", "=~", "y", 1.0), (1, "f", "=~", "z", 0.8), (1, "f", "~~", "f", 0.9),
        (1, "y", "~~", "y", 0.5), (1, "z", "~~", "z", 0.6), (2, "y", "~~", "y", 0.4),
        (2, "z", "~~", "z", 0.3), (2, "z", "~~", "y", 0.1), (2, "y", "~1", "", 1.0),
        (2, "z", "~1", "", -1.0), (2, "y", "~", "w", 0.7),
    )  # fmt: skip
    within = 0.9 * np.outer([1, 0.8], [1, 0.8]) + np.diag([0.5, 0.6])
    between = np.array([[0.4, 0.1], [0.1, 0.3]])
    V = np.kron(np.eye(6), within) + np.kron(g[:, None] == g, between)
    mean = np.column_stack([1.0 + 0.7 * table["w"], -np.ones(6)]).ravel()
    values = np.column_stack([table["y"], table["z"]]).ravel()
    expected = -2 * stats.multivariate_normal.logpdf(values, mean, V)
    found = Estimates(np.zeros(0), 1.0, (), parameters=lines)
    assert StructuralJudge(table, model).criterion(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "name", ["mediation_demo", "row18_holes", "mediation_slopes", "mediation_three"]
)
def test_our_estimates_are_at_the_criterion_that_we_print(name):
    from benchmarks.adapters import multilevel as ours

    workload = next(w for w in WORKLOADS if w.name == name)
    table = workload.make(0.2)
    model = workload.model
    found = ours.estimates(ours.fit(ours.load(table, model), model, 1), model)
    value = StructuralJudge(table, model).criterion(Estimates.from_dict(found))
    assert value == pytest.approx(found["reported"], abs=1e-6)


def test_models_reach_a_worker_whole_and_only_programs_that_have_them_run():
    assert Model.from_dict(SMALL.to_dict()) == SMALL

    def takers(name):
        workload = next(w for w in WORKLOADS if w.name == name)
        return {p.name for p in PEERS if p.takes(workload)}

    assert takers("row18") == {"multilevel", "multilevel_tests", "lavaan", "lavaan_plain"}
    assert takers("mediation_slopes") == {"multilevel", "nlme", "glmmTMB"}
    assert takers("mediation_three") == {"multilevel"}
