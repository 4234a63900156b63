"""The frozen Family: a kind of outcome and the linear predictors that describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ResponseKind = Literal[
    "number",
    "positive",
    "nonnegative",
    "proportion",
    "unit_interval",
    "count",
    "binary",
    "ordered",
    "nominal",
    "interval",
]


@dataclass(frozen=True)
class PartSpec:
    """One linear predictor of a family.

    Every parameter of a family is a linear predictor: a single dispersion is a predictor that
    holds only an intercept. So formulas for dispersion or zero inflation need nothing new.

    Attributes
    ----------
    name : ``"mean"``, ``"dispersion"``, ``"zero"``, ``"threshold 2"``, ``"category B"``, ...
    link : link of the predictor, e.g. ``"logit"``, ``"log"``, ``"identity"``.
    meaning : what the inverse link of the predictor is, in words (``"residual variance"``).
    argument : argument of ``fit`` that gives its formula (``"dispersion"``, ``"zero"``); or
        ``"formula"`` if the model's formula itself, fixed and random, applies to this part too
        (categories of a nominal response); or ``""`` if it always holds an intercept only. The
        first part always takes the model's formula.
    """

    name: str
    link: str
    meaning: str
    argument: str = ""


@dataclass(frozen=True)
class Family:
    """One family with its links; category counts are known only after the data are seen.

    Attributes
    ----------
    name : canonical name, ``"binomial"``, ``"negative_binomial"``, ``"cumulative"``, ...
    link : link of the mean part.
    label : how output names it, ``"binomial (logit link)"``.
    response : kind of response it needs.
    parts : its linear predictors, the mean first. Families of categories (cumulative, nominal...)
        name only the parts that do not depend on the number of categories;
        ``parts_for(n_categories)`` completes them.
    has_residual : whether a residual variance on the response scale is a parameter (Gaussian,
        Student t, lognormal...).
    level_one_variance : variance of the latent residual on the link scale (``pi^2/3`` logit, 1
        probit, ``pi^2/6`` cloglog), or None where there is none.
    options : fixed choices beside the link, e.g. ``(("truncated", "yes"),)``;
        ``("mean_intercept", "no")`` where other parts hold the constant (ordinal families).
    """

    name: str
    link: str
    label: str
    response: ResponseKind
    parts: tuple[PartSpec, ...]
    has_residual: bool = False
    level_one_variance: float | None = None
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str, default: str = "") -> str:
        """The value of an option, or ``default``."""
        return dict(self.options).get(name, default)
