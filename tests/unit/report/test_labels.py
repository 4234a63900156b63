"""Names of points: beside their points, inside the panel, never over each other."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.report.plots.labels import placed_labels

RANGES, PANEL = ((0.0, 10.0), (-1.0, 1.0)), (6.3, 3.0)


def boxes(x, y, texts):
    """Left, right, bottom, top of every name in inches (characters of 8 points)."""
    wide = np.array([len(t) * 0.6 * 8.0 / 72.0 for t in texts])
    at = (x / 10.0 * PANEL[0], (y + 1.0) / 2.0 * PANEL[1])
    return np.column_stack([at[0] - wide / 2, at[0] + wide / 2, at[1] - 0.06, at[1] + 0.06])


@pytest.mark.parametrize("seed", range(6))
def test_close_points_have_names_apart(seed):
    rng = np.random.default_rng(seed)
    x, y = 5.0 + 0.2 * rng.normal(size=6), 0.05 * rng.normal(size=6)
    texts = [f"school {k}" for k in range(6)]
    own = boxes(*placed_labels(x, y, texts, RANGES, PANEL), texts)
    for i in range(6):
        for j in range(i):
            apart_x = own[i, 0] >= own[j, 1] or own[j, 0] >= own[i, 1]
            assert apart_x or own[i, 2] >= own[j, 3] or own[j, 2] >= own[i, 3]


def test_names_stay_inside_and_near_their_points():
    x, y = np.array([0.0, 10.0, 5.0]), np.array([-1.0, 1.0, 0.0])
    texts = ["left below", "right above", "m"]
    own = boxes(*placed_labels(x, y, texts, RANGES, PANEL), texts)
    assert own[:, 0].min() >= 0.0
    assert own[:, 1].max() <= PANEL[0]
    assert own[:, 2].min() >= 0.0
    assert own[:, 3].max() <= PANEL[1]
    centre = own[2].reshape(2, 2).mean(axis=1)
    assert np.hypot(centre[0] - 3.15, centre[1] - 1.5) < 0.3


def test_no_names_at_all():
    x, y = placed_labels(np.zeros(0), np.zeros(0), [], RANGES, PANEL)
    assert len(x) == len(y) == 0
