"""Rows drawn by levels of crossed factors: counts, copies, Owen's variance, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.infer.bootstrap import bootstrap
from multilevel.infer.bootstrap_rows import RowSource
from tests.support.designs import design_of
from tests.support.oracle import random_rows


def table(n_a=9, n_b=6, seed=0):
    """A complete crossed table, one row per cell."""
    rng = np.random.default_rng(seed)
    a, b = np.repeat(np.arange(n_a), n_b), np.tile(np.arange(n_b), n_a)
    y = rng.standard_normal(n_a)[a] + 2 * rng.standard_normal(n_b)[b] + rng.standard_normal(a.size)
    return {"y": y, "a": a, "b": b}


def test_rows_are_drawn_as_often_as_the_product_of_their_counts():
    """Crossed factors and one nested in the first: every copy of a level is a level of its own."""
    rng = np.random.default_rng(4)
    data = table(7, 5)
    data = {name: np.tile(column, 3) for name, column in data.items()}
    data["y"] = data["y"] + rng.standard_normal(len(data["y"]))
    data["c"] = data["a"] * 2 + rng.integers(0, 2, len(data["a"]))
    m = mlm.fit("y ~ 1 + (1 | a) + (1 | b) + (1 | c)", data, advice=False)
    design = m.design
    source = RowSource.of([design], "pigeonhole")
    assert len(source.drawn) == 2
    (drawn,) = source.draw(np.random.default_rng(1))
    old = {block.group: block.codes for block in design.blocks}
    new = {block.group: block.codes for block in drawn.blocks}
    kept = np.array([np.flatnonzero(design.rows.kept == k)[0] for k in drawn.rows.kept])
    times = np.bincount(kept, minlength=design.n)
    counts = {}
    for name in ("a", "b"):
        # a copy stands for one level; its copies are as many as the level was drawn
        source_level = [set(old[name][kept[new[name] == j]]) for j in range(new[name].max() + 1)]
        assert all(len(levels) == 1 for levels in source_level)
        counts[name] = np.bincount([levels.pop() for levels in source_level], minlength=7)
        assert counts[name].sum() == {"a": 7, "b": 5}[name]
    assert times.tolist() == (counts["a"][old["a"]] * counts["b"][old["b"]]).tolist()
    for j in range(new["c"].max() + 1):
        assert len(set(new["a"][new["c"] == j])) == 1
    again = source.draw(np.random.default_rng(1))[0]
    assert np.array_equal(again.y, drawn.y)


def test_variance_of_a_mean_is_the_pigeonholes():
    """Complete table, grand mean: ``s_a / A + s_b / B + s_ab / AB`` (Owen 2007), by enumeration
    of the moments of multinomial counts; the expected pigeonhole variance in closed form."""
    n_a, n_b = 9, 6
    data = table(n_a, n_b)
    y = data["y"].reshape(n_a, n_b)
    m = mlm.fit("y ~ 1 + (1 | a) + (1 | b)", data, advice=False)
    frame = m.bootstrap(500, seed=3, kind="pigeonhole")
    used = frame["status"].isin(["ok", "singular"])
    assert used.mean() > 0.95
    row, column = y.mean(1) - y.mean(), y.mean(0) - y.mean()
    rest = y - y.mean() - row[:, None] - column
    expected = np.mean(row**2) / n_a + np.mean(column**2) / n_b + np.mean(rest**2) / (n_a * n_b)
    found = frame.loc[used, "(Intercept)"]
    assert found.mean() == pytest.approx(y.mean(), abs=4 * np.sqrt(expected / 500))
    assert found.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / 500))
    assert list(frame.columns) == ["replicate", "status", "criterion", "(Intercept)"]


def test_fixed_effects_only():
    m = mlm.fit("y ~ 1 + (1 | a) + (1 | b)", table(), advice=False)
    found = m.confint("bootstrap", n_boot=40, kind="pigeonhole")
    assert found["component"].tolist() == ["fixed"]
    assert found["conf_low"][0] < found["estimate"][0] < found["conf_high"][0]
    assert "pigeonhole" in found.attrs["sentence"]
    with pytest.raises(InferenceError, match="copies of a row"):
        m.confint("bootstrap", n_boot=40, kind="pigeonhole", components=["sd"])


@pytest.mark.parametrize("kind", ["one", "nested"])
def test_pigeonhole_needs_crossed_factors(kind):
    prepared = prepare(design_of(random_rows(kind, 2, True)), method="reml")
    fit = solve(prepared)
    with pytest.raises(InferenceError, match="needs crossed factors"):
        bootstrap(prepared, fit, 5, np.random.SeedSequence(0), kind="pigeonhole")
