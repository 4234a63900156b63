r"""Advice on clusters that differ more from each other in one group than in another.

For every predictor with one value in each cluster, the log standard deviations of the random
effects get coefficients of it, and so does the log residual variance (else larger residuals would
pass for larger differences between clusters). A score test at the fitted model (exact gradient and
average information of all covariance parameters) screens; what it finds is fitted, with and without
the coefficients of the standard deviations, and named if the likelihood ratio is beyond chance
(chi-squared: no variance is zero if there is no effect) and the ratio of variances large enough.
Source: Cox & Hinkley 1974, Theoretical Statistics, section 9.3; Hedeker, Mermelstein & Demirtas
2008 for log-linear variances between clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.random_scale import by_groups_of, parameter_names
from multilevel.design.records import Design, RandomBlock, RandomScale
from multilevel.design.residual_layout import ResidualLayout
from multilevel.design.residual_time import TimeScale
from multilevel.errors import EstimationError, LikelihoodError
from multilevel.estimate.records import Fit
from multilevel.estimate.structured import prepare_structured, solve_structured
from multilevel.infer.distributions import chi_square_tail
from multilevel.interpret.advice.record import Advice
from multilevel.interpret.advice.residuals import CHANCE, predictors_of

Array = NDArray[np.float64]
#: A finding needs a ratio of variances beyond this, and that many clusters (in each category).
RATIO, FEWEST, FEWEST_EACH = 2.0, 20, 8
#: Rows up to which printing does not wait.
MOST_ROWS = 20_000
LARGE = 50.0


@dataclass(frozen=True)
class BetweenTest:
    """Test of variances between clusters that depend on one predictor.

    Attributes
    ----------
    statistic, df, p_value : chi-squared.
    step : (a, q) coefficients of the log standard deviations, per spread of the predictor.
    ratio : ratio of the variances between clusters: over the categories, or over four standard
        deviations of a number.
    """

    statistic: float
    df: int
    p_value: float
    step: Array
    ratio: float


def about_between(design: Design, fit: Fit) -> list[Advice]:
    """Random effects whose variance depends on a predictor of their clusters."""
    if (
        fit.residual is not None
        or not fit.certificate.is_certified
        or design.n > MOST_ROWS
        or np.ptp(design.y) == 0.0
    ):
        return []
    out = []
    columns = predictors_of(design)
    for number, block in enumerate(design.blocks):
        if not _is_plain(block):
            continue
        for name, x in columns.items():
            if not _has_clusters(x, block):
                continue
            found = between_test(design, fit, number, name, x)
            if found is not None and found.p_value < CHANCE and found.ratio > RATIO:
                out.append(_told(design, block, name, x, found))
    return out


def _is_plain(block: RandomBlock) -> bool:
    """Whether standard deviations of this block can depend on predictors, and do not yet."""
    return (
        block.scale is None
        and block.n_levels >= FEWEST
        and block.structure.is_linear
        and not by_groups_of(block.names)
    )


def _has_clusters(x: Array, block: RandomBlock) -> bool:
    """Whether columns have one value in each cluster, and enough clusters for each category."""
    own = np.zeros((block.n_levels, x.shape[1]))
    own[block.codes] = x
    if not np.array_equal(own[block.codes], x):
        return False
    values, counts = np.unique(own, axis=0, return_counts=True)
    if len(values) < 2:
        return False
    is_category = x.shape[1] > 1 or len(values) == 2
    return not is_category or int(counts.min()) >= FEWEST_EACH


def between_test(design: Design, fit: Fit, number: int, name: str, x: Array) -> BetweenTest | None:
    """Test whether the random effects of block ``number`` vary more along ``x``.

    Parameters
    ----------
    x : (n, a) columns of one variable, constant in the levels of the block.

    Returns
    -------
    BetweenTest: the likelihood ratio where the score test finds something, else the score test.
    None where the model cannot be fitted (crossed factors).
    """
    scaled, layout = _with_scale(design, number, name, x)
    first = np.unique(design.blocks[number].codes, return_index=True)[1]
    W = x[first] / x[first].std(axis=0)
    shape = (x.shape[1], len(design.blocks[number].names))
    k = shape[0] * shape[1]
    try:
        prepared = prepare_structured(scaled, method=fit.method)
        objective = prepared.objective()
        psi = np.concatenate([fit.theta, np.zeros(len(x.T) + k)])
        statistic, step = _score(
            objective.gradient(psi), objective.average_information(psi), len(fit.theta), k
        )
        p = float(chi_square_tail(statistic, k))
        if p < CHANCE:
            plain = replace(design, residual=replace(layout, random_scale=()))
            _, small = solve_structured(prepare_structured(plain, method=fit.method))
            _, large = solve_structured(prepared)
            if large.residual is None or not large.certificate.is_certified:
                return None
            step = large.residual.phi[-k:]
            statistic = max(small.criterion - large.criterion, 0.0)
            p = float(chi_square_tail(statistic, k))
    except (EstimationError, LikelihoodError):
        return None
    alpha = step.reshape(shape)
    columns = design.blocks[number].columns
    share = np.diag(fit.random_covariance[number]) * np.mean(columns**2, axis=0)
    return BetweenTest(statistic, k, p, alpha, _ratio(alpha, W, share))


def _with_scale(design: Design, number: int, name: str, x: Array) -> tuple[Design, ResidualLayout]:
    """The design and its residual layout with ``x`` in the log SDs and log residual variance."""
    block = design.blocks[number]
    first = np.unique(block.codes, return_index=True)[1]
    names = tuple(f"{name}{j}" for j in range(x.shape[1]))
    zero = np.zeros((len(names), len(block.names)))
    blocks = list(design.blocks)
    blocks[number] = replace(block, scale=RandomScale(x, names, x[first].std(axis=0), zero))
    rows = np.arange(design.n)
    layout = ResidualLayout(
        None, rows, np.arange(design.n + 1), rows, rows.astype(np.int32),
        np.zeros((design.n, 1)), (), np.zeros(design.n, dtype=np.int64), ("",),
        x - x.mean(axis=0), names, TimeScale(), design.weights, "",
        random_scale=parameter_names(blocks),
    )  # fmt: skip
    return replace(design, blocks=tuple(blocks), residual=layout), layout


def _score(gradient: Array, H: Array, r: int, k: int) -> tuple[float, Array]:
    """One Newton step (k,) of the last parameters from the fit, and its statistic."""
    size = np.sqrt(np.maximum(np.diag(H), 1e-12 * max(float(np.diag(H).max()), 1e-300)))
    inverse = np.linalg.pinv(H / np.outer(size, size), rcond=1e-9) / np.outer(size, size)
    g = np.concatenate([np.zeros(r), gradient[r:]])
    step, spread = -(inverse @ g)[-k:], inverse[-k:, -k:]
    return max(0.5 * float(step @ np.linalg.pinv(spread, rcond=1e-9) @ step), 0.0), step


def _ratio(alpha: Array, W: Array, share: Array) -> float:
    """Largest ratio of the variances between clusters that the predictor makes.

    ``alpha`` (a, q) and predictors ``W`` (J, a) per spread; ``share`` (q,) of each effect in the
    variance between clusters of an average row. Of numbers: two standard deviations to each side.
    """
    is_number = W.shape[1] == 1 and len(np.unique(W)) > 2
    places = W.mean() + np.array([[-2.0], [2.0]]) if is_number else np.unique(W, axis=0)
    logs = 2.0 * (places - W.mean(axis=0)) @ alpha
    sizes = np.exp(np.clip(logs, -25.0, 25.0)) @ share
    return float(sizes.max() / sizes.min())


def _told(design: Design, block: RandomBlock, name: str, x: Array, found: BetweenTest) -> Advice:
    is_category = x.shape[1] > 1 or len(np.unique(x)) == 2
    between = "categories" if is_category else "low and high values"
    call = f'random_scale={{"{block.group}": "~ {name}"}}'
    terms = [t for t in design.model.random if ":".join(t.factors) == block.group]
    if is_category and len(terms) == 1 and ":" not in block.group:
        call = f"({terms[0].columns} | {block.group}, by={name}) or {call}"
    return Advice(
        "between_heterogeneity",
        "warning",
        f"Levels of {block.group} do not differ equally from each other: the variance of their "
        f"random effects changes {_times(found.ratio)} between {between} of {name} "
        f"(likelihood-ratio test, p < {CHANCE:g}).",
        f"Let it depend on {name}: {call}, and compare with multilevel.compare.",
    )


def _times(ratio: float) -> str:
    return f"about {ratio:.1f} times" if ratio < LARGE else f"more than {LARGE:g} times"
