"""The model for the variance, read out: components, intraclass correlations, V of one cluster.

Sources: Snijders & Bosker 2012, Multilevel Analysis, chapters 3 to 5 (ICC, three levels);
Laird & Ware 1982 for ``V_c = Z_c G Z_c' + R_c``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multilevel.design.related import has_memberships
from multilevel.errors import InferenceError
from multilevel.model.covariance.curves import HOMOGENEOUS

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.records import Fit

Array = NDArray[np.float64]
INTERCEPT = "(Intercept)"
RESIDUAL = "Residual"
FREE_COVARIANCES = ("unstructured", "compound_symmetry")


@dataclass(frozen=True)
class VarianceComponent:
    """One estimated variance or covariance.

    Attributes
    ----------
    group : grouping factor, or ``"Residual"``.
    term : name of the random effect (empty for the residual).
    term2 : the other random effect of a covariance; empty for a variance.
    variance : the variance, or the covariance where ``term2`` is set; squared response units.
    sd : square root of a variance; NaN for a covariance.
    correlation : of a covariance (NaN if a variance is zero); NaN for a variance.
    """

    group: str
    term: str
    term2: str
    variance: float
    sd: float
    correlation: float


@dataclass(frozen=True)
class IntraclassCorrelation:
    """Shares of the total variance for one grouping factor.

    Attributes
    ----------
    group : grouping factor.
    proportion : its variance over the total variance.
    correlation : correlation of two rows of the same level (rows that share a level also share
        every higher unit the factor is nested in); equals ``proportion`` for two-level models.
    within : factors whose variance ``correlation`` adds, ``group`` first.
    sentence : both in words.
    """

    group: str
    proportion: float
    correlation: float
    within: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class ClusterCovariance:
    """Model-implied covariance of the outcomes of one cluster.

    Attributes
    ----------
    group, level : which cluster.
    rows : (m,) positions among the analysed rows.
    covariance : (m, m) ``V``, squared response units.
    correlation : (m, m) ``VCORR``.
    """

    group: str
    level: Any
    rows: NDArray[np.intp]
    covariance: Array
    correlation: Array


def variance_components(design: Design, fit: Fit) -> tuple[VarianceComponent, ...]:
    """List every estimated variance and covariance, the residual variance last.

    Covariances that the structure fixes at zero (terms written apart, ``||``, ``diag``) are not
    listed. With precision weights the residual variance is that of a row of weight 1.
    """
    root = float(np.sqrt(fit.sigma2))
    residual = VarianceComponent(RESIDUAL, "", "", float(fit.sigma2), root, float("nan"))
    return (*effect_components(design.blocks, fit.random_covariance), residual)


def effect_components(
    blocks: Sequence[RandomBlock], matrices: Sequence[Array]
) -> tuple[VarianceComponent, ...]:
    """The variances and covariances of random effects, ``G`` (q, q) per block."""
    out: list[VarianceComponent] = []
    nan = float("nan")
    for block, G in zip(blocks, matrices, strict=True):
        sd = np.sqrt(np.maximum(np.diag(G), 0.0))
        once = _stated_once(block)
        for a, name in enumerate(block.names):
            label = once.get(a, name)
            if label:
                own = float(G[a, a]), float(sd[a])
                out.append(VarianceComponent(block.group, label, "", *own, nan))
        for start, stop, structure in block.structure.terms:
            if structure not in FREE_COVARIANCES:
                continue
            for a in range(start, stop):
                for c in range(start, a):
                    scale = float(sd[a] * sd[c])
                    r = float(np.clip(G[a, c] / scale, -1.0, 1.0)) if scale > 0 else nan
                    names = block.names[c], block.names[a]
                    out.append(VarianceComponent(block.group, *names, float(G[a, c]), nan, r))
    return tuple(out)


def _stated_once(block: RandomBlock) -> dict[int, str]:
    """Columns of terms with one variance for all of their (possibly many) columns: what the first
    is called, and empty for the others."""
    found: dict[int, str] = {}
    for number, (start, stop, _) in enumerate(block.structure.terms):
        curve = block.structure.curve(number)
        if curve is not None and curve.structure in HOMOGENEOUS:
            found.update(dict.fromkeys(range(start, stop), ""))
            found[start] = curve.stem
    return found


def is_nested(fine: RandomBlock, coarse: RandomBlock) -> bool:
    """Whether every level of ``fine`` lies in exactly one level of ``coarse`` (O(n), exact)."""
    if has_memberships(fine) or has_memberships(coarse):
        return False  # a level whose rows have other levels too lies in nothing
    home = np.zeros(fine.n_levels, dtype=coarse.codes.dtype)
    home[fine.codes] = coarse.codes
    return bool(np.array_equal(home[fine.codes], coarse.codes))


def intraclass_correlations(design: Design, fit: Fit) -> tuple[IntraclassCorrelation, ...]:
    """ICC of each grouping factor of a model whose random effects are intercepts only.

    ``proportion = tau2_t / total``, ``correlation = sum of tau2 over t and the factors it is
    nested in / total``, ``total = sum tau2 + sigma2`` (a row of weight 1).

    Raises
    ------
    InferenceError : a random slope makes the total variance depend on the predictor, so that
        no single ICC exists.
    """
    for block in design.blocks:
        if block.names != (INTERCEPT,):
            slopes = [name for name in block.names if name != INTERCEPT]
            raise InferenceError(
                "An intraclass correlation needs random intercepts only: with a random slope the "
                "total variance depends on the value of the predictor.",
                f"random effect(s) of {', '.join(slopes)} over {block.group}",
                "fit the model without random slopes (usually the empty model) and ask again",
            )
    tau2 = [float(G[0, 0]) for G in fit.random_covariance]
    return shares_of_variance(design.blocks, tau2, fit.sigma2)


def shares_of_variance(
    blocks: Sequence[RandomBlock], tau2: Sequence[float], residual: float
) -> tuple[IntraclassCorrelation, ...]:
    """Share of each factor's intercept variance in ``sum tau2 + residual``, and correlations."""
    total = sum(tau2) + residual
    out = []
    for t, block in enumerate(blocks):
        above = [
            s
            for s, other in enumerate(blocks)
            if s != t and other.n_levels <= block.n_levels and is_nested(block, other)
        ]
        within = (block.group, *(blocks[s].group for s in above))
        proportion = tau2[t] / total
        correlation = (tau2[t] + sum(tau2[s] for s in above)) / total
        sentence = (
            f"{100 * proportion:.1f}% of the variance lies between levels of {block.group}; "
            f"two rows of the same {block.group} correlate {correlation:.3f} on average."
        )
        out.append(IntraclassCorrelation(block.group, proportion, correlation, within, sentence))
    return tuple(out)


