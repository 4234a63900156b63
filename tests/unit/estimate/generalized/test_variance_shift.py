"""How far the largest variance is off: one Newton step against refits and brute force."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.estimate.generalized.variance_shift import (
    VarianceShift,
    _worded,
    largest_variance,
    variance_shift,
)
from multilevel.likelihood.generalized.choose import make_objective
from multilevel.likelihood.generalized.correction import Correctable, Correction, difference
from multilevel.likelihood.generalized.nested import NestedLaplace
from tests.unit.likelihood.generalized.test_joint_error import grid_criterion, small_crossed


def visits(seed=3, J=80, n=5):
    """Few binary responses in each cluster: Laplace's variance is visibly off."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), n)
    x = rng.standard_normal(J * n)
    eta = 0.3 + 0.8 * x + 1.5 * rng.standard_normal(J)[g]
    return pd.DataFrame({"g": g, "x": x, "y": (rng.random(J * n) < 1 / (1 + np.exp(-eta))) * 1})


@pytest.fixture(scope="module")
def one_factor():
    return mlm.fit("y ~ x + (1 | g)", visits(), family="binomial", n_quad=1)


def test_a_step_predicts_what_a_refit_gives(one_factor):
    fine = one_factor.update(n_quad=25)
    psi = (one_factor.fit.psi, fine.fit.psi)
    before, after = (largest_variance(one_factor._problem, p) for p in psi)
    how = one_factor.approximation
    assert how.largest_variance_std_error == 0.0
    assert how.largest_variance_error == pytest.approx(abs(after / before - 1.0), rel=0.35)
    assert ("rise" if after > before else "fall") in how.sentence or "more than" in how.sentence


def test_sampling_and_more_points_agree(one_factor):
    problem, fit = one_factor._problem, one_factor.fit
    objective = NestedLaplace(problem)
    objective.value(fit.psi)
    shift = variance_shift(problem, fit, objective, np.random.default_rng(0), 200)
    assert shift is not None
    assert shift.std_error == 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "multilevel.estimate.generalized.variance_shift.has_quadrature", lambda _: False
        )
        sampled = variance_shift(problem, fit, objective, np.random.default_rng(0), 2000)
    assert sampled is not None
    assert sampled.std_error > 0.0
    assert abs(sampled.share - shift.share) < 4.0 * sampled.std_error + 0.01 * abs(shift.share)


@pytest.mark.parametrize("parameter", [0, 1, 2])
def test_the_sampled_error_changes_as_the_integral_does(parameter):
    problem, psi = small_crossed(), np.array([0.3, 1.4, 0.9])
    objective = make_objective(problem)
    assert isinstance(objective, Correctable)
    rng, h, errors, found = np.random.default_rng(2), 0.05, [], []
    for sign in (1.0, -1.0):
        moved = psi.copy()
        moved[parameter] += sign * h
        errors.append(objective.value(moved) - grid_criterion(problem, moved))
        found.append(objective.correction(deepcopy(rng), 4000))
    change, noise = difference(*found)
    truth = errors[0] - errors[1]
    assert 0.0 < noise < 0.05 * max(abs(truth), 0.02)
    assert abs(change - truth) < 4.0 * noise
    # independent draws would be far noisier: common ones are what makes this work
    apart = 2.0 * np.sqrt(
        sum(one.normalised.var(ddof=1) / one.normalised.shape[1] for one in found)
    )
    assert noise < 0.5 * apart


def test_crossed_fits_report_it_in_words_and_json():
    rng = np.random.default_rng(5)
    person, item = (a.ravel() for a in np.meshgrid(np.arange(40), np.arange(8), indexing="ij"))
    eta = 1.5 * rng.standard_normal(40)[person] + rng.standard_normal(8)[item]
    y = (rng.random(320) < 1 / (1 + np.exp(-eta))) * 1
    data = pd.DataFrame({"person": person, "item": item, "y": y})
    fit = mlm.fit("y ~ 1 + (1 | person) + (1 | item)", data, family="binomial")
    how = fit.approximation
    assert 0.0 < how.largest_variance_error < 0.2
    assert how.largest_variance_std_error < 0.2 * how.largest_variance_error
    assert "The largest variance would rise by about" in " ".join(str(fit).split())
    written = json.loads(fit.to_json())["approximation"]
    assert written["largest_variance_error"] == pytest.approx(how.largest_variance_error)
    assert written["largest_variance_std_error"] == pytest.approx(how.largest_variance_std_error)
    none = mlm.fit("y ~ 1 + (1 | person) + (1 | item)", data, family="binomial", accuracy="none")
    assert np.isnan(none.approximation.largest_variance_error)
    assert json.loads(none.to_json())["approximation"]["largest_variance_error"] is None


class Known:
    """An objective whose error is a line in ``psi`` with given noise."""

    def __init__(self, slope, noise=0.0, reliable=True):
        self.slope, self.noise, self.reliable = slope, noise, reliable

    def value(self, psi):
        self.psi = psi
        return 0.0

    def set_modes(self, modes):
        pass

    def gradient(self): ...
    def cluster_scores(self): ...
    def modes(self): ...
    def mode_covariance(self, block, levels=None): ...
    def error_estimate(self, rng, draws): ...

    problem = method = points = plan = n_evaluations = None

    def correction(self, rng, draws):
        if not self.reliable:
            return Correction(np.nan)
        noise = self.noise * rng.standard_normal((1, 200, 1)) * self.psi[-1]
        return Correction(self.slope * self.psi[-1], np.repeat(noise, 2, axis=2))


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Known(0.5), "would rise by about"),
        (Known(-0.5), "would fall by about"),
        (Known(500.0), "may be off by more than 20%"),
        (Known(0.0, 0.5), "too little to tell from the noise"),
        (Known(0.0, reliable=False), "could not be estimated"),
    ],
)
def test_words_follow_the_evidence(one_factor, monkeypatch, objective, words):
    monkeypatch.setattr(
        "multilevel.estimate.generalized.variance_shift.has_quadrature", lambda _: False
    )
    rng = np.random.default_rng(1)
    found = variance_shift(one_factor._problem, one_factor.fit, objective, rng, 200)
    assert isinstance(found, VarianceShift)
    assert words in found.sentence


def test_noise_that_drowns_the_change_is_named():
    assert "how far it is off is not known" in _worded(0.1, 0.3, "").sentence
    assert "may be off by more than 20%" in _worded(0.5, 0.1, "").sentence
    assert np.isnan(_worded(float("nan"), 0.0, "").share)


def test_no_variance_no_shift(one_factor):
    flat = deepcopy(one_factor.fit)
    flat.psi[-1] = 0.0
    objective = NestedLaplace(one_factor._problem)
    objective.value(flat.psi)
    rng = np.random.default_rng(1)
    assert variance_shift(one_factor._problem, flat, objective, rng, 200) is None
