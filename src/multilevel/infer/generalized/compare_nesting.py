"""Whether one generalized model is a special case of another, judged on columns and families.

Columns are compared predictor by predictor. The predictors of an ordered family are the cuts
``tau_c - eta``, so that proportional odds are a special case of thresholds with predictors. A
family is a special case of another where a part of the larger runs to a limit: overdispersion
``alpha = 0`` (Poisson), probability of structural zeros 0, ``1 / df = 0`` (Gaussian). These limits
are on the boundary: such a part may only move one way. Sources: Self & Liang 1987; Lambert 1992;
Cameron & Trivedi 2013, section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from multilevel.design.generalized import GeneralizedDesign
from multilevel.design.records import Design, RandomBlock
from multilevel.infer.compare_nesting import Nesting, column_space_within, random_nesting
from multilevel.infer.generalized.natural import core_name, is_constant

Array = NDArray[np.float64]
#: Families that hold another one at a limit of a part: ``{(larger, smaller): (part, link)}``.
LIMITS: dict[tuple[str, str], tuple[str, str]] = {
    ("negative_binomial", "poisson"): ("dispersion", "log"),
    ("negative_binomial_1", "poisson"): ("dispersion", "log"),
    ("generalized_poisson", "poisson"): ("dispersion", "log"),
    ("student", "gaussian"): ("df", "identity"),
}


@dataclass(frozen=True)
class OutcomeNesting:
    """How a smaller generalized model lies in a larger.

    Attributes
    ----------
    random : of the random effects.
    limits : parts of the larger model that stand at a limit in the smaller.
    """

    random: Nesting
    limits: tuple[str, ...]

    @property
    def n_one_sided(self) -> int:
        """Variances and limits that may only grow from zero."""
        return self.random.n_new_variances + len(self.limits)

    @property
    def n_boundary(self) -> int:
        """Parameters that belong to them."""
        return self.random.n_boundary + len(self.limits)


@dataclass(frozen=True)
class _Predictor:
    """One linear predictor: the parts that make it up."""

    name: str
    parts: tuple[int, ...]


def outcome_nesting(small: GeneralizedDesign, large: GeneralizedDesign) -> OutcomeNesting | None:
    """How ``small`` lies in ``large`` (same rows in the same order); None if it does not."""
    limits = _limits(small, large)
    if limits is None:
        return None
    of_small = _predictors(small)
    of_large = [p for p in _predictors(large) if p.name not in limits]
    if [p.name for p in of_small] != [p.name for p in of_large]:
        return None
    if not _same_offsets(small, large, of_small, of_large):
        return None
    if not _fixed_within(small, large, of_small, of_large):
        return None
    tall = not (_is_about_the_first(small) and _is_about_the_first(large))
    random = random_nesting(_random(small, of_small, tall), _random(large, of_large, tall))
    return None if random is None else OutcomeNesting(random, limits)


def _limits(small: GeneralizedDesign, large: GeneralizedDesign) -> tuple[str, ...] | None:
    """Parts of the larger family at a limit in the smaller; None if the families do not nest."""
    one, two = small.family, large.family
    if one.link != two.link or one.option("truncated") != two.option("truncated"):
        return None
    limits: list[str] = []
    cores = core_name(two), core_name(one)
    if cores[0] != cores[1]:
        found = LIMITS.get(cores)
        if found is None or found[1] != two.link:
            return None
        limits.append(found[0])
    kinds = one.option("zero"), two.option("zero")
    if kinds[0] != kinds[1]:
        if kinds != ("", "inflated"):
            return None
        limits.append("zero")
    for part in large.parts:
        if part.spec.name in limits and not is_constant(part):
            return None  # predictors of a part that is not there cannot be told apart
    return tuple(limits)


def _is_ordered(design: GeneralizedDesign) -> bool:
    return design.family.option("thresholds") in ("increasing", "free")


def _predictors(design: GeneralizedDesign) -> list[_Predictor]:
    """The linear predictors: parts, or the cuts of an ordered family."""
    names = [p.spec.name for p in design.parts]
    if not _is_ordered(design):
        return [_Predictor(name, (d,)) for d, name in enumerate(names)]
    return [_Predictor(name, (d, 0)) for d, name in enumerate(names) if d > 0]


def _same_offsets(
    small: GeneralizedDesign,
    large: GeneralizedDesign,
    of_small: list[_Predictor],
    of_large: list[_Predictor],
) -> bool:
    for a, b in zip(of_small, of_large, strict=True):
        for i, j in zip(a.parts, b.parts, strict=True):
            x, y = small.parts[i].offset, large.parts[j].offset
            if (x is None) != (y is None) or (x is not None and not np.array_equal(x, y)):  # type: ignore[arg-type]
                return False
    return True


def _fixed_within(
    small: GeneralizedDesign,
    large: GeneralizedDesign,
    of_small: list[_Predictor],
    of_large: list[_Predictor],
) -> bool:
    if not _is_ordered(small):
        return all(
            column_space_within(small.parts[a.parts[0]].X, large.parts[b.parts[0]].X)
            for a, b in zip(of_small, of_large, strict=True)
        )
    return column_space_within(_stacked(small, of_small), _stacked(large, of_large))


def _stacked(design: GeneralizedDesign, predictors: list[_Predictor]) -> Array:
    """Columns of all parts over the rows of all predictors, one below the other."""
    columns = []
    for d, part in enumerate(design.parts):
        pieces = [part.X if d in p.parts else np.zeros(part.X.shape) for p in predictors]
        columns.append(np.vstack(pieces))
    return np.hstack(columns)


def _is_about_the_first(design: GeneralizedDesign) -> bool:
    """Whether every random effect belongs to the first part."""
    return all(part == 0 for parts in design.block_parts for part in parts)


def _random(design: GeneralizedDesign, predictors: list[_Predictor], tall: bool) -> Design:
    """A design whose blocks hold the random effects, ``tall``: over the rows of all predictors."""
    if not tall:
        return replace(design.mean, blocks=design.blocks)
    blocks: list[RandomBlock] = []
    for block, parts in zip(design.blocks, design.block_parts, strict=True):
        belongs = np.array(parts)
        pieces = [block.columns * np.isin(belongs, p.parts) for p in predictors]
        blocks.append(
            replace(
                block,
                codes=np.tile(block.codes, len(predictors)),
                columns=np.asfortranarray(np.vstack(pieces)),
            )
        )
    return replace(design.mean, blocks=tuple(blocks))
