"""Scores of three levels against conditioning of one dense normal distribution of a school."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.structural import build_structural_design
from multilevel.errors import InferenceError, ModelError
from multilevel.estimate.structural import prepare_structural
from multilevel.estimate.structural_start import start_values
from multilevel.likelihood.structural.nested_posterior import group_posterior
from multilevel.model.structural.build import build_structural
from multilevel.model.structural.parse import parse_structural

TEXT = """
level: within
  f =~ y1 + y2 + y3
  f ~ x
  s | t ~ x
  y1 ~ t
level: class
  fc =~ y1 + y2 + y3
  fc ~ w
  t ~~ t
  s ~~ s
level: school
  fs =~ y1 + y2 + y3
  fs ~ z
  t ~ z
  w ~~ w
  s ~ z
"""


def _table(n_schools: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 5, 4 * n_schools)
    unit = np.repeat(np.arange(4 * n_schools), sizes)
    school, n = unit // 4, len(unit)

    def shared() -> np.ndarray:
        return 0.7 * rng.normal(size=4 * n_schools)[unit] + 0.7 * rng.normal(size=n_schools)[school]

    out = {"school": school, "class": unit % 4, "x": rng.normal(size=n)}
    f, t = shared() + rng.normal(size=n), shared() + rng.normal(size=n)
    out |= {f"y{k}": f + shared() + rng.normal(size=n) for k in range(1, 4)}
    out["t"] = (0.5 + shared()) * out["x"] + t
    w = rng.normal(size=4 * n_schools) + 0.6 * rng.normal(size=n_schools).repeat(4)
    z = rng.normal(size=n_schools)
    out["w"], out["z"] = w[unit], z[school]
    frame, i = pd.DataFrame(out), np.arange(n)
    frame.loc[i % 5 == 1, "y1"] = np.nan
    frame.loc[i % 7 == 2, ["y2", "t", "y1"]] = np.nan
    frame.loc[unit % 6 == 4, "w"] = np.nan
    frame.loc[school % 5 == 3, "z"] = np.nan
    return frame


@pytest.fixture(scope="module")
def setting():
    """The objective, a point away from any optimum, the design, and the posterior there."""
    table = mlm.tables.table.as_table(_table())
    model = build_structural(parse_structural(TEXT, "class", ("school",)), cluster="class",
                             groups=("",))  # fmt: skip
    problem = prepare_structural(build_structural_design(model, table))
    objective = problem.objective(model)
    theta = start_values(model, list(problem.moments))
    theta = theta + 0.05 * np.random.default_rng(1).normal(size=len(theta))
    return objective, theta, problem.design.groups[0], group_posterior(objective, theta, 0)


def _dense(objective, theta, group, school):
    """Posterior mean and covariance of all parts in a school, and where each unit's begin."""
    model, maps, at = objective.model, objective.maps[0], objective.implied(theta, 0)
    units = group.upper[0]
    classes = np.flatnonzero(units.codes == school)
    rows = np.flatnonzero(np.isin(group.codes, classes))
    blocks = [("school", school)] + [("between", j) for j in classes]
    blocks += [("within", i) for i in rows]
    sizes = [len(maps[level].names) for level, _ in blocks]
    start = dict(zip(blocks, np.r_[0, np.cumsum(sizes)[:-1]], strict=True))
    mean = np.concatenate([at[level].full_mean for level, _ in blocks])
    cov = np.zeros((sum(sizes), sum(sizes)))
    for block, k in zip(blocks, sizes, strict=True):
        own = slice(start[block], start[block] + k)
        cov[own, own] = at[block[0]].full_cov

    def part(level, unit, name):
        out = np.zeros(sum(sizes))
        if name in maps[level].names:
            out[start[level, unit] + maps[level].names.index(name)] = 1.0
        return out

    def of_class(j, name):
        here = name in model.higher[0].parts
        return part("between", j, name) + (part("school", school, name) if here else 0.0)

    see, values = [], []
    inside = model.observed("within")
    for i in rows:
        T, names, j = at["within"].T, maps["within"].names, group.codes[i]
        x = group.y[i, inside.index("x")]
        for k, name in enumerate(inside):
            row = part("within", i, name) + (of_class(j, name) if name in model.both else 0.0)
            row = row + T[names.index(name), names.index("t")] * x * of_class(j, "s")
            see.append(row)
            values.append(group.y[i, k])
    for j in classes:
        see += [of_class(j, name) for name in model.between_only]
        values += list(group.z[j])
    see += [part("school", school, name) for name in model.higher[0].only]
    values += list(units.z[school])
    known = ~np.isnan(values)
    A, data = np.array(see)[known], np.array(values)[known]
    gain = np.linalg.solve(A @ cov @ A.T, A @ cov).T
    return mean + gain @ (data - A @ mean), cov - gain @ A @ cov, start


