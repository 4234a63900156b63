"""Random slopes at the boundary: the singular mixed model's optimum, explained, with its tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import multilevel as mlm
from multilevel.errors import InferenceError

TEXT = "level: 1\ns | y ~ x\nlevel: 2\ny ~ w\ns ~ 1"


def _data(seed: int, tau: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(40), 8)
    x, w, u = rng.normal(size=320), rng.normal(size=40), rng.normal(size=40)
    slope = 0.5 + tau * (0.9 * u + 0.44 * rng.normal(size=40))
    y = 1.0 + slope[g] * x + 0.3 * w[g] + u[g] + rng.normal(size=320)
    return pd.DataFrame({"g": g, "x": x, "w": w[g], "y": y})


@pytest.mark.parametrize(("seed", "tau"), [(0, 0.0), (2, 0.0), (6, 0.2), (7, 0.0)])
def test_the_bounded_optimum_is_that_of_the_singular_mixed_model(seed, tau):
    data = _data(seed, tau)
    mixed = mlm.fit("y ~ x + w + (x | g)", data, method="ml")
    assert mixed.is_singular
    held = mlm.sem(TEXT, data, cluster="g")
    free = mlm.sem(TEXT, data, cluster="g", allow=["inadmissible"])
    assert free.inadmissible
    assert free.minus2_loglik < mixed.minus2_loglik
    assert held.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-8)
    assert held.certificate.status == "singular"
    assert held.certificate.boundary_residual > 0.0
    assert not held.inadmissible
    assert "boundary" in held.certificate.sentence
    table = held.parameters().set_index(["lhs", "op", "rhs"])
    fixed = mixed.fixed_effects
    for key, name in ((("s", "~1", ""), "x"), (("y", "~", "w"), "w"), (("y", "~1", ""), None)):
        row = table.loc[key]
        row = row if isinstance(row, pd.Series) else row.iloc[-1]
        assert row["estimate"] == pytest.approx(fixed[name or "(Intercept)"], abs=1e-5)
    error = np.sqrt(np.diag(mixed.vcov_fixed))[list(fixed.index).index("x")]
    # observed information counts the means with the variances: close, not equal
    assert table.loc[("s", "~1", "")]["std_error"] == pytest.approx(error, rel=0.02)
    assert "AT THE BOUNDARY" in repr(held)
    assert "given the boundary" in held.parameters().attrs["sentence"]


def test_an_inner_optimum_is_untouched():
    data = _data(1, 0.2)
    held = mlm.sem(TEXT, data, cluster="g")
    free = mlm.sem(TEXT, data, cluster="g", allow=["inadmissible"])
    assert held.certificate.status == "certified"
    assert held.boundary == ()
    assert held.minus2_loglik == free.minus2_loglik
    assert np.array_equal(held.fit.theta, free.fit.theta)


def test_slope_variance_by_the_mixture_of_the_mixed_model():
    for seed, tau in ((1, 0.2), (0, 0.0), (4, 0.5)):
        data = _data(seed, tau)
        held = mlm.sem(TEXT, data, cluster="g")
        small = mlm.fit("y ~ x + w + (1 | g)", data, method="ml")
        large = mlm.fit("y ~ x + w + (x | g)", data, method="ml")
        row = held.slope_tests().iloc[0]
        gain = small.minus2_loglik - large.minus2_loglik
        assert row["statistic"] == pytest.approx(gain, abs=1e-6)
        assert row["distribution"] == "50:50 mixture of chi2(1) and chi2(2)"
        expected = mlm.compare(small, large).to_frame()["p_value"].iloc[-1]
        assert row["p_value"] == pytest.approx(expected, abs=1e-6)
        assert row["p_value"] < row["p_naive"]


def test_what_moves_freely_is_refused_at_the_boundary():
    text = TEXT.replace("s ~ 1", "s ~ a*1\nkept := 2*a")
    held = mlm.sem(text, _data(0), cluster="g")
    drawn = held.defined(interval="monte_carlo", seed=1, n_draws=2000)
    assert drawn["conf_low"].item() < 2.0 * 0.48 < drawn["conf_high"].item()
    for interval in ("profile", "bootstrap"):
        with pytest.raises(InferenceError, match="both ways"):
            held.defined(interval=interval)
    robust = held.parameters(std_errors="robust")
    assert (robust.query("status == 'free'")["std_error"] > 0.0).all()


def test_partly_fixed_covariances_are_held_too():
    both = mlm.sem("level: 1\ns | y ~ x\nr | y ~ w1\nlevel: 2\ny ~ w\ns ~~ 0*r\nr ~ 1",
                   _data(0).assign(w1=np.sin(np.arange(320))), cluster="g")  # fmt: skip
    assert both.certificate.status == "singular"
    assert not both.inadmissible
    # a slope without covariances is a block of its own, and may be zero
    alone = mlm.sem(TEXT + "\ns ~~ 0*y", _data(0), cluster="g")
    mixed = mlm.fit("y ~ x + w + (x || g)", _data(0), method="ml")
    assert alone.minus2_loglik == pytest.approx(mixed.minus2_loglik, abs=1e-7)
    if mixed.is_singular:
        row = alone.parameters().query("lhs == 's' and rhs == 's'").iloc[0]
        assert row["estimate"] == 0.0
        assert "The variance of s at the between level is estimated as zero" in alone.boundary[0]


def test_no_random_slope_to_test():
    result = mlm.sem("level: 1\ny ~ x\nlevel: 2\ny ~ w", _data(0), cluster="g")
    with pytest.raises(InferenceError, match="without s"):
        result.slope_tests()
    free = mlm.sem(TEXT, _data(0), cluster="g", allow=["inadmissible"])
    with pytest.raises(InferenceError, match="can have"):
        free.slope_tests()
