r"""Tests by leaving out: random effects beside structured residuals, and the structure itself.

Each random effect; the residual correlations; variances of their own by category or occasion; each
column of ``scale=``; each predictor of ``random_scale=``. Every smaller model is fitted again, all
other parameters with it.

Null distributions: one variance, 50:50 mixture (Self & Liang 1987; Stram & Lee 1994); correlations
that may have either sign (``ar1, cs, toep, un``), chi-square; one decay that may only be positive
(``car1, exp, gau, sph``), 50:50 mixture in the correlation at the smallest distance. Several
variances at once, and parameters that have no meaning in the smaller model (``arma11, fa``, a
variance with predictors of its own), have no known distribution: chi-square, conservative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from multilevel.design.random_scale import parameter_names, unscaled_columns
from multilevel.design.records import Design
from multilevel.design.residual_layout import ResidualLayout
from multilevel.errors import InferenceError
from multilevel.estimate.prepare import prepare
from multilevel.infer.compare import SIGNIFICANT, shown_p
from multilevel.infer.compare_nesting import random_nesting
from multilevel.infer.compare_random import RandomEffectTest, random_effect_tests
from multilevel.infer.compare_reduce import Removal, removals, without
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.mixture import NullDistribution, chi_square, one_variance
from multilevel.infer.residual_null import drawn_structured_null, fit_any
from multilevel.model.scale_power import POWER_OF_MEAN

if TYPE_CHECKING:
    from multilevel.estimate.prepare import Prepared
    from multilevel.estimate.records import Fit

RESIDUAL = "Residual"
_SIGNED = ("ar1", "arh1", "cs", "csh", "toep", "toeph", "un")
_DECAYS = ("car1", "exp", "gau", "sph")
ROUNDING = 1e-3


@dataclass(frozen=True)
class _Smaller:
    """One smaller model: what is left out, and the null distribution."""

    term: str
    group: str
    design: Design
    null: NullDistribution
    words: str


def structured_tests(
    prepared: Prepared,
    fit: Fit,
    rng: np.random.Generator,
    *,
    n_sim: int = 10_000,
    n_boot: int = 0,
) -> tuple[RandomEffectTest, ...]:
    """Leave out each random effect and each part of the residual structure in turn, and refit.

    Parameters
    ----------
    prepared : the whitened problem at the estimates; ``fit`` its fit.
    rng, n_sim : of the exact test of one variance, where residuals are independent.
    n_boot : responses drawn from each smaller fit, to which both models are fitted; 0: none.

    Raises
    ------
    InferenceError : nothing to leave out, or a refit that is better than the full model.
    """
    design = prepared.design
    if design.residual is None or design.residual.n_parameters == 0:
        plain = prepare(replace(design, residual=None), method=fit.method)
        return random_effect_tests(plain, fit, rng, n_sim=n_sim, n_boot=n_boot)
    found = [*_random(design), *_residual(design)]
    if not found:
        raise InferenceError(
            "There must be a random effect or a residual parameter to leave out.",
            "independent residuals of one variance, no random effects",
            "add a term such as (1 | school)",
        )
    return tuple(_test(prepared, fit, one, rng, n_boot) for one in found)


def _random(design: Design) -> Iterator[_Smaller]:
    """Each random effect left out."""
    for removal in removals(design):
        smaller = _without(design, removal)
        nesting = random_nesting(smaller, design)
        block = design.blocks[removal.block]
        df = _n_parameters(design) - _n_parameters(smaller)
        if nesting is None or nesting.n_new_variances != 1 or block.scale is not None:
            null = chi_square(df)
            null = replace(null, sentence=f"{null.sentence}, conservative")
        else:
            null = one_variance(df - 1)
        term, _, group = removal.label.partition(" | ")
        words = f"The random effect of {term} across {group}"
        yield _Smaller(term, group, smaller, null, words)


def _without(design: Design, removal: Removal) -> Design:
    """The design without a random effect, models for standard deviations cut with it."""
    block = design.blocks[removal.block]
    if block.scale is not None:
        keep = [a for a in range(len(block.names)) if a not in removal.columns]
        own = replace(block, scale=replace(block.scale, log_sd=block.scale.log_sd[:, keep]))
        blocks = [own if t == removal.block else b for t, b in enumerate(design.blocks)]
        design = replace(design, blocks=tuple(blocks))
    smaller = without(design, removal)
    gone = len(smaller.blocks) < len(design.blocks)
    kept = [t for t in range(len(design.blocks)) if not (gone and t == removal.block)]
    learnt = tuple(design.recipe.blocks[t] for t in kept)
    return _relabelled(replace(smaller, recipe=replace(design.recipe, blocks=learnt)))


def _relabelled(design: Design) -> Design:
    """The design with the names of what is left of ``random_scale``."""
    if design.residual is None:
        return design
    layout = replace(design.residual, random_scale=parameter_names(design.blocks))
    return replace(design, residual=layout)


def _n_parameters(design: Design) -> int:
    own = sum(block.structure.n_parameters for block in design.blocks)
    return own + (0 if design.residual is None else design.residual.n_parameters)


def _residual(design: Design) -> Iterator[_Smaller]:
    """Each part of the residual structure left out, then predictors of ``random_scale``."""
    layout = design.residual
    if layout is None:
        return
    term = layout.term
    k = sum(m.n_parameters for m in layout.maps)
    if k and term is not None:
        plain = replace(layout, maps=(), term=replace(term, structure="ind", order=0))
        where = f" within {term.group}" if term.factors else ""
        yield _Smaller(
            f"correlation: {term.structure}", RESIDUAL, replace(design, residual=plain),
            _correlation_null(layout, k), f"The correlation of residuals{where} ({term.title})",
        )  # fmt: skip
    n_cells = len(layout.cells) - 1
    if n_cells:
        cut = _columns_kept(layout, range(n_cells, len(layout.variance_names)), layout.cells[:1])
        by = "" if term is None else " and ".join(x for x in (term.by, *term.coordinates) if x)
        yield _Smaller(
            f"variances by {by}", RESIDUAL, replace(design, residual=cut), chi_square(n_cells),
            f"A residual variance of its own for each {by}",
        )  # fmt: skip
    for j in range(n_cells, len(layout.variance_names)):
        rest = [i for i in range(len(layout.variance_names)) if i != j]
        name = layout.variance_names[j]
        power = name == POWER_OF_MEAN
        yield _Smaller(
            name if power else f"log_variance({name})", RESIDUAL,
            replace(design, residual=_columns_kept(layout, rest, layout.cells)), chi_square(1),
            "A residual variance that is a power of the mean" if power
            else f"A residual variance that depends on {name}",
        )  # fmt: skip
    yield from _scales(design)


def _scales(design: Design) -> Iterator[_Smaller]:
    """Each predictor of the standard deviations of random effects left out."""
    for t, block in enumerate(design.blocks):
        if block.scale is None:
            continue
        n = len(block.scale.names)
        # at alpha = 0 the columns are as the formula makes them, whatever is applied to them now
        columns = np.asfortranarray(unscaled_columns(block))
        for j, name in enumerate(block.scale.names):
            rest = [i for i in range(n) if i != j]
            scale = replace(
                block.scale,
                columns=np.asfortranarray(block.scale.columns[:, rest]),
                names=tuple(block.scale.names[i] for i in rest),
                spread=block.scale.spread[rest],
                log_sd=np.zeros((n - 1, len(block.names))),
            )
            own = replace(block, columns=columns, scale=scale if rest else None)
            blocks = tuple(own if s == t else b for s, b in enumerate(design.blocks))
            yield _Smaller(
                f"log_sd({block.group}: {name})", block.group,
                _relabelled(replace(design, blocks=blocks)), chi_square(len(block.names)),
                f"A standard deviation of {block.group} that depends on {name}",
            )  # fmt: skip


def _columns_kept(
    layout: ResidualLayout, keep: range | list[int], cells: tuple[str, ...]
) -> ResidualLayout:
    return replace(
        layout,
        variance_columns=layout.variance_columns[:, list(keep)],
        variance_names=tuple(layout.variance_names[i] for i in keep),
        cells=cells,
    )


def _correlation_null(layout: ResidualLayout, k: int) -> NullDistribution:
    structure = "" if layout.term is None else layout.term.structure
    if structure in _DECAYS and k == 1:
        return one_variance(0)
    null = chi_square(k)
    if structure in _SIGNED:
        return null
    return replace(null, sentence=f"{null.sentence}, conservative")


def _test(
    prepared: Prepared, fit: Fit, smaller: _Smaller, rng: np.random.Generator, n_boot: int
) -> RandomEffectTest:
    at_small, small = fit_any(smaller.design, fit.method)
    df = fit.n_parameters - small.n_parameters
    statistic = small.criterion - fit.criterion
    layout = prepared.design.residual
    by_means = layout is not None and layout.has_power_of_mean  # not at the top of one likelihood
    if statistic < -ROUNDING - 1e-9 * abs(fit.criterion) and not by_means:
        raise InferenceError(
            "Leaving out a parameter cannot raise the likelihood.",
            f"-2 delta LL = {statistic:.4g} without {smaller.term}",
            "look at fit.certificate: the model may not be at its optimum",
        )
    statistic = max(statistic, 0.0)
    null = smaller.null
    naive, right = float(chi_square_tail(statistic, df)), null.p_value(statistic)
    drawn, words = float("nan"), ""
    if n_boot:
        draws = drawn_structured_null((at_small, small), prepared.design, n_boot, rng)
        drawn = draws.p_value(statistic)
        words = f" Parametric bootstrap ({len(draws.draws)} draws): {shown_p(drawn)}."
    decides = drawn if np.isfinite(drawn) else right
    verdict = "is needed" if decides < SIGNIFICANT else "is not shown to be needed"
    text = (
        f"{smaller.words} {verdict}: without it the fit is worse by -2 delta LL({df}) = "
        f"{statistic:.2f}, {shown_p(right)} by {null.sentence}"
    )
    text += f"; the naive chi2({df}) gives {shown_p(naive)}." if naive > right else "."
    if by_means:
        text += " Approximate: the variances rest on the estimated means."
    return RandomEffectTest(
        smaller.term, smaller.group, statistic, df, naive, right, float("nan"), null.sentence,
        text + words, drawn,
    )  # fmt: skip
