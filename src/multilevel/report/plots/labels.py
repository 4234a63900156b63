"""Where the names of points stand so that they do not lie over each other.

Each name tries places around its point, near ones first, and takes the first that is free of names
and named points and inside the panel; else the one that overlaps least. Sizes are estimated from
the number of characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CHARACTER, _LINE = 0.62, 1.25  # of the type size: width of a character, height of a line
_POINTS_PER_INCH = 72.0
_GAP = 0.07  # inches between a point and its name
_RINGS = (1.0, 2.6, 4.6, 7.0)
_ANGLES = np.deg2rad([35.0, -35.0, 145.0, -145.0, 90.0, -90.0, 0.0, 180.0])


def placed_labels(
    x: Array,
    y: Array,
    texts: Sequence[str],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    panel: tuple[float, float],
    size: float = 8.0,
    others: Array | None = None,
) -> tuple[Array, Array]:
    """Centres of the names, in units of the data: ``(x, y)``, each (m,).

    Parameters
    ----------
    x, y : (m,) the points that are named.
    ranges : what the panel shows, ``((x low, x high), (y low, y high))``.
    panel : its width and height in inches.
    size : of the type, in points.
    others : (k, 2) further points that names keep clear of.
    """
    low = np.array([ranges[0][0], ranges[1][0]])
    span = np.maximum(np.array([ranges[0][1], ranges[1][1]]) - low, 1e-300)
    inches = np.array(panel)
    points = (np.column_stack([x, y]) - low) / span * inches
    half = np.array([
        [0.5 * len(text) * _CHARACTER * size, 0.5 * _LINE * size] for text in texts
    ]).reshape(-1, 2) / _POINTS_PER_INCH  # fmt: skip
    seen = points if others is None else np.vstack([points, (others - low) / span * inches])
    found = np.zeros_like(points)
    for k in np.argsort(points[:, 1], kind="stable"):
        done = [j for j in np.argsort(points[:, 1], kind="stable") if _before(points, j, k)]
        costs = []
        tries = []
        for ring in _RINGS:
            for angle in _ANGLES:
                direction = np.array([np.cos(angle), np.sin(angle)])
                centre = points[k] + direction * (half[k] + _GAP * ring)
                tries.append(centre)
                costs.append(
                    sum(_overlap(centre, half[k], found[j], half[j]) for j in done)
                    + sum(_overlap(centre, half[k], p, np.full(2, 0.04)) for p in seen)
                    + float(np.abs(centre - np.clip(centre, half[k], inches - half[k])).sum())
                    + 1e-4 * ring
                )
        found[k] = tries[int(np.argmin(costs))]
    at = found / inches * span + low
    return at[:, 0], at[:, 1]


def _before(points: Array, j: int, k: int) -> bool:
    return (points[j, 1], j) < (points[k, 1], k)


def _overlap(a: Array, half_a: Array, b: Array, half_b: Array) -> float:
    """Area that two boxes share, square inches."""
    sides = half_a + half_b - np.abs(a - b)
    shared = np.minimum(sides, 2.0 * np.minimum(half_a, half_b))
    return float(np.prod(np.maximum(shared, 0.0))) if np.all(sides > 0.0) else 0.0
