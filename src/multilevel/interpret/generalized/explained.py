r"""Explained variance of generalized models: latent R2, total R2, and reductions by a comparison.

* ``latent``: with f the variance of the fixed predictor over the analysed rows, r that of the
  random effects and d the level-1 variance (``latent``): marginal ``f / (f + r + d)``, conditional
  ``(f + r) / (f + r + d)``. McKelvey & Zavoina 1975; Nakagawa, Johnson & Schielzeth 2017.
* ``total``: squared correlation of the response and its prediction at random effects of zero.
* ``reduction``: ``(tau2_fewer - tau2_more) / tau2_fewer`` against a named comparison model, as
  printed, and rescaled: the level-1 variance of a logit is fixed, so every predictor that explains
  it inflates slopes and variances. Hox, Moerbeek & van de Schoot 2018, section 6.5: variances are
  multiplied by ``(r0 + d) / (f + r + d)`` of the comparison and the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign, PartDesign
from multilevel.design.records import RandomBlock
from multilevel.errors import InferenceError
from multilevel.estimate.generalized.accuracy import fit_generalized
from multilevel.estimate.generalized.prepare import prepare_generalized
from multilevel.interpret.explained_variance import Explained
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.generalized.latent import (
    between_variances,
    fixed_variance,
    latent_words,
    level_one_variance,
)
from multilevel.interpret.generalized.residuals import fitted_values, observed
from multilevel.model.covariance.structures import factor_map

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"


def explained_variance(
    evidence: GeneralizedEvidence, level: str = "lognormal"
) -> tuple[Explained, ...]:
    """Measures that need no comparison model; a measure that the family lacks is left out.

    Raises
    ------
    InferenceError : a nominal response, which has neither measure.
    """
    family = evidence.family
    if family.response == "nominal":
        raise InferenceError(
            "Explained variance needs one linear predictor of the response.",
            f"family {family.label}",
            "compare models by their likelihood",
        )
    out = [*total(evidence)]
    try:
        out += latent_r2(evidence, level)
    except InferenceError:
        if not out:
            raise
    return tuple(out)


def total(evidence: GeneralizedEvidence) -> list[Explained]:
    """Squared correlation of the response and its prediction by the fixed effects alone."""
    if evidence.family.response == "interval":
        return []
    mean = fitted_values(evidence, "population")
    predicted = mean[0] if len(mean) == 1 else np.arange(float(len(mean))) @ mean
    y = observed(evidence)
    known = np.isfinite(y)
    if float(np.ptp(predicted)) <= 1e-12 * max(float(np.abs(predicted).max()), 1e-300):
        estimate = 0.0
    else:
        estimate = float(np.corrcoef(y[known], predicted[known])[0, 1] ** 2)
    scores = " (codes of the categories)" if evidence.categories else ""
    return [
        Explained(
            "total", "total", "", "f", estimate,
            f"Predictions by the fixed effects (random effects of zero) share "
            f"{100 * estimate:.1f}% of the variance of the response{scores}.",
        )
    ]  # fmt: skip


def latent_r2(evidence: GeneralizedEvidence, level: str = "lognormal") -> list[Explained]:
    """Marginal and conditional R2 of the latent response.

    Raises
    ------
    InferenceError : a family without a level-1 variance.
    """
    psi = evidence.fit.psi
    f = fixed_variance(evidence, psi)
    r = float(between_variances(evidence, psi).sum())
    d = level_one_variance(evidence, psi, level)
    whole = f + r + d
    scale = f"on the link scale, within clusters {latent_words(evidence, level)}"
    return [
        Explained(
            "latent", "total", "", "marginal", f / whole,
            f"The fixed effects explain {100 * f / whole:.1f}% of the variance {scale}.",
        ),
        Explained(
            "latent", "total", "", "conditional", (f + r) / whole,
            f"Fixed and random effects together explain {100 * (f + r) / whole:.1f}% of the "
            f"variance {scale}.",
        ),
    ]  # fmt: skip


def rescaling(
    more: GeneralizedEvidence, fewer: GeneralizedEvidence, level: str = "lognormal"
) -> float:
    """Factor of the variances of ``more`` that puts them on the latent scale of ``fewer``.

    1 where the residual variance is a parameter (nothing is rescaled then).
    """
    if more.family.level_one_variance is None:
        return 1.0

    def whole(one: GeneralizedEvidence) -> float:
        psi = one.fit.psi
        between = float(between_variances(one, psi).sum())
        return fixed_variance(one, psi) + between + level_one_variance(one, psi, level)

    return whole(fewer) / whole(more)


def reductions(
    more: GeneralizedEvidence, fewer: GeneralizedEvidence, name: str
) -> tuple[Explained, ...]:
    """Reduction of each random-effect variance against a comparison model.

    Component ``"as printed"``, and ``"rescaled"`` where the link fixes the level-1 variance.

    Raises
    ------
    InferenceError : models of other rows, responses or families, or without a shared variance.
    """
    _check_pair(more, fewer)
    factor = rescaling(more, fewer)
    fixed = more.family.level_one_variance is not None
    out = []
    for group, term, after in _variances(more):
        before = next((v for g, t, v in _variances(fewer) if (g, t) == (group, term)), None)
        if before is None or before <= 0.0:
            continue
        kinds = [("as printed", 1.0), *([("rescaled", factor)] if fixed else [])]
        for component, scale in kinds:
            value = (before - scale * after) / before
            out.append(
                Explained("reduction", group, term, component, value,
                          _reduction_words(group, term, component, before, scale * after, name))
            )  # fmt: skip
    if not out:
        raise InferenceError(
            "A reduction of variance needs a variance that both models have.",
            f"the random effects of {name} are others, or zero",
            "compare with a model that has the same random terms",
        )
    return tuple(out)


def _reduction_words(
    group: str, term: str, component: str, before: float, after: float, name: str
) -> str:
    share = (before - after) / before
    what = "intercept" if term == INTERCEPT else f"slope of {term}"
    text = (
        f"Compared with {name}, the variance of the {what} over {group} ({component}) "
        f"{'falls' if share >= 0 else 'rises'} by {100 * abs(share):.1f}%, from {before:.3f} to "
        f"{after:.3f}."
    )
    if component == "as printed" and share < 0:
        text += (
            " Predictors within clusters inflate it where the link fixes the level-1 variance: read"
            " the rescaled value."
        )
    if component == "rescaled":
        text += " The latent scale is that of the comparison model."
    return text


def _variances(evidence: GeneralizedEvidence) -> list[tuple[str, str, float]]:
    pairs = zip(evidence.design.blocks, evidence.fit.random_covariance, strict=True)
    return [
        (block.group, name, float(G[a, a]))
        for block, G in pairs
        for a, name in enumerate(block.names)
    ]


def _check_pair(more: GeneralizedEvidence, fewer: GeneralizedEvidence) -> None:
    one, two = more.design, fewer.design
    same = np.array_equal(one.mean.rows.kept, two.mean.rows.kept) and np.array_equal(
        one.response.y, two.response.y
    )
    if not same:
        raise InferenceError(
            "The comparison model must have the same rows and response.",
            f"{one.n} rows here, {two.n} there",
            "fit both to the rows that have every variable",
        )
    if (one.family.name, one.family.link) != (two.family.name, two.family.link):
        raise InferenceError(
            "The comparison model must be of the same family and link.",
            f"{one.family.label} here, {two.family.label} there",
            "fit it again with the same family=",
        )


def empty_model(evidence: GeneralizedEvidence) -> GeneralizedEvidence:
    """The same model without predictors of the mean and with random intercepts only, fitted.

    Raises
    ------
    InferenceError : no random intercepts.
    EstimationError : it cannot be estimated.
    """
    prepared = prepare_generalized(_empty_design(evidence.design))
    points = evidence.fit.approximation.points
    n_quad = max(points, default=1) if len(prepared.design.blocks) == 1 else 1
    fit = fit_generalized(prepared, n_quad=n_quad, accuracy="none")
    return GeneralizedEvidence(prepared, fit)


def _empty_design(design: GeneralizedDesign) -> GeneralizedDesign:
    blocks, parts = [], []
    for block, belongs in zip(design.blocks, design.block_parts, strict=True):
        kept = [
            a for a, name in enumerate(block.names)
            if name == INTERCEPT or name.endswith(f": {INTERCEPT}")
        ]  # fmt: skip
        if kept:
            blocks.append(_only(block, kept))
            parts.append(tuple(belongs[a] for a in kept))
    if not blocks:
        raise InferenceError(
            "The empty model has random intercepts.",
            "a model without any",
            "pass a fitted comparison model",
        )
    return replace(
        design,
        parts=tuple(_without_predictors(part, d) for d, part in enumerate(design.parts)),
        blocks=tuple(blocks),
        block_parts=tuple(parts),
    )


def _only(block: RandomBlock, kept: Sequence[int]) -> RandomBlock:
    return replace(
        block,
        columns=np.asfortranarray(block.columns[:, list(kept)]),
        names=tuple(block.names[a] for a in kept),
        structure=factor_map(((len(kept), "unstructured"),)),
    )


def _without_predictors(part: PartDesign, d: int) -> PartDesign:
    """The mean (and what shares its formula) with its intercept only; other parts as they are."""
    if d and part.spec.argument != "formula":
        return part
    kept = [j for j, name in enumerate(part.names) if name == INTERCEPT]
    return replace(
        part,
        columns=tuple(part.columns[j] for j in kept),
        X=np.asfortranarray(part.X[:, kept]),
        names=tuple(part.names[j] for j in kept),
    )
