"""Random slopes in structural models: equal to mixed models; what is refused, what is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import DesignError, InferenceError, ModelError

CHAIN = """
level: within
  a_j | m ~ x
  b_j | y ~ m
  y ~ c*x
level: between
  m ~~ y
  a_j ~ a*1
  b_j ~ b*1
  a_j ~~ tau*b_j
  indirect := a * b + tau
"""


@pytest.fixture(scope="module")
def chain():
    """100 clusters of 20: m on x with slopes .5 + a_j, y on m with slopes .4 + b_j."""
    rng = np.random.default_rng(5)
    J, n = 100, 20
    g = np.repeat(np.arange(J), n)
    G = np.array(
        [[0.5, 0.1, 0.05, 0.05], [0.1, 0.4, 0.05, 0.0], [0.05, 0.05, 0.15, 0.08],
         [0.05, 0.0, 0.08, 0.12]])  # fmt: skip
    u = rng.multivariate_normal(np.zeros(4), G, J)
    x = rng.normal(size=J * n) + 0.7 * rng.normal(size=J)[g]
    m = 1.0 + u[g, 0] + (0.5 + u[g, 2]) * x + rng.normal(size=J * n)
    y = 2.0 + u[g, 1] + (0.4 + u[g, 3]) * m + 0.3 * x + 1.2 * rng.normal(size=J * n)
    w = (u[:, 0] + rng.normal(size=J))[g]
    return pd.DataFrame({"g": g, "x": x, "m": m, "y": y, "w": w})


def stacked(data, x="x"):
    """Both outcomes as rows of one table."""
    zero, one = np.zeros(len(data)), np.ones(len(data))
    top = data.assign(out=data["m"], dm=one, dy=zero, x_m=data[x], m_y=zero, x_y=zero, part="m")
    low = data.assign(out=data["y"], dm=zero, dy=one, x_m=zero, m_y=data["m"], x_y=data[x])
    return pd.concat([top, low.assign(part="y")], ignore_index=True)


def by_label(result):
    table = result.parameters()
    return table[table["label"] != ""].set_index("label")["estimate"]


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_chain_of_random_slopes_is_the_stacked_mixed_model(chain, share):
    data = chain.copy()
    data.loc[np.random.default_rng(1).random(len(data)) < share, "y"] = np.nan
    path = mlm.sem(CHAIN, data, cluster="g")
    formula = "out ~ 0 + dm + x_m + dy + m_y + x_y + (0 + dm + dy + x_m + m_y | g)"
    mixed = mlm.fit(formula, stacked(data).dropna(subset=["out"]), method="ml", scale="~ part")
    assert path.minus2_loglik == pytest.approx(mixed.fit.criterion, rel=1e-11)
    found, fixed = by_label(path), mixed.fixed_effects
    for label, term in (("a", "x_m"), ("b", "m_y"), ("c", "x_y")):
        assert found[label] == pytest.approx(fixed[term], rel=1e-5)
    G = mixed.fit.random_covariance[0]
    assert found["tau"] == pytest.approx(G[2, 3], rel=1e-4)
    table = path.parameters().set_index(["level", "lhs", "op", "rhs"])["estimate"]
    assert table["between", "b_j", "~~", "b_j"] == pytest.approx(G[3, 3], rel=1e-4)
    assert table["between", "m", "~~", "y"] == pytest.approx(G[0, 1], rel=1e-3)
    defined = path.defined()["estimate"].item()
    assert defined == pytest.approx(fixed["x_m"] * fixed["m_y"] + G[2, 3], rel=1e-4)


def test_one_equation_is_the_random_slope_model(chain):
    text = "level: 1\ns | y ~ x\ny ~ m\nlevel: 2\ny ~ w\ns ~ w"
    path = mlm.sem(text, chain, cluster="g", exogenous="fixed")
    mixed = mlm.fit("y ~ x * w + m + (x | g)", chain, method="ml")
    assert path.minus2_loglik == pytest.approx(mixed.fit.criterion, rel=1e-11)
    table = path.parameters().set_index(["level", "lhs", "op", "rhs"])
    fixed = mixed.fixed_effects
    assert table.loc[("between", "s", "~", "w"), "estimate"] == pytest.approx(
        fixed["x:w"], rel=1e-4
    )
    assert table.loc[("between", "s", "~1", ""), "estimate"] == pytest.approx(fixed["x"], rel=1e-4)
    # the fixed effects' errors condition on the variances in one, not in the other
    errors = mixed.coefficients().set_index("term")["std_error"]
    ours = table.loc[("between", "s", "~", "w"), "std_error"]
    assert ours == pytest.approx(errors["x:w"], rel=0.03)
    robust = path.parameters(std_errors="robust").set_index(["level", "lhs", "op", "rhs"])
    assert robust.loc[("between", "s", "~", "w"), "std_error"] == pytest.approx(ours, rel=0.3)


def test_slope_of_a_predictor_on_both_levels_is_contextual(chain):
    text = "level: 1\ns | y ~ m\nlevel: 2\ny ~ m"
    path = mlm.sem(text, chain, cluster="g")
    assert path.certificate.is_certified
    slope = path.level_two_slopes().iloc[0]
    assert slope["kind"] == "contextual"
    table = path.parameters().set_index(["level", "lhs", "op", "rhs"])["estimate"]
    assert slope["within"] == table["between", "s", "~1", ""]
    assert slope["between"] == pytest.approx(slope["within"] + table["between", "y", "~", "m"])
    assert "stands as observed in the product" in slope["sentence"]
    assert "Random slope s: y on the observed m" in str(path)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_slopes_that_do_not_vary_end_at_the_boundary(chain, seed):
    rng = np.random.default_rng(seed)
    data = chain.assign(y=0.5 * chain["x"] + rng.normal(size=len(chain)))
    text = "level: 1\ns | y ~ x\nlevel: 2\ny ~~ y"
    held = mlm.sem(text, data, cluster="g")
    assert held.certificate.status == "singular"
    assert str(held).splitlines()[2] == "AT THE BOUNDARY"
    mixed = mlm.fit("y ~ x + (x | g)", data, method="ml")
    assert held.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-6)
    if seed != 3:  # there the criterion falls towards the edge of its domain
        path = mlm.sem(text, data, cluster="g", allow=["inadmissible"])
        assert str(path).splitlines()[2] == "INADMISSIBLE SOLUTION"


@pytest.mark.parametrize(
    ("within", "between", "words"),
    [
        ("s | y ~ x\ny ~ x", "y ~~ y", "A slope is random or fixed"),
        ("s | y ~ x\ns | m ~ x", "y ~~ y\nm ~~ m", "s twice"),
        ("s | y ~ m\nm ~ y", "y ~~ y", "a loop through s"),
        ("f =~ y + m\ns | f ~ x", "y ~~ y", "where f is latent"),
        ("s | y ~ x\ns ~~ x", "y ~~ y", "another kind"),
        ("s | y ~ y", "y ~~ y", "on itself"),
    ],
)
def test_slopes_without_meaning(chain, within, between, words):
    with pytest.raises(ModelError, match=words):
        mlm.sem(f"level: 1\n{within}\nlevel: 2\n{between}", chain, cluster="g")


def test_slopes_that_data_cannot_show(chain):
    text = "level: 1\ns | y ~ w\nlevel: 2\ny ~~ y"
    with pytest.raises(DesignError, match="one value in every cluster"):
        mlm.sem(text, chain, cluster="g")
    pairs = chain.groupby("g").head(2)
    with pytest.raises(DesignError, match="three rows or more"):
        mlm.sem("level: 1\ns | y ~ x\nlevel: 2\ny ~~ y", pairs, cluster="g")
    with pytest.raises(ModelError, match="between level"):
        mlm.sem("level: 1\ns | y ~ x\ny ~~ m", chain, cluster="g")


def test_hessian_that_is_kept_is_the_hessian(chain):
    path = mlm.sem(CHAIN, chain, cluster="g")
    exact = path.problem.objective(path.fit.model).hessian(path.fit.theta)
    size = np.sqrt(np.diag(exact))
    kept = path.fit.known_hessian / np.outer(size, size)
    assert kept == pytest.approx(exact / np.outer(size, size), abs=1e-9)


def test_what_random_slopes_do_not_have(chain):
    path = mlm.sem(CHAIN, chain, cluster="g")
    with pytest.raises(ModelError, match="observed or robust"):
        mlm.sem(CHAIN, chain, cluster="g", std_errors="expected")
    with pytest.raises(InferenceError, match="expected information"):
        path.vcov(std_errors="expected")
    with pytest.raises(ModelError, match="one variance per variable"):
        path.standardized()
    assert np.isnan(path.fit_measures.cfi)
    assert path.fit_measures.aic == pytest.approx(path.minus2_loglik + 2 * path.fit.n_parameters)
    assert "no saturated model" in path.fit_measures.sentence
    assert set(path.r_squared()["level"]) <= {"between"}


def test_mediation_with_random_slopes(chain):
    found = mlm.mediate(x="x", m="m", y="y", data=chain, cluster="g", slopes="random", n_draws=4000)
    mean = chain.groupby("g")["x"].transform("mean")
    split = chain.assign(dev=chain["x"] - mean, mean=mean)
    long = stacked(split, "dev").assign(mean_m=lambda d: d["mean"] * d["dm"])
    long["mean_y"] = long["mean"] * long["dy"]
    mixed = mlm.fit(
        "out ~ 0 + dm + x_m + mean_m + dy + m_y + x_y + mean_y + (0 + dm + dy + x_m + m_y | g)",
        long, method="ml", scale="~ part",
    )  # fmt: skip
    assert found.model.minus2_loglik == pytest.approx(mixed.fit.criterion, rel=1e-11)
    fixed, G = mixed.fixed_effects, mixed.fit.random_covariance[0]
    effects = found.effects().set_index(["effect", "level"])["estimate"]
    within = fixed["x_m"] * fixed["m_y"] + G[2, 3]
    assert effects["indirect", "within"] == pytest.approx(within, rel=1e-4)
    assert effects["total", "within"] == pytest.approx(within + fixed["x_y"], rel=1e-4)
    # regression of the intercept of y on that of m, from their covariance
    context = G[0, 1] / G[0, 0]
    b = fixed["m_y"] + context
    assert effects["b", "contextual"] == pytest.approx(context, rel=1e-3)
    assert effects["indirect", "between"] == pytest.approx(fixed["mean_m"] * b, rel=1e-3)
    text = " ".join(str(found).split())
    assert "their covariance" in text
    assert "is contextual, because the observed m stands in the product" in text


def test_mediation_whose_slopes_do_not_vary(chain):
    rng = np.random.default_rng(0)
    own = {"x": "x", "m": "m", "y": "y", "cluster": "g", "slopes": "random", "n_draws": 500}
    data = chain.assign(y=0.5 * chain["m"] + rng.normal(size=len(chain)))
    # y on m at level 2 stands in the place of a covariance: the bound is kept all the same
    held = mlm.mediate(data=data, **own)
    assert held.model.certificate.status == "singular"
    assert not held.model.inadmissible
    assert "AT THE BOUNDARY" in str(held)
    assert "b_random" in " ".join(held.model.boundary)
    found = mlm.mediate(data=data, allow=["inadmissible"], **own)
    assert found.model.inadmissible
    assert found.model.minus2_loglik < held.model.minus2_loglik


def test_designs_with_random_slopes(chain):
    two = mlm.mediate(x="w", m="m", y="y", data=chain, cluster="g", slopes="random", n_draws=500)
    assert (two.design, two.plan.random) == ("2-1-1", ("b",))
    label = by_label(two.model)
    effects = two.effects().set_index(["effect", "level"])["estimate"]
    expected = label["a_between"] * (label["b_within"] + label["context_b"])
    assert effects["indirect", "between"] == pytest.approx(expected)
    with pytest.raises(ModelError, match='write slopes="fixed"'):
        mlm.mediate(x="x", m="w", y="y", data=chain, cluster="g", slopes="random")
    with pytest.raises(ModelError, match="slopes is one of"):
        mlm.mediate(x="x", m="m", y="y", data=chain, cluster="g", slopes="both")
