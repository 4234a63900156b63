"""The model a workload asks for, in words (a formula) and in parts.

Programs with formulas get the words; programs without them (GPBoost, statsmodels, the judge that
recomputes criteria) get the parts, so that nothing here needs to parse a formula.
This module imports the standard library only: it is loaded inside other programs' environments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Method = Literal["reml", "ml"]
Family = Literal[
    "gaussian", "binomial", "poisson", "negative_binomial", "cumulative", "structured",
    "occasions", "location_scale", "location_scale_gamma", "related", "structural",
]  # fmt: skip


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
class Structural:
    """A structural model in lavaan's language, levels headed ``level: 1``, ``level: 2``, ...

    Attributes
    ----------
    text : the model.
    cluster : columns of the units of levels 2, 3, ... from below.
    outcomes : observed variables whose joint density is the likelihood, at level 1.
    given : predictors that it is conditional on.
    programs : names of the other programs that have this model.
    """

    text: str
    cluster: tuple[str, ...]
    outcomes: tuple[str, ...]
    given: tuple[str, ...]
    programs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relation:
    """What ties the levels of the only random term of a ``related`` model.

    ``"mm"``: ``columns`` hold the levels that a row belongs to, ``others`` their weights.
    ``"pedigree"``: ``columns`` is the animal, ``others`` its sire and dam; animals count from
    1, and 0 is an unknown parent.
    """

    kind: Literal["mm", "pedigree"]
    columns: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """Response, fixed effects (an intercept and numeric columns), random terms, method.

    ``family`` has its usual link (logit, log); ordered categories have thresholds in place of the
    intercept. ``points`` of adaptive quadrature; 1 is Laplace. ``residual``: of the family
    ``structured``, a Gaussian response whose residuals are correlated, or ``occasions``, whose
    random effects are, over the occasions of a unit. ``scale``: predictors of the log variance in
    the families ``location_scale`` (Gaussian) and ``location_scale_gamma``, beside a random effect
    of the only factor. ``relation``: of ``related``; ``structural``: of ``structural``.
    """

    formula: str
    response: str
    fixed: tuple[str, ...]
    terms: tuple[Term, ...]
    method: Method = "reml"
    family: Family = "gaussian"
    points: int = 1
    residual: Residual | None = None
    scale: tuple[str, ...] = ()
    relation: Relation | None = None
    structural: Structural | None = None

    def to_dict(self) -> dict[str, Any]:
        """The model as plain JSON types."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Model:
        """Undo ``to_dict``."""
        terms = tuple(
            Term(tuple(t["group"]), tuple(t["slopes"]), bool(t["correlated"])) for t in raw["terms"]
        )
        residual, relation = raw.get("residual"), raw.get("relation")
        structural = raw.get("structural")
        return Model(
            raw["formula"], raw["response"], tuple(raw["fixed"]), terms, raw["method"],
            raw.get("family", "gaussian"), int(raw.get("points", 1)),
            None if residual is None else Residual(**residual), tuple(raw.get("scale", ())),
            None if relation is None else Relation(**_tuples(relation)),
            None if structural is None else Structural(**_tuples(structural)),
        )  # fmt: skip


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    """Lists of a JSON record as tuples."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in raw.items()}


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


def occasions(response: str, fixed: tuple[str, ...], time: str, unit: str) -> Model:
    """Random effects of every occasion of a unit with AR(1), beside residuals; by REML."""
    plain = linear(response, fixed, ())
    formula = f"{response} ~ {' + '.join((*fixed, f'ar1(0 + {time} | {unit})'))}"
    return replace(plain, formula=formula, family="occasions", residual=Residual("ar1", time, unit))


def location_scale(
    response: str, fixed: tuple[str, ...], scale: tuple[str, ...], group: str, points: int,
    family: Family = "location_scale",
) -> Model:  # fmt: skip
    """Random location and scale of ``group``, correlated; by maximum likelihood."""
    plain = linear(response, fixed, (Term((group,)),), "ml")
    return replace(plain, family=family, points=points, scale=scale)


def related(response: str, fixed: tuple[str, ...], relation: Relation) -> Model:
    """One random term whose levels are related or shared by a row; by REML."""
    inner = relation.columns[0]
    if relation.kind == "mm":
        weights = ", ".join(relation.others)
        inner = f"mm({', '.join(relation.columns)}, weights=[{weights}])"
    plain = linear(response, fixed, ())
    formula = f"{response} ~ {' + '.join((*fixed, f'(1 | {inner})'))}"
    return replace(plain, formula=formula, family="related", relation=relation)


def structural_model(parts: Structural) -> Model:
    """A structural model by maximum likelihood; its formula is its text on one line."""
    lines = [line.strip() for line in parts.text.strip().splitlines()]
    return Model(
        "; ".join(lines), parts.outcomes[0], parts.given, (), "ml", "structural", structural=parts
    )


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
