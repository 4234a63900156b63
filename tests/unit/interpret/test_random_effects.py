"""The tidy table of random effects, and its numbers against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import random_effects
from multilevel.estimate.prepare import prepare
from multilevel.interpret.random_effects import random_effects_table
from tests.support.designs import design_of
from tests.support.oracle import random_rows
from tests.unit.interpret.support import Effects, block, design


def test_labels_and_normal_interval():
    z = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    g = block("g", [0, 1, 0], z, ("(Intercept)", "x"), levels=np.array(["a", "b"], dtype=object))
    effect = Effects(
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([np.diag([4.0, 9.0]), np.diag([0.0, -1e-18])]),
        np.array([np.diag([16.0, 25.0])] * 2),
    )
    table = random_effects_table(design(np.zeros(3), z, ("a", "b"), [g]), [effect])
    assert table.group.tolist() == ["g"] * 4
    assert table.level.tolist() == ["a", "a", "b", "b"]
    assert table.term.tolist() == ["(Intercept)", "x"] * 2
    np.testing.assert_allclose(table.estimate, [1, 2, 3, 4])
    np.testing.assert_allclose(table.std_error, [2, 3, 0, 0])
    np.testing.assert_allclose(table.conf_high - table.estimate, 1.959963985 * table.std_error)
    np.testing.assert_allclose(table.estimate - table.conf_low, 1.959963985 * table.std_error)
    assert "condVar" in table.sentence
    wide = random_effects_table(design(np.zeros(3), z, "ab", [g]), [effect], std_error="prediction")
    np.testing.assert_allclose(wide.std_error, [4, 5, 4, 5])


def test_options_are_checked():
    nothing = design(np.zeros(3), np.ones((3, 1)), ("a",), [])
    with pytest.raises(InferenceError, match="comparative"):
        random_effects_table(nothing, [], std_error="robust")
    with pytest.raises(InferenceError, match="between 0 and 1"):
        random_effects_table(nothing, [], conf_level=95)


@pytest.mark.parametrize("kind", ["slope", "nested_slopes", "crossed"])
def test_equal_the_dense_formulas(kind):
    rows = random_rows(kind, 4, weighted=True)
    prepared = prepare(design_of(rows), method="reml")
    fit = solve(prepared)
    effects = random_effects(prepared, fit)
    y, X = rows.y, rows.X
    Zs = [rows.dense_Z(t) / rows.root_weights[:, None] for t in range(len(rows.blocks))]
    Gs = [np.kron(np.eye(e.estimates.shape[0]), g)
          for e, g in zip(effects, fit.random_covariance, strict=True)]  # fmt: skip
    V = np.diag(fit.sigma2 / rows.weights)
    V = V + sum(Z @ G @ Z.T for Z, G in zip(Zs, Gs, strict=True))
    Vi = np.linalg.inv(V)
    vcov = np.linalg.inv(X.T @ Vi @ X)
    beta = vcov @ X.T @ Vi @ y
    P = Vi - Vi @ X @ vcov @ X.T @ Vi
    for e, Z, G in zip(effects, Zs, Gs, strict=True):
        J, q = e.estimates.shape
        np.testing.assert_allclose(e.estimates.ravel(), G @ Z.T @ Vi @ (y - X @ beta), atol=1e-7)
        take = np.arange(J * q).reshape(J, q)
        known, full = G - G @ Z.T @ Vi @ Z @ G, G - G @ Z.T @ P @ Z @ G
        for j in range(J):
            ix = np.ix_(take[j], take[j])
            np.testing.assert_allclose(e.covariance()[j], known[ix], atol=1e-7)
            np.testing.assert_allclose(e.prediction_covariance([j])[0], full[ix], atol=1e-7)
