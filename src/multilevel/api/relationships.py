"""Public makers of relations: pedigrees, phylogenies, matrices, distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from multilevel.design.pedigree import from_pedigree
from multilevel.design.phylogeny import from_newick
from multilevel.design.relations import Relation, from_covariance, from_precision
from multilevel.errors import DesignError, ModelError
from multilevel.tables.table import as_table


def relationship(
    matrix: Any, labels: Sequence[Any] | None = None, *, precision: bool = False
) -> Relation:
    """A known covariance matrix of the levels of a factor, for ``fit(related=)``.

    Parameters
    ----------
    matrix : (J, J) symmetric: a pandas frame (its index holds the labels), a NumPy array or a
        SciPy sparse matrix. Not scaled: the variance that is estimated is that of a level whose
        diagonal entry is 1. Zero eigenvalues are allowed (those combinations do not vary).
    labels : (J,) the levels in the order of the rows; needed unless ``matrix`` is a frame.
    precision : whether ``matrix`` is the inverse of the covariance matrix.

    Raises
    ------
    DesignError : no labels, labels that repeat or disagree with the columns, a matrix that is not
        square, symmetric and positive (semi)definite.

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.relationship([[1.0, 0.5], [0.5, 1.0]], labels=["a", "b"]).n_levels
    2
    """
    names = labels
    values = matrix
    if isinstance(matrix, pd.DataFrame):
        values = matrix.to_numpy(dtype=np.float64)
        if names is None:
            names = matrix.index.tolist()
            is_default = matrix.columns.equals(pd.RangeIndex(matrix.shape[1]))
            if not is_default and matrix.columns.tolist() != names:
                raise DesignError(
                    "Rows and columns of a matrix must have the same labels in the same order.",
                    f"first row {names[0]!r}, first column {matrix.columns[0]!r}",
                    "write matrix.loc[labels, labels]",
                )
    if names is None:
        raise DesignError(
            "A matrix of levels needs their labels.", f"a {type(matrix).__name__} without labels",
            "write mlm.relationship(matrix, labels=[...]), or pass a pandas frame",
        )  # fmt: skip
    if not sparse.issparse(values):
        values = np.asarray(values, dtype=np.float64)
    make = from_precision if precision else from_covariance
    return make(values, names)


def pedigree(table: Any, *, id: str = "id", sire: str = "sire", dam: str = "dam") -> Relation:
    """The additive relationship of animals (or plants, people), for ``fit(related=)``.

    Parameters
    ----------
    table : one row per animal; parents may stand below their offspring or have no row.
    id, sire, dam : its columns. Unknown parents are missing, ``""``, ``"NA"``, ``"."`` or 0.

    Returns
    -------
    Relation : with inbreeding; animals without records keep their predicted (breeding) values.

    Raises
    ------
    DesignError : a column that is not there, an animal twice or among its own ancestors.

    Notes
    -----
    Inverse by Henderson's rules (1976), inbreeding after Meuwissen & Luo (1992).

    Examples
    --------
    >>> import multilevel as mlm
    >>> family = mlm.pedigree({"id": ["c"], "sire": ["a"], "dam": ["b"]})
    >>> family.matrix().round(2).tolist()
    [[1.0, 0.5, 0.5], [0.5, 1.0, 0.0], [0.5, 0.0, 1.0]]
    """
    read = as_table(table)
    lost = [name for name in (id, sire, dam) if name not in read.columns]
    if lost:
        raise DesignError(
            "A pedigree has a column for the animal, one for its sire and one for its dam.",
            f"no column {', '.join(map(repr, lost))}; there are {', '.join(read.columns)}",
            'name them: mlm.pedigree(table, id="animal", sire="father", dam="mother")',
        )
    return from_pedigree(*(_ids(read.series(name)) for name in (id, sire, dam)))


def _ids(series: pd.Series[Any]) -> list[Any]:
    """Labels as Python objects; whole numbers that a missing value made decimals are whole."""
    lost = series.isna().tolist()
    listed = [None if gone else x for x, gone in zip(series.tolist(), lost, strict=True)]
    known = [x for x in listed if x is not None]
    if all(isinstance(x, float) and x.is_integer() for x in known):
        return [None if x is None else int(x) for x in listed]
    return listed


def phylogeny(newick: str, *, scale: bool = True) -> Relation:
    """The covariance of species under Brownian motion along a tree, for ``fit(related=)``.

    Parameters
    ----------
    newick : the tree as Newick text, every branch with its length: ``"((a:1,b:1):2,c:3);"``.
    scale : divide by the height of the tree, so that the variance is that of the most distant tip.

    Raises
    ------
    DesignError : text that is not such a tree.

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.phylogeny("((a:1,b:1):1,c:2);").matrix().round(2).tolist()
    [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if not isinstance(newick, str):
        raise DesignError(
            "A phylogeny is Newick text.",
            type(newick).__name__,
            'read the file first: mlm.phylogeny(open("tree.nwk").read())',
        )
    return from_newick(newick, is_scaled=scale)


def decay(distances: Any, range: float, labels: Sequence[Any] | None = None) -> Relation:
    """Correlations ``exp(-d / range)`` of places at distances d, for ``fit(related=)``.

    Parameters
    ----------
    distances : (J, J) symmetric, zero on the diagonal; a pandas frame or an array.
    range : distance at which the correlation has fallen to 0.37; given, not estimated (compare
        fits with several ranges by their likelihood).
    labels : (J,) the places, needed unless ``distances`` is a frame.

    Raises
    ------
    DesignError : distances that are negative or not symmetric, a range that is not positive.

    Examples
    --------
    >>> import multilevel as mlm
    >>> mlm.decay([[0, 10], [10, 0]], 20, labels=["north", "south"]).matrix().round(3).tolist()
    [[1.0, 0.607], [0.607, 1.0]]
    """
    if not (np.isfinite(range) and range > 0):
        raise DesignError("A range must be positive.", f"range={range!r}", "give a distance")
    values = np.asarray(distances, dtype=np.float64)
    if values.ndim != 2 or (values < 0.0).any() or np.any(np.diag(values) != 0.0):
        raise DesignError("Distances are not negative, and 0 on the diagonal.",
                          "another matrix", "pass one row and column per place")  # fmt: skip
    is_frame = isinstance(distances, pd.DataFrame)
    names = distances.index.tolist() if labels is None and is_frame else labels
    if names is None:
        raise DesignError("A matrix of distances needs the labels of the places.", "none",
                          "write mlm.decay(distances, range, labels=[...])")  # fmt: skip
    sentence = f"exp(-d / {range:g}) of the distances of {len(values)} places"
    return from_covariance(
        np.exp(-values / range), names, kind="distance matrix", sentence=sentence
    )


def relation_from(value: Any, name: str) -> Relation:
    """What a user passed for one factor: a relation, or a frame that is a covariance matrix.

    Raises
    ------
    ModelError : something else.
    """
    if isinstance(value, Relation):
        return value
    if isinstance(value, pd.DataFrame):
        return relationship(value)
    raise ModelError(
        "related= takes a relation for each factor.",
        f"{type(value).__name__} for {name!r}",
        "make it by mlm.pedigree(table), mlm.phylogeny(newick), mlm.decay(distances, range) or "
        "mlm.relationship(matrix, labels=[...])",
    )
