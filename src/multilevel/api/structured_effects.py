"""Effect sizes and tests of the variance of a fit with structured residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multilevel.api.compare import SEED
from multilevel.api.effects import sentence_frame
from multilevel.api.frames import frame_of_records
from multilevel.api.structured_holder import StructuredHolder
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.estimate.structured import prepare_structured
from multilevel.infer.compare_conditional import ConditionalAic, conditional_aic
from multilevel.infer.residual_rows import structured_rows
from multilevel.infer.residual_tests import structured_tests
from multilevel.interpret.design_effect import DesignEffect
from multilevel.interpret.intraclass import check_level
from multilevel.interpret.reliability import Reliability
from multilevel.interpret.residual_effects import (
    CellCorrelation,
    ClusterReliability,
    cell_correlations,
    cluster_reliabilities,
    structured_design_effects,
    structured_reliabilities,
)
from multilevel.interpret.residual_icc import relative_variances, structured_shares
from multilevel.interpret.residual_variance_function import structured_variance_function
from multilevel.interpret.variance_function import VarianceAt
from multilevel.interpret.variance_share import Evidence

if TYPE_CHECKING:
    from multilevel.design.records import Design
    from multilevel.likelihood.blocks.scaling import Scaling
    from multilevel.likelihood.gaussian.objective import Profile


class StructuredEffectMethods(StructuredHolder):
    """How much varies where, with the variances and correlations of the residuals."""

    def _evidence(self) -> Evidence:
        phi = self._psi[len(self.fit.theta) :]
        mean = self.fit.sigma2 * float(relative_variances(self._structured.layout, phi).mean())
        return Evidence(
            self._prepared, self.fit, self._objective(), self._approach, mean, self._at_variances
        )

    def _at_variances(self, design: Design) -> tuple[Scaling, Profile]:
        """Other columns of X at the covariance parameters of this fit."""
        problem = prepare_structured(design, method=self.fit.method)
        return problem.plain.scaling, problem.objective().set(self._psi)

    def random_tests(
        self, *, n_sim: int = 10_000, n_boot: int = 0, seed: int = SEED
    ) -> pd.DataFrame:
        """Test each random effect, and each part of the residual structure, by leaving it out.

        Columns ``term, group, statistic, df, p_naive, p_value, p_exact, distribution, sentence,
        p_bootstrap``;
        ``group`` is ``"Residual"`` for the correlation of residuals, variances of their own by
        category or occasion, and each column of ``scale=``. All other parameters are fitted again.
        ``p_value`` is that of ``distribution`` (a mixture for one variance; conservative where no
        distribution is known), ``p_naive`` the chi-square's.

        Parameters
        ----------
        n_sim : draws of the exact test, which exists for one variance component beside
            independent residuals of one variance; ``p_exact`` is NaN elsewhere.
        n_boot : parametric bootstrap of every test with so many draws (999, say), where no
            distribution is known to hold; each draw fits both models.
        seed : of all draws.
        """
        rng = np.random.default_rng(seed)
        found = structured_tests(self._prepared, self.fit, rng, n_sim=n_sim, n_boot=n_boot)
        frame = pd.DataFrame([vars(test) for test in found])
        frame.attrs["sentence"] = " ".join(test.sentence for test in found)
        return frame

    def conditional_aic(self) -> ConditionalAic:
        """Conditional AIC (Vaida & Blanchard 2005): for predictions of the same clusters.

        The density of the rows given the random effects has the residual covariance; its
        parameters are counted with the effective degrees of freedom.
        """
        return conditional_aic(self._prepared, self._objective(), self.fit)

    def intraclass_correlations(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """ICC of each grouping factor: over all rows, and by stratum where variances differ.

        Frame ``group, at, proportion, correlation, within, std_error, conf_low, conf_high,
        sentence``: ``at`` is an occasion, a category of ``by=`` or a combination of predictors of
        the variances (where these are few), or ``"all rows"``. ``correlation`` is that of two rows
        whose residuals are not correlated; ``cluster_covariance()`` has all pairs. For rows of
        your own: ``row_variances(rows)``; along a predictor: ``variance_function(term)``.

        Raises
        ------
        InferenceError : no random effects.
        """
        level = check_level(conf_level)
        shares = structured_shares(self._structured, self.fit, self._psi, level, by_predictors=True)
        has = self._structured.layout.has_correlation
        found = cell_correlations(self.design, shares, has)
        out = frame_of_records(found, CellCorrelation)
        out.attrs["sentence"] = " ".join(one.sentence for one in found)
        return out

    def variance_function(
        self,
        term: str,
        values: Sequence[float] | None = None,
        *,
        group: str | None = None,
        conf_level: float = 0.95,
    ) -> pd.DataFrame:
        """Outcome variance and ICC at values of a predictor that a variance depends on.

        Parameters
        ----------
        term : a random slope (others held at 0), or a column of ``scale=`` or ``random_scale=``, by
            name; other predictors of the variances as in the analysed rows (averages).
        values : default five values over the observed range (all, where there are fewer).
        group : the grouping factor whose share is given, where there are several.

        Returns
        -------
        Frame ``value, between, total, estimate (the ICC), std_error, conf_low, conf_high``;
        ``attrs["minimum"]`` is where the variance is smallest (inside the observed range, unless
        only a slope makes it change).

        Raises
        ------
        InferenceError : a predictor that no variance depends on.
        """
        found = structured_variance_function(
            self._structured, self.fit, self._psi, term, values, group, check_level(conf_level)
        )
        out = frame_of_records(found.rows, VarianceAt)
        out.attrs["minimum"], out.attrs["minimum_total"] = found.minimum, found.minimum_total
        out.attrs["sentence"] = found.sentence
        return out

    def reliability(self, *, by_cluster: bool = False) -> pd.DataFrame:
        """Reliability of the clusters' means and slopes: mean and range over clusters.

        Frame ``group, term, component, estimate, minimum, maximum, n_clusters``. ``component``:
        ``"least_squares"`` judges each cluster by its own rows, their residual covariance taken
        into account (one factor that holds whole units of the residuals); ``"prediction"`` is
        ``1 - Var(b | y) / tau``. ``by_cluster`` gives the latter for every level: ``group, level,
        term, estimate``.
        """
        effects = estimate_random_effects(self._prepared, self.fit)
        if by_cluster:
            levels = cluster_reliabilities(self.design, self.fit, effects)
            out = frame_of_records(levels, ClusterReliability)
            out.attrs["sentence"] = "Reliability of each prediction: 1 - Var(b | y) / tau."
            return out
        rows = structured_rows(self._structured, self._joint_objective(), self._psi)
        found = structured_reliabilities(self._structured, self.fit, effects, rows)
        return sentence_frame(found, Reliability)

    def design_effects(self) -> pd.DataFrame:
        """Design effect and effective sample size of each grouping factor, and of the residuals.

        Frame ``group, component, cluster_size, icc, estimate, effective_n``: ``1 + (cluster_size -
        1) icc`` of each factor as for every fit (the residual variance averaged over the rows);
        with correlated residuals also what they alone add, and ``1'V1 / tr(V)`` of all together.
        """
        objective = self._joint_objective()
        rows = structured_rows(self._structured, objective, self._psi)
        found = structured_design_effects(
            self._structured, self.fit, rows, objective.whitener.total()
        )
        return sentence_frame(found, DesignEffect)
