"""The model as equations: level by level for nested levels, one composite equation otherwise.

Notation of two levels: ``p`` is a row (level 1), ``c`` a cluster (level 2); ``beta`` are the
cluster's own intercept and slopes, ``gamma`` the fixed effects, ``U`` the random effects, ``e`` the
residual. The first digit of a gamma names its beta, the second its place in that level-2 equation.
Three levels are in ``equations_three``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.design.random_scale import effect_of
from multilevel.design.records import Design, RandomBlock
from multilevel.design.related import is_related
from multilevel.design.structured_terms import without_occasions
from multilevel.interpret.advice.columns import INTERCEPT, split
from multilevel.report.equations_three import three_level
from multilevel.report.facts import is_chain, split_interaction
from multilevel.report.random_scale_words import effects_of, scale_equations
from multilevel.report.random_structures import occasion_note, occasion_terms, with_occasions
from multilevel.report.symbols import Equation, Symbol, Term


def equations(design: Design) -> tuple[str, ...]:
    """Return the equations of a design as plain text, one per line."""
    found, note = equation_records(design), index_note(design)
    return (*aligned(found), note) if any(e.label for e in found) else aligned(found)


def aligned(found: Sequence[Equation]) -> tuple[str, ...]:
    """Equations as lines of plain text, their labels in a column of its own."""
    width = max(len(equation.label) for equation in found)
    if width == 0:
        return tuple(equation.text for equation in found)
    return tuple(
        (f"{e.label}:".ljust(width + 3) if e.label else " " * (width + 3)) + e.text for e in found
    )


def index_note(design: Design) -> str:
    """What the subscripts stand for; empty for a composite equation, which names its factors."""
    timed = occasion_note(design.blocks)
    if is_related(design.blocks):
        return timed.removeprefix("; ")
    if len(design.blocks) == 1:
        return f"p: row, c: {design.blocks[0].group}{timed}"
    if _is_three_level(design):
        inner, outer = (block.group for block in design.blocks)
        return f"t: row, i: {inner}, c: {outer}{timed}"
    return timed.removeprefix("; ")


def _is_three_level(design: Design) -> bool:
    return len(design.blocks) == 2 and is_chain(design)


def equation_records(design: Design) -> tuple[Equation, ...]:
    """Return the equations of a design, level by level where there are two or three levels."""
    own = scale_equations(design)
    timed = occasion_terms(design.blocks)
    if timed:
        bare = replace(design, blocks=tuple(without_occasions(b) for b in design.blocks))
        return with_occasions(equation_records(bare), timed)
    if any(len(effects_of(b)) != len(b.names) for b in design.blocks):
        design = replace(design, blocks=tuple(_once(block) for block in design.blocks))
    if is_related(design.blocks):
        return (*composite(design), *own)
    if len(design.blocks) == 1:
        return (*_two_level(design), *own)
    if _is_three_level(design):
        return (*three_level(design), *own)
    return (*composite(design), *own)


def _once(block: RandomBlock) -> RandomBlock:
    """The block with effects of several groups of ``by=`` once; for names only."""
    names = effects_of(block)
    columns = np.zeros((len(block.columns), len(names)))
    for a, name in enumerate(block.names):
        columns[:, names.index(effect_of(name))] += block.columns[:, a]
    return replace(block, names=names, columns=columns)


def _two_level(design: Design) -> tuple[Equation, ...]:
    block = design.blocks[0]
    level1, level2, moderated = _by_level(design)
    slopes = list(level1)
    slopes += [n for n in block.names if n != INTERCEPT and n not in slopes and n not in level2]
    has_intercept = INTERCEPT in design.names or INTERCEPT in block.names or bool(level2)
    outcome = Symbol(design.model.response, "pc", is_variable=True)
    right: list[Term] = [(Symbol("beta", "0c"),)] if has_intercept else []
    right += [
        (Symbol("beta", f"{k}c"), Symbol(name, "pc", is_variable=True))
        for k, name in enumerate(slopes, 1)
    ]
    right += [(Symbol("offset", "pc", is_variable=True),)] if design.offset is not None else []
    found = [Equation("Level 1", outcome, (*right, (Symbol("e", "pc"),)))]
    targets = [(0, INTERCEPT)] if has_intercept else []
    targets += list(enumerate(slopes, 1))
    for k, name in targets:
        fixed: list[Term] = [(_gamma(k, 0),)] if name in design.names else []
        moderators = level2 if k == 0 else moderated.get(name, [])
        fixed += [
            (_gamma(k, m), Symbol(w, "c", is_variable=True)) for m, w in enumerate(moderators, 1)
        ]
        fixed += [(Symbol("U", f"{k}c"),)] if name in block.names else []
        # A level-2 predictor may be given a random slope by mistake; show what was asked for.
        if k == 0:
            fixed += [
                (Symbol("U", "c", n), Symbol(n, "c", is_variable=True))
                for n in block.names
                if n in level2
            ]
        label = "Level 2" if len(found) == 1 else ""
        found.append(Equation(label, Symbol("beta", f"{k}c"), tuple(fixed)))
    return tuple(found)


def _by_level(design: Design) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Sort fixed effects: level-1 predictors, level-2 predictors, moderators by level-1 slope."""
    block = design.blocks[0]
    varies = {
        name: split(design.X[:, j], block).varies_within
        for j, name in enumerate(design.names)
        if name != INTERCEPT
    }
    for j, name in enumerate(block.names):
        if name != INTERCEPT and name not in varies:
            varies[name] = split(block.columns[:, j], block).varies_within
    level1: list[str] = []
    level2: list[str] = []
    moderated: dict[str, list[str]] = {}
    for name in design.names:
        if name == INTERCEPT:
            continue
        if not varies[name]:
            level2.append(name)
            continue
        slope, moderator = _cross_level(name, varies)
        if slope:
            moderated.setdefault(slope, []).append(moderator)
        else:
            level1.append(name)
    return level1, level2, moderated


def _cross_level(name: str, varies: dict[str, bool]) -> tuple[str, str]:
    """Return the level-1 slope that a cross-level interaction moderates, or two empty strings."""
    parts = split_interaction(name)
    if len(parts) < 2 or any(part not in varies for part in parts):
        return "", ""
    lower = {part for part in parts if varies[part]}
    upper = [part for part in parts if not varies[part]]
    if not upper:
        return "", ""
    for other, moves in varies.items():
        if moves and set(split_interaction(other)) == lower and other != name:
            return other, ":".join(upper)
    return "", ""


def _gamma(k: int, m: int) -> Symbol:
    return Symbol("gamma", f"{k}{m}" if k < 10 and m < 10 else f"{k},{m}")


def composite(design: Design) -> tuple[Equation, ...]:
    """One equation with all fixed and random effects, the residual last."""
    right: list[Term] = []
    k = 0
    for name in design.names:
        if name == INTERCEPT:
            right.append((Symbol("gamma", "0"),))
        else:
            k += 1
            right.append((Symbol("gamma", str(k)), Symbol(name, is_variable=True)))
    right += [(Symbol("offset", is_variable=True),)] if design.offset is not None else []
    for block in design.blocks:
        at = 0
        for name in block.names:
            if name == INTERCEPT:
                right.append((Symbol("U", "0", block.group),))
            else:
                at += 1
                effect = Symbol("U", str(at), block.group)
                right.append((effect, Symbol(name, is_variable=True)))
    left = Symbol(design.model.response, is_variable=True)
    return (Equation("", left, (*right, (Symbol("e"),))),)
