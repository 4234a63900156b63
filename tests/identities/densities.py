"""Log densities of every family from scipy alone, as the documentation of the families states them.

``log_density(name, link, y, eta)``: ``eta`` has one array per linear predictor, in the order of the
family's parts; ``y`` are responses as numbers (categories 0, 1, ...; censored: pairs).
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import expit, gammaln, log_expit

INVERSE = {
    "identity": lambda e: e,
    "log": np.exp,
    "sqrt": np.square,
    "inverse": lambda e: 1.0 / e,
    "logit": expit,
    "probit": stats.norm.cdf,
    "cauchit": stats.cauchy.cdf,
    "cloglog": lambda e: -np.expm1(-np.exp(e)),
}


def log_density(name: str, link: str, y, eta, *, free: bool = False):
    """Log density of each response; ``free``: thresholds given as they are."""
    for prefix in ("zero_inflated_", "hurdle_", "truncated_"):
        if name.startswith(prefix):
            return _with_zeros(prefix, name.removeprefix(prefix), link, y, eta)
    if name in ("cumulative", "continuation_ratio", "adjacent"):
        return _ordered(name, link, y, eta, free or name != "cumulative")
    return DENSITIES[name](y, INVERSE[link](eta[0]), eta)


def _with_zeros(prefix, name, link, y, eta):
    own = eta if prefix == "truncated_" else eta[:-1]
    shape = np.broadcast_shapes(np.shape(y), *(np.shape(e) for e in eta))
    y = np.broadcast_to(y, shape)
    is_zero = y == 0.0
    if prefix == "zero_inflated_":
        plain = log_density(name, link, y, own)
        with_extra = np.logaddexp(log_expit(eta[-1]), log_expit(-eta[-1]) + plain)
        return np.where(is_zero, with_extra, log_expit(-eta[-1]) + plain)
    positive = log_density(name, link, np.where(is_zero, 1.0 if name in COUNTS else 0.5, y), own)
    if name in COUNTS:
        positive = positive - np.log1p(-np.exp(log_density(name, link, 0.0, own)))
    if prefix == "truncated_":
        return positive
    return np.where(is_zero, log_expit(eta[-1]), log_expit(-eta[-1]) + positive)


def _ordered(name, link, y, eta, free):
    cuts = list(eta[1:]) if free else [eta[1]]
    for step in () if free else eta[2:]:
        cuts.append(cuts[-1] + np.exp(step))
    if name == "adjacent":
        logits = [np.zeros_like(eta[0] - cuts[0])]
        for cut in cuts:
            logits.append(logits[-1] + eta[0] - cut)
        return _chosen(np.stack(logits), y)
    below = [INVERSE[link](cut - eta[0]) for cut in cuts]
    if name == "cumulative":
        steps = [np.zeros_like(below[0]), *below, np.ones_like(below[0])]
        return _pick(np.log(np.diff(np.stack(steps), axis=0)), y)
    stays = np.cumsum([np.zeros_like(below[0]), *(np.log1p(-b) for b in below)], axis=0)
    stops = np.stack([*(np.log(b) for b in below), np.zeros_like(below[0])])
    return _pick(stays + stops, y)


def _pick(table, y):
    index = np.broadcast_to(np.asarray(y, dtype=int), table.shape[1:])
    return np.take_along_axis(table, index[None], axis=0)[0]


def _chosen(logits, y):
    return _pick(logits - np.logaddexp.reduce(logits, axis=0), y)


def _generalized_poisson(y, mu, eta):
    alpha = np.exp(eta[1])
    rate, share = mu / (1 + alpha), alpha / (1 + alpha)
    return np.log(rate) + (y - 1) * np.log(rate + share * y) - rate - share * y - gammaln(y + 1)


def _tweedie(y, mu, eta):
    """Gamma responses summed over a Poisson number of them; enough terms for small counts."""
    phi, p = np.exp(eta[1]), 1.0 + expit(eta[2])
    rate = mu ** (2 - p) / (phi * (2 - p))
    shape, scale = (2 - p) / (p - 1), phi * (p - 1) * mu ** (p - 1)
    y = np.broadcast_to(y, rate.shape)
    total = np.where(y == 0.0, -rate, -np.inf)
    positive = y > 0.0
    for k in range(1, 60):
        term = stats.poisson.logpmf(k, rate[positive]) + stats.gamma.logpdf(
            y[positive], k * shape[positive], scale=scale[positive]
        )
        total[positive] = np.logaddexp(total[positive], term)
    return total


def _censored(y, mu, eta):
    low, high = y
    sd = np.exp(eta[1] / 2)
    inside = stats.norm.logpdf(high, mu, sd)
    cut = np.where(np.isfinite(low), low, 0.0)
    upper = stats.norm.cdf(high, mu, sd)
    lower = np.where(np.isfinite(low), stats.norm.cdf(cut, mu, sd), 0.0)
    return np.where(low == high, inside, np.log(np.where(low == high, 1.0, upper - lower)))


def _censored_lognormal(y, mu, eta):
    low, high = y
    logs = np.log(np.where(low > 0.0, low, 1.0))
    found = _censored((np.where(low > 0.0, logs, -np.inf), np.log(high)), mu, eta)
    return found - np.where(low == high, np.log(high), 0.0)


def _beta(y, mu, phi):
    return stats.beta.logpdf(y, mu * phi, (1 - mu) * phi)


def _ordered_beta(y, mu, eta):
    low, high = eta[2], eta[2] + np.exp(eta[3])
    inside = np.log(expit(eta[0] - low) - expit(eta[0] - high))
    between = np.where((y > 0) & (y < 1), y, 0.5)
    found = inside + _beta(between, mu, np.exp(eta[1]))
    found = np.where(y == 0.0, log_expit(low - eta[0]), found)
    return np.where(y == 1.0, log_expit(eta[0] - high), found)


def _zero_one_inflated(y, mu, eta):
    between = np.where((y > 0) & (y < 1), y, 0.5)
    found = log_expit(-eta[2]) + _beta(between, mu, np.exp(eta[1]))
    found = np.where(y == 0.0, log_expit(eta[2]) + log_expit(-eta[3]), found)
    return np.where(y == 1.0, log_expit(eta[2]) + log_expit(eta[3]), found)


def _nominal(y, mu, eta):
    return _chosen(np.stack([np.zeros_like(eta[0]), *eta]), y)


def _inverse_gaussian(y, mu, eta):
    shape = np.exp(-eta[1])
    return stats.invgauss.logpdf(y, mu / shape, scale=shape)


COUNTS = ("poisson", "negative_binomial", "negative_binomial_1", "generalized_poisson")
DENSITIES = {
    "gaussian": lambda y, mu, eta: stats.norm.logpdf(y, mu, np.exp(eta[1] / 2)),
    "lognormal": lambda y, mu, eta: (
        stats.norm.logpdf(np.log(y), mu, np.exp(eta[1] / 2)) - np.log(y)
    ),
    "binomial": lambda y, mu, eta: stats.bernoulli.logpmf(y, np.clip(mu, 0.0, 1.0)),
    "poisson": lambda y, mu, eta: stats.poisson.logpmf(y, mu),
    "negative_binomial": lambda y, mu, eta: stats.nbinom.logpmf(
        y, np.exp(-eta[1]), 1 / (1 + np.exp(eta[1]) * mu)
    ),
    "negative_binomial_1": lambda y, mu, eta: stats.nbinom.logpmf(
        y, mu * np.exp(-eta[1]), 1 / (1 + np.exp(eta[1]))
    ),
    "generalized_poisson": _generalized_poisson,
    "gamma": lambda y, mu, eta: stats.gamma.logpdf(y, np.exp(-eta[1]), scale=mu * np.exp(eta[1])),
    "inverse_gaussian": _inverse_gaussian,
    "beta": lambda y, mu, eta: _beta(y, mu, np.exp(eta[1])),
    "tweedie": _tweedie,
    "student": lambda y, mu, eta: stats.t.logpdf(y, np.exp(eta[2]), mu, np.exp(eta[1] / 2)),
    "censored_gaussian": _censored,
    "censored_lognormal": _censored_lognormal,
    "ordered_beta": _ordered_beta,
    "zero_one_inflated_beta": _zero_one_inflated,
    "nominal": _nominal,
}
