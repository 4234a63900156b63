"""The fixed effects of one part of a generalized fit, as the tests of linear models want them.

Tests are z and chi-square tests, or t and F tests with between-within degrees of freedom (as in SAS
GLIMMIX, ``ddfm=betwithin``). Where an ordered family has no intercept in its mean, minus the first
threshold takes its place in tests of terms and in marginal means: ``tau_1 - eta`` is all that the
likelihood knows. Source: Schluchter & Elashoff 1990 (between-within); own derivation of the
constant of ordered families.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import Design, RandomBlock
from multilevel.design.related import is_related
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.between_within import CountedDf, between_within_of
from multilevel.infer.degrees_of_freedom import DfMethod, check_df
from multilevel.model.specification import Method

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"
GENERALIZED_DF: tuple[DfMethod, ...] = ("none", "between-within")


@dataclass(frozen=True)
class Effects:
    """Some fixed effects and their covariance.

    Attributes
    ----------
    names : p names.
    beta : (p,) estimates.
    vcov_beta : (p, p) their covariance.
    design : a design whose ``X`` and ``names`` are these effects' (blocks of the whole model).
    """

    names: tuple[str, ...]
    beta: Array
    vcov_beta: Array
    design: Design

    @property
    def n_fixed(self) -> int:
        """p."""
        return len(self.beta)

    @property
    def method(self) -> Method:
        """Always maximum likelihood."""
        return "ml"


def part_index(design: GeneralizedDesign, part: str) -> int:
    """The position of a part by its name.

    Raises
    ------
    InferenceError : a part that the family does not have.
    """
    names = [p.spec.name for p in design.parts]
    if part not in names:
        raise InferenceError(
            f"The parts of this family are {', '.join(names)}.", repr(part), "choose one"
        )
    return names.index(part)


def mean_part(design: GeneralizedDesign) -> str:
    """The name of the first part."""
    return design.parts[0].spec.name


def with_blocks(design: GeneralizedDesign) -> Design:
    """The design of the formula with the random effects of all parts."""
    return replace(design.mean, blocks=design.blocks)


def is_nested_chain(blocks: tuple[RandomBlock, ...]) -> bool:
    """Whether every grouping factor is nested in the next."""
    for fine, coarse in pairwise(blocks):
        home = np.zeros(fine.n_levels, dtype=coarse.codes.dtype)
        home[fine.codes] = coarse.codes
        if not np.array_equal(home[fine.codes], coarse.codes):
            return False
    return True


def part_effects(
    design: GeneralizedDesign, fit: GeneralizedFit, part: str, vcov: Array | None = None
) -> Effects:
    """The coefficients of one part as they are printed.

    Parameters
    ----------
    vcov : (P, P) covariance of all parameters to use in place of the model's, or None.

    Raises
    ------
    InferenceError : a part that the family does not have, or one without coefficients.
    """
    d = part_index(design, part)
    own = design.parts[d]
    if not own.names:
        others = [p.spec.name for p in design.parts if p.names]
        others = ["thresholds" if n.startswith("threshold ") else n for n in others]
        raise InferenceError(
            "Tests of fixed effects need fixed effects.",
            f"the part {part!r} has none",
            f"add a predictor, or ask part({others[0]!r})" if others else "add a predictor",
        )
    where = fit.fixed_slices[d]
    V = fit.vcov if vcov is None else vcov
    laid = replace(
        own.design or design.mean,
        X=own.X,
        names=own.names,
        blocks=design.blocks,
        offset=own.offset,
    )
    return Effects(own.names, fit.psi[where], V[where, where], laid)


def full_effects(
    design: GeneralizedDesign, fit: GeneralizedFit, part: str, vcov: Array | None = None
) -> Effects:
    """The coefficients of one part with those columns of its design that have no coefficient.

    The intercept that an ordered family lacks is minus the first threshold.

    Raises
    ------
    InferenceError : as ``part_effects``; a part without a formula.
    """
    d = part_index(design, part)
    own = design.parts[d]
    if own.design is None:
        raise InferenceError(
            "Tests of terms and marginal means need a part with a formula.",
            f"the part {part!r} is one number",
            "use coefficients(part=...)",
        )
    whole = own.design
    V = fit.vcov if vcov is None else vcov
    M = np.zeros((len(whole.names), len(fit.psi)))
    for place, column in enumerate(own.columns):
        M[column, fit.fixed_slices[d].start + place] = 1.0
    for column in sorted(set(range(len(whole.names))) - set(own.columns)):
        M[column, _constant(design, fit)] = -1.0
    laid = replace(whole, blocks=design.blocks)
    return Effects(whole.names, M @ fit.psi, M @ V @ M.T, laid)


def _constant(design: GeneralizedDesign, fit: GeneralizedFit) -> int:
    """Where the first threshold's constant stands."""
    for d, part in enumerate(design.parts):
        if part.spec.name == "threshold 1" and INTERCEPT in part.names:
            return int(fit.fixed_slices[d].start) + part.names.index(INTERCEPT)
    raise InferenceError(
        "Tests of terms need a constant.",
        "a first threshold without an intercept",
        "use contrast() with a matrix",
    )


def check_generalized_df(df: str | None) -> DfMethod:
    """The method of degrees of freedom; None is z.

    Raises
    ------
    InferenceError : an unknown method, or one that is defined for Gaussian models only.
    """
    if df is None:
        return "none"
    name = check_df(df)
    if name not in GENERALIZED_DF:
        raise InferenceError(
            "A generalized model has z tests (df='none') or df='between-within'.",
            f"df={df!r} is defined for Gaussian models",
            "leave df out, or write df='between-within'",
        )
    return name


def effects_df(effects: Effects, df: DfMethod) -> CountedDf:
    """z tests, or between-within degrees of freedom by counting.

    Raises
    ------
    InferenceError : crossed factors, a model without random effects, too few units.
    """
    if df == "none":
        return CountedDf("none", effects.vcov_beta, np.full(effects.n_fixed, np.inf))
    if not effects.design.blocks:
        raise InferenceError(
            "Between-within degrees of freedom need a grouping factor.",
            "a model without random effects",
            "leave df out",
        )
    if is_related(effects.design.blocks):
        raise InferenceError(
            "Between-within degrees of freedom count independent levels.",
            "rows with several levels or levels that are correlated",
            "leave df out (z tests)",
        )
    chain = is_nested_chain(effects.design.blocks)
    return between_within_of(effects.design, effects, is_chain=chain)
