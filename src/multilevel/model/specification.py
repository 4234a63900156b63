"""The frozen Model: what the user asked for, before any data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from multilevel.errors import ModelError
from multilevel.model.covariance.structures import Structure
from multilevel.model.random_scale import RandomScaleTerm
from multilevel.model.residual import ResidualTerm

Method = Literal["reml", "ml"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Membership:
    """Several levels per row: ``mm(school1, school2, weights=[w1, w2])`` right of a bar.

    Attributes
    ----------
    columns : the columns that hold the levels; they share one pool of levels.
    weights : the columns of their weights, as many; empty: equal weights.
    is_scaled : whether the weights of a row are divided by their sum.
    """

    columns: tuple[str, ...]
    weights: tuple[str, ...] = ()
    is_scaled: bool = True

    @property
    def label(self) -> str:
        """Label of the pooled factor, ``"mm(school1, school2)"``."""
        return f"mm({', '.join(self.columns)})"


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
    membership : the columns of ``mm(...)``, for rows with several levels; ``factors`` then holds
        its label alone.
    by : column whose groups of levels have covariance matrices of their own; None: one for all.
    order : band of ``toep`` (0: none), rank of ``fa`` and ``rr``.
    """

    columns: str
    factors: tuple[str, ...]
    structure: Structure
    text: str
    position: int
    membership: Membership | None = None
    by: str | None = None
    order: int = 0

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
    random_scale : models for the log standard deviations of random effects, by factor.
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
    random_scale: tuple[RandomScaleTerm, ...] = ()

    @property
    def text(self) -> str:
        """The formula, and the models for the variances where there are any."""
        parts = [self.formula]
        if self.residual is not None:
            parts.append(f"residual {self.residual.text}")
        if self.scale is not None:
            parts.append(f"scale ~ {self.scale}")
        parts += [f"random scale: {term.text}" for term in self.random_scale]
        return "; ".join(parts)

    @property
    def has_structured_residual(self) -> bool:
        """Whether residuals are correlated, or a variance depends on predictors."""
        return self.residual is not None or self.scale is not None or bool(self.random_scale)


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
