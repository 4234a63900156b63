"""The frozen Model: what the user asked for, before any data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from multilevel.errors import ModelError
from multilevel.model.covariance.structures import Structure
from multilevel.model.residual import ResidualTerm

Method = Literal["reml", "ml"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class RandomTerm:
    """One bar term after expansion, e.g. ``(1 + x | school:class)``.

    Attributes
    ----------
    columns : the formula left of the bar, e.g. ``"1 + x"`` (fixed-effects grammar).
    factors : the names right of the bar, e.g. ``("school", "class")`` for ``school:class``.
    structure : covariance structure among the columns.
    text : the term as the user wrote it (for messages).
    position : character where the term starts in the formula.
    """

    columns: str
    factors: tuple[str, ...]
    structure: Structure
    text: str
    position: int

    @property
    def group(self) -> str:
        """Label of the grouping factor, ``"school:class"``."""
        return ":".join(self.factors)


@dataclass(frozen=True)
class Model:
    """One multilevel model in words.

    Attributes
    ----------
    formula : the text as written.
    response : the left-hand side, an expression on columns; ``cbind(a, b)`` (successes and
        failures) and ``interval(a, b)`` (bounds of what was not seen exactly) have two.
    response_parts : the two expressions of such a left-hand side; empty for all others.
    fixed : the model for the means (right-hand side without bar terms), in formulaic's grammar.
    random : the model for the variance: random terms, nested ones expanded.
    offsets : expressions inside ``offset(...)``.
    method : ``"reml"`` or ``"ml"``.
    family : outcome family; ``"gaussian"`` here.
    residual : structure of the residual covariance; None: independent residuals.
    scale : model for the log of the residual variance (right-hand side); None: one variance.
    """

    formula: str
    response: str
    fixed: str
    random: tuple[RandomTerm, ...]
    offsets: tuple[str, ...] = ()
    method: Method = "reml"
    family: str = "gaussian"
    response_parts: tuple[str, ...] = ()
    residual: ResidualTerm | None = None
    scale: str | None = None

    @property
    def text(self) -> str:
        """The formula, and the residual structure where there is one."""
        parts = [self.formula]
        if self.residual is not None:
            parts.append(f"residual {self.residual.text}")
        if self.scale is not None:
            parts.append(f"scale ~ {self.scale}")
        return "; ".join(parts)

    @property
    def has_structured_residual(self) -> bool:
        """Whether residuals are correlated or their variances differ."""
        return self.residual is not None or self.scale is not None


def check_method(method: str) -> Method:
    """Return ``method`` in lower case, or say which are allowed."""
    lowered = str(method).lower()
    if lowered == "reml":
        return "reml"
    if lowered == "ml":
        return "ml"
    raise ModelError(
        "The estimation method must be 'reml' or 'ml'.",
        f"method={method!r}",
        "write method='reml' (default) or method='ml'",
    )
