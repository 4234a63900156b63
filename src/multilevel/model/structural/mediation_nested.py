"""The structural model of a mediation question with three levels or more, the same slopes at each.

Every variable has a part at each level at which it varies; an indirect effect exists where all of
x, m and y do (the three-level designs of Pituch, Murphy & Tate 2009, Multivar. Behav. Res. 44:589,
and of Preacher 2011, with latent parts as in Preacher, Zyphur & Zhang 2010).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from multilevel.errors import ModelError
from multilevel.model.structural.mediation import (
    MediationPlan,
    check_different,
    level_definitions,
    path_equations,
)


def plan_nested_mediation(
    x: str,
    m: str,
    y: str,
    covariates: Sequence[str],
    homes: Mapping[str, tuple[int, ...]],
    clusters: Sequence[str],
) -> MediationPlan:
    """Write the model of three levels or more.

    Parameters
    ----------
    x, m, y : predictor, mediator, outcome.
    covariates : predictors of mediator and outcome, at every level at which they vary.
    homes : numbers of the levels, from 1, at which each variable varies.
    clusters : columns of the units from level 2 upwards.

    Raises
    ------
    ModelError : repeated variables, three variables that never vary at one level, or a variable
        that skips a level.
    """
    names = (x, m, y, *covariates)
    check_different(names)
    numbers = range(1, len(clusters) + 2)
    keys = ["within", *(f"level{n}" for n in numbers[1:])]
    titles = {"within": "within"} | {f"level{n}": clusters[n - 2] for n in numbers[1:]}
    titles |= {f"contextual{n}": f"contextual {clusters[n - 2]}" for n in numbers[1:]}
    check_homes(names, homes, clusters)
    lines, levels = [], []
    for number, key in zip(numbers, keys, strict=True):
        present = [n for n in names if number in homes[n]]
        labels = (f"a_{key}", f"b_{key}", f"c_{key}")
        lines += [f"level: {number}", *path_equations(labels, x, m, y, covariates, present)]
        if {x, m, y} <= set(present):
            levels.append(key)
    if not levels:
        found = ", ".join(f"{n} varies at level {_listed(homes[n])}" for n in (x, m, y))
        raise ModelError("Mediation needs a level at which x, m and y all vary.", found,
                         "use variables that were not centred at their means")  # fmt: skip
    for key in levels:
        lines += level_definitions(key, (f"a_{key}", f"b_{key}", f"c_{key}"))
    for lower, upper in pairwise(levels):
        contrast = upper.replace("level", "contextual")
        lines += [
            f"b_{contrast} := b_{upper} - b_{lower}",
            f"indirect_{contrast} := indirect_{upper} - indirect_{lower}",
        ]
    return MediationPlan(
        x, m, y, tuple(covariates), "-".join(str(homes[n][0]) for n in (x, m, y)), tuple(levels),
        "\n".join(lines), titles=tuple(titles.items()),
    )  # fmt: skip


def check_homes(
    names: Sequence[str], homes: Mapping[str, tuple[int, ...]], clusters: Sequence[str]
) -> None:
    """Refuse variables that skip a level, or none that vary within clusters.

    Raises
    ------
    ModelError : names the variable.
    """
    for name in names:
        at = homes[name]
        missing = [n for n in range(at[0], at[-1]) if n not in at]
        if missing:
            raise ModelError(
                "A variable varies at neighbouring levels.",
                f"{name} varies at level {_listed(at)}, but not between {clusters[missing[0] - 2]}"
                f" of one {clusters[missing[0] - 1]}",
                "put its parts into two columns, and write the model with sem()",
            )
    if not any(1 in homes[name] for name in names):
        raise ModelError(
            "Multilevel mediation needs a variable that varies within clusters.",
            f"{', '.join(names)} have one value per {clusters[0]}",
            f"keep one row per {clusters[0]} and leave {clusters[0]} out of cluster",
        )


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
