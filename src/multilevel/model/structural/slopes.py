"""Random slopes of a structural model: what may be written, and what depends on them.

``s | y ~ x``: in cluster j the slope of y on x is ``s_j``, a variable of the between level. The
product ``s_j x_ij`` holds the observed x, so that given s and x everything stays normal (Rockwood
2020, Psychometrika 85:275; numerics of multivariate mixed models).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multilevel.errors import ModelError
from multilevel.model.structural.parse import Parsed
from multilevel.model.structural.records import Level, RandomSlope, StructuralModel


def check_slopes(parsed: Parsed) -> None:
    """Refuse random slopes that have no meaning or no closed likelihood.

    Raises
    ------
    ModelError : a slope without a between level, of or on a latent variable, named like another
        variable, written as a fixed slope too, or part of a loop.
    """
    if not parsed.slopes:
        return
    slope = parsed.slopes[0]
    if "between" not in parsed.levels:
        raise ModelError(
            f"A random slope is a variable of the {parsed.title('between')} level.",
            f"{slope.name} | {slope.outcome} ~ {slope.predictor} without level: "
            f"{parsed.title('between')}",
            f"add level: {parsed.title('between')} with {slope.name} ~ 1, and the relations of "
            "clusters",
        )
    seen: dict[str, RandomSlope] = {}
    pairs = {(r.lhs, r.rhs) for r in parsed.relations if r.level == "within" and r.op == "~"}
    for slope in parsed.slopes:
        _check_one(parsed, slope)
        if slope.name in seen:
            raise ModelError(
                "Every random slope has its own name.", f"{slope.name} twice", "rename one"
            )
        seen[slope.name] = slope
        if (slope.outcome, slope.predictor) in pairs:
            raise ModelError(
                "A slope is random or fixed.",
                f"{slope.outcome} ~ {slope.predictor} beside {slope.name} | {slope.outcome} ~ "
                f"{slope.predictor}",
                f"take {slope.outcome} ~ {slope.predictor} out: the mean of {slope.name} "
                f"({slope.name} ~ 1 at the between level) is the average slope",
            )
        pairs.add((slope.outcome, slope.predictor))
    edges = _edges(
        ((r.lhs, r.op, r.rhs) for r in parsed.relations if r.level == "within"), parsed.slopes
    )
    for slope in parsed.slopes:
        if slope.predictor in reached(edges, slope.outcome):
            raise ModelError(
                "Variables with a random slope do not cause themselves.",
                f"a loop through {slope.name} | {slope.outcome} ~ {slope.predictor}",
                "take one relation of the loop out",
            )


def _check_one(parsed: Parsed, slope: RandomSlope) -> None:
    for name in (slope.outcome, slope.predictor):
        if name in parsed.latent("within"):
            raise ModelError(
                "A random slope joins observed variables.",
                f"{slope.name} | {slope.outcome} ~ {slope.predictor}, where {name} is latent",
                f"use an observed variable, or a fixed slope {slope.outcome} ~ {slope.predictor}",
            )
    if slope.outcome == slope.predictor:
        raise ModelError("A variable is not regressed on itself.",
                         f"{slope.name} | {slope.outcome} ~ {slope.predictor}",
                         "name another predictor")  # fmt: skip
    if slope.name in parsed.names("within") or any(
        r.op == "=~" and slope.name in (r.lhs, r.rhs) for r in parsed.relations
    ):
        raise ModelError(
            "A random slope has a name of its own, and stands at the between level only, in "
            "regressions and covariances.",
            f"{slope.name} is also a variable of another kind",
            "choose another name",
        )


def _edges(
    relations: Iterable[tuple[str, str, str]], slopes: Sequence[RandomSlope]
) -> dict[str, set[str]]:
    """``{cause: effects}`` of the within level."""
    out: dict[str, set[str]] = {}
    for lhs, op, rhs in relations:
        if op == "~":
            out.setdefault(rhs, set()).add(lhs)
        elif op == "=~":
            out.setdefault(lhs, set()).add(rhs)
    for s in slopes:
        out.setdefault(s.predictor, set()).add(s.outcome)
    return out


def reached(edges: dict[str, set[str]], start: str) -> frozenset[str]:
    """``start`` and everything it has an effect on."""
    found, todo = {start}, [start]
    while todo:
        for name in edges.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return frozenset(found)


def downstream(model: StructuralModel, name: str) -> frozenset[str]:
    """``name`` and the within-level variables that depend on it."""
    rows = (p for p in model.parameters if p.level == "within" and p.group == 0)
    return reached(_edges(((p.lhs, p.op, p.rhs) for p in rows), model.random_slopes), name)


def default_slope_covariances(
    parsed: Parsed, split: Iterable[str], fixed: Iterable[str], level: Level = "between"
) -> list[tuple[str, str]]:
    """Pairs of variables of an upper level that covary unless the user says otherwise.

    Slopes covary with each other and with the parts of level-1 variables there, like the random
    effects of a mixed model; not where one has an effect on the other, nor where the variance of
    one is written as zero.
    """
    own = [r for r in parsed.relations if r.level == level]
    none = {
        r.lhs
        for r in own
        if r.op == "~~" and r.lhs == r.rhs
        and any(m.kind == "fixed" and m.number == 0.0 for f in r.modifiers for m in f)
    }  # fmt: skip
    slopes = [s for s in parsed.latent(level) if s in {t.name for t in parsed.slopes} - none]
    directed = {frozenset((r.lhs, r.rhs)) for r in own if r.op == "~"}
    kept = set(split) - set(fixed) - none
    parts = [n for n in parsed.observed(level) if n in kept]
    pairs = [(a, b) for k, a in enumerate(slopes) for b in slopes[k + 1 :]]
    pairs += [(s, n) for s in slopes for n in parts]
    return [pair for pair in pairs if frozenset(pair) not in directed]
