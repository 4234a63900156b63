"""Structural models with families against what they must equal.

* All variables Gaussian: the structural engine, whose likelihood is in closed form.
* One outcome: ``mlm.fit`` of its family, one or two crossed factors.
* Crossed Gaussian paths: the stacked outcomes as one mixed model of ``mlm.fit``.
* Two-parameter items: ``mlm.irt``, which is held to published fits.
* Any model: brute-force sums over a fine grid, on a tiny design.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import multilevel as mlm
from multilevel.api.structural_mixed_door import checked_families
from multilevel.design.structural_mixed import build_mixed_design
from multilevel.estimate.structural_mixed import fit_mixed
from multilevel.estimate.structural_mixed_search import parameter_names
from multilevel.estimate.structural_mixed_start import mixed_pattern, mixed_start
from multilevel.likelihood.structural.mixed_objective import MixedObjective, lay_out_mixed
from multilevel.model.structural.mixed import build_mixed, mixed_candidates, parse_mixed
from multilevel.tables.table import as_table

DATA = Path(__file__).resolve().parents[1] / "data"


def design_of(text, data, clusters, families=None):
    chosen = checked_families(families)
    parsed = parse_mixed(text, clusters)
    model = build_mixed(parsed, text, clusters, chosen, mixed_candidates(parsed, chosen))
    return build_mixed_design(model, as_table(data))


def layout_at(design, theta):
    return lay_out_mixed(design, theta, mixed_pattern(design, theta))


@lru_cache(maxsize=1)
def clustered() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    J, n = 50, 8
    g = np.repeat(np.arange(J), n)
    u = rng.normal(size=(J, 3)) @ np.array([[0.8, 0.3, 0.2], [0, 0.7, 0.2], [0, 0, 0.7]])
    z, x = rng.normal(size=J)[g], rng.normal(size=J * n)
    e = rng.normal(size=(J * n, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    m = 0.5 * x + 0.3 * z + u[g, 0] + rng.normal(size=J * n)
    y1, y2 = u[g, 1] + 0.4 * m + e[:, 0], 0.3 * x + u[g, 2] + e[:, 1]
    noise = rng.logistic(size=(2, J * n))
    out = pd.DataFrame({"g": g, "x": x, "z": z, "m": m, "y1": y1, "y2": y2})
    out["b"] = (y1 + noise[0] > 0).astype(float)
    out["o"] = np.digitize(y2 + noise[1], [-1.0, 0.0, 1.5]) + 1.0
    out["c"] = rng.poisson(np.exp(0.2 + 0.3 * x + 0.4 * u[g, 2])).astype(float)
    out.loc[rng.random(J * n) < 0.15, "y1"] = np.nan
    out.loc[rng.random(J * n) < 0.15, "y2"] = np.nan
    return out


GAUSSIAN = {
    "paths": """
level: within
  m ~ x
  y1 ~ m
  y2 ~ x
  y1 ~~ y2
level: between
  m ~ z
  y1 ~ m + z
  y2 ~~ m
  y1 ~~ y2
""",
    "level-2 outcome": """
level: within
  y2 ~ m
level: between
  z ~ m
  y2 ~ z + m
""",
    "latent centring and an input that covaries": """
level: within
  y2 ~ m + x
level: between
  y2 ~ m + z
