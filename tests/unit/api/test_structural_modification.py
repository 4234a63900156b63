"""Modification indices against the likelihood ratio of the larger model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError

ONE = "level: 1\nf =~ y1 + y2 + y3 + y4\nlevel: 2\ny1 ~~ y1\ny2 ~~ y2\ny3 ~~ y3\ny4 ~~ y4\n"


@pytest.fixture(scope="module")
def items():
    """200 clusters of 10; one factor within, residuals of y1 and y2 covary a little."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(200), 10)
    f = rng.normal(size=2000)
    shared = 0.2 * rng.normal(size=2000)
    data = {"g": g}
    for k in range(1, 5):
        own = rng.normal(size=2000) + 0.6 * rng.normal(size=200)[g]
        data[f"y{k}"] = 0.8 * f + own + (shared if k < 3 else 0.0)
    return pd.DataFrame(data)


def test_index_is_close_to_the_likelihood_ratio_of_a_small_effect(items):
    small = mlm.sem(ONE, items, cluster="g")
    found = small.modification_indices().set_index(["level", "lhs", "op", "rhs"])
    for level, pair in (("within", ("y1", "y2")), ("between", ("y1", "y3"))):
        line = f"{pair[0]} ~~ {pair[1]}\n"
        text = ONE.replace("level: 2", line + "level: 2") if level == "within" else ONE + line
        large = mlm.sem(text, items, cluster="g")
        row = found.loc[(level, pair[0], "~~", pair[1])]
        gain = small.minus2_loglik - large.minus2_loglik
        assert row["index"] == pytest.approx(gain, rel=0.1, abs=0.02)
        table = large.parameters()
        mine = (table["level"] == level) & (table["lhs"] == pair[0]) & (table["rhs"] == pair[1])
        estimate = table.loc[mine & (table["op"] == "~~"), "estimate"].item()
        assert row["expected_change"] == pytest.approx(estimate, rel=0.15, abs=0.005)


def test_what_is_free_or_not_identified_is_no_candidate(items):
    found = mlm.sem(ONE, items, cluster="g").modification_indices()
    # three candidates of loadings do not exist: all four are there
    assert not (found["op"] == "=~").any()
    assert len(found.query("level == 'within'")) == 6
    assert found["index"].is_monotonic_decreasing
    large = mlm.sem(ONE, items, cluster="g").modification_indices(least=3.84)
    assert (large["index"] >= 3.84).all()
    free = mlm.sem(ONE.replace("level: 2", "y1 ~~ y2\nlevel: 2"), items, cluster="g")
    rows = free.modification_indices().query("level == 'within'")
    assert ("y1", "y2") not in set(zip(rows["lhs"], rows["rhs"], strict=True))


def test_random_slopes_have_none(items):
    slopes = mlm.sem("level: 1\ns | y1 ~ y2\nlevel: 2\ny1 ~~ y1", items, cluster="g",
                     allow=["inadmissible"])  # fmt: skip
    with pytest.raises(InferenceError, match="expected information"):
        slopes.modification_indices()
