"""Factor scores against conditioning of the whole cluster's normal distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError, ModelError

FACTORS = """
level: 1
  f =~ y1 + y2 + y3
  f ~ x
level: 2
  fb =~ y1 + y2 + y3
  fb ~ w
"""
SLOPES = """
level: 1
  f =~ y1 + y2 + y3
  f ~ t
  s | t ~ x
level: 2
  fb =~ y1 + y2 + y3
  t ~ w
  s ~ w
"""


@pytest.fixture(scope="module")
def data():
    """60 clusters of 2 to 8 rows; one factor per level; holes in y, t and the level-2 w."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(60), rng.integers(2, 9, 60))
    n = len(g)
    w, x = rng.normal(size=60), rng.normal(size=n)
    t = 0.3 * rng.normal(size=60)[g] + (0.5 + 0.6 * rng.normal(size=60))[g] * x
    t = t + 0.5 * rng.normal(size=n)
    f = 0.5 * x + 0.4 * t + rng.normal(size=n)
    fb = 0.4 * w + rng.normal(size=60)
    out = {"g": g, "x": x, "w": w[g], "t": t}
    for k, size in enumerate((1.0, 0.8, 1.2), 1):
        noise = 0.6 * rng.normal(size=n) + 0.4 * rng.normal(size=60)[g]
        out[f"y{k}"] = size * (f + fb[g]) + noise
    frame = pd.DataFrame(out)
    i = np.arange(n)
    frame.loc[i % 5 == 1, "y1"] = np.nan
    frame.loc[i % 7 == 2, ["y2", "t"]] = np.nan
    frame.loc[i % 31 == 3, ["y1", "y2", "y3", "t"]] = np.nan
    frame.loc[frame["g"] % 9 == 4, "w"] = np.nan
    return frame


def _joint(result, j):
    """Mean and covariance of everything in cluster j, what is seen of it, and where rows begin."""
    problem, model = result.problem, result.fit.model
    group, at = problem.design.groups[0], problem.objective(model).implied(result.fit.theta, 0)
    names = problem.objective(model).maps[0]
    rows = np.flatnonzero(group.codes == j)
    nb, nw, p = len(at["between"].full_mean), len(at["within"].full_mean), group.y.shape[1]
    b, size = len(model.both), nb + len(rows) * nw
    mean = np.r_[at["between"].full_mean, np.tile(at["within"].full_mean, len(rows))]
    cov, lift, see = np.zeros((size, size)), np.eye(size), []
    cov[:nb, :nb] = at["between"].full_cov
    for i, row in enumerate(rows):
        own = slice(nb + i * nw, nb + (i + 1) * nw)
        cov[own, own] = at["within"].full_cov
        for k, s in enumerate(model.random_slopes):
            x = group.y[row, model.observed("within").index(s.predictor)]
            effect = at["within"].T[:, names["within"].names.index(s.outcome)]
            lift[own, b + k] += effect * (0.0 if np.isnan(x) else x)
        picked = np.zeros((p, size))
        picked[:, own] = np.eye(p, nw)
        picked = picked @ lift
        picked[:b, :b] += np.eye(b)
        see.append(picked)
    d = b + len(model.random_slopes)
    see.append(np.eye(group.z.shape[1], size, d))
    values = np.r_[group.y[rows].ravel(), group.z[j]]
    known = ~np.isnan(values)
    return lift @ mean, lift @ cov, lift, mean, cov, np.vstack(see)[known], values[known], nb, nw


def _brute(result, j):
    """Posterior mean and covariance of everything in cluster j."""
    top, half, lift, mean, cov, see, values, nb, nw = _joint(result, j)
    gain = np.linalg.solve(see @ cov @ see.T, (half @ see.T).T).T
    left = half @ lift.T - gain @ (half @ see.T).T
    return top + gain @ (values - see @ mean), left, nb, nw


@pytest.mark.parametrize("text", [FACTORS, SLOPES], ids=["factors", "random slope"])
def test_scores_are_the_conditional_moments(data, text):
    result = mlm.sem(text, data, cluster="g", exogenous="modelled" if text is FACTORS else "auto",
                     allow=["inadmissible"])  # fmt: skip
    scores = result.factor_scores()
    group = result.problem.design.groups[0]
    maps = result.problem.objective(result.fit.model).maps[0]
    seen = 0
    for j in (0, 4, 13, 40):
        mean, cov, nb, nw = _brute(result, j)
        error = np.sqrt(np.maximum(np.diag(cov), 0.0))
        place = {row: i for i, row in enumerate(group.rows[group.codes == j])}
        for row in scores[scores["cluster"] == group.clusters[j]].itertuples():
            at = maps[row.level].names.index(row.variable)
            if row.level == "within":
                at += nb + place[row.row] * nw
            assert row.estimate == pytest.approx(mean[at], abs=1e-10)
            assert row.std_error == pytest.approx(error[at], abs=1e-10)
            seen += 1
    assert seen > 20
    kinds = set(scores["kind"])
    assert kinds == {"latent variable", "between part"} | ({"random slope"} if text is SLOPES
                                                           else set())  # fmt: skip


