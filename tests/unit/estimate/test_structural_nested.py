"""Structural models of three levels: identities with mixed models and two levels, recovery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, EstimationError
from multilevel.estimate.structural import prepare_structural
from multilevel.estimate.structural_nested import draw_top_units
from tests.unit.nested_data import CLUSTER, INDIRECT, MEDIATION, nested_rows


def _estimate(result, level, lhs, op, rhs):
    table = result.parameters()
    row = table[(table.level == level) & (table.lhs == lhs) & (table.op == op) & (table.rhs == rhs)]
    return float(row["estimate"].iloc[0]), float(row["std_error"].iloc[0])


def test_one_equation_is_the_mixed_model():
    data = nested_rows(1)
    text = "level: 1; y ~ x; level: cls; y ~ z; level: school; y ~ w"
    result = mlm.sem(text, data, cluster=CLUSTER)
    mixed = mlm.fit("y ~ x + z + w + (1|school/cls)", data, method="ml")
    assert result.minus2_loglik == pytest.approx(mixed.minus2_loglik, rel=1e-12)
    beta = mixed.coefficients().set_index("term")
    for level, name in (("within", "x"), ("cls", "z"), ("school", "w")):
        found, error = _estimate(result, level, "y", "~", name)
        assert found == pytest.approx(beta.loc[name, "estimate"], abs=1e-7)
        # those of fit take the variances as known
        assert error == pytest.approx(beta.loc[name, "std_error"], rel=0.02)
    G = mixed.random_covariance
    for level, key in (("cls", "school:cls"), ("school", "school")):
        found, _ = _estimate(result, level, "y", "~~", "y")
        assert found == pytest.approx(float(G[key].iloc[0, 0]), rel=1e-5)


def test_random_slopes_at_two_levels_are_the_mixed_model():
    data = nested_rows(6, schools=30, slope=True)
    text = """
    level: within
      s | y ~ m
      y ~ x
    level: cls
      y ~~ y
      s ~~ s
    level: school
      y ~ w
      s ~ 1
    """
    result = mlm.sem(text, data, cluster=CLUSTER)
    mixed = mlm.fit("y ~ x + m + w + (m|school/cls)", data, method="ml")
    assert result.minus2_loglik == pytest.approx(mixed.minus2_loglik, rel=1e-11)
    mean, error = _estimate(result, "school", "s", "~1", "")
    beta = mixed.coefficients().set_index("term")
    assert mean == pytest.approx(beta.loc["m", "estimate"], abs=1e-6)
    assert error == pytest.approx(beta.loc["m", "std_error"], rel=0.04)
    tests = result.slope_tests().set_index("level")
    for level, rest in (
        ("cls", "(m|school) + (1|school:cls)"),
        ("school", "(1|school) + (m|school:cls)"),
    ):
        smaller = mlm.fit(f"y ~ x + m + w + {rest}", data, method="ml")
        gap = smaller.minus2_loglik - mixed.minus2_loglik
        assert tests.loc[level, "statistic"] == pytest.approx(gap, rel=1e-5)
    G = mixed.random_covariance
    for level, key in (("cls", "school:cls"), ("school", "school")):
        found = [_estimate(result, level, a, "~~", b)[0] for a, b in (("s", "s"), ("s", "y"))]
        expected = [float(G[key].loc["m", "m"]), float(G[key].loc["m", "(Intercept)"])]
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_third_level_without_variance_is_two_levels():
    data = nested_rows(2, holes=0.15)
    lower = "level: 1; m ~ x; y ~ m + x; level: cls; m ~ x; y ~ m + x"
    three = mlm.sem(f"{lower}; level: school; x ~~ 0*x; m ~~ 0*m; y ~~ 0*y", data, cluster=CLUSTER)
    two = mlm.sem(lower, data, cluster="cls")
    assert three.minus2_loglik == pytest.approx(two.minus2_loglik, rel=1e-12)
    slope = _estimate(two, "between", "y", "~", "m")[0]
    assert _estimate(three, "cls", "y", "~", "m")[0] == pytest.approx(slope, abs=1e-7)


def test_variables_of_the_second_and_third_level_are_a_two_level_model_of_classes():
    data = nested_rows(4, schools=40)
    data["v"] = data.groupby("cls")["m"].transform("mean")
    text = "level: within; y ~~ y; level: cls; z ~ v; level: school; z ~ v + w"
    apart = "level: within; z ~ v; level: between; z ~ v + w"
    joint = mlm.sem(text, data, cluster=CLUSTER)
    upper = mlm.sem(apart, data.drop_duplicates("cls"), cluster="school")
    alone = data["y"].to_numpy()
    y_only = len(alone) * (np.log(2 * np.pi * alone.var()) + 1.0)
    assert joint.minus2_loglik == pytest.approx(upper.minus2_loglik + y_only, rel=1e-11)
    for level, other in (("cls", "within"), ("school", "between")):
        expected = _estimate(upper, other, "z", "~", "v")
        assert _estimate(joint, level, "z", "~", "v") == pytest.approx(expected, rel=1e-5)


def test_groups_without_equal_labels_are_fitted_apart():
    data = nested_rows(5, holes=0.1)
    data["g"] = np.where(data["school"] % 2, "a", "b")
    text = "level: 1; y ~ x; level: cls; y ~ x + z; level: school; y ~ x + w"
    whole = mlm.sem(text, data, cluster=CLUSTER, group="g")
    parts = [mlm.sem(text, data[data["g"] == g], cluster=CLUSTER) for g in "ab"]
    assert whole.minus2_loglik == pytest.approx(sum(p.minus2_loglik for p in parts), rel=1e-11)


def test_class_labels_may_repeat_across_schools():
    data = nested_rows(7)
    data["number"] = data.groupby("school")["cls"].transform(lambda v: v - v.min())
    text = "level: 1; y ~ x; level: 2; y ~ x; level: 3; y ~ x"
    one = mlm.sem(text, data, cluster=CLUSTER)
    two = mlm.sem(text, data, cluster="school/number")
    assert two.minus2_loglik == pytest.approx(one.minus2_loglik, rel=1e-13)
    assert "Labels of number repeat across school" in two.summary()


def test_gradient_and_scores_of_the_whole_model():
    data = nested_rows(8, schools=40, rows=8, holes=0.15, slope=True)
    text = """
    level: within
      s | y ~ m
      m ~ x
    level: cls
      y ~ z
      m ~ z
      s ~ z
    level: school
      y ~ w
      m ~ w
      z ~ w
      s ~ w
    """
    result = mlm.sem(text, data, cluster=CLUSTER)
    objective = result.problem.objective(result.fit.model)
    theta = result.fit.theta + 0.05 * np.sin(np.arange(result.fit.n_parameters))
    exact = objective.gradient(theta)
    h = 1e-4
    for a in range(len(theta)):
        step = h * np.eye(len(theta))[a]
        values = [objective.value(theta + k * step) for k in (-2, -1, 1, 2)]
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert exact[a] == pytest.approx(slope, rel=1e-6, abs=1e-5)
    scores = objective.scores(theta)
    assert scores.shape == (40, len(theta))
    assert -2.0 * scores.sum(axis=0) == pytest.approx(exact, rel=1e-9, abs=1e-8)


def test_drawing_every_school_once_gives_the_same_likelihood():
    result = mlm.sem(MEDIATION, nested_rows(9, holes=0.1), cluster=CLUSTER)
    group = result.problem.design.groups[0]
    n = len(group.upper[0].z)
    drawn = draw_top_units(group, np.random.default_rng(0).permutation(n))
    twice = draw_top_units(group, np.r_[np.arange(n), np.arange(n)])
    theta, design = result.fit.theta, result.problem.design
    values = []
    for g in (drawn, twice):
        problem = prepare_structural(replace(design, groups=(g,)))
        values.append(problem.objective(result.fit.model).value(theta))
    assert values[0] == pytest.approx(result.minus2_loglik, rel=1e-12)
    assert values[1] == pytest.approx(2.0 * result.minus2_loglik, rel=1e-12)


def test_indirect_effects_of_every_level_are_recovered():
    truth = np.array(list(INDIRECT.values()))
    found, covered = [], []
    for seed in range(16):
        data = nested_rows(100 + seed, schools=50, classes=3, rows=4, holes=0.1)
        table = mlm.sem(MEDIATION, data, cluster=CLUSTER).defined(
            interval="monte_carlo", n_draws=2000, seed=1
        )
        found.append(table["estimate"].to_numpy())
        covered.append((table["conf_low"] < truth) & (truth < table["conf_high"]))
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(np.mean(found, axis=0) - truth) < 3.5 * error)
    assert np.all(np.mean(covered, axis=0) >= 0.75)


def test_latent_variables_at_three_levels():
    rng = np.random.default_rng(3)
    data = nested_rows(11, schools=60, classes=5, rows=5)
    for k, loading in enumerate((1.0, 0.8, 1.2)):
        data[f"i{k}"] = loading * data["y"] + rng.normal(0, 0.6, len(data))
    text = """
    level: within
      f =~ i0 + l1*i1 + l2*i2
      f ~ x
    level: cls
      f =~ i0 + l1*i1 + l2*i2
      i0 ~~ 0*i0
      i1 ~~ 0*i1
      i2 ~~ 0*i2
      f ~ x
    level: school
      f =~ i0 + l1*i1 + l2*i2
      i0 ~~ 0*i0
      i1 ~~ 0*i1
      i2 ~~ 0*i2
      f ~ x
    """
    result = mlm.sem(text, data, cluster=CLUSTER)
    labels = result.parameters().drop_duplicates("label").set_index("label")["estimate"]
    assert labels[["l1", "l2"]].tolist() == pytest.approx([0.8, 1.2], abs=0.04)
    measures = result.fit_measures
    assert measures.model.df > 0
    assert measures.cfi > 0.98
    assert [name for name, _ in measures.srmr_higher] == ["school"]
    assert not result.inadmissible


def test_what_is_not_there_is_refused():
    data = nested_rows(12, schools=20)
    text = "level: 1; y ~ x; level: cls; y ~ x; level: school; y ~ x"
    with pytest.raises(EstimationError, match="more clusters than variables at the school level"):
        mlm.sem(text, data[data["school"] < 2], cluster=CLUSTER)
    with pytest.raises(DesignError, match="varies within school"):
        mlm.sem(
            text.replace("school; y ~ x", "school; y ~ x; w ~~ w").replace(
                "cls; y ~ x", "cls; y ~ x; w ~~ w"
            ),
            data,
            cluster=CLUSTER,
        )
    with pytest.raises(DesignError, match="one value per school"):
        mlm.sem(text + "; y ~ z", data, cluster=CLUSTER)
    with pytest.raises(DesignError, match="hold two units of cls"):
        mlm.sem(text, data.assign(school=data["cls"]), cluster=CLUSTER)
