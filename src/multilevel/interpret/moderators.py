"""Where to look: values of the predictors that a slope depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.grid import Grid
from multilevel.errors import InferenceError

Array = NDArray[np.float64]
#: Step of a derivative as a share of the predictor's spread; linear terms do not depend on it.
STEP = 1e-3
MOST_POINTS = 200


@dataclass(frozen=True)
class Points:
    """Points of a grid.

    Attributes
    ----------
    values : ``{predictor: k values}``.
    labels : k texts, ``"sector = 0, meanses = -0.4"``; empty for a single point without moderators.
    """

    values: dict[str, list[Any]]
    labels: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.labels)


def points(grid: Grid, focal: str, at: Mapping[str, Any] | None, wide: bool = True) -> Points:
    """All combinations of the moderators' values.

    Parameters
    ----------
    grid : the fixed part as a function of its predictors.
    focal : the predictor whose effect is asked for.
    at : ``{predictor: values}``: a value, several, or ``"sd"`` (mean and one standard deviation to
        both sides, over the analysed rows), ``"mean"``, ``"quartiles"``. Moderators that are not
        named: every category, both values of a two-valued number, else ``"sd"`` (``"mean"`` if
        not ``wide``).
    wide : see above.

    Raises
    ------
    InferenceError : values that cannot be known, or too many combinations.
    """
    asked = {grid.find(name): value for name, value in (at or {}).items()}
    moderators = list(dict.fromkeys([*(n for n in asked if n != focal), *grid.companions(focal)]))
    lists = [_values(grid, name, asked.get(name), wide) for name in moderators]
    combos = list(product(*lists))
    if len(combos) > MOST_POINTS:
        raise InferenceError(
            f"At most {MOST_POINTS} combinations of moderator values are shown at once.",
            f"{len(combos)} combinations of {', '.join(moderators)}",
            "choose fewer values with at={...}",
        )
    values = {name: [c[i] for c in combos] for i, name in enumerate(moderators)}
    labels = tuple(
        ", ".join(f"{name} = {_shown(v)}" for name, v in zip(moderators, c, strict=True))
        for c in combos
    )
    return Points(values, labels)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _values(grid: Grid, name: str, asked: Any, wide: bool) -> list[Any]:
    variable = grid.variables[name]
    if variable.is_category:
        if asked is None:
            return list(variable.categories)
        return [asked] if isinstance(asked, str | bool | int | float) else list(asked)
    if asked is not None and not isinstance(asked, str):
        found = np.atleast_1d(np.asarray(asked, dtype=np.float64))
        if found.ndim != 1 or not len(found) or not np.all(np.isfinite(found)):
            raise InferenceError(
                "Moderator values must be finite numbers.",
                f"{name}: {asked!r}",
                f'write at={{"{name}": [0, 1]}}',
            )
        return [float(v) for v in found]
    observed = variable.observed
    if observed is None:
        raise InferenceError(
            "The values of a predictor must be known to choose some of them.",
            f"{name} enters the model only inside a function, a product or a code",
            f'name values, at={{"{name}": [...]}}',
        )
    if asked is None:
        distinct = np.unique(observed[: min(len(observed), 10_000)])
        if len(distinct) <= 2 and len(distinct := np.unique(observed)) <= 2:
            return [float(v) for v in distinct]
    return summary_values(name, observed, asked or ("sd" if wide else "mean"))


def summary_values(name: str, observed: Array, which: str) -> list[float]:
    """``"mean"``; ``"sd"``: mean and one SD to both sides; ``"quartiles"``."""
    mean, sd = float(observed.mean()), float(observed.std(ddof=1))
    if which == "mean":
        return [mean]
    if which == "sd":
        return [mean - sd, mean, mean + sd]
    if which == "quartiles":
        return [float(v) for v in np.quantile(observed, [0.25, 0.5, 0.75])]
    raise InferenceError(
        "A word for moderator values must be 'sd', 'mean' or 'quartiles'.",
        f"{name}: {which!r}",
        f'write at={{"{name}": "sd"}}, or give numbers',
    )


@dataclass(frozen=True)
class SlopeRows:
    """Derivatives of the linear predictor: ``L`` (k, p), and whether they are exact."""

    L: Array
    is_exact: bool
    where: float


def slope_rows(grid: Grid, focal: str, at: Mapping[str, Sequence[Any]], value: Any) -> SlopeRows:
    """Rows whose product with beta is the slope of ``focal`` at the k points.

    Terms that are linear in the predictor give their slope exactly, by a difference over two
    units; other terms by five-point central differences at ``value`` (default: the mean).

    Raises
    ------
    InferenceError : a categorical predictor.
    """
    variable = grid.variables[focal]
    if variable.is_category:
        raise InferenceError(
            "A slope belongs to a numeric predictor.",
            f"{focal} has the categories {', '.join(map(str, variable.categories[:5]))}",
            f"use comparisons({focal!r})",
        )
    k = max((len(v) for v in at.values()), default=1)
    observed = variable.observed
    center = float(value) if value is not None else (
        float(observed.mean()) if observed is not None else float(variable.default)
    )  # fmt: skip
    spread = float(observed.std()) if observed is not None else max(abs(center), 1.0)
    spread = spread or 1.0

    def columns(x: float) -> Array:
        return grid.rows({**at, focal: [x] * k})

    h = STEP * spread
    low, middle, high = columns(center - h), columns(center), columns(center + h)
    size = np.abs(high - low).max() + np.finfo(float).tiny
    if np.abs(high - 2.0 * middle + low).max() <= 1e-9 * size + 1e-14 * np.abs(middle).max():
        low, high = columns(center - 1.0), columns(center + 1.0)
        return SlopeRows((high - low) / 2.0, True, center)
    far = columns(center + 2.0 * h) - columns(center - 2.0 * h)
    return SlopeRows((8.0 * (high - low) - far) / (12.0 * h), False, center)
