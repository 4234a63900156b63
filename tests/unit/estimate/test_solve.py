"""Fits of small designs: the optimum, its certificate, its boundary, its way back to user units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from multilevel.errors import DesignError, EstimationError, LikelihoodError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import random_effects
from multilevel.estimate.prepare import prepare, with_method, with_response
from multilevel.model.covariance.structures import lower_factor
from tests.support.designs import design_of
from tests.support.oracle import KINDS, DenseOracle, Rows, random_rows


def dense_criterion(rows, fit, reml):
    """The criterion from V = ZGZ' + sigma2 R on the raw scale, nothing profiled."""
    oracle = DenseOracle(rows)
    oracle.factorise([lower_factor(G / fit.sigma2) for G in fit.random_covariance])
    n, p = rows.X.shape
    X, y = oracle.W[:, :p], oracle.W[:, p]
    e = y - X @ fit.beta
    V = fit.sigma2 * oracle.V
    d = np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e)
    d -= 0.0 if rows.weights is None else np.log(rows.weights).sum()
    if reml and p:
        d += np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1]
    return d + (n - p if reml else n) * np.log(2 * np.pi)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_the_optimum_and_is_certified(kind, seed, method):
    rows = random_rows(kind, seed, weighted=seed == 1)
    prepared = prepare(design_of(rows), method=method)
    fit = solve(prepared)
    assert fit.certificate.is_certified, fit.certificate.sentence
    assert fit.criterion == pytest.approx(dense_criterion(rows, fit, method == "reml"), abs=1e-7)
    objective = prepared.objective()
    ours = objective.value(fit.theta)
    rng = np.random.default_rng(seed)
    best = min(
        minimize(objective.value, rng.uniform(0.1, 1.5, len(fit.theta)), method="BFGS").fun
        for _ in range(2)
    )
    assert ours <= best + 1e-7


@pytest.mark.parametrize("structure", ["diagonal", "compound_symmetry", "identity"])
@pytest.mark.parametrize("kind", ["three", "nested_slopes", "crossed_slopes"])
def test_structures_are_optima_too(kind, structure):
    rows = random_rows(kind, 4)
    design = design_of(rows, [structure] * len(rows.blocks))
    prepared = prepare(design, method="reml")
    fit = solve(prepared)
    assert fit.certificate.is_certified, fit.certificate.sentence
    objective = prepared.objective()
    best = min(
        minimize(objective.value, np.full(len(fit.theta), s), method="BFGS").fun for s in (0.2, 1.0)
    )
    assert objective.value(fit.theta) <= best + 1e-7
    for block, G in zip(design.blocks, fit.random_covariance, strict=True):
        if structure == "diagonal":
            assert np.allclose(G, np.diag(np.diag(G)))
        if structure == "identity" and len(G) > 1:
            # equal variances of columns scaled by one number only
            assert np.allclose(G, G[0, 0] * np.eye(len(G)))
        if structure == "compound_symmetry" and len(G) > 1:
            off = G[~np.eye(len(G), dtype=bool)]
            assert np.ptp(off) < 1e-9 * np.abs(G).max()
            assert np.ptp(np.diag(G)) < 1e-9 * np.abs(G).max()
        assert block.structure.n_parameters >= 1


def _no_slope_variance(seed, J=40, nj=8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), nj)
    x = rng.standard_normal(J * nj)
    X = np.column_stack([np.ones(J * nj), x])
    y = 2 + x + 0.7 * rng.standard_normal(J)[g] + rng.standard_normal(J * nj)
    return Rows(y, X, ((g, X.copy()),))


def test_singular_fits_reach_the_exact_boundary_and_are_explained():
    n_singular = 0
    for seed in range(12):
        rows = _no_slope_variance(seed)
        fit = solve(prepare(design_of(rows), method="reml"))
        assert fit.certificate.is_certified
        if fit.certificate.status == "singular":
            n_singular += 1
            assert fit.certificate.boundary_residual >= -1e-8
            assert abs(np.linalg.det(fit.random_covariance[0])) < 1e-12
            direction = fit.certificate.redundant[0]
            w = np.array([direction.weights.get(n, 0.0) for n in ("(Intercept)", "z1")])
            assert w @ fit.random_covariance[0] @ w < 1e-12
            assert direction.group in direction.sentence
    assert n_singular >= 3


