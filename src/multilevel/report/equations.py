"""The model as equations: level by level for two levels, one composite equation otherwise.

Notation: ``p`` is a row (level 1), ``c`` a cluster (level 2); ``beta`` are the cluster's own
intercept and slopes, ``gamma`` the fixed effects, ``U`` the random effects, ``e`` the residual. The
first digit of a gamma names its beta, the second its place in that level-2 equation.
"""

from __future__ import annotations

from multilevel.design.records import Design
from multilevel.interpret.advice.columns import INTERCEPT, split
from multilevel.report.facts import split_interaction


def equations(design: Design) -> tuple[str, ...]:
    """Return the equations of a design, one per line."""
    if len(design.blocks) == 1:
        return _two_level(design)
    return _composite(design)


def _two_level(design: Design) -> tuple[str, ...]:
    block = design.blocks[0]
    level1, level2, moderated = _by_level(design)
    slopes = list(level1)
    slopes += [n for n in block.names if n != INTERCEPT and n not in slopes and n not in level2]
    has_intercept = INTERCEPT in design.names or INTERCEPT in block.names or bool(level2)
    outcome = f"{design.model.response}_pc"
    right = ["beta_0c"] if has_intercept else []
    right += [f"beta_{k}c {name}_pc" for k, name in enumerate(slopes, 1)]
    right += ["offset_pc"] if design.offset is not None else []
    lines = [f"Level 1:  {outcome} = {' + '.join([*right, 'e_pc'])}"]
    mark = "Level 2:  "
    targets = [(0, INTERCEPT)] if has_intercept else []
    targets += list(enumerate(slopes, 1))
    for k, name in targets:
        fixed = [_gamma(k, 0)] if name in design.names else []
        moderators = level2 if k == 0 else moderated.get(name, [])
        fixed += [f"{_gamma(k, m)} {w}_c" for m, w in enumerate(moderators, 1)]
        fixed += [f"U_{k}c"] if name in block.names else []
        # A level-2 predictor may be given a random slope by mistake; show what was asked for.
        if k == 0:
            fixed += [f"U_c[{n}] {n}_c" for n in block.names if n in level2]
        lines.append(f"{mark}beta_{k}c = {' + '.join(fixed) or '0'}")
        mark = " " * len(mark)
    lines.append(f"p: row, c: {block.group}")
    return tuple(lines)


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


def _gamma(k: int, m: int) -> str:
    return f"gamma_{k}{m}" if k < 10 and m < 10 else f"gamma_{k},{m}"


def _composite(design: Design) -> tuple[str, ...]:
    right, k = [], 0
    for name in design.names:
        if name == INTERCEPT:
            right.append("gamma_0")
        else:
            k += 1
            right.append(f"gamma_{k} {name}")
    right += ["offset"] if design.offset is not None else []
    for block in design.blocks:
        at = 0
        for name in block.names:
            if name == INTERCEPT:
                right.append(f"U_0[{block.group}]")
            else:
                at += 1
                right.append(f"U_{at}[{block.group}] {name}")
    return (f"{design.model.response} = {' + '.join([*right, 'e'])}",)
