"""Likelihood-ratio tests of random scale effects: are there any, do they follow the location?

Source: Stram & Lee 1994 for a variance on the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import RandomBlock
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.accuracy import fit_generalized
from multilevel.estimate.generalized.prepare import GeneralizedPrepared, prepare_generalized
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.generalized.draws import penalty_names
from multilevel.infer.mixture import one_variance
from multilevel.model.covariance.structures import Structure, factor_map


@dataclass(frozen=True)
class RandomScaleTest:
    """The likelihood-ratio test of the scale effects of one factor.

    Attributes
    ----------
    group : the factor.
    statistic : rise of -2 log-likelihood without them, never negative.
    df : parameters left out.
    null : distribution of the statistic if there are none, in words.
    p_value : by that distribution.
    naive_p_value : by the chi-square that ignores the boundary (too large).
    minus2_loglik, minus2_loglik_without : of both fits.
    sentence : the answer.
    """

    group: str
    statistic: float
    df: int
    null: str
    p_value: float
    naive_p_value: float
    minus2_loglik: float
    minus2_loglik_without: float
    sentence: str


@dataclass(frozen=True)
class ScaleCorrelationTest:
    """The likelihood-ratio test of all correlations between location and scale of one factor.

    ``df``: how many correlations; ``minus2_loglik_without``: of the fit without them.
    """

    group: str
    statistic: float
    df: int
    p_value: float
    minus2_loglik: float
    minus2_loglik_without: float
    sentence: str


def scale_correlation_test(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, part: int, group: str | None = None
) -> ScaleCorrelationTest:
    """Refit with scale effects independent of location effects and compare (chi-square).

    Raises
    ------
    InferenceError : no factor with correlated location and scale effects.
    """
    design = prepared.design
    at = _block_of(design, part, group)
    block, parts = design.blocks[at], design.block_parts[at]
    n_scale = sum(d == part for d in parts)
    n_location = len(parts) - n_scale
    is_joint = block.structure.terms == ((0, len(parts), "unstructured"),)
    if not is_joint or n_location == 0:
        raise InferenceError(
            "The test needs correlated location and scale effects of one factor.",
            f"effects of {block.group} without such correlations",
            "write a single bar in scale=, beside a term of the formula without || and by=",
        )
    apart = factor_map(((n_location, "unstructured"), (n_scale, "unstructured")))
    blocks = list(design.blocks)
    blocks[at] = replace(block, structure=apart)
    without = _refitted(replace(design, blocks=tuple(blocks)), fit, fit.approximation.points)
    statistic = max(0.0, without.criterion - fit.criterion)
    df = n_location * n_scale
    p_value = float(chi_square_tail(statistic, df))
    verdict = "go together" if p_value < 0.05 else "are not shown to go together"
    return ScaleCorrelationTest(
        block.group, statistic, df, p_value, fit.criterion, without.criterion,
        f"Location and scale effects of {block.group} {verdict}: -2 delta LL = {statistic:.2f}, "
        f"chi2({df}), p = {p_value:.3g}.",
    )  # fmt: skip


def random_scale_test(
    prepared: GeneralizedPrepared, fit: GeneralizedFit, part: int, group: str | None = None
) -> RandomScaleTest:
    """Refit without the scale effects of a factor and compare.

    One variance on the boundary of its space and ``k`` covariances: a 50:50 mixture of chi2(k) and
    chi2(k + 1) (Stram & Lee 1994). With several scale effects of one factor the plain chi-square is
    used, which is conservative.

    Raises
    ------
    InferenceError : no scale effects of that factor.
    """
    design = prepared.design
    at = _block_of(design, part, group)
    name = design.blocks[at].group
    reduced = _without(design, at, part)
    gone = (
        sum(b.structure.n_parameters for b in design.blocks)
        - sum(b.structure.n_parameters for b in reduced.blocks)
    )  # fmt: skip
    without = _refitted(reduced, fit, _points(design, fit, reduced, at, part))
    statistic = max(0.0, without.criterion - fit.criterion)
    n_scale = sum(d == part for d in design.block_parts[at])
    naive = float(chi_square_tail(statistic, gone))
    if n_scale == 1:
        null = one_variance(gone - 1)
        p_value, words = null.p_value(statistic), null.sentence
    else:
        p_value, words = naive, f"chi2({gone}), conservative"
    verdict = "differ" if p_value < 0.05 else "are not shown to differ"
    return RandomScaleTest(
        name, statistic, gone, words, p_value, naive, fit.criterion, without.criterion,
        f"Clusters of {name} {verdict} in their {design.parts[part].spec.meaning.split(':')[0]} "
        f"beyond its predictors: -2 delta LL = {statistic:.2f}, {words}, p = {p_value:.3g}.",
    )  # fmt: skip


def _refitted(
    design: GeneralizedDesign, fit: GeneralizedFit, points: int | tuple[int, ...]
) -> GeneralizedFit:
    """The smaller model, shown to be at its optimum."""
    found = fit_generalized(
        prepare_generalized(design), n_quad=points, accuracy="none",
        penalty=penalty_names(fit) or None,
    )  # fmt: skip
    if found.certificate.status == "not_certified":
        raise InferenceError(
            "The smaller model must be estimated too.",
            found.certificate.sentence,
            "simplify the model for the means or rescale predictors",
        )
    return found


def _block_of(design: GeneralizedDesign, part: int, group: str | None) -> int:
    have = [t for t, parts in enumerate(design.block_parts) if part in parts]
    for t in have:
        if group is None or design.blocks[t].group == group:
            return t
    names = ", ".join(design.blocks[t].group for t in have)
    raise InferenceError(
        "The test needs a factor with random scale effects.",
        f"group={group!r}; such factors: {names or 'none'}",
        'fit with scale="~ (1 | group)"' if not have else "choose one of them",
    )


def _points(
    design: GeneralizedDesign, fit: GeneralizedFit, reduced: GeneralizedDesign, at: int, part: int
) -> int | tuple[int, ...]:
    """Points of the same fineness; Laplace is exact where only Gaussian location effects stay."""
    family = design.family
    is_linear = family.name == "gaussian" and family.link == "identity"
    if is_linear and not any(part in parts for parts in reduced.block_parts):
        return 1
    lost = len(reduced.blocks) < len(design.blocks)
    return tuple(k for t, k in enumerate(fit.approximation.points) if not (lost and t == at)) or 1


def _without(design: GeneralizedDesign, at: int, part: int) -> GeneralizedDesign:
    """The design without the columns of one part in one block."""
    block, parts = design.blocks[at], design.block_parts[at]
    keep = [a for a, d in enumerate(parts) if d != part]
    blocks, belongs = list(design.blocks), list(design.block_parts)
    if not keep:
        del blocks[at], belongs[at]
        return replace(design, blocks=tuple(blocks), block_parts=tuple(belongs))
    widths: list[tuple[int, Structure]] = []
    for lo, hi, kind in block.structure.terms:
        width = sum(lo <= a < hi for a in keep)
        if width:
            widths.append((width, kind))
    blocks[at] = RandomBlock(
        block.group, block.codes, block.levels, block.columns[:, keep],
        tuple(block.names[a] for a in keep), factor_map(tuple(widths)),
    )  # fmt: skip
    belongs[at] = tuple(parts[a] for a in keep)
    return replace(design, blocks=tuple(blocks), block_parts=tuple(belongs))
