r"""Checks of a generalized fit: dispersion, zeros, distribution, separation, influential clusters.

Simulated tests draw new random effects and new responses from the fitted model and compare a
statistic of the observed response with its simulated values (parameters taken as known), so the
random effects need not be estimated well. Sources: Gelman & Hill 2007, section 8.3 (predictive
checks); Hartig's DHARMa made them common for mixed models; the idea of the ratio is McCullagh &
Nelder 1989, section 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.infer.distributions import chi_square_tail
from multilevel.interpret.generalized.evidence import WITH_ZEROS, GeneralizedEvidence
from multilevel.interpret.generalized.residuals import (
    cumulative,
    draw_responses,
    fitted_values,
    predictors,
    residuals,
)
from multilevel.interpret.quantile_residuals import (
    LEAST_SIMULATIONS,
    QuantileResiduals,
    quantile_residuals,
)

Array = NDArray[np.float64]
ALPHA = 0.05


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    check : its name; statistic : what was computed from the data; expected : its mean under the
        model (1 for ratios); p_value : NaN where there is no test.
    sentence : the verdict in words.
    """

    check: str
    statistic: float
    expected: float
    p_value: float
    sentence: str


def pearson_ratio(evidence: GeneralizedEvidence) -> Check:
    """Pearson chi-square over its degrees of freedom, given the estimated random effects.

    The degrees of freedom are rows minus fixed effects; random effects use up some more, so 1 is
    a little high for a model that fits. Only a ratio well above 1 means overdispersion.

    Raises
    ------
    InferenceError : responses without a variance, or a family that estimates its dispersion.
    """
    if not _has_fixed_dispersion(evidence):
        raise InferenceError(
            "The ratio of the Pearson chi-square tells something where the variance is fixed.",
            f"family {evidence.family.label} (categories, 0/1 responses or a dispersion)",
            "use the simulated checks",
        )
    found = residuals(evidence, "pearson", "conditional")
    found = found[np.isfinite(found)]
    df = len(found) - evidence.prepared.problem.n_fixed
    chi2 = float(found @ found)
    ratio, p = chi2 / df, float(chi_square_tail(chi2, df))
    verdict = (
        "more than the family allows (overdispersion)" if ratio > 1.2 and p < ALPHA else
        "about as the family says" if ratio > 0.5 else "less than the family says"
    )  # fmt: skip
    return Check(
        "pearson", ratio, 1.0, p,
        f"Pearson chi-square over degrees of freedom is {ratio:.2f}: given the random effects the "
        f"response varies {verdict}.",
    )  # fmt: skip


def _has_fixed_dispersion(evidence: GeneralizedEvidence) -> bool:
    """Whether the variance follows from the mean, and rows can show it (not single 0/1)."""
    family, response = evidence.family, evidence.design.response
    if family.name == "poisson":
        return True
    return family.name == "binomial" and bool(
        response.trials is not None and np.any(response.trials > 1)
    )


def simulated_checks(
    evidence: GeneralizedEvidence, drawn: Array, rng: np.random.Generator
) -> tuple[list[Check], QuantileResiduals]:
    """Tests of the distribution by simulation, and uniform residuals.

    Parameters
    ----------
    drawn : (n, S) responses simulated with new random effects.
    rng : breaks ties and spreads discrete residuals.

    Raises
    ------
    InferenceError : too few simulations.
    """
    y = evidence.design.response.y
    spread = max(float(np.ptp(y)), 1.0)
    # Equal values are ordered at random: a step of the distribution is one spread-out rank.
    jitter = 1e-7 * spread
    found = quantile_residuals(
        y + jitter * rng.random(len(y)), drawn + jitter * rng.random(drawn.shape), rng
    )
    checks = [Check(t.test, t.statistic, t.expected, t.p_value, t.sentence) for t in found.tests]
    if _has_zeros(evidence):
        checks.append(_zeros(y, drawn))
    return checks, found


def _has_zeros(evidence: GeneralizedEvidence) -> bool:
    family = evidence.family
    return family.response in WITH_ZEROS and family.option("truncated") != "yes"


def _zeros(y: Array, drawn: Array) -> Check:
    observed, simulated = float(np.mean(y == 0)), np.mean(drawn == 0, axis=0)
    S = drawn.shape[1]
    above = (1 + np.sum(simulated >= observed)) / (S + 1)
    below = (1 + np.sum(simulated <= observed)) / (S + 1)
    p = float(min(1.0, 2.0 * min(above, below)))
    expected = float(simulated.mean())
    finding = "as many as" if p >= ALPHA else "more than" if observed > expected else "fewer than"
    more = finding == "more than"
    return Check(
        "zeros", observed, expected, p,
        f"{100 * observed:.1f}% of the responses are zero, {finding} the model says "
        f"({100 * expected:.1f}%; p = {p:.3f}, {S} simulated data sets)."
        + (" A zero= part, or more dispersion, may be needed." if more else ""),
    )  # fmt: skip