@pytest.mark.parametrize("level", ["within", "between", "school"])
def test_posterior_is_that_of_the_dense_distribution(setting, level):
    objective, theta, group, posterior = setting
    names = objective.maps[0][level].names
    found = posterior.of_level(level, np.arange(len(names)))
    for school in range(6):
        mean, cov, start = _dense(objective, theta, group, school)
        for (at, unit), first in start.items():
            if at != level:
                continue
            own = slice(first, first + len(names))
            if level == "within":
                k = names.index("f")
                # no random slope acts on f, so that its own part is all of it
                assert found.mean[unit, k] == pytest.approx(mean[own][k], abs=1e-8)
                assert found.cov[unit, k, k] == pytest.approx(cov[own, own][k, k], abs=1e-8)
                continue
            np.testing.assert_allclose(found.mean[unit], mean[own], atol=1e-8)
            np.testing.assert_allclose(found.cov[unit], cov[own, own], atol=1e-8)


def test_scores_of_one_equation_are_the_random_effects():
    data = _table(60)
    text = "level: 1\ny3 ~ x\nlevel: 2\ny3 ~~ y3\nlevel: 3\ny3 ~ 1"
    result = mlm.sem(text, data, cluster="school/class")
    mixed = mlm.fit("y3 ~ x + (1 | school/class)", data, method="ml")
    assert not mixed.is_singular
    effects = mixed.random_effects()
    for level, factor, shift in (
        ("school", "school", mixed.fixed_effects["(Intercept)"]),
        ("class", "school:class", 0.0),
    ):
        scores = result.factor_scores(level)
        own = effects[effects["group"] == factor].set_index("level")["estimate"]
        own.index = own.index.astype(str)
        own = own.loc[scores["cluster"].astype(str)].to_numpy()
        np.testing.assert_allclose(scores["estimate"], own + shift, atol=1e-4)


def test_the_door_of_three_levels():
    text = "level: 1\nf =~ y1 + y2 + y3\nlevel: 2\nfc =~ y1 + y2 + y3\nfc ~ w\nlevel: 3\n"
    text += "fs =~ y1 + y2 + y3\nfs ~ z"
    result = mlm.sem(text, _table(60), cluster="school/class", allow=["inadmissible"])
    scores = result.factor_scores()
    assert scores.groupby("level")["variable"].unique().map(len).to_dict() == {
        "class": 4, "school": 4, "within": 1,
    }  # fmt: skip
    assert len(result.factor_scores("school").query("variable == 'fs'")) == 60
    low = result.score_reliability("class").query("variable == 'fc'")["reliability"]
    assert low.between(0.0, 1.0).all()
    sizes = result.score_reliability("school")["cluster_size"].unique()
    assert set(sizes) == set(_table(60).groupby("school").size())
    flat = result.factor_scores("class", method="bartlett")
    shrunk = result.factor_scores("class").query("variable == 'fc'")
    assert flat["estimate"].std() > shrunk["estimate"].std()
    with pytest.raises(ModelError, match="'within', 'class', 'school'"):
        result.factor_scores("between")
    split = mlm.sem(text + "\nw ~~ w", _table(60), cluster="school/class", allow=["inadmissible"])
    with pytest.raises(InferenceError, match="w, split into latent parts, at the class level"):
        split.factor_scores("class", method="bartlett")
