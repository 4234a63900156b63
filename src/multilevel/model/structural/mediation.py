"""The structural model of a mediation question, written from the levels of its variables.

``x -> m -> y`` with every variable split into what varies within and what varies between clusters
(Preacher, Zyphur & Zhang 2010, Psychol. Methods 15:209). The name of a design lists the levels of
x, m and y: in 2-1-1 x is a property of clusters. An indirect effect exists at a level where all
three vary: within clusters only in 1-1-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from multilevel.errors import ModelError

Home = Literal["both", "within", "between"]
_DIGIT = {"both": "1", "within": "1", "between": "2"}
#: Labels of the paths, by level: x -> m, m -> y, x -> y.
PATHS = {"within": ("a_within", "b_within", "c_within"),
         "between": ("a_between", "b_between", "c_between")}  # fmt: skip


@dataclass(frozen=True)
class MediationPlan:
    """A mediation question as a structural model.

    Attributes
    ----------
    x, m, y : the variables; ``covariates`` as given.
    design : e.g. ``"1-1-1"``.
    levels : levels at which an indirect effect exists.
    text : the model in the language of ``sem``.
    random : the paths whose slopes vary over clusters: ``"a"``, ``"b"``.
    split : names of the columns that hold x less its observed cluster mean, and that mean, where
        the model needs them (random slopes); empty otherwise.
    titles : with three levels or more, what users call each level and contrast of ``levels``.
    """

    x: str
    m: str
    y: str
    covariates: tuple[str, ...]
    design: str
    levels: tuple[str, ...]
    text: str
    random: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    titles: tuple[tuple[str, str], ...] = ()

    def title(self, level: str) -> str:
        """What users call a level or a contrast of levels."""
        return dict(self.titles).get(level, level)


def plan_mediation(
    x: str, m: str, y: str, covariates: Sequence[str], homes: Mapping[str, Home]
) -> MediationPlan:
    """Write the model with the same slopes in all clusters.

    Parameters
    ----------
    x, m, y : predictor, mediator, outcome.
    covariates : predictors of mediator and outcome, at every level at which they vary.
    homes : where each variable varies: ``"between"`` clusters only, ``"within"`` clusters only, or
        ``"both"``.

    Raises
    ------
    ModelError : repeated variables, or three variables that never vary at one level.
    """
    at, levels = variables_by_level(x, m, y, covariates, homes)
    lines = []
    for level, present in at.items():
        equations = path_equations(PATHS[level], x, m, y, covariates, present)
        lines += [f"level: {level}", *equations]
    lines += [line for level in levels for line in level_definitions(level, PATHS[level])]
    if len(levels) == 2:
        lines += [
            "b_contextual := b_between - b_within",
            "indirect_contextual := indirect_between - indirect_within",
        ]
    return MediationPlan(
        x, m, y, tuple(covariates), design_name(x, m, y, homes), levels, "\n".join(lines)
    )


def check_different(names: Sequence[str]) -> None:
    """Refuse a column that is named twice.

    Raises
    ------
    ModelError : names it.
    """
    again = [n for k, n in enumerate(names) if n in names[:k]]
    if again:
        raise ModelError("x, m, y and the covariates are different columns.",
                         f"{again[0]!r} more than once", "name each once")  # fmt: skip


def design_name(x: str, m: str, y: str, homes: Mapping[str, Home]) -> str:
    """Levels of x, m and y, e.g. ``"2-1-1"``."""
    return "-".join(_DIGIT[homes[n]] for n in (x, m, y))


def variables_by_level(
    x: str, m: str, y: str, covariates: Sequence[str], homes: Mapping[str, Home]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Variables that vary at each level, and the levels at which an indirect effect exists.

    Raises
    ------
    ModelError : as ``plan_mediation``.
    """
    names = (x, m, y, *covariates)
    check_different(names)
    at = {
        level: [n for n in names if homes[n] in ("both", level)] for level in ("within", "between")
    }
    levels = tuple(level for level in PATHS if {x, m, y} <= set(at[level]))
    if not levels:
        found = ", ".join(f"{n} varies {_varies(homes[n])}" for n in (x, m, y))
        raise ModelError(
            "Mediation needs a level at which x, m and y all vary.",
            found,
            "use variables that were not centred at their cluster means",
        )
    if not at["within"]:
        raise ModelError(
            "Multilevel mediation needs a variable that varies within clusters.",
            f"{x}, {m} and {y} have one value per cluster",
            "keep one row per cluster and fit m ~ a*x and y ~ b*m + x by sem() without cluster",
        )
    return at, levels


def _varies(home: Home) -> str:
    return {"both": "within and between clusters", "within": "within clusters only",
            "between": "between clusters only"}[home]  # fmt: skip


def path_equations(
    labels: tuple[str, str, str],
    x: str,
    m: str,
    y: str,
    covariates: Sequence[str],
    present: Sequence[str],
) -> list[str]:
    """The relations of one level among the variables that vary there.

    Parameters
    ----------
    labels : of the paths x -> m, m -> y, x -> y.
    present : variables that vary at the level.
    """
    a, b, c = labels
    others = [f"`{n}`" for n in covariates if n in present]
    to_m = [f"{a}*`{x}`"] * (x in present) + others
    to_y = [f"{b}*`{m}`"] * (m in present) + [f"{c}*`{x}`"] * (x in present) + others
    out = []
    for name, terms in ((m, to_m), (y, to_y)):
        if name in present and terms:
            out.append(f"  `{name}` ~ {' + '.join(terms)}")
    out += [f"  `{name}` ~~ `{name}`" for name in (m, y) if name in present]
    mentioned = "\n".join(out)
    out += [f"  `{n}` ~~ `{n}`" for n in present if f"`{n}`" not in mentioned]
    return out


def level_definitions(level: str, labels: tuple[str, str, str]) -> list[str]:
    """Indirect, direct and total effect of a level from the labels of its paths."""
    a, b, c = labels
    return [
        f"indirect_{level} := {a} * {b}",
        f"direct_{level} := {c}",
        f"total_{level} := {a} * {b} + {c}",
    ]
