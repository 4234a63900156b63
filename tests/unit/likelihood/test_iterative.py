"""The iterative engine against dense brute force: exact parts, noise, errors, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.gaussian.dense_core import DenseCoreEngine
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.gaussian.iterative import IterativeEngine, predict_cost
from tests.support.oracle import DenseOracle, Rows, cross_products, random_rows

CROSSED = ("crossed", "crossed_slopes", "crossed3", "partially", "mixed")


def generator(seed):
    return np.random.default_rng(seed)


def factors_for(sizes, seed, kind="regular"):
    rng = np.random.default_rng(seed)
    out = []
    for _, q in sizes:
        L = np.tril(rng.standard_normal((q, q)))
        if kind == "zero":
            L[:] = 0.0
        if kind == "singular" and q > 1:
            L[:, -1] = 0.0
        if kind == "small":
            L *= 1e-3
        out.append(L)
    if kind == "singular":
        out[-1][:] = 0.0
    return out


def close(ours, theirs, rtol):
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max() + 1e-11)


def larger_design(n=6000, levels=(600, 150), seed=2):
    rng = np.random.default_rng(seed)
    codes = [np.unique(rng.integers(0, J, n), return_inverse=True)[1] for J in levels]
    X = np.column_stack([np.ones(n), rng.standard_normal(n)])
    y = X.sum(1) + rng.standard_normal(n)
    for c in codes:
        y = y + 0.5 * rng.standard_normal(c.max() + 1)[c]
    return cross_products(Rows(y, X, tuple((c, np.ones((n, 1))) for c in codes)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("factor_kind", ["regular", "zero", "singular", "small"])
@pytest.mark.parametrize("kind", CROSSED)
def test_exact_parts_agree_with_brute_force(kind, factor_kind, weighted):
    rows = random_rows(kind, 11, weighted)
    cp, oracle = cross_products(rows), DenseOracle(rows)
    factors = factors_for(cp.sizes, 4, factor_kind)
    engine = IterativeEngine(cp, rng=generator(1), probes=4)
    engine.factorise(factors)
    oracle.factorise(factors)
    close(engine.T, oracle.T, 1e-9)
    rng = np.random.default_rng(0)
    C = [rng.standard_normal((J, q, 3)) for J, q in cp.sizes]
    ours, theirs = engine.information_product(C), oracle.information_product(C)
    for t, (J, _) in enumerate(cp.sizes):
        close(engine.cross(t), oracle.cross(t), 1e-6)
        close(ours[t], theirs[t], 1e-6)
        close(engine.information_blocks(t, range(J)), oracle.information_blocks(t), 1e-6)
        if factor_kind == "zero":  # no noise where there is nothing to sample
            close(engine.information_sum(t), oracle.information_sum(t), 1e-10)
    if factor_kind == "zero":
        assert engine.logdet == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", CROSSED)
def test_sampled_parts_are_unbiased_and_know_their_error(kind):
    rows = random_rows(kind, 5)
    cp, oracle = cross_products(rows), DenseOracle(rows)
    factors = factors_for(cp.sizes, 8)
    oracle.factorise(factors)
    values, errors = [], []
    for seed in range(200):
        engine = IterativeEngine(cp, rng=generator(seed), probes=12)
        engine.factorise(factors)
        blocks = range(cp.n_blocks)
        values.append([engine.logdet, *(v for t in blocks for v in engine.information_sum(t).flat)])
        errors.append(
            [
                engine.logdet_error,
                *(v for t in blocks for v in engine.information_sum_error(t).flat),
            ]
        )
    truth = np.array(
        [oracle.logdet, *(v for t in range(cp.n_blocks) for v in oracle.information_sum(t).flat)]
    )
    seen = np.std(values, axis=0, ddof=1)
    # the tolerance of the probes leaves a bias of its second order
    allowed = 4.0 * seen / np.sqrt(200) + 1e-8 * np.abs(truth)
    assert np.all(np.abs(np.mean(values, axis=0) - truth) < allowed)
    noisy = seen > 1e-7 * np.abs(truth)
    assert noisy[0]
    ratio = np.sqrt(np.mean(np.square(errors), axis=0))[noisy] / seen[noisy]
    assert np.all((ratio > 1 / 1.5) & (ratio < 1.5))


@pytest.mark.parametrize("kind", CROSSED)
def test_sampled_blocks_add_up_and_are_unbiased(kind):
    rows = random_rows(kind, 6)
    cp, oracle = cross_products(rows), DenseOracle(rows)
    factors = factors_for(cp.sizes, 3)
    oracle.factorise(factors)
    engine = IterativeEngine(cp, rng=generator(3), probes=4000)
    engine.factorise(factors)
    for t in range(cp.n_blocks):
        blocks = engine.information_blocks(t)
        np.testing.assert_allclose(blocks.sum(0), engine.information_sum(t), rtol=1e-9, atol=1e-10)
        truth = oracle.information_blocks(t)
        assert np.abs(blocks - truth).max() < 0.03 * np.abs(truth).max()


def test_agrees_with_the_direct_engine_on_a_larger_design():
    cp = larger_design()
    factors = [np.array([[0.5]]), np.array([[0.6]])]
    direct, engine = DenseCoreEngine(cp), IterativeEngine(cp, rng=generator(1))
    direct.factorise(factors)
    engine.factorise(factors)
    assert isinstance(engine, GaussianEngine)
    assert not engine.exact
    close(engine.T, direct.T, 1e-10)
    assert abs(engine.logdet - direct.logdet) < 5.0 * engine.logdet_error
    assert engine.logdet_error < 0.05
    for t in (0, 1):
        close(engine.cross(t), direct.cross(t), 1e-6)
        gap = abs(engine.information_sum(t) - direct.information_sum(t))
        assert np.all(gap < 5.0 * engine.information_sum_error(t))
        assert np.all(gap < 1e-3 * direct.information_sum(t))
    assert 3 <= engine.steps <= 15


def test_the_same_seed_gives_the_same_numbers_whatever_the_threads(monkeypatch):
    monkeypatch.setattr("multilevel.likelihood.gaussian.iterative_operator.PARALLEL_ENTRIES", 1)
    cp = larger_design()
    factors = [np.array([[0.5]]), np.array([[0.6]])]
    made = [
        IterativeEngine(cp, rng=generator(7), threads=1),
        IterativeEngine(cp, rng=generator(7), threads=2),
        IterativeEngine(cp, rng=generator(8), threads=2),
    ]
    for engine in made:
        engine.factorise(factors)
    assert made[0].logdet == made[1].logdet
    np.testing.assert_array_equal(made[0].T, made[1].T)
    np.testing.assert_array_equal(made[0].information_sum(0), made[1].information_sum(0))
    assert made[0].logdet != made[2].logdet


def test_evaluations_leave_no_trace():
    cp = cross_products(random_rows("crossed3", 2))
    a, b = factors_for(cp.sizes, 1), factors_for(cp.sizes, 2)
    engine, fresh = IterativeEngine(cp, rng=generator(1)), IterativeEngine(cp, rng=generator(1))
    engine.factorise(a)
    engine.information_sum(0)
    engine.cross(0)
    engine.factorise(b)
    fresh.factorise(b)
    assert engine.n_evaluations == 2
    assert engine.logdet == fresh.logdet
    for t in range(cp.n_blocks):
        np.testing.assert_array_equal(engine.information_sum(t), fresh.information_sum(t))
        np.testing.assert_array_equal(engine.cross(t), fresh.cross(t))


def test_more_probes_begin_with_the_same_and_lower_the_error():
    cp = larger_design()
    factors = [np.array([[1.0]]), np.array([[1.0]])]
    few = IterativeEngine(cp, rng=generator(5), probes=10)
    many = few.with_probes(160)
    few.factorise(factors)
    many.factorise(factors)
    again = many.with_probes(10)
    again.factorise(factors)
    assert again.logdet == few.logdet
    assert many.probes == 160
    assert many.logdet_error == pytest.approx(few.logdet_error / 4.0, rel=0.6)


def test_no_convergence_is_an_error_with_numbers():
    cp = larger_design()
    engine = IterativeEngine(cp, rng=generator(1), max_steps=2)
    with pytest.raises(LikelihoodError, match="Conjugate gradients") as caught:
        engine.factorise([np.array([[1.0]]), np.array([[1.0]])])
    assert "after 2 steps" in caught.value.found
    assert "1e-08" in caught.value.found


def test_wrong_use_is_told():
    cp = cross_products(random_rows("crossed", 1))
    with pytest.raises(LikelihoodError, match="2 probes"):
        IterativeEngine(cp, rng=generator(1), probes=1)
    with pytest.raises(LikelihoodError, match="between 0 and 1"):
        IterativeEngine(cp, rng=generator(1), tolerance=0.0)
    with pytest.raises(LikelihoodError, match="two grouping factors"):
        IterativeEngine(cross_products(random_rows("one", 1)), rng=generator(1))
    engine = IterativeEngine(cp, rng=generator(1))
    with pytest.raises(LikelihoodError, match="factorised before"):
        engine.cross(0)
    with pytest.raises(LikelihoodError, match="must be finite"):
        engine.factorise([np.array([[np.nan]]), np.eye(1)])
    with pytest.raises(LikelihoodError, match="shapes"):
        engine.factorise([np.eye(2), np.eye(1)])


def test_predicted_cost_grows_with_the_work():
    small, large = larger_design(2000), larger_design(6000)
    a, b = predict_cost(small), predict_cost(large)
    assert a.n_core == b.n_core == 150
    assert b.nnz == len(large.pairs[0, 1].indices)
    assert 0 < a.seconds < b.seconds < predict_cost(large, 200).seconds
    assert 0 < a.bytes < b.bytes
    assert IterativeEngine(large, rng=generator(1), probes=200).cost() == predict_cost(large, 200)
