"""Predictors of the log standard deviations of random effects, laid over the rows.

``b_j = D_j c_j``, ``c_j ~ N(0, G)``, ``D_j = diag(exp(W_j alpha))``: the columns of cluster j count
``exp(W_j alpha)`` times, and every engine stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.blocks import BlockContext
from multilevel.design.encode import learn_columns
from multilevel.design.rank import find_dependent
from multilevel.design.recipe import LearntBlock, LearntScale
from multilevel.design.records import Design, RandomBlock, RandomScale
from multilevel.errors import DesignError, LikelihoodError
from multilevel.model.formula.compile import compile_columns
from multilevel.model.random_scale import RandomScaleTerm

Array = NDArray[np.float64]
_INTERCEPT = "(Intercept)"
#: Log of the largest ratio of standard deviations that is computed with.
LARGEST_LOG = 25.0


def with_scale(
    pair: tuple[RandomBlock, LearntBlock], terms: Sequence[RandomScaleTerm], context: BlockContext
) -> tuple[RandomBlock, LearntBlock]:
    """A block with its model for the log standard deviations, where ``terms`` has one for it.

    Raises
    ------
    DesignError : a predictor that varies inside a cluster, or predictors that repeat each other.
    """
    block, learnt = pair
    mine = [term for term in terms if set(term.factors) == set(learnt.factors)]
    if not mine:
        return pair
    term = mine[0]
    compiled = compile_columns(term.predictors)
    matrix, encoding = learn_columns(compiled, context.columns(compiled), context.n, context.kept)
    keep = tuple(j for j, name in enumerate(encoding.names) if name != _INTERCEPT)
    W = np.asfortranarray(matrix[:, list(keep)])
    names = tuple(encoding.names[j] for j in keep)
    for k, name in enumerate(names):
        _check_constant(W[:, k], name, block)
    ones = np.ones((len(W), 1), order="F")
    report = find_dependent(np.asfortranarray(np.hstack([ones, W])), (_INTERCEPT, *names))
    if report.dropped or not names:
        raise DesignError(
            "Predictors of a standard deviation must vary between clusters and not repeat each "
            "other.",
            "; ".join(report.dropped.values()) or f"no predictor in {term.text}",
            f"leave one out of the random_scale of {block.group}",
        )
    one_each = W[np.unique(block.codes, return_index=True)[1]]
    zero = np.zeros((len(names), len(block.names)))
    scale = RandomScale(W, names, one_each.std(axis=0), zero)
    return replace(block, scale=scale), replace(learnt, scale=LearntScale(encoding, keep, zero))


def _check_constant(column: Array, name: str, block: RandomBlock) -> None:
    """Refuse a predictor that has several values in one cluster, and name the cluster."""
    order = np.argsort(block.codes, kind="stable")
    codes, values = block.codes[order], column[order]
    first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    low, high = np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
    size = float(np.abs(values).max(initial=1.0))
    bad = np.flatnonzero(high - low > 1e-12 * size)
    if len(bad):
        at = int(bad[0])
        level = block.levels[codes[first[at]]]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise DesignError(
            f"A predictor of the variance between clusters has one value in each {block.group}.",
            f"{name} goes from {low[at]:g} to {high[at]:g} in {block.group} {level}{more}",
            f"take its cluster mean, between({name}, {block.group}), or put it in scale= for "
            "the residual variance",
        )


def parameter_names(blocks: Sequence[RandomBlock]) -> tuple[tuple[str, float], ...]:
    """Names of all ``alpha`` and the spread of their predictors, in the order of the parameters."""
    out = []
    for block in blocks:
        if block.scale is None:
            continue
        for name, spread in zip(block.scale.names, block.scale.spread, strict=True):
            for effect in block.names:
                of = "" if effect == _INTERCEPT else f"{effect}, "
                out.append((f"log_sd({of}{block.group}: {name})", float(spread)))
    return tuple(out)


def n_scale_parameters(blocks: Sequence[RandomBlock]) -> int:
    """How many ``alpha`` the blocks have."""
    return sum(0 if b.scale is None else b.scale.log_sd.size for b in blocks)


def split(blocks: Sequence[RandomBlock], tail: Array) -> list[Array | None]:
    """Per block ``alpha`` (a, q) per unit of the predictors, from parameters per spread."""
    out: list[Array | None] = []
    at = 0
    for block in blocks:
        if block.scale is None:
            out.append(None)
            continue
        size = block.scale.log_sd.size
        alpha = tail[at : at + size].reshape(block.scale.log_sd.shape)
        out.append(alpha / block.scale.spread[:, None])
        at += size
    return out


def columns_with(block: RandomBlock, alpha: Array | None) -> Array:
    """Random-effect columns (n, q) at ``alpha`` (a, q), whatever is applied to them now.

    Raises
    ------
    LikelihoodError : standard deviations that leave the numeric range.
    """
    if block.scale is None or alpha is None:
        return block.columns
    exponent = block.scale.columns @ (alpha - block.scale.log_sd)
    if not np.abs(exponent).max(initial=0.0) < 2.0 * LARGEST_LOG:
        raise LikelihoodError(
            "Standard deviations of random effects must stay within their numeric range.",
            f"a coefficient of random_scale of {block.group} that is too large",
            "rescale its predictors, or leave one out",
        )
    return np.asarray(block.columns * np.exp(exponent))


def unscaled_columns(block: RandomBlock) -> Array:
    """Random-effect columns (n, q) as the formula makes them."""
    return columns_with(block, None if block.scale is None else np.zeros_like(block.scale.log_sd))


def effect_of(name: str) -> str:
    """The effect without the group of ``by=`` that it belongs to: ``ses [sector=1]`` is ses."""
    return name.rpartition(" [")[0] if name.endswith("]") and " [" in name else name


def by_groups_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``{by: its values}`` of effects that have a covariance matrix of their own in each group."""
    out: dict[str, dict[str, None]] = {}
    for name in names:
        if effect_of(name) != name:
            by, _, value = name.rpartition(" [")[2][:-1].partition("=")
            out.setdefault(by, {})[value] = None
    return {by: tuple(values) for by, values in out.items()}


def factors_by_level(block: RandomBlock) -> Array:
    """``exp(W_j alpha)`` (J, q) as applied to the columns now; ones without a model for it."""
    J, q = block.n_levels, len(block.names)
    if block.scale is None:
        return np.ones((J, q))
    out = np.ones((J, q))
    out[block.codes] = np.exp(block.scale.columns @ block.scale.log_sd)
    return out


def resolved(design: Design, tail: Array) -> Design:
    """The design with ``alpha`` applied to the columns, for new rows too."""
    blocks, learnt = [], []
    pieces = zip(design.blocks, design.recipe.blocks, split(design.blocks, tail), strict=True)
    for block, recipe, alpha in pieces:
        if block.scale is None or alpha is None:
            blocks.append(block)
            learnt.append(recipe)
            continue
        columns = np.asfortranarray(columns_with(block, alpha))
        blocks.append(replace(block, columns=columns, scale=replace(block.scale, log_sd=alpha)))
        if recipe.scale is not None:  # a scale that is tried out is not learnt
            recipe = replace(recipe, scale=replace(recipe.scale, log_sd=alpha))
        learnt.append(recipe)
    return replace(
        design, blocks=tuple(blocks), recipe=replace(design.recipe, blocks=tuple(learnt))
    )
