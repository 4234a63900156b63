"""Relations: pedigrees, phylogenies, matrices; against definitions and published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import multilevel as mlm
from multilevel.design.pedigree import from_pedigree, inbreeding, traced_inbreeding
from multilevel.design.relations import from_covariance, from_precision
from multilevel.errors import DesignError, ModelError
from tests.unit.related.support import named, random_pedigree, tabular


def test_a_pedigree_is_the_tabular_method_in_any_order():
    rng = np.random.default_rng(1)
    n = 60
    sires, dams = random_pedigree(n, 8, rng)
    A = tabular(sires, dams)
    order = rng.permutation(n)
    ids, s, d = named(range(n)), named(sires), named(dams)
    made = from_pedigree([ids[k] for k in order], [s[k] for k in order], [d[k] for k in order])
    expected = A[np.ix_(order, order)]
    np.testing.assert_allclose(made.matrix(), expected, atol=1e-12)
    np.testing.assert_allclose(made.diagonal, np.diag(expected), atol=1e-12)
    assert made.log_det == pytest.approx(np.linalg.slogdet(A)[1], abs=1e-10)
    assert "inbred" in made.sentence


def test_a_full_sib_mating_has_inbreeding_of_a_quarter():
    family = mlm.pedigree(
        {
            "animal": [5, 3, 4],
            "father": [3, 1, 1],
            "mother": [4, 2, 2],
        },
        id="animal", sire="father", dam="mother",
    )  # fmt: skip
    where = family.labels.tolist()
    assert sorted(where) == [1, 2, 3, 4, 5]
    assert family.diagonal[where.index(5)] == pytest.approx(1.25)
    assert family.matrix()[where.index(5), where.index(1)] == pytest.approx(0.5)


def test_both_ways_to_inbreeding_agree():
    rng = np.random.default_rng(2)
    sires, dams = random_pedigree(200, 10, rng)
    level = [0] * 200
    for i, (s, d) in enumerate(zip(sires, dams, strict=True)):
        level[i] = max((level[p] + 1 for p in (s, d) if p is not None), default=0)
    s = np.array([-1 if p is None else p for p in sires])
    d = np.array([-1 if p is None else p for p in dams])
    fast = inbreeding(s, d, np.array(level))
    np.testing.assert_allclose(fast, traced_inbreeding(s, d, np.array(level)), atol=1e-13)
    np.testing.assert_allclose(fast, inbreeding(s, d, np.array(level), most=50), atol=1e-13)
    np.testing.assert_allclose(fast, np.diag(tabular(sires, dams)) - 1.0, atol=1e-13)


def test_matrix_precision_and_blocks_are_the_same_relation():
    rng = np.random.default_rng(3)
    A = tabular(*random_pedigree(30, 6, rng))
    dense = from_covariance(A, range(30))
    inverse = from_precision(sparse.csc_array(np.round(np.linalg.inv(A), 14)), range(30))
    np.testing.assert_allclose(dense.matrix(), A, atol=1e-12)
    np.testing.assert_allclose(inverse.matrix(), A, atol=1e-9)
    np.testing.assert_allclose(inverse.diagonal, np.diag(A), atol=1e-9)
    assert inverse.log_det == pytest.approx(dense.log_det, abs=1e-8)
    two = sparse.block_diag([A, A[:7, :7] + 0.1])
    families = from_covariance(two, range(37))
    assert families.root is not None
    np.testing.assert_allclose(families.matrix(), two.toarray(), atol=1e-10)


def test_a_singular_matrix_is_kept_at_its_rank():
    G = np.array([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]])  # twins
    made = from_covariance(G, ["t1", "t2", "other"])
    assert made.is_singular
    np.testing.assert_allclose(made.matrix(), G, atol=1e-12)


def test_a_phylogeny_is_shared_branch_length():
    tree = mlm.phylogeny("((cat:1,'a dog':1)mammals:2[comment],frog:3);", scale=False)
    assert tree.labels.tolist() == ["cat", "a dog", "frog"]
    np.testing.assert_allclose(tree.matrix(), [[3, 2, 0], [2, 3, 0], [0, 0, 3]], atol=1e-12)
    np.testing.assert_allclose(
        mlm.phylogeny("((cat:1,dog:1):2,frog:3);").diagonal, np.ones(3), atol=1e-12
    )


def test_decay_is_exponential():
    places = ["n", "s", "e"]
    distances = pd.DataFrame([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]], index=places, columns=places)
    np.testing.assert_allclose(
        mlm.decay(distances, 2.0).matrix(), np.exp(-distances.to_numpy() / 2.0), atol=1e-12
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mlm.relationship([[1.0, 2.0], [2.0, 1.0]], ["a", "b"]), "positive definite"),
        (lambda: mlm.relationship([[1.0, 0.2], [0.3, 1.0]], ["a", "b"]), "symmetric"),
        (lambda: mlm.relationship([[1.0, 0.2], [0.2, 1.0]]), "labels"),
        (lambda: mlm.relationship([[1.0, 0.2], [0.2, 1.0]], ["a", "a"]), "'a' twice"),
        (lambda: mlm.relationship([[1.0, 0.2], [0.2, -1.0]], ["a", "b"]), "positive variance"),
        (
            lambda: mlm.relationship([[1.0, 2.0], [2.0, 1.0]], ["a", "b"], precision=True),
            "positive definite",
        ),
        (lambda: mlm.pedigree({"id": ["a"], "sire": ["b"]}), "no column 'dam'"),
        (
            lambda: mlm.pedigree({"id": ["a", "b"], "sire": ["b", "a"], "dam": ["", ""]}),
            "own ancestor",
        ),
        (lambda: mlm.pedigree({"id": ["a", "a"], "sire": ["", ""], "dam": ["", ""]}), "twice"),
        (lambda: mlm.phylogeny("((a,b):1,c:1);"), "no branch length"),
        (lambda: mlm.phylogeny("((a:1,b:1):1,c:1"), "not closed"),
        (lambda: mlm.phylogeny("(a:1,b:x);"), "'x'"),
        (lambda: mlm.decay([[0, 1], [1, 0]], -1.0, ["a", "b"]), "range"),
    ],
)
def test_what_is_no_relation_is_refused(make, words):
    with pytest.raises(DesignError, match=words):
        make()


def test_the_door_takes_relations_and_frames_only():
    data = {"y": [1.0, 2.0, 4.0], "g": ["a", "b", "a"]}
    with pytest.raises(ModelError, match="make it by"):
        mlm.fit("y ~ 1 + (1 | g)", data, related={"g": np.eye(2)})