def test_bartlett_scores_are_generalized_least_squares(data):
    result = mlm.sem(FACTORS, data, cluster="g", exogenous="modelled")
    scores = result.factor_scores("between", "bartlett")
    assert set(scores["variable"]) == {"fb"}
    maps = result.problem.objective(result.fit.model).maps[0]
    at = maps["between"].names.index("fb")
    implied = result.problem.objective(result.fit.model).implied(result.fit.theta, 0)["between"]
    items = [maps["between"].names.index(f"y{k}") for k in (1, 2, 3)]
    loading = implied.A[items, at]
    for j in (0, 4, 13):
        mean, cov, see, values = _joint(result, j)[3:7]
        # fb as a fixed unknown: its own variance and what it sends on are taken out
        less = cov.copy()
        spread = np.zeros(len(mean))
        spread[items], spread[at] = loading, 1.0
        own = implied.S[at, at]
        w = maps["between"].names.index("w")
        slope = implied.A[at, w]
        root = np.zeros(len(mean))
        root[w] = 1.0
        less -= own * np.outer(spread, spread)
        shift = np.eye(len(mean)) - slope * np.outer(spread, root)
        less = shift @ less @ shift.T
        y = see[:, :].copy()
        design = y @ spread
        keep = np.ones(len(values), dtype=bool)
        if not np.isnan(result.problem.design.groups[0].z[j]).any():
            keep[-1] = False  # w is a predictor: given
        V = (y @ less @ y.T)[np.ix_(keep, keep)]
        rest = (values - y @ (shift @ mean - (shift @ mean)[at] * spread))[keep]
        weight = np.linalg.solve(V, design[keep])
        precision = weight @ design[keep]
        row = scores[scores["cluster"] == result.problem.design.groups[0].clusters[j]].iloc[0]
        assert row["estimate"] == pytest.approx(weight @ rest / precision, abs=1e-8)
        assert row["std_error"] == pytest.approx(precision**-0.5, abs=1e-8)


def test_reliability_grows_with_the_cluster_and_is_the_squared_correlation(data):
    full = data.dropna().groupby("g").filter(lambda part: len(part) > 1)
    result = mlm.sem(FACTORS, full, cluster="g")
    table = result.score_reliability("between").query("variable == 'fb'")
    assert table["reliability"].is_monotonic_increasing
    assert np.allclose(table["lowest"], table["highest"])
    scores = result.factor_scores("between").query("variable == 'fb'")
    values = result.problem.objective(result.fit.model).implied(result.fit.theta, 0)["between"]
    at = result.problem.objective(result.fit.model).maps[0]["between"].names.index("fb")
    share = 1.0 - scores["std_error"] ** 2 / values.full_cov[at, at]
    assert np.allclose(scores["reliability"], share)


def test_single_level_bartlett_is_thurstones_formula():
    rng = np.random.default_rng(8)
    f = rng.normal(size=400)
    frame = pd.DataFrame({f"y{k}": f * k / 2 + rng.normal(size=400) for k in (1, 2, 3)})
    result = mlm.sem("f =~ y1 + y2 + y3", frame)
    table = result.parameters()
    load = table.query("op == '=~'")["estimate"].to_numpy()
    theta = table.query("op == '~~' and lhs != 'f'")["estimate"].to_numpy()
    precision = np.sum(load**2 / theta)
    expected = (frame - frame.mean()).to_numpy() @ (load / theta) / precision
    scores = result.factor_scores(method="bartlett")
    assert np.allclose(scores["estimate"], expected)
    assert np.allclose(scores["std_error"], precision**-0.5)
    assert scores["row"].tolist() == list(range(400))


def test_what_cannot_be_scored_is_refused(data):
    paths = mlm.sem("level: 1\ny1 ~ x\nlevel: 2\ny1 ~~ y1", data, cluster="g")
    with pytest.raises(InferenceError, match="latent variable"):
        paths.factor_scores("within")
    with pytest.raises(InferenceError, match="regression"):
        paths.factor_scores("between", "bartlett")
    with pytest.raises(ModelError, match="'within', 'between'"):
        paths.factor_scores("schools")
    with pytest.raises(ModelError, match="'bartlett'"):
        paths.factor_scores(method="ten Berge")
    split = FACTORS.replace("fb ~ w", "fb ~ x")
    result = mlm.sem(split, data, cluster="g", allow=["inadmissible"])
    with pytest.raises(InferenceError, match="split into latent parts"):
        result.factor_scores(method="bartlett")


def test_random_intercept_scores_are_the_eblups_of_the_mixed_model():
    hsb = mlm.load_hsb()
    result = mlm.sem("level: 1\nmathach ~ ses\nlevel: 2\nmathach ~ sector", hsb, cluster="school")
    mixed = mlm.fit("mathach ~ ses + sector + (1 | school)", hsb, method="ml")
    scores = result.factor_scores("between").set_index("cluster")["estimate"]
    effects = mixed.random_effects().set_index("level")["estimate"]
    sector = hsb.to_pandas() if hasattr(hsb, "to_pandas") else hsb
    sector = sector.groupby("school")["sector"].first()
    fixed = mixed.fixed_effects
    expected = effects + fixed["(Intercept)"] + fixed["sector"] * sector.loc[effects.index]
    assert np.allclose(scores.loc[effects.index], expected, atol=1e-5)
