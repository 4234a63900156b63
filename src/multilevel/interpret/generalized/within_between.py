"""Within, between and contextual effects of a generalized fit, on the scale of its link."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from multilevel.errors import InferenceError
from multilevel.infer.generalized.effects import (
    check_generalized_df,
    effects_df,
    full_effects,
    mean_part,
)
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import row_tests
from multilevel.interpret.generalized.evidence import GeneralizedEvidence
from multilevel.interpret.simple_slopes import p_words
from multilevel.interpret.within_between import (
    LevelEffect,
    LevelEffects,
    conditions,
    effect_rows,
    level_variables,
)

NAN = float("nan")


def within_between(
    evidence: GeneralizedEvidence,
    df: str | None = None,
    conf_level: float = 0.95,
    pairs: Mapping[str, str] | None = None,
) -> LevelEffects:
    """Within, between and contextual effects of every variable that varies at both levels.

    Arguments as for Gaussian models (``interpret.within_between``); tests are z, or
    ``df="between-within"``. Slopes are not standardised: the level-1 variance of a link is fixed,
    so ``sd_y`` and ``standardised`` are NaN. A smushed slope is named, not taken apart.

    Raises
    ------
    InferenceError : no variable varies at two levels, or an unknown column in ``pairs``.
    """
    effects = full_effects(evidence.design, evidence.fit, mean_part(evidence.design))
    design = effects.design
    variables = level_variables(design, dict(pairs or {}))
    if not variables:
        raise InferenceError(
            "Within and between effects belong to predictors that vary at both levels.",
            "no such predictor in " + ", ".join(design.names),
            "add a level-1 predictor, or name hand-made columns with pairs={within: between}",
        )
    approach = effects_df(effects, check_generalized_df(df))
    rows: list[LevelEffect] = []
    words: list[str] = []
    told = ""
    for variable in variables:
        wanted = effect_rows(variable)
        zeros = np.zeros(len(wanted))
        hypothesis = Hypothesis(tuple(wanted), np.array(list(wanted.values())), zeros)
        tests = row_tests(
            effects, approach, hypothesis, conf_level=conf_level, was_default=df is None
        )
        told = tests.sentence
        group = design.blocks[variable.block].group
        sds = {"within": float(variable.within.std()), "between": float(variable.between.std())}
        for component, test in zip(wanted, tests.rows, strict=True):
            columns = tuple(design.names[k] for k in np.flatnonzero(wanted[component]).tolist())
            rows.append(
                LevelEffect(
                    variable.name, group, component, columns, test.estimate, test.std_error,
                    test.df, test.statistic, test.p_value, test.conf_low, test.conf_high,
                    sds.get(component, NAN), NAN, NAN,
                )
            )  # fmt: skip
            words.append(_words(variable.name, group, component, test.estimate, test.p_value))
        if list(wanted) == ["within"]:
            words.append(
                f"The mean of {variable.name} by {group} is not in the model: its between effect is"
                " missing."
            )
        words += conditions(design, variable)
    scale = f"All on the {evidence.family.link} scale, conditional on the random effects."
    return LevelEffects(tuple(rows), " ".join([*words, scale, told]))


def _words(x: str, group: str, component: str, estimate: float, p: float) -> str:
    test = f"{estimate:.3f}, {p_words(p)}"
    if component == "within":
        return f"Within: one unit more of {x} than others in the same {group} goes with {test}."
    if component == "between":
        return f"Between: levels of {group} with a mean of {x} higher by one: {test}."
    if component == "contextual":
        return (
            f"Contextual (between minus within): at the same own value of {x}, a mean of the "
            f"{group} higher by one goes with {test}; if it is zero, one slope would do."
        )
    return (
        f"The slope of {x}, {test}, is smushed: a mixture of its within and between effects. Add "
        f"the mean of {x} by {group} to tell them apart."
    )
