"""Random slopes, boundaries and three levels of structural models with families.

* One outcome with a random slope, and one in three levels: ``mlm.fit`` of its family.
* Gaussian variables: the structural engine, its boundary solution included.
* Two outcomes in three levels: brute-force sums over a grid, on a tiny design.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import multilevel as mlm
from multilevel.api.structural_mixed_door import checked_families
from multilevel.design.structural_mixed import build_mixed_design
from multilevel.estimate.structural_mixed import fit_mixed
from multilevel.estimate.structural_mixed_start import mixed_pattern
from multilevel.infer.structural_mixed import mixed_covariance
from multilevel.likelihood.structural.mixed_objective import MixedObjective, lay_out_mixed
from multilevel.model.structural.mixed import build_mixed, mixed_candidates, parse_mixed
from multilevel.tables.table import as_table


def design_of(text, data, clusters, families=None, *, is_nested=False):
    chosen = checked_families(families)
    parsed = parse_mixed(text, clusters)
    model = build_mixed(parsed, text, clusters, chosen, mixed_candidates(parsed, chosen))
    return build_mixed_design(model, as_table(data), is_nested=is_nested)


@lru_cache(maxsize=1)
def sloped() -> pd.DataFrame:
    rng = np.random.default_rng(14)
    J, n = 60, 10
    g = np.repeat(np.arange(J), n)
    u = rng.normal(size=(J, 3)) @ np.array([[0.8, 0.3, 0.2], [0, 0.7, 0.2], [0, 0, 0.6]])
    z, x = rng.normal(size=J)[g], rng.normal(size=J * n)
    m = 0.5 * x + 0.3 * z + u[g, 0] + rng.normal(size=J * n)
    eta = u[g, 1] + (0.4 + 0.2 * z + u[g, 2]) * x
    y = eta + 0.3 * m + rng.normal(size=J * n)
    b = (rng.random(J * n) < special.expit(eta)).astype(float)
    half = (np.arange(J * n) % 2).astype(float)  # as many ones as zeros in every cluster
    return pd.DataFrame({"g": g, "x": x, "z": z, "m": m, "y": y, "b": b, "half": half})


@pytest.mark.parametrize("points", [1, 5])
def test_a_random_slope_is_that_of_the_generalized_model(points):
    text = "level: within\n s | b ~ x\nlevel: between\n b ~ z\n s ~ z\n s ~~ b"
    found = mlm.sem(text, sloped(), cluster="g", families={"b": "binomial"}, n_quad=points)
    one = mlm.fit("b ~ x * z + (x | g)", sloped(), family="binomial", n_quad=points)
    assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-6)
    table = found.parameters().set_index(["lhs", "op", "rhs"])["estimate"]
    G = one.fit.random_covariance[0]
    assert table["s", "~1", ""] == pytest.approx(one.fixed_effects["x"], abs=1e-5)
    assert table["s", "~", "z"] == pytest.approx(one.fixed_effects["x:z"], abs=1e-5)
    assert table["s", "~~", "s"] == pytest.approx(G[1, 1], abs=1e-4)
    assert table["s", "~~", "b"] == pytest.approx(G[0, 1], abs=1e-4)


def test_a_slope_of_one_of_two_crossed_columns_is_that_of_the_generalized_model():
    rng = np.random.default_rng(3)
    data = sloped().assign(h=rng.integers(20, size=600))
    text = "level: within\n s | y ~ x\nlevel: g\n y ~~ s\nlevel: h\n y ~~ y"
    found = mlm.sem(text, data, cluster=["g", "h"])
    one = mlm.fit("y ~ x + (x | g) + (1 | h)", data, method="ml")
    assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-5)


GAUSSIAN = """
level: within
  s | y ~ m
  m ~ x
level: between
  m ~ z
  y ~ z
  s ~ z
  m ~~ y
  m ~~ s
