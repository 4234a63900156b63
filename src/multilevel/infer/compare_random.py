"""Test each random effect by leaving it out.

Sources: Stram & Lee 1994 (mixtures); Crainiceanu & Ruppert 2004 (one variance, exact).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.infer.compare import SIGNIFICANT, shown_p
from multilevel.infer.compare_bootstrap import drawn_null
from multilevel.infer.compare_distribution import null_distribution
from multilevel.infer.compare_nesting import random_nesting
from multilevel.infer.compare_reduce import Removal, removals, without
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.exact_rlrt import LARGEST, exact_null

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit


@dataclass(frozen=True)
class RandomEffectTest:
    """Test of one random effect.

    Attributes
    ----------
    term, group : what was left out.
    statistic : -2 delta LL (or difference of REML criteria).
    df : parameters that went with it.
    p_naive, p_value, p_exact : from chi2(df); from the mixture; from the exact distribution of
        one variance component (NaN for other models).
    distribution, sentence : in words.
    p_bootstrap : from draws under the model without the term; NaN unless asked for.
    """

    term: str
    group: str
    statistic: float
    df: int
    p_naive: float
    p_value: float
    p_exact: float
    distribution: str
    sentence: str
    p_bootstrap: float = float("nan")


def random_effect_tests(
    prepared: Prepared,
    fit: Fit,
    rng: np.random.Generator,
    *,
    n_sim: int = 10_000,
    n_boot: int = 0,
) -> tuple[RandomEffectTest, ...]:
    """Leave out each random effect in turn (a slope with its covariances) and refit.

    Parameters
    ----------
    rng : used for the exact test and for mixtures without a closed form.
    n_sim : draws of the exact test; 0 leaves it out.
    n_boot : responses drawn from each smaller fit, to which both models are fitted; 0: none.

    Raises
    ------
    InferenceError : no random effects, or a refit that is better than the full model.
    """
    found = removals(prepared.design)
    if not found:
        raise InferenceError(
            "The model must have random effects.", "none", "add a term such as (1 | school)"
        )
    out = []
    for removal in found:
        smaller = prepare(without(prepared.design, removal), method=prepared.method)
        small = solve(smaller)
        df = fit.n_parameters - small.n_parameters
        statistic = small.criterion - fit.criterion
        nesting = random_nesting(smaller.design, prepared.design)
        noise = small.certificate.monte_carlo_error + fit.certificate.monte_carlo_error
        if nesting is None or statistic < -1e-4 - 1e-10 * abs(fit.criterion) - 3.0 * noise:
            raise InferenceError(
                "Leaving out a random effect cannot raise the likelihood.",
                f"-2 delta LL = {statistic:.4g} without {removal.label}",
                "look at fit.certificate: the model may not be at its optimum",
            )
        statistic = max(statistic, 0.0)
        null = null_distribution(small, prepared, nesting, df, rng)
        naive, right = float(chi_square_tail(statistic, df)), null.p_value(statistic)
        exact = float("nan")
        J, q = prepared.cross.sizes[0]
        is_one = prepared.cross.n_blocks == 1 and not is_related(prepared.design.blocks)
        if n_sim and is_one and q == 1 and J <= LARGEST:
            draws = exact_null(prepared.cross, rng, reml=prepared.method == "reml", n_sim=n_sim)
            exact = draws.p_value(statistic)
        drawn, drawn_words = float("nan"), ""
        if n_boot:
            draws_of = drawn_null((smaller, small), prepared, n_boot, rng)
            drawn = draws_of.p_value(statistic)
            drawn_words = f" Parametric bootstrap ({len(draws_of.draws)} draws): {shown_p(drawn)}."
        term, _, group = removal.label.partition(" | ")
        decides = drawn if np.isfinite(drawn) else right
        verdict = "is needed" if decides < SIGNIFICANT else "is not shown to be needed"
        text = (
            f"The random effect of {term} across {group} {verdict}: without it the fit is worse by "
            f"-2 delta LL({df}) = {statistic:.2f}, {shown_p(right)} by the {null.sentence}"
        )
        text += _naive_words(_is_curved(prepared, removal), df, naive)
        if np.isfinite(exact):
            text += f" Exact distribution ({n_sim} draws): {shown_p(exact)}."
        out.append(
            RandomEffectTest(
                term, group, statistic, df, naive, right, exact, null.sentence, text + drawn_words,
                drawn,
            )
        )  # fmt: skip
    return tuple(out)


def _is_curved(prepared: Prepared, removal: Removal) -> bool:
    """Whether a whole term goes whose structure has parameters beside its variance."""
    structure = prepared.design.blocks[removal.block].structure
    return any(
        start == removal.columns[0] and structure.curve(number) is not None
        for number, (start, _, _) in enumerate(structure.terms)
    )


def _naive_words(is_curved: bool, df: int, naive: float) -> str:
    """What the plain chi-square is worth."""
    if not is_curved:
        return f"; the naive chi2({df}) gives {shown_p(naive)}, conservative."
    return (
        ", conservative: the parameters of the term mean nothing without its variance"
        " (n_boot=999 draws the distribution)."
    )
