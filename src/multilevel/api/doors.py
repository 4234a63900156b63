"""The doors behind ``fit``: models that are loaded when they are first asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from multilevel.api.result import require_certified
from multilevel.design.blocks import check_allowed
from multilevel.errors import DataWarning, ModelError
from multilevel.model.specification import check_method

if TYPE_CHECKING:
    from multilevel.api.generalized.options import OutcomeOptions
    from multilevel.api.generalized.related import RelatedOutcomeFit
    from multilevel.api.generalized.result import GeneralizedMultilevelFit
    from multilevel.api.related import RelatedFit
    from multilevel.api.structured import StructuredFit
    from multilevel.design.build import RankDeficient
    from multilevel.design.generalized import Column
    from multilevel.design.related import Related

#: ``{factor: "~ predictors"}``, or the formula alone for a model with one factor.
RandomScaleWords = Mapping[str, str] | str


def related_door(
    formula: str,
    data: Any,
    related: Mapping[str, Any] | None,
    is_alone: bool,
    outcome: OutcomeOptions | None,
    **options: Any,
) -> RelatedFit | RelatedOutcomeFit:
    """Hand a model with memberships or related levels to its own door.

    ``outcome`` is None for normal outcomes.
    """
    from multilevel.api.related import fit_related
    from multilevel.api.relationships import relation_from

    if not is_alone:
        raise ModelError(
            "mm() and related= go with independent residuals.",
            "residual=, scale= or random_scale= beside them",
            'leave those out; dispersion="~ x" models the variance of a family that has one',
        )
    if outcome is None:
        return fit_related(formula, data, related or {}, **options)
    found = generalized_door(
        formula, data, outcome,
        related={str(k): relation_from(v, str(k)) for k, v in (related or {}).items()}, **options,
    )  # fmt: skip
    return cast("RelatedOutcomeFit", found)


def structured_door(
    formula: str,
    data: Any,
    residual: str | None,
    scale: str | None,
    is_gaussian: bool,
    method: str | None,
    weights: Column | None,
    engine: str | None,
    rank_deficient: RankDeficient,
    advice: bool,
    allow: Sequence[str],
    random_scale: RandomScaleWords | None,
) -> StructuredFit:
    """Hand a model with structured residuals to its own door, imported when first needed."""
    from multilevel.api.structured import fit_structured

    if random_scale is not None and not is_gaussian:
        raise ModelError(
            "random_scale= belongs to Gaussian models without random scale effects.",
            "random_scale= with another family, its options, or a random term in scale=",
            "write (1 | school, by=sector) in the formula: each group has its own variance, in "
            "every family",
        )
    if not is_gaussian:
        raise ModelError(
            "residual= belongs to Gaussian models without random scale effects.",
            "residual= with another family, its options, or a random term in scale=",
            "leave residual= out; scale= alone goes with all of these",
        )
    return fit_structured(
        formula, data, residual, scale, method=method, weights=weights, engine=engine,
        rank_deficient=rank_deficient, advice=advice, allow=allow, random_scale=random_scale,
    )  # fmt: skip


def warn_dropped(dropped: Mapping[str, str], stacklevel: int = 3) -> None:
    """Warn, from the public door, of fixed-effect columns that were left out."""
    if dropped:
        warnings.warn(
            f"{len(dropped)} fixed-effect column(s) left out because they repeat "
            "others: " + "; ".join(dropped.values()),
            DataWarning,
            stacklevel=stacklevel,
        )


def generalized_door(
    formula: str,
    data: Any,
    options: OutcomeOptions,
    *,
    method: str | None,
    weights: Column | None,
    engine: str | None,
    rank_deficient: RankDeficient,
    advice: bool,
    allow: Sequence[str],
    related: Related | None = None,
) -> GeneralizedMultilevelFit:
    """Hand a generalized model to its own door, which is imported when first needed."""
    from multilevel.api.generalized.door import fit_outcome

    by_reml = method is not None and check_method(method) == "reml"
    if by_reml and options.scale is None:
        raise ModelError(
            "REML exists for conditionally normal outcomes only.",
            f"method={method!r} with family={options.family!r}",
            'leave method= out, or write method="ml"',
        )
    if engine is not None:
        raise ModelError(
            "engine= chooses among the engines of Gaussian models.",
            f"engine={engine!r} with family={options.family!r}",
            "leave engine= out; n_quad= chooses the approximation",
        )
    allowed = check_allowed(allow)
    found = fit_outcome(
        formula, data, options,
        weights=weights, rank_deficient=rank_deficient, advice=advice, allow=allowed,
        related=related,
    )  # fmt: skip
    warn_dropped(found.design.mean.dropped_columns)
    require_certified(found.fit, allowed, stacklevel=4)
    if by_reml:
        from multilevel.api.generalized.restricted import restricted

        return restricted(found)
    return found
