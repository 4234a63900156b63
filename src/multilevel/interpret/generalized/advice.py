"""Advice on a generalized fit: what its design, its estimates and its approximation show.

The numbers in the functions' texts are those of the list of mistakes in the docs.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.related import is_related
from multilevel.estimate.generalized.prepare import prepare_generalized
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.records import Fit
from multilevel.infer.generalized.effects import full_effects, mean_part
from multilevel.interpret.advice.centring import (
    about_predictors,
    about_random_slopes,
    about_scales,
)
from multilevel.interpret.advice.clusters import FEW, RATHER_FEW, about_sizes
from multilevel.interpret.advice.columns import INTERCEPT, split
from multilevel.interpret.advice.deviations import about_deviations
from multilevel.interpret.advice.ids import about_ids
from multilevel.interpret.advice.interactions import about_products
from multilevel.interpret.advice.means import (
    about_contextual,
    about_reliability,
    about_rows_of_means,
    about_standardised,
)
from multilevel.interpret.advice.optimum import about_certificate
from multilevel.interpret.advice.record import SEVERITIES, Advice
from multilevel.interpret.generalized.checks import pearson_ratio
from multilevel.interpret.generalized.evidence import GeneralizedEvidence, any_rows
from multilevel.interpret.generalized.latent import between_variances
from multilevel.interpret.generalized.predict import check_marginal
from multilevel.interpret.generalized.residuals import fitted_values, predictors
from multilevel.likelihood.generalized.choose import has_quadrature

Array = NDArray[np.float64]
NOTABLE_ERROR = 0.5  # of -2 log-likelihood
LITTLE_ROWS, LARGE_VARIANCE = 10, 3.0
OVERDISPERSED = 1.5
EXTREME_ETA = 15.0


def advise_generalized(design: GeneralizedDesign, fit: GeneralizedFit) -> tuple[Advice, ...]:
    """Run every check that the design and the fit alone can decide.

    Returns
    -------
    Pieces of advice, errors first, then warnings, then notes; empty if nothing was found.
    """
    evidence = GeneralizedEvidence(prepare_generalized(design), fit)
    plain = design.mean
    if is_related(design.blocks):  # the others know rows with one level, and independent levels
        general = [
            *about_certificate(cast(Fit, fit)),
            *about_zero_variances(evidence),
            *about_separation(evidence),
            *about_approximation(evidence),
            *about_scales(plain),
        ]
        return tuple(sorted(general, key=lambda advice: SEVERITIES.index(advice.severity)))
    found = [
        *about_certificate(cast(Fit, fit)),  # reads the certificate only
        *about_zero_variances(evidence),
        *about_separation(evidence),
        *about_predictors(plain),
        *about_random_slopes(plain),
        *[a for a in about_sizes(plain) if a.code != "one_row_per_cluster"],
        *about_single_rows(evidence),
        *about_few_clusters(evidence),
        *about_approximation(evidence),
        *about_dispersion(evidence),
        *about_zeros(evidence),
        *about_averages(evidence),
        *about_rescaling(evidence),
        *about_scales(plain),
        *about_deviations(plain),
        *_contextual(evidence),
        *about_reliability(plain),
        *about_rows_of_means(plain),
        *about_standardised(plain),
        *about_products(plain),
        *about_ids(plain),
    ]
    return tuple(sorted(found, key=lambda advice: SEVERITIES.index(advice.severity)))


def _contextual(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 2, by the estimates of the mean."""
    if not evidence.design.parts[0].names:
        return []
    effects = full_effects(evidence.design, evidence.fit, mean_part(evidence.design))
    return about_contextual(effects.design, cast(Fit, effects))  # reads beta and its covariance


