"""Methods of a fit on the model for the means: coefficients, tests, marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.holder import FitHolder
from multilevel.infer.adjust import Adjustment
from multilevel.infer.anova import anova
from multilevel.infer.degrees_of_freedom import DfApproach, DfMethod, check_df, default_df
from multilevel.infer.linear_hypothesis import (
    Hypothesis,
    combination_rows,
    matrix_rows,
    parse_hypotheses,
)
from multilevel.infer.marginal_means import marginal_means, means_grid, pairwise
from multilevel.infer.means_tests import (
    PRINTING_SECONDS,
    JointTest,
    RowTest,
    RowTests,
    approach_of,
    coefficient_hypothesis,
    default_tests,
    joint_test,
    row_tests,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_TEST_COLUMNS = (
    "term", "estimate", "std_error", "df_num", "df", "statistic", "p_value", "conf_low",
    "conf_high",
)  # fmt: skip


def tests_frame(found: RowTests) -> pd.DataFrame:
    """Row tests as a frame; ``attrs["sentence"]`` says which tests these are."""
    out = frame_of_records(found.rows, RowTest)
    out.attrs["sentence"] = found.sentence
    out.attrs["df"] = found.method
    out.attrs["conf_level"] = found.conf_level
    return out


class MeansMethods(FitHolder):
    """Tests and intervals of fixed effects, with the chosen degrees of freedom.

    Every method takes ``df``: ``"satterthwaite"`` (default under REML), ``"kenward-roger"``,
    ``"between-within"``, ``"containment"``, ``"residual"`` or ``"none"`` (z; default under ML).
    """

    _approaches: dict[DfMethod, DfApproach] | None = None

    def _approach(self, df: str | None) -> DfApproach:
        """The method of degrees of freedom; each is computed once and kept (never pickled)."""
        name = default_df(self.fit.method) if df is None else check_df(df)
        if self._approaches is None:
            self._approaches = {}
        if name not in self._approaches:
            self._approaches[name] = approach_of(self._prepared, self.fit, self._objective(), name)
        return self._approaches[name]

    def _printed_tests(self, df: str | None = None) -> RowTests | None:
        """Tests for a summary, which must print at once; None without fixed effects."""
        if self.fit.n_fixed == 0:
            return None
        if df is None:
            return default_tests(self._prepared, self.fit, self._approach, seconds=PRINTING_SECONDS)
        names = coefficient_hypothesis(self.design.names)
        return row_tests(self.fit, self._approach(df), names)

    def coefficients(self, df: DfMethod | None = None, conf_level: float = 0.95) -> pd.DataFrame:
        """Fixed effects with their tests and intervals.

        Columns ``term, estimate, std_error, df, statistic, p_value, conf_low, conf_high``; ``df``
        is infinite for z tests. Kenward-Roger's standard errors are its adjusted ones. The
        default costs little unless factors are crossed and large (two evaluations of the
        criterion per variance parameter); where it cannot be had, as for a fit that is not
        certified, the tests are z tests and ``attrs["sentence"]`` says why.

        Raises
        ------
        InferenceError : a method that this fit does not allow, with the reason.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        >>> m.coefficients()[["term", "estimate", "df"]].round(1).to_numpy().tolist()
        [['(Intercept)', 12.7, 145.6], ['ses', 2.4, 157.5]]
        """
        if df is None:
            return tests_frame(
                default_tests(self._prepared, self.fit, self._approach, conf_level=conf_level)
            )
        names = coefficient_hypothesis(self.design.names)
        return tests_frame(row_tests(self.fit, self._approach(df), names, conf_level=conf_level))

    def test(
        self, hypothesis: str, df: DfMethod | None = None, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Test hypotheses on fixed effects, each and (if there are several) all at once.

        Parameters
        ----------
        hypothesis : equations separated by commas, in the names of the fixed effects:
            ``"ses = 0"``, ``"sector = 0, meanses:sector = 0"``, ``"between - within = 0"``,
            ``"a = b"``, ``"ses = 2.5"``. A term with several columns means all of them; names
            with odd characters go between backticks.

        Returns
        -------
        One row per equation (``estimate`` is left minus right side; t, or z where ``df`` is
        infinite), then ``term == "joint"`` with F (chi-square where ``df`` is infinite) and
        ``df_num``.

        Raises
        ------
        InferenceError : an unknown name (close matches are listed), a contradiction.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * sector + (1 | school)", mlm.load_hsb())
        >>> m.test("sector = 0, ses:sector = 0").round(1)[["df_num", "statistic"]].iloc[-1].tolist()
        [2.0, 38.1]
        """
        return self._tested(parse_hypotheses(hypothesis, self.design.names), df, conf_level)

    def contrast(
        self,
        contrasts: Mapping[str, Mapping[str, float]] | ArrayLike,
        labels: Sequence[str] | None = None,
        df: DfMethod | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Estimate linear combinations of fixed effects.

        Parameters
        ----------
        contrasts : ``{label: {fixed effect: weight}}``, or a matrix with one column per fixed
            effect (in the order of ``coefficients()``) and one row per combination.
        labels : names of the rows of a matrix.

        Returns
        -------
        As ``test``, with ``term`` the label.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit(
        ...     "mathach ~ within(ses, school) + between(ses, school) + (1 | school)",
        ...     mlm.load_hsb(),
        ... )
        >>> contextual = {"between(ses, school)": 1, "within(ses, school)": -1}
        >>> m.contrast({"contextual": contextual}).round(2)[["term", "estimate"]].values.tolist()
        [['contextual', 3.68]]
        """
        if isinstance(contrasts, Mapping):
            hypothesis = combination_rows(contrasts, self.design.names)
        else:
            matrix = np.asarray(contrasts, dtype=np.float64)
            hypothesis = matrix_rows(matrix, labels, len(self.design.names))
        return self._tested(hypothesis, df, conf_level)

    def _tested(self, hypothesis: Hypothesis, df: str | None, conf_level: float) -> pd.DataFrame:
        approach, was_default = self._approach(df), df is None
        found = row_tests(
            self.fit, approach, hypothesis, conf_level=conf_level, was_default=was_default
        )
        out = tests_frame(found)
        attrs = out.attrs
        out["df_num"] = 1
        if len(out) > 1:
            joint = joint_test(self.fit, approach, hypothesis, "joint")
            row = {
                **dict.fromkeys(_TEST_COLUMNS, float("nan")),
                "term": "joint",
                "df_num": joint.df_num,
                "df": joint.df,
                "statistic": joint.statistic,
                "p_value": joint.p_value,
            }
            out = pd.concat([out, pd.DataFrame([row])], ignore_index=True)
            attrs = {**attrs, "sentence": f"{joint.sentence} {found.sentence}"}
        out = out[list(_TEST_COLUMNS)]
        out.attrs.update(attrs)
        return out

    def anova(self, type: int = 3, df: DfMethod | None = None) -> pd.DataFrame:
        """Test every term of the model for the means.

        Type 3 tests each term with all others in the model, averaged over the categories of other
        factors with equal weights (SAS's hypotheses, whatever the coding); an effect in a product
        with a numeric predictor is tested where that predictor is zero. Type 2 ignores the terms
        that contain the tested one.

        Returns
        -------
        Columns ``term, df_num, df, statistic, p_value``: F, or chi-square where ``df`` is
        infinite.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * sector + (1 | school)", mlm.load_hsb())
        >>> m.anova()[["term", "statistic"]].round(1).values.tolist()
        [['ses', 440.5], ['sector', 39.2], ['ses:sector', 38.4]]
        """
        approach = self._approach(df)
        found = anova(self.design, self.fit, approach, kind=type, was_default=df is None)
        columns = ["term", "df_num", "df", "statistic", "p_value"]
        out = frame_of_records(found.tests, JointTest)[columns]
        out.attrs["sentence"] = found.sentence
        out.attrs["df"] = approach.method
        return out

    def marginal_means(
        self,
        variables: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        df: DfMethod | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Predicted means of the categories of a factor (or of the cells of several).

        Random effects are zero; other factors are averaged with equal weights; numeric
        predictors are held at their means over the analysed rows, or where ``at`` says
        (``{"ses": 1, "sector": "Public"}``).

        Returns
        -------
        One row per mean: the categories, ``term, estimate, std_error, df, conf_low, conf_high``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * C(sector) + (1 | school)", mlm.load_hsb())
        >>> means = m.marginal_means("sector", at={"ses": 0})
        >>> means[["sector", "estimate"]].round(1).values.tolist()
        [[0.0, 11.8], [1.0, 13.9]]
        """
        grid = means_grid(self.design, variables, at)
        found = marginal_means(
            self.fit,
            self._approach(df),
            grid,
            conf_level=conf_level,
            was_default=df is None,
        )
        out = tests_frame(found)
        attrs = dict(out.attrs)
        out = out.drop(columns=["statistic", "p_value"])
        for k, factor in enumerate(grid.factors):
            out.insert(k, factor, [cell[k] for cell in grid.cells])
        out.attrs.update(attrs)
        return out

    def pairwise_comparisons(
        self,
        variables: str | Sequence[str],
        at: Mapping[str, Any] | None = None,
        adjust: Adjustment = "tukey",
        df: DfMethod | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """All differences between the marginal means of a factor, with their tests.

        ``adjust`` is ``"tukey"`` (default), ``"holm"``, ``"bonferroni"`` or ``"none"``; p-values
        and intervals are adjusted (Holm takes Bonferroni's intervals). See ``marginal_means``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses * C(sector) + (1 | school)", mlm.load_hsb())
        >>> m.pairwise_comparisons("sector")[["term", "estimate"]].round(1).values.tolist()
        [['sector[0] - sector[1]', -2.1]]
        """
        found = pairwise(
            self.fit,
            self._approach(df),
            means_grid(self.design, variables, at),
            adjust=adjust,
            conf_level=conf_level,
            was_default=df is None,
        )
        return tests_frame(found)
