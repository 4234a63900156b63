"""Structured random effects against dense normal likelihoods, each other and differences."""

from __future__ import annotations

import numpy as np
import pytest

import multilevel as mlm
from multilevel.model.covariance.curves import CURVED, Curve
from multilevel.model.covariance.structures import factor_map, parameters_from_covariance

TIMES = np.array([0.0, 1.0, 2.0, 4.0, 7.0])  # gaps: the value of time decides
TERMS = {
    "ar1": "ar1(0 + t | g)",
    "arma11": "arma11(0 + t | g)",
    "toep": "toep(0 + t | g, band=2)",
    "car1": "car1(0 + t | g)",
    "exp": "exp(0 + t | g)",
    "gau": "gau(0 + t | g)",
    "sph": "sph(0 + t | g)",
    "arh1": "arh1(0 + t | g)",
    "toeph": "toeph(0 + t | g, band=2)",
    "csh": "csh(0 + C(t) | g)",
    "fa": "fa(0 + C(t) | g, rank=1)",
    "rr": "rr(0 + C(t) | g, 2)",
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    n_g, rep = 30, 2
    g = np.repeat(np.arange(n_g), len(TIMES) * rep)
    k = np.tile(np.repeat(np.arange(len(TIMES)), rep), n_g)
    C = 0.75 ** np.abs(TIMES[:, None] - TIMES)
    b = rng.normal(size=(n_g, len(TIMES))) @ np.linalg.cholesky(C).T
    x = rng.normal(size=len(g))
    h = rng.integers(0, 6, len(g))
    eta = 0.5 * x + b[g, k]
    y = 1.0 + eta + 0.4 * rng.normal(size=6)[h] + 0.6 * rng.normal(size=len(g))
    out = {
        "y": y, "x": x, "g": g, "t": TIMES[k], "h": h, "d": np.where(TIMES[k] < 2, 0, 1),
        "count": rng.poisson(np.exp(0.6 * eta)).astype(float),
    }  # fmt: skip
    keep = rng.random(len(g)) > 0.25
    return {name: values[keep] for name, values in out.items()}


def independent_covariance(m):
    """G at the distinct times, from the printed parameters alone."""
    found = m.structure_parameters()
    value = dict(zip(found["parameter"], found["estimate"], strict=True))
    kind = dict(zip(found["parameter"], found["kind"], strict=True))
    structure = found["structure"].iloc[0]
    sd = np.array([r.sd for r in m.variance_components().itertuples() if r.group == "g"])
    gap = np.abs(TIMES[:, None] - TIMES)
    if structure in ("fa", "rr"):
        L = np.zeros((5, 2 if structure == "rr" else 1))
        unique = np.zeros(5)
        for name, size in value.items():
            row = next(i for i, t in enumerate(TIMES) if f"[{t:.1f}]" in name or f"[{t:g}]" in name)
            if kind[name] == "uniqueness":
                unique[row] = size
        loads = found[found["kind"] == "loading"]
        for name, size in zip(loads["parameter"], loads["estimate"], strict=True):
            row = next(i for i, t in enumerate(TIMES) if f"[{t:.1f}]" in name or f"[{t:g}]" in name)
            L[row, int(name[-1]) - 1] = size
        unique = found.loc[found["kind"] == "uniqueness", "estimate"].to_numpy()
        return L @ L.T + (np.diag(unique**2) if len(unique) else 0.0)
    if structure in ("ar1", "arh1"):
        C = value["rho"] ** gap
    elif structure == "arma11":
        rho, ma = value["rho"], value["theta"]
        first = (1 + rho * ma) * (rho + ma) / (1 + 2 * rho * ma + ma**2)
        C = np.where(gap > 0, first * np.sign(rho) ** (gap - 1) * abs(rho) ** (gap - 1), 1.0)
    elif structure in ("toep", "toeph"):
        C = np.eye(5)
        for lag in (1, 2):
            C[gap == lag] = value[f"rho({lag})"]
    elif structure == "csh":
        C = np.where(gap > 0, value["rho"], 1.0)
    elif structure == "car1":
        C = value["phi"] ** gap
    elif structure == "exp":
        C = np.exp(-gap / value["range"])
    elif structure == "gau":
        C = np.exp(-((gap / value["range"]) ** 2))
    else:
        u = np.minimum(gap / value["range"], 1.0)
        C = 1 - 1.5 * u + 0.5 * u**3
    sd = np.full(5, sd[0]) if len(sd) == 1 else sd
    return sd[:, None] * C * sd


def dense(y, X, V, reml):
    L = np.linalg.cholesky(V)
    a, B = np.linalg.solve(L, y), np.linalg.solve(L, X)
    beta = np.linalg.lstsq(B, a, rcond=None)[0]
    r = a - B @ beta
    n, p = X.shape
    d = 2 * np.log(np.diag(L)).sum() + r @ r + (n - p if reml else n) * np.log(2 * np.pi)
    return d + (np.linalg.slogdet(B.T @ B)[1] if reml else 0.0)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", TERMS)
def test_the_criterion_is_the_dense_one_at_the_printed_parameters(data, name, method):
    m = mlm.fit(f"y ~ x + {TERMS[name]}", data, method=method)
    assert m.certificate.is_certified
    G = independent_covariance(m)
    assert np.allclose(G, m.random_covariance["g"], rtol=1e-6, atol=1e-8)
    k = np.searchsorted(TIMES, data["t"])
    same = data["g"][:, None] == data["g"]
    V = G[np.ix_(k, k)] * same + m.residual_variance * np.eye(len(k))
    X = np.column_stack([np.ones(len(k)), data["x"]])
    assert m.fit.criterion == pytest.approx(dense(data["y"], X, V, method == "reml"), abs=1e-6)


@pytest.mark.parametrize("extra", ["", " + (1 | h)"], ids=["one factor", "crossed"])
@pytest.mark.parametrize("name", TERMS)
def test_gaussian_gradients_are_differences(data, name, extra):
    m = mlm.fit(f"y ~ x + {TERMS[name]}{extra}", data)
    objective = m._prepared.objective()
    theta = 0.95 * m.fit.theta - 0.01
    objective.set(theta)
    gradient = objective.gradient()
    if not extra:
        H = objective.exact_hessian()
        assert np.allclose(H, objective.differenced_hessian(theta), rtol=1e-4, atol=2e-4)
    for a, slope in enumerate(gradient):
        step = np.zeros(len(theta))
        step[a] = 1e-5
        rise = (objective.value(theta + step) - objective.value(theta - step)) / 2e-5
        assert rise == pytest.approx(slope, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("extra", ["", " + (1 | h)"], ids=["one factor", "crossed"])
@pytest.mark.parametrize("name", ["ar1", "arh1", "toep", "csh", "fa", "rr"])
def test_generalized_gradients_are_differences(data, name, extra):
    from multilevel.likelihood.generalized.choose import make_objective

    term = TERMS[name].replace(", band=2", "")
    m = mlm.fit(f"count ~ x + {term}{extra}", data, family="poisson", n_quad=1)
    objective = make_objective(m._prepared.problem, 1)
    psi = 0.95 * m.fit.psi - 0.01
    objective.value(psi)
    gradient = objective.gradient()
    for a, slope in enumerate(gradient):
        step = np.zeros(len(psi))
        step[a] = 1e-5
        rise = (objective.value(psi + step) - objective.value(psi - step)) / 2e-5
        assert rise == pytest.approx(slope, rel=1e-5, abs=2e-4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("car1(0 + t | g)", "exp(0 + t | g)"),
        ("ar1(0 + t | g)", "car1(0 + t | g)"),  # one step is one unit of time, rho > 0
        ("csh(0 + C(d) | g)", "us(0 + C(d) | g)"),
        ("toeph(0 + d | g)", "us(0 + C(d) | g)"),
        ("toep(0 + d | g)", "cs(0 + C(d) | g)"),
        ("rr(0 + C(t) | g, rank=5)", "us(0 + C(t) | g)"),
        ("rr(0 + C(d) | g, rank=2)", "us(0 + C(d) | g)"),
    ],
)
def test_the_same_model_in_other_words(data, one, other):
    first, second = (mlm.fit(f"y ~ x + {term}", data) for term in (one, other))
    assert first.fit.criterion == pytest.approx(second.fit.criterion, abs=1e-6)
    assert np.allclose(first.random_covariance["g"], second.random_covariance["g"], atol=2e-4)


def test_one_factor_of_three_is_unstructured():
    rng = np.random.default_rng(6)
    g, t = np.repeat(np.arange(60), 6), np.tile(np.repeat([0, 1, 2], 2), 60)
    b = rng.normal(size=(60, 1)) @ np.array([[0.9, 0.7, 1.2]]) + 0.7 * rng.normal(size=(60, 3))
    three = {"y": b[g, t] + 0.5 * rng.normal(size=len(g)), "g": g, "t": t}
    fa = mlm.fit("y ~ 1 + fa(0 + C(t) | g)", three)
    us = mlm.fit("y ~ 1 + us(0 + C(t) | g)", three)
    assert fa.fit.criterion == pytest.approx(us.fit.criterion, abs=1e-6)


def test_compound_symmetry_is_an_intercept_and_independent_effects(data):
    cs = mlm.fit("y ~ x + cs(0 + C(t) | g)", data)
    cell = {**data, "cell": [f"{g}/{t}" for g, t in zip(data["g"], data["t"], strict=True)]}
    two = mlm.fit("y ~ x + (1 | g) + (1 | cell)", cell)
    assert cs.fit.criterion == pytest.approx(two.fit.criterion, abs=1e-6)


@pytest.mark.parametrize("engine", ["small", "dense", "sparse"])
def test_engines_agree(data, engine):
    formula = "y ~ x + (1 | h) + arh1(0 + t | g)"
    m = mlm.fit(formula, data)
    other = mlm.fit(formula, data, engine=engine)
    assert other.fit.criterion == pytest.approx(m.fit.criterion, abs=1e-6)


@pytest.mark.parametrize("structure", CURVED)
def test_maps_have_their_derivatives_and_find_their_parameters(structure):
    order = 2 if structure in ("fa", "rr") else 0
    curve = Curve(structure, (0.0, 1.0, 3.0, 4.0, 7.0), tuple("abcde"), order, 1.0)
    mapping = factor_map(((5, structure), (2, "unstructured")), (curve, None))
    rng = np.random.default_rng(3)
    own = 0.7 + 0.2 * rng.normal(size=curve.n_parameters)
    if structure in ("fa", "rr"):  # a second factor unlike the first
        own[-1:-8:-2] *= -0.5
    theta = np.append(own, [1.0, 0.3, 0.8])
    L = mapping.factor(theta)
    slopes, steps = mapping.slopes(theta), mapping.covariance_slopes(theta, L)
    Q = rng.normal(size=(7, 7))
    Q = Q + Q.T
    bends = mapping.bends(theta, Q)
    for a in range(len(theta)):
        h = np.zeros(len(theta))
        h[a] = 1e-6
        up, down = mapping.factor(theta + h), mapping.factor(theta - h)
        assert np.allclose((up - down) / 2e-6, slopes[a], atol=1e-8)
        assert np.allclose((up @ up.T - down @ down.T) / 2e-6, steps[a], atol=1e-8)
        rise = [
            np.tensordot(mapping.covariance_slopes(at, mapping.factor(at)), Q, axes=2)
            for at in (theta + h, theta - h)
        ]
        assert np.allclose((rise[0] - rise[1]) / 2e-6, bends[a], atol=1e-5)
    found = parameters_from_covariance(mapping, L @ L.T)
    again = mapping.factor(found)
    assert np.allclose(again @ again.T, L @ L.T, atol=1e-5)


def test_a_variance_of_zero_is_reached_exactly():
    rng = np.random.default_rng(0)
    g, t = np.repeat(np.arange(20), 6), np.tile(np.repeat([0, 1, 2], 2), 20)
    y = rng.normal(size=(20, 3, 2))
    y = (y - 0.9 * y.mean(axis=2, keepdims=True)).ravel()  # rows of a cell differ too much
    m = mlm.fit("y ~ 1 + ar1(0 + t | g)", {"y": y, "g": g, "t": t})
    assert m.certificate.status == "singular"
    assert np.all(m.random_covariance["g"].to_numpy() == 0.0)
    assert [r.sentence for r in m.certificate.redundant] == [
        "The variance of ar1(t) across g is estimated as exactly zero: leaving this term out gives "
        "the same likelihood."
    ]
    plain = np.var(y, ddof=1)
    assert m.residual_variance == pytest.approx(plain, rel=1e-8)
    profile = m.confint("profile", components=["sd"])
    assert profile["conf_low"][0] == 0.0
    assert profile["conf_high"][0] > 0.0
    assert np.isnan(m.structure_parameters()["estimate"][0])


def autoregressive(seed):
    """Forty series of eight, no error beside the series."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(40, 8))
    for k in range(1, 8):
        e[:, k] += 0.3 * e[:, k - 1]
    return {"y": e.ravel(), "g": np.repeat(np.arange(40), 8), "t": np.tile(np.arange(8), 40)}


def test_a_residual_variance_of_zero_says_what_to_write():
    with pytest.raises(mlm.errors.EstimationError, match="residual="):
        mlm.fit("y ~ 1 + ar1(0 + t | g)", autoregressive(2))


@pytest.mark.parametrize("seed", [0, 3])
def test_autoregressive_residuals_are_the_case_without_an_independent_part(seed):
    d = autoregressive(seed)
    both = mlm.fit("y ~ 1 + ar1(0 + t | g)", d)
    alone = mlm.fit("y ~ 1", d, residual="ar1(t | g)")
    assert both.fit.criterion < alone.fit.criterion
    objective = both._prepared.objective()  # a residual of next to nothing beside the same rho
    rho = alone.residual_parameters()["estimate"].iloc[-1]
    found = objective.value(np.array([1e3, np.arctanh(rho)]))
    here = objective.value(both.fit.theta)
    assert found - here == pytest.approx(alone.fit.criterion - both.fit.criterion, abs=1e-3)


def test_row_order_and_units_of_time_change_nothing(data):
    m = mlm.fit("y ~ x + ar1(0 + t | g)", data)
    mixed = np.random.default_rng(4).permutation(len(data["y"]))
    shuffled = {name: values[mixed] for name, values in data.items()}
    shuffled["t"] = 3.0 + 2.0 * shuffled["t"]
    again = mlm.fit("y ~ x + ar1(0 + t | g)", shuffled)
    assert again.fit.criterion == pytest.approx(m.fit.criterion, abs=1e-8)
