r"""Within, between and contextual effects, however the predictors were centred.

Every fixed-effect column that is ``a xw + b xb + constant``, with xw the deviation of a variable
from its cluster mean xb, carries ``a`` of its slope to the within effect and ``b`` to the between
effect: within ``= sum a_k beta_k``, between ``= sum b_k beta_k``, contextual = between - within.
This holds for cluster-mean centring, constant centring with the mean, and hand-made columns.
Sources: Hoffman & Walters 2022 (Annual Review of Psychology 73:659); Kreft, de Leeuw & Aiken 1995.
Standardised slopes divide by the model-implied SD of the outcome at the same level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multilevel.design.centring import match_levels
from multilevel.design.recipe import LearntCentring
from multilevel.design.records import Design, RandomBlock
from multilevel.errors import InferenceError
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import row_tests
from multilevel.interpret.level_parts import cluster_means, finer_than
from multilevel.interpret.simple_slopes import p_words
from multilevel.interpret.smushed import unmix
from multilevel.interpret.variance import INTERCEPT
from multilevel.interpret.variance_parts import VarianceParts, variance_parts
from multilevel.interpret.variance_share import Evidence

Array = NDArray[np.float64]
#: A column is a combination of both parts if this share of its variance, at most, is left over.
LEFT_OVER = 1e-6
#: Coefficients closer than this to 0, 1 or -1 are these numbers (rounded hand-made means).
SNAP = 0.005


@dataclass(frozen=True)
class LevelEffect:
    """One effect of one variable.

    Attributes
    ----------
    term : the variable.
    group : the grouping factor.
    component : ``"within"``, ``"between"``, ``"contextual"`` or ``"smushed"``.
    columns : the fixed effects that it combines.
    estimate, std_error, df, statistic, p_value, conf_low, conf_high : its test.
    sd_x, sd_y : SDs over the analysed rows of the predictor's part, and of the outcome at that
        level as the model implies it; NaN where an effect belongs to no level.
    standardised : ``estimate sd_x / sd_y``.
    """

    term: str
    group: str
    component: str
    columns: tuple[str, ...]
    estimate: float
    std_error: float
    df: float
    statistic: float
    p_value: float
    conf_low: float
    conf_high: float
    sd_x: float
    sd_y: float
    standardised: float


@dataclass(frozen=True)
class LevelEffects:
    """All effects and what to know about them."""

    rows: tuple[LevelEffect, ...]
    sentence: str


@dataclass(frozen=True)
class LevelVariable:
    """A level-1 variable in two parts; ``a`` and ``b`` (p,) tell which columns carry them."""

    name: str
    block: int
    within: Array
    between: Array
    a: Array
    b: Array

    @property
    def columns(self) -> list[int]:
        """Positions of the columns that carry it."""
        return np.flatnonzero((self.a != 0.0) | (self.b != 0.0)).tolist()

    @property
    def is_smushed(self) -> bool:
        """Whether one column carries both parts with the same slope."""
        return len(self.columns) == 1 and self.a[self.columns[0]] == self.b[self.columns[0]]


def within_between(
    evidence: Evidence,
    df: str | None = None,
    conf_level: float = 0.95,
    pairs: Mapping[str, str] | None = None,
) -> LevelEffects:
    """Within, between and contextual effects of every variable that varies at both levels.

    Parameters
    ----------
    evidence : the fit.
    df : method of the degrees of freedom; None takes the default.
    conf_level : of the intervals.
    pairs : ``{within column: between column}`` for hand-made deviations, whose original variable
        is not in the model.

    Returns
    -------
    Per variable and factor: both effects and their difference, or the one smushed slope, or the
    within effect alone where the mean is not in the model. In products with other predictors the
    effects are those where the others are 0.

    Raises
    ------
    InferenceError : no variable varies at two levels, or an unknown column in ``pairs``.
    """
    design = evidence.prepared.design
    variables = level_variables(design, dict(pairs or {}))
    if not variables:
        raise InferenceError(
            "Within and between effects belong to predictors that vary at both levels.",
            "no such predictor in " + ", ".join(design.names),
            "add a level-1 predictor, or name hand-made columns with pairs={within: between}",
        )
    approach = evidence.approach(df)
    parts = variance_parts(design, evidence.averaged)
    rows: list[LevelEffect] = []
    words: list[str] = []
    told = ""
    for variable in variables:
        group = design.blocks[variable.block].group
        wanted = effect_rows(variable)
        sds = _outcome_sds(design, parts, variable.block)
        hypothesis = Hypothesis(
            tuple(wanted), np.array(list(wanted.values())), np.zeros(len(wanted))
        )
        tests = row_tests(
            evidence.fit, approach, hypothesis, conf_level=conf_level, was_default=df is None
        )
        told = tests.sentence
        found = []
        for component, test in zip(wanted, tests.rows, strict=True):
            sd_x, sd_y = float("nan"), float("nan")
            if component == "within":
                sd_x, sd_y = float(variable.within.std()), sds[0]
            elif component == "between":
                sd_x, sd_y = float(variable.between.std()), sds[1]
            columns = tuple(design.names[k] for k in np.flatnonzero(wanted[component]).tolist())
            found.append(
                LevelEffect(
                    variable.name, group, component, columns, test.estimate, test.std_error,
                    test.df, test.statistic, test.p_value, test.conf_low, test.conf_high,
                    sd_x, sd_y, test.estimate * sd_x / sd_y if sd_y > 0 else float("nan"),
                )
            )  # fmt: skip
        rows += found
        words += [*_words(evidence, variable, found), *conditions(design, variable)]
    return LevelEffects(tuple(rows), " ".join([*words, told]))


def _outcome_sds(design: Design, parts: VarianceParts, t: int) -> tuple[float, float]:
    """SD of the outcome within and between levels of factor t, the higher units it is nested in
    counted as between.
    """
    above = [block.group for s, block in enumerate(design.blocks) if finer_than(design)[t, s]]
    between = sum(parts.at(level) for level in (design.blocks[t].group, *above))
    return float(np.sqrt(max(parts.total - between, 0.0))), float(np.sqrt(between))


def effect_rows(variable: LevelVariable) -> dict[str, Array]:
    """``{component: row (p,)}``: what each effect of the variable combines."""
    if variable.is_smushed:
        return {"smushed": variable.a}
    out: dict[str, Array] = {}
    if np.any(variable.a):
        out["within"] = variable.a
    if np.any(variable.b):
        out["between"] = variable.b
    if len(out) == 2:
        out["contextual"] = variable.b - variable.a
    return out


def _words(evidence: Evidence, variable: LevelVariable, rows: list[LevelEffect]) -> list[str]:
    x, group = variable.name, rows[0].group
    out = []
    for row in rows:
        test = f"{row.estimate:.3f}, {p_words(row.p_value)}"
        if row.component == "within":
            out.append(
                f"Within: one unit more of {x} than others in the same {group} goes with {test}."
            )
        elif row.component == "between":
            out.append(f"Between: levels of {group} with a mean of {x} higher by one: {test}.")
        elif row.component == "contextual":
            out.append(
                f"Contextual (between minus within): at the same own value of {x}, a mean of the "
                f"{group} higher by one goes with {test}; if it is zero, one slope would do."
            )
        else:
            out.append(_smushed_words(evidence, variable, row))
    if [row.component for row in rows] == ["within"]:
        out.append(
            f"The mean of {x} by {group} is not in the model: its between effect is missing."
        )
    return out


def conditions(design: Design, variable: LevelVariable) -> list[str]:
    """Say where the effects hold if their columns are in products."""
    own = {design.names[k] for k in variable.columns}
    others: list[str] = []
    for name in design.names:
        parts = name.split(":")
        if len(parts) > 1 and own & set(parts):
            others += [part for part in parts if part not in own]
    if not others:
        return []
    zero = " = ".join([*dict.fromkeys(others), "0"])
    return [f"These are the effects of {variable.name} at {zero}, because they interact."]


def _smushed_words(evidence: Evidence, variable: LevelVariable, row: LevelEffect) -> str:
    found = unmix(evidence, variable.columns[0], variable.block)
    difference = float(found.slopes[1] - found.slopes[0])
    contrast = np.array([-1.0, 1.0])
    error = float(np.sqrt(contrast @ found.covariance @ contrast))
    return (
        f"The slope of {variable.name}, {row.estimate:.3f}, is smushed: at the variances of this "
        f"model it is the weighted mean of a within slope of {found.slopes[0]:.3f} (weight "
        f"{found.weights[0]:.3f}) and a between slope of {found.slopes[1]:.3f} (weight "
        f"{found.weights[1]:.3f}), which differ by {difference:.3f} "
        f"(z = {difference / error:.2f}). "
        f"Add the mean of {variable.name} by {row.group} to tell them apart."
    )


def level_variables(design: Design, pairs: Mapping[str, str]) -> list[LevelVariable]:
    """Every variable with two parts, once per grouping factor with random intercepts."""
    out: list[LevelVariable] = []
    nested = finer_than(design)
    for t, block in enumerate(design.blocks):
        if INTERCEPT not in block.names:
            continue
        seen: list[set[int]] = []
        for name, within, between in _candidates(design, block, pairs):
            a, b = _carriers(design, within, between)
            variable = LevelVariable(name, t, within, between, a, b)
            members = set(variable.columns)
            # A slope that is the within effect of a finer factor says nothing on the higher one.
            settled = variable.is_smushed and any(
                nested[known.block, t] and not known.is_smushed and known.a[variable.columns[0]]
                for known in out
            )
            if members and not settled and not any(members <= other for other in seen):
                seen.append(members)
                out.append(variable)
    return out


def _candidates(
    design: Design, block: RandomBlock, pairs: Mapping[str, str]
) -> list[tuple[str, Array, Array]]:
    """``(name, within part, between part)``: named pairs, centring calls, then raw columns."""
    out: list[tuple[str, Array, Array]] = []
    for inner, outer in pairs.items():
        for name in (inner, outer):
            if name not in design.names:
                raise InferenceError(
                    "Both columns of a pair must be fixed effects of the model.",
                    f"{name!r} is not among {', '.join(design.names)}",
                    "write pairs={within column: between column}",
                )
        within = design.X[:, design.names.index(inner)]
        between = design.X[:, design.names.index(outer)]
        is_pair = _spread(cluster_means(within, block)) <= 1e-6 * _spread(within)
        if is_pair and _is_constant(between, block):
            out.append((inner, within, between))
    learnt: tuple[LearntCentring, ...] = getattr(design.recipe, "centring", ())
    for call in learnt:
        if call.call.kind == "within" and call.call.group == block.group:
            text = call.call.text
            if text not in design.names:
                continue
            means = call.means[match_levels(block.levels, call.levels)][block.codes]
            if _spread(means) > 0.0:
                out.append((call.call.shown, design.X[:, design.names.index(text)], means))
    for k, name in enumerate(design.names):
        if name == INTERCEPT or ":" in name:
            continue
        x = design.X[:, k]
        means = cluster_means(x, block)[block.codes]
        scale = 1e-6 * _spread(x)
        if _spread(x - means) > scale and _spread(means) > scale:
            out.append((name, x - means, means))
    return out


def _carriers(design: Design, within: Array, between: Array) -> tuple[Array, Array]:
    """Coefficients (p,) of both parts in every column that is made of them, else 0."""
    p = design.X.shape[1]
    a, b = np.zeros(p), np.zeros(p)
    basis = np.column_stack([within - within.mean(), between - between.mean()])
    gram = basis.T @ basis
    for k, name in enumerate(design.names):
        x = design.X[:, k] - design.X[:, k].mean()
        total = float(x @ x)
        if name == INTERCEPT or total == 0.0:
            continue
        found = np.linalg.solve(gram, basis.T @ x)
        rest = x - basis @ found
        if float(rest @ rest) > LEFT_OVER * total:
            continue
        for value in (0.0, 1.0, -1.0):
            found = np.where(np.abs(found - value) < SNAP, value, found)
        a[k], b[k] = found
    return a, b


def _spread(x: Array) -> float:
    return float(np.ptp(x))


def _is_constant(x: Array, block: RandomBlock) -> bool:
    return _spread(x - cluster_means(x, block)[block.codes]) <= 1e-6 * _spread(x)
