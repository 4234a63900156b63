"""Levels above the second: which variables have parts there."""

from __future__ import annotations

from multilevel.errors import ModelError
from multilevel.model.structural.parse import Parsed
from multilevel.model.structural.records import HigherLevel


def check_higher(parsed: Parsed) -> None:
    """Refuse models of three levels or more whose parts do not follow each other.

    Raises
    ------
    ModelError : a level without a heading, or a variable that skips a level.
    """
    if not parsed.higher:
        return
    titles = [parsed.title(level) for level in parsed.all_levels]
    for level in parsed.all_levels:
        if level not in parsed.levels:
            raise ModelError(
                f"A model of {len(titles)} levels says what holds at each of them.",
                f"no level: {parsed.title(level)}",
                f"add level: {parsed.title(level)} with its relations (y ~~ y gives y a part"
                " there), or name fewer cluster columns",
            )
    for name in dict.fromkeys(n for level in parsed.all_levels for n in parsed.observed(level)):
        at = [k for k, level in enumerate(parsed.all_levels) if name in parsed.observed(level)]
        for k in range(at[0], at[-1]):
            if k not in at:
                raise ModelError(
                    "A variable has parts at neighbouring levels.",
                    f"{name} is named at {titles[at[0]]} and {titles[at[-1]]}, not at {titles[k]}",
                    f"name it at {titles[k]} too: {name} ~~ {name}, or {name} ~~ 0*{name} if it"
                    " does not vary there",
                )


def higher_levels(parsed: Parsed) -> tuple[HigherLevel, ...]:
    """The levels above the second, from below; parts in the order of the level below."""
    slopes = [s.name for s in parsed.slopes]
    within, between = parsed.observed("within"), parsed.observed("between")
    both = [n for n in within if n in between]
    below = [*both, *slopes, *(n for n in between if n not in both)]
    out = []
    for level in parsed.higher:
        observed, latent = parsed.observed(level), parsed.latent(level)
        named = {*observed, *(s for s in latent if s in slopes)}
        parts = tuple(n for n in below if n in named)
        only = tuple(n for n in observed if n not in below)
        out.append(HigherLevel(level, parts, only, latent))
        below = [*parts, *only]
    return tuple(out)
