"""Profile curves against their definition: the dense likelihood minimised with a value held."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import multilevel as mlm
from multilevel.errors import InferenceError
from multilevel.infer.profile import held_at, profile_interval
from multilevel.infer.profile_curve import LEVELS, check_components, profile_curves
from multilevel.infer.variance_intervals import quantities

G = np.repeat(np.arange(14), 6)


@pytest.fixture(scope="module")
def weak():
    """A random slope of little variance: profiles of its SD and correlation flatten."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=84)
    y = 1 + 0.5 * x + rng.normal(size=14)[G] + 0.35 * rng.normal(size=14)[G] * x
    m = mlm.fit("y ~ x + (x | g)", {"y": y + rng.normal(size=84), "x": x, "g": G}, method="ml")
    assert m.certificate.status == "certified"
    return m


def dense(m, sds, rho):
    """-2 log-likelihood (ML) at two SDs, their correlation and the residual SD; betas by GLS."""
    X, y = m.design.X, m.design.y
    T = np.outer(sds[:2], sds[:2]) * np.array([[1.0, rho], [rho, 1.0]])
    V = (X @ T @ X.T) * (G[:, None] == G[None, :]) + sds[2] ** 2 * np.eye(len(y))
    W = np.linalg.inv(V)
    e = y - X @ np.linalg.solve(X.T @ W @ X, X.T @ W @ y)
    return np.linalg.slogdet(2 * np.pi * V)[1] + e @ W @ e


def lowest(m, rho=None, slope_sd=None):
    """The dense criterion minimised from several starts, SDs positive."""

    def criterion(p):
        sds = np.exp(np.clip(p[:3], -15.0, 5.0))
        if slope_sd is not None:
            sds = np.array([sds[0], slope_sd, sds[2]])
        return dense(m, sds, np.tanh(p[3]) if rho is None else rho)

    starts = [[0.0, s, 0.0, 0.3] for s in (-1.0, -4.0)]
    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    found = [minimize(criterion, s, method="Nelder-Mead", options=options).fun for s in starts]
    return min(found)


def quantity(m, component, term):
    return next(q for q in quantities(m.design, (component,)) if q.term == term)


def test_a_held_correlation_keeps_its_sign(weak):
    """Far from the estimate the best fit has no slope variance, not minus the correlation."""
    q = quantity(weak, "correlation", "(Intercept), x")
    held = held_at(weak._prepared, weak.fit, q)
    for rho in (-0.95, -0.6, -0.3, 0.0, 0.3, 0.9):
        assert held(rho) == pytest.approx(lowest(weak, rho=rho), abs=2e-5)


def test_a_held_standard_deviation(weak):
    held = held_at(weak._prepared, weak.fit, quantity(weak, "sd", "x"))
    for sd in (0.0, 0.1, 0.6):
        assert held(sd) == pytest.approx(lowest(weak, slope_sd=sd), abs=2e-5)


def test_limits_are_found_where_a_profile_flattens():
    """HSB, ML: values from Nelder-Mead on the criterion with the parameter held.

    lme4 1.1.31 gives .085 and .308 by linear interpolation ("bad spline fit").
    """
    m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb(), method="ml")
    found = m.confint("profile", components=["sd", "correlation"])
    assert found["conf_low"][1] == pytest.approx(0.0785, abs=1e-4)
    assert found["conf_high"][2] == pytest.approx(0.3065, abs=1e-4)
    q = quantity(m, "correlation", "(Intercept), ses")
    held = held_at(m._prepared, m.fit, q)
    for rho, rise in ((0.2, 2.1675776), (0.3, 3.7302887), (0.4, 4.5354428), (1.0, 4.5354428)):
        assert held(rho) - m.fit.criterion == pytest.approx(rise, abs=1e-5)


def test_curve_and_limits(weak):
    found = profile_curves(
        weak._prepared, weak.fit, weak._objective(), ("fixed", "sd", "correlation")
    )
    assert [c.quantity.component for c in found.curves] == (
        ["fixed"] * 2 + ["sd"] * 2 + ["correlation", "sd"]
    )
    assert found.left_out == ()
    for curve in found.curves:
        assert np.all(np.diff(curve.values) > 0)
        assert np.all(np.diff(curve.zeta) >= 0)
        at = np.interp(curve.estimate, curve.values, curve.zeta)
        assert at == pytest.approx(0.0, abs=1e-8)
        held = held_at(weak._prepared, weak.fit, curve.quantity)
        for k in (30, 150, 330):
            rise = max(held(float(curve.values[k])) - weak.fit.criterion, 0.0)
            assert abs(curve.zeta[k]) == pytest.approx(np.sqrt(rise), abs=0.03)
        for level, low, high in zip(LEVELS, curve.low, curve.high, strict=True):
            one = profile_interval(weak._prepared, weak.fit, curve.quantity, level, 0.1).interval
            for mine, theirs, end in ((low, one.conf_low, 0), (high, one.conf_high, -1)):
                if np.isfinite(mine):
                    width = curve.values[-1] - curve.values[0]
                    assert mine == pytest.approx(theirs, abs=2e-3 * width)
                else:
                    z = norm.ppf(0.5 + level / 2)
                    assert abs(curve.zeta[end]) < z
                    assert theirs == pytest.approx(curve.values[end])


def test_variances_are_squares_and_what_has_no_profile_is_said():
    m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
    found = profile_curves(
        m._prepared, m.fit, m._objective(), ("fixed", "sd", "variance", "correlation")
    )
    variance, sd = found.curves[:2]
    assert (sd.quantity.component, variance.quantity.component) == ("sd", "variance")
    np.testing.assert_allclose(variance.low, sd.low**2, rtol=1e-3)
    assert found.left_out == ("Fixed effects have a profile under ML only.",)
    with pytest.raises(InferenceError, match="under ML only"):
        profile_curves(m._prepared, m.fit, m._objective(), ("fixed",))
    with pytest.raises(InferenceError, match="components must be among"):
        check_components(["sds"])


def test_estimate_of_zero_has_one_side():
    rng = np.random.default_rng(8)
    y = rng.normal(size=(14, 6))
    y = (y - 0.8 * y.mean(axis=1, keepdims=True)).ravel()
    m = mlm.fit("y ~ 1 + (1 | g)", {"y": y, "g": G})
    assert m.is_singular
    curve = profile_curves(m._prepared, m.fit, m._objective(), ("sd",)).curves[0]
    assert curve.values[0] == curve.zeta[0] == 0.0
    assert np.isnan(curve.std_error)
    assert np.isnan(curve.low).all()
    assert np.isfinite(curve.high).all()