def about_zero_variances(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 26: variances of zero, correlations of 1 or -1."""
    out = []
    for block, G in zip(evidence.design.blocks, evidence.fit.random_covariance, strict=True):
        variances = np.diag(G)
        scale = np.sqrt(np.mean(block.columns**2, axis=0))
        zero = [n for n, v, s in zip(block.names, variances, scale, strict=True) if v * s**2 < 1e-8]
        rank = int(np.linalg.matrix_rank(G * np.outer(scale, scale), tol=1e-8))
        if zero:
            text = f"The variance of {', '.join(zero)} over {block.group} is estimated as zero."
        elif rank < len(G):
            text = f"The random effects over {block.group} are perfectly correlated."
        else:
            continue
        out.append(
            Advice(
                "singular",
                "warning",
                text,
                "Do not read it as evidence of no variation where clusters are few or small; "
                'compare with the simpler model, or fit with penalty="variances".',
            )
        )
    return out


def about_separation(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 29: complete or quasi-complete separation, parameters that run to a limit."""
    out = [
        Advice(
            "at_limit",
            "error",
            sentence,
            'Collapse categories, take the term out, or fit with penalty="slopes".',
        )
        for sentence in evidence.fit.at_limit.values()
    ]
    if evidence.family.response == "binary" and not out:
        eta = predictors(evidence, "population")[0]
        if float(np.max(np.abs(eta), initial=0.0)) > EXTREME_ETA:
            out.append(
                Advice(
                    "separation",
                    "error",
                    f"A linear predictor reaches {float(np.abs(eta).max()):.0f} on the "
                    f"{evidence.family.link} scale: some predictor separates the response.",
                    'Collapse categories, take the term out, or fit with penalty="slopes".',
                )
            )
    return out


def about_single_rows(evidence: GeneralizedEvidence) -> list[Advice]:
    """One row per level: an observation-level random effect, or one that cannot be known."""
    out: list[Advice] = []
    for block in evidence.design.blocks:
        if block.n_levels < evidence.design.n:
            continue
        trials = evidence.design.response.trials
        is_single = trials is None or float(np.max(trials)) <= 1.0
        if evidence.family.response == "binary" and is_single:
            out.append(
                Advice(
                    "one_row_per_cluster",
                    "error",
                    f"Every level of {block.group} has one 0/1 response: its variance is not "
                    "identified.",
                    f"Take out the random term over {block.group}.",
                )
            )
        else:
            out.append(
                Advice(
                    "observation_level_effect",
                    "note",
                    f"Every level of {block.group} has a single row: this random effect stands for "
                    "overdispersion, not for clusters.",
                    "Read its variance as extra-variation of the rows, and leave it out of "
                    "intraclass correlations between clusters.",
                )
            )
    return out


def about_few_clusters(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 24: few clusters; ML estimates their variance too small, z tests are too liberal."""
    out = []
    has_reml = any(part != 0 for own in evidence.design.block_parts for part in own) and (
        evidence.family.name == "gaussian" and evidence.family.link == "identity"
    )
    for block in evidence.design.blocks:
        J = block.n_levels
        if J >= RATHER_FEW or evidence.fit.method == "reml":
            continue
        very = J < FEW
        mend = (
            f"Enter {block.group} as a fixed effect and take out its random term."
            if very and ":" not in block.group
            else 'Write df="between-within" for tests between clusters, and take intervals of the '
            "variance from the profile or the bootstrap."
        )
        if has_reml:
            mend = f'{mend} Or fit with method="reml", an approximation to REML.'
        only = "" if has_reml else "(the only method for this family) "
        out.append(
            Advice(
                "few_clusters",
                "warning" if very else "note",
                f"{block.group} has {J} levels: maximum likelihood {only}estimates its variance "
                "too small, and z tests between levels are too liberal.",
                mend,
            )
        )
    return out


def about_approximation(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 30: an approximation of the likelihood that is not good enough."""
    how = evidence.fit.approximation
    nested = has_quadrature(evidence.prepared.problem)
    mend = (
        'Fit again with accuracy="auto", which raises the number of points until it no longer '
        "matters."
        if nested
        else "Quadrature needs one grouping factor or nested ones, and independent levels: read "
        "variances with care."
    )
    if how.error is not None:
        if abs(how.error.criterion) - 2.0 * how.error.std_error <= NOTABLE_ERROR:
            return []
        return [
            Advice(
                "approximation",
                "warning",
                f"The {how.method} approximation is off by about {abs(how.error.criterion):.2g} in "
                "-2 log-likelihood: enough to change a test or a variance.",
                mend,
            )
        ]
    if how.method != "Laplace" or evidence.family.response not in ("binary", "ordered", "nominal"):
        return []
    out = []
    for block, G in zip(evidence.design.blocks, evidence.fit.random_covariance, strict=True):
        rows = evidence.design.n / block.n_levels
        if rows < LITTLE_ROWS and float(np.diag(G).max()) > LARGE_VARIANCE:
            out.append(
                Advice(
                    "approximation",
                    "warning",
                    f"{rows:.1f} rows per level of {block.group} say little about each level, and "
                    f"the variance is large ({float(np.diag(G).max()):.1f}): Laplace can be far "
                    "off here, and its error was not estimated.",
                    mend,
                )
            )
    return out


def about_dispersion(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 34: overdispersed counts or proportions."""
    trials = evidence.design.response.trials
    several = trials is not None and float(np.max(trials)) > 1.0
    if evidence.family.name != "poisson" and not (evidence.family.name == "binomial" and several):
        return []
    ratio = pearson_ratio(evidence).statistic
    if ratio < OVERDISPERSED:
        return []
    other = 'family="negative_binomial"' if evidence.family.name == "poisson" else "a beta response"
    return [
        Advice(
            "overdispersion",
            "warning",
            f"Pearson chi-square over degrees of freedom is {ratio:.2f}: the response varies more "
            "than the family allows, so standard errors are too small.",
            f"Compare with {other}, or add a random effect for every row, (1 | row); check whether "
            "an exposure is missing.",
        )
    ]


def about_zeros(evidence: GeneralizedEvidence) -> list[Advice]:
    """More zeros than the family expects given its random effects."""
    family = evidence.family
    is_count = family.response == "count" and family.option("truncated") != "yes"
    if not is_count or family.option("zero"):
        return []
    n = evidence.design.n
    eta = predictors(evidence, "conditional")
    expected = any_rows(evidence, n, zero=True).cumulative(eta)[1]
    observed = float(np.sum(evidence.design.response.y == 0))
    centre, spread = float(expected.sum()), float(np.sqrt((expected * (1 - expected)).sum()))
    if observed - centre < 4.0 * spread or observed < 1.2 * centre:
        return []
    return [
        Advice(
            "many_zeros",
            "note",
            f"{observed:.0f} responses are zero; the model expects {centre:.0f}.",
            'Look at checks(), and compare with zero="~ 1" or a negative binomial.',
        )
    ]


def about_averages(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 32: the intercept is not the sample proportion; ratios are within clusters."""
    if evidence.family.response != "binary" or 0 not in evidence.random:
        return []
    check_marginal(evidence)
    variance = float(between_variances(evidence, evidence.fit.psi).sum())
    if variance < 0.1:
        return []
    typical, averaged = (fitted_values(evidence, k)[0] for k in ("population", "marginal"))
    row = int(np.argmax(np.abs(typical - averaged)))
    return [
        Advice(
            "unit_specific",
            "note",
            "The intercept and all ratios hold within a cluster, conditional on U: a row can have "
            f"a probability of {typical[row]:.3f} in a cluster with U = 0, but of "
            f"{averaged[row]:.3f} averaged over clusters.",
            'For statements about the population use predict(kind="marginal"), average_slopes() '
            "and the marginal rows of ratios().",
        )
    ]


def about_rescaling(evidence: GeneralizedEvidence) -> list[Advice]:
    """Mistake 33: coefficients of nested logit models are not on one scale."""
    design = evidence.design
    if evidence.family.level_one_variance is None or not design.blocks:
        return []
    block = design.blocks[-1]
    within = [
        name
        for j, name in enumerate(design.parts[0].names)
        if name != INTERCEPT and split(design.parts[0].X[:, j], block).varies_within
    ]
    if not within:
        return []
    return [
        Advice(
            "rescaling",
            "note",
            f"The level-1 variance is fixed by the link ({evidence.family.level_one_variance:.2f}),"
            f" so {within[0]}{' and others' if len(within) > 1 else ''} inflate"
            f"{'s' if len(within) == 1 else ''} the other slopes and variances against a model "
            "without.",
            "Do not compare coefficients across models; r2(compared_with=...) gives rescaled "
            "variances, average_slopes() an unaffected scale.",
        )
    ]
