"""Random-effect variances that depend on predictors: ``random_scale={"school": "~ sector"}``.

The log standard deviation of every random effect of a factor is a linear predictor of its own in
variables of that factor; correlations stay: ``G_j = D_j G D_j``, ``D_j = diag(exp(W_j alpha))``.
Source: Hedeker, Mermelstein & Demirtas 2008 (log-linear between-subject variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multilevel.errors import ModelError

_EXAMPLE = 'write random_scale={"school": "~ sector + size"}'


@dataclass(frozen=True)
class RandomScaleTerm:
    """The model for the log standard deviations of the random effects of one factor.

    Attributes
    ----------
    factors : names of the factor, ``("school", "class")`` for ``school:class``.
    predictors : right-hand side, without ``~``.
    """

    factors: tuple[str, ...]
    predictors: str

    @property
    def group(self) -> str:
        """Label of the factor."""
        return ":".join(self.factors)

    @property
    def text(self) -> str:
        """``school ~ sector + size``."""
        return f"{self.group} ~ {self.predictors}"


def check_random_scale(
    wanted: Mapping[str, str] | str, factors: Sequence[tuple[str, ...]]
) -> tuple[RandomScaleTerm, ...]:
    """Read ``random_scale=``.

    Parameters
    ----------
    wanted : ``{factor: "~ predictors"}``, or the formula alone where the model has one factor.
    factors : grouping factors of the model's random terms.

    Raises
    ------
    ModelError : a factor without random term, or text that is not a one-sided formula.
    """
    known = {frozenset(one): one for one in factors}
    if isinstance(wanted, str):
        if len(known) != 1:
            raise ModelError(
                "random_scale= names the grouping factor where the model has none or several.",
                f"random_scale={wanted!r} with "
                + (", ".join(":".join(one) for one in known.values()) or "no random term"),
                _EXAMPLE,
            )
        wanted = {":".join(next(iter(known.values()))): wanted}
    if not isinstance(wanted, Mapping) or not wanted:
        raise ModelError(
            "random_scale= gives a formula for each grouping factor.",
            f"random_scale={wanted!r}",
            _EXAMPLE,
        )
    found: dict[frozenset[str], RandomScaleTerm] = {}
    for group, text in wanted.items():
        key = frozenset(part.strip() for part in str(group).split(":"))
        if key not in known:
            raise ModelError(
                "random_scale= names grouping factors that have a random term.",
                f"{group!r}; factors: "
                + (", ".join(":".join(one) for one in known.values()) or "none"),
                f"add (1 | {group}) to the formula, or name another factor",
            )
        if key in found:
            raise ModelError(
                "random_scale= names a grouping factor once.",
                f"{group!r} twice",
                "keep one of them",
            )
        found[key] = RandomScaleTerm(known[key], _right_side(group, text))
    return tuple(found.values())


def _right_side(group: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip().startswith("~"):
        raise ModelError(
            "The model for a standard deviation is a one-sided formula.",
            f"random_scale={{{group!r}: {text!r}}}",
            _EXAMPLE,
        )
    inside = text.strip()[1:].strip()
    if not inside or "|" in inside:
        raise ModelError(
            "The model for a standard deviation has fixed predictors, at least one.",
            f"random_scale={{{group!r}: {text!r}}}",
            _EXAMPLE,
        )
    return inside
