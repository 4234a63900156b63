"""The families users can name, their links, their parts, and the names other programs use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from multilevel.errors import ModelError
from multilevel.model.families.records import Family, PartSpec, ResponseKind


@dataclass(frozen=True)
class Entry:
    """One family before its link is chosen.

    Attributes
    ----------
    label : how output names it.
    links : links of the mean, the default first.
    response : kind of response.
    mean : what the inverse link of part 0 is.
    parts : the parts after the mean.
    has_residual : as in ``Family``.
    may_be_truncated : whether zeros can be cut off.
    """

    label: str
    links: tuple[str, ...]
    response: ResponseKind
    mean: str
    parts: tuple[PartSpec, ...] = ()
    has_residual: bool = False
    may_be_truncated: bool = False


def _dispersion(meaning: str) -> tuple[PartSpec, ...]:
    return (PartSpec("dispersion", "log", meaning, "dispersion"),)


_COUNT = "expected count"

#: Families with one mean predictor, by canonical name.
FAMILIES: dict[str, Entry] = {
    "gaussian": Entry(
        "Gaussian",
        ("identity", "log"),
        "number",
        "expected response",
        _dispersion("residual variance"),
        has_residual=True,
    ),
    "lognormal": Entry(
        "lognormal",
        ("identity",),
        "positive",
        "expected log response",
        _dispersion("residual variance of the log response"),
        has_residual=True,
    ),
    "binomial": Entry(
        "binomial",
        ("logit", "probit", "cloglog", "cauchit", "log"),
        "binary",
        "probability of success",
    ),
    "poisson": Entry(
        "Poisson", ("log", "identity", "sqrt"), "count", _COUNT, may_be_truncated=True
    ),
    "negative_binomial": Entry(
        "negative binomial (NB2)",
        ("log",),
        "count",
        _COUNT,
        _dispersion("overdispersion alpha: the variance is mu + alpha mu^2"),
        may_be_truncated=True,
    ),
    "negative_binomial_1": Entry(
        "negative binomial (NB1)",
        ("log",),
        "count",
        _COUNT,
        _dispersion("overdispersion alpha: the variance is mu (1 + alpha)"),
        may_be_truncated=True,
    ),
    "generalized_poisson": Entry(
        "generalized Poisson",
        ("log",),
        "count",
        _COUNT,
        _dispersion("overdispersion alpha: the variance is mu (1 + alpha)^2"),
        may_be_truncated=True,
    ),
    "gamma": Entry(
        "gamma",
        ("log", "inverse"),
        "positive",
        "expected response",
        _dispersion("dispersion phi: the variance is phi mu^2"),
    ),
    "inverse_gaussian": Entry(
        "inverse Gaussian",
        ("log",),
        "positive",
        "expected response",
        _dispersion("dispersion phi: the variance is phi mu^3"),
    ),
    "beta": Entry(
        "beta",
        ("logit", "probit", "cloglog"),
        "proportion",
        "expected proportion",
        _dispersion("precision phi: the variance is mu (1 - mu) / (1 + phi)"),
    ),
    "tweedie": Entry(
        "Tweedie",
        ("log",),
        "nonnegative",
        "expected response",
        (
            *_dispersion("dispersion phi: the variance is phi mu^p"),
            PartSpec("power", "logit", "power p minus 1, between 0 and 1"),
        ),
    ),
    "student": Entry(
        "Student t",
        ("identity",),
        "number",
        "centre of the response",
        (
            *_dispersion("squared scale: the residual variance is this times df / (df - 2)"),
            PartSpec("df", "log", "degrees of freedom of the residuals"),
        ),
        has_residual=True,
    ),
    "censored_gaussian": Entry(
        "censored Gaussian",
        ("identity",),
        "interval",
        "expected response before censoring",
        _dispersion("residual variance before censoring"),
        has_residual=True,
    ),
    "censored_lognormal": Entry(
        "censored lognormal",
        ("identity",),
        "interval",
        "expected log response before censoring",
        _dispersion("residual variance of the log response before censoring"),
        has_residual=True,
    ),
}

#: Names that users of other programs know (lower case, without punctuation).
ALIASES: dict[str, str] = {
    "normal": "gaussian",
    "bernoulli": "binomial",
    "logistic": "binomial",
    "binary": "binomial",
    "nb": "negative_binomial",
    "nb2": "negative_binomial",
    "nbinom": "negative_binomial",
    "nbinom2": "negative_binomial",
    "nbreg": "negative_binomial",
    "negativebinomial": "negative_binomial",
    "negativebinomial2": "negative_binomial",
    "nb1": "negative_binomial_1",
    "nbinom1": "negative_binomial_1",
    "negativebinomial1": "negative_binomial_1",
    "genpois": "generalized_poisson",
    "genpoisson": "generalized_poisson",
    "gp1": "generalized_poisson",
    "invgauss": "inverse_gaussian",
    "igaussian": "inverse_gaussian",
    "ig": "inverse_gaussian",
    "wald": "inverse_gaussian",
    "betafamily": "beta",
    "betar": "beta",
    "t": "student",
    "studentt": "student",
    "tfamily": "student",
    "compoundpoisson": "tweedie",
    "tobit": "censored_gaussian",
    "censored": "censored_gaussian",
    "interval": "censored_gaussian",
    "intervalgaussian": "censored_gaussian",
    "intreg": "censored_gaussian",
}

#: Names that also choose the link.
LINKED_ALIASES: dict[str, tuple[str, str]] = {
    "logit": ("binomial", "logit"),
    "probit": ("binomial", "probit"),
    "cloglog": ("binomial", "cloglog"),
}

#: Variance of the latent residual behind a binary response.
LEVEL_ONE_VARIANCE = {"logit": math.pi**2 / 3, "probit": 1.0, "cloglog": math.pi**2 / 6}

_LINK_ALIASES = {"id": "identity", "ln": "log", "logistic": "logit", "cll": "cloglog"}


def family_of(name: str, link: str | None = None, *, truncated: bool = False) -> Family:
    """The family of this name.

    Parameters
    ----------
    name : a name of ``FAMILIES``, or one that other programs use (``"bernoulli"``,
        ``"nbinom2"``, ``"Gamma"``, ``"t"``); case and punctuation do not matter.
    link : link of the mean; None takes the usual one.
    truncated : counts without zeros, because zeros cannot be observed.

    Raises
    ------
    ModelError : an unknown family or link, or a truncation that does not exist.
    """
    key = "".join(c for c in name.lower() if c.isalnum())
    plain = {canonical.replace("_", ""): canonical for canonical in FAMILIES}
    for prefix in ("zerotruncated", "truncated"):
        if key.startswith(prefix):
            key, truncated = key.removeprefix(prefix), True
    if key in LINKED_ALIASES:
        canonical, implied = LINKED_ALIASES[key]
        link = implied if link is None else link
    else:
        canonical = ALIASES.get(key) or plain.get(key, "")
    if not canonical:
        raise ModelError(
            "family= names a kind of outcome",
            repr(name),
            f"choose one of {', '.join(sorted(FAMILIES))}",
        )
    entry = FAMILIES[canonical]
    chosen = _link_of(canonical, entry, link)
    if truncated and not entry.may_be_truncated:
        counts = ", ".join(n for n, e in FAMILIES.items() if e.may_be_truncated)
        raise ModelError(
            "Only counts can have their zeros cut off",
            f"family {entry.label} with truncated zeros",
            f"choose one of {counts}",
        )
    label = f"{'zero-truncated ' if truncated else ''}{entry.label} ({chosen} link)"
    mean = f"{entry.mean} before zeros are cut off" if truncated else entry.mean
    return Family(
        name=canonical,
        link=chosen,
        label=label,
        response=entry.response,
        parts=(PartSpec("mean", chosen, mean), *entry.parts),
        has_residual=entry.has_residual,
        level_one_variance=LEVEL_ONE_VARIANCE.get(chosen) if canonical == "binomial" else None,
        options=(("truncated", "yes"),) if truncated else (),
    )


def _link_of(canonical: str, entry: Entry, link: str | None) -> str:
    if link is None:
        return entry.links[0]
    key = link.lower()
    key = _LINK_ALIASES.get(key, key)
    if key not in entry.links:
        raise ModelError(
            f"link= of family {canonical} is one of {', '.join(entry.links)}",
            repr(link),
            f"leave link= away for {entry.links[0]}, or choose another family",
        )
    return key