""",
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_variables_give_the_structural_engine(name):
    exact = mlm.sem(GAUSSIAN[name], clustered(), cluster="g")
    found = fit_mixed(design_of(GAUSSIAN[name], clustered(), ["g"]))
    assert found.certificate.is_certified
    assert found.criterion == pytest.approx(exact.minus2_loglik, abs=1e-7)
    assert found.theta == pytest.approx(exact.fit.theta, abs=3e-5)


def test_gaussian_scores_give_those_of_the_structural_engine():
    exact = mlm.sem(GAUSSIAN["paths"], clustered(), cluster="g")
    design = design_of(GAUSSIAN["paths"], clustered(), ["g"])
    objective = MixedObjective(layout_at(design, exact.fit.theta))
    assert objective.value(exact.fit.theta) == pytest.approx(exact.minus2_loglik, abs=1e-8)
    expected = exact.problem.objective(exact.fit.model).scores(exact.fit.theta)
    assert objective.cluster_scores() == pytest.approx(expected, abs=1e-8)


def test_single_level_latent_variable_gives_the_structural_engine():
    rng = np.random.default_rng(5)
    x = rng.normal(size=120)
    f = 0.4 * x + rng.normal(size=120)
    data = pd.DataFrame({"x": x} | {f"y{k}": f * (1 + 0.2 * k) + rng.normal(size=120)
                                    for k in range(4)})  # fmt: skip
    data.loc[::7, "y2"] = np.nan
    text = "f =~ y0 + y1 + y2 + y3\n f ~ x"
    exact = mlm.sem(text, data)
    found = fit_mixed(design_of(text, data, []))
    assert found.criterion == pytest.approx(exact.minus2_loglik, abs=1e-7)
    assert found.theta == pytest.approx(exact.fit.theta, abs=3e-5)


@pytest.mark.parametrize("points", [1, 7])
@pytest.mark.parametrize(("family", "y"), [("binomial", "b"), ("ordinal", "o"), ("poisson", "c")])
def test_one_outcome_is_the_generalized_model(family, y, points):
    text = f"level: within\n {y} ~ x\nlevel: between\n {y} ~ z"
    one = mlm.fit(f"{y} ~ x + z + (1 | g)", clustered(), family=family, n_quad=points)
    found = mlm.sem(text, clustered(), cluster="g", families={y: family}, n_quad=points)
    assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-7)
    table = found.parameters().set_index(["op", "rhs"])["estimate"]
    assert table["~", "x"] == pytest.approx(one.fixed_effects["x"], abs=1e-5)
    assert table["~", "z"] == pytest.approx(one.fixed_effects["z"], abs=1e-5)
    errors = found.parameters().set_index(["op", "rhs"])["std_error"]
    P = [n for n, s in zip(found.vcov().index, range(99), strict=False) if f"{y} ~ x" in n]
    assert errors["~", "x"] == pytest.approx(np.sqrt(found.vcov().loc[P[0], P[0]]))
    variance = one.fit.random_covariance[0][0, 0]
    between = found.parameters().query("level == 'between' and op == '~~'")["estimate"].iloc[0]
    assert between == pytest.approx(variance, abs=1e-4)


@lru_cache(maxsize=1)
def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    n, S, H = 500, 25, 20
    s, h = rng.integers(S, size=n), rng.integers(H, size=n)
    us = rng.normal(size=(S, 2)) @ np.array([[0.7, 0.3], [0, 0.5]])
    uh = rng.normal(size=(H, 2)) @ np.array([[0.5, 0.2], [0, 0.6]])
    x, zs = rng.normal(size=n), rng.normal(size=S)[s]
    m = 0.5 * x + 0.3 * zs + us[s, 0] + uh[h, 0] + rng.normal(size=n)
    y = 0.4 * m + 0.2 * x + us[s, 1] + uh[h, 1] + rng.normal(size=n)
    b = (rng.random(n) < special.expit(y)).astype(float)
    return pd.DataFrame({"school": s, "hood": h, "x": x, "zs": zs, "m": m, "y": y, "b": b})


def test_crossed_gaussian_paths_are_the_stacked_mixed_model():
    text = """
level: within
  m ~ a*x
  y ~ b*m + x
level: school
  m ~ zs
  y ~ zs
  m ~~ y
level: hood
  m ~~ y
  ind := a*b
"""
    data = crossed()
    found = mlm.sem(text, data, cluster=["school", "hood"])
    rows = pd.concat([data.assign(r=data.m, k=0.0), data.assign(r=data.y, k=1.0)])
    rows["k0"] = 1.0 - rows.k
    for v in ("x", "zs"):
        rows[v + "0"], rows[v + "1"] = rows[v] * rows.k0, rows[v] * rows.k
    rows["m1"] = rows.m * rows.k
    stacked = mlm.fit(
        "r ~ 0 + k0 + k + x0 + zs0 + m1 + x1 + zs1 + (0 + k0 + k | school) + (0 + k0 + k | hood)",
        rows, family="gaussian", dispersion="k",
    )  # fmt: skip
    assert found.minus2_loglik == pytest.approx(stacked.minus2_loglik, abs=1e-6)
    effects = stacked.fixed_effects
    table = found.parameters().query("label != ''").set_index("label")["estimate"]
    assert table["a"] == pytest.approx(effects["x0"], abs=1e-5)
    assert table["b"] == pytest.approx(effects["m1"], abs=1e-5)
    assert found.defined()["estimate"].iloc[0] == pytest.approx(table["a"] * table["b"])
    between = found.parameters().query("lhs == 'y' and rhs == 'zs'")["estimate"].iloc[0]
    total = effects["zs1"] + table["b"] * effects["zs0"]  # y - u_m within: zs acts through u_m too
    assert between == pytest.approx(total, abs=1e-5)


def test_crossed_binary_outcome_is_the_generalized_model():
    text = "level: within\n b ~ x\nlevel: school\n b ~ zs\nlevel: hood\n b ~~ b"
    found = mlm.sem(text, crossed(), cluster=["school", "hood"], families={"b": "binomial"})
    one = mlm.fit("b ~ x + zs + (1 | school) + (1 | hood)", crossed(), family="binomial")
    assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-6)
    variances = found.parameters().query("op == '~~' and lhs == 'b'").set_index("level")["estimate"]
    expected = [G[0, 0] for G in one.fit.random_covariance]
    assert variances[["school", "hood"]].tolist() == pytest.approx(expected, abs=1e-4)


def test_binary_items_measure_as_the_two_parameter_model():
    patterns = pd.read_csv(DATA / "LSAT.csv.gz")
    items = ["q1", "q2", "q3", "q4", "q5"]
    rows = patterns.loc[patterns.index.repeat(patterns.persons), items].reset_index(drop=True)
    found = mlm.sem(
        "f =~ q1 + q2 + q3 + q4 + q5", rows, families=dict.fromkeys(items, "binomial"),
        latent_scale="variance", n_quad=21,
    )  # fmt: skip
    assert found.minus2_loglik / -2.0 == pytest.approx(-2466.653, abs=6e-4)  # R package ltm
    irt = mlm.irt(rows.assign(person=range(len(rows))), person="person", items=items, model="2pl")
    loadings = found.parameters().query("op == '=~'")
    assert loadings["estimate"].to_numpy() == pytest.approx(
        irt.items()["discrimination"].to_numpy(), abs=1e-3
    )
    assert loadings["std_error"].to_numpy() == pytest.approx(
        irt.items()["discrimination_std_error"].to_numpy(), rel=2e-3
    )


TINY = """
level: within
  b ~ x
  y ~ b + x