def cluster_covariance(
    design: Design,
    fit: Fit,
    group: str | None = None,
    level: Hashable = None,
    max_rows: int = 200,
) -> ClusterCovariance:
    """``V = Z G Z' + R`` and its correlations for the rows of one cluster.

    Parameters
    ----------
    design, fit : the design and its fit.
    group : grouping factor; the one with the fewest levels if not given.
    level : label of the cluster; the first level if not given.
    max_rows : largest cluster that is laid out (the matrix is dense).

    Raises
    ------
    InferenceError : no random effects, an unknown group or level, or a cluster that is too large.
    """
    block = find_block(design, group)
    code = 0 if level is None else find_level(block, level)
    rows = np.flatnonzero(block.codes == code)
    label = block.levels[code]
    if len(rows) > max_rows:
        raise InferenceError(
            f"The covariance matrix of one cluster is laid out for at most {max_rows} rows.",
            f"{block.group} {label} has {len(rows)} rows",
            f"choose a smaller cluster, or pass max_rows={len(rows)}",
        )
    weight = np.ones(len(rows)) if design.weights is None else design.weights[rows]
    V = np.diag(fit.sigma2 / weight)
    for other, G in zip(design.blocks, fit.random_covariance, strict=True):
        Z, codes = other.columns[rows], other.codes[rows]
        V += (Z @ G @ Z.T) * (codes[:, None] == codes[None, :])
    sd = np.sqrt(np.diag(V))
    return ClusterCovariance(block.group, label, rows, V, V / np.outer(sd, sd))


def find_block(design: Design, group: str | None) -> RandomBlock:
    """The block of a grouping factor; the one with the fewest levels if not given."""
    names = [block.group for block in design.blocks]
    if not names:
        raise InferenceError(
            "The model must have random effects.",
            "a model without random terms",
            "add a term such as (1 | school)",
        )
    if group is None:
        return design.blocks[-1]
    if group not in names:
        raise InferenceError(
            "The grouping factor must be one of the model's: " + ", ".join(names) + ".",
            repr(group),
            f"write group={names[0]!r}",
        )
    return design.blocks[names.index(group)]


def find_level(block: RandomBlock, level: Hashable) -> int:
    """Position of a label among the levels of a block (also by its text)."""
    hits = [i for i, label in enumerate(block.levels) if label == level]
    if not hits:
        hits = [i for i, label in enumerate(block.levels) if str(label) == str(level)]
    if not hits:
        some = ", ".join(map(str, block.levels[:5]))
        raise InferenceError(
            f"The level must occur in {block.group}.",
            repr(level),
            f"use one of its {block.n_levels} levels, such as {some}",
        )
    return hits[0]
