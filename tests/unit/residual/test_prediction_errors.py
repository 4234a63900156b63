"""Errors of predictions with structured residuals: universal kriging with dense matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError
from tests.support.residual import repeated_measures, residual_matrix


@pytest.fixture(scope="module")
def frame():
    return repeated_measures(11, n_ids=40)


CASES = [
    ("ar1(time | id)", "ar1", None, " + (1 | site)", None),
    ("ar1(time | id)", "ar1", None, " + (x | id)", "~ x"),
    ("arh1(time | id)", "arh1", None, "", None),
    ("un(time | id)", "un", None, "", None),
    ("cs(1 | id)", "cs", None, " + (1 | site)", None),
    ("ind(by=arm)", "ind", "arm", " + (1 | id)", None),
    (None, "ind", None, " + (1 | id)", "~ x"),
]


@pytest.mark.parametrize(("residual", "kind", "by", "random", "scale"), CASES)
def test_universal_kriging(frame, residual, kind, by, random, scale):
    gone = frame.index[frame["id"].isin(["p4", "p6", "p9"]) & (frame["time"] == 3.0)]
    kept = frame.drop(gone).reset_index(drop=True)
    m = mlm.fit("y ~ time + x" + random, kept, residual=residual, scale=scale, weights="w")
    new = pd.concat([frame.loc[gone], frame.loc[gone[:1]].assign(id="q", site="t")])
    whole = pd.concat([kept, new], ignore_index=True)
    n = len(kept)
    w = np.sqrt(np.append(kept["w"], np.ones(len(new))))
    values = m.residual_parameters().set_index("term")["estimate"].to_dict()
    scales = ["x"] if scale else []
    V = m.residual_variance * residual_matrix(kind, values, whole, by, scales) / np.outer(w, w)
    Z = np.column_stack([np.ones(len(whole)), whole["x"]])
    for group, G in m.random_covariance.items():
        q, ids = len(G), whole[group].to_numpy()
        V += (Z[:, :q] @ G.to_numpy() @ Z[:, :q].T) * (ids[:, None] == ids[None])
    X = np.column_stack([np.ones(len(whole)), whole["time"], whole["x"]])
    inverse = np.linalg.inv(V[:n, :n])
    Phi = np.linalg.inv(X[:n].T @ inverse @ X[:n])
    C = V[n:, :n]
    d = X[n:] - C @ inverse @ X[:n]
    expected = np.diag(V[n:, n:] - C @ inverse @ C.T + d @ Phi @ d.T)
    found = m.predict(new, interval="prediction", conf_level=0.9)
    np.testing.assert_allclose(found["prediction_std_error"] ** 2, expected, rtol=1e-5)
    margin = 1.6448536 * np.sqrt(expected)
    np.testing.assert_allclose(found["conf_high"] - found["estimate"], margin, rtol=1e-5)
    marginal = m.predict(new, kind="marginal", std_error=True)
    total = np.diag(V[n:, n:]) + np.diag(X[n:] @ Phi @ X[n:].T)
    np.testing.assert_allclose(marginal["prediction_std_error"] ** 2, total, rtol=1e-5)
    np.testing.assert_allclose(
        marginal["std_error"] ** 2, np.diag(X[n:] @ Phi @ X[n:].T), rtol=1e-5
    )


def test_independent_residuals_give_the_errors_of_the_plain_fit(frame):
    formula = "y ~ time + x + (x | id)"
    plain, ind = mlm.fit(formula, frame), mlm.fit(formula, frame, residual="ind")
    new = frame.head(6).assign(time=2.5)
    for kind in ("conditional", "population", "marginal"):
        one = plain.predict(new, kind=kind, std_error=True)
        two = ind.predict(new, kind=kind, std_error=True)
        for name in ("std_error", "prediction_std_error"):
            np.testing.assert_allclose(one[name], two[name], rtol=1e-4)


def test_a_row_of_the_data_is_known(frame):
    m = mlm.fit("y ~ time + x + (1 | id)", frame, residual="ar1(time | id)")
    rows = frame.head(5)
    found = m.predict(rows, std_error=True)
    np.testing.assert_allclose(found["estimate"], rows["y"], rtol=1e-8)
    np.testing.assert_allclose(found["prediction_std_error"], 0.0, atol=1e-4)
    with pytest.raises(InferenceError, match="correlated residual"):
        m.predict(rows, interval="confidence")


def test_a_variance_that_is_not_known_is_not_guessed(frame):
    m = mlm.fit("y ~ time", frame, residual="arh1(time | id, by=arm)")
    stranger = frame.head(2).assign(id="new")
    assert np.isfinite(m.predict(stranger, std_error=True)["prediction_std_error"]).all()
    without = m.predict(stranger.drop(columns="arm"), std_error=True)
    assert without["prediction_std_error"].isna().all()
    assert without["estimate"].notna().all()
    other = frame.head(2).assign(time=17.0)
    assert m.predict(other, std_error=True)["prediction_std_error"].isna().all()