def test_zero_variance_is_found_exactly_and_left_when_it_should_be():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 5)
    e = rng.standard_normal(30)
    e -= np.repeat([v.mean() for v in e.reshape(6, 5)], 5)  # no variance between groups at all
    rows = Rows(e + 5.0, np.ones((30, 1)), ((g, np.ones((30, 1))),))
    prepared = prepare(design_of(rows), method="reml")
    fit = solve(prepared)
    assert fit.certificate.status == "singular"
    assert fit.random_covariance[0][0, 0] == 0.0
    shifted = with_response(prepared, e + 5.0 + 3.0 * g)
    again = solve(shifted, theta_start=fit.theta)  # starts at the zero that hides its gradient
    assert again.certificate.status == "certified"
    assert again.random_covariance[0][0, 0] > 1.0


def test_refit_equals_a_fit_from_scratch():
    rows = random_rows("crossed_slopes", 6)
    prepared = prepare(design_of(rows), method="reml")
    y = np.random.default_rng(0).standard_normal(len(rows.y)) * 3 + rows.X @ [4.0, 1.0]
    again = solve(with_response(prepared, y))
    scratch = solve(prepare(design_of(replace(rows, y=y)), method="reml"))
    assert again.criterion == pytest.approx(scratch.criterion, abs=1e-9)
    np.testing.assert_allclose(again.beta, scratch.beta, rtol=1e-7)
    assert solve(with_method(prepared, "ml")).method == "ml"


def test_offset_is_taken_off_the_response():
    rows = random_rows("slope", 2)
    offset = np.random.default_rng(1).standard_normal(len(rows.y))
    with_offset = solve(
        prepare(design_of(replace(rows, y=rows.y + offset), offset=offset), method="ml")
    )
    without = solve(prepare(design_of(rows), method="ml"))
    assert with_offset.criterion == pytest.approx(without.criterion, abs=1e-9)


def test_no_fixed_effects():
    rows = random_rows("slope", 2, p=0)
    fit = solve(prepare(design_of(rows), method="reml"))
    assert fit.beta.shape == (0,)
    assert fit.criterion == pytest.approx(dense_criterion(rows, fit, True), abs=1e-8)


@pytest.mark.parametrize("kind", ["slope", "deep", "crossed_slopes"])
def test_random_effects_equal_their_definition(kind):
    rows = random_rows(kind, 8, weighted=True)
    prepared = prepare(design_of(rows), method="reml")
    fit = solve(prepared)
    oracle = DenseOracle(rows)
    oracle.factorise(list(fit.relative_factors))
    X = oracle.W[:, :-1]
    e = oracle.W[:, -1] - X @ fit.beta
    for t, effects in enumerate(random_effects(prepared, fit)):
        Psi = fit.random_covariance[t] / fit.sigma2
        J, q = effects.estimates.shape
        expected = (oracle.Zs[t].T @ oracle.Vi @ e).reshape(J, q) @ Psi
        np.testing.assert_allclose(effects.estimates, expected, rtol=1e-6, atol=1e-9)
        big = np.kron(np.eye(J), Psi)
        Z, Vi = oracle.Zs[t], oracle.Vi
        known = fit.sigma2 * (big - big @ Z.T @ Vi @ Z @ big)
        Phi = np.linalg.inv(X.T @ Vi @ X)
        half = big @ Z.T @ Vi @ X
        full = known + fit.sigma2 * half @ Phi @ half.T
        for level in (0, J - 1):
            s = slice(level * q, level * q + q)
            scale = np.abs(known[s, s]).max()
            np.testing.assert_allclose(
                effects.covariance([level])[0], known[s, s], atol=1e-7 * scale
            )
            np.testing.assert_allclose(
                effects.prediction_covariance([level])[0], full[s, s], atol=1e-7 * scale
            )


