"""The door of structural models: text and a table in, a fitted model out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from multilevel.api.structural_clusters import cluster_columns, is_stated_nested
from multilevel.api.structural_mixed_door import (
    FamilyName,
    are_crossed,
    checked_families,
    fit_structural_mixed,
)
from multilevel.api.structural_result import StructuralResult, check_option
from multilevel.design.blocks import NOT_CERTIFIED
from multilevel.design.structural import (
    MISSING,
    Missing,
    build_structural_design,
    group_labels,
    has_missing,
)
from multilevel.errors import ConvergenceWarning, EstimationError, ModelError
from multilevel.estimate.structural import (
    StructuralFit,
    fit_model,
    prepare_structural,
)
from multilevel.estimate.structural_boundary import fit_admissible
from multilevel.infer.structural import (
    StdErrorType,
    check_std_errors,
)
from multilevel.model.structural.build import build_structural, fixed_candidates
from multilevel.model.structural.identify import check_identified
from multilevel.model.structural.parse import Parsed, parse_structural
from multilevel.model.structural.records import (
    EXOGENOUS,
    LATENT_SCALES,
    Exogenous,
    LatentScale,
)
from multilevel.tables.table import Table, as_table

INADMISSIBLE = "inadmissible"


def sem(
    text: str,
    data: Any,
    *,
    cluster: str | Sequence[str] | None = None,
    group: str | None = None,
    missing: Missing = "fiml",
    exogenous: Exogenous = "auto",
    latent_scale: LatentScale = "loading",
    std_errors: StdErrorType = "observed",
    allow: Sequence[str] = (),
    families: Mapping[str, FamilyName] | None = None,
    n_quad: int | tuple[int, ...] | None = None,
    seed: int = 0,
) -> StructuralResult:
    r"""Fit a structural equation model of two levels or more by maximum likelihood.

    The language is that of lavaan: ``level: within`` and ``level: between`` open a level;
    ``f =~ y1 + y2`` measures a latent variable, ``y ~ x`` regresses, ``y ~~ z`` lets (residuals)
    covary, ``y ~ 1`` is a mean; ``a*x`` labels, ``0*x`` fixes, ``start(0.5)*x`` starts;
    ``ind := a * b`` defines. See ``multilevel.model.structural.parse.parse_structural`` for all of
    it and ``multilevel.model.structural.build.build_structural`` for what is added by default.

    A variable that is named at both levels is split into a latent within and a latent between
    part (its latent cluster mean), so that its level-2 slopes are *between* slopes. A variable
    that is named at one level only has no part at the other.

    ``s | y ~ x`` at the within level lets the slope of y on the observed x vary over clusters;
    ``s`` is then a variable of the between level (``s ~ 1`` its mean, ``s ~ z``, ``s ~~ y``).
    Because the observed x stands in the product, a level-2 slope of x for y is *contextual*.
    Source: Rockwood 2020 (Psychometrika 85:275).

    Parameters
    ----------
    text : the model.
    data : a pandas or Polars data frame, a PyArrow table, a dict of columns, or a ``Table``. All
        variables are numbers.
    cluster : column of the level-2 units; None fits a single-level model (no level headings). A
        list, like ``["class", "school"]``, gives the columns of levels 2, 3, ... from below: the
        headings are then ``level: within``, ``level: class``, ``level: school``. A variable named
        at several neighbouring levels is split into a latent part at each. Where labels of
        classes repeat across schools, write ``"school/class"``, as in the formulas of ``fit``.
    group : column of groups of clusters whose parameters may differ; equal labels make them equal.
    missing : ``"fiml"`` uses all values that are there (right if they are missing at random);
        ``"listwise"`` leaves out rows with a missing value.
    exogenous : predictors that nothing points at. ``"fixed"``: the likelihood is conditional on
        them, without assumptions on their distribution; rows that miss them are left out.
        ``"modelled"``: their means, variances and covariances are free parameters of the joint
        normal distribution, and missing values of theirs are handled as those of outcomes.
        ``"auto"``: fixed where complete. A predictor on both levels is always modelled, because its
        latent parts are not observed.
    latent_scale : ``"loading"`` fixes the first loading of a latent variable at 1, ``"variance"``
        its variance.
    std_errors : ``"observed"``, ``"expected"`` (averages over the model's distribution of the
        predictors) or ``"robust"`` (MLR: valid without normality).
    allow : ``"not_certified"`` returns estimates that are not shown to be the optimum, with a
        warning; ``"inadmissible"`` returns negative variances and impossible correlations, where
        else the fit ends at the boundary (a variance of zero, or a correlation of one) and says so.
    families : ``{variable: family}``, or ``{variable: (family, link)}``, of level-1 variables that
        are not Gaussian, in the words of ``fit``: ``"binomial"`` (0/1), ``"ordinal"``,
        ``"poisson"``, ``"negative_binomial"``, ``"gamma"``, ``"beta"``, ... Their random effects
        are integrated by quadrature or Laplace's approximation; the result is a
        ``multilevel.api.structural_mixed.MixedStructuralResult``. Cluster columns that are not
        nested in each other (crossed) lead to the same, with a heading for each:
        ``level: within``, ``level: school``, ``level: neighbourhood``.
    n_quad : quadrature points per dimension of the integrals; 1 is Laplace; None chooses.
    seed : of the importance sampling by which the error of Laplace's approximation is estimated.

    Returns
    -------
    StructuralResult : prints as a summary.

    Raises
    ------
    FormulaError, ModelError : a text or an option that is not understood or not supported.
    TableError, DesignError : data that do not hold what the model needs.
    EstimationError : parameters that are not identified (named), no feasible start, estimates
        that are not shown to be the optimum, or random slopes that the data do not show.

    Warns
    -----
    ConvergenceWarning : the estimates are not shown to be the optimum, and that was allowed.

    Examples
    --------
    >>> import multilevel as mlm
    >>> model = '''
    ... level: within
    ...   mathach ~ ses
    ... level: between
    ...   mathach ~ sector
    ... '''
    >>> result = mlm.sem(model, mlm.load_hsb(), cluster="school")
    >>> result.parameters().query("op == '~'")["estimate"].round(2).tolist()
    [2.38, 2.1]
    """
    for name in allow:
        check_option("allow", name, (NOT_CERTIFIED, INADMISSIBLE))
    check_option("missing", missing, MISSING)
    check_option("exogenous", exogenous, EXOGENOUS)
    check_option("latent_scale", latent_scale, LATENT_SCALES)
    kind = check_std_errors(std_errors)
    table = as_table(data)
    clusters = cluster_columns(cluster, table)
    chosen = checked_families(families)
    if chosen or (not is_stated_nested(cluster, table) and are_crossed(table, clusters)):
        _refuse_inadmissible(allow)
        mixed = fit_structural_mixed(
            text, table, clusters=clusters, group=group, families=chosen, missing=missing,
            exogenous=exogenous, latent_scale=latent_scale, std_errors=kind, n_quad=n_quad,
            seed=seed, is_nested=is_stated_nested(cluster, table),
        )  # fmt: skip
        _require_certified(mixed.fit, allow)
        return mixed
    _check_exact(n_quad)
    parsed = parse_structural(text, clusters[0] if clusters else None, clusters[1:])
    fixed = () if exogenous == "modelled" else fixed_candidates(parsed)
    if exogenous == "auto" and missing == "fiml":
        holes = _with_holes(table, parsed, clusters, fixed)
        fixed = tuple(name for name in fixed if name not in holes)
    model = build_structural(
        parsed,
        cluster=clusters[0] if clusters else "",
        groups=group_labels(table, group),
        fixed=fixed,
        latent_scale=latent_scale,
    )
    if kind == "expected" and model.random_slopes:
        raise ModelError(
            "Models with random slopes have observed or robust standard errors.",
            "std_errors='expected'",
            'write std_errors="observed" or "robust"',
        )
    check_identified(model)
    design = build_structural_design(model, table, group=group, missing=missing)
    problem = prepare_structural(design)
    fit = fit_model(problem) if INADMISSIBLE in allow else fit_admissible(problem)
    result = StructuralResult(problem, fit, kind)
    _require_admissible(result, allow)
    _require_certified(fit, allow)
    return result


def _check_exact(n_quad: int | tuple[int, ...] | None) -> None:
    """Refuse quadrature points where no integral is approximated."""
    if n_quad is not None:
        raise ModelError(
            "n_quad= belongs to models whose integrals are approximated.",
            f"n_quad={n_quad!r} for Gaussian variables on nested levels, whose likelihood is exact",
            "leave it out, or name families=",
        )


def _with_holes(
    table: Table, parsed: Parsed, clusters: tuple[str, ...], fixed: Sequence[str]
) -> set[str]:
    """Those of ``fixed`` that have missing values; a higher-level one in units without any."""
    out: set[str] = set()
    for k, level in enumerate(parsed.all_levels):
        names = tuple(n for n in fixed if n in parsed.observed(level))
        out |= set(has_missing(table, names, clusters[max(k - 1, 0) :], names if k else ()))
    return out


def _require_admissible(result: StructuralResult, allow: Sequence[str]) -> None:
    """Refuse random slopes whose covariance matrix is not one, unless that is allowed.

    Negative variances of slopes can lower -2 log-likelihood far below that of any population with
    random slopes: a single cluster with an extreme predictor is enough.
    """
    slopes = result.fit.model.slope_names
    if not slopes or INADMISSIBLE in allow or not result.inadmissible:
        return
    first, between = result.fit.model.random_slopes[0], result.fit.model.located("between")
    raise EstimationError(
        f"The random slopes {', '.join(slopes)} need variances and covariances that a population "
        "can have.",
        " ".join(result.inadmissible),
        "the data show too little variation of a slope: make it fixed, like "
        f"{first.outcome} ~ {first.predictor}, or fix a covariance at 0, like {slopes[0]} ~~ "
        f"0*{between[0]}. To look at the numbers all the same, fit with "
        f'allow=("{INADMISSIBLE}",)',
    )


def _refuse_inadmissible(allow: Sequence[str]) -> None:
    """Integrals over random effects have no values beyond the boundary."""
    if INADMISSIBLE in allow:
        raise ModelError(
            "Estimates beyond the boundary exist for normal outcomes in nested clusters only.",
            f'allow=("{INADMISSIBLE}",) with families= or crossed clusters',
            "leave it out: a variance of zero is a boundary result that is explained",
        )


def _require_certified(fit: StructuralFit, allow: Sequence[str]) -> None:
    """Refuse a fit that is not shown to be at its optimum, unless that is allowed."""
    if fit.certificate.is_certified:
        return
    if NOT_CERTIFIED not in allow:
        raise EstimationError(
            "The estimates must be shown to be at the optimum before they are used.",
            fit.certificate.sentence,
            ("make a random slope fixed, " if fit.model.random_slopes else "")
            + "centre predictors far from zero, give start values like start(0.5)*x, or take "
            "relations out of the smaller level. To look at the numbers all the same, fit with "
            f'allow=("{NOT_CERTIFIED}",)',
        )
    warnings.warn(
        f"The fit is not certified, do not trust its numbers: {fit.certificate.sentence}",
        ConvergenceWarning,
        stacklevel=3,
    )
