"""The Laplace engine for any grouping, held to dense brute force in every storage."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.crossed import CrossedLaplace
from multilevel.likelihood.generalized.problem import EffectBlock, FixedPart, GeneralizedProblem
from multilevel.likelihood.generalized.row import Response
from multilevel.likelihood.generalized.row_layout import lay_out_rows
from multilevel.likelihood.generalized.storage_choice import STORAGES, choose_storage
from multilevel.model.covariance.structures import factor_map
from tests.support.laplace_oracle import DenseLaplace, differences, random_problem, random_psi
from tests.support.oracle import KINDS
from tests.support.row_families import FAMILIES, Poisson

WHOLE = [("logit", k, "unstructured", "mean") for k in KINDS] + [
    (family, kind, structure, spread)
    for family, spread in (
        ("poisson", "mean"),
        ("student", "mean"),
        ("gauss", "both"),
        ("gauss", "scale"),
    )
    for kind, structure in (
        ("nested_slopes", "diagonal"),
        ("deep", "unstructured"),
        ("crossed_slopes", "unstructured"),
        ("crossed3", "compound_symmetry"),
        ("mixed", "identity"),
    )
]


@cache
def by_definition(family, kind, structure, spread):
    """Problem, parameters, and criterion and differenced gradient of dense matrices."""
    problem = random_problem(kind, family, structure=structure, spread=spread)
    psi = random_psi(problem, scale=0.6)
    dense = DenseLaplace(problem, psi)
    gradient = differences(lambda p: DenseLaplace(problem, p, dense.u).criterion, psi, 2e-4)
    return problem, psi, dense.criterion, gradient


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("family", "kind", "structure", "spread"), WHOLE)
def test_value_and_gradient_are_those_of_dense_matrices(family, kind, structure, spread, storage):
    problem, psi, criterion, gradient = by_definition(family, kind, structure, spread)
    objective = CrossedLaplace(problem, storage)
    assert objective.value(psi) == pytest.approx(criterion, rel=1e-11)
    assert objective.gradient() == pytest.approx(gradient, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("storage", STORAGES)
def test_modes_and_their_covariance_are_those_of_dense_matrices(storage):
    problem = random_problem("mixed", "poisson")
    psi = random_psi(problem)
    objective = CrossedLaplace(problem, storage)
    objective.value(psi)
    dense = DenseLaplace(problem, psi)
    inverse = np.linalg.inv(dense.H)
    begin = 0
    for t, (block, modes) in enumerate(zip(problem.blocks, objective.modes(), strict=True)):
        J, q = block.n_levels, len(block.parts)
        span = slice(begin, begin + J * q)
        assert modes.reshape(-1) == pytest.approx(dense.u[span], abs=1e-8)
        expected = inverse[span, span].reshape(J, q, J, q)[np.arange(J), :, np.arange(J), :]
        assert objective.mode_covariance(t) == pytest.approx(expected, abs=1e-9)
        assert objective.mode_covariance(t, [2, 0]) == pytest.approx(expected[[2, 0]], abs=1e-9)
        begin += J * q


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("scale", [0.0, 1e-9])
def test_a_singular_covariance_needs_no_care(storage, scale):
    problem = random_problem("crossed_slopes", "logit")
    psi = random_psi(problem)
    psi[-2:] *= scale  # covariance of rank one
    psi[problem.n_fixed : problem.n_fixed + 3] *= scale
    objective = CrossedLaplace(problem, storage)
    assert objective.value(psi) == pytest.approx(DenseLaplace(problem, psi).criterion, rel=1e-11)
    gradient = objective.gradient()
    expected = differences(lambda p: DenseLaplace(problem, p).criterion, psi, 2e-4)
    assert gradient == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", ["one", "slope", "nested_slopes", "deep"])
def test_scores_of_nested_clusters_add_up_and_are_their_own(kind):
    problem = random_problem(kind, "poisson")
    psi = random_psi(problem)
    objective = CrossedLaplace(problem)
    objective.value(psi)
    scores = objective.cluster_scores()
    assert -2.0 * scores.sum(axis=0) == pytest.approx(objective.gradient(), rel=1e-9, abs=1e-9)
    # one cluster alone is a problem of its own
    coarse = problem.blocks[-1].codes
    alone = np.flatnonzero(coarse == 1)
    objective = CrossedLaplace(_only(problem, alone))
    objective.value(psi)
    assert scores[1] == pytest.approx(-0.5 * objective.gradient(), rel=1e-7, abs=1e-8)


def _only(problem, rows):
    from dataclasses import replace

    fixed = tuple(
        replace(part, X=part.X[rows], offset=None if part.offset is None else part.offset[rows])
        for part in problem.fixed
    )
    blocks = tuple(
        replace(block, codes=block.codes[rows], columns=block.columns[rows])
        for block in problem.blocks
    )
    return GeneralizedProblem(problem.response.take(rows), fixed, blocks, problem.rows_of)


def test_crossed_factors_have_no_clusters():
    objective = CrossedLaplace(random_problem("crossed"))
    objective.value(random_psi(objective.problem))
    assert objective.cluster_scores() is None


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_modes_found_before_save_passes_and_change_nothing(family):
    problem = random_problem("crossed3", family)
    psi = random_psi(problem)
    cold = CrossedLaplace(problem)
    value, modes = cold.value(psi), cold.modes()
    passes = cold.search.n_passes
    warm = CrossedLaplace(problem)
    warm.set_modes(modes)
    assert warm.value(psi) == pytest.approx(value, abs=1e-9)
    assert warm.search.n_passes <= min(passes, 2)
    with pytest.raises(LikelihoodError, match="expected"):
        warm.set_modes(modes[:1])


@pytest.mark.parametrize("ratio", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_old_factors_lead_to_the_same_mode(family, ratio):
    problem = random_problem("partially", family)
    objective = CrossedLaplace(problem)
    objective.search.ratio = ratio
    rng = np.random.default_rng(1)
    for _ in range(4):
        psi = random_psi(problem, seed=int(rng.integers(1000)))
        assert objective.value(psi) == pytest.approx(
            DenseLaplace(problem, psi).criterion, rel=1e-11
        )


def test_expensive_factors_are_kept():
    problem = random_problem("crossed", "logit")
    psi = random_psi(problem)
    counts = []
    for ratio in (0.01, 100.0):
        objective = CrossedLaplace(problem)
        objective.search.ratio = ratio
        objective.value(psi)
        before = objective.search.n_factorisations
        objective.value(psi + 0.02)
        counts.append(objective.search.n_factorisations - before)
    assert counts[1] == 1 < counts[0]


def test_a_density_that_is_not_log_concave_is_climbed_from_far_away():
    problem = random_problem("crossed_slopes", "student")
    psi = random_psi(problem)
    objective = CrossedLaplace(problem)
    rng = np.random.default_rng(2)
    objective.set_modes([8.0 * rng.standard_normal(s) for s in objective.layout.sizes])
    value = objective.value(psi)
    dense = DenseLaplace(problem, psi, np.concatenate([m.reshape(-1) for m in objective.modes()]))
    assert value == pytest.approx(dense.criterion, rel=1e-11)


def test_what_cannot_be_evaluated_is_said():
    problem = random_problem("crossed", "poisson")
    objective = CrossedLaplace(problem)
    psi = random_psi(problem)
    with pytest.raises(LikelihoodError, match="call value"):
        objective.gradient()
    with pytest.raises(LikelihoodError, match="finite numbers"):
        objective.value(np.full_like(psi, np.nan))
    psi[0] = 1e4
    with pytest.raises(LikelihoodError, match="log density"):
        objective.value(psi)
    with pytest.raises(LikelihoodError, match="call value"):
        objective.gradient()
    with pytest.raises(LikelihoodError, match="random effects"):
        CrossedLaplace(GeneralizedProblem(problem.response, problem.fixed, (), problem.rows_of))


def test_the_plan_is_a_sentence_with_sizes_and_refuses_what_does_not_fit(monkeypatch):
    objective = CrossedLaplace(random_problem("crossed3"))
    assert objective.plan.startswith("Laplace approximation for ")
    assert "3 grouping factors" in objective.plan
    monkeypatch.setattr(
        "multilevel.likelihood.generalized.storage_choice.free_memory", lambda: 1000.0
    )
    with pytest.raises(LikelihoodError, match="leanest storage"):
        choose_storage(objective.layout)
    with pytest.raises(LikelihoodError, match="'band'"):
        choose_storage(objective.layout, "band")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("family", ["logit", "poisson", "student"])
def test_far_parameters_give_numbers_or_a_reason(family, storage):
    rng = np.random.default_rng(5)
    found, refused = [], []
    for kind in ("crossed_slopes", "deep", "partially"):
        objective = CrossedLaplace(random_problem(kind, family), storage)
        for scale in (3.0, 10.0, 30.0):
            psi = scale * rng.standard_normal(objective.problem.n_parameters)
            try:
                value = objective.value(psi)
            except LikelihoodError:
                refused.append(scale)
                continue
            assert np.isfinite(value)
            assert np.isfinite(objective.gradient()).all()
            found.append(value)
    assert len(found) >= 3
    assert not refused or family == "poisson"  # predictors beyond exp(700)


def _layout(codes, columns=1):
    n = len(codes[0])
    blocks = tuple(
        EffectBlock(
            c.astype(np.int32),
            int(c.max()) + 1,
            np.ones((n, columns), order="F"),
            (0,) * columns,
            factor_map(((columns, "diagonal"),)),
        )
        for c in codes
    )
    X = np.ones((n, 1), order="F")
    return lay_out_rows(GeneralizedProblem(Response(np.ones(n)), (FixedPart(X),), blocks, Poisson))


def test_storages_are_chosen_by_size_and_pattern():
    rng = np.random.default_rng(1)
    grid = np.arange(300 * 25)
    assert choose_storage(_layout([grid // 25, grid % 25])).name == "leaf"
    deep = np.arange(20_000)
    chain = _layout([deep // 2, deep // 20, deep // 200])
    assert choose_storage(chain).name == "sparse"
    school = (deep // 20) % 1000
    movers = np.where(rng.random(20_000) < 0.02, rng.integers(0, 1000, 20_000), school)
    assert choose_storage(_layout([deep // 2, movers])).name == "sparse"
    few = _layout([grid % 14, grid % 13], columns=3)
    assert choose_storage(few).order <= 81
    plan = choose_storage(chain)
    assert "11,100 random effects of 3 grouping factors" in plan.sentence