level: between
  b ~ z
  y ~ b + z
"""


def test_likelihood_is_the_brute_force_integral():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(4), 4)
    data = pd.DataFrame({"g": g, "x": rng.normal(size=16), "z": rng.normal(size=4)[g],
                         "b": (rng.random(16) < 0.5).astype(float)})  # fmt: skip
    data["y"] = rng.normal(size=16) + data.b
    data.loc[3, "y"] = np.nan
    design = design_of(TINY, data, ["g"], {"b": "binomial"})
    values = {
        "b ~ x [within]": 0.4, "y ~ b [within]": -0.3, "y ~ x [within]": 0.2,
        "y ~~ y [within]": 0.5, "b ~ z [between]": 0.4, "y ~ b [between]": 0.3,
        "y ~ z [between]": 0.7, "b ~~ b [between]": 0.7, "y ~~ y [between]": 0.6,
        "b ~ 1 [between]": 0.3, "y ~ 1 [between]": -0.2,
    }  # fmt: skip
    theta = np.array([values[name] for name in design.model.free_names])
    found = MixedObjective(layout_at(design, theta), 25).value(theta)
    p = {k.replace(" [within]", "").replace("[between]", "B"): v for k, v in values.items()}
    grid = np.linspace(-8.0, 8.0, 201)
    ub, uy = np.meshgrid(grid, grid, indexing="ij")
    total = 0.0
    for _, rows in data.groupby("g"):
        z = rows.z.iloc[0]
        log = stats.norm.logpdf(ub, p["b ~ 1 B"] + p["b ~ z B"] * z, np.sqrt(p["b ~~ b B"]))
        mean = p["y ~ 1 B"] + p["y ~ b B"] * ub + p["y ~ z B"] * z
        log = log + stats.norm.logpdf(uy, mean, np.sqrt(p["y ~~ y B"]))
        for row in rows.itertuples():
            log = log + special.log_expit((2.0 * row.b - 1.0) * (ub + p["b ~ x"] * row.x))
            if not np.isnan(row.y):
                mean = uy + p["y ~ b"] * row.b + p["y ~ x"] * row.x
                log = log + stats.norm.logpdf(row.y, mean, np.sqrt(p["y ~~ y"]))
        total += -2.0 * np.log(np.exp(log).sum() * (grid[1] - grid[0]) ** 2)
    assert found == pytest.approx(total, abs=1e-7)


MODELS = {
    "paths": ("""
level: within
  m ~ x
  b ~ m
  y2 ~ b + m
  c ~ x
level: between
  m ~ z
  b ~ m
  y2 ~ b
  c ~~ m
""", {"b": ("binomial", "probit"), "c": "negative_binomial"}, 5),
    "latent variables": ("""
level: within
  f =~ b + o + y2
  f ~ x
level: between
  fb =~ b + o + y2
  fb ~ z
  b ~~ 0*b
  o ~~ 0*o
  y2 ~~ 0*y2
""", {"b": "binomial", "o": "ordinal"}, (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_differences(name):
    text, families, points = MODELS[name]
    design = design_of(text, clustered(), ["g"], families)
    rng = np.random.default_rng(1)
    start = mixed_start(design)
    theta = start + 0.05 * rng.normal(size=len(start))
    objective = MixedObjective(layout_at(design, start), points)
    objective.value(theta)
    gradient = objective.gradient()
    assert -2.0 * objective.cluster_scores().sum(axis=0) == pytest.approx(gradient, abs=1e-7)
    for a, label in enumerate(parameter_names(objective.layout)):
        step = np.zeros(len(theta))
        step[a] = 1e-5
        slope = (objective.value(theta + step) - objective.value(theta - step)) / 2e-5
        assert gradient[a] == pytest.approx(slope, abs=2e-5), label
