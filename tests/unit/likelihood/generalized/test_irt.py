"""The marginal likelihood of models with slopes: brute force, differences, patterns, points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, ndtr

from multilevel.errors import LikelihoodError
from multilevel.likelihood.generalized.irt_categories import category_tables
from multilevel.likelihood.generalized.irt_objective import CHUNK, ItemObjective
from multilevel.likelihood.generalized.irt_problem import make_problem

CATEGORIES = (2, 3, 4, 2, 3)
CASES = [
    ("partial_credit", "logit", 0.0, 0),
    ("partial_credit", "logit", 0.2, 2),
    ("graded", "logit", 0.2, 2),
    ("graded", "probit", 0.0, 1),
]


def make(kind, link, missing, q, n=40, seed=3):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, c, n) for c in CATEGORIES], axis=1)
    codes[rng.random(codes.shape) < missing] = -1
    x = rng.normal(size=(n, q)) if q else None
    problem = make_problem(codes, CATEGORIES, kind=kind, link=link, x=x)
    steps = [np.sort(rng.normal(size=c - 1))[::-1] for c in CATEGORIES]
    psi = np.concatenate([rng.uniform(0.6, 1.6, 5), *steps, 0.4 * rng.normal(size=q)])
    return codes, x, problem, psi


def probability(kind, link, a, d, c, theta):
    """One category probability, written out from its definition."""
    t = a * theta + np.asarray(d)
    if kind == "graded":
        F = expit if link == "logit" else ndtr
        upper = np.concatenate([[1.0], F(t), [0.0]])
        return upper[c] - upper[c + 1]
    weights = np.exp(np.concatenate([[0.0], np.cumsum(t)]))
    return weights[c] / weights.sum()


@pytest.mark.parametrize(("kind", "link", "missing", "q"), CASES)
def test_value_is_the_integral(kind, link, missing, q):
    codes, x, problem, psi = make(kind, link, missing, q, n=6)
    slopes, rest = psi[:5], psi[5:]
    ends = np.cumsum([0, *(c - 1 for c in CATEGORIES)])
    steps = [rest[ends[i] : ends[i + 1]] for i in range(5)]
    gamma = rest[ends[-1] :]
    total = 0.0
    for n in range(len(codes)):
        mean = 0.0 if x is None else float(x[n] @ gamma)

        def integrand(theta, n=n, mean=mean):
            value = np.exp(-0.5 * (theta - mean) ** 2) / np.sqrt(2.0 * np.pi)
            for i, c in enumerate(codes[n]):
                if c >= 0:
                    value *= probability(kind, link, slopes[i], steps[i], c, theta)
            return value

        total += np.log(quad(integrand, -12.0, 12.0, epsabs=1e-14, epsrel=1e-12, limit=200)[0])
    value = ItemObjective(problem, 61, 2.0).value(psi)
    # 61 points reach 6.5 standard deviations: what is left out is below 1e-9 of the integral
    assert value == pytest.approx(-2.0 * total, abs=1e-7)


@pytest.mark.parametrize(("kind", "link", "missing", "q"), CASES)
def test_derivatives_equal_differences(kind, link, missing, q):
    _, _, problem, psi = make(kind, link, missing, q)
    objective = ItemObjective(problem, 61, 2.0)

    def gradient(at):
        objective.value(at)
        return objective.gradient()

    step = 1e-5 * np.eye(len(psi))
    first = [(objective.value(psi + s) - objective.value(psi - s)) / 2e-5 for s in step]
    second = [(gradient(psi + s) - gradient(psi - s)) / 2e-5 for s in step]
    objective.value(psi)
    g, H = objective.derivatives()
    size = np.abs(H).max()
    np.testing.assert_allclose(g, first, atol=1e-8 * size)
    np.testing.assert_allclose(H, second, atol=1e-7 * size)
    np.testing.assert_allclose(objective.gradient(), g, rtol=1e-12)


def test_linear_scores_equal_the_general_ones():
    """Partial credit has a fast path for the covariance of scores; point by point is the twin."""
    _, _, problem, psi = make("partial_credit", "logit", 0.2, 2)
    fast = ItemObjective(problem, 41, 2.0)
    fast.value(psi)
    g, H = fast.derivatives()
    plain = ItemObjective(problem, 41, 2.0)
    plain._linear_scores = plain._any_scores
    plain.value(psi)
    g_plain, H_plain = plain.derivatives()
    np.testing.assert_allclose(g, g_plain, rtol=1e-12)
    np.testing.assert_allclose(H, H_plain, atol=1e-10 * np.abs(H).max())


@pytest.mark.parametrize(("kind", "link", "missing", "q"), CASES)
def test_outer_products_are_those_of_the_scores_of_persons(kind, link, missing, q):
    codes, x, problem, psi = make(kind, link, missing, q)
    objective = ItemObjective(problem, 61, 2.0)
    objective.value(psi)
    g, H = objective.outer_product()
    np.testing.assert_allclose(g, objective.gradient(), atol=1e-9 * np.abs(g).max())
    expected = np.zeros_like(H)
    for k in range(len(codes)):
        own = None if x is None else x[k : k + 1]
        one = ItemObjective(
            make_problem(codes[k : k + 1], CATEGORIES, kind=kind, link=link, x=own), 61, 2.0
        )
        one.value(psi)
        score = -0.5 * one.gradient()
        expected += 2.0 * np.outer(score, score)
    np.testing.assert_allclose(H, expected, atol=1e-9 * np.abs(H).max())


@pytest.mark.parametrize("kind", ["partial_credit", "graded"])
def test_designs_of_slopes_and_steps_follow_the_chain_rule(kind):
    """Equal slopes and shared steps are sums of the derivatives of free ones."""
    codes, _, _, _ = make(kind, "logit", 0.1, 0)
    codes = np.minimum(codes, 1)
    codes[:, 1:3] = codes[:, 3:5]
    A, B = np.ones((5, 1)), np.repeat(np.eye(3), (2, 2, 1), axis=0)
    free = make_problem(codes, (2,) * 5, kind=kind)
    tied = make_problem(codes, (2,) * 5, kind=kind, slopes=A, easiness=B)
    psi = np.array([1.2, 0.4, -0.3, 0.1])
    J = np.block([[A, np.zeros((5, 3))], [np.zeros((5, 1)), B]])
    one, other = ItemObjective(tied), ItemObjective(free)
    assert one.value(psi) == pytest.approx(other.value(J @ psi), rel=1e-13)
    g, H = one.derivatives()
    g_free, H_free = other.derivatives()
    np.testing.assert_allclose(g, J.T @ g_free, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(H, J.T @ H_free @ J, rtol=1e-9, atol=1e-9)


def test_equal_patterns_are_counted_once():
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 2, (CHUNK + 500, 4))
    problem = make_problem(codes, (2,) * 4, kind="graded")
    assert len(problem.counts) == 16
    assert problem.counts.sum() == len(codes)
    psi = np.array([1.0, 0.8, 1.2, 0.5, 0.1, -0.2, 0.3, 0.0])
    objective = ItemObjective(problem)
    objective.value(psi)
    by_person = objective.log_likelihoods()[problem.pattern_of]
    one = [make_problem(codes[k : k + 1], (2,) * 4, kind="graded") for k in range(5)]
    alone = [ItemObjective(p).value(psi) for p in one]
    np.testing.assert_allclose(-2.0 * by_person[:5], alone, rtol=1e-12)


def test_missing_responses_are_integrated_over_what_is_there():
    """A person without item 3 has the likelihood of a test without item 3."""
    codes = np.array([[0, 1, -1, 1]])
    psi = np.array([1.0, 0.8, 1.2, 0.5, 0.1, -0.2, 0.3, 0.0])
    whole = ItemObjective(make_problem(codes, (2,) * 4, kind="graded")).value(psi)
    kept = [0, 1, 3]
    part = make_problem(codes[:, kept], (2,) * 3, kind="graded")
    assert whole == pytest.approx(ItemObjective(part).value(psi[[0, 1, 3, 4, 5, 7]]), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "link"), [("partial_credit", "logit"), ("graded", "logit"), ("graded", "probit")]
)
def test_probabilities_add_to_one_far_out(kind, link):
    theta = np.linspace(-30.0, 30.0, 13)
    t = theta[None, None] + np.array([1.0, 0.0, -0.5])[None, :, None]
    tables = category_tables(t, kind, link, derivatives=True)
    np.testing.assert_allclose(tables.probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(tables.log_p).all()
    score = (tables.probabilities[:, :, None] * tables.first).sum(axis=1)
    np.testing.assert_allclose(score, 0.0, atol=1e-12)


def test_thresholds_out_of_order_have_no_likelihood():
    with pytest.raises(LikelihoodError, match="in order"):
        category_tables(np.array([[[0.0], [1.0]]]), "graded")


def test_partial_credit_has_the_logit_link_only():
    with pytest.raises(LikelihoodError, match="logit"):
        make_problem(np.zeros((2, 2), int), (2, 2), kind="partial_credit", link="probit")
