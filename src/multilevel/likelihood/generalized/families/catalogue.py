"""From a family's name to the class that evaluates its rows."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DesignError, ModelError
from multilevel.likelihood.generalized.families.base import JetRows
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]
Builder = Callable[
    [Family, Response, tuple[int, ...], "Array | None", "Array | None"],
    JetRows,
]

_HERE = "multilevel.likelihood.generalized.families"

#: Name of a family -> "module:function" of its builder, imported when first used (numba is slow to
#: import). A builder takes ``(family, response, random, precision, frequency)``, rows in order.
BUILDERS: dict[str, str] = {
    "beta": f"{_HERE}.positive:build_positive",
    "binomial": f"{_HERE}.binomial:build_binomial",
    "censored_gaussian": f"{_HERE}.censored:build_censored",
    "censored_lognormal": f"{_HERE}.censored:build_censored",
    "gamma": f"{_HERE}.positive:build_positive",
    "gaussian": f"{_HERE}.gaussian:build_gaussian",
    "generalized_poisson": f"{_HERE}.count_catalogue:build_counts",
    "inverse_gaussian": f"{_HERE}.positive:build_positive",
    "lognormal": f"{_HERE}.gaussian:build_gaussian",
    "negative_binomial": f"{_HERE}.count_catalogue:build_counts",
    "negative_binomial_1": f"{_HERE}.count_catalogue:build_counts",
    "poisson": f"{_HERE}.count_catalogue:build_counts",
    "student": f"{_HERE}.student:build_student",
    "tweedie": f"{_HERE}.tweedie:build_tweedie",
}


def row_likelihood(
    family: Family,
    response: Response,
    order: NDArray[np.intp] | None,
    random: tuple[int, ...],
    *,
    precision_weights: Array | None = None,
    frequency_weights: Array | None = None,
) -> JetRows:
    """The row likelihood (and outcome distribution) of a response.

    Parameters
    ----------
    family : from ``model.families.catalogue.family_of``.
    response : (n,) responses as numbers.
    order : (m,) the rows wanted, in the order wanted; None: all as they are.
    random : parts that carry random effects.
    precision_weights : (n,) positive; they divide the dispersion.
    frequency_weights : (n,) not negative; they multiply log densities.

    Raises
    ------
    ModelError : a family without row likelihood.
    DesignError : responses outside the family's range, weights that it cannot use.
    """
    if family.name not in BUILDERS:
        raise ModelError(
            "A generalized model needs a family with a row likelihood",
            f"family {family.label}",
            f"choose one of {', '.join(sorted(BUILDERS))}",
        )
    n = response.y.size
    precision = _weights(precision_weights, "precision_weights", n, zero=False)
    frequency = _weights(frequency_weights, "frequency_weights", n, zero=True)
    if order is not None:
        response = response.take(order)
        precision = None if precision is None else np.ascontiguousarray(precision[order])
        frequency = None if frequency is None else np.ascontiguousarray(frequency[order])
    module, function = BUILDERS[family.name].split(":")
    build = cast(Builder, getattr(import_module(module), function))
    return build(family, response, tuple(sorted(random)), precision, frequency)


def _weights(weights: Array | None, name: str, n: int, *, zero: bool) -> Array | None:
    if weights is None:
        return None
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n,):
        raise DesignError(
            f"{name}= holds one number per row",
            f"shape {weights.shape} for {n} rows",
            "pass the name of a column, or as many numbers as the table has rows",
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & ((weights >= 0) if zero else (weights > 0))))
    if bad.size:
        raise DesignError(
            f"{name}= holds {'numbers from 0 on' if zero else 'positive numbers'}",
            f"{weights[bad[0]]:g} in row {bad[0] + 1} of the rows used",
            "correct these weights or leave out these rows",
        )
    return weights
