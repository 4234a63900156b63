"""Fits of models with slopes: recovery, identities, failure that is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from multilevel.errors import EstimationError
from multilevel.estimate.irt import fit_items
from multilevel.likelihood.generalized.irt_problem import make_problem

rng = np.random.default_rng(20)
N, SLOPES = 4000, np.array([0.7, 1.0, 1.4, 1.8, 0.9, 1.2, 1.5, 0.8])
EASINESS = np.array([-1.0, 0.5, 0.0, 1.0, -0.5, 0.2, -1.2, 0.8])
X = rng.normal(size=(N, 1))
THETA = 0.5 * X[:, 0] + rng.normal(size=N)
CODES = (rng.random((N, 8)) < expit(np.outer(THETA, SLOPES) + EASINESS)).astype(np.int64)


def fitted(codes=CODES, **more):
    return fit_items(make_problem(codes, (2,) * codes.shape[1], kind="graded", **more))


def test_parameters_are_recovered_within_their_errors():
    fit = fitted(x=X)
    assert fit.certificate.status == "certified"
    errors = np.sqrt(np.diag(fit.vcov))
    truth = np.concatenate([SLOPES, EASINESS, [0.5]])
    z = (fit.psi - truth) / errors
    # 17 standard normal numbers: none beyond 3.5, their squares average near 1
    assert np.abs(z).max() < 3.5
    assert 0.3 < (z**2).mean() < 2.2


def test_graded_steps_are_recovered():
    draw = np.random.default_rng(4)
    theta = draw.normal(size=3000)
    a, d = np.array([1.0, 1.5, 0.8, 1.2]), np.array([[1.0, -0.5], [0.3, -1.0], [1.5, 0.2], [0, -1]])
    upper = expit(a[:, None] * theta[:, None, None] + d)
    codes = (draw.random((3000, 4))[..., None] < upper).sum(axis=2)
    fit = fit_items(make_problem(codes, (3,) * 4, kind="graded"))
    errors = np.sqrt(np.diag(fit.vcov))
    z = (fit.psi - np.concatenate([a, d.ravel()])) / errors
    assert np.abs(z).max() < 3.5


def test_cheaper_steps_end_at_the_same_optimum(monkeypatch):
    latent = np.outer(THETA[:1500], SLOPES) + np.random.default_rng(6).logistic(size=(1500, 8))
    codes = (latent > -0.5).astype(np.int64) + (latent > 1.0)
    problem = make_problem(codes, (3,) * 8, kind="graded")
    exact = fit_items(problem)
    monkeypatch.setattr("multilevel.estimate.irt.DEAR", 0.0)
    cheap = fit_items(problem)
    assert cheap.certificate.iterations > exact.certificate.iterations
    assert cheap.criterion == pytest.approx(exact.criterion, abs=1e-7)
    np.testing.assert_allclose(cheap.psi, exact.psi, atol=1e-5)


def test_missing_at_random_leaves_estimates_in_place():
    codes = CODES.copy()
    codes[np.random.default_rng(1).random(codes.shape) < 0.25] = -1
    fit = fitted(codes)
    whole = fitted()
    errors = np.sqrt(np.diag(fit.vcov))
    assert np.abs((fit.psi - whole.psi) / errors).max() < 3.0
    assert np.all(errors > np.sqrt(np.diag(whole.vcov)))


def items(fit):
    """Slopes of the items and intercepts of their steps."""
    a, d, _ = fit.problem.slices
    return fit.problem.slopes @ fit.psi[a], fit.problem.easiness @ fit.psi[d]


def test_order_of_persons_and_reversed_items_change_nothing():
    fit = fitted()
    shuffled = fitted(CODES[np.random.default_rng(2).permutation(N)])
    assert shuffled.criterion == pytest.approx(fit.criterion, abs=1e-8)
    np.testing.assert_allclose(shuffled.psi, fit.psi, atol=1e-7)
    # all items turned round: the axis is turned too, so that slopes stay positive
    turned = fitted(1 - CODES)
    assert turned.criterion == pytest.approx(fit.criterion, abs=1e-8)
    np.testing.assert_allclose(items(turned)[0], items(fit)[0], atol=1e-6)
    np.testing.assert_allclose(items(turned)[1], -items(fit)[1], atol=1e-6)
    np.testing.assert_allclose(turned.mean, -fit.mean, atol=1e-6)


def test_one_reversed_item_has_a_negative_slope():
    codes = CODES.copy()
    codes[:, 2] = 1 - codes[:, 2]
    fit = fitted(codes)
    slopes = items(fit)[0]
    assert slopes[2] < -1.0
    assert (np.delete(slopes, 2) > 0.0).all()
    assert fit.criterion == pytest.approx(fitted().criterion, abs=1e-8)


def test_equal_slopes_are_the_case_of_free_ones_tied_together():
    tied = fitted(slopes=np.ones((8, 1)))
    free = fitted()
    assert tied.n_parameters == free.n_parameters - 7
    assert tied.criterion > free.criterion
    same = fitted(slopes=np.eye(8))
    assert same.criterion == pytest.approx(free.criterion, abs=1e-9)


def test_points_are_doubled_until_they_no_longer_matter():
    few = fit_items(make_problem(CODES, (2,) * 8, kind="graded"), points=9)
    many = fit_items(make_problem(CODES, (2,) * 8, kind="graded"), points=121)
    assert few.points > 9
    assert few.certificate.restarts > 0
    assert few.criterion == pytest.approx(many.criterion, abs=2e-5)
    assert abs(few.points_error) < 1e-5


def test_posterior_is_shrunken_and_calibrated():
    fit = fitted()
    assert fit.mean.var() + (fit.std_dev**2).mean() == pytest.approx(1.0, abs=0.05)
    true = THETA / np.sqrt(1.25)
    z = (true - fit.mean) / fit.std_dev
    assert z.std() == pytest.approx(1.0, abs=0.05)


def test_two_items_do_not_identify_slopes():
    fit = fitted(CODES[:, :2])
    assert not fit.certificate.is_certified
    assert "not shown to be the optimum" in fit.certificate.sentence


def test_too_few_points_are_refused():
    with pytest.raises(EstimationError, match="at least 5"):
        fit_items(make_problem(CODES, (2,) * 8, kind="graded"), points=3)
