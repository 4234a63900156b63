"""The door of ``fit`` with ``between(x, g, latent=True)``: formula and data to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from multilevel.api.latent_mean_result import LatentMeanFit
from multilevel.api.result import MultilevelFit
from multilevel.api.sem import sem
from multilevel.api.structural_result import StructuralResult
from multilevel.design.build import build_design
from multilevel.design.records import Design
from multilevel.errors import DesignError, ModelError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import prepare
from multilevel.estimate.structural_boundary import fit_within_bounds
from multilevel.model.formula.parse import parse_formula
from multilevel.model.latent_mean import Covariate, LatentMeanQuestion, plan_latent_mean
from multilevel.tables.table import Table, as_table

_SLOPE = "slope_of_x"
_CENTRED = 1e-8
#: what the options of ``fit`` that a latent mean does not go with are by default; None for others
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "family": ("gaussian", "normal"), "truncated": (False,), "accuracy": ("report",),
    "rank_deficient": ("drop",), "categories": ((),), "advice": (True, False),
}  # fmt: skip
_KNOWN = {"formula", "data", "method", "allow", "advice", "asked"}


def latent_mean_door(
    question: LatentMeanQuestion, data: Any, given: Mapping[str, Any]
) -> LatentMeanFit:
    """Refuse the options of ``fit`` that do not go with a latent mean, and fit.

    Parameters
    ----------
    given : ``{option: value}`` of the call.

    Raises
    ------
    ModelError : an option that does not go with it; else as ``fit_latent_mean``.
    """
    for name, value in given.items():
        if name in _KNOWN:
            continue
        if not any(value is d or (type(value) is type(d) and value == d)
                   for d in _DEFAULTS.get(name, (None,))):  # fmt: skip
            raise ModelError(
                "A latent cluster mean goes with Gaussian outcomes and equal weights, by maximum"
                " likelihood.",
                f"{name}={value!r}",
                f"leave {name}= out, or use the observed mean: {question.observed_name}",
            )
    return fit_latent_mean(question, data, method=given["method"], allow=given["allow"])


def fit_latent_mean(
    question: LatentMeanQuestion, data: Any, *, method: str | None, allow: Sequence[str]
) -> LatentMeanFit:
    """Fit the structural model of a formula with a latent cluster mean (see ``fit``).

    Raises
    ------
    ModelError : REML; random terms other than ``(1 | g)`` or ``(x | g)``; interactions of x;
        neither ``within(x, g)`` nor x among the predictors.
    TableError, DesignError, EstimationError : as ``fit`` and ``sem``.
    """
    if method not in (None, "ml"):
        raise ModelError(
            "A model with a latent cluster mean is fitted by maximum likelihood.",
            f"method={method!r}",
            'leave method= out, or write method="ml"',
        )
    table = as_table(data)
    design = build_design(parse_formula(question.observed, "ml"), table)
    is_contextual, has_slope = _check(question, design)
    covariates, columns = _covariates(question, design, table)
    slope = _SLOPE if has_slope else ""
    while slope in columns:
        slope += "_"
    response = design.model.response.replace("`", "")
    if response in columns:
        raise ModelError("The response is no predictor.", response, "take one of them out")
    plan = plan_latent_mean(question, response, covariates, is_contextual=is_contextual,
                            slope=slope)  # fmt: skip
    columns[response] = design.y
    model = sem(plan.text, Table(pd.DataFrame(columns)), cluster=question.cluster,
                allow=allow)  # fmt: skip
    if not isinstance(model, StructuralResult):
        raise ModelError("A latent cluster mean belongs to Gaussian outcomes.",
                         type(model).__name__, "use mlm.sem with families=")  # fmt: skip
    if model.inadmissible and "inadmissible" not in allow:
        bounded = fit_within_bounds(model.problem, model.fit)
        model = StructuralResult(model.problem, bounded, model.std_errors)
    prepared = prepare(design, method="ml", engine=None)
    observed = MultilevelFit(prepared, solve(prepared), shows_advice=False)
    return LatentMeanFit(plan, model, observed, design.rows.kept)


def _check(question: LatentMeanQuestion, design: Design) -> tuple[bool, bool]:
    """Whether x stands as observed, and whether its slope is random."""
    x, cluster = question.variable, question.cluster
    names = set(design.names)
    is_contextual = x in names
    if question.observed_name not in names or is_contextual == (question.within_name in names):
        raise ModelError(
            "Beside a latent mean stands the predictor itself: centred, or as observed.",
            f"fixed effects {', '.join(design.names)}",
            f"write within({x}, {cluster}) + {question.latent_name} (between effect), or "
            f"{x} + {question.latent_name} (contextual effect)",
        )
    own = {x, question.within_name, question.observed_name}
    for name in design.names:
        if name not in own and question.variable in _words(name):
            raise ModelError(
                "A predictor with a latent mean has no interactions or transformations.",
                name,
                "make the observed product a column and use mlm.sem, or use the observed mean",
            )
    found = [(b.group, tuple(b.names)) for b in design.blocks]
    if any(term.structure != "unstructured" for term in design.model.random):
        found = []
    if found == [(cluster, ("(Intercept)",))]:
        return is_contextual, False
    if found == [(cluster, ("(Intercept)", x))] and is_contextual:
        return is_contextual, True
    remedy = f"write (1 | {cluster}), or {x} + {question.latent_name} + ({x} | {cluster})"
    if found == [(cluster, ("(Intercept)", question.within_name))] or found == [
        (cluster, ("(Intercept)", x))
    ]:
        raise ModelError(
            "A random slope multiplies the observed predictor: that of its latent within part has"
            " no closed likelihood.",
            f"a random slope beside {question.within_name}", remedy,
        )  # fmt: skip
    raise ModelError(
        f"A model with a latent mean of {x} has the random intercept of {cluster}, and perhaps the"
        f" correlated random slope of {x}.",
        ", ".join(term.text for term in design.model.random) or "no random term",
        f"{remedy}; for more, mlm.sem",
    )


def _words(name: str) -> set[str]:
    return set("".join(c if c.isalnum() or c in "_." else " " for c in name).split())


def _covariates(
    question: LatentMeanQuestion, design: Design, table: Table
) -> tuple[list[Covariate], dict[str, Any]]:
    """The other fixed effects, and the columns of the structural model without the response."""
    rows = design.rows.kept
    raw = np.asarray(table.column(question.variable), dtype=np.float64)[rows]
    codes, labels = table.codes(question.cluster)
    cluster = labels.astype(object)[codes[rows]]
    columns: dict[str, Any] = {question.variable: raw, question.cluster: cluster}
    own = {"(Intercept)", question.variable, question.within_name, question.observed_name}
    if "(Intercept)" not in design.names:
        raise ModelError("A model with a latent mean has an intercept.", question.formula,
                         "take 0 + out")  # fmt: skip
    group = codes[rows]
    n = np.bincount(group, minlength=len(labels))
    out: list[Covariate] = []
    for k, name in enumerate(design.names):
        if name in own:
            continue
        values = np.asarray(design.X[:, k])
        mean = np.bincount(group, values, minlength=len(labels)) / np.maximum(n, 1)
        spread, label = float(np.ptp(values)), f"slope_{len(out) + 1}"
        clean = name.replace("`", "")
        is_level_2 = float(np.abs(values - mean[group]).max()) <= _CENTRED * spread
        is_level_1 = not is_level_2 and float(np.ptp(mean[n > 0])) <= _CENTRED * spread
        if clean in columns:
            raise DesignError("Columns have names of their own.", clean, "rename one")
        columns[clean] = values
        out.append(Covariate(name, label, "" if is_level_2 else clean, "" if is_level_1 else clean))
    return out, columns
