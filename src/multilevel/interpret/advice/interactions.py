"""Advice on products of predictors: parts left out, zeros out of reach, slopes without variance."""

from __future__ import annotations

import numpy as np

from multilevel.design.records import Design
from multilevel.interpret.advice.columns import INTERCEPT, split, variable_of, within_variable
from multilevel.interpret.advice.record import Advice


def products(design: Design) -> list[tuple[str, tuple[str, ...]]]:
    """Columns that are products of two or more numeric predictors: ``(name, parts)``."""
    out = []
    for name in design.names:
        parts = tuple(_parts(name))
        if len(parts) > 1 and len(set(parts)) == len(parts) and all(map(_is_numeric, parts)):
            out.append((name, parts))
    return out


def _parts(name: str) -> list[str]:
    """Split at the colons that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(name):
        depth += (letter in "([") - (letter in ")]")
        if letter == ":" and depth == 0:
            parts.append(name[start:i])
            start = i + 1
    return [*parts, name[start:]]


def _is_numeric(part: str) -> bool:
    return (
        variable_of(part) is not None
        or within_variable(part) is not None
        or part.startswith("between(")
    )


def about_products(design: Design) -> list[Advice]:
    """Mistakes 13 and 14 for every product."""
    out: list[Advice] = []
    seen: set[str] = set()
    for name, parts in products(design):
        out += _left_out(design, name, parts)
        if len(parts) == 2:
            out += _zero_out_of_reach(design, name, parts, seen)
            out += _slope_without_variance(design, name, parts)
    return out


def _left_out(design: Design, name: str, parts: tuple[str, ...]) -> list[Advice]:
    """Mistake 14, first half: a product without the predictors it is made of."""
    known = set(design.names) | set(design.dropped_columns)
    absent = [part for part in parts if part not in known]
    if not absent:
        return []
    shown = " and ".join(absent)
    held = "its slope is" if len(absent) == 1 else "their slopes are"
    return [
        Advice(
            "product_without_parts",
            "warning",
            f"The model has {name} but not {shown}: {held} held at zero where the other part of "
            "the product is zero.",
            f"Add + {' + '.join(absent)} to the formula.",
        )
    ]


def _zero_out_of_reach(
    design: Design, name: str, parts: tuple[str, ...], seen: set[str]
) -> list[Advice]:
    """Mistake 14, second half: a slope that holds where another predictor is an unseen zero."""
    out: list[Advice] = []
    for part, other in (parts, parts[::-1]):
        if part not in design.names or other not in design.names or f"{part}|{other}" in seen:
            continue
        x = design.X[:, design.names.index(part)]
        low, high = float(x.min()), float(x.max())
        if variable_of(part) != part or low <= 0.0 <= high or len(np.unique(x)) < 3:
            continue
        seen.add(f"{part}|{other}")
        out.append(
            Advice(
                "zero_out_of_reach",
                "warning",
                f"Because of {name}, the slope of {other} is the one at {part} = 0, but {part} "
                f"runs from {low:.4g} to {high:.4g}.",
                f"Write center({part}) in the place of {part}.",
            )
        )
    return out


def _slope_without_variance(design: Design, name: str, parts: tuple[str, ...]) -> list[Advice]:
    """Mistake 13: a cross-level interaction whose level-1 slope does not vary over the clusters."""
    if not set(parts) <= set(design.names):
        return []
    out: list[Advice] = []
    for block in design.blocks:
        if INTERCEPT not in block.names:
            continue
        kinds = [split(design.X[:, design.names.index(part)], block) for part in parts]
        inside = [part for part, kind in zip(parts, kinds, strict=True) if kind.varies_within]
        if len(inside) != 1 or inside[0] in block.names:
            continue
        outside = parts[0] if inside[0] == parts[1] else parts[1]
        out.append(
            Advice(
                "cross_level_without_slope",
                "note",
                f"{name} lets the slope of {inside[0]} differ between levels of {block.group} by "
                f"{outside} only: variance of the slope beyond that would make the standard error "
                f"of {name} too small.",
                f"Compare with the model that has ({inside[0]} | {block.group}).",
            )
        )
    return out