"""


def test_gaussian_slopes_give_the_structural_engine():
    data = sloped().copy()
    data.loc[::9, "y"] = np.nan
    exact = mlm.sem(GAUSSIAN, data, cluster="g", allow=("inadmissible",))
    design = design_of(GAUSSIAN, data, ["g"])
    names = list(design.model.free_names)
    assert names == list(exact.fit.model.free_names)
    theta = exact.fit.theta.copy()
    for name in names:
        k = names.index(name)
        if "~~" in name and "between" in name:
            a, b = name.split(" [")[0].split(" ~~ ")
            theta[k] = 0.5 if a == b else 0.1
    objective = MixedObjective(lay_out_mixed(design, theta, mixed_pattern(design, theta)))
    expected = exact.problem.objective(exact.fit.model)
    assert objective.value(theta) == pytest.approx(expected.value(theta), abs=1e-8)
    assert objective.gradient() == pytest.approx(expected.gradient(theta), abs=1e-6)


def test_the_gaussian_boundary_is_that_of_the_structural_engine():
    rng = np.random.default_rng(5)
    data = sloped().assign(w=rng.normal(size=600))
    text = GAUSSIAN.replace("s | y ~ m", "s | y ~ w")
    exact = mlm.sem(text, data, cluster="g")
    assert exact.boundary
    found = fit_mixed(design_of(text, data, ["g"]))
    assert found.certificate.status == "singular"
    assert found.criterion == pytest.approx(exact.minus2_loglik, abs=1e-6)
    assert found.theta == pytest.approx(exact.fit.theta, abs=1e-4)
    errors = np.sqrt(np.diag(mixed_covariance(found, "observed").vcov))
    assert errors == pytest.approx(np.sqrt(np.diag(exact.vcov())), abs=1e-4)


def test_a_variance_of_zero_is_returned_and_explained():
    text = "level: within\n half ~ x\nlevel: between\n half ~~ half"
    found = mlm.sem(text, sloped(), cluster="g", families={"half": "binomial"})
    plain = mlm.fit("half ~ x", sloped(), family="binomial")
    assert found.certificate.status == "singular"
    assert found.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-7)
    assert "half at the between level is estimated as zero" in found.boundary[0]
    assert "AT THE BOUNDARY" in found.summary()
    table = found.parameters().set_index(["lhs", "op", "rhs"])
    assert table.loc[("half", "~~", "half"), "status"] == "boundary"
    assert table.loc[("half", "~~", "half"), "estimate"] == 0.0
    slope = table.loc[("half", "~", "x")]
    assert slope["estimate"] == pytest.approx(plain.fixed_effects["x"], abs=1e-6)
    errors = plain.vcov.to_numpy()
    assert slope["std_error"] == pytest.approx(np.sqrt(errors[1, 1]), rel=1e-5)


def test_perfectly_correlated_random_effects_are_those_of_the_generalized_model():
    text = "level: within\n s | b ~ w\nlevel: between\n s ~~ b"
    data = sloped().assign(w=np.random.default_rng(1).normal(size=600))
    found = mlm.sem(text, data, cluster="g", families={"b": "binomial"}, n_quad=1)
    one = mlm.fit("b ~ w + (w | g)", data, family="binomial", n_quad=1)
    assert found.certificate.status == "singular"
    assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-5)
    assert "perfectly correlated" in found.boundary[0]


@lru_cache(maxsize=1)
def three() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    school, number = (a.ravel() for a in np.indices((30, 4)))
    row = np.repeat(np.arange(120), 6)
    x, w = rng.normal(size=720), rng.normal(size=120)[row]
    eta = 0.5 * x + rng.normal(0, 0.8, 30)[school][row] + rng.normal(0, 0.7, 120)[row]
    b = (rng.random(720) < special.expit(eta)).astype(float)
    return pd.DataFrame(
        {"school": school[row], "room": number[row], "one": row, "x": x, "w": w, "b": b}
    )


def test_three_levels_are_those_of_the_generalized_model():
    text = "level: within\n b ~ x\nlevel: {}\n b ~ w\nlevel: school\n b ~~ b"
    one = mlm.fit("b ~ x + w + (1 | school/room)", three(), family="binomial", n_quad=7)
    for columns, name in (("school/room", "room"), (["one", "school"], "one")):
        found = mlm.sem(
            text.format(name), three(), cluster=columns, families={"b": "binomial"}, n_quad=7
        )
        assert found.minus2_loglik == pytest.approx(one.minus2_loglik, abs=1e-6)
        variances = found.parameters().query("lhs == 'b' and op == '~~'").set_index("level")
        expected = sorted(G[0, 0] for G in one.fit.random_covariance)
        assert sorted(variances["estimate"]) == pytest.approx(expected, abs=1e-4)


def test_two_outcomes_in_three_levels_are_the_brute_force_integral():
    rng = np.random.default_rng(8)
    school, room = np.repeat([0, 1], 6), np.tile(np.repeat([0, 1], 3), 2)
    data = pd.DataFrame({"school": school, "room": room, "x": rng.normal(size=12),
                         "b": np.tile([0.0, 1.0, 1.0], 4)})  # fmt: skip
    data["y"] = rng.normal(size=12) + data.b
    text = "level: within\n y ~ b + x\n b ~ x\nlevel: room\n b ~~ b\nlevel: school\n b ~~ b"
    design = design_of(text, data, ["room", "school"], {"b": "binomial"}, is_nested=True)
    values = {"y ~ b [within]": 0.5, "y ~ x [within]": 0.2, "b ~ x [within]": -0.4,
              "y ~~ y [within]": 0.8, "b ~~ b [room]": 0.6, "b ~~ b [school]": 0.9,
              "b ~ 1 [room]": 0.3, "y ~ 1 [within]": 0.1}  # fmt: skip
    theta = np.array([values[name] for name in design.model.free_names])
    layout = lay_out_mixed(design, theta, mixed_pattern(design, theta))
    found = MixedObjective(layout, 25).value(theta)
    grid = np.linspace(-8.0, 8.0, 401)
    step = grid[1] - grid[0]
    total = 0.0
    for _, own in data.groupby("school"):
        log = stats.norm.logpdf(grid, 0.0, np.sqrt(0.9))
        for _, rows in own.groupby("room"):
            inner = stats.norm.logpdf(grid, 0.0, np.sqrt(0.6))[None, :]
            for row in rows.itertuples():
                eta = 0.3 - 0.4 * row.x + grid[:, None] + grid[None, :]
                inner = inner + special.log_expit((2.0 * row.b - 1.0) * eta)
            log = log + np.log(np.exp(inner).sum(axis=1) * step)
        total += -2.0 * np.log(np.exp(log).sum() * step)
    mean = 0.1 + 0.5 * data.b + 0.2 * data.x
    total += -2.0 * stats.norm.logpdf(data.y, mean, np.sqrt(0.8)).sum()
    assert found == pytest.approx(total, abs=1e-6)