def separation_check(evidence: GeneralizedEvidence, most: float = 15.0) -> Check:
    """Rows whose expected probability is 0 or 1 for all practical purposes."""
    if evidence.family.response != "binary":
        raise InferenceError(
            "Separation belongs to binary responses.",
            f"family {evidence.family.label}",
            "leave this check out",
        )
    eta = np.abs(predictors(evidence, "population")[0])
    share = float(np.mean(eta > most))
    text = (
        f"{100 * share:.1f}% of the rows have a linear predictor beyond {most:g}: a predictor "
        "separates the response (almost) completely; its slope and standard error mean nothing."
        if share > 0.0
        else "No linear predictor is extreme: no sign of separation."
    )
    return Check("separation", share, 0.0, float("nan"), text)


def run_checks(
    evidence: GeneralizedEvidence, n_sim: int, rng: np.random.Generator
) -> tuple[Check, ...]:
    """Every check that this family has.

    Raises
    ------
    InferenceError : fewer than 20 simulations.
    """
    if n_sim < LEAST_SIMULATIONS:
        raise InferenceError(
            f"Checks need at least {LEAST_SIMULATIONS} simulations.", f"{n_sim}", "write n_sim=250"
        )
    out: list[Check] = []
    if _has_fixed_dispersion(evidence):
        out.append(pearson_ratio(evidence))
    if evidence.family.response != "interval":
        drawn = draw_responses(evidence, n_sim, rng, "marginal")
        out += simulated_checks(evidence, drawn, rng)[0]
    if evidence.family.response == "binary":
        out.append(separation_check(evidence))
    return tuple(out)


@dataclass(frozen=True)
class ClusterInfluence:
    """How far the estimates move, to first order, if one cluster is left out.

    Attributes
    ----------
    group : factor; levels : (J,) labels; n_rows : (J,).
    change : (J, P) one-step change of every parameter; cooks_distance : (J,)
        ``change' V^-1 change / P`` over parameters with a standard error.
    sentence : in words.
    """

    group: str
    levels: NDArray[np.object_]
    n_rows: NDArray[np.int64]
    change: Array
    cooks_distance: Array
    sentence: str


def cluster_influence(evidence: GeneralizedEvidence) -> ClusterInfluence:
    """One-step influence of each level of the coarsest factor: ``- V s_j``, s_j its score.

    Source: Pregibon 1981 (Annals of Statistics 9:705), for clusters as in Nieuwenhuis et al. 2012.

    Raises
    ------
    InferenceError : no random effects, or factors that are crossed.
    """
    scores = evidence.objective.cluster_scores() if evidence.design.blocks else None
    if scores is None:
        raise InferenceError(
            "Clusters can be left out only where one factor holds all others.",
            "crossed factors" if evidence.design.blocks else "no random effects",
            "read the residuals",
        )
    fit, block = evidence.fit, evidence.design.blocks[-1]
    change = -scores @ fit.vcov
    used = np.flatnonzero(np.diag(fit.vcov) > 0.0)
    inverse = np.linalg.pinv(fit.vcov[np.ix_(used, used)])
    moved = change[:, used]
    cook = np.einsum("jp,pq,jq->j", moved, inverse, moved) / max(len(used), 1)
    first = int(np.argmax(cook))
    k = int(np.argmax(np.abs(change[first, used]) / np.sqrt(np.diag(fit.vcov)[used])))
    size = change[first, used[k]] / np.sqrt(fit.vcov[used[k], used[k]])
    names = (*evidence.design.parameter_names,)
    name = names[used[k]] if used[k] < len(names) else "a variance parameter"
    sentence = (
        f"Level {block.levels[first]} of {block.group} moves the estimates most: without it {name} "
        f"would change by about {size:+.2f} standard errors (Cook's distance {cook[first]:.3f}; "
        "one-step approximation)."
    )
    counts = np.bincount(block.codes, minlength=block.n_levels).astype(np.int64)
    return ClusterInfluence(
        block.group, np.asarray(block.levels, dtype=object), counts, change, cook, sentence
    )


def calibration(
    evidence: GeneralizedEvidence, kind: str = "conditional", n_bins: int = 10
) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Mean expected response, mean observed one, its standard error and rows, in bins (B,).

    Bins hold equal numbers of rows in the order of the expected response.

    Raises
    ------
    InferenceError : categories, or fewer than two bins.
    """
    if evidence.categories or evidence.family.response == "interval" or n_bins < 2:
        raise InferenceError(
            "Observed against expected needs responses that are numbers, and two bins or more.",
            f"family {evidence.family.label}, {n_bins} bins",
            'use plot("quantile_residuals")',
        )
    expected = fitted_values(evidence, kind)[0]
    response = evidence.design.response
    y = response.y if response.trials is None else response.y / np.maximum(response.trials, 1.0)
    order = np.argsort(expected, kind="stable")
    rows = np.array_split(order, min(n_bins, len(order)))
    sizes = np.array([len(r) for r in rows], dtype=np.int64)
    error = [float(y[r].std(ddof=1)) / np.sqrt(len(r)) if len(r) > 1 else np.nan for r in rows]
    return (
        np.array([expected[r].mean() for r in rows]),
        np.array([y[r].mean() for r in rows]),
        np.array(error),
        sizes,
    )


def uniform_residuals(evidence: GeneralizedEvidence, rng: np.random.Generator) -> Array:
    """Randomised uniform residuals (n,), averaged over the random effects."""
    below, up_to = cumulative(evidence, "marginal")
    return np.asarray(below + rng.random(len(below)) * (up_to - below))
