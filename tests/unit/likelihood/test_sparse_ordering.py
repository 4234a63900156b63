"""Order of elimination and predicted size of the sparse factor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import SuperLU

from multilevel.likelihood.blocks import ordering
from multilevel.likelihood.blocks.ordering import (
    bandwidth_order,
    level_graph,
    minimum_degree_order,
    reduce_graph,
    symbolic,
)
from tests.support.oracle import KINDS, cross_products, random_rows
from tests.unit.likelihood.test_sparse_engine import movers


def pattern_of(products):
    """Dense boolean pattern over single random effects, block after block."""
    graph = level_graph(products)
    n = graph.n_nodes
    touch = np.eye(n, dtype=bool)
    touch[graph.indices, np.repeat(np.arange(n), np.diff(graph.indptr))] = True
    return touch, graph


def fill_under(order, touch, weight):
    """Strict lower entries and squared column counts of L, by elimination with whole blocks."""
    spread = np.repeat(order, weight[order])
    pattern = touch[np.ix_(spread, spread)].copy()
    lengths = []
    for k in range(len(pattern)):
        later = k + 1 + np.flatnonzero(pattern[k + 1 :, k])
        pattern[np.ix_(later, later)] = True
        lengths.append(later.size)
    return sum(lengths), float(np.sum(np.square(lengths)))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_exact(kind):
    products = cross_products(random_rows(kind, 6))
    plan = symbolic(products)
    touch, graph = pattern_of(products)
    assert sorted(plan.order) == list(range(graph.n_nodes))
    np.testing.assert_array_equal(plan.weight, graph.weight[plan.order])
    nnz, flops = fill_under(plan.order, touch, graph.weight)
    assert plan.nnz_factor == nnz
    assert plan.predicted_flops == flops
    assert plan.n_unknowns == graph.weight.sum()
    inner = plan.parent >= 0
    assert np.all(plan.parent[inner] > np.flatnonzero(inner))


@pytest.mark.parametrize("kind", ["one", "slope", "nested", "nested_slopes", "deep"])
def test_nested_designs_have_no_fill(kind):
    plan = symbolic(cross_products(random_rows(kind, 3)))
    assert plan.ordering == "natural"
    assert plan.nnz_factor == plan.nnz_matrix


def test_every_candidate_is_a_permutation_with_exact_counts():
    products = movers(150, 40, 0.3, 3, n_slopes=2)
    touch, graph = pattern_of(products)
    reduced = reduce_graph(graph)
    assert reduced.leaves.size > 100
    for order in (bandwidth_order(reduced), minimum_degree_order(reduced)):
        assert sorted(order) == list(range(graph.n_nodes))
        plan = ordering._analyse(graph, order, "test", 0, 10**9)
        nnz, flops = fill_under(order, touch, graph.weight)
        assert (plan.nnz_factor, plan.predicted_flops) == (nnz, flops)


def test_the_reduced_graph_is_what_elimination_leaves():
    touch, graph = pattern_of(movers(80, 30, 0.4, 1))
    reduced = reduce_graph(graph)
    for leaf in reduced.leaves:
        near = np.flatnonzero(touch[leaf])
        touch[np.ix_(near, near)] = True
    left = touch[np.ix_(reduced.rest, reduced.rest)]
    np.fill_diagonal(left, False)
    np.testing.assert_array_equal(reduced.pattern.toarray() != 0, left)


def test_a_good_order_beats_shuffled_labels():
    """Schools on a ring: the natural order is no good once their labels are shuffled."""
    products = movers(6000, 1200, 0.3, 0, shuffled=True)
    plan = symbolic(products)
    graph = level_graph(products)
    natural = ordering._analyse(graph, np.arange(graph.n_nodes), "natural", 0, 10**9)
    assert plan.ordering != "natural"
    assert plan.predicted_flops < 0.1 * natural.predicted_flops


def test_a_failing_minimum_degree_falls_back(monkeypatch):
    products = movers(9000, 1800, 0.3, 0)

    def refuse(*_args: object, **_kwargs: object) -> SuperLU:
        raise RuntimeError("Factor is exactly singular")

    monkeypatch.setattr(ordering, "spilu", refuse)
    assert minimum_degree_order(reduce_graph(level_graph(products))) is None
    plan = symbolic(products)
    assert plan.ordering in {"natural", "bandwidth"}
    assert sorted(plan.order) == list(range(level_graph(products).n_nodes))


def test_a_hopeless_size_is_told_without_searching(monkeypatch):
    products = movers(300, 60, 0.2, 0)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("no order should be sought")

    monkeypatch.setattr(ordering, "level_graph", fail)
    plan = symbolic(products, limit=10)
    assert plan.ordering == "none"
    assert not plan.is_within_limit
    assert plan.nnz_factor == plan.nnz_matrix > 10


def test_fill_beyond_the_limit_is_counted_not_formed():
    products = cross_products(random_rows("crossed_slopes", 1))
    plan = symbolic(products)
    tight = symbolic(products, limit=plan.nnz_factor - 1)
    assert plan.is_within_limit
    assert not tight.is_within_limit
    assert tight.nnz_factor == plan.nnz_factor
    assert plan.n_bytes > 24 * plan.nnz_factor


def test_dense_graphs_are_spared_the_search(monkeypatch):
    """All schools meet all pupils: no order helps, and minimum degree would be slow."""
    rng = np.random.default_rng(0)
    products = cross_products(random_rows("crossed", 0))
    called = []
    monkeypatch.setattr(ordering, "_TRIVIAL_FLOPS", 0.0)
    monkeypatch.setattr(ordering, "_LEAF_DEGREE", 0)
    monkeypatch.setattr(ordering, "_DENSE_DEGREE", 1.0)
    monkeypatch.setattr(ordering, "spilu", lambda *_a, **_k: called.append(rng))
    assert symbolic(products).ordering in {"natural", "bandwidth"}
    assert not called
