"""Labels, equality constraints and the numbering of free parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from multilevel.model.structural.parse import Parsed
from multilevel.model.structural.records import Parameter
from multilevel.model.structural.scan import refuse


def number_parameters(
    parsed: Parsed, parameters: Iterable[Parameter], groups: tuple[str, ...]
) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """Join equal labels and number what is free.

    Returns
    -------
    parameters : with ``free`` set; parameters that share a label share their number, and are all
        fixed if one of them is.
    names : (q,) name of each free parameter.

    Raises
    ------
    FormulaError : unknown labels, or labels fixed at two values.
    """
    rows = list(parameters)
    known = {r.label for r in rows if r.label}
    joined = {label: label for label in known}
    values: dict[str, float] = {}
    for left, right, position in parsed.equalities:
        for label in (left, right):
            if isinstance(label, str) and label not in known:
                refuse("A constraint is about labels of the model.", f"{label!r}",
                       f"labels are {', '.join(sorted(known)) or 'not given'}", parsed.text,
                       position)  # fmt: skip
        if isinstance(right, str):
            old, new = _root(joined, right), _root(joined, left)
            joined[old] = new
        else:
            _fix(values, joined, left, right, parsed, position)
    for r in rows:
        if r.label and not math.isnan(r.value):
            _fix(values, joined, r.label, r.value, parsed, 0)
    names: list[str] = []
    index: dict[str, int] = {}
    out = []
    for r in rows:
        root = _root(joined, r.label) if r.label else ""
        value = values.get(root, r.value) if root else r.value
        if not math.isnan(value) or r.origin == "exogenous":
            out.append(replace(r, value=value))
            continue
        if root and root in index:
            out.append(replace(r, free=index[root]))
            continue
        number = len(names)
        if root:
            index[root] = number
        level = parsed.title(r.level)
        where = f"{level}, {groups[r.group]}" if len(groups) > 1 else level
        names.append(r.label or f"{r.name} [{where}]")
        out.append(replace(r, free=number))
    _check_defined(parsed, known)
    return tuple(out), tuple(names)


def _root(joined: dict[str, str], label: str) -> str:
    while joined[label] != label:
        label = joined[label]
    return label


def _fix(
    values: dict[str, float],
    joined: dict[str, str],
    label: str,
    value: float,
    parsed: Parsed,
    position: int,
) -> None:
    root = _root(joined, label)
    if values.setdefault(root, value) != value:
        refuse("Parameters with the same label have the same value.",
               f"{label!r} is {values[root]:g} and {value:g}", "use two labels", parsed.text,
               position)  # fmt: skip


def _check_defined(parsed: Parsed, labels: set[str]) -> None:
    """Definitions use labels and earlier definitions."""
    known = set(labels)
    for name, expression, _, position in parsed.defined:
        for used in expression.names:
            if used not in known:
                refuse("A defined parameter uses labels, and definitions that stand before it.",
                       f"{used!r} in {name}",
                       f"known names: {', '.join(sorted(known)) or 'none'}; put a label before a "
                       f"variable, like y ~ {used}*x", parsed.text, position)  # fmt: skip
        if name in labels:
            refuse("A defined parameter has a name of its own.", f"{name!r} is a label",
                   "choose another name", parsed.text, position)  # fmt: skip
        known.add(name)
