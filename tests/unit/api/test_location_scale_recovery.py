"""Location-scale parameters are recovered, and their intervals cover: a seeded simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.location_scale import SAMPLES, Recovery, recover, stored, truths

PAGE = Path(__file__).parents[3] / "docs" / "location-scale.md"


def check(rows: list[Recovery]) -> None:
    for row in rows:
        noise = row.sd / np.sqrt(row.samples)
        # ML standard deviations are low by about 1 / (2 x clusters) of themselves
        assert abs(row.mean - row.truth) < 3.5 * noise + 0.01, row
        assert row.mean_std_error == pytest.approx(row.sd, rel=3.5 / np.sqrt(2 * row.samples)), row
        assert abs(row.covered - 0.95) < 3.5 * np.sqrt(0.95 * 0.05 / row.samples) + 0.005, row


@pytest.mark.slow
def test_parameters_are_recovered_with_nominal_coverage() -> None:
    rows = recover(100, 7)
    assert [row.parameter for row in rows] == list(truths())
    check(rows)


def test_table_of_the_docs_page() -> None:
    rows = stored()
    assert [row.parameter for row in rows] == list(truths())
    assert {row.samples for row in rows} == {SAMPLES}
    check(rows)
    text = PAGE.read_text(encoding="utf-8")
    for row in rows:
        line = f"| {row.parameter} | {row.truth:g} | {row.mean:.3f} | {row.sd:.3f} | "
        line += f"{row.mean_std_error:.3f} | {100 * row.covered:.1f} |"
        assert line in text, line
