"""What the caller says about the outcome: one family, completed when the data are read."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.errors import ModelError
from multilevel.model.families.bounded import bounded_family
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.categories import (
    CATEGORY_LINKS,
    Thresholds,
    category_family,
    with_categories,
)
from multilevel.model.families.records import Family
from multilevel.model.families.zero import with_zero

CATEGORY_ALIASES: dict[str, str] = {
    "cumulative": "cumulative",
    "ordinal": "cumulative",
    "ordered": "cumulative",
    "proportional_odds": "cumulative",
    "adjacent": "adjacent",
    "adjacent_category": "adjacent",
    "continuation_ratio": "continuation_ratio",
    "sequential": "continuation_ratio",
    "nominal": "nominal",
    "multinomial": "nominal",
    "categorical": "nominal",
}
BOUNDED_ALIASES: dict[str, str] = {
    "ordered_beta": "ordered_beta",
    "ordbeta": "ordered_beta",
    "zero_one_inflated_beta": "zero_one_inflated_beta",
    "zoib": "zero_one_inflated_beta",
}
SHORT_NAMES: dict[str, tuple[str, str]] = {
    "zip": ("poisson", "inflated"),
    "zinb": ("negative_binomial", "inflated"),
}
PREFIXES: dict[str, str] = {"zero_inflated_": "inflated", "hurdle_": "hurdle"}
CENSORED: dict[str, str] = {"gaussian": "censored_gaussian", "lognormal": "censored_lognormal"}


@dataclass(frozen=True)
class FamilyRequest:
    """A family without its categories.

    Attributes
    ----------
    base : the family; where it is one of categories, only with the parts before them.
    """

    base: Family

    def family(self, categories: tuple[str, ...]) -> Family:
        """The family for these categories (families of numbers have none)."""
        if self.base.name in CATEGORY_LINKS:
            return with_categories(self.base, categories)
        return self.base


def request_family(
    name: str,
    link: str | None = None,
    *,
    truncated: bool = False,
    zero: str = "",
    thresholds: Thresholds | None = None,
    interval: bool = False,
) -> FamilyRequest:
    """Check what the caller said about the outcome.

    Parameters
    ----------
    name, link : see ``fit``; None takes the family's own link.
    truncated : whether counts of zero cannot occur.
    zero : ``"inflated"``, ``"hurdle"`` or ``""``.
    thresholds : ``"free"`` where thresholds have predictors, else None.
    interval : whether the response is ``interval(lower, upper)``.

    Raises
    ------
    ModelError : unknown names or combinations; the message lists what exists.
    """
    lowered = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    category = CATEGORY_ALIASES.get(lowered)
    bounded = BOUNDED_ALIASES.get(lowered)
    if thresholds is not None and category is None:
        raise ModelError(
            "thresholds= belongs to families of ordered categories.",
            f"family={name!r}",
            'leave it out, or write family="cumulative"',
        )
    if (category and (truncated or zero)) or (bounded and (truncated or zero == "hurdle")):
        raise ModelError(
            "Truncation, zero inflation and hurdles belong to counts and positive responses.",
            f"family={name!r}",
            "leave truncated=, zero= and hurdle= out",
        )
    if category:
        return FamilyRequest(category_family(category, link or "logit", thresholds=thresholds))
    if bounded:
        return FamilyRequest(bounded_family(bounded, link or "logit"))
    base, kind = _without_prefix(lowered)
    if kind and zero and kind != zero:
        raise ModelError(
            "Zeros come from one of two models.",
            f"family={name!r} with the argument of the other",
            "write zero= for zero inflation or hurdle= for a hurdle",
        )
    family = _plain(base if kind else str(name), link, truncated, interval)
    kind = kind or zero
    return FamilyRequest(with_zero(family, kind) if kind else family)


def _without_prefix(name: str) -> tuple[str, str]:
    """The base family of ``zero_inflated_poisson``, ``zip``, ``hurdle_gamma``..., and the kind."""
    if name in SHORT_NAMES:
        return SHORT_NAMES[name]
    for prefix, kind in PREFIXES.items():
        if name.startswith(prefix):
            return name.removeprefix(prefix), kind
    return name, ""


def _plain(name: str, link: str | None, truncated: bool, interval: bool) -> Family:
    """A family of numbers; an unknown name is answered with all that exist."""
    try:
        family = family_of(name, link, truncated=truncated)
    except ModelError as error:
        if not error.must.startswith("family="):
            raise
        others = ", ".join(dict.fromkeys([*CATEGORY_ALIASES.values(), *BOUNDED_ALIASES.values()]))
        raise ModelError(
            error.must,
            error.found,
            f"{error.remedy}, {others}; counts and positive responses take zero= or hurdle= too",
        ) from error
    if not interval:
        return family
    if family.name not in CENSORED and family.response != "interval":
        raise ModelError(
            "interval(lower, upper) goes with the Gaussian or the lognormal family.",
            f"family {family.label}",
            'write family="gaussian"',
        )
    return family_of(CENSORED.get(family.name, family.name), link)
