"""Error estimates and working curvature of the joint Laplace approximation, against definitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import logsumexp

from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.joint_error import (
    STEP,
    JointSample,
    SecondOrder,
    sample_jointly,
    sampled_error,
    second_order,
    second_order_error,
)
from multilevel.likelihood.generalized.leaf_sampling import LeafIntegrator
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import Response
from multilevel.likelihood.generalized.storage_choice import STORAGES
from multilevel.model.covariance.structures import factor_map
from tests.support.laplace_oracle import DenseLaplace, dense_Z, random_problem, random_psi
from tests.support.row_families import Logit


def small_crossed(n=24, levels=(2, 2), seed=4):
    """Two crossed intercepts with so few levels that the integral can be done on a grid."""
    rng = np.random.default_rng(seed)
    one = factor_map(((1, "unstructured"),))
    blocks = tuple(
        EffectBlock(
            np.concatenate([np.arange(J), rng.integers(0, J, n - J)]).astype(np.int32),
            J,
            np.ones((n, 1), order="F"),
            (0,),
            one,
        )
        for J in levels
    )
    y = (rng.random(n) < 0.6).astype(float)
    X = np.asfortranarray(np.ones((n, 1)))
    return GeneralizedProblem(Response(y), (FixedPart(X),), blocks, Logit)


def grid_criterion(problem, psi, nodes=12):
    """``-2 log L`` by Gauss-Hermite integration over all random effects, centred at the mode."""
    dense = DenseLaplace(problem, psi)
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    N = len(dense.u)
    e = np.array(list(product(x, repeat=N))).T
    log_w = np.sum(np.array(list(product(np.log(w / np.sqrt(2 * np.pi)), repeat=N))), axis=1)
    root = np.linalg.cholesky(np.linalg.inv(dense.H))
    u = dense.u[:, None] + root @ e
    eta = dense.fixed[:, None] + (dense_Z(problem, psi)[0] @ u).T[None]
    h = problem.row_likelihood().value(eta).sum(axis=1) - 0.5 * (u**2).sum(axis=0)
    return -2.0 * float(logsumexp(log_w + h + 0.5 * (e**2).sum(axis=0))) + dense.logdet


@pytest.fixture(scope="module")
def integrated():
    problem, psi = small_crossed(), np.array([0.3, 1.4, 0.9])
    return problem, psi, grid_criterion(problem, psi)


@pytest.mark.parametrize("storage", STORAGES)
def test_sampling_finds_the_integral_and_the_second_order_term_most_of_the_error(
    storage, integrated
):
    problem, psi, exact = integrated
    objective = CrossedLaplace(problem, storage)
    truth = objective.value(psi) - exact
    found = objective.error_estimate(np.random.default_rng(3), 12_000)
    assert found.method == "importance sampling"
    assert found.std_error < 0.1 * abs(truth)
    assert abs(found.criterion - truth) < 3.5 * found.std_error
    term = objective.error_estimate(np.random.default_rng(3), 0)
    assert term.method == "second-order Laplace"
    assert term.std_error == 0.0
    assert abs(term.criterion - truth) < 0.4 * abs(truth)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["crossed_slopes", "deep", "mixed"])
def test_noise_gets_the_covariance_of_the_modes(kind, storage):
    problem = random_problem(kind, "poisson")
    objective = CrossedLaplace(problem, storage)
    objective.value(random_psi(problem))
    N = objective.layout.n_effects
    root = objective.storage.colour(np.eye(N))
    assert root @ root.T == pytest.approx(objective.storage.solve(np.eye(N)), abs=1e-11)


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("family", "spread"), [("logit", "mean"), ("student", "mean"), ("gauss", "both")]
)
def test_the_second_order_term_is_its_definition(family, spread, storage, pairs):
    problem = random_problem("crossed_slopes", family, spread=spread)
    psi = random_psi(problem, scale=0.6)
    objective = CrossedLaplace(problem, storage)
    objective.value(psi)
    point = objective._set_point()
    leverage, _ = objective._leverages(objective._one_group, 1)
    found = second_order(objective.search, objective._Z, point, leverage, pairs)
    assert found.has_pairs is pairs
    assert found.value == pytest.approx(_by_definition(problem, psi, pairs), rel=1e-7, abs=1e-9)


def _by_definition(problem, psi, pairs):
    dense = DenseLaplace(problem, psi)
    rows, eta = problem.row_likelihood(), dense.eta(dense.u)
    A = np.einsum("rna,ab,smb->rnsm", dense.Z, np.linalg.inv(dense.H), dense.Z)
    own = np.einsum("rnsn->rsn", A)
    random = list(problem.random_parts)
    third = rows.derivatives(eta).third[:, :, random]
    total = 0.0
    for d, part in enumerate(random):
        shift = np.zeros_like(eta)
        shift[part] = STEP
        up, down = rows.derivatives(eta + shift).third, rows.derivatives(eta - shift).third
        fourth = (up - down)[:, :, random] / (2 * STEP)
        total += np.einsum("abcn,abn,cn->", fourth, own, own[:, d]) / 8
    pull = np.einsum("abcn,abn->cn", third, own)
    total += np.einsum("cn,cnfm,fm->", pull, A, pull) / 8
    if pairs:
        total += np.einsum("abcn,defm,andm,bnem,cnfm->", third, third, A, A, A, optimize=True) / 12
    return total


def test_draws_that_carry_little_are_not_believed():
    weak = JointSample(5.0, 0.1, 1000, 3.0)
    assert not weak.is_reliable
    found = second_order_error(SecondOrder(0.2, False), 1234, weak)
    assert found.method == "second-order Laplace"
    assert found.criterion == pytest.approx(0.4)
    assert "1000 draws worth only 3" in found.sentence
    assert "without the part that pairs all 1,234 rows" in found.sentence
    strong = JointSample(0.3, 0.01, 1000, 800.0, nodes=11)
    assert strong.is_reliable
    trusted = sampled_error(strong)
    assert (trusted.criterion, trusted.std_error) == (0.6, 0.02)
    assert "11 quadrature points" in trusted.sentence


@pytest.mark.parametrize("storage", STORAGES)
def test_joint_draws_agree_with_the_integral_too(storage, integrated):
    problem, psi, exact = integrated
    objective = CrossedLaplace(problem, storage)
    truth = objective.value(psi) - exact
    args = (objective.search, objective._fixed, objective._Z, objective._set_point())
    found = sampled_error(sample_jointly(*args, np.random.default_rng(3), 12_000))
    assert "all random effects together" in found.sentence
    assert 0.0 < found.std_error < 0.15 * abs(truth)
    assert abs(found.criterion - truth) < 3.5 * found.std_error


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("kind", "family", "spread"),
    [
        ("crossed", "logit", "mean"),
        ("deep", "poisson", "mean"),
        ("crossed3", "gauss", "both"),
        ("nested", "student", "mean"),
    ],
)
def test_weights_given_the_leaf_are_their_definition(kind, family, spread, storage):
    problem = random_problem(kind, family, spread=spread)
    psi = random_psi(problem, scale=0.6)
    objective = CrossedLaplace(problem, storage)
    objective.value(psi)
    point, N = objective._set_point(), objective.layout.n_effects
    effects = objective.storage.effects
    inner = LeafIntegrator(
        objective.search, effects[0][:, 0], objective.layout.codes[0],
        objective._fixed, objective._Z, point,
    )  # fmt: skip
    noise = np.random.default_rng(3).standard_normal(N)
    u = point.u + objective.storage.colour(noise[:, None])[:, 0]
    # dense, in the order of the oracle: block after block
    place = np.concatenate([e.reshape(-1) for e in effects])
    dense = DenseLaplace(problem, psi)
    J = problem.blocks[0].n_levels
    v = u[place]
    D, B = np.diag(dense.H)[:J], dense.H[J:, :J]
    S = dense.H[J:, J:] - (B / D) @ B.T
    d = v[J:] - dense.u[J:]
    middle = dense.u[:J] - B.T @ d / D
    rows = problem.row_likelihood()
    x, w = np.polynomial.hermite_e.hermegauss(60)
    integrals = np.zeros((J, 60))
    for k in range(60):
        leaf = middle + x[k] / np.sqrt(D)
        value = rows.newton(dense.eta(np.concatenate([leaf, v[J:]])))[0]
        integrals[:, k] = (
            np.bincount(problem.blocks[0].codes, value, J) - leaf**2 / 2 + x[k] ** 2 / 2
        )
    inside = logsumexp(integrals, axis=1, b=w / np.sqrt(2 * np.pi)).sum()
    expected = inside - v[J:] @ v[J:] / 2 + d @ S @ d / 2 - dense.h(dense.u)
    assert inner.is_possible
    assert inner.log_weight(u, noise) == pytest.approx(expected, abs=2e-4)


def test_the_same_generator_gives_the_same_draws():
    problem = random_problem("crossed", "poisson")
    objective = CrossedLaplace(problem)
    objective.value(random_psi(problem))
    point = objective._set_point()
    args = (objective.search, objective._fixed, objective._Z, point)
    one, two = (sample_jointly(*args, np.random.default_rng(7), 101) for _ in range(2))
    assert one == two
    assert one.draws == 102


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["crossed_slopes", "mixed", "deep"])
def test_information_of_a_linear_model_is_that_of_its_covariance_matrix(kind, storage):
    problem = random_problem(kind, "gauss")
    psi = random_psi(problem)
    psi[problem.fixed_slices[1]] = 0.0  # unit residual variance
    objective = CrossedLaplace(problem, storage)
    objective.value(psi)
    found = objective.information()
    Z = dense_Z(problem, psi)[0]
    Vi = np.linalg.inv(np.eye(problem.n) + Z @ Z.T)
    X = problem.fixed[0].X
    mean = problem.fixed_slices[0]
    assert found[mean, mean] == pytest.approx(X.T @ Vi @ X, rel=1e-7)
    residual = Vi @ (problem.response.y - problem.fixed_predictors(psi)[0])
    F = []
    for k in range(problem.n_fixed, problem.n_parameters):
        e = np.zeros(len(psi))
        e[k] = 1e-5
        up, down = dense_Z(problem, psi + e)[0], dense_Z(problem, psi - e)[0]
        F.append((up @ up.T - down @ down.T) @ residual / 2e-5)
    F = np.array(F)
    theta = slice(problem.n_fixed, None)
    assert found[theta, theta] == pytest.approx(F @ Vi @ F.T / 2, rel=1e-5, abs=1e-6)
    # second derivatives in the log standard deviation: not in the contract, by differences
    other = problem.fixed_slices[1]
    eta = objective._set_point().eta
    e = problem.response.y[objective.layout.order] - eta[0]
    moved = np.zeros(objective.layout.n_effects)
    np.add.at(moved, objective.index, (-2 * e)[:, None] * objective._Z[0])
    expected = 2 * e @ e - moved @ objective.storage.solve(moved)
    assert found[other, other].item() == pytest.approx(expected, rel=1e-6)


def test_information_is_near_the_curvature():
    problem = small_crossed(n=4000, levels=(100, 30), seed=1)
    psi = np.array([0.2, 0.9, 0.5])
    rng = np.random.default_rng(8)
    effects = [
        p * rng.standard_normal(b.n_levels) for p, b in zip(psi[1:], problem.blocks, strict=True)
    ]
    eta = 0.2 + sum(u[b.codes] for u, b in zip(effects, problem.blocks, strict=True))
    y = (rng.random(4000) < 1 / (1 + np.exp(-eta))).astype(float)
    problem = GeneralizedProblem(Response(y), problem.fixed, problem.blocks, Logit)
    objective = CrossedLaplace(problem)
    H = np.empty((3, 3))
    for _ in range(6):
        objective.value(psi)
        for k in range(3):
            e = np.eye(3)[k] * 1e-4
            objective.value(psi + e)
            up = objective.gradient()
            objective.value(psi - e)
            H[k] = (up - objective.gradient()) / 2e-4
        objective.value(psi)
        psi = psi - np.linalg.solve((H + H.T) / 2, objective.gradient())
    objective.value(psi)
    assert np.abs(objective.gradient()).max() < 1e-6
    ratios = np.linalg.eigvals(np.linalg.solve(2 * objective.information(), (H + H.T) / 2))
    assert ratios.real.min() > 0.75
    assert ratios.real.max() < 1.3
