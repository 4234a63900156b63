"""Families of ordered and of nominal categories, and their thresholds on the natural scale."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import ModelError
from multilevel.model.families.records import Family, PartSpec

Array = NDArray[np.float64]
CategoryName = Literal["cumulative", "adjacent", "continuation_ratio", "nominal"]
Thresholds = Literal["increasing", "free"]

#: Links of each family; for ordered ones of the probabilities that its thresholds cut.
CATEGORY_LINKS: dict[str, tuple[str, ...]] = {
    "cumulative": ("logit", "probit", "cloglog"),
    "continuation_ratio": ("logit", "probit", "cloglog"),
    "adjacent": ("logit",),
    "nominal": ("logit",),
}
_LATENT_VARIANCE = {"logit": math.pi**2 / 3.0, "probit": 1.0, "cloglog": math.pi**2 / 6.0}
_LABELS = {
    "cumulative": "cumulative",
    "continuation_ratio": "continuation ratio",
    "adjacent": "adjacent category",
    "nominal": "nominal, baseline category",
}


def category_family(
    name: str,
    link: str = "logit",
    categories: tuple[str, ...] = (),
    *,
    thresholds: Thresholds | None = None,
) -> Family:
    """A family of categories.

    Ordered families (``cumulative``, ``continuation_ratio``, ``adjacent``): the mean part ``eta``
    has **no intercept**, the thresholds take its place (option ``mean_intercept = "no"``). All
    compare ``tau_c - eta``, so a higher ``eta`` means a higher category (the sign of Stata and of
    R's ordinal):

    * cumulative ``P(Y <= c) = F(tau_c - eta)``; with the cloglog link two categories are the
      binomial cloglog model of the *lower* category with predictor ``tau - eta``;
    * continuation ratio ``P(Y = c | Y >= c) = F(tau_c - eta)``;
    * adjacent category ``log P(Y = c + 1) / P(Y = c) = eta - tau_c``.

    Threshold parts hold an intercept only unless a formula says more (argument ``thresholds``).
    ``thresholds="increasing"`` (the cumulative default): ``"threshold 1"`` is ``tau_1``,
    ``"threshold c"`` is ``log(tau_c - tau_{c-1})``. ``thresholds="free"``: every part is its
    ``tau_c``; with predictors in them this is the partial proportional odds model (predictors then
    belong to the threshold parts only), and crossed thresholds have likelihood zero. The other
    ordered families are always free.

    ``nominal``: a part for each category but the first, ``log P(Y = c) / P(Y = first)``, all with
    the predictors of the main formula (argument ``formula``) and an intercept. The first of them
    stands at the place of the mean.

    Parameters
    ----------
    name, link : see ``CATEGORY_LINKS``.
    categories : labels in order, the lowest or reference first; empty if not known yet.
    thresholds : see above; None for the default.

    Raises
    ------
    ModelError : an unknown name, a link or thresholds the family does not have, one category.
    """
    _check(name, link, categories, thresholds)
    options: tuple[tuple[str, str], ...] = ()
    if name != "nominal":
        chosen = thresholds or ("increasing" if name == "cumulative" else "free")
        options = (("mean_intercept", "no"), ("thresholds", chosen))
    family = Family(
        name=name,
        link=link,
        label=f"{_LABELS[name]} ({link} link)",
        response="nominal" if name == "nominal" else "ordered",
        parts=(),
        level_one_variance=_LATENT_VARIANCE[link],
        options=options,
    )
    return with_categories(family, categories)


def _check(name: str, link: str, categories: tuple[str, ...], thresholds: str | None) -> None:
    """Refuse what no family of categories has."""
    if name not in CATEGORY_LINKS:
        raise ModelError(
            "A family of categories must be one of " + ", ".join(CATEGORY_LINKS) + ".",
            repr(name),
            "choose one of these names",
        )
    if link not in CATEGORY_LINKS[name]:
        raise ModelError(
            f"The {name} family has the links " + ", ".join(CATEGORY_LINKS[name]) + ".",
            f"link {link!r}",
            "choose one of these links",
        )
    allowed = {"cumulative": ("increasing", "free"), "nominal": ()}.get(name, ("free",))
    if thresholds is not None and thresholds not in allowed:
        raise ModelError(
            f"Thresholds of the {name} family are " + (" or ".join(allowed) or "not defined") + ".",
            f"thresholds={thresholds!r}",
            "leave thresholds out, or choose one of these",
        )
    if len(categories) == 1 or len(set(categories)) != len(categories):
        raise ModelError(
            "A response of categories needs at least two, each named once.",
            f"categories {', '.join(map(repr, categories))}",
            "check the response column",
        )


def with_categories(family: Family, categories: tuple[str, ...]) -> Family:
    """The family with the parts that these categories need; the mean part only if none is given."""
    _check(family.name, family.link, categories, None)
    if family.name == "nominal":
        if not categories:
            return replace(family, parts=(PartSpec("mean", "logit", "log odds", "formula"),))
        reference = categories[0]
        parts = tuple(
            PartSpec(
                f"category {label}", "logit", f"odds of {label} against {reference}", "formula"
            )
            for label in categories[1:]
        )
        return replace(family, parts=parts)
    mean = PartSpec("mean", family.link, "latent response; higher means a higher category")
    cuts = []
    for c in range(1, len(categories)):
        low, high = categories[c - 1], categories[c]
        if family.option("thresholds") == "free" or c == 1:
            cuts.append(
                PartSpec(
                    f"threshold {c}",
                    "identity",
                    f"threshold between {low} and {high}",
                    "thresholds",
                )
            )
        else:
            meaning = f"distance from the threshold before to the one between {low} and {high}"
            cuts.append(PartSpec(f"threshold {c}", "log", meaning, "thresholds"))
    return replace(family, parts=(mean, *cuts))


def natural_thresholds(family: Family, parts: Array) -> tuple[Array, Array]:
    """Thresholds ``tau`` (C-1,) and their Jacobian in the threshold parts (C-1, C-1).

    Parameters
    ----------
    family : an ordered family.
    parts : (C-1,) linear predictors of the threshold parts (their intercepts).

    The covariance of ``tau`` is ``J V J'`` with ``V`` that of the parts (delta method).

    Raises
    ------
    ModelError : the family has no thresholds.
    """
    if family.option("thresholds") not in ("increasing", "free"):
        raise ModelError(
            "Only ordered families have thresholds.",
            f"family {family.label}",
            "ask for thresholds of a cumulative, continuation ratio or adjacent category model",
        )
    values = np.asarray(parts, dtype=np.float64)
    if family.option("thresholds") == "free":
        return values.copy(), np.eye(values.size)
    steps = values.copy()
    steps[1:] = np.exp(values[1:])
    slopes = steps.copy()
    slopes[:1] = 1.0
    return np.cumsum(steps), np.tril(np.broadcast_to(slopes, (values.size, values.size)))


def threshold_names(categories: tuple[str, ...]) -> tuple[str, ...]:
    """``low|high`` for each pair of neighbours, as R's ordinal names them."""
    return tuple(f"{a}|{b}" for a, b in pairwise(categories))
