"""Bootstraps of generalized fits, refits and updates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.unit.infer.generalized.data import fit, table


def test_a_parametric_bootstrap_agrees_with_wald_on_an_easy_case():
    m = fit("spread ~ x + (1 | g)", "poisson")
    drawn = m.bootstrap(150, seed=4)
    assert (drawn.status == "ok").all()
    wald = m.coefficients().set_index("term")
    for name in ("(Intercept)", "x"):
        sd, error = drawn[name].std(), wald.std_error[name]
        assert abs(drawn[name].mean() - wald.estimate[name]) < 4 * error / np.sqrt(150)
        assert abs(np.log(sd / error)) < 4 / np.sqrt(2 * 150)


def test_numbers_depend_on_the_seed_only():
    m = fit("count ~ x + (1 | g)", "poisson")
    one = m.bootstrap(6, seed=8)
    told: list[tuple[int, int]] = []
    two = m.bootstrap(6, seed=8, workers=2, progress=lambda a, b: told.append((a, b)))
    pd.testing.assert_frame_equal(one, two)
    assert told == [(k, 6) for k in range(1, 7)]
    pd.testing.assert_frame_equal(m.bootstrap(3, seed=8), one.iloc[:3])
    assert not np.allclose(m.bootstrap(3, seed=9)["x"], one["x"][:3])


def test_a_replicate_is_a_refit_to_simulated_data():
    m = fit("count ~ x + (x | g)", "poisson")
    seed = np.random.SeedSequence(5).spawn(1)[0]
    y = m.simulate(1, np.random.default_rng(seed))[:, 0]
    again = mlm.fit("y ~ x + (x | g)", {**table(), "y": y}, family="poisson", n_quad=1)
    row = m.bootstrap(1, seed=5).iloc[0]
    assert row.criterion == pytest.approx(again.minus2_loglik, abs=1e-6)
    assert row["x"] == pytest.approx(again.fixed_effects["x"], abs=1e-4)
    assert row["cor((Intercept), x | g)"] == pytest.approx(
        again.confint(components=["correlation"]).estimate[0], abs=1e-3
    )
    refitted = m.refit(y)
    assert refitted.minus2_loglik == pytest.approx(again.minus2_loglik, abs=1e-6)
    assert refitted.certificate.is_certified


def test_a_cluster_bootstrap_draws_whole_clusters():
    m = fit("binary ~ x + w + (1 | g)", "binomial")
    drawn = m.bootstrap(60, seed=2, kind="cluster")
    assert (drawn.status.isin(["ok", "singular"])).mean() > 0.9
    robust = m.robust("CR1").set_index("term").std_error["x"]
    assert abs(np.log(drawn["x"].std() / robust)) < 0.5
    with pytest.raises(InferenceError, match="nested"):
        fit("binary ~ x + (1 | g) + (1 | h)", "binomial").bootstrap(2, kind="cluster")


def test_nested_levels_stay_in_their_clusters():
    data = {**table(), "room": np.arange(240) // 4}
    m = mlm.fit("count ~ x + (1 | g / room)", data, family="poisson", n_quad=1, accuracy="none")
    from multilevel.infer.generalized.bootstrap import redrawn_clusters

    prepared, modes = redrawn_clusters(m._prepared, m.fit, np.random.default_rng(1))
    fine, coarse = prepared.design.blocks
    assert (fine.n_levels, coarse.n_levels) == (60, 30)
    assert [len(u) for u in modes] == [60, 30]
    home = np.full(60, -1)
    home[fine.codes] = coarse.codes
    assert np.array_equal(home[fine.codes], coarse.codes)
    assert len(prepared.design.response.y) == len(prepared.design.parts[0].X) == 240


def test_failures_are_rows_with_a_status_and_bad_requests_are_refused():
    rng = np.random.default_rng(0)
    rare = {"g": np.repeat(np.arange(8), 5), "x": rng.normal(size=40), "y": np.zeros(40)}
    rare["y"][[3, 17, 22]] = 1.0
    m = mlm.fit("y ~ x + (1 | g)", rare, family="binomial", n_quad=1, accuracy="none")
    drawn = m.bootstrap(25, seed=1)
    bad = ~drawn.status.isin(["ok", "singular", "not_certified"])
    assert drawn.loc[bad, "x"].isna().all()
    assert drawn.attrs["sentence"].startswith("25 refits")
    with pytest.raises(InferenceError, match="one of parametric, cluster"):
        m.bootstrap(5, kind="residual")
    with pytest.raises(InferenceError, match="at least one"):
        m.bootstrap(0)
    with pytest.raises(InferenceError, match="at least 20"):
        m.confint("bootstrap", n_boot=5)
    weighted = mlm.fit("count ~ x + (1 | g)", {**table(), "k": np.full(240, 2.0)},
                       family="poisson", frequency_weights="k", n_quad=1)  # fmt: skip
    with pytest.raises(InferenceError, match="frequency weights"):
        weighted.bootstrap(2)


def test_bootstrap_intervals_are_quantiles_of_the_replicates():
    m = fit("count ~ x + (1 | g)", "poisson")
    drawn = m.bootstrap(40, seed=3)
    found = m.confint("bootstrap", n_boot=40, seed=3, exponentiate=True).set_index("term")
    low, high = np.quantile(drawn["x"], [0.025, 0.975])
    assert found.conf_low["x"] == pytest.approx(np.exp(low))
    assert found.conf_high["x"] == pytest.approx(np.exp(high))


def test_update_changes_the_approximation_and_refit_checks_its_values():
    m = fit("binary ~ x + (1 | g)", "binomial")
    other = m.update(n_quad=9)
    same = fit("binary ~ x + (1 | g)", "binomial", 9)
    assert other.minus2_loglik == pytest.approx(same.minus2_loglik, abs=1e-7)
    assert m.update(n_quad=1, penalty="slopes").fit.penalty
    assert not m.update(n_quad=1, penalty="slopes").update(n_quad=1, penalty=()).fit.penalty
    y = table()["binary"].copy()
    y[4] = 2.0
    with pytest.raises(InferenceError, match="analysed row 4"):
        m.refit(y)
    with pytest.raises(InferenceError, match="one value per analysed row"):
        m.refit([1.0, 0.0])
