"""Facts that must hold among generalized models, whatever the data."""

from __future__ import annotations

import math

import numpy as np
import pytest

import multilevel as mlm


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2024)
    J, m = 25, 8
    g = np.repeat(np.arange(J), m)
    h = rng.integers(0, 9, size=J * m)
    x = rng.normal(size=J * m)
    eta = -0.3 + 0.6 * x + 0.9 * rng.normal(size=J)[g] + 0.5 * rng.normal(size=9)[h]
    return {
        "g": g,
        "h": h,
        "x": x,
        "binary": (rng.random(J * m) < 1 / (1 + np.exp(-eta))).astype(float),
        "count": rng.poisson(np.exp(eta)).astype(float),
        "number": eta + rng.normal(size=J * m),
    }


NESTED, CROSSED = "(1 | g)", "(1 | g) + (1 | h)"
SLOPE = "(x | g)"


@pytest.mark.parametrize("random", [NESTED, CROSSED, SLOPE])
def test_gaussian_through_this_engine_is_the_gaussian_engine(data, random):
    plain = mlm.fit(f"number ~ x + {random}", data, method="ml")
    other = mlm.fit(f"number ~ x + {random}", data, dispersion="~ 1", n_quad=1)
    assert other.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-7)
    assert np.allclose(other.fixed_effects, plain.fixed_effects, atol=1e-5)
    for group, G in plain.random_covariance.items():
        assert np.allclose(other.random_covariance[group], G, rtol=1e-3, atol=1e-5)
    variance = math.exp(other.part("dispersion").estimate[0])
    assert variance == pytest.approx(plain.residual_variance, rel=1e-5)


@pytest.mark.parametrize("points", [1, 5])
def test_quadrature_of_a_gaussian_model_is_exact(data, points):
    plain = mlm.fit("number ~ x + (x | g)", data, method="ml")
    other = mlm.fit("number ~ x + (x | g)", data, dispersion="~ 1", n_quad=points)
    assert other.minus2_loglik == pytest.approx(plain.minus2_loglik, abs=1e-7)


@pytest.mark.parametrize("random", [NESTED, CROSSED])
def test_two_ordered_categories_are_binomial(data, random):
    binomial = mlm.fit(f"binary ~ x + {random}", data, family="binomial", n_quad=1)
    cumulative = mlm.fit(f"binary ~ x + {random}", data, family="cumulative", n_quad=1)
    nominal = mlm.fit(f"binary ~ x + {random}", data, family="nominal", n_quad=1)
    for other in (cumulative, nominal):
        assert other.minus2_loglik == pytest.approx(binomial.minus2_loglik, abs=1e-7)
        assert other.fixed_effects["x"] == pytest.approx(binomial.fixed_effects["x"], abs=1e-4)
    threshold = cumulative.part("threshold 1").estimate[0]
    assert threshold == pytest.approx(-binomial.fixed_effects["(Intercept)"], abs=1e-4)


@pytest.mark.parametrize("random", [NESTED, CROSSED])
def test_aggregated_trials_are_their_rows(data, random):
    """Rows that share predictors and groups may be counted together (constants apart)."""
    table = {k: data[k] for k in ("g", "h", "binary")}
    single = mlm.fit(f"binary ~ 1 + {random}", table, family="binomial", n_quad=1)
    cells = sorted(set(zip(data["g"], data["h"], strict=True)))
    good = [data["binary"][(data["g"] == a) & (data["h"] == b)].sum() for a, b in cells]
    size = [((data["g"] == a) & (data["h"] == b)).sum() for a, b in cells]
    counted = {"g": [a for a, _ in cells], "h": [b for _, b in cells], "k": good, "n": size}
    constant = sum(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
                   for k, n in zip(good, size, strict=True))  # fmt: skip
    three = [
        mlm.fit(f"k ~ 1 + {random}", counted, family="binomial", trials="n", n_quad=1),
        mlm.fit(f"cbind(k, n - k) ~ 1 + {random}", counted, family="binomial", n_quad=1),
        mlm.fit(f"k / n ~ 1 + {random}", counted, family="binomial", weights="n", n_quad=1),
    ]
    for fit in three:
        assert fit.minus2_loglik + 2 * constant == pytest.approx(single.minus2_loglik, abs=1e-7)
        assert np.allclose(fit.fixed_effects, single.fixed_effects, atol=1e-5)


