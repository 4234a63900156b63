"""The frozen structural model: one parameter table and the roles of its variables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from multilevel.model.structural.expression import Expression

#: ``"within"`` (level 1), ``"between"`` (level 2), or the name of a column of higher units.
Level = str
#: The levels of a model with one cluster column; ``StructuralModel.levels`` has those of any model.
LEVELS: tuple[Level, ...] = ("within", "between")
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
    level : ``"within"`` (level 1), ``"between"`` (level 2), or the column of higher units.
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
class HigherLevel:
    """One level above the second.

    Attributes
    ----------
    name : column of its units.
    parts : variables of the level below with a part here, random slopes among them, in the order
        of the level below.
    only : observed variables of this level alone.
    latent : latent variables, and the random slopes among ``parts``.
    """

    name: str
    parts: tuple[str, ...]
    only: tuple[str, ...]
    latent: tuple[str, ...]


@dataclass(frozen=True)
class StructuralModel:
    """A structural model of rows in clusters, ready to be laid over data.

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
    higher : levels above the second, from below.
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
    higher: tuple[HigherLevel, ...] = ()

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels, from rows upwards."""
        return (*LEVELS, *(h.name for h in self.higher))

    @property
    def clusters(self) -> tuple[str, ...]:
        """Columns of the units of each level from the second; empty without clusters."""
        return (self.cluster, *(h.name for h in self.higher)) if self.cluster else ()

    def level_name(self, level: Level) -> str:
        """What users call a level: with three levels or more, the second is its column."""
        return self.cluster if self.higher and level == "between" else level

    def above(self, level: Level) -> frozenset[str]:
        """Variables that are split, with a part at some level above ``level``."""
        names = self.both if level == "within" else ()
        rest = self.higher[max(self.levels.index(level) - 1, 0) :]
        return frozenset((*names, *(n for h in rest for n in h.parts)))

    def _higher(self, level: Level) -> HigherLevel | None:
        return next((h for h in self.higher if h.name == level), None)

    @property
    def n_free(self) -> int:
        """q, the number of different free parameters."""
        return len(self.free_names)

    def observed(self, level: Level) -> tuple[str, ...]:
        """Observed variables of a level; those with parts at several levels come first."""
        high = self._higher(level)
        if high is not None:
            return tuple(n for n in high.parts if n not in self.slope_names) + high.only
        return self.both + (self.within_only if level == "within" else self.between_only)

    def latent(self, level: Level) -> tuple[str, ...]:
        """Latent variables of a level."""
        high = self._higher(level)
        if high is not None:
            return high.latent
        return self.latent_within if level == "within" else self.latent_between

    @property
    def slope_names(self) -> tuple[str, ...]:
        """Names of the random slopes."""
        return tuple(s.name for s in self.random_slopes)

    def located(self, level: Level) -> tuple[str, ...]:
        """Variables of a level whose moments the likelihood needs.

        Those observed; at the between level the random slopes stand after the variables on both
        levels. At higher levels what has parts below comes first, in the order below.
        """
        if level == "within":
            return self.observed(level)
        high = self._higher(level)
        if high is not None:
            return high.parts + high.only
        return self.both + self.slope_names + self.between_only

    def block(self, level: Level, group: int) -> tuple[Parameter, ...]:
        """The parameters of one level of one group."""
        return tuple(p for p in self.parameters if p.level == level and p.group == group)
