"""Bootstraps and robust errors with structured residuals: dense matrices, fits by hand."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.infer.residual_bootstrap import _Clusters
from multilevel.infer.residual_draws import draw_structured
from tests.support.residual import repeated_measures, residual_matrix


@pytest.fixture(scope="module")
def frame():
    return repeated_measures(11, n_ids=40)


@pytest.fixture(scope="module")
def m(frame):
    return mlm.fit("y ~ time + x + (1 | id)", frame, residual="ar1(time | id)", scale="~ x")


def sandwich(m, frame, codes):
    """CR0 from the dense covariance of all rows."""
    values = m.residual_parameters().set_index("term")["estimate"].to_dict()
    V = m.residual_variance * residual_matrix("ar1", values, frame, None, ["x"])
    ids = frame["id"].to_numpy()
    if m.design.blocks:
        V = V + m.random_covariance["id"].iloc[0, 0] * (ids[:, None] == ids[None])
    X, inverse = m.design.X, np.linalg.inv(V)
    e = m.design.y - X @ m.fixed_effects.to_numpy()
    M = np.linalg.inv(X.T @ inverse @ X)
    scores = [X[codes == c].T @ (inverse @ e)[codes == c] for c in np.unique(codes)]
    return M @ sum(np.outer(s, s) for s in scores) @ M


def test_robust_covariance_is_the_dense_sandwich(m, frame):
    ids = frame["id"].to_numpy()
    J, n = len(np.unique(ids)), len(ids)
    dense = sandwich(m, frame, ids)
    np.testing.assert_allclose(m.vcov_robust("CR0"), dense, rtol=1e-6)
    np.testing.assert_allclose(m.vcov_robust(), dense * J / (J - 1), rtol=1e-6)
    stata = dense * J * (n - 1) / ((J - 1) * (n - 3))
    np.testing.assert_allclose(m.vcov_robust("CR1S"), stata, rtol=1e-6)
    site = frame["site"].to_numpy()
    np.testing.assert_allclose(
        m.vcov_robust("CR0", cluster=site), sandwich(m, frame, site), rtol=1e-6
    )
    table = m.robust()
    assert (table["df"] == J - 1).all()
    np.testing.assert_allclose(table["std_error"] ** 2, np.diag(dense) * J / (J - 1), rtol=1e-6)


def test_robust_without_random_effects_uses_the_residual_unit(frame):
    alone = mlm.fit("y ~ time + x", frame, residual="ar1(time | id)", scale="~ x")
    dense = sandwich(alone, frame, frame["id"].to_numpy())
    np.testing.assert_allclose(alone.vcov_robust("CR0"), dense, rtol=1e-6)
    with pytest.raises(InferenceError, match="correlates"):
        alone.vcov_robust(cluster=frame["arm"] + frame["time"].astype(str))
    with pytest.raises(InferenceError, match="CR1S"):
        alone.vcov_robust("CR2")


def test_robust_of_independent_residuals_is_that_of_the_plain_fit(frame):
    plain = mlm.fit("y ~ time + x + (1 | id)", frame, weights="w")
    ind = mlm.fit("y ~ time + x + (1 | id)", frame, weights="w", residual="ind")
    for kind in ("CR0", "CR1", "CR1S"):
        np.testing.assert_allclose(ind.vcov_robust(kind), plain.vcov_robust(kind), rtol=1e-5)


def test_a_parametric_replicate_is_a_refit_to_its_draw(m):
    table = m.bootstrap(2, seed=9)
    whitener = m._joint_objective().whitener
    for k, child in enumerate(np.random.SeedSequence(9).spawn(2)):
        y = draw_structured(m.design, m.fit, whitener, np.random.default_rng(child))
        again = m.refit(y)
        assert table["criterion"][k] == pytest.approx(again.reml_criterion, abs=1e-6)
        assert table["rho"][k] == pytest.approx(
            again.residual_parameters()["estimate"][1], abs=1e-5
        )
        assert table["sd(Residual)"][k] ** 2 == pytest.approx(again.residual_variance, rel=1e-5)


@pytest.mark.parametrize(
    ("formula", "residual"),
    [
        ("y ~ time + x + (1 | id)", "ar1(time | id)"),
        ("y ~ time + x", "un(time | id)"),
        ("y ~ time + x + (1 | site)", "arh1(time | id, by=arm)"),
    ],
)
def test_drawn_clusters_are_the_data_of_the_drawn_rows(frame, formula, residual):
    m = mlm.fit(formula, frame, residual=residual, weights="w", allow=("not_certified",))
    drawn = _Clusters.of(m._structured).draw(np.random.default_rng(4))
    rows = drawn.rows.kept
    data = frame.iloc[rows].reset_index(drop=True)
    data["id"] = drawn.residual.codes
    if drawn.blocks:
        data[drawn.blocks[0].group] = drawn.blocks[0].codes
    assert len(np.unique(rows)) < len(rows)
    direct = mlm.fit(formula, data, residual=residual, weights="w", allow=("not_certified",))
    psi = np.concatenate([m.fit.theta, m.fit.residual.phi])
    from multilevel.estimate.structured import prepare_structured

    one = prepare_structured(drawn, method="reml").objective()
    two = direct._structured.objective()
    assert one.value(psi) == pytest.approx(two.value(psi), rel=1e-9)


def test_bootstrap_intervals_are_quantiles_of_the_replicates(m):
    table = m.bootstrap(24, seed=3, kind="cluster")
    used = table[table["status"].isin(["ok", "singular"])]
    found = m.confint("bootstrap", n_boot=24, seed=3, kind="cluster", conf_level=0.9)
    found = found.set_index("term")
    for term, column in (("x", "x"), ("rho", "rho"), ("(Intercept) | id", "sd((Intercept) | id)")):
        low, high = np.quantile(used[column], [0.05, 0.95])
        assert found.loc[term, "conf_low"] == pytest.approx(low)
        assert found.loc[term, "conf_high"] == pytest.approx(high)
        assert found.loc[term, "std_error"] == pytest.approx(used[column].std())
    assert found.loc["rho", "component"] == "residual"
    assert "whole clusters" in table.attrs["sentence"]


def test_the_spread_of_replicates_is_the_standard_error():
    data = repeated_measures(5, n_ids=120)
    m = mlm.fit("y ~ time + x", data, residual="ar1(time | id)")
    drawn = m.bootstrap(150, seed=1)
    assert (drawn["status"] == "ok").all()
    for term in ("x", "time"):
        error = m.coefficients().set_index("term").loc[term, "std_error"]
        assert drawn[term].std() == pytest.approx(error, rel=0.2)
    rho = m.residual_parameters().iloc[0]
    assert drawn["rho"].std() == pytest.approx(rho["std_error"], rel=0.2)
    assert drawn["rho"].mean() == pytest.approx(rho["estimate"], abs=0.03)


def test_what_cannot_be_drawn_is_refused(m):
    with pytest.raises(InferenceError, match="'parametric' or 'cluster'"):
        m.bootstrap(5, kind="residual")
    with pytest.raises(InferenceError, match="at least one"):
        m.bootstrap(0)
    with pytest.raises(InferenceError, match="df"):
        m.confint("bootstrap", df="none")
