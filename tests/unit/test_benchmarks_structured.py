"""The judge of models with correlated residuals against one dense normal density."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks import generators
from benchmarks.criterion import Estimates
from benchmarks.criterion_structured import StructuredJudge
from benchmarks.models import Model, Residual, Term, structured
from benchmarks.peers import PEERS
from benchmarks.runner import Settings, judge
from benchmarks.workloads import WORKLOADS

import multilevel as mlm

AR1 = structured("y", ("x",), (Term(("subject",)),), Residual("ar1", "time", "subject"))
UN = structured("y", ("base",), (), Residual("un", "visit", "patient"))


def dense(V, X, y, sigma2, beta, method):
    inverse = np.linalg.inv(sigma2 * V)
    T = X.T @ inverse @ X
    beta = np.linalg.solve(T, X.T @ inverse @ y) if method == "reml" else beta
    e = y - X @ beta
    size = len(y) - X.shape[1] * (method == "reml")
    d = size * np.log(2 * np.pi) + np.linalg.slogdet(sigma2 * V)[1] + e @ inverse @ e
    return d + (np.linalg.slogdet(T)[1] if method == "reml" else 0.0)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_autoregression_with_gaps(method):
    table = generators.diary(12, 6, 1, missed=0.3)
    table = {name: values[np.random.default_rng(2).permutation(len(table["y"]))]
             for name, values in table.items()}  # fmt: skip
    same = table["subject"][:, None] == table["subject"][None]
    lags = np.abs(table["time"][:, None] - table["time"][None])
    V = same * (0.4**lags + 0.7 / 1.3)
    X, beta = np.column_stack([np.ones(len(lags)), table["x"]]), np.array([0.9, 0.2])
    found = Estimates(beta, 1.3, (np.array([[0.7]]),), np.array([0.4]))
    value = StructuredJudge(table, replace(AR1, method=method)).criterion(found)
    assert value == pytest.approx(dense(V, X, table["y"], 1.3, beta, method), abs=1e-9)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_free_covariances(method):
    table = generators.trial(9, 4, 3)
    root = np.random.default_rng(4).normal(size=(4, 4))
    R = root @ root.T + np.eye(4)
    R /= R[0, 0]
    V = np.kron(np.eye(9), R)
    X, beta = np.column_stack([np.ones(36), table["base"]]), np.array([0.1, 0.6])
    found = Estimates(beta, 0.8, (), R.ravel())
    value = StructuredJudge(table, replace(UN, method=method)).criterion(found)
    assert value == pytest.approx(dense(V, X, table["y"], 0.8, beta, method), abs=1e-9)


@pytest.mark.parametrize("name", ["ar1_gaps", "mmrm_un"])
def test_our_estimates_are_at_the_criterion_that_we_print(name, tmp_path, monkeypatch):
    from benchmarks.adapters import multilevel as ours

    workload = next(w for w in WORKLOADS if w.name == name)
    table = workload.make(0.01)
    result = ours.fit(ours.load(table, workload.model), workload.model, 1)
    assert isinstance(result, mlm.api.structured.StructuredFit)
    found = ours.estimates(result, workload.model)
    value = StructuredJudge(table, workload.model).criterion(Estimates.from_dict(found))
    assert value == pytest.approx(found["reported"], abs=1e-6)
    folder = tmp_path / "table"
    monkeypatch.setattr(type(workload), "data_folder", lambda *_: folder)
    from benchmarks import columns

    columns.write(folder, table)
    record = {"variant": "asked", "estimates": found}
    judge(workload, [record], Settings(scale=0.01))
    assert record["criterion"] == pytest.approx(value)
    assert record["above_best"] == 0.0


def test_models_survive_their_way_to_a_worker_and_only_two_programs_take_them():
    assert Model.from_dict(AR1.to_dict()) == AR1
    workload = next(w for w in WORKLOADS if w.name == "ar1_100k")
    assert [p.name for p in PEERS if p.takes(workload)] == ["multilevel", "nlme"]
