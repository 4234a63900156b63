"""Families with zeros of their own kind: zero-inflated and hurdle counts, two-part responses."""

from __future__ import annotations

from dataclasses import replace

from multilevel.errors import ModelError
from multilevel.model.families.records import Family, PartSpec, ResponseKind

ZERO_KINDS: tuple[str, ...] = ("inflated", "hurdle")
COUNTS = ("poisson", "negative_binomial", "negative_binomial_1", "generalized_poisson")
#: Families without zeros, which a hurdle gives them ("two-part" models).
WITHOUT_ZEROS = ("gamma", "inverse_gaussian", "lognormal", "beta")
_WITH: dict[ResponseKind, ResponseKind] = {
    "positive": "nonnegative",
    "proportion": "unit_interval",
}
_WITHOUT = {with_zeros: without for without, with_zeros in _WITH.items()}
_NAMES = {"inflated": "zero_inflated_", "hurdle": "hurdle_"}


def with_zero(family: Family, kind: str) -> Family:
    """The family with a last part ``"zero"``, the logit of a probability of zero.

    * ``"inflated"`` (counts): with probability ``pi`` a structural zero, else a count of the
      family, which may be zero too (Lambert 1992).
    * ``"hurdle"``: zero with probability ``pi``, else a positive response: a count without zeros
      (Mullahy 1986), or a response of a family that has none (gamma, inverse Gaussian, lognormal,
      beta below 1).

    The name gets a prefix, ``zero_inflated_poisson``; ``base_family`` takes it off again. The mean
    part describes the family before zeros are added (and, for hurdle counts, cut off).

    Raises
    ------
    ModelError : an unknown kind, or a family that cannot have it.
    """
    if kind not in ZERO_KINDS:
        raise ModelError(
            "zero= is one of " + ", ".join(ZERO_KINDS), repr(kind), "choose one of these kinds"
        )
    able = COUNTS if kind == "inflated" else COUNTS + WITHOUT_ZEROS
    if family.name not in able or family.option("truncated") == "yes":
        what = "Zero inflation" if kind == "inflated" else "A hurdle"
        raise ModelError(
            f"{what} can be added to " + ", ".join(able) + " (zeros not cut off).",
            f"family {family.label}",
            "choose one of these families",
        )
    structural = "a structural zero" if kind == "inflated" else "zero"
    part = PartSpec("zero", "logit", f"probability of {structural}", "zero")
    adjective = "zero-inflated" if kind == "inflated" else "hurdle"
    return replace(
        family,
        name=_NAMES[kind] + family.name,
        label=f"{adjective} {family.label}",
        response=_WITH.get(family.response, family.response),
        parts=(*family.parts, part),
        options=(*family.options, ("zero", kind)),
    )


def base_family(family: Family) -> Family:
    """The family under a zero-inflated or hurdle one (hurdle counts: with zeros cut off).

    Raises
    ------
    ModelError : a family without zero part.
    """
    kind = family.option("zero")
    if kind not in ZERO_KINDS:
        raise ModelError(
            "Only zero-inflated and hurdle families have a base family.",
            f"family {family.label}",
            "build it with with_zero first",
        )
    name = family.name.removeprefix(_NAMES[kind])
    options = tuple(item for item in family.options if item[0] != "zero")
    if kind == "hurdle" and name in COUNTS:
        options += (("truncated", "yes"),)
    label = family.label.removeprefix("zero-inflated ").removeprefix("hurdle ")
    return replace(
        family,
        name=name,
        label=label,
        response=_WITHOUT.get(family.response, family.response),
        parts=family.parts[:-1],
        options=options,
    )