def test_bad_problems_are_refused_with_their_reason():
    rows = random_rows("one", 1)
    with pytest.raises(DesignError, match="must vary"):
        prepare(design_of(replace(rows, y=np.full(len(rows.y), 3.0))), method="reml")
    exact = replace(rows, y=rows.X @ [1.0, 2.0])
    with pytest.raises(LikelihoodError, match="residual variance must be positive"):
        solve(prepare(design_of(exact), method="reml"))
    short = Rows(rows.y[:2], rows.X[:2], ((np.array([0, 1]), np.ones((2, 1))),))
    with pytest.raises(EstimationError, match="more rows"):
        prepare(design_of(short), method="reml")
    prepared = prepare(design_of(rows), method="reml")
    with pytest.raises(EstimationError, match="one value per analysed row"):
        with_response(prepared, rows.y[:-1])
    with pytest.raises(EstimationError, match="finite"):
        with_response(prepared, np.where(np.arange(len(rows.y)) == 3, np.nan, rows.y))
    with pytest.raises(EstimationError, match="one entry per covariance parameter"):
        solve(prepared, theta_start=np.ones(5))
    with pytest.raises(EstimationError, match="one of nested"):
        prepare(design_of(rows), method="reml", engine="magic")


def test_too_few_iterations_are_not_certified():
    rows = random_rows("three", 0)
    fit = solve(prepare(design_of(rows), method="reml"), max_iterations=1)
    assert fit.certificate.status == "not_certified"
    assert "Do not trust" in fit.certificate.sentence


def test_every_engine_gives_the_same_fit():
    rows = random_rows("mixed", 3)
    design = design_of(rows)
    fits = [solve(prepare(design, method="reml", engine=e)) for e in ("small", "dense", "sparse")]
    for fit in fits[1:]:
        assert fit.criterion == pytest.approx(fits[0].criterion, abs=1e-7)
        np.testing.assert_allclose(fit.beta, fits[0].beta, rtol=1e-6)


@pytest.mark.parametrize(("mean", "digits"), [(100.0, 1e-7), (1000.0, 1e-5)])
def test_nearly_dependent_columns_keep_their_digits(mean, digits):
    """A raw cubic far from its zero spans the same space as the centred one."""
    rng = np.random.default_rng(0)
    g = np.sort(rng.integers(0, 40, 800))
    g = np.unique(g, return_inverse=True)[1]
    z = rng.standard_normal(800)
    y = (
        1
        + 0.5 * z
        + 0.2 * z**2
        - 0.1 * z**3
        + rng.standard_normal(40)[g]
        + rng.standard_normal(800)
    )
    fits = []
    for x in (z, z + mean):
        X = np.column_stack([np.ones(800), x, x**2, x**3])
        fits.append(solve(prepare(design_of(Rows(y, X, ((g, np.ones((800, 1))),))), method="ml")))
    assert fits[1].criterion == pytest.approx(fits[0].criterion, abs=digits)
    assert fits[1].beta[-1] == pytest.approx(fits[0].beta[-1], rel=digits)
    ratio = fits[1].vcov_beta[-1, -1] / fits[0].vcov_beta[-1, -1]
    assert ratio == pytest.approx(1.0, abs=digits)


def test_a_residual_variance_of_zero_is_said_and_not_certified():
    """Random intercepts and a fixed slope that give the response exactly."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(20), 6)
    x = rng.standard_normal(120)
    X = np.column_stack([np.ones(120), x])
    rows = Rows(2 * x + rng.standard_normal(20)[g], X, ((g, np.ones((120, 1))),))
    certificate = solve(prepare(design_of(rows), method="reml")).certificate
    assert certificate.status == "not_certified"
    assert "residual variance goes to zero" in certificate.sentence
