"""The models that a structural model is compared with: saturated, independence, one level alone.

A level alone: that level is as it was written, or independent, and every other level is saturated
(partially saturated models; Ryu & West 2009, Structural Equation Modeling 16:583).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from multilevel.model.structural.records import Level, Parameter, StructuralModel


def exogenous_predictors(model: StructuralModel, level: Level) -> tuple[str, ...]:
    """Observed predictors of a level that nothing points at."""
    block = model.block(level, 0)
    predictors = {p.rhs for p in block if p.op == "~"}
    if level == "within":
        predictors |= {s.predictor for s in model.random_slopes}
    pointed_at = {p.lhs for p in block if p.op == "~"} | {p.rhs for p in block if p.op == "=~"}
    if level == "within":
        pointed_at |= {s.outcome for s in model.random_slopes}
    return tuple(n for n in model.observed(level) if n in predictors - pointed_at)


def saturated_model(model: StructuralModel) -> StructuralModel:
    """Free means, variances and covariances of all observed variables at each level."""
    return _reference(model, is_saturated=True)


def independence_model(model: StructuralModel) -> StructuralModel:
    """Free means and variances; the only covariances are those among exogenous predictors."""
    return _reference(model, is_saturated=False)


def level_alone(model: StructuralModel, level: Level) -> StructuralModel:
    """The model at one level, all other levels saturated; equal parameters stay equal there."""
    return _reference(model, is_saturated=True, written=level)


def level_independence(model: StructuralModel, level: Level) -> StructuralModel:
    """The independence model at one level, all other levels saturated."""
    return _reference(model, is_saturated=True, independent=level)


def _reference(
    model: StructuralModel, is_saturated: bool, written: Level = "", independent: Level = ""
) -> StructuralModel:
    """Every level saturated or independent, but ``written`` as it is and ``independent`` so."""
    rows: list[Parameter] = []
    for group in range(len(model.groups)):
        for level in model.levels:
            if level == written:
                rows += model.block(level, group)
            else:
                rows += _level(model, level, group, is_saturated and level != independent)
    names: list[str] = []
    places: dict[int, int] = {}
    for i, row in enumerate(rows):
        if row.level == written:
            if row.is_free:
                if row.free not in places:
                    places[row.free] = len(names)
                    names.append(model.free_names[row.free])
                rows[i] = replace(row, free=places[row.free])
            continue
        if row.origin == "exogenous" or row.value == 0.0:
            continue
        rows[i] = replace(row, free=len(names))
        names.append(f"{row.name} [{model.level_name(row.level)}, {row.group + 1}]")
    return replace(
        model,
        parameters=tuple(rows),
        free_names=tuple(names),
        defined=(),
        latent_within=model.latent_within if written == "within" else (),
        latent_between=model.latent_between if written == "between" else (),
        higher=tuple(h if h.name == written else replace(h, latent=()) for h in model.higher),
    )


def _level(model: StructuralModel, level: Level, group: int, is_saturated: bool) -> list[Parameter]:
    names = model.observed(level)
    fixed = set(model.fixed_exogenous)
    kept = set(exogenous_predictors(model, level))
    out = []
    for name in names:
        own = Parameter(level, group, name, "~~", name, origin="default")
        mean = Parameter(level, group, name, "~1", "", origin="default")
        if name in model.above(level):
            mean = replace(mean, value=0.0)
        if name in fixed:
            own, mean = replace(own, origin="exogenous"), replace(mean, origin="exogenous")
        out += [own, mean]
    for a, b in combinations(names, 2):
        if {a, b} <= fixed:
            out.append(Parameter(level, group, a, "~~", b, origin="exogenous"))
        elif is_saturated or {a, b} <= kept:
            out.append(Parameter(level, group, a, "~~", b, origin="default"))
    return out
