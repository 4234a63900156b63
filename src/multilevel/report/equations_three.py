"""Equations of three nested levels.

Notation (Hoffman 2015, Longitudinal Analysis, chapter 11): ``t`` is a row (level 1), ``i`` a
level-2 unit, ``c`` a level-3 unit. ``beta`` belong to the level-2 unit, ``delta`` to the level-3
unit, ``gamma`` are the fixed effects; ``e``, ``U`` and ``V`` the random parts of levels 1, 2 and 3.
The digits of a gamma name its beta, its place in that level-2 equation, its place in the level-3
equation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from multilevel.design.records import Design
from multilevel.interpret.advice.columns import INTERCEPT, split
from multilevel.report.facts import split_interaction
from multilevel.report.symbols import Equation, Symbol, Term


@dataclass
class _Delta:
    """What a level-3 equation holds: whether its gamma 0 and its V exist, and its moderators."""

    is_fixed: bool = False
    is_random: bool = False
    moderators: list[str] = field(default_factory=list)


@dataclass
class _Beta:
    """What a level-2 equation holds: its deltas by level-2 predictor ("" first), and its U."""

    is_random: bool = False
    deltas: dict[str, _Delta] = field(default_factory=dict)

    def delta(self, moderator: str) -> _Delta:
        """The delta of a level-2 predictor, made if it is new."""
        return self.deltas.setdefault(moderator, _Delta())


def three_level(design: Design) -> tuple[Equation, ...]:
    """Equations of a design whose two grouping factors are nested, level by level."""
    inner, outer = design.blocks
    levels = _levels(design)
    betas: dict[str, _Beta] = {}
    own: list[tuple[str, str]] = []  # random slopes of a unit's own variable: (U or V, name)
    sides = [(design.names, "fixed"), (inner.names, "U"), (outer.names, "V")]
    for names, part in sides:
        for name in names:
            slope, moderator, top = _place(name, levels)
            if (part == "U" and (moderator or top)) or (part == "V" and top):
                own.append((part, name))
                betas.setdefault("", _Beta()).delta("")
                continue
            beta = betas.setdefault(slope, _Beta())
            if part == "U":
                beta.is_random = True
            elif top:
                beta.delta(moderator).moderators.append(top)
            elif part == "V":
                beta.delta(moderator).is_random = True
            else:
                beta.delta(moderator).is_fixed = True
    ordered = dict(sorted(betas.items(), key=lambda item: item[0] != ""))
    return _written(design, ordered, own)


def _levels(design: Design) -> dict[str, int]:
    """The level of every column but the intercept: 1 varies within level-2 units, and so on."""
    inner, outer = design.blocks
    columns = [(name, design.X[:, j]) for j, name in enumerate(design.names)]
    for block in design.blocks:
        columns += [(name, block.columns[:, a]) for a, name in enumerate(block.names)]
    out: dict[str, int] = {}
    for name, column in columns:
        if name == INTERCEPT or name in out:
            continue
        if split(column, inner).varies_within:
            out[name] = 1
        else:
            out[name] = 2 if split(column, outer).varies_within else 3
    return out


def _place(name: str, levels: dict[str, int]) -> tuple[str, str, str]:
    """A term as (level-1 slope, level-2 moderator, level-3 moderator); empty where there is none.

    A product is taken apart only if the slope that it moderates is in the model by itself.
    """
    if name == INTERCEPT:
        return "", "", ""
    parts = split_interaction(name)
    level = levels[name]
    whole = (name, "", "") if level == 1 else ("", name, "") if level == 2 else ("", "", name)
    if len(parts) < 2 or any(part not in levels for part in parts):
        return whole
    at = {k: [part for part in parts if levels[part] == k] for k in (1, 2, 3)}
    lowest = min(levels[part] for part in parts)
    if lowest != level or len(at[level]) == len(parts):
        return whole
    base = _known(at[level], levels, name)
    if not base:
        return whole
    if level == 2:
        return "", base, ":".join(at[3])
    return base, ":".join(at[2]), ":".join(at[3])


def _known(parts: list[str], levels: dict[str, int], name: str) -> str:
    """The model's own name of a product of parts; empty if the model does not have it."""
    for other in levels:
        if other != name and set(split_interaction(other)) == set(parts):
            return other
    return ""


def _written(
    design: Design, betas: dict[str, _Beta], own: list[tuple[str, str]]
) -> tuple[Equation, ...]:
    first: list[Term] = []
    second: list[Equation] = []
    third: list[Equation] = []
    for k, (slope, beta) in enumerate(betas.items(), 0 if "" in betas else 1):
        left = Symbol("beta", _index(k, "ic"))
        first.append((left, _variable(slope, "tic")) if slope else (left,))
        right: list[Term] = []
        # the delta without a predictor comes first, whichever term named it first
        order = sorted(beta.deltas.items(), key=lambda item: item[0] != "")
        places = range(len(order)) if order and order[0][0] == "" else range(1, len(order) + 1)
        for m, (moderator, delta) in zip(places, order, strict=True):
            symbol = Symbol("delta", _index(k, m, "c"))
            right.append((symbol, _variable(moderator, "ic")) if moderator else (symbol,))
            extra = own if not slope and not moderator else []
            third.append(_third(symbol, k, m, delta, extra))
        right += [(Symbol("U", _index(k, "ic")),)] if beta.is_random else []
        if not slope:
            right += [(Symbol("U", "ic", n), _variable(n, "ic")) for kind, n in own if kind == "U"]
        second.append(Equation("", left, tuple(right)))
    first += [(Symbol("offset", "tic", is_variable=True),)] if design.offset is not None else []
    first.append((Symbol("e", "tic"),))
    outcome = Symbol(design.model.response, "tic", is_variable=True)
    return (
        Equation("Level 1", outcome, tuple(first)),
        *_labelled("Level 2", second),
        *_labelled("Level 3", third),
    )


def _third(left: Symbol, k: int, m: int, delta: _Delta, own: list[tuple[str, str]]) -> Equation:
    right: list[Term] = [(Symbol("gamma", _index(k, m, 0)),)] if delta.is_fixed else []
    right += [
        (Symbol("gamma", _index(k, m, n)), _variable(w, "c"))
        for n, w in enumerate(delta.moderators, 1)
    ]
    right += [(Symbol("V", _index(k, m, "c")),)] if delta.is_random else []
    right += [(Symbol("V", "c", n), _variable(n, "c")) for kind, n in own if kind == "V"]
    return Equation("", left, tuple(right))


def _labelled(label: str, found: list[Equation]) -> list[Equation]:
    return [Equation(label, found[0].left, found[0].right), *found[1:]]


def _variable(name: str, index: str) -> Symbol:
    return Symbol(name, index, is_variable=True)


def _index(*parts: int | str) -> str:
    """Digits side by side, with commas where one has two digits."""
    between = "," if any(isinstance(p, int) and p > 9 for p in parts) else ""
    return between.join(map(str, parts))
