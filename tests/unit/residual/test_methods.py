"""What a fit with structured residuals answers, against dense matrices; what it refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import multilevel as mlm
from multilevel.api.result import MultilevelFit
from multilevel.api.structured import INHERITED, StructuredFit
from multilevel.errors import InferenceError, ModelError
from tests.support.residual import dense_criterion, repeated_measures, residual_matrix

FORMULA = "y ~ time + x + (1 + x | id)"


@pytest.fixture(scope="module")
def frame():
    return repeated_measures(11, n_ids=40)


@pytest.fixture(scope="module")
def m(frame):
    return mlm.fit(FORMULA, frame, residual="ar1(time | id)", scale="~ x", weights="w")


@pytest.fixture(scope="module")
def dense(m, frame):
    """R and V, absolute, in the order of the table."""
    values = m.residual_parameters().set_index("term")["estimate"].to_dict()
    w = np.sqrt(frame["w"].to_numpy())
    R = m.residual_variance * residual_matrix("ar1", values, frame, None, ["x"]) / np.outer(w, w)
    block = m.design.blocks[0]
    G = m.random_covariance["id"].to_numpy()
    same = block.codes[:, None] == block.codes[None]
    return R, R + (block.columns @ G @ block.columns.T) * same


def test_fixed_effects_and_their_covariance(m, dense):
    X, y = m.design.X, m.design.y
    inverse = np.linalg.inv(dense[1])
    Phi = np.linalg.inv(X.T @ inverse @ X)
    np.testing.assert_allclose(m.vcov_fixed, Phi, rtol=1e-7)
    np.testing.assert_allclose(m.fixed_effects, Phi @ X.T @ inverse @ y, rtol=1e-7)


def test_random_effects(m, dense):
    block, G = m.design.blocks[0], m.random_covariance["id"].to_numpy()
    e = m.design.y - m.design.X @ m.fixed_effects.to_numpy()
    score = np.linalg.solve(dense[1], e)
    Z = np.zeros((len(e), 2 * block.n_levels))
    for a in range(2):
        Z[np.arange(len(e)), 2 * block.codes + a] = block.columns[:, a]
    big = np.kron(np.eye(block.n_levels), G)
    table = m.random_effects()
    np.testing.assert_allclose(table["estimate"], big @ Z.T @ score, rtol=1e-6, atol=1e-9)
    spread = big - big @ Z.T @ np.linalg.solve(dense[1], Z) @ big
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(spread)), rtol=1e-6)


def test_residuals(m, dense):
    conditional = m.residuals("conditional")
    np.testing.assert_allclose(conditional, m.design.y - m.fitted(), atol=1e-10)
    sd = np.sqrt(np.diag(dense[0]))
    np.testing.assert_allclose(m.residuals("standardised"), conditional / sd, rtol=1e-8)
    order = m.design.residual.order
    half = np.linalg.cholesky(dense[0][np.ix_(order, order)])
    expected = np.linalg.solve(half, conditional[order])
    np.testing.assert_allclose(m.residuals("normalised")[order], expected, rtol=1e-6, atol=1e-9)


def test_matrices_of_one_unit(m, dense):
    for label in ("p5", "p9"):
        R, cor = m.residual_covariance(label)
        rows = R.index.astype(int)
        np.testing.assert_allclose(R, dense[0][np.ix_(rows, rows)], rtol=1e-8, atol=1e-10)
        sd = np.sqrt(np.diag(R))
        np.testing.assert_allclose(cor, R / np.outer(sd, sd), rtol=1e-10)
        V, _ = m.cluster_covariance("id", label)
        rows = V.index.astype(int)
        np.testing.assert_allclose(V, dense[1][np.ix_(rows, rows)], rtol=1e-8, atol=1e-10)
    with pytest.raises(InferenceError, match="must occur"):
        m.residual_covariance("nobody")


def test_prediction_is_the_best_linear_one(frame):
    """Predictions of rows that were left out, against the conditional normal mean."""
    gone = frame.index[frame["id"].isin(["p4", "p6"]) & (frame["time"] == 3.0)]
    kept = frame.drop(gone).reset_index(drop=True)
    for residual, random, kind in (
        ("ar1(time | id)", " + (1 | site)", "ar1"),
        ("arh1(time | id)", "", "arh1"),
        ("un(time | id)", "", "un"),
        ("cs(1 | id)", "", "cs"),
    ):
        m = mlm.fit("y ~ time + x" + random, kept, residual=residual)
        values = m.residual_parameters().set_index("term")["estimate"].to_dict()
        whole = pd.concat([kept, frame.loc[gone]], ignore_index=True)
        V = m.residual_variance * residual_matrix(kind, values, whole, None, [])
        if random:
            site = whole["site"].to_numpy()
            V += m.random_covariance["site"].iloc[0, 0] * (site[:, None] == site[None])
        X = np.column_stack([np.ones(len(whole)), whole["time"], whole["x"]])
        mean = X @ m.fixed_effects.to_numpy()
        n = len(kept)
        extra = V[n:, :n] @ np.linalg.solve(V[:n, :n], kept["y"].to_numpy() - mean[:n])
        found = m.predict(frame.loc[gone])["estimate"].to_numpy()
        np.testing.assert_allclose(found, mean[n:] + extra, rtol=1e-6)
        population = m.predict(frame.loc[gone], kind="population")["estimate"].to_numpy()
        np.testing.assert_allclose(population, mean[n:], rtol=1e-10)
    stranger = frame.loc[gone].assign(id="new")
    np.testing.assert_allclose(m.predict(stranger)["estimate"], mean[n:], rtol=1e-10)


@pytest.mark.parametrize("residual", ["ar1(time | id)", "un(time | id)", "ind(by=arm)"])
def test_simulated_responses_have_the_fitted_covariance(frame, residual):
    m = mlm.fit("y ~ time + (1 | site)", frame, residual=residual)
    draws = m.simulate(4000, seed=3) - m.fitted("population")[:, None]
    rows = np.flatnonzero(frame["id"] == "p2")
    V, _ = m.cluster_covariance("site", frame["site"][rows[0]])
    expected = V.loc[[str(r) for r in rows], [str(r) for r in rows]].to_numpy()
    found = np.cov(draws[rows])
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / 4000)
    assert np.abs((found - expected) / error).max() < 4.5
    assert np.array_equal(m.simulate(2, seed=3), m.simulate(3, seed=3)[:, :2])


def test_refit_update_and_pickle(m, frame):
    again = m.refit(m.design.y)
    assert again.reml_criterion == pytest.approx(m.reml_criterion, abs=1e-7)
    ml = m.update(method="ml")
    direct = mlm.fit(FORMULA, frame, residual="ar1(time | id)", scale="~ x", weights="w",
                     method="ml")  # fmt: skip
    assert ml.minus2_loglik == pytest.approx(direct.minus2_loglik, abs=1e-7)
    copy = pickle.loads(pickle.dumps(m))
    assert copy.summary() == m.summary()
    assert m.to_dict()["residual"]["parameters"][0]["term"] == "log_variance(x)"


def test_intervals_and_parameters(m):
    table = m.residual_parameters()
    assert table["term"].tolist() == ["log_variance(x)", "rho"]
    assert (table["conf_low"] < table["estimate"]).all()
    assert (table["estimate"] < table["conf_high"]).all()
    wide = m.confint(conf_level=0.99).set_index("term")
    assert wide.loc["rho", "conf_low"] < table["conf_low"][1]
    assert wide.loc["rho", "conf_low"] > -1.0
    assert m.n_parameters == 3 + 3 + 2 + 1


def test_every_method_is_there_or_its_own(m):
    public = {name for name in dir(MultilevelFit) if not name.startswith("_")}
    for name in sorted(public - INHERITED):
        method = getattr(StructuredFit, name)
        assert method is not getattr(MultilevelFit, name), name
        assert "Not available" not in (method.__doc__ or ""), name
    new = {"time": [1.0, 2.0], "x": [0.0, 1.0], "id": ["p1", "p2"]}
    found = m.predict(new, kind="population", interval="confidence")
    assert list(found.columns) == [
        "estimate", "std_error", "prediction_std_error", "conf_low", "conf_high",
    ]  # fmt: skip
    X = np.array([[1.0, 1.0, 0.0], [1.0, 2.0, 1.0]])
    Phi = m.vcov_fixed.to_numpy()
    np.testing.assert_allclose(found["std_error"], np.sqrt(np.diag(X @ Phi @ X.T)), rtol=1e-10)
    with pytest.raises(InferenceError, match="options of its own"):
        m.confint("jackknife")
    with pytest.raises(InferenceError, match="seed"):
        m.confint("profile", seed=1)


def test_options_that_would_be_ignored_are_refused(frame):
    with pytest.raises(ModelError, match="nested engine"):
        mlm.fit("y ~ time", frame, residual="ar1(time | id)", engine="dense")
    with pytest.raises(ModelError, match="Gaussian"):
        mlm.fit("y ~ time", frame, residual="ar1(time | id)", family="poisson")


def test_comparisons(frame):
    def fitted(residual, random=" + (1 | id)"):
        return mlm.fit("y ~ time" + random, frame, residual=residual, method="ml")

    ind, ar1, arma = fitted("ind"), fitted("ar1(time | id)"), fitted("arma11(time | id)")
    plain = mlm.fit("y ~ time + (1 | id)", frame, method="ml")
    assert ind.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-9)
    table = mlm.compare(plain, ar1, arma).to_frame()
    assert table["statistic"][1] == pytest.approx(plain.minus2_loglik - ar1.minus2_loglik)
    assert table["df"].tolist()[1:] == [1, 1]
    assert np.isnan(mlm.compare(plain, arma).to_frame()["p_value"][1])
    exp = fitted("exp(time | id)")
    assert np.isnan(mlm.compare(plain, exp).to_frame()["p_value"][1])
    alone = fitted("ar1(time | id)", "")
    found = mlm.compare(alone, ar1).to_frame()
    assert "50:50" in found["distribution"][1]


def test_comparison_refits_by_ml(frame):
    structure = {"residual": "ar1(time | id)"}
    small = mlm.fit("y ~ time + (1 | id)", frame, **structure)
    large = mlm.fit("y ~ time + x + (1 | id)", frame, **structure)
    with pytest.raises(InferenceError, match="REML criteria"):
        mlm.compare(small, large)
    found = mlm.compare(small, large, refit=True).to_frame()
    ml = [m.update(method="ml").minus2_loglik for m in (small, large)]
    assert found["statistic"][1] == pytest.approx(ml[0] - ml[1], abs=1e-6)
    assert found["df"][1] == 1
    missing = frame.assign(x=frame["x"].where(frame.index > 3))
    fewer = mlm.fit("y ~ time + x + (1 | id)", missing, **structure)
    with pytest.raises(InferenceError, match="rows that they were fitted to"):
        mlm.compare(small, fewer, refit=True)


def test_singular_fit_is_proven_at_the_boundary():
    rng = np.random.default_rng(5)
    ids = np.repeat(np.arange(30), 5)
    e = rng.normal(size=(30, 5))
    e -= 0.7 * e.mean(axis=1, keepdims=True)
    data = {"y": e.ravel(), "id": ids, "t": np.tile(np.arange(5.0), 30), "g": ids % 2}
    m = mlm.fit("y ~ t + (1 | id)", data, residual="ind(by=g)")
    assert m.is_singular
    assert m.random_covariance["id"].iloc[0, 0] == 0.0
    without = mlm.fit("y ~ t", data, residual="ind(by=g)")
    assert m.reml_criterion == pytest.approx(without.reml_criterion, abs=1e-8)
    assert m.certificate.boundary_residual >= 0.0
    df = m.coefficients(df="satterthwaite")["df"]
    np.testing.assert_allclose(df, without.coefficients(df="satterthwaite")["df"], rtol=1e-3)


def test_counted_degrees_of_freedom_need_the_unit_among_the_factors(frame):
    alone = mlm.fit("y ~ time + arm", frame, residual="ar1(time | id)")
    for df in ("between-within", "containment"):
        with pytest.raises(InferenceError, match="without random effects of id"):
            alone.coefficients(df=df)
    both = mlm.fit("y ~ time + arm + (1 | id)", frame, residual="ar1(time | id)")
    found = both.coefficients(df="between-within").set_index("term")["df"]
    assert found["arm[arm1]"] == 40 - 2


def test_parameters_that_run_to_the_edge_are_named():
    rng = np.random.default_rng(1)
    ids, t = np.repeat(np.arange(20), 3), np.tile([0.0, 1.0, 2.0], 20)
    y = rng.normal(size=20)[ids] + np.where(t == 1.0, 0.0, rng.normal(size=60))
    zero = mlm.fit("y ~ 1 + (1 | id)", {"y": y, "t": t, "id": ids}, residual="diag(t | id)",
                   allow=("not_certified",))  # fmt: skip
    said = " ".join([zero.certificate.sentence, *zero.certificate.notes])
    assert "residual variance of some rows goes to zero" in said
    one = np.repeat(rng.normal(size=(20, 1)), 3, axis=1) + 1e-6 * rng.normal(size=(20, 3))
    frame = {"y": one.ravel(), "t": t, "id": ids}
    with pytest.raises((mlm.errors.EstimationError, mlm.errors.LikelihoodError)):
        mlm.fit("y ~ 1", frame, residual="un(t | id)")


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_profile_limits_solve_the_dense_criterion(method):
    """AR(1) alone: the criterion profiled over beta and sigma2 is a function of rho only."""
    frame = repeated_measures(2, n_ids=25)
    m = mlm.fit("y ~ time + x", frame, residual="ar1(time | id)", method=method)

    def criterion(rho):
        R = residual_matrix("ar1", {"rho": rho}, frame, None, [])
        return dense_criterion(R, m.design.X, m.design.y, method == "reml")[0]

    row = m.confint("profile", conf_level=0.9).set_index("term").loc["rho"]
    assert criterion(row["estimate"]) == pytest.approx(m.fit.criterion, abs=1e-8)
    for limit in (row["conf_low"], row["conf_high"]):
        assert criterion(limit) - m.fit.criterion == pytest.approx(1.6448536**2, abs=1e-4)
    assert row["conf_low"] < row["estimate"] < row["conf_high"]


def test_profile_with_other_parameters_rises_by_the_same(frame):
    m = mlm.fit("y ~ time + (1 | id)", frame, residual="ind(by=arm)")
    row = m.confint("profile").iloc[0]
    held = frame.assign(w=np.exp(-row["conf_high"] * (frame["arm"] == "arm1")))
    again = mlm.fit("y ~ time + (1 | id)", held, weights="w")
    assert again.reml_criterion - m.reml_criterion == pytest.approx(1.959964**2, abs=1e-4)
    with pytest.raises(InferenceError, match="of its own"):
        mlm.fit("y ~ time", frame, residual="un(time | id)").confint("profile")


def test_predictions_by_category_need_the_unit_only(frame):
    m = mlm.fit("y ~ time", frame, residual="arh1(time | id, by=arm)")
    rows = frame.drop(columns=["arm", "y"]).assign(time=lambda d: (d["time"] + 1.0) % 6.0)
    found = m.predict(rows)["estimate"].to_numpy()
    sizes = frame["id"].value_counts()
    unit = str(sizes.index[sizes == 3][0])
    R = m.residual_covariance(unit)[0]
    own = frame.loc[R.index.astype(int)]
    e = own["y"].to_numpy() - m.predict(own, kind="population")["estimate"].to_numpy()
    values = m.residual_parameters().set_index("term")["estimate"].to_dict()
    target = np.flatnonzero((frame["id"] == unit) & ~rows["time"].isin(own["time"]))
    assert len(target) > 0
    for i in target:
        both = pd.concat([own, frame.loc[[i]].assign(time=rows["time"][i])], ignore_index=True)
        V = residual_matrix("arh1", values, both, "arm", [])
        extra = V[-1, :-1] @ np.linalg.solve(V[:-1, :-1], e)
        mean = m.fixed_effects.to_numpy() @ [1.0, rows["time"][i]]
        assert found[i] == pytest.approx(mean + extra, rel=1e-7)


def test_sas_counts_the_units_of_the_residual_structure(frame):
    m = mlm.fit("y ~ time", frame, residual="ar1(time | id)")
    found = m.information_criteria(as_in="sas")
    assert (found.n_bic, found.n_parameters) == (40, 2)


def test_profile_of_a_fixed_effect_solves_the_dense_likelihood():
    """AR(1) alone: the likelihood with one effect held is a function of rho only."""
    frame = repeated_measures(2, n_ids=25)
    m = mlm.fit("y ~ time + x", frame, residual="ar1(time | id)", method="ml")
    table = m.confint("profile", conf_level=0.9)
    assert table["component"].tolist() == ["fixed"] * 3 + ["residual"]
    row = table.set_index("term").loc["x"]
    X = np.delete(m.design.X, 2, axis=1)

    def held(value):
        y = m.design.y - value * m.design.X[:, 2]

        def criterion(rho):
            R = residual_matrix("ar1", {"rho": rho}, frame, None, [])
            return dense_criterion(R, X, y, False)[0]

        return minimize_scalar(criterion, bounds=(0.0, 0.99), method="bounded",
                               options={"xatol": 1e-7}).fun  # fmt: skip

    assert held(row["estimate"]) == pytest.approx(m.minus2_loglik, abs=1e-6)
    for limit in (row["conf_low"], row["conf_high"]):
        assert held(limit) - m.minus2_loglik == pytest.approx(1.6448536**2, abs=1e-4)


def test_profile_of_fixed_effects_needs_ml_and_stands_alone_where_it_must(frame):
    reml = mlm.fit("y ~ time", frame, residual="ar1(time | id)").confint("profile")
    assert set(reml["component"]) == {"residual"}
    assert "under ML only" in reml.attrs["sentence"]
    un = mlm.fit("y ~ time", frame, residual="un(time | id)", method="ml").confint("profile")
    assert set(un["component"]) == {"fixed"}
    assert "Fixed effects only" in un.attrs["sentence"]
    assert (un["conf_low"] < un["estimate"]).all()
    assert (un["estimate"] < un["conf_high"]).all()
