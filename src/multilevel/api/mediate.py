"""The door of multilevel mediation: three columns in, an answer out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from multilevel.api.mediate_mixed import MixedMediationResult, plan_for_families
from multilevel.api.mediation_result import MediationInterval, MediationResult
from multilevel.api.sem import sem
from multilevel.api.structural_clusters import cluster_columns, is_stated_nested
from multilevel.api.structural_mixed_door import FamilyName, are_crossed, checked_families
from multilevel.api.structural_result import check_option
from multilevel.design.structural import Missing
from multilevel.design.structural_levels import (
    homes_of,
    nested_homes_of,
    split_at_means,
    split_by_level,
)
from multilevel.errors import ModelError
from multilevel.infer.structural import (
    StdErrorType,
)
from multilevel.model.families.records import Family
from multilevel.model.structural.mediation import MediationPlan, plan_mediation
from multilevel.model.structural.mediation_nested import plan_nested_mediation
from multilevel.model.structural.mediation_nested_random import plan_nested_random_mediation
from multilevel.model.structural.mediation_random import plan_random_mediation
from multilevel.tables.table import Table, as_table

Slopes = Literal["fixed", "random"]
#: Beside these, with three levels, the cluster column over whose units alone slopes vary.


def mediate(
    *,
    x: str,
    m: str,
    y: str,
    data: Any,
    cluster: str | Sequence[str],
    covariates: Sequence[str] = (),
    slopes: str = "fixed",
    missing: Missing = "fiml",
    std_errors: StdErrorType = "observed",
    conf_level: float = 0.95,
    interval: MediationInterval = "monte_carlo",
    n_draws: int | None = None,
    seed: int = 1,
    allow: Sequence[str] = (),
    families: Mapping[str, FamilyName] | None = None,
    n_quad: int | None = None,
) -> MediationResult:
    """Ask whether the effect of x on y runs through m: within clusters, between them, or both.

    The design is read off the data: a variable with one value per cluster is of level 2, one whose
    cluster means are all equal varies within clusters only, any other is split into a latent
    within and a latent between part. So 1-1-1, 2-1-1, 2-2-1, 1-1-2, 1-2-1, ... are recognised.
    Source: Preacher, Zyphur & Zhang 2010 (Psychol. Methods 15:209).

    Parameters
    ----------
    x, m, y : columns of the predictor, the mediator and the outcome (numbers; normal given their
        predictors).
    data : any table.
    cluster : column of the level-2 units, or a list of columns from below, like
        ``["class", "school"]``: indirect effects within classes, between the classes of a school
        and between schools (fixed slopes).
    covariates : further predictors of m and y, at every level at which they vary.
    slopes : ``"fixed"``: the same in all clusters, with latent cluster means of x and m.
        ``"random"``: the slopes of x to m (a) and of m to y (b) vary over clusters, where both
        variables do; the indirect effect within is then ``E(a_j b_j) = a b + tau_ab`` (Kenny,
        Korchmaros & Bolger 2003; Bauer, Preacher & Gil 2006). x is split at its observed cluster
        means, which are taken as known; the direct effect is the same in all clusters. With three
        levels the slopes vary at all higher levels, or, with the name of a cluster column in the
        place of ``"random"``, over its units only; the covariance of each level counts.
    missing : ``"fiml"`` uses all values that are there, ``"listwise"`` complete rows.
    std_errors : ``"observed"``, ``"expected"`` (fixed slopes only) or ``"robust"``.
    interval : ``"monte_carlo"`` (the middle of ``n_draws`` draws of the estimates, 20,000 if None),
        ``"profile"`` (profile likelihood) or ``"bootstrap"`` (``n_draws`` refits on resampled
        clusters, 1,000 if None).
    conf_level, n_draws, seed : of the intervals.
    families, n_quad : as in ``sem``, for m and y that are not Gaussian: ``families={"y":
        "binomial"}``. Effects on such a y are on the scale of its link. Through such an m the
        indirect effect within is its slope times the change of its mean; slopes are then fixed.
    allow : as in ``sem``: ``"inadmissible"``, ``"not_certified"``.

    Returns
    -------
    MediationResult : prints as an answer with its evidence.

    Raises
    ------
    ModelError : variables that never vary at one level; random slopes where no path varies within
        clusters.
    TableError, DesignError, EstimationError : as ``sem``.

    Examples
    --------
    >>> import multilevel as mlm
    >>> found = mlm.mediate(x="sector", m="ses", y="mathach", data=mlm.load_hsb(), cluster="school")
    >>> found.design
    '2-1-1'
    >>> found.effects()["estimate"].round(1).tolist()
    [1.6, 1.2, 2.8]
    """
    check_option("interval", interval, get_args(MediationInterval))
    table = as_table(data)
    names = (x, m, y, *covariates)
    clusters = cluster_columns(cluster, table)
    check_option("slopes", slopes, (*get_args(Slopes), *(clusters if len(clusters) > 1 else ())))
    if not clusters:
        raise ModelError("mediate() needs clusters.", "none", 'write cluster="school"')
    if len(clusters) > 1:
        _check_nested(table, cluster, clusters)
        nested = nested_homes_of(table, names, clusters)
        if slopes == "fixed":
            plan = plan_nested_mediation(x, m, y, covariates, nested, clusters)
        else:
            every = range(2, len(clusters) + 2)
            varying = every if slopes == "random" else [clusters.index(slopes) + 2]
            plan = plan_nested_random_mediation(
                x, m, y, covariates, nested, clusters, varying, table.columns
            )
            table = _with_parts(table, plan, names, clusters, nested[x])
    elif slopes == "random":
        homes = homes_of(table, names, clusters[0])
        plan = plan_random_mediation(x, m, y, covariates, homes, table.columns)
        table = _with_split(table, plan, names, clusters[0])
    else:
        plan = plan_mediation(x, m, y, covariates, homes_of(table, names, clusters[0]))
    chosen = checked_families(families)
    if chosen or n_quad is not None:
        _check_families(chosen, plan, clusters)
        plan = plan_for_families(plan, chosen)
        mixed = sem(
            plan.text, table, cluster=clusters[0], missing=missing, std_errors=std_errors,
            allow=allow, families=families, n_quad=n_quad,
        )  # fmt: skip
        return MixedMediationResult(plan, mixed, conf_level, n_draws, seed, interval)
    model = sem(
        plan.text, table, cluster=cluster, missing=missing, std_errors=std_errors, allow=allow
    )
    return MediationResult(plan, model, conf_level, n_draws, seed, interval)


def _check_families(
    families: Mapping[str, Family], plan: MediationPlan, clusters: tuple[str, ...]
) -> None:
    """Refuse what mediation with families does not have."""
    if not families:
        raise ModelError("n_quad= belongs to models with families=.", "no family that is not "
                         "Gaussian", "leave n_quad out, or name families=")  # fmt: skip
    if len(clusters) > 1:
        raise ModelError(
            "mediate() with families= has one cluster column.",
            f"{len(clusters)} cluster columns",
            "name one cluster column, or write the model in sem()",
        )
    if plan.random and plan.m in families:
        raise ModelError(
            "With random slopes the mediator is Gaussian: E(a_j b_j) = a b + tau_ab is an indirect"
            " effect where a_j is in units of the mediator.",
            f"{plan.m} with the {families[plan.m].label} family, whose a_j is on the"
            f" {families[plan.m].link} scale",
            'write slopes="fixed", or the model with s | y ~ m in sem()',
        )
    others = [n for n in families if n not in (plan.m, plan.y)]
    if others:
        raise ModelError("families= of mediate() is about m and y.", f"{others[0]!r}",
                         "predictors need no family")  # fmt: skip


def _check_nested(table: Table, cluster: str | Sequence[str], clusters: tuple[str, ...]) -> None:
    """Refuse what three levels do not have: crossed clusters."""
    if not is_stated_nested(cluster, table) and are_crossed(table, clusters):
        stated = "/".join(reversed(clusters))
        raise ModelError(
            "mediate() takes clusters that are nested.",
            f"labels of {clusters[0]} that stand in several {clusters[1]}",
            f'if they are different units there, write cluster="{stated}"; if the clusters are'
            " crossed, use sem()",
        )


def _with_parts(
    table: Table,
    plan: MediationPlan,
    names: Sequence[str],
    clusters: tuple[str, ...],
    numbers: Sequence[int],
) -> Table:
    """The columns of the model, with x split at its observed means of each level."""
    frame = table.to_pandas([*names, *clusters], copy=False)
    if plan.split:
        parts = split_by_level(table, plan.x, clusters, numbers)
        for name, part in zip(plan.split, parts, strict=True):
            frame[name] = part
    return Table(frame)


def _with_split(table: Table, plan: MediationPlan, names: Sequence[str], cluster: str) -> Table:
    """The columns of the model, with x split at its observed cluster means if the plan says so."""
    frame = table.to_pandas([*names, cluster], copy=False)
    if plan.split:
        frame[plan.split[0]], frame[plan.split[1]] = split_at_means(table, plan.x, cluster)
    return Table(frame)
