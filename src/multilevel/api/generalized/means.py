"""Methods of a generalized fit on its fixed effects: coefficients, tests, marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.errors import InferenceError
from multilevel.infer.adjust import Adjustment
from multilevel.infer.between_within import CountedDf
from multilevel.infer.generalized.effects import (
    Effects,
    check_generalized_df,
    effects_df,
    full_effects,
    mean_part,
    part_effects,
)
from multilevel.infer.generalized.robust import RobustParameters, robust_parameters
from multilevel.infer.generalized.terms import anova_of_part, chosen_effects, response_means
from multilevel.infer.linear_hypothesis import (
    Hypothesis,
    combination_rows,
    matrix_rows,
    parse_hypotheses,
)
from multilevel.infer.marginal_means import marginal_means, means_grid, pairwise
from multilevel.infer.means_tests import (
    JointTest,
    RowTest,
    RowTests,
    coefficient_hypothesis,
    joint_test,
    row_tests,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

GeneralizedDf = Literal["none", "between-within"]
GeneralizedRobust = Literal["CR0", "CR1"]
MeansScale = Literal["link", "response"]

_TEST_COLUMNS = (
    "term", "estimate", "std_error", "df_num", "df", "statistic", "p_value", "conf_low",
    "conf_high",
)  # fmt: skip
#: What the exponential of a coefficient is called, by link of the part.
RATIOS = {"logit": "odds ratios", "log": "ratios of expected values", "cloglog": "hazard ratios"}


def effects_frame(found: RowTests, notes: Sequence[str] = ()) -> pd.DataFrame:
    """Row tests as a frame; ``attrs["sentence"]`` says which tests these are."""
    out = frame_of_records(found.rows, RowTest)
    out.attrs["sentence"] = " ".join([found.sentence, *notes])
    out.attrs["df"] = found.method
    out.attrs["conf_level"] = found.conf_level
    return out


class GeneralizedMeansMethods(GeneralizedHolder):
    """Tests and intervals of the fixed effects of every part.

    Every method takes ``df``: ``"none"`` (z, the default) or ``"between-within"`` (nested
    factors). ``robust`` takes ``"CR0"`` or ``"CR1"`` for cluster-robust standard errors.
    """

    def _robust(self, type: str | None, cluster: Any) -> RobustParameters:
        return robust_parameters(
            self.design, self.fit, self._objective(), type=type, cluster=cluster
        )

    def _with_df(
        self, effects: Effects, df: str | None, covariance: RobustParameters | None
    ) -> CountedDf:
        """Degrees of freedom; clusters - 1 for robust tests unless asked for otherwise."""
        found = effects_df(effects, check_generalized_df(df))
        if covariance is None:
            return found
        if df is None:
            counted = np.full(effects.n_fixed, covariance.n_clusters - 1.0)
            return replace(found, column_df=counted, notes=(covariance.sentence,))
        return replace(found, notes=(*found.notes, covariance.sentence))

    def _printed_tests(self, df: str | None = None) -> RowTests | None:
        """Tests for a summary; None for a mean without coefficients."""
        if not self.design.parts[0].names:
            return None
        effects = part_effects(self.design, self.fit, mean_part(self.design))
        approach = effects_df(effects, check_generalized_df(df))
        return row_tests(effects, approach, coefficient_hypothesis(effects.names))

    def coefficients(
        self,
        df: GeneralizedDf | None = None,
        conf_level: float = 0.95,
        *,
        exponentiate: bool = False,
        part: str | None = None,
        robust: GeneralizedRobust | None = None,
    ) -> pd.DataFrame:
        """Fixed effects of a part with their tests and intervals, on the scale of its link.

        Columns ``term, estimate, std_error, df, statistic, p_value, conf_low, conf_high``; ``df``
        is infinite for z tests. A parameter at a limit has no standard error: NaN.

        Parameters
        ----------
        df : ``"none"`` (z, default) or ``"between-within"`` (SAS GLIMMIX's count; nested factors).
        exponentiate : odds ratios (logit link) or ratios of expected values (log link):
            ``exp`` of estimates and limits, standard errors by the delta method; tests are those
            of the coefficients.
        part : ``"mean"`` (default; of a nominal response all categories), ``"dispersion"``,
            ``"zero"``, ``"threshold 1"``...
        robust : ``"CR0"`` or ``"CR1"``: cluster-robust standard errors (see ``vcov_robust``),
            t tests with clusters - 1 degrees of freedom.

        Raises
        ------
        InferenceError : an unknown part, a method that this fit does not allow, with the reason.
        """
        covariance = None if robust is None else self._robust(robust, None)
        vcov = None if covariance is None else covariance.vcov
        effects = chosen_effects(self.design, self.fit, part, vcov)
        found = counted_tests(
            effects,
            self._with_df(effects, df, covariance),
            coefficient_hypothesis(effects.names),
            conf_level,
        )
        notes = list(self.fit.at_limit.values())
        out = without_error(effects_frame(found, notes))
        return self._exponentiated(out, part, "(Intercept)") if exponentiate else out

    def _exponentiated(self, table: pd.DataFrame, part: str | None, base: str) -> pd.DataFrame:
        """The table on the scale of ratios; refused where ``exp`` of an effect means nothing."""
        name = part or mean_part(self.design)
        spec = next(p.spec for p in self.design.parts if p.spec.name == name)
        if spec.link not in RATIOS:
            raise InferenceError(
                "exponentiate=True needs the logit, log or cloglog link.",
                f"the {spec.link} link",
                "leave exponentiate out",
            )
        attrs = dict(table.attrs)
        out = table.copy()
        ratio = np.exp(table["estimate"])
        out["estimate"], out["std_error"] = ratio, ratio * table["std_error"]
        out["conf_low"], out["conf_high"] = np.exp(table["conf_low"]), np.exp(table["conf_high"])
        words = f"Estimates and limits are exponentiated: {RATIOS[spec.link]}"
        words += f" ({base} is a baseline, not a ratio)." if base in set(table["term"]) else "."
        attrs["sentence"] = f"{attrs['sentence']} {words}"
        out.attrs.update(attrs)
        return out

    def test(
        self,
        hypothesis: str,
        df: GeneralizedDf | None = None,
        conf_level: float = 0.95,
        *,
        part: str | None = None,
        robust: GeneralizedRobust | None = None,
    ) -> pd.DataFrame:
        """Test hypotheses on the fixed effects of a part, each and all at once (Wald).

        ``hypothesis`` is written as for Gaussian models: ``"x = 0, z = 0"``, ``"a - b = 0"``.
        One row per equation (z, or t), then ``term == "joint"`` with chi-square (or F).
        """
        effects, approach = self._tested_part(df, part, robust)
        wanted = parse_hypotheses(hypothesis, effects.names)
        return _tested(effects, approach, wanted, conf_level)

    def _tested_part(
        self, df: str | None, part: str | None, robust: str | None
    ) -> tuple[Effects, CountedDf]:
        covariance = None if robust is None else self._robust(robust, None)
        vcov = None if covariance is None else covariance.vcov
        effects = chosen_effects(self.design, self.fit, part, vcov)
        return effects, self._with_df(effects, df, covariance)

    def contrast(
        self,
        contrasts: Mapping[str, Mapping[str, float]] | ArrayLike,
        labels: Sequence[str] | None = None,
        df: GeneralizedDf | None = None,
        conf_level: float = 0.95,
        *,
        exponentiate: bool = False,
        part: str | None = None,
        robust: GeneralizedRobust | None = None,
    ) -> pd.DataFrame:
        """Estimate linear combinations of the fixed effects of a part, on the link scale.

        ``contrasts`` and ``labels`` as for Gaussian models; ``exponentiate`` as in
        ``coefficients``. Returns a frame as ``test``, with ``term`` the label.
        """
        effects, approach = self._tested_part(df, part, robust)
        if isinstance(contrasts, Mapping):
            wanted = combination_rows(contrasts, effects.names)
        else:
            matrix = np.asarray(contrasts, dtype=np.float64)
            wanted = matrix_rows(matrix, labels, len(effects.names))
        out = _tested(effects, approach, wanted, conf_level)
        return self._exponentiated(out, part, "") if exponentiate else out

    def anova(
        self,
        type: int = 3,
        df: GeneralizedDf | None = None,
        *,
        part: str | None = None,
        robust: GeneralizedRobust | None = None,
    ) -> pd.DataFrame:
        """Wald tests of every term (type 3 or 2), chi-square or F.

        Hypotheses are those of Gaussian models (on the link scale); of a nominal response each
        term is tested in all categories at once. Columns ``term, df_num, df, statistic, p_value``.
        """
        covariance = None if robust is None else self._robust(robust, None)
        found = anova_of_part(
            self.design,
            self.fit,
            part or mean_part(self.design),
            kind=type,
            df=check_generalized_df(df),
            vcov=None if covariance is None else covariance.vcov,
            counted=None if covariance is None or df else covariance.n_clusters - 1.0,
        )
        out = frame_of_records(found.tests, JointTest)[
            ["term", "df_num", "df", "statistic", "p_value"]
        ]
        words = [found.sentence] if covariance is None else [found.sentence, covariance.sentence]
        out.attrs["sentence"] = " ".join(words)
        out.attrs["df"] = check_generalized_df(df)
        return out

    def marginal_means(
        self,
        variables: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        df: GeneralizedDf | None = None,
        conf_level: float = 0.95,
        *,
        scale: MeansScale = "response",
    ) -> pd.DataFrame:
        """Predicted means of the categories of a factor (or of the cells of several).

        Random effects are zero (a typical cluster, not the average over clusters); other factors
        are averaged on the link scale with equal weights; numeric predictors are held at their
        means, or where ``at`` says.

        Parameters
        ----------
        scale : ``"response"`` (default): probabilities, expected counts..., delta-method errors;
            for categories one row per category (column ``category``). ``"link"``: the predictor.
        """
        if scale not in ("link", "response"):
            raise InferenceError(
                "scale must be 'link' or 'response'.", f"scale={scale!r}", "write scale='response'"
            )
        checked = check_generalized_df(df)
        effects = full_effects(self.design, self.fit, mean_part(self.design))
        grid = means_grid(effects.design, variables, at)
        if scale == "link":
            found = marginal_means(effects, effects_df(effects, checked), grid,
                                   conf_level=conf_level)  # fmt: skip
            out = effects_frame(found)
            attrs = dict(out.attrs)
            out = out.drop(columns=["statistic", "p_value"])
            cells = range(len(out))
            attrs["sentence"] = f"On the {self.design.family.link} scale. {attrs['sentence']}"
        else:
            means = response_means(
                self._prepared, self.fit, grid, df=checked, conf_level=conf_level
            )
            cells = [m.cell for m in means]  # type: ignore[assignment]
            out = pd.DataFrame(
                {
                    "term": [grid.labels[m.cell] for m in means],
                    **({"category": [m.category for m in means]} if means[0].category else {}),
                    "estimate": [m.estimate for m in means],
                    "std_error": [m.std_error for m in means],
                    "df": [m.df for m in means],
                    "conf_low": [m.conf_low for m in means],
                    "conf_high": [m.conf_high for m in means],
                }
            )
            words = "On the response scale (averages were taken on the link scale)"
            words += ", standard errors by the delta method."
            attrs = {"sentence": f"{words} {grid.sentence}", "df": checked,
                     "conf_level": conf_level}  # fmt: skip
        for k, factor in enumerate(grid.factors):
            out.insert(k, factor, [grid.cells[c][k] for c in cells])
        out.attrs.update(attrs)
        return out

    def pairwise_comparisons(
        self,
        variables: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        adjust: Adjustment = "tukey",
        df: GeneralizedDf | None = None,
        conf_level: float = 0.95,
        *,
        exponentiate: bool = False,
    ) -> pd.DataFrame:
        """All differences between marginal means on the link scale, with their tests.

        ``adjust`` as for Gaussian models. ``exponentiate=True`` gives ratios (odds ratios for the
        logit link); ``term`` is then ``a / b``.
        """
        effects = full_effects(self.design, self.fit, mean_part(self.design))
        grid = means_grid(effects.design, variables, at)
        found = pairwise(
            effects,
            effects_df(effects, check_generalized_df(df)),
            grid,
            adjust=adjust,
            conf_level=conf_level,
        )
        out = effects_frame(found)
        if not exponentiate:
            return out
        out = self._exponentiated(out, None, "")
        out["term"] = [f"{a} / {b}" for a, b in combinations(grid.labels, 2)]
        return out


def counted_tests(
    effects: Effects, approach: CountedDf, hypothesis: Hypothesis, conf_level: float
) -> RowTests:
    """Row tests; where clusters - 1 degrees of freedom stand in for none, the notes say so."""
    found = row_tests(effects, approach, hypothesis, conf_level=conf_level)
    if approach.method == "none" and np.all(np.isfinite(approach.column_df)):
        return replace(found, sentence=" ".join(approach.notes))
    return found


def without_error(table: pd.DataFrame) -> pd.DataFrame:
    """A zero standard error means that there is none."""
    attrs = dict(table.attrs)
    table.loc[table["std_error"] == 0.0, "std_error"] = float("nan")
    table.attrs.update(attrs)
    return table


def _tested(
    effects: Effects, approach: CountedDf, hypothesis: Hypothesis, conf_level: float
) -> pd.DataFrame:
    """Row tests and, if there are several, the joint one."""
    found = counted_tests(effects, approach, hypothesis, conf_level)
    out = effects_frame(found)
    attrs = dict(out.attrs)
    out["df_num"] = 1
    if len(out) > 1:
        joint = joint_test(effects, approach, hypothesis, "joint")
        row = {
            **dict.fromkeys(_TEST_COLUMNS, float("nan")),
            "term": "joint",
            "df_num": joint.df_num,
            "df": joint.df,
            "statistic": joint.statistic,
            "p_value": joint.p_value,
        }
        out = pd.concat([out, pd.DataFrame([row])], ignore_index=True)
        attrs["sentence"] = f"{joint.sentence} {found.sentence}"
    out = out[list(_TEST_COLUMNS)]
    out.attrs.update(attrs)
    return out
