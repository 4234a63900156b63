"""Test parts of a generalized model by leaving them out or adding them: random effects, equal
effects on all thresholds, equidispersion.

Each smaller or larger model is fitted by the same approximation and tested as in ``compare``.
Sources: Stram & Lee 1994 (mixtures); Peterson & Harrell 1990 (partial proportional odds); Cameron &
Trivedi 2013, section 3.4 (overdispersion).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign, PartDesign
from multilevel.errors import EstimationError, InferenceError, LikelihoodError
from multilevel.estimate.generalized.prepare import GeneralizedPrepared, prepare_generalized
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.generalized.solve import solve_generalized
from multilevel.infer.compare import SIGNIFICANT, LikelihoodRatio, shown_p
from multilevel.infer.compare_random import RandomEffectTest
from multilevel.infer.compare_reduce import Removal, removals, without
from multilevel.infer.generalized.compare import OutcomeCandidate, outcome_test
from multilevel.infer.generalized.effects import with_blocks
from multilevel.infer.terms import term_table
from multilevel.model.covariance.structures import parameters_from_covariance
from multilevel.model.families.catalogue import family_of
from multilevel.model.families.categories import category_family, natural_thresholds

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"


def _unpenalised(fit: GeneralizedFit) -> None:
    if fit.penalty:
        raise InferenceError(
            "Likelihood-ratio tests need unpenalised fits.",
            f"penalty: {fit.penalty}",
            "fit without penalty=",
        )


def outcome_random_tests(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, rng: np.random.Generator
) -> tuple[RandomEffectTest, ...]:
    """Leave out each random effect in turn (a slope with its covariances) and refit.

    Raises
    ------
    InferenceError : no random effects, a penalised fit, a refit that is better than the full model.
    """
    _unpenalised(fit)
    found = removals(with_blocks(prepared.design))
    if not found:
        raise InferenceError(
            "The model must have random effects.", "none", "add a term such as (1 | school)"
        )
    full = OutcomeCandidate("the model", prepared, fit)
    out = []
    for removal in found:
        term, _, group = removal.label.partition(" | ")
        test = outcome_test(_smaller(prepared, fit, removal), full, rng)
        verdict = "is needed" if test.p_value < SIGNIFICANT else "is not shown to be needed"
        text = (
            f"The random effect of {term} across {group} {verdict}: without it the fit is worse by "
            f"-2 delta LL({test.df}) = {test.statistic:.2f}, {shown_p(test.p_value)} by the "
            f"{test.distribution}; the naive chi2({test.df}) gives {shown_p(test.p_naive)}, "
            "conservative."
        )
        out.append(
            RandomEffectTest(
                term, group, test.statistic, test.df, test.p_naive, test.p_value, float("nan"),
                test.distribution, text,
            )
        )  # fmt: skip
    return tuple(out)


def _smaller(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, removal: Removal
) -> OutcomeCandidate:
    """The model without a random effect, fitted from the estimates of the full one."""
    design = prepared.design
    blocks = without(with_blocks(design), removal).blocks
    keep = [
        [a for a in range(len(b.names)) if t != removal.block or a not in removal.columns]
        for t, b in enumerate(design.blocks)
    ]
    used = [t for t, columns in enumerate(keep) if columns]
    parts = tuple(tuple(design.block_parts[t][a] for a in keep[t]) for t in used)
    smaller = prepare_generalized(replace(design, blocks=blocks, block_parts=parts))
    pieces = [fit.psi[: prepared.problem.n_fixed]]
    for block, t in zip(blocks, used, strict=True):
        G = fit.random_covariance[t][np.ix_(keep[t], keep[t])]
        pieces.append(parameters_from_covariance(block.structure, G))
    points = tuple(fit.approximation.points[t] for t in used)
    found = solve_generalized(
        smaller, points=points or None, psi_start=np.concatenate(pieces), check=False
    )
    return OutcomeCandidate(f"without {removal.label}", smaller, found)


@dataclass(frozen=True)
class ProportionalOddsTest:
    """Test that a term has the same effect on every threshold.

    Attributes
    ----------
    term : what was set free; ``"all"`` for all terms together.
    statistic, df, p_value : -2 delta LL and its chi-square test; NaN where the larger model has no
        optimum.
    status : ``"ok"``, or why there is no test.
    sentence : the verdict.
    """

    term: str
    statistic: float
    df: int
    p_value: float
    status: str
    sentence: str


def proportional_odds_tests(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, rng: np.random.Generator
) -> tuple[ProportionalOddsTest, ...]:
    """Free the effects of each term, then of all, over the thresholds of an ordered model.

    Raises
    ------
    InferenceError : no ordered response of three or more categories, no predictors, a penalised
        fit.
    """
    _unpenalised(fit)
    design = prepared.design
    if design.family.option("thresholds") not in ("increasing", "free") or len(design.parts) < 3:
        raise InferenceError(
            "A test of proportional odds needs an ordered response of three or more categories.",
            f"the {design.family.label} family, {len(design.response.categories)} categories",
            'fit with family="cumulative"',
        )
    if not design.parts[0].names:
        raise InferenceError(
            "A test of proportional odds needs predictors.", "none in the mean", "add one"
        )
    groups = _terms(design)
    whole = tuple(k for columns in groups.values() for k in columns)
    wanted = {**groups, "all": whole} if len(groups) > 1 else groups
    return tuple(_freed_test(prepared, fit, rng, label, c) for label, c in wanted.items())


def _terms(design: GeneralizedDesign) -> dict[str, tuple[int, ...]]:
    """Columns of the mean part by term."""
    mean = design.parts[0]
    place = {column: k for k, column in enumerate(mean.columns)}
    found = {}
    for term in term_table(design.mean).terms:
        columns = tuple(place[c] for c in term.columns if c in place)
        if columns:
            found[term.label] = columns
    return found


def _freed_test(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    rng: np.random.Generator,
    label: str,
    columns: tuple[int, ...],
) -> ProportionalOddsTest:
    df = len(columns) * (len(prepared.design.parts) - 2)
    nan = float("nan")
    small = OutcomeCandidate("proportional odds", prepared, fit)
    try:
        large = _freed(prepared, fit, columns)
        test = outcome_test(small, large, rng)
    except (EstimationError, LikelihoodError, InferenceError) as error:
        reason = f"failed: {error.must} {error.found}"
        return ProportionalOddsTest(label, nan, df, nan, reason, f"{label}: {reason}")
    if not large.fit.certificate.is_certified:
        reason = f"not certified: {large.fit.certificate.sentence}"
        return ProportionalOddsTest(label, nan, df, nan, reason, f"{label}: {reason}")
    verdict = (
        "differ between thresholds" if test.p_value < SIGNIFICANT
        else "are not shown to differ between thresholds"
    )  # fmt: skip
    text = (
        f"Effects of {label} {verdict}: -2 delta LL({test.df}) = {test.statistic:.2f}, "
        f"{shown_p(test.p_value)}."
    )
    return ProportionalOddsTest(label, test.statistic, test.df, test.p_value, "ok", text)


def _freed(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, columns: tuple[int, ...]
) -> OutcomeCandidate:
    """The model with the effects of some columns of the mean at every threshold."""
    design = prepared.design
    old, mean = design.family, design.parts[0]
    family = category_family(old.name, old.link, design.response.categories, thresholds="free")
    rest = [k for k in range(len(mean.names)) if k not in columns]
    moved = list(columns)
    own = design.family.option("thresholds")
    beta = fit.psi[fit.fixed_slices[0]]
    firsts = np.array([fit.psi[s][0] for s in fit.fixed_slices[1:]])
    tau = natural_thresholds(old, firsts)[0] if own == "increasing" else firsts
    parts: list[PartDesign] = [
        replace(
            mean,
            columns=tuple(mean.columns[k] for k in rest),
            X=np.asfortranarray(mean.X[:, rest]),
            names=tuple(mean.names[k] for k in rest),
        )
    ]
    pieces = [beta[rest]]
    for c, part in enumerate(design.parts[1:]):
        X = np.asfortranarray(np.hstack([part.X, mean.X[:, moved]]))
        names = (*part.names, *(mean.names[k] for k in moved))
        spec = family.parts[c + 1]
        parts.append(replace(part, spec=spec, design=None, X=X, names=names))
        others = fit.psi[fit.fixed_slices[c + 1]][1:]
        pieces.append(np.concatenate([[tau[c]], others, -beta[moved]]))
    larger = prepare_generalized(replace(design, family=family, parts=tuple(parts)))
    pieces.append(fit.psi[prepared.problem.n_fixed :])
    found = solve_generalized(
        larger,
        points=fit.approximation.points if larger.problem.blocks else None,
        psi_start=np.concatenate(pieces),
        modes_start=fit.modes,
        check=False,
    )
    return OutcomeCandidate("free effects", larger, found)


def overdispersion_test(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, rng: np.random.Generator
) -> LikelihoodRatio:
    """Test a Poisson model against the negative binomial (NB2) with the same predictors.

    ``alpha = 0`` is on the boundary: the p-value is that of the 50:50 mixture of chi2(0), chi2(1).

    Raises
    ------
    InferenceError : another family, a penalised fit.
    """
    _unpenalised(fit)
    design = prepared.design
    if design.family.name != "poisson" or design.family.link != "log":
        raise InferenceError(
            "The test of overdispersion is for Poisson models with the log link.",
            f"the {design.family.label} family",
            "fit both models and write multilevel.compare(m0, m1)",
        )
    truncated = design.family.option("truncated") == "yes"
    family = family_of("negative_binomial", "log", truncated=truncated)
    ones = np.ones((design.n, 1), order="F")
    extra = PartDesign(family.parts[1], None, (0,), ones, (INTERCEPT,), None)
    parts = (replace(design.parts[0], spec=family.parts[0]), extra)
    larger = prepare_generalized(replace(design, family=family, parts=parts))
    p = prepared.problem.n_fixed
    found = solve_generalized(
        larger,
        points=fit.approximation.points if larger.problem.blocks else None,
        psi_start=np.concatenate([fit.psi[:p], [-2.0], fit.psi[p:]]),
        modes_start=fit.modes,
        check=False,
    )
    small = OutcomeCandidate("Poisson", prepared, fit)
    return outcome_test(small, OutcomeCandidate("negative binomial", larger, found), rng)
