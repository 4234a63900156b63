"""Every residual structure against a dense normal density; gradients against differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multilevel.design.build import build_design
from multilevel.estimate.structured import StructuredPrepared, prepare_structured
from multilevel.estimate.structured_report import reported
from multilevel.likelihood.residual.dense import residual_matrices
from multilevel.model.formula.parse import parse_formula
from multilevel.model.residual import parse_residual
from tests.support.residual import (
    dense_criterion,
    marginal_relative,
    repeated_measures,
    residual_matrix,
)

STRUCTURES = {
    "ind": "ind(by=arm)",
    "diag": "diag(time | id)",
    "cs": "cs(time | id)",
    "csh": "csh(time | id)",
    "ar1": "ar1(time | id)",
    "arh1": "arh1(time | id)",
    "arma11": "arma11(time | id)",
    "toep": "toep(time | id)",
    "toep banded": "toep(time | id, band=2)",
    "toeph": "toeph(time | id)",
    "un": "un(time | id)",
    "fa": "fa(time | id)",
    "fa 2": "fa(time | id, rank=2)",
    "car1": "car1(time | id)",
    "exp": "exp(time | id)",
    "gau": "gau(time | id)",
    "sph": "sph(time | id)",
    "ar1 by": "ar1(time | id, by=arm)",
    "un by": "un(time | id, by=arm)",
    "cs by": "cs(1 | id, by=arm)",
    "exp by": "exp(time | id, by=arm)",
    "arh1 by": "arh1(time | id, by=arm)",
}
RANDOM = {
    "alone": "",
    "intercept": " + (1 | id)",
    "slope": " + (time | id)",
    "coarser": " + (1 | site)",
    "nested": " + (x | site/id)",
}


def problem(residual: str | None, random: str, method: str, scale: str | None = None,
            weights: str | None = None, seed: int = 1) -> StructuredPrepared:  # fmt: skip
    """A small problem with gaps."""
    kind = "" if residual is None else residual.partition("(")[0]
    data = repeated_measures(seed, continuous=kind in ("car1", "exp", "gau", "sph"))
    model = replace(
        parse_formula("y ~ time + x" + random, method),
        residual=None if residual is None else parse_residual(residual),
        scale=scale,
    )
    return prepare_structured(build_design(model, data, weights=weights), method=method)


def some_point(prepared: StructuredPrepared, seed: int = 0) -> np.ndarray:
    """A point away from the start values."""
    rng = np.random.default_rng(seed)
    objective = prepared.objective()
    start = np.concatenate([np.zeros(objective.n_theta), objective.whitener.start()])
    start[: objective.n_theta] = rng.uniform(0.3, 0.9, objective.n_theta)
    start[objective.n_theta :] += rng.normal(0.0, 0.15, len(start) - objective.n_theta)
    return start


def allowed(structure: str, random: str) -> bool:
    """Combinations that are identified."""
    kind = STRUCTURES[structure].partition("(")[0]
    by_id = random in (" + (1 | id)", " + (time | id)", " + (x | site/id)")
    return not (by_id and (kind in ("un", "fa", "cs") or structure == "toep"))


def check_value_and_gradient(prepared: StructuredPrepared, kind: str, by: str | None,
                             scale: list[str], weights: bool = False) -> None:  # fmt: skip
    objective = prepared.objective()
    psi = some_point(prepared)
    value = objective.value(psi)
    gradient = objective.gradient(psi)
    design, scaling = prepared.plain.design, prepared.plain.scaling
    data = repeated_measures(1, continuous=kind in ("car1", "exp", "gau", "sph"))
    names, values = reported(prepared.layout, psi[objective.n_theta :])
    R = residual_matrix(kind, dict(zip(names, values, strict=True)), data, by, scale)
    if weights:
        w = data["w"].to_numpy()
        R = R / np.sqrt(np.outer(w, w))
    inner = objective.ensure(psi)
    factors = [B @ L for B, L in zip(scaling.random, inner.factors, strict=True)]
    V = marginal_relative(design, factors, R)
    reml = prepared.method == "reml"
    expected, beta, sigma2 = dense_criterion(V, design.X, design.y, reml)
    shift = scaling.criterion_shift(design.n, design.X.shape[1], reml)
    assert value + shift == pytest.approx(expected, abs=1e-8)
    profile = inner.profile
    assert profile is not None
    np.testing.assert_allclose(scaling.beta(profile.beta), beta, rtol=1e-8, atol=1e-9)
    assert profile.sigma2 * scaling.y_scale**2 == pytest.approx(sigma2, rel=1e-9)
    for a in range(len(psi)):
        shift_a = np.zeros(len(psi))
        shift_a[a] = 1e-5
        slope = (objective.value(psi + shift_a) - objective.value(psi - shift_a)) / 2e-5
        assert gradient[a] == pytest.approx(slope, rel=2e-6, abs=2e-6), a


CELLS = [(s, r) for s in STRUCTURES for r in RANDOM if allowed(s, RANDOM[r])]


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize(("structure", "random"), CELLS)
def test_structure_equals_dense_density(structure: str, random: str, method: str) -> None:
    text = STRUCTURES[structure]
    by = "arm" if "by=" in text else None
    prepared = problem(text, RANDOM[random], method)
    check_value_and_gradient(prepared, text.partition("(")[0], by, [])


def dense_average_information(prepared: StructuredPrepared, psi: np.ndarray) -> np.ndarray:
    """``{f'Pf - (f'r)(f'r)' / r2} / sigma2`` with ``f_a = dV_a P y``, from dense matrices."""
    objective = prepared.objective()
    inner = objective.ensure(psi)
    problem, layout, r = prepared.problem, prepared.layout, objective.n_theta
    F, Q = problem.F, problem.n_random

    def V(point: np.ndarray) -> np.ndarray:
        out = residual_matrices(layout, point[r:], layout.order[None])[0][0]
        at = 0
        for code, q, m, s in zip(
            problem.codes, problem.widths, problem.maps, inner.slices, strict=True
        ):
            ZL = F[:, at : at + q] @ m.factor(point[:r][s])
            out = out + (ZL @ ZL.T) * (code[:, None] == code[None])
            at += q
        return out

    X, y = F[:, Q:-1], F[:, -1]
    inverse = np.linalg.inv(V(psi))
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    rows = P @ y
    steps = np.eye(len(psi)) * 1e-6
    f = np.stack([(V(psi + h) - V(psi - h)) @ rows / 2e-6 for h in steps], axis=1)
    r2 = float(y @ rows)
    nu = len(y) - X.shape[1] if prepared.method == "reml" else len(y)
    H = (f.T @ P @ f - np.outer(f.T @ rows, f.T @ rows) / r2) * nu / r2
    H[:r, :r] += inner.second_order_term() if r else 0.0
    return H


@pytest.mark.parametrize(
    ("structure", "random"), [c for c in CELLS if c[1] in ("alone", "nested", "coarser")]
)
def test_average_information_equals_its_dense_definition(structure: str, random: str) -> None:
    prepared = problem(STRUCTURES[structure], RANDOM[random], "reml")
    psi = some_point(prepared)
    found = prepared.objective().average_information(psi)
    expected = dense_average_information(prepared, psi)
    np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("random", ["alone", "slope", "nested"])
@pytest.mark.parametrize("structure", [None, "ar1(time | id)", "csh(time | id)"])
def test_scale_formula_and_weights(structure: str | None, random: str, method: str) -> None:
    prepared = problem(structure, RANDOM[random], method, scale="x + w", weights="w")
    kind = "ind" if structure is None else structure.partition("(")[0]
    check_value_and_gradient(prepared, kind, None, ["x", "w"], weights=True)
