"""The count families by name, plain and zero-truncated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multilevel.likelihood.generalized.families.base import JetRows, refuse_precision
from multilevel.likelihood.generalized.families.counts import CountRows, NegativeBinomial, Poisson
from multilevel.likelihood.generalized.families.generalized_poisson import GeneralizedPoisson
from multilevel.likelihood.generalized.families.truncated import Truncated
from multilevel.likelihood.generalized.row import Response
from multilevel.model.families.records import Family

Array = NDArray[np.float64]

_CLASSES: dict[str, type[CountRows]] = {
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "negative_binomial_1": NegativeBinomial,
    "generalized_poisson": GeneralizedPoisson,
}


def base_counts(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    frequency: Array | None = None,
) -> CountRows:
    """The plain count family under a zero-inflated, hurdle or truncated one.

    Parameters
    ----------
    family : a family whose name is a count family's (its options are not looked at).
    response : counts (n,), zeros included.
    random : random parts among the base's own (mean 0, dispersion 1).
    frequency : (n,) frequency weights or None.

    The result gives ``value``, ``first``, ``newton``, ``derivatives`` for any random parts, and
    packed jets ``jet`` and ``zero_jet`` (of ``log P(Y = 0)``); see ``jets``.
    """
    return _CLASSES[family.name](family, response, random, frequency)


def truncated_counts(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    frequency: Array | None = None,
) -> Truncated:
    """The same with zeros cut off; counts from 1 on."""
    return Truncated(base_counts(family, response, random, frequency))


def build_counts(
    family: Family,
    response: Response,
    random: tuple[int, ...],
    precision: Array | None,
    frequency: Array | None,
) -> JetRows:
    """The rows of a count response (see ``catalogue``)."""
    refuse_precision(family, precision)
    if family.option("truncated") == "yes":
        return truncated_counts(family, response, random, frequency)
    return base_counts(family, response, random, frequency)
