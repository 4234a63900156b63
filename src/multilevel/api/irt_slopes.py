"""What a model with slopes is fitted to: responses, predictors of persons, DIF, groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.irt import check_constant_in_person, person_predictors
from multilevel.design.irt_variants import ItemVariants, item_variants
from multilevel.errors import DataWarning, DesignError
from multilevel.likelihood.generalized.irt_categories import ItemKind, ItemLink
from multilevel.likelihood.generalized.irt_problem import ItemProblem, PersonGroups, make_problem
from multilevel.model.irt import SLOPE_MODELS, ItemWords, split_terms
from multilevel.tables.responses import ResponseMatrix
from multilevel.tables.table import Table


@dataclass(frozen=True)
class SlopeSetup:
    """A problem and what its answers are named by.

    Attributes
    ----------
    problem : the arrays.
    matrix : the responses of the persons that are kept.
    names : person predictors.
    variants : items by the values of the predictor of DIF; None without DIF.
    """

    problem: ItemProblem
    matrix: ResponseMatrix
    names: tuple[str, ...]
    variants: ItemVariants | None


def slope_setup(words: ItemWords, table: Table, matrix: ResponseMatrix, link: str) -> SlopeSetup:
    """Lay out a model with slopes; persons without a predictor or a group are left out.

    Raises
    ------
    DesignError : predictors or groups that differ between the rows of a person; fewer than two
        groups; a predictor of DIF with too many values.
    """
    terms = split_terms(words.persons)
    if words.dif and words.dif not in terms:
        terms.append(words.dif)
    predictors = person_predictors(matrix, table, words.person, " + ".join(terms))
    kept, groups = predictors.kept, None
    of_row: NDArray[np.int32] | None = None
    if words.person_groups:
        column = words.person_groups[0]
        check_constant_in_person(table, words.person, [column])
        of_row = table.codes(column)[0][matrix.first_row]
        kept = kept[of_row[kept] >= 0]
    x = predictors.x[np.isin(predictors.kept, kept)]
    matrix = _kept_persons(matrix, kept)
    if of_row is not None:
        labels, own = np.unique(of_row[kept], return_inverse=True)
        if len(labels) < 2:
            raise DesignError(
                "Groups of persons need at least two groups.",
                f"{words.person_groups[0]} has {len(labels)}",
                "leave person_groups= out",
            )
        groups = PersonGroups(own.reshape(-1), len(labels))
    _, kind, is_equal = SLOPE_MODELS[words.model]
    counts = tuple(len(own) for own in matrix.categories)
    slopes = np.ones((len(counts), 1)) if is_equal else np.eye(len(counts))
    codes, easiness, variants = matrix.codes, None, None
    if words.dif:
        by_dif = person_predictors(matrix, table, words.person, words.dif)
        variants = item_variants(matrix, by_dif.x, by_dif.names, words.dif, words.item)
        codes, counts, easiness = variants.codes, variants.n_categories, variants.easiness
        slopes = variants.slopes @ slopes
    item_kind: ItemKind = "graded" if kind == "graded" else "partial_credit"
    item_link: ItemLink = "probit" if link == "probit" else "logit"
    problem = make_problem(
        codes, counts, kind=item_kind, link=item_link, x=x, slopes=slopes, easiness=easiness,
        groups=groups,
    )  # fmt: skip
    return SlopeSetup(problem, matrix, predictors.names, variants)


def _kept_persons(matrix: ResponseMatrix, kept: NDArray[np.intp]) -> ResponseMatrix:
    """The persons that have every predictor and a group; the others are counted in a warning."""
    lost = len(matrix.persons) - len(kept)
    if not lost:
        return matrix
    warnings.warn(
        f"{lost} person(s) without a person predictor or a group are left out",
        DataWarning,
        stacklevel=5,
    )
    return ResponseMatrix(
        matrix.codes[kept],
        tuple(matrix.persons[k] for k in kept),
        matrix.items,
        matrix.categories,
        matrix.first_row[kept],
    )
