"""Facts about a design and its fit that several reports need.

The random-effects range is that of Snijders & Bosker 2012, section 5.1; everything else is reading
of labels and codes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.interpret.variance import (
    INTERCEPT,
    IntraclassCorrelation,
    intraclass_correlations,
    is_nested,
)
from multilevel.tables.table import Table

_MAX_VALUES = 6
_Z95 = float(ndtri(0.975))


def is_random_intercept_model(design: Design) -> bool:
    """Whether every grouping factor has a random intercept and nothing else."""
    return bool(design.blocks) and all(b.names == (INTERCEPT,) for b in design.blocks)


def is_unconditional(design: Design) -> bool:
    """Whether the model for the means is empty (an intercept, or nothing)."""
    return set(design.names) <= {INTERCEPT} and design.offset is None


def homes(design: Design) -> dict[str, tuple[str, ...]]:
    """For each grouping factor the factors it is nested in, ``{"class": ("school",)}``."""
    out = {}
    for inner in design.blocks:
        out[inner.group] = tuple(
            outer.group
            for outer in design.blocks
            if outer is not inner and outer.n_levels < inner.n_levels and is_nested(inner, outer)
        )
    return out


def is_chain(design: Design) -> bool:
    """Whether the grouping factors are nested one in the next."""
    found = homes(design)
    order = sorted(design.blocks, key=lambda b: -b.n_levels)
    return all(later.group in found[earlier.group] for earlier, later in itertools.pairwise(order))


def intraclass(fit: Fit, design: Design) -> tuple[IntraclassCorrelation, ...]:
    """Intraclass correlations; none for models with random slopes or without any variance."""
    total = fit.sigma2 + sum(float(G.sum()) for G in fit.random_covariance)
    if not is_random_intercept_model(design) or not total > 0.0:
        return ()
    return intraclass_correlations(design, fit)


@dataclass(frozen=True)
class SlopeRange:
    """Where 95% of clusters have their slope, ``gamma +/- 1.96 sqrt(tau2)``.

    Attributes
    ----------
    group, term : grouping factor and slope.
    mean : fixed effect of the slope.
    low, high : limits.
    conditional_on : the fixed effects that interact with the slope (the range is for their 0).
    """

    group: str
    term: str
    mean: float
    low: float
    high: float
    conditional_on: tuple[str, ...]


def slope_ranges(fit: Fit, design: Design) -> tuple[SlopeRange, ...]:
    """The 95% random-effects range of every random slope that has a fixed effect as its mean."""
    out = []
    for block, G in zip(design.blocks, fit.random_covariance, strict=True):
        for a, name in enumerate(block.names):
            if name == INTERCEPT or name not in design.names or not G[a, a] > 0.0:
                continue
            mean = float(fit.beta[design.names.index(name)])
            half = _Z95 * math.sqrt(float(G[a, a]))
            others = [
                ":".join(p for p in split_interaction(other) if p != name)
                for other in design.names
                if name in split_interaction(other) and other != name
            ]
            out.append(SlopeRange(block.group, name, mean, mean - half, mean + half, tuple(others)))
    return tuple(out)


def split_interaction(name: str) -> tuple[str, ...]:
    """Split a name at its colons outside brackets: ``"a:f(b, c:d)" -> ("a", "f(b, c:d)")``."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(name):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == ":" and depth == 0:
            parts.append(name[start:i])
            start = i + 1
    parts.append(name[start:])
    return tuple(parts)


def label_words(label: str, values: Mapping[Any, str]) -> str:
    """A variable label with its value labels: ``Sector of the school (0 Public, 1 Catholic)``."""
    listed = [
        f"{value:g} {text}" if isinstance(value, float) else f"{value} {text}"
        for value, text in list(values.items())[:_MAX_VALUES]
    ]
    more = [f"{len(values) - _MAX_VALUES} more"] if len(values) > _MAX_VALUES else []
    shown = ", ".join([*listed, *more])
    return f"{label} ({shown})".strip() if shown else label


def labels_of(table: Table) -> dict[str, str]:
    """The labels of a table's variables, value labels included; only variables that have any."""
    words = {
        name: label_words(table.variable_labels.get(name, ""), table.value_labels.get(name, {}))
        for name in table.columns
    }
    return {name: text for name, text in words.items() if text}
