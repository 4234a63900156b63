"""Zero variances and correlations of one, whatever is fixed, shared or regressed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.design.structural import build_structural_design
from multilevel.errors import EstimationError, InferenceError
from multilevel.estimate.structural import prepare_structural
from multilevel.estimate.structural_boundary import fit_within_bounds
from multilevel.estimate.structural_cone import cone_blocks
from multilevel.estimate.structural_cone_fit import fit_in_cone
from multilevel.estimate.structural_start import start_values
from multilevel.model.structural.build import build_structural
from multilevel.model.structural.parse import parse_structural
from multilevel.tables.table import as_table

SLOPE = "level: 1\ns | y ~ x\nlevel: 2\ny ~ w\ns ~ 1"


def _slopes(seed: int, tau: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(40), 8)
    x, w, u = rng.normal(size=320), rng.normal(size=40), rng.normal(size=40)
    slope = 0.5 + tau * (0.9 * u + 0.44 * rng.normal(size=40))
    y = 1.0 + slope[g] * x + 0.3 * w[g] + u[g] + rng.normal(size=320)
    return pd.DataFrame({"g": g, "x": x, "v": np.sin(np.arange(320)), "w": w[g], "y": y})


def _problem(text: str, data: pd.DataFrame):
    model = build_structural(parse_structural(text, "g"), cluster="g", groups=("",), fixed=())
    return prepare_structural(build_structural_design(model, as_table(data)))


@pytest.mark.parametrize(("seed", "tau"), [(0, 0.0), (6, 0.2), (7, 0.0), (4, 0.5)])
def test_the_same_optimum_as_with_square_roots(seed, tau):
    problem = _problem(SLOPE, _slopes(seed, tau))
    root, cone = fit_within_bounds(problem), fit_in_cone(problem)
    assert cone.certificate.status == root.certificate.status
    assert cone.criterion == pytest.approx(root.criterion, abs=1e-8)
    np.testing.assert_allclose(cone.theta, root.theta, atol=1e-5)
    if cone.boundary is None:
        return
    covariances = []
    for fit in (root, cone):
        T = fit.boundary.tangent
        covariances.append(2.0 * T @ np.linalg.solve(fit.boundary.hessian, T.T))
    np.testing.assert_allclose(covariances[1], covariances[0], atol=1e-5)
    assert cone.boundary.sentences == root.boundary.sentences


def _heywood() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    f = rng.normal(size=200)
    out = {"y1": f + 0.1 * rng.normal(size=200)}
    out |= {f"y{k}": 0.6 * f + 0.7 * rng.normal(size=200) for k in (2, 3, 4)}
    return pd.DataFrame(out)


def test_a_heywood_case_is_the_model_with_that_variance_fixed_at_zero():
    text, data = "f =~ y2 + y1 + y3 + y4", _heywood()
    free = mlm.sem(text, data, allow=["inadmissible"])
    assert "y1 ~~ y1" in free.inadmissible[0]
    held, fixed = mlm.sem(text, data), mlm.sem(text + "\ny1 ~~ 0*y1", data)
    assert free.minus2_loglik < held.minus2_loglik
    assert held.minus2_loglik == pytest.approx(fixed.minus2_loglik, abs=1e-8)
    assert held.certificate.boundary_residual > 0.0
    one, two = held.parameters(), fixed.parameters()
    both = one.merge(two, on=["lhs", "op", "rhs"])
    np.testing.assert_allclose(both["estimate_x"], both["estimate_y"], atol=1e-6)
    np.testing.assert_allclose(both["std_error_x"], both["std_error_y"], rtol=1e-5)
    assert one.set_index(["lhs", "op", "rhs"]).loc[("y1", "~~", "y1"), "status"] == "boundary"
    assert "The residual variance of y1 is estimated as zero" in held.boundary[0]
    assert "y1 ~~ 0*y1 has the same likelihood" in held.boundary[0]
    # the p of 2 and of 3 degrees of freedom, between which it lies
    assert held.fit_measures.model.df == 2
    assert "(3 df)" in held.fit_measures.sentence
    assert held.fit_measures.sentence.count("p ") >= 2
    assert np.isnan(held.fit_measures.model.scaling)
    assert len(held.modification_indices())
    np.testing.assert_allclose(
        held.modification_indices().query("op == '~~' and lhs == 'y3'")["index"],
        fixed.modification_indices().query("op == '~~' and lhs == 'y3'")["index"], rtol=1e-4,
    )  # fmt: skip
    robust = held.parameters(std_errors="robust").query("status == 'free'")["std_error"]
    assert (robust > 0.0).all()


def test_no_feasible_neighbour_is_better():
    """Fixed and shared covariances: the criterion of random points inside is never lower."""
    text = "level: 1\ns | y ~ x\nr | y ~ v\nlevel: 2\ny ~ w\ns ~~ 0*r\nr ~ 1\ns ~~ k*y\nr ~~ k*y"
    data = _slopes(0)
    held = mlm.sem(text, data, cluster="g")
    assert held.certificate.status == "singular"
    assert not held.inadmissible
    objective = held.problem.objective(held.fit.model)
    start = start_values(held.fit.model, list(held.problem.moments))
    blocks = cone_blocks(held.problem, objective, start)
    rng, n_inside = np.random.default_rng(1), 0
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(400):
            theta = held.fit.theta + size * rng.normal(size=len(held.fit.theta))
            # add to the variances what the move lacks
            for block in blocks:
                least = np.linalg.eigvalsh(block.matrix(theta))[0]
                for k, p in enumerate(np.diag(block.place)):
                    theta[p] += max(-least, 0.0) * 1.001 * block.unit[k] ** 2
            if all(np.linalg.eigvalsh(b.matrix(theta))[0] >= 0.0 for b in blocks):
                n_inside += 1
                assert objective.value(theta) > held.minus2_loglik - 1e-7
    assert n_inside > 1000


def test_shared_variances_of_groups():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(60), 4)
    e = rng.normal(size=(60, 4))
    y = (e - 1.2 * e.mean(axis=1, keepdims=True)).ravel()
    data = pd.DataFrame({"y": y, "g": g, "odd": g % 2})
    text = "level: 1\ny ~~ y\nlevel: 2\ny ~~ v*y"
    held = mlm.sem(text, data, cluster="g", group="odd")
    table = held.parameters().query("level == 'between' and op == '~~'")
    assert (table["estimate"] == 0.0).all()
    assert "in group 0" in held.boundary[0]
    fixed = mlm.sem(text.replace("v*y", "0*y"), data, cluster="g", group="odd")
    assert held.minus2_loglik == pytest.approx(fixed.minus2_loglik, abs=1e-8)


def _few_schools() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(48), 10)
    school = row // 4
    us, uc, e = rng.normal(size=12), rng.normal(size=(48, 3)), rng.normal(size=(480, 3))
    x = 0.5 * us[school] + 0.5 * uc[row, 0] + e[:, 0]
    m = 0.4 * x + 0.5 * us[school] + 0.5 * uc[row, 1] + e[:, 1]
    y = 0.4 * m + 0.5 * us[school] + 0.5 * uc[row, 2] + e[:, 2]
    return pd.DataFrame({"school": school, "class": row % 4, "x": x, "m": m, "y": y})


def test_few_schools_whose_parts_determine_each_other():
    """One common cause of all three between schools: slopes there cannot be told apart."""
    found = mlm.mediate(x="x", m="m", y="y", data=_few_schools(), cluster="school/class")
    assert found.model.certificate.status == "singular"
    assert found.model.certificate.iterations < 60
    words = " ".join(found.model.boundary)
    assert "The residual variance of m at the school level is estimated as zero" in words
    assert "do not determine" in words
    assert "y ~ m (school), y ~ x (school)" in words
    effects = found.effects().set_index(["effect", "level"])
    assert np.isnan(effects.loc[("indirect", "school"), "std_error"])
    assert np.isnan(effects.loc[("indirect", "school"), "conf_low"])
    assert effects.loc[("total", "school"), "std_error"] > 0.0  # the sum is determined
    assert effects.loc[("indirect", "class"), "std_error"] > 0.0
    assert "the data do not tell whether" in found.sentences[2]
    assert "nan" not in str(found)


def test_what_cannot_be_a_covariance_matrix():
    with pytest.raises(EstimationError, match=r"free the variance of y, or fix"):
        fit_in_cone(_problem("level: 1\ny ~~ 0*y\ny ~~ v\nlevel: 2\ny ~~ y", _slopes(0)))
    held = mlm.sem("f =~ y2 + y1 + y3 + y4\nk := f1\ny2 ~~ f1*y2", _heywood())
    with pytest.raises(InferenceError, match="both ways"):
        held.defined(interval="profile")
