"""Advice on the number and the sizes of clusters."""

from __future__ import annotations

import numpy as np

from multilevel.design.records import Design, RandomBlock
from multilevel.design.structured_terms import occasions
from multilevel.interpret.advice.columns import INTERCEPT, split
from multilevel.interpret.advice.record import Advice

FEW, RATHER_FEW = 10, 30
LEVELS_PER_PREDICTOR = 10


def about_numbers(design: Design) -> list[Advice]:
    """Mistake 24: few clusters, or many cluster-level predictors for the clusters there are."""
    out: list[Advice] = []
    for block in design.blocks:
        J = block.n_levels
        if J < FEW:
            out.append(
                Advice(
                    "few_clusters",
                    "warning",
                    f"{block.group} has {J} levels: too few to estimate how they vary.",
                    f"Enter {block.group} as a fixed effect, + C({block.group}), and take out its "
                    "random term."
                    if ":" not in block.group
                    else f"Enter the levels of {block.group} as fixed effects.",
                )
            )
        elif J < RATHER_FEW:
            out.append(_rather_few(design, block))
        out += _predictors_per_level(design, block)
    return out


def _rather_few(design: Design, block: RandomBlock) -> Advice:
    """Between-within degrees of freedom: levels minus effects that vary between them only."""
    J = block.n_levels
    if design.model.method == "ml":
        return Advice(
            "few_clusters",
            "note",
            f"{block.group} has {J} levels: ML estimates its variance too small.",
            'Write method="reml", which corrects for the estimated fixed effects.',
        )
    df = J - len(_cluster_level_names(design, block)) - (INTERCEPT in design.names)
    return Advice(
        "few_clusters",
        "note",
        f"{block.group} has {J} levels: effects between them have only about {df} denominator "
        "degrees of freedom, and z tests of them would be too liberal.",
        'Keep the Satterthwaite degrees of freedom, or ask for df="kenward-roger".',
    )


def _cluster_level_names(design: Design, block: RandomBlock) -> list[str]:
    return [
        name
        for j, name in enumerate(design.names)
        if name != INTERCEPT and not split(design.X[:, j], block).varies_within
    ]


def _predictors_per_level(design: Design, block: RandomBlock) -> list[Advice]:
    names = _cluster_level_names(design, block)
    if not names or len(names) * LEVELS_PER_PREDICTOR <= block.n_levels:
        return []
    return [
        Advice(
            "many_cluster_predictors",
            "note",
            f"{len(names)} coefficient{'s' if len(names) > 1 else ''} "
            f"({', '.join(names[:6])}{', ...' if len(names) > 6 else ''}) "
            f"rest{'s' if len(names) == 1 else ''} on the {block.n_levels} levels of "
            f"{block.group}: fewer than {LEVELS_PER_PREDICTOR} levels for each.",
            "Take out those that the question does not need.",
        )
    ]


def about_sizes(design: Design) -> list[Advice]:
    """Mistake 25: clusters with too few rows for their random effects."""
    out: list[Advice] = []
    for block in design.blocks:
        sizes = np.bincount(block.codes, minlength=block.n_levels)
        q, J = len(block.names) - len(occasions(block)), block.n_levels
        small = int(np.sum(sizes <= q))
        rows = "row" if q == 1 else "rows"
        effects = "random effect" if q == 1 else "random effects"
        if q == 1 and small == J and block.names == (INTERCEPT,):
            out.append(_one_row_each(design, block))
        elif 2 * small > J:
            out.append(
                Advice(
                    "small_clusters",
                    "warning",
                    f"{small} of {J} levels of {block.group} have at most {q} {rows}, no more than "
                    f"the {q} {effects} of each level: the variances are estimated from the "
                    f"{J - small} larger levels.",
                    "Take out random slopes, smallest variance first."
                    if q > 1
                    else f"Report how many levels of {block.group} have a single row.",
                )
            )
        elif 2 * int(np.sum(sizes <= 2)) > J:
            out.append(
                Advice(
                    "small_clusters",
                    "note",
                    f"{int(np.sum(sizes <= 2))} of {J} levels of {block.group} have 1 or 2 rows: "
                    "what is known of the variance within them comes mostly from the larger ones.",
                    f"Report the sizes of {block.group} with the results.",
                )
            )
    return out


def _one_row_each(design: Design, block: RandomBlock) -> Advice:
    if design.weights is None:
        text = (
            f"Every level of {block.group} has a single row: its variance cannot be told apart "
            "from the residual variance; only their sum is estimated."
        )
    else:
        text = (
            f"Every level of {block.group} has a single row: only the weights tell its variance "
            "and the residual variance apart."
        )
    severity = "error" if design.weights is None else "warning"
    return Advice(
        "one_row_per_cluster",
        "error" if severity == "error" else "warning",
        text,
        f"Take out the random term over {block.group}.",
    )
