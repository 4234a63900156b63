"""The frozen structural model: one parameter table and the roles of its variables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from multilevel.model.structural.expression import Expression

Level = Literal["within", "between"]
LEVELS: tuple[Level, ...] = get_args(Level)
Operator = Literal["=~", "~", "~~", "~1"]
Origin = Literal["written", "default", "exogenous"]
Exogenous = Literal["auto", "fixed", "modelled"]
EXOGENOUS: tuple[str, ...] = get_args(Exogenous)
LatentScale = Literal["loading", "variance"]
LATENT_SCALES: tuple[str, ...] = get_args(LatentScale)


@dataclass(frozen=True)
class Parameter:
    """One row of the parameter table.

    Attributes
    ----------
    level : ``"within"`` (level 1) or ``"between"`` (level 2).
    group : number of the group, from 0.
    lhs, op, rhs : the statement; ``rhs`` is ``""`` for an intercept (``op="~1"``).
    label : the user's name, ``""`` if none. Parameters with the same label are equal.
    free : index among the free parameters, -1 if fixed.
    start : start value asked for, NaN if none.
    value : fixed value; NaN if free, or taken from the data (``origin="exogenous"``).
    origin : ``"written"`` by the user, added by ``"default"``, or a moment of a fixed
        ``"exogenous"`` predictor.
    """

    level: Level
    group: int
    lhs: str
    op: Operator
    rhs: str
    label: str = ""
    free: int = -1
    start: float = math.nan
    value: float = math.nan
    origin: Origin = "written"

    @property
    def is_free(self) -> bool:
        """Whether it is estimated."""
        return self.free >= 0

    @property
    def is_variance(self) -> bool:
        """Whether it is a (residual) variance."""
        return self.op == "~~" and self.lhs == self.rhs

    @property
    def name(self) -> str:
        """The statement in words of the language: ``y ~ x``, ``y ~ 1``."""
        return f"{self.lhs} ~ 1" if self.op == "~1" else f"{self.lhs} {self.op} {self.rhs}"


@dataclass(frozen=True)
class Defined:
    """A defined parameter ``name := expression``; ``source`` is what the user wrote."""

    name: str
    expression: Expression
    source: str


@dataclass(frozen=True)
class RandomSlope:
    """``name | outcome ~ predictor`` at the within level: a slope that varies over clusters."""

    name: str
    outcome: str
    predictor: str


@dataclass(frozen=True)
class StructuralModel:
    """A two-level structural model, ready to be laid over data.

    Attributes
    ----------
    text : what the user wrote.
    cluster : column of the level-2 units.
    groups : labels of the groups; ``("",)`` where there is one.
    parameters : the table, all groups and levels.
    free_names : (q,) a name for every free parameter: its label, or its statement with level.
    defined : defined parameters in order.
    both : observed variables on both levels (a within and a latent between part).
    within_only : observed variables without a between part.
    between_only : observed level-2 variables.
    latent_within, latent_between : latent variables by level.
    fixed_exogenous : predictors whose means and covariances are taken from the data, so that the
        likelihood is conditional on them.
    random_slopes : slopes that vary over clusters.
    """

    text: str
    cluster: str
    groups: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    free_names: tuple[str, ...]
    defined: tuple[Defined, ...]
    both: tuple[str, ...]
    within_only: tuple[str, ...]
    between_only: tuple[str, ...]
    latent_within: tuple[str, ...]
    latent_between: tuple[str, ...]
    fixed_exogenous: tuple[str, ...]
    random_slopes: tuple[RandomSlope, ...] = ()

    @property
    def n_free(self) -> int:
        """q, the number of different free parameters."""
        return len(self.free_names)

    def observed(self, level: Level) -> tuple[str, ...]:
        """Observed variables of a level; those on both levels come first."""
        return self.both + (self.within_only if level == "within" else self.between_only)

    def latent(self, level: Level) -> tuple[str, ...]:
        """Latent variables of a level."""
        return self.latent_within if level == "within" else self.latent_between

    @property
    def slope_names(self) -> tuple[str, ...]:
        """Names of the random slopes."""
        return tuple(s.name for s in self.random_slopes)

    def located(self, level: Level) -> tuple[str, ...]:
        """Variables of a level whose moments the likelihood needs.

        Those observed; at the between level the random slopes stand after the variables on both
        levels.
        """
        if level == "within":
            return self.observed(level)
        return self.both + self.slope_names + self.between_only

    def block(self, level: Level, group: int) -> tuple[Parameter, ...]:
        """The parameters of one level of one group."""
        return tuple(p for p in self.parameters if p.level == level and p.group == group)