@pytest.mark.parametrize("random", [NESTED, CROSSED])
@pytest.mark.parametrize(("outcome", "family"), [("binary", "binomial"), ("count", "poisson")])
def test_frequency_weights_are_repeated_rows(data, random, outcome, family):
    rng = np.random.default_rng(5)
    times = rng.integers(1, 4, size=len(data["g"]))
    weighted = mlm.fit(
        f"{outcome} ~ x + {random}", {**data, "w": times}, family=family,
        frequency_weights="w", n_quad=1,
    )  # fmt: skip
    repeated = {k: np.repeat(v, times) for k, v in data.items()}
    long = mlm.fit(f"{outcome} ~ x + {random}", repeated, family=family, n_quad=1)
    assert weighted.minus2_loglik == pytest.approx(long.minus2_loglik, abs=1e-7)
    assert np.allclose(weighted.fixed_effects, long.fixed_effects, atol=1e-5)


def test_exposure_is_an_offset(data):
    time = np.exp(np.sin(np.arange(len(data["g"]))))
    table = {**data, "time": time}
    one = mlm.fit("count ~ x + (1 | g)", table, family="poisson", exposure="time")
    two = mlm.fit("count ~ x + offset(log(time)) + (1 | g)", table, family="poisson")
    assert one.minus2_loglik == two.minus2_loglik
    rescaled = mlm.fit(
        "count ~ x + (1 | g)", {**table, "time": 7 * time}, family="poisson", exposure="time"
    )
    shift = one.fixed_effects["(Intercept)"] - rescaled.fixed_effects["(Intercept)"]
    assert shift == pytest.approx(math.log(7), abs=1e-6)


def test_the_other_event_changes_every_sign(data):
    labels = np.where(data["binary"] == 1, "yes", "no")
    table = {"y": labels, "x": data["x"], "g": data["g"]}
    yes = mlm.fit("y ~ x + (1 | g)", table, family="binomial")
    no = mlm.fit("y ~ x + (1 | g)", table, family="binomial", event="no")
    assert np.allclose(yes.fixed_effects, -no.fixed_effects, atol=1e-5)
    assert yes.minus2_loglik == pytest.approx(no.minus2_loglik, abs=1e-8)
    assert "y = yes" in yes.design.response.sentence
    assert "y = no" in no.design.response.sentence


@pytest.mark.parametrize("random", [NESTED, CROSSED, SLOPE])
def test_the_order_of_rows_does_not_matter(data, random):
    order = np.random.default_rng(0).permutation(len(data["g"]))
    mixed = {k: v[order] for k, v in data.items()}
    one = mlm.fit(f"count ~ x + {random}", data, family="poisson")
    two = mlm.fit(f"count ~ x + {random}", mixed, family="poisson")
    assert one.minus2_loglik == pytest.approx(two.minus2_loglik, abs=1e-8)
    assert np.allclose(one.fixed_effects, two.fixed_effects, atol=1e-6)


@pytest.mark.parametrize("random", [NESTED, SLOPE, CROSSED])
def test_units_of_predictors_do_not_matter(data, random):
    big = {**data, "x": 1e4 * data["x"] + 3e5}
    one = mlm.fit(f"binary ~ x + {random}", data, family="binomial", n_quad=1)
    two = mlm.fit(f"binary ~ x + {random}", big, family="binomial", n_quad=1)
    assert one.minus2_loglik == pytest.approx(two.minus2_loglik, abs=1e-6)
    ratio = one.fixed_effects["x"] / two.fixed_effects["x"]
    assert ratio == pytest.approx(1e4, rel=1e-4)


def test_a_model_without_random_effects_is_a_glm(data):
    fit = mlm.fit("binary ~ x", data, family="binomial")
    X = np.column_stack([np.ones(len(data["x"])), data["x"]])
    beta = np.zeros(2)
    for _ in range(30):
        p = 1 / (1 + np.exp(-X @ beta))
        beta = beta + np.linalg.solve((X.T * (p * (1 - p))) @ X, X.T @ (data["binary"] - p))
    assert np.allclose(fit.fixed_effects, beta, atol=1e-6)
    information = np.linalg.inv((X.T * (p * (1 - p))) @ X)
    assert np.allclose(fit.vcov_fixed, information, rtol=1e-5)
    assert fit.approximation.method == "none"
