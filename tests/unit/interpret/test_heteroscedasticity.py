"""The H statistic against loops of least squares, its size, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import multilevel as mlm
from multilevel.design.build import build_design
from multilevel.errors import InferenceError
from multilevel.interpret.heteroscedasticity import variance_homogeneity
from multilevel.model.formula.parse import parse_formula


def table(rng, J=25, n=20, sd=None):
    g = np.repeat(np.arange(J), n)
    sd = np.ones(J) if sd is None else sd
    x = rng.standard_normal(J * n) + rng.standard_normal(J)[g]
    w = rng.standard_normal(J)[g]
    y = x * rng.standard_normal(J)[g] + 3 * w + sd[g] * rng.standard_normal(J * n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


def laid(data, formula="y ~ x + w + (x | g)", **options):
    return build_design(parse_formula(formula), data, **options)


@pytest.mark.parametrize("weighted", [False, True])
def test_against_a_loop_over_clusters(weighted):
    rng = np.random.default_rng(1)
    data = table(rng, sd=rng.uniform(0.5, 2, 25))
    data["wt"] = rng.uniform(0.5, 2.0, len(data)) if weighted else 1.0
    data = data[~((data["g"] == 3) & (data.index % 20 > 5))]
    found = variance_homogeneity(laid(data, weights="wt"))
    logs, df, sds = [], [], []
    for g, part in data.groupby("g"):
        if g == 3:
            continue
        root = np.sqrt(part["wt"].to_numpy())[:, None]
        X = np.column_stack([np.ones(len(part)), part["x"]]) * root
        y = part["y"].to_numpy() * root[:, 0]
        rest = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
        df.append(len(part) - 2)
        logs.append(np.log(rest @ rest / df[-1]))
        sds.append(np.sqrt(rest @ rest / df[-1]))
    logs, df = np.array(logs), np.array(df)
    d = (logs - (df * logs).sum() / df.sum()) / np.sqrt(2 / df)
    assert found.statistic == pytest.approx(np.sum(d**2))
    assert (found.df, found.n_clusters, found.n_left_out) == (23, 24, 1)
    assert found.p_value == pytest.approx(stats.chi2.sf(np.sum(d**2), 23))
    np.testing.assert_allclose(np.delete(found.sd, 3), sds)
    np.testing.assert_allclose(np.delete(found.deviation, 3), d, atol=1e-9)
    assert np.isnan(found.sd[3])
    assert "1 levels with fewer than 10" in found.sentence


def test_size_and_power():
    rng = np.random.default_rng(7)
    null = [variance_homogeneity(laid(table(rng, 15, 30))).p_value for _ in range(60)]
    assert 0.0 <= np.mean(np.array(null) < 0.05) < 0.15
    uneven = variance_homogeneity(laid(table(rng, sd=np.linspace(0.5, 2, 25))))
    assert uneven.p_value < 1e-6
    assert "differs between the levels of g" in uneven.sentence


def test_refuses_small_clusters_and_unknown_factors():
    rng = np.random.default_rng(1)
    with pytest.raises(InferenceError, match="10 residual degrees"):
        variance_homogeneity(laid(table(rng, n=8)))
    with pytest.raises(InferenceError, match="'school'"):
        variance_homogeneity(laid(table(rng)), "school")


def test_other_factors_inside_the_levels_are_named():
    rng = np.random.default_rng(3)
    data = table(rng)
    data["item"] = np.tile(np.arange(20), 25)
    found = variance_homogeneity(laid(data, "y ~ x + (1 | g) + (1 | item)"), "g")
    assert "other factors inside" in found.sentence


def test_the_frame():
    m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
    found = m.heteroscedasticity()
    assert list(found) == ["group", "level", "sd", "deviation"]
    assert found.attrs["statistic"] == pytest.approx(np.nansum(found["deviation"] ** 2))
