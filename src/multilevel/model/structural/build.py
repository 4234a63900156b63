"""Relations to one frozen StructuralModel: roles of variables, defaults, labels, free indices."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from multilevel.errors import ModelError
from multilevel.model.structural.higher import check_higher, higher_levels
from multilevel.model.structural.labels import number_parameters
from multilevel.model.structural.parse import Parsed, Relation
from multilevel.model.structural.records import (
    Defined,
    LatentScale,
    Level,
    Operator,
    Parameter,
    StructuralModel,
)
from multilevel.model.structural.scan import refuse
from multilevel.model.structural.slopes import check_slopes, default_slope_covariances


@dataclass(frozen=True)
class Roles:
    """What the variables of one level are.

    Attributes
    ----------
    observed, latent : names.
    indicators : names right of ``=~``.
    outcomes, predictors : names left and right of ``~``.
    exogenous : observed predictors that nothing points at.
    written : exogenous names whose moments the user writes, so that they are modelled.
    """

    observed: tuple[str, ...]
    latent: tuple[str, ...]
    indicators: frozenset[str]
    outcomes: frozenset[str]
    predictors: frozenset[str]
    exogenous: tuple[str, ...]
    written: frozenset[str]


def roles_of(parsed: Parsed, level: Level) -> Roles:
    """Sort the variables of one level by their role."""
    own = [r for r in parsed.relations if r.level == level]
    indicators = frozenset(r.rhs for r in own if r.op == "=~")
    outcomes = frozenset(r.lhs for r in own if r.op == "~")
    predictors = frozenset(r.rhs for r in own if r.op == "~")
    if level == "within":
        outcomes |= {s.outcome for s in parsed.slopes}
        predictors |= {s.predictor for s in parsed.slopes}
    observed = parsed.observed(level)
    exogenous = tuple(n for n in observed if n in predictors and n not in outcomes | indicators)
    touched = {n for r in own if r.op in ("~~", "~1") for n in (r.lhs, r.rhs)}
    return Roles(observed, parsed.latent(level), indicators, outcomes, predictors, exogenous,
                 frozenset(touched & set(exogenous)))  # fmt: skip


def fixed_candidates(parsed: Parsed) -> tuple[str, ...]:
    """Predictors that may be conditioned on: exogenous, on one level only, moments not written."""
    roles = {level: roles_of(parsed, level) for level in parsed.all_levels}
    out: list[str] = []
    for level, own in roles.items():
        elsewhere = {n for other, r in roles.items() if other != level for n in r.observed}
        out += [n for n in own.exogenous if n not in elsewhere and n not in own.written]
    return tuple(out)


def build_structural(
    parsed: Parsed,
    *,
    cluster: str = "",
    groups: Sequence[str] = ("",),
    fixed: Collection[str] = (),
    latent_scale: LatentScale = "loading",
) -> StructuralModel:
    """Complete the relations by defaults, and number the free parameters.

    Defaults (those of lavaan's ``sem``, and of Mplus where both agree), at each level:

    * every variable has a free (residual) variance; the residual variance of the only observed
      indicator of a latent variable is zero;
    * the first loading of a latent variable is 1 (``latent_scale="variance"``: its variance is 1);
    * covariances are free among exogenous latent variables, among exogenous observed predictors,
      and among the residuals of outcomes that predict nothing and indicate nothing;
    * random slopes have a free mean and variance, and covary with each other and with the between
      parts of the variables on both levels, unless one has an effect on the other;
    * a variable on several levels has its mean at the highest of them (zero at the others), one on
      a single level at that level; latent variables have mean zero.

    Parameters
    ----------
    parsed : from ``parse_structural``.
    cluster : column of the level-2 units.
    groups : labels of the groups.
    fixed : predictors to condition on, out of ``fixed_candidates``; the other exogenous
        predictors are modelled: free means, variances and covariances.
    latent_scale : how latent variables get their unit.

    Raises
    ------
    FormulaError : labels or definitions that do not fit; points at the character.
    ModelError : a model whose parts cannot be estimated together.
    """
    _check_levels(parsed, cluster)
    parameters: list[Parameter] = []
    for group in range(len(groups)):
        for level in parsed.levels or ["within"]:
            block = _Block(parsed, level, group, len(groups), frozenset(fixed), latent_scale)
            parameters += block.complete()
    numbered, names = number_parameters(parsed, parameters, tuple(groups))
    defined = tuple(Defined(n, e, source) for n, e, source, _ in parsed.defined)
    within, between = parsed.observed("within"), set(parsed.observed("between"))
    both = tuple(n for n in within if n in between)
    return StructuralModel(
        text=parsed.text,
        cluster=cluster,
        groups=tuple(groups),
        parameters=numbered,
        free_names=names,
        defined=defined,
        both=both,
        within_only=tuple(n for n in within if n not in between),
        between_only=tuple(n for n in parsed.observed("between") if n not in both),
        latent_within=parsed.latent("within"),
        latent_between=parsed.latent("between"),
        fixed_exogenous=tuple(n for n in fixed_candidates(parsed) if n in set(fixed)),
        random_slopes=tuple(parsed.slopes),
        higher=higher_levels(parsed),
    )


def _check_levels(parsed: Parsed, cluster: str) -> None:
    if cluster and not parsed.headings:
        refuse("A model with clusters says which relations hold at which level.",
               "no level heading", "write level: within before the relations within clusters and "
               f"level: {parsed.cluster if parsed.higher else 'between'} before those of clusters",
               parsed.text, 0)  # fmt: skip
    if not cluster and "between" in parsed.levels:
        raise ModelError(
            "A between level needs clusters.", "no cluster", 'say which, e.g. cluster="school"'
        )
    check_slopes(parsed)
    check_higher(parsed)


@dataclass
class _Block:
    """The parameters of one level of one group, in the making."""

    parsed: Parsed
    level: Level
    group: int
    n_groups: int
    fixed: frozenset[str]
    latent_scale: LatentScale
    rows: list[Parameter] = field(default_factory=list)

    def complete(self) -> list[Parameter]:
        """Written relations, then what the defaults add."""
        self.roles = roles_of(self.parsed, self.level)
        for relation in self.parsed.relations:
            if relation.level == self.level:
                self.rows.append(self._written(relation))
        self._set_scales()
        self._variances()
        self._covariances()
        if self.level != "within":
            split = self.parsed.observed("within")
            for a, b in default_slope_covariances(self.parsed, split, self.fixed, self.level):
                self._add(a, "~~", b)
        self._means(self.parsed.above(self.level))
        return self.rows

    def _has(self, op: Operator, a: str, b: str) -> bool:
        return any(
            r.op == op and ((r.lhs, r.rhs) == (a, b) or (op == "~~" and (r.rhs, r.lhs) == (a, b)))
            for r in self.rows
        )

    def _add(self, lhs: str, op: Operator, rhs: str, value: float = math.nan) -> None:
        """Add a default parameter unless it is written; NaN means free."""
        if self._has(op, lhs, rhs):
            return
        exogenous = lhs in self.fixed and (op == "~1" or rhs in self.fixed)
        row = Parameter(self.level, self.group, lhs, op, rhs, origin="default", value=value)
        self.rows.append(replace(row, origin="exogenous") if exogenous else row)

    def _written(self, relation: Relation) -> Parameter:
        """One written relation with the modifiers of this group."""
        row = Parameter(self.level, self.group, relation.lhs, relation.op, relation.rhs)
        for entries in relation.modifiers:
            if len(entries) not in (1, self.n_groups):
                refuse("c(...) has one entry for each group.",
                       f"{len(entries)} entries, {self.n_groups} groups",
                       "give one entry, or one per group", self.parsed.text,
                       relation.position)  # fmt: skip
            entry = entries[0] if len(entries) == 1 else entries[self.group]
            if entry.kind == "label":
                if row.label and row.label != entry.text:
                    refuse("A parameter has one label.", f"{row.label!r} and {entry.text!r}",
                           f"write {row.label} == {entry.text} to make two labels equal",
                           self.parsed.text, relation.position)  # fmt: skip
                row = replace(row, label=entry.text)
            elif entry.kind == "start":
                row = replace(row, start=entry.number)
            elif entry.kind == "fixed":
                row = replace(row, value=entry.number)
            else:
                row = replace(row, value=math.inf)  # asked to be free; no default may fix it
        return row

    def _set_scales(self) -> None:
        """Give every latent variable its unit."""
        for latent in self.roles.latent:
            mine = [i for i, r in enumerate(self.rows) if r.op == "=~" and r.lhs == latent]
            if latent in {s.name for s in self.parsed.slopes}:
                continue  # the unit of a slope is that of its variables
            if self.latent_scale == "variance":
                self._add(latent, "~~", latent, 1.0)
            elif mine and math.isnan(self.rows[mine[0]].value):
                first = self.rows[mine[0]]
                if math.isnan(first.start):
                    self.rows[mine[0]] = replace(first, value=1.0)
        self.rows = [replace(r, value=math.nan) if math.isinf(r.value) else r for r in self.rows]

    def _variances(self) -> None:
        alone = {
            mine[0]
            for latent in self.roles.latent
            if len(mine := [r.rhs for r in self.rows if r.op == "=~" and r.lhs == latent]) == 1
        }
        for name in (*self.roles.observed, *self.roles.latent):
            is_alone = name in alone and name in self.roles.observed
            self._add(name, "~~", name, 0.0 if is_alone else math.nan)

    def _covariances(self) -> None:
        roles = self.roles
        pointed_at = roles.outcomes | roles.indicators
        latent_x = [n for n in roles.latent if n not in pointed_at]
        free_y = [
            n
            for n in (*roles.latent, *roles.observed)
            if n in roles.outcomes and n not in roles.predictors | roles.indicators
        ]
        for names in (latent_x, free_y, roles.exogenous):
            for a, b in combinations(names, 2):
                self._add(a, "~~", b)

    def _means(self, above: frozenset[str]) -> None:
        """``above`` holds what has its mean at a higher level."""
        for name in self.roles.observed:
            self._add(name, "~1", "", 0.0 if name in above else math.nan)
        slopes = {s.name for s in self.parsed.slopes} - above
        for name in self.roles.latent:
            self._add(name, "~1", "", math.nan if name in slopes else 0.0)
