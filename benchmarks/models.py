"""The model a workload asks for, in words (a formula) and in parts.

Programs with formulas get the words; programs without them (GPBoost, statsmodels, the judge that
recomputes criteria) get the parts, so that nothing here needs to parse a formula.
This module imports the standard library only: it is loaded inside other programs' environments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Method = Literal["reml", "ml"]
Family = Literal["gaussian", "binomial", "poisson", "negative_binomial", "cumulative", "structured"]


@dataclass(frozen=True)
class Term:
    """Random effects of one grouping factor: an intercept and the named slopes.

    ``group`` holds the columns whose combination forms the factor; ``correlated`` tells whether
    the covariance matrix is free or diagonal.
    """

    group: tuple[str, ...]
    slopes: tuple[str, ...] = ()
    correlated: bool = True

    @property
    def name(self) -> str:
        """The factor as R writes it, ``lea:school``."""
        return ":".join(self.group)

    @property
    def size(self) -> int:
        """Random effects for each level."""
        return 1 + len(self.slopes)


@dataclass(frozen=True)
class Residual:
    """Covariance of the residuals of one unit: ``"ar1"`` or ``"un"`` over a whole-numbered time."""

    structure: Literal["ar1", "un"]
    time: str
    unit: str

    @property
    def text(self) -> str:
        """As `multilevel` writes it."""
        return f"{self.structure}({self.time} | {self.unit})"


@dataclass(frozen=True)
class Model:
    """Response, fixed effects (an intercept and numeric columns), random terms, method.

    ``family`` has its usual link (logit, log); ordered categories have thresholds in place of the
    intercept. ``points`` of adaptive quadrature; 1 is Laplace. ``residual``: of the family
    ``structured``, a Gaussian response whose residuals are correlated.
    """

    formula: str
    response: str
    fixed: tuple[str, ...]
    terms: tuple[Term, ...]
    method: Method = "reml"
    family: Family = "gaussian"
    points: int = 1
    residual: Residual | None = None

    def to_dict(self) -> dict[str, Any]:
        """The model as plain JSON types."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Model:
        """Undo ``to_dict``."""
        terms = tuple(
            Term(tuple(t["group"]), tuple(t["slopes"]), bool(t["correlated"])) for t in raw["terms"]
        )
        residual = raw.get("residual")
        return Model(
            raw["formula"], raw["response"], tuple(raw["fixed"]), terms, raw["method"],
            raw.get("family", "gaussian"), int(raw.get("points", 1)),
            None if residual is None else Residual(**residual),
        )  # fmt: skip


def linear(
    response: str, fixed: tuple[str, ...], terms: tuple[Term, ...], method: Method = "reml"
) -> Model:
    """A model with its formula written out: ``y ~ x + (x | g)``."""
    bars = []
    for term in terms:
        inner = " + ".join(term.slopes) if term.slopes else "1"
        bar = "|" if term.correlated else "||"
        bars.append(f"({inner} {bar} {term.name})")
    return Model(
        f"{response} ~ {' + '.join((*fixed, *bars)) or '1'}", response, fixed, terms, method
    )


def generalized(
    family: Family,
    response: str,
    fixed: tuple[str, ...],
    terms: tuple[Term, ...],
    points: int = 1,
) -> Model:
    """A generalized model, by maximum likelihood."""
    return replace(linear(response, fixed, terms, "ml"), family=family, points=points)


def structured(
    response: str, fixed: tuple[str, ...], terms: tuple[Term, ...], residual: Residual
) -> Model:
    """A Gaussian model with correlated residuals, by REML."""
    return replace(linear(response, fixed, terms), family="structured", residual=residual)


def nested(
    response: str, fixed: tuple[str, ...], path: tuple[str, ...], method: Method = "reml"
) -> Model:
    """Random intercepts down a tree of factors: ``y ~ x + (1 | lea/school)``."""
    terms = tuple(Term(path[: depth + 1]) for depth in range(len(path)))
    formula = f"{response} ~ {' + '.join((*fixed, '(1 | ' + '/'.join(path) + ')'))}"
    return Model(formula, response, fixed, terms, method)


def as_gpboost_fits(model: Model) -> Model:
    """The nearest model GPBoost has: maximum likelihood, independent slopes."""
    terms = tuple(Term(t.group, t.slopes, not t.slopes) for t in model.terms)
    if terms == model.terms:
        return replace(model, method="ml")
    return replace(
        linear(model.response, model.fixed, terms, "ml"), family=model.family, points=model.points
    )
