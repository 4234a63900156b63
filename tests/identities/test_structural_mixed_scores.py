"""Scores of structural models with families against the engine of Gaussian models and sums."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import multilevel as mlm
from multilevel.api.structural_mixed import MixedStructuralResult
from multilevel.errors import InferenceError, ModelError
from multilevel.estimate.structural_mixed import fit_mixed
from multilevel.interpret.structural_mixed_scores import mixed_scores, score_levels
from tests.identities.test_structural_mixed_slopes import design_of, sloped

GAUSSIAN = """
level: within
  s | y ~ x
  m ~ x
level: between
  m ~ z
  y ~ z
  s ~ z
  m ~~ y
  m ~~ s
"""


def test_gaussian_scores_of_clusters_are_those_of_the_structural_engine():
    data = sloped().copy()
    data.loc[::7, "y"] = np.nan
    exact = mlm.sem(GAUSSIAN, data, cluster="g").factor_scores("between")
    found = fit_mixed(design_of(GAUSSIAN, data, ["g"]))
    assert score_levels(found) == ("between",)
    for column in mixed_scores(found, ("between",)):
        own = exact[exact["variable"] == column.variable]
        assert column.kind == own["kind"].iloc[0]
        assert column.estimate == pytest.approx(own["estimate"].to_numpy(), abs=1e-3)
        assert column.std_error == pytest.approx(own["std_error"].to_numpy(), abs=1e-3)
        assert column.reliability == pytest.approx(own["reliability"].to_numpy(), abs=2e-3)


def test_gaussian_scores_of_rows_are_those_of_the_structural_engine():
    rng = np.random.default_rng(5)
    x = rng.normal(size=120)
    f = 0.4 * x + rng.normal(size=120)
    data = pd.DataFrame({"x": x} | {f"y{k}": f * (1 + 0.2 * k) + rng.normal(size=120)
                                    for k in range(4)})  # fmt: skip
    data.loc[::7, "y2"] = np.nan
    text = "f =~ y0 + y1 + y2 + y3\n f ~ x"
    exact = mlm.sem(text, data).factor_scores("within")
    column = mixed_scores(fit_mixed(design_of(text, data, [])), ("within",))[0]
    assert column.estimate == pytest.approx(exact["estimate"].to_numpy(), abs=1e-4)
    assert column.std_error == pytest.approx(exact["std_error"].to_numpy(), abs=1e-4)


def items() -> tuple[pd.DataFrame, MixedStructuralResult]:
    rng = np.random.default_rng(9)
    f = rng.normal(size=400)
    noise = rng.logistic(size=(4, 400))
    data = pd.DataFrame({f"q{k}": (1.2 * f + 0.3 * k + noise[k] > 0).astype(float)
                         for k in range(4)})  # fmt: skip
    families = dict.fromkeys(data.columns, "binomial")
    text = "f =~ q0 + q1 + q2 + q3"
    return data, mlm.sem(text, data, families=families, latent_scale="variance", n_quad=25)


def test_scores_of_binary_items_are_posterior_means():
    data, found = items()
    scores = found.factor_scores("within")
    table = found.parameters()
    loading = table.query("op == '=~'")["estimate"].to_numpy()
    intercept = table.query("op == '~1' and lhs != 'f'")["estimate"].to_numpy()
    grid = np.linspace(-8.0, 8.0, 801)
    prior = stats.norm.logpdf(grid)
    for row in (0, 17, 111):
        signs = 2.0 * data.iloc[row].to_numpy() - 1.0
        eta = intercept[:, None] + loading[:, None] * grid
        weight = np.exp(prior + special.log_expit(signs[:, None] * eta).sum(axis=0))
        weight /= weight.sum()
        mean = float(weight @ grid)
        assert scores["estimate"][row] == pytest.approx(mean, abs=1e-5)
        sd = float(np.sqrt(weight @ (grid - mean) ** 2))
        assert scores["std_error"][row] == pytest.approx(sd, abs=1e-5)
    assert scores["row"].tolist() == list(range(400))
    assert found.score_reliability("within")["reliability"].iloc[0] == pytest.approx(
        1.0 - np.mean(scores["std_error"] ** 2), abs=1e-6
    )


def test_between_parts_are_those_of_the_generalized_model():
    text = "level: within\n s | b ~ x\nlevel: between\n b ~ z\n s ~~ b"
    found = mlm.sem(text, sloped(), cluster="g", families={"b": "binomial"}, n_quad=1)
    one = mlm.fit("b ~ x + z + (x | g)", sloped(), family="binomial", n_quad=1)
    effects = one.random_effects().query("term == 'x'")
    scores = found.factor_scores("between").query("variable == 's'")
    expected = effects["estimate"].to_numpy() + one.fixed_effects["x"]
    assert scores["estimate"].to_numpy() == pytest.approx(expected, abs=1e-3)
    assert "mode" in found.factor_scores("between").attrs["sentence"]


def test_what_cannot_be_scored_is_refused():
    _, found = items()
    with pytest.raises(ModelError, match="regression"):
        found.factor_scores(method="bartlett")
    with pytest.raises(ModelError, match="level is one of"):
        found.factor_scores("between")
    text = "level: within\n b ~ x\nlevel: between\n b ~ z"
    other = mlm.sem(text, sloped(), cluster="g", families={"b": "binomial"}, n_quad=1)
    with pytest.raises(InferenceError, match="none at the level within"):
        other.factor_scores("within")
