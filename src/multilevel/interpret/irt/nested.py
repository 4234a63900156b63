"""Likelihood-ratio tests between item response models with slopes."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.errors import InferenceError
from multilevel.infer.mixture import chi_square, one_variance
from multilevel.interpret.irt.source import SlopeSource
from multilevel.model.irt import SLOPE_MODELS, ItemWords, split_terms


@dataclass(frozen=True)
class SlopeModelTest:
    """A test of a model with slopes against a smaller one.

    Attributes
    ----------
    statistic : difference of -2LL; df : difference of the numbers of parameters.
    p_value, distribution : by the null distribution, and that in words.
    sentence : in words.
    """

    statistic: float
    df: int
    p_value: float
    distribution: str
    sentence: str


def slope_model_test(
    small: tuple[ItemWords, SlopeSource], large: tuple[ItemWords, SlopeSource]
) -> SlopeModelTest:
    """Does the larger model fit better? A variance of groups that the smaller one lacks cannot be
    negative: the null distribution is then a mixture (Self & Liang 1987).

    Raises
    ------
    InferenceError : other responses, or models that are not nested.
    """
    own, other = small[1], large[1]
    why = _not_nested(small, large)
    if why:
        raise InferenceError(
            "A likelihood-ratio test needs the same responses, and a smaller model that is the "
            "larger one with something left out.",
            why,
            "compare their aic, or fit models of one kind",
        )
    df = other.n_parameters - own.n_parameters
    statistic = max(own.criterion - other.criterion, 0.0)
    bounded = bool(other.group) and not own.group
    null = one_variance(df - 1) if bounded else chi_square(df)
    p = null.p_value(statistic)
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < .001"
    verdict = "the larger model fits better" if p < 0.05 else "no evidence for the larger model"
    return SlopeModelTest(
        statistic, df, p, null.sentence,
        f"-2 delta LL = {statistic:.2f}, {shown} ({null.sentence}): {verdict}.",
    )  # fmt: skip


def _not_nested(small: tuple[ItemWords, SlopeSource], large: tuple[ItemWords, SlopeSource]) -> str:
    """Why the first is not the second with something left out; "" where it is."""
    (words, own), (more, other) = small, large
    if own.matrix.items != other.matrix.items or own.matrix.persons != other.matrix.persons:
        return "other persons or items"
    if own.n_responses != other.n_responses or (own.matrix.codes != other.matrix.codes).any():
        return "other responses"
    (_, kind, equal), (_, its_kind, its_equal) = SLOPE_MODELS[words.model], SLOPE_MODELS[more.model]
    a, b = own.fit.problem, other.fit.problem
    binary = max(len(c) for c in own.matrix.categories) == 2
    if a.link != b.link or (kind != its_kind and not binary):
        return f"{words.model} ({a.link}) and {more.model} ({b.link}), two kinds of model"
    lost = set(split_terms(words.persons)) | {words.dif} - {""}
    lost -= set(split_terms(more.persons)) | {more.dif}
    if lost or (its_equal and not equal) or (words.dif and words.dif != more.dif):
        return "the model with fewer parameters has something that the other one lacks"
    if own.group and own.group != other.group:
        return f"groups {own.group} are not in the other model"
    if other.n_parameters <= own.n_parameters:
        return f"{own.n_parameters} and {other.n_parameters} parameters"
    return ""
