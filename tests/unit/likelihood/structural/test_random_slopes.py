"""The likelihood with random slopes against dense normal densities of the stacked outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.design.structural import build_structural_design
from multilevel.errors import LikelihoodError
from multilevel.estimate.structural import prepare_structural
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.parse import parse_structural
from multilevel.tables.table import as_table

# x -> m (random a), m -> y (random b), y -> v (fixed); w is a level-2 predictor
TEXT = """
level: within
  a | m ~ x
  b | y ~ m
  y ~ x
  v ~ y
level: between
  m ~ w
  a ~ w
  y ~~ m
  v ~~ v
"""


def _data(holes_v=0.0, holes_y=0.0, sizes=(1, 4, 3, 6, 5, 4, 2, 5), seed=8):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(len(sizes)), sizes)
    n, J = len(g), len(sizes)
    w, u = rng.normal(size=J), rng.normal(size=(J, 4)) * 0.5
    x = 1.0 + rng.normal(size=n)
    m = (u[:, 0] + w)[g] + (0.4 + u[g, 2]) * x + rng.normal(size=n)
    y = 3.0 + u[g, 1] + (0.5 + u[g, 3]) * m + 0.2 * x + rng.normal(size=n)
    v = 0.6 * y + rng.normal(size=J)[g] + rng.normal(size=n)
    v[rng.random(n) < holes_v] = np.nan
    y[rng.random(n) < holes_y] = np.nan
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y, "v": v, "w": w[g]})


def _objective(data, text=TEXT):
    problem, model = _problem(data, text)
    return problem.objective(model), model


def _problem(data, text=TEXT):
    parsed = parse_structural(text, "g")
    model = build_structural(parsed, cluster="g", fixed=fixed_candidates(parsed))
    return prepare_structural(build_structural_design(model, as_table(data))), model


def _point(model, rng):
    """Random parameters with positive definite covariances; by name."""
    theta = rng.normal(size=model.n_free) * 0.3
    for k, name in enumerate(model.free_names):
        left, _, rest = name.partition(" ~~ ")
        if rest and rest.split(" [")[0] == left:
            theta[k] = 1.0 + rng.random()
        elif rest:
            theta[k] = 0.2 * rng.normal()
    return theta, dict(zip(model.free_names, theta, strict=True))


def _dense(data, at):
    """-2 log-likelihood equation by equation: m given x, y given m and x, v given y."""

    def cov(one, two, level):
        for key in (f"{one} ~~ {two} [{level}]", f"{two} ~~ {one} [{level}]"):
            if key in at:
                return at[key]
        return 0.0

    random = ["m", "y", "v", "a", "b"]
    G = np.array([[cov(r, c, "between") for c in random] for r in random])
    R = np.array([[cov(r, c, "within") for c in "myv"] for r in "myv"])
    total = 0.0
    for _, own in data.groupby("g"):
        out, mean, Z, place = [], [], [], []
        for i, row in enumerate(own.itertuples()):
            a = at["a ~ 1 [between]"] + at["a ~ w [between]"] * row.w
            m_0 = at["m ~ 1 [between]"] + at["m ~ w [between]"] * row.w
            equations = {
                "m": (row.m, m_0 + a * row.x, [1, 0, 0, row.x, 0]),
                "y": (row.y, at["y ~ 1 [between]"] + at["b ~ 1 [between]"] * row.m
                      + at["y ~ x [within]"] * row.x, [0, 1, 0, 0, row.m]),
            }  # fmt: skip
            slope = at["v ~ y [within]"]
            # v on y holds within clusters: y less its between part
            equations["v"] = (
                row.v,
                at["v ~ 1 [between]"] + slope * (row.y - at["y ~ 1 [between]"]),
                [0, -slope, 1, 0, 0],
            )
            for k, (value, expected, z) in enumerate(equations.values()):
                if not np.isnan(value) and not np.isnan(expected):
                    out.append(value)
                    mean.append(expected)
                    Z.append(z)
                    place.append((i, k))
        Z, e = np.array(Z, dtype=float), np.array(out) - np.array(mean)
        V = Z @ G @ Z.T
        for s, (i, k) in enumerate(place):
            for t, (j, c) in enumerate(place):
                V[s, t] += R[k, c] * (i == j)
        total += np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e) + len(e) * np.log(2 * np.pi)
    return total


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_value_is_the_dense_density_of_the_equations(holes):
    data = _data(holes_v=holes)
    objective, model = _objective(data)
    for seed in range(3):
        theta, at = _point(model, np.random.default_rng(seed))
        assert objective.value(theta) == pytest.approx(_dense(data, at), rel=1e-11)


@pytest.mark.parametrize("holes", [0.0, 0.3])
def test_gradient_scores_and_hessian(holes):
    objective, model = _objective(_data(holes_v=holes, holes_y=holes))
    theta, _ = _point(model, np.random.default_rng(1))
    q, h = len(theta), 1e-4
    found = objective.gradient(theta)
    numeric = np.zeros(q)
    for a in range(q):
        step = h * np.eye(q)[a]
        v = [objective.value(theta + k * step) for k in (-2, -1, 1, 2)]
        numeric[a] = (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h)
    assert found == pytest.approx(numeric, rel=1e-7, abs=1e-6)
    assert -2.0 * objective.scores(theta).sum(axis=0) == pytest.approx(found, rel=1e-9, abs=1e-9)
    second = objective.hessian(theta)
    slopes = [objective.gradient(theta + s * 1e-5 * e) for e in np.eye(q) for s in (1, -1)]
    difference = (np.array(slopes[::2]) - np.array(slopes[1::2])) / 2e-5
    assert second == pytest.approx(difference, rel=1e-6, abs=1e-4)


def test_score_of_a_cluster_moves_with_its_rows_only():
    data = _data(holes_v=0.3)
    objective, model = _objective(data)
    theta, _ = _point(model, np.random.default_rng(2))
    moved = data.copy()
    moved.loc[moved["g"] == 3, "v"] += 1.0
    before, after = objective.scores(theta), _objective(moved)[0].scores(theta)
    same = np.arange(8) != 3
    # the centre of v moves, so that rounding differs
    assert after[same] == pytest.approx(before[same], rel=1e-9, abs=1e-9)
    assert np.abs(after[3] - before[3]).max() > 0.1


def test_missing_predictor_takes_what_depends_on_it():
    data = _data()
    data.loc[3, "m"] = np.nan
    objective, model = _objective(data)
    assert any("2 values of y" in note for note in _problem(data)[0].design.notes)
    theta, _ = _point(model, np.random.default_rng(2))
    blank = data.copy()
    blank.loc[3, ["y", "v"]] = np.nan
    assert objective.value(theta) == _objective(blank)[0].value(theta)


def test_a_point_without_a_density_is_refused():
    objective, model = _objective(_data())
    theta, _ = _point(model, np.random.default_rng(2))
    theta[model.free_names.index("a ~~ a [between]")] = -5.0
    with pytest.raises(LikelihoodError, match="positive definite"):
        objective.value(theta)
