"""What the caller says about the outcome, as one frozen request that is resolved with the data."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.errors import ModelError
from multilevel.model.families.bounded import BOUNDED, bounded_family
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.categories import CATEGORY_LINKS, Thresholds, category_family
from multilevel.model.families.records import Family, ResponseKind

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
    "ordbeta": "ordered_beta",
    "orderedbeta": "ordered_beta",
    "zoib": "zero_one_inflated_beta",
}


@dataclass(frozen=True)
class FamilyRequest:
    """A family by name, link and options; the categories are added when the data are read.

    Attributes
    ----------
    name : canonical name.
    link : link of the mean, or None for the family's own.
    truncated : whether zeros cannot occur (counts).
    zero : ``"inflated"``, ``"hurdle"`` or ``""``.
    thresholds : of ordered categories, or None.
    """

    name: str
    link: str | None = None
    truncated: bool = False
    zero: str = ""
    thresholds: Thresholds | None = None

    @property
    def has_categories(self) -> bool:
        """Whether the number of parts depends on the categories of the response."""
        return self.name in CATEGORY_LINKS

    @property
    def response(self) -> ResponseKind:
        """Kind of response that it needs."""
        return self.family(()).response

    def family(self, categories: tuple[str, ...]) -> Family:
        """The family for these categories (ignored by families of numbers)."""
        if self.has_categories:
            return category_family(
                self.name, self.link or "logit", categories, thresholds=self.thresholds
            )
        if self.name in BOUNDED:
            return bounded_family(self.name, self.link or "logit")
        base = family_of(self.name, self.link, truncated=self.truncated)
        if not self.zero:
            return base
        from multilevel.model.families.zero import with_zero

        return with_zero(base, self.zero)


def request_family(
    name: str,
    link: str | None = None,
    *,
    truncated: bool = False,
    zero: str = "",
    thresholds: Thresholds | None = None,
) -> FamilyRequest:
    """Check what the caller said about the outcome.

    Raises
    ------
    ModelError : unknown names or combinations; the message lists what exists.
    """
    lowered = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    canonical = CATEGORY_ALIASES.get(lowered)
    if canonical is not None:
        if truncated or zero:
            raise ModelError(
                "Truncation and zero inflation belong to counts.",
                f"family={name!r}",
                "leave truncated=, zero= and hurdle= out",
            )
        request = FamilyRequest(canonical, link, thresholds=thresholds)
    else:
        if thresholds is not None:
            raise ModelError(
                "thresholds= belongs to families of ordered categories.",
                f"family={name!r}",
                'leave it out, or write family="cumulative"',
            )
        bounded = BOUNDED_ALIASES.get(lowered, lowered)
        if bounded in BOUNDED:
            if truncated or zero:
                raise ModelError(
                    "Truncation and zero inflation belong to counts.",
                    f"family={name!r}",
                    "leave truncated=, zero= and hurdle= out",
                )
            name = bounded
        request = FamilyRequest(name, link, truncated, zero)
    request.family(())  # raises for names, links and options that do not exist
    return request
