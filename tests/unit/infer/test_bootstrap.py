"""Bootstraps: the batch equals single fits, draws have the model's moments, nothing is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated, random_effects
from multilevel.estimate.prepare import prepare
from multilevel.infer.bootstrap import bootstrap
from multilevel.infer.bootstrap_draws import ResidualSource, StatisticSource, draw_response
from multilevel.infer.bootstrap_intervals import bootstrap_intervals
from multilevel.infer.bootstrap_rows import RowSource
from multilevel.infer.variance_intervals import quantities
from multilevel.likelihood.gaussian.batch import fit_responses
from tests.support.designs import design_of
from tests.support.oracle import random_rows

CASES = [
    (kind, structure, method)
    for kind, structure in [
        ("one", "unstructured"),
        ("slope", "unstructured"),
        ("slope", "diagonal"),
        ("slope", "compound_symmetry"),
        ("three", "identity"),
    ]
    for method in ("ml", "reml")
]


def problem(kind, structure="unstructured", method="reml", seed=2, weighted=True):
    prepared = prepare(design_of(random_rows(kind, seed, weighted), [structure] * 3), method=method)
    return prepared, solve(prepared)


def seed(k: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(k)


@pytest.mark.parametrize(("kind", "structure", "method"), CASES)
def test_batch_equals_single_fits(kind, structure, method):
    """Same drawn statistics, compiled loop against ``solve``: one optimum to rounding."""
    prepared, fit = problem(kind, structure, method)
    drawn = StatisticSource.of(prepared.cross, evaluated(prepared, fit)).draw(
        25, np.random.default_rng(1)
    )
    mapping = prepared.design.blocks[0].structure
    found = fit_responses(prepared.cross, mapping, drawn, fit.theta, method == "reml")
    shift = prepared.scaling.criterion_shift(prepared.cross.n, fit.n_fixed, method == "reml")
    assert found.is_interior.sum() >= 5
    for k in np.flatnonzero(found.is_interior):
        single = solve(replace(prepared, cross=drawn.cross_products(prepared.cross, int(k))))
        assert found.criterion[k] + shift == pytest.approx(single.criterion, abs=1e-8)
        assert prepared.scaling.beta(found.beta[k]) == pytest.approx(single.beta, abs=1e-5)
        L = prepared.scaling.random[0] @ mapping.factor(found.theta[k])
        G = found.sigma2[k] * prepared.scaling.y_scale**2 * (L @ L.T)
        assert pytest.approx(single.random_covariance[0], abs=1e-4) == G


def test_boundary_replicates_are_solved_one_by_one():
    prepared, fit = problem("slope", seed=7)
    batched = bootstrap(prepared, fit, 60, seed(), batched=True)
    plain = bootstrap(prepared, fit, 60, seed(), batched=False)
    assert batched.status == plain.status
    assert "singular" in batched.status
    assert batched.criterion == pytest.approx(plain.criterion, abs=1e-7)
    assert batched.beta == pytest.approx(plain.beta, abs=1e-5)


@pytest.mark.parametrize("kind", ["one", "slope", "three"])
def test_statistics_have_the_moments_of_rows(kind):
    """Mean and covariance of the drawn statistics, and by definition from V, weights included."""
    prepared, fit = problem(kind)
    objective = evaluated(prepared, fit)
    source = StatisticSource.of(prepared.cross, objective)
    R = 20_000
    drawn = source.draw(R, np.random.default_rng(3))
    d, B = prepared.design, prepared.scaling.random[0]
    root = np.sqrt(d.weights)[:, None]
    U, p = prepared.scaling.U, d.X.shape[1]
    X = root * (d.X @ U[:p, :p])
    Z = root * (d.blocks[0].columns @ B)
    code = d.blocks[0].codes
    J, q = d.blocks[0].n_levels, Z.shape[1]
    wide = np.zeros((d.n, J * q))
    for a in range(q):
        wide[np.arange(d.n), code * q + a] = Z[:, a]
    L = objective.factors[0]
    sigma2 = objective.profile.sigma2
    V = sigma2 * (np.eye(d.n) + wide @ np.kron(np.eye(J), L @ L.T) @ wide.T)
    mu = X @ objective.profile.beta
    M = np.column_stack([wide, X])
    found = np.column_stack([drawn.zy.reshape(R, -1), drawn.xy])
    covariance = M.T @ V @ M
    size = np.sqrt(np.diag(covariance))
    assert (found.mean(0) - M.T @ mu) / size == pytest.approx(np.zeros(len(size)), abs=0.04)
    gap = (np.cov(found.T) - covariance) / np.outer(size, size)
    assert np.abs(gap).max() < 0.05
    mean = np.trace(V) + mu @ mu
    spread = 2 * np.trace(V @ V) + 4 * mu @ V @ mu
    assert drawn.yy.mean() == pytest.approx(mean, abs=5 * np.sqrt(spread / R))
    assert drawn.yy.var() == pytest.approx(spread, rel=0.06)
    with_yy = (found.T @ (drawn.yy - drawn.yy.mean())) / R
    assert (with_yy - 2 * M.T @ V @ mu) / size / np.sqrt(spread) == pytest.approx(
        np.zeros(len(size)), abs=0.05
    )


def test_responses_have_the_covariance_of_the_model():
    """Crossed factors draw rows: Var(y) by definition."""
    prepared, fit = problem("crossed_slopes")
    rng = np.random.default_rng(1)
    y = np.array([draw_response(prepared.design, fit, rng) for _ in range(20_000)])
    V = np.diag(fit.sigma2 / prepared.design.weights)
    for block, G in zip(prepared.design.blocks, fit.random_covariance, strict=True):
        V += (block.columns @ G @ block.columns.T) * (block.codes[:, None] == block.codes)
    size = np.sqrt(np.diag(V))
    assert np.abs((np.cov(y.T) - V) / np.outer(size, size)).max() < 0.06
    assert np.abs(y.mean(0) - prepared.design.X @ fit.beta).max() < 5 * size.max() / 141


def test_inflated_effects_have_the_estimated_variances():
    """Carpenter, Goldstein & Rasbash 2003: what is drawn has covariance G and variance sigma2."""
    prepared, fit = problem("slope", seed=4)
    source = ResidualSource.of(prepared.design, fit, random_effects(prepared, fit))
    u = source.effects[0]
    assert u.mean(0) == pytest.approx(np.zeros(2), abs=1e-12)
    assert u.T @ u / len(u) == pytest.approx(fit.random_covariance[0])
    assert source.residuals.mean() == pytest.approx(0.0, abs=1e-12)
    assert np.mean(source.residuals**2) == pytest.approx(fit.sigma2)


def test_drawn_clusters_are_whole_and_count_apart():
    prepared, _ = problem("nested")
    design = prepared.design
    source = RowSource.of([design], "cluster")
    (drawn,) = source.draw(np.random.default_rng(2))
    top, old = drawn.blocks[-1], design.blocks[-1]
    assert top.n_levels == old.n_levels
    sizes = np.bincount(old.codes)
    position = {int(r): int(old.codes[i]) for i, r in enumerate(design.rows.kept)}
    for j in range(top.n_levels):
        rows = drawn.rows.kept[top.codes == j]
        assert len({position[int(r)] for r in rows}) == 1
        assert len(rows) == sizes[position[int(rows[0])]]
    for fine in range(drawn.blocks[0].n_levels):
        assert len(set(top.codes[drawn.blocks[0].codes == fine])) == 1
    crossed, _ = problem("crossed")
    with pytest.raises(InferenceError, match="nested factors"):
        RowSource.of([crossed.design], "cluster")


@pytest.mark.parametrize("kind", ["parametric", "residual", "cluster"])
def test_the_seed_decides_and_nothing_else(kind):
    prepared, fit = problem("slope", weighted=False)
    a = bootstrap(prepared, fit, 12, seed(3), kind=kind)
    b = bootstrap(prepared, fit, 12, seed(3), kind=kind)
    other = bootstrap(prepared, fit, 12, seed(4), kind=kind)
    assert np.array_equal(a.beta, b.beta, equal_nan=True)
    assert not np.array_equal(a.beta, other.beta, equal_nan=True)
    assert len(a.status) == 12
    assert "12 refits" in a.sentence


def test_failures_are_rows_with_a_reason():
    """Clusters that all miss a category make the columns dependent: a status, not an omission."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 5)
    rare = (g == 0).astype(float)
    y = rng.standard_normal(30) + rng.standard_normal(6)[g]
    m = mlm.fit("y ~ rare + (1 | g)", {"y": y, "rare": rare, "g": g}, advice=False)
    frame = m.bootstrap(40, kind="cluster", seed=1)
    failed = frame["status"].str.startswith("failed: ")
    assert 0 < failed.sum() < 40
    assert frame.loc[failed, "rare"].isna().all()
    assert frame.loc[~failed, "rare"].notna().all()
    assert f"{failed.sum()} failed" in frame.attrs["sentence"]


