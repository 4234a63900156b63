"""Random terms with a structure in time or with factors: their columns, places and checks.

``ar1(0 + time | g)`` has one indicator column for each value of time that occurs; the value
decides how far two of them are apart. Structures that count steps take the greatest common
divisor of the gaps as one step, as on the residual side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.design.recipe import LearntColumns
from multilevel.design.records import RandomBlock
from multilevel.design.residual_time import common_step
from multilevel.design.variables import Values
from multilevel.errors import DesignError
from multilevel.model.covariance.curves import CURVED, FACTORED, STEPPED, TIMED, Curve
from multilevel.model.covariance.structures import FactorMap, Structure, factor_map
from multilevel.model.residual import CONTINUOUS
from multilevel.model.specification import RandomTerm

Array = NDArray[np.float64]
MOST_OCCASIONS = 150
#: Occasions from which a structure and an independent residual can be told apart, with one row of
#: a group at each occasion (0: never).
_FEWEST = {"toep": 0, "arma11": 0, "fa": 0, "toeph": 4}


@dataclass(frozen=True)
class Cells:
    """Which rows stand where: ``codes`` (n,) levels of the factor; ``has_residual`` whether rows
    have a residual of free variance beside the random effects."""

    codes: NDArray[np.int32]
    has_residual: bool


def structured(
    term: RandomTerm,
    columns: Array,
    learnt: LearntColumns,
    found: Mapping[str, Values],
    cells: Cells,
) -> tuple[LearntColumns, Curve | None]:
    """The columns' names and the nonlinear map of a term (None for linear structures).

    Parameters
    ----------
    columns : (n, q) of the term.
    found : the variables of the term by identifier.

    Raises
    ------
    DesignError : too few or too many columns, times without a common step, categories where
        distances are needed, a structure that the data cannot tell from the residual.
    """
    if term.structure not in CURVED:
        return learnt, None
    q = columns.shape[1]
    _check_width(term, q)
    places, step, known = tuple(float(a) for a in range(q)), float("nan"), tuple[float, ...]()
    if term.structure in TIMED:
        identifier, name = learnt.compiled.columns[0]
        values = found[identifier]
        times, labels = _times(term, name, values)
        known = () if isinstance(values, pd.Categorical) else tuple(times.tolist())
        learnt = replace(learnt, names=tuple(f"{name}[{label}]" for label in labels))
        if term.structure in STEPPED:
            step = common_step(times, term.structure, name, term.group, term.order, prefix="0 + ")
            times = np.rint((times - times[0]) / step)
        places = tuple(times.tolist())
    curve = Curve(term.structure, places, learnt.names, term.order, step, known)
    _check_residual(term, columns, curve, cells)
    return learnt, curve


def check_together(block: RandomBlock) -> list[RandomBlock]:
    """The block in parts whose columns must be linearly independent: all linear terms, each other.

    Raises
    ------
    DesignError : a constant effect beside a structure that holds one already.
    """
    curves = [block.structure.curve(k) for k in range(len(block.structure.terms))]
    if not any(curves):
        return [block]
    plain: list[int] = []
    parts = []
    for (start, stop, _), curve in zip(block.structure.terms, curves, strict=True):
        if curve is None:
            plain += range(start, stop)
        else:
            parts.append(list(range(start, stop)))
    holds = [c.structure for c in curves if c is not None and _holds_constant(c)]
    if holds and "(Intercept)" in (block.names[a] for a in plain):
        raise DesignError(
            f"{holds[0]} has a covariance that is the same for all occasions already.",
            f"an intercept that varies over {block.group} beside it",
            f"leave out (1 | {block.group})",
        )
    return [
        replace(block, columns=block.columns[:, at], names=tuple(block.names[a] for a in at))
        for at in ([plain] if plain else []) + parts
    ]


def _holds_constant(curve: Curve) -> bool:
    return curve.structure in (*FACTORED, "csh") or (curve.structure == "toep" and not curve.order)


def _check_width(term: RandomTerm, q: int) -> None:
    if q < 2:
        raise DesignError(
            f"{term.structure} needs at least two effects.",
            f"{term.text} has {q}",
            f"write ({term.columns} | {term.group})",
        )
    if q > MOST_OCCASIONS:
        raise DesignError(
            f"{term.structure} has an effect for each occasion, at most {MOST_OCCASIONS}.",
            f"{term.text} has {q}",
            f'use residual="{term.structure}(time | {term.group})", which costs by row, or round '
            "the times",
        )
    if term.structure in FACTORED:
        most = q if term.structure == "rr" else _most_factors(q)
        if term.order > most:
            raise DesignError(
                f"{term.structure} needs fewer parameters than the unstructured matrix.",
                f"rank={term.order} for {q} effects"
                + (f"; at most {most} can be told apart" if most else ""),
                f"write rank={most}" if most else "write us(...), or rr(..., rank=1)",
            )


def _most_factors(q: int) -> int:
    """Largest k with ``(q - k)^2 >= q + k`` (Ledermann's bound)."""
    return max((k for k in range(q) if (q - k) ** 2 >= q + k and k), default=0)


def _times(term: RandomTerm, name: str, values: Values) -> tuple[Array, list[str]]:
    """Distinct times in the order of the columns, and their labels."""
    if isinstance(values, pd.Categorical):
        if term.structure in CONTINUOUS:
            raise DesignError(
                f"{term.structure} needs distances in time.",
                f"{name} holds categories",
                "give the time as a number, or use ar1",
            )
        present = np.unique(values.codes[values.codes >= 0])
        return present.astype(np.float64), [str(values.categories[k]) for k in present]
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    return distinct, [f"{t:g}" for t in distinct]


def _check_residual(term: RandomTerm, columns: Array, curve: Curve, cells: Cells) -> None:
    """Refuse structures that an independent residual repeats, where rows stand alone."""
    if not cells.has_residual or term.structure == "rr":
        return
    is_indicator = bool(np.all((columns == 0.0) | (columns == 1.0)) and np.all(columns.sum(1) == 1))
    if not is_indicator:
        return
    key = cells.codes.astype(np.int64) * curve.width + columns.argmax(axis=1)
    if len(np.unique(key)) < len(key):
        return
    fewest = _FEWEST.get(term.structure, 3)
    if fewest and curve.width >= fewest:
        return
    name = term.structure
    raise DesignError(
        f"{name} random effects must be told apart from the residuals.",
        f"one row for each occasion of a {term.group}, so {name} already describes all of its "
        "variance" + (f" with {curve.width} occasions" if fewest else ""),
        f'write it as residuals: residual="{name}(time | {term.group})"'
        if name not in ("fa", "arma11")
        else "use rr(..., rank=1), or ar1(...)",
    )


def occasions(block: RandomBlock) -> dict[int, str]:
    """Columns that are occasions of a structure in time, and the column of time of each."""
    out: dict[int, str] = {}
    for number, (start, stop, structure) in enumerate(block.structure.terms):
        curve = block.structure.curve(number)
        if curve is not None and structure in TIMED:
            out.update(dict.fromkeys(range(start, stop), curve.stem))
    return out


def without_occasions(block: RandomBlock) -> RandomBlock:
    """The block without such columns (for equations)."""
    timed = occasions(block)
    if not timed:
        return block
    keep = [a for a in range(len(block.names)) if a not in timed]
    shapes: list[tuple[int, Structure]] = []
    curves = []
    for number, (start, stop, structure) in enumerate(block.structure.terms):
        if start not in timed:
            shapes.append((stop - start, structure))
            curves.append(block.structure.curve(number))
    empty = FactorMap(np.zeros((0, 0, 0)), ())
    return replace(
        block,
        names=tuple(block.names[a] for a in keep),
        columns=block.columns[:, keep],
        structure=factor_map(shapes, curves) if shapes else empty,
    )
