r"""Explained variance, every measure with its name, its pile of variance and its comparison.

* total R2: squared correlation of the outcome and its prediction by the fixed effects.
* Nakagawa & Schielzeth 2013 (Methods in Ecology and Evolution 4:133), random slopes by Johnson
  2014 (ibid. 5:944): marginal ``f / total``, conditional ``(f + random) / total``.
* Rights & Sterba 2019 (Psychological Methods 24:309): the parts of ``variance_parts`` over the
  total and over the variance of their level.
* against a comparison model: proportional reduction of each variance (Raudenbush & Bryk 2002,
  chapter 4), and the reductions of prediction error of Snijders & Bosker 1994 (Sociological Methods
  & Research 22:342), for rows and for cluster means of size n (harmonic mean of the sizes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import Prepared, prepare
from multilevel.interpret.fitted import fixed_part
from multilevel.interpret.intraclass import column_moments
from multilevel.interpret.level_parts import ROWS
from multilevel.interpret.variance import INTERCEPT, RESIDUAL
from multilevel.interpret.variance_parts import SOURCES, VarianceParts, variance_parts
from multilevel.model.covariance.structures import factor_map

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.estimate.records import Fit
    from multilevel.infer.bootstrap_refits import Estimates

Array = NDArray[np.float64]
WORDS = {
    "f": "fixed effects",
    "v": "random slopes",
    "m": "random intercepts",
    "residual": "residual variation",
}


@dataclass(frozen=True)
class Explained:
    """One measure of explained variance.

    Attributes
    ----------
    measure : ``total``, ``nakagawa``, ``rights_sterba``, ``reduction`` or ``snijders_bosker``.
    group : the pile: ``"total"``, a grouping factor, ``"rows"`` (within all factors), or
        ``"Residual"`` for a reduction of the residual variance.
    term : the random effect whose variance is reduced, else empty.
    component : what explains: ``f, v, m, residual``, their names joined, ``marginal``, ...
    estimate : the share; a reduction may be negative.
    sentence : in words.
    """

    measure: str
    group: str
    term: str
    component: str
    estimate: float
    sentence: str


def explained_variance(design: Design, fit: Fit) -> tuple[Explained, ...]:
    """Measures that need no comparison model: total, Nakagawa, Rights & Sterba.

    Parts are variances over the analysed rows (divisor n); the residual is that of a row of
    weight 1. Rights & Sterba's symbols for two levels: ``f1`` is ``f`` of ``rows``, ``f2`` is
    ``f`` of the factor, ``v`` that of ``rows`` and ``m`` that of the factor.
    """
    return (*overall(design, fit), *rights_sterba(variance_parts(design, fit)))


def overall(design: Design, fit: Fit | Estimates) -> tuple[Explained, Explained, Explained]:
    """Total, marginal and conditional R2: one pass over the rows, no split by level."""
    prediction = fixed_part(design.X, fit.beta, design.offset)
    moments = column_moments(design)
    random = sum(
        float(np.trace(G @ M)) for G, M in zip(fit.random_covariance, moments, strict=True)
    )
    return shares_explained(design.y, prediction, random, fit.sigma2)


def shares_explained(
    y: Array, prediction: Array, random: float, sigma2: float
) -> tuple[Explained, Explained, Explained]:
    """Total, marginal and conditional R2 from the fixed part of the prediction (n,) and the mean
    variance that random effects give a row."""
    return (_total(y, prediction), *_nakagawa(float(prediction.var()), random, sigma2))


def _total(y: Array, prediction: Array) -> Explained:
    a, b = y - y.mean(), prediction - prediction.mean()
    spread = float(b @ b)
    square = float(a @ b) ** 2 / (float(a @ a) * spread) if spread > 1e-24 * float(a @ a) else 0.0
    return Explained(
        "total", "total", "", "f", square,
        f"The fixed effects predict {100 * square:.1f}% of the total variance of the outcome "
        "(squared correlation of outcome and fixed-effects prediction).",
    )  # fmt: skip


def _nakagawa(f: float, random: float, sigma2: float) -> tuple[Explained, Explained]:
    total = f + random + sigma2
    marginal, conditional = f / total, (f + random) / total
    return (
        Explained(
            "nakagawa", "total", "", "marginal", marginal,
            f"Marginal R2: the fixed effects make up {100 * marginal:.1f}% of the variance that "
            "the model implies.",
        ),
        Explained(
            "nakagawa", "total", "", "conditional", conditional,
            f"Conditional R2: fixed and random effects make up {100 * conditional:.1f}% of the "
            "variance that the model implies. Random effects are counted as explained here, "
            "although no predictor accounts for them.",
        ),
    )  # fmt: skip


def rights_sterba(parts: VarianceParts, *, every: bool = False) -> list[Explained]:
    """Shares of the total, then of each level.

    Parameters
    ----------
    every : also the shares of random slopes that are zero (by default only what exists).
    """
    out: list[Explained] = []
    piles = [("total", parts.total), *((level, parts.at(level)) for level in parts.levels)]
    for pile, size in piles:
        for s, level in enumerate(parts.levels):
            if pile not in ("total", level) or size <= 0.0:
                continue
            for k, source in enumerate(SOURCES):
                value = float(parts.values[s, k])
                if not _exists(parts, s, k, every):
                    continue
                where = "within clusters" if level == ROWS else f"between levels of {level}"
                of = "the total variance" if pile == "total" else f"the variance {where}"
                name = f"{source} {level}" if pile == "total" else source
                share = value / size
                sentence = f"{100 * share:.1f}% of {of} comes from {WORDS[source]}" + (
                    f" {where}." if pile == "total" else "."
                )
                out.append(Explained("rights_sterba", pile, "", name, share, sentence))
    return out


def _exists(parts: VarianceParts, s: int, k: int, every: bool) -> bool:
    """Residuals exist within clusters, intercepts between them; f always; v where it is there."""
    is_rows = parts.levels[s] == ROWS
    if SOURCES[k] == "residual":
        return is_rows
    if SOURCES[k] == "m":
        return not is_rows
    return SOURCES[k] == "f" or every or float(parts.values[s, k]) > 0.0


def empty_model(prepared: Prepared) -> tuple[Prepared, Fit]:
    """Fit the empty-means, random-intercepts model to the same rows, weights and method.

    Returns
    -------
    problem, fit : of ``y ~ 1 + (1 | each factor)``.
    """
    old = prepared.design
    ones = np.ones((old.n, 1), order="F")
    blocks = tuple(
        replace(
            block, columns=ones, names=(INTERCEPT,), structure=factor_map(((1, "unstructured"),))
        )
        for block in old.blocks
    )
    response = old.model.response
    bars = " + ".join(f"(1 | {block.group})" for block in blocks)
    model = replace(old.model, formula=f"{response} ~ 1 + {bars}", fixed="1", offsets=(), random=())
    design = replace(
        old, model=model, X=ones, names=(INTERCEPT,), blocks=blocks, offset=None, dropped_columns={}
    )
    problem = prepare(design, method=prepared.method)
    return problem, solve(problem)


def reductions(
    design: Design, fit: Fit, other_design: Design, other: Fit, name: str
) -> tuple[Explained, ...]:
    """Reduction of each variance, and of prediction errors, against a comparison model.

    Parameters
    ----------
    design, fit : the model.
    other_design, other : the comparison model, on the same rows and by the same method.
    name : the comparison model in words, for the sentences.

    Returns
    -------
    ``reduction`` for each variance (no covariances) that both models have, then, where both have
    the same single grouping factor, ``snijders_bosker`` for rows and for cluster means.

    Raises
    ------
    InferenceError : other rows, another response or another method.
    """
    _check_comparable(design, fit, other_design, other)
    return reduction_records(design, fit, other_design, other, name)


def reduction_records(
    design: Design, fit: Fit | Estimates, other_design: Design, other: Fit | Estimates, name: str
) -> tuple[Explained, ...]:
    """``reductions`` of two models that are known to be comparable."""
    fewer = _variances(other_design, other)
    out: list[Explained] = []
    for (group, term), value in _variances(design, fit).items():
        before = fewer.get((group, term))
        if before is None or before <= 0.0:
            continue
        share = (before - value) / before
        pile = "residual variance" if group == RESIDUAL else f"variance of {term} over {group}"
        out.append(
            Explained(
                "reduction", group, term, f"against {name}", share,
                _reduction_words(share, pile, before, value, name, group),
            )
        )  # fmt: skip
    one_factor = len(design.blocks) == len(other_design.blocks) == 1
    if one_factor and design.blocks[0].group == other_design.blocks[0].group:
        out += _snijders_bosker(design, fit, other_design, other, name)
    return tuple(out)


def _reduction_words(
    share: float, pile: str, before: float, after: float, name: str, group: str
) -> str:
    change = f"from {before:.4g} to {after:.4g}"
    if share >= 0.0:
        return f"Relative to {name}, {100 * share:.1f}% of the {pile} is explained ({change})."
    why = (
        "a residual variance rises when the comparison model fits more within clusters"
        if group == RESIDUAL
        else "predictors that vary within clusters lower the residual variance, and with it the "
        "part of the observed cluster differences that is put down to chance"
    )
    return (
        f"Relative to {name}, the {pile} is {-100 * share:.1f}% larger ({change}): a negative "
        f"value, which can happen because {why}."
    )


def _variances(design: Design, fit: Fit | Estimates) -> dict[tuple[str, str], float]:
    found = {
        (block.group, term): float(G[a, a])
        for block, G in zip(design.blocks, fit.random_covariance, strict=True)
        for a, term in enumerate(block.names)
    }
    return {**found, (RESIDUAL, ""): fit.sigma2}


def _snijders_bosker(
    design: Design, fit: Fit | Estimates, other_design: Design, other: Fit | Estimates, name: str
) -> list[Explained]:
    """``1 - (tau2 + sigma2 / k) / (same of the comparison model)`` for k = 1 and k = n."""
    counts = np.bincount(design.blocks[0].codes, minlength=design.blocks[0].n_levels)
    size = float(len(counts) / np.sum(1.0 / counts))
    tau = float(np.trace(fit.random_covariance[0] @ column_moments(design)[0]))
    tau0 = float(np.trace(other.random_covariance[0] @ column_moments(other_design)[0]))
    group = design.blocks[0].group
    out = []
    for k, pile, what in (
        (1.0, ROWS, "of one row"),
        (size, group, f"of the mean of a {group} with {size:.1f} rows (harmonic mean)"),
    ):
        share = 1.0 - (tau + fit.sigma2 / k) / (tau0 + other.sigma2 / k)
        out.append(
            Explained(
                "snijders_bosker", pile, "", f"against {name}", share,
                f"Relative to {name}, the squared error of predicting the outcome {what} "
                f"{'falls' if share >= 0 else 'rises'} by {100 * abs(share):.1f}%.",
            )
        )  # fmt: skip
    return out


def _check_comparable(design: Design, fit: Fit, other_design: Design, other: Fit) -> None:
    must = "Explained variance compares two models of the same outcome, rows and method."
    same_rows = np.array_equal(design.rows.kept, other_design.rows.kept)
    if not same_rows or not np.array_equal(design.y, other_design.y):
        raise InferenceError(
            must,
            f"{design.n} and {other_design.n} analysed rows, not the same ones"
            if not same_rows
            else "another response",
            "fit both to the rows that have every variable of both models",
        )
    if fit.method != other.method:
        raise InferenceError(
            must, f"methods {fit.method!r} and {other.method!r}", "update one of the two models"
        )