def test_intervals_are_quantiles_of_the_replicates():
    m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb(), advice=False)
    frame = m.bootstrap(60, seed=5)
    found = m.confint("bootstrap", n_boot=60, seed=5, conf_level=0.8)
    basic = m.confint("bootstrap", n_boot=60, seed=5, conf_level=0.8, interval="basic")
    names = ["(Intercept)", "ses", "sd((Intercept) | school)", "sd(Residual)"]
    for k, name in enumerate(names):
        low, high = np.quantile(frame[name], [0.1, 0.9])
        assert found.loc[k, ["conf_low", "conf_high"]].tolist() == pytest.approx([low, high])
        assert found["std_error"][k] == pytest.approx(frame[name].std())
        mirrored = [2 * found["estimate"][k] - high, 2 * found["estimate"][k] - low]
        assert basic.loc[k, ["conf_low", "conf_high"]].tolist() == pytest.approx(mirrored)
    assert frame["ses"].std() == pytest.approx(np.sqrt(m.vcov_fixed.loc["ses", "ses"]), rel=0.3)


def test_refusals():
    prepared, fit = problem("one")
    for match, options in {
        "kind of bootstrap": {"n_boot": 5, "kind": "wild"},
        "at least one": {"n_boot": 0},
    }.items():
        with pytest.raises(InferenceError, match=match):
            bootstrap(prepared, fit, seed=seed(), **options)
    few = bootstrap(prepared, fit, 5, seed())
    wanted = quantities(prepared.design, ("sd",))
    with pytest.raises(InferenceError, match="at least 20"):
        bootstrap_intervals(few, fit, wanted, 0.95)
    with pytest.raises(InferenceError, match="percentile"):
        bootstrap_intervals(few, fit, wanted, 0.95, "bca")
