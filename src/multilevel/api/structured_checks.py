"""Checks of a fit with structured residuals: residuals, influence, distributions, variances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multilevel.api.structured_holder import StructuredHolder
from multilevel.design.random_scale import factors_by_level
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.infer.residual_clusters import independent_units
from multilevel.infer.residual_rows import StructuredRows, structured_rows
from multilevel.infer.robust_clusters import Clustering, is_inside, resolve_clusters
from multilevel.interpret import diagnosis
from multilevel.interpret.heteroscedasticity import VarianceHomogeneity
from multilevel.interpret.influence import cluster_influence, row_influence
from multilevel.interpret.leverage import Leverage
from multilevel.interpret.normality import normality, standardised_sets
from multilevel.interpret.residual_checks import (
    conditional_std,
    default_strata,
    neighbours,
    normalised_residuals,
    structured_homogeneity,
)
from multilevel.interpret.residual_diagnostics import effect_residuals
from multilevel.simulate.residual_response import simulate_structured

if TYPE_CHECKING:
    from multilevel.api.diagnose import Array
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.residual_diagnostics import EffectResiduals, RowResiduals
    from multilevel.simulate.response import SimulationKind

HELD = "Variances and correlations held at their estimates: exact."
ABOUT_ROWS = (
    "normalised: residuals with variances and correlations taken out (nlme's), each given the"
    " earlier rows of its unit; leverage: of these normalised rows, and normalised_std divides by"
    " sqrt(1 - leverage). conditional, marginal and Cook's distance are of the rows as they are."
)


class StructuredCheckMethods(StructuredHolder):
    """Checks on rows whose variances and correlations are taken out."""

    def _rows(self) -> StructuredRows:
        return structured_rows(self._structured, self._joint_objective(), self._psi)

    def _working(self) -> tuple[WorkingRows, Leverage]:
        rows = self._rows()
        return rows.working, Leverage(rows.leverage_fixed, rows.deletion_leverage)

    def _residual_sets(self) -> tuple[RowResiduals, tuple[EffectResiduals, ...]]:
        effects = estimate_random_effects(self._prepared, self.fit)
        return normalised_residuals(self._rows()), effect_residuals(self.design, self.fit, effects)

    def _drawn(self, n_sim: int, rng: np.random.Generator, kind: SimulationKind) -> Array:
        estimates = self._estimates if kind == "conditional" else ()
        whitener = self._joint_objective().whitener
        return simulate_structured(
            self.design, self.fit, whitener, n_sim, rng, kind=kind, estimates=estimates
        )

    def row_diagnostics(self) -> pd.DataFrame:
        """Residuals, leverage and Cook's distance of every analysed row.

        Columns ``row, conditional, marginal, conditional_std, marginal_std, leverage_fixed,
        leverage, cooks_distance`` as for every fit, then ``normalised`` (variances and correlations
        taken out: independent with variance one if the model holds; nlme's "normalized") and
        ``normalised_std`` (over ``sqrt(1 - leverage)``). Leverages are of normalised rows: what a
        row adds to the earlier rows of its unit; they sum to the effective degrees of freedom.
        """
        rows = self._rows()
        found = normalised_residuals(rows)
        columns = {
            "row": self.design.rows.kept,
            "conditional": rows.conditional,
            "marginal": rows.marginal,
            "conditional_std": conditional_std(rows),
            "marginal_std": found.marginal_std,
            "leverage_fixed": rows.leverage_fixed,
            "leverage": rows.leverage,
        }
        if self.design.names:
            deletion = Leverage(rows.leverage_fixed, rows.deletion_leverage)
            columns["cooks_distance"] = row_influence(rows.working, deletion).cooks_distance
        columns["normalised"] = rows.normalised
        columns["normalised_std"] = found.conditional_std
        out = pd.DataFrame(columns)
        words = diagnosis.about_residuals(self.design, found).sentence
        out.attrs["sentence"] = f"{words} {ABOUT_ROWS}"
        return out

    def random_effect_diagnostics(self) -> pd.DataFrame:
        """Standardised EBLUPs, one row per group, level and term; see ``MultilevelFit``."""
        out = super().random_effect_diagnostics()
        if self._structured.problem.scales.n_parameters:
            out["estimate"] *= np.concatenate(
                [factors_by_level(block).ravel() for block in self.design.blocks]
            )
        return out

    def influence(self, by: Any = None) -> pd.DataFrame:
        """What the fixed effects would be without each row or cluster.

        Parameters
        ----------
        by : None for the clusters that the model takes as independent (levels of the coarsest
            factor, or units of the residual structure); a grouping factor that holds them;
            ``"row"`` for single rows; or one id per analysed row.

        Returns
        -------
        Frame ``level, n_rows, cooks_distance, covratio`` and, per term, ``change[...]`` and
        ``dfbetas[...]``: exact, variances and correlations held at their estimates.

        Raises
        ------
        InferenceError : clusters that cut through correlated rows.
        """
        rows, leverage = self._working()
        if isinstance(by, str) and by == "row":
            out = self._influence_frame(row_influence(rows, leverage))
            out["level"] = self.design.rows.kept
            out.attrs["sentence"] = f"{HELD} level: table row."
            return out
        cluster = self._deletable(by)
        found = cluster_influence(rows, cluster)
        out = self._influence_frame(found)
        words = diagnosis.about_influence(self.design, self.fit, cluster.name, found).sentence
        out.attrs["sentence"] = f"{words} {HELD}"
        return out

    def _deletable(self, by: Any) -> Clustering:
        """Clusters that can be left out: they hold all rows that the model correlates."""
        own = independent_units(self._structured)
        layout = self._structured.layout
        groups = {block.group for block in self.design.blocks}
        unit = "" if layout.term is None else layout.term.group
        if by is None:
            chosen = [own]
        elif isinstance(by, str) and by == unit and unit not in groups:
            chosen = [Clustering(unit, layout.codes, np.asarray(layout.units))]
        else:
            chosen = list(resolve_clusters(self.design, by))
        if len(chosen) != 1 or not is_inside(own.codes, chosen[0].codes) or own.n_clusters < 2:
            raise InferenceError(
                "Clusters can be left out only where they hold all rows that the model correlates.",
                f"{' and '.join(c.name for c in chosen)}; correlated rows: {own.name},"
                f" {own.n_clusters} of them",
                'use influence("row")'
                if own.n_clusters < 2
                else f"name a factor that holds {own.name}, or use influence('row')",
            )
        return chosen[0]

    def heteroscedasticity(self, group: str | None = None) -> pd.DataFrame:
        """Whether variances still differ once the model's variances and correlations are out.

        Columns ``group, level, sd, deviation``; ``attrs`` hold ``statistic, df, p_value`` and the
        ``sentence``, which says whether the structure has caught the differences.

        Parameters
        ----------
        group : a factor that holds whole units of the residual structure: each level's own
            regression on its whitened rows (Raudenbush & Bryk's H); or a stratum (the ``by=``
            column, the predictors of ``scale=``, ``"mean"`` with ``power(mean)``, the time):
            normalised residuals, ``sd`` 1 where the model is right.
            Default: the finest factor; the strata where its levels are too small.
        """
        found = self._homogeneity(group)
        out = pd.DataFrame(
            {
                "group": found.group,
                "level": found.levels,
                "sd": found.sd,
                "deviation": found.deviation,
            }
        )
        out.attrs.update(
            statistic=found.statistic, df=found.df, p_value=found.p_value, sentence=found.sentence
        )
        return out

    def _homogeneity(self, group: str | None = None) -> VarianceHomogeneity:
        rows = self._rows()
        try:
            return structured_homogeneity(self._structured, self.fit, rows, group)
        except InferenceError:
            other = default_strata(self._structured)
            if group is not None or other is None:
                raise
            return structured_homogeneity(self._structured, self.fit, rows, other)

    def diagnose(self) -> diagnosis.Diagnosis:
        """One readable overview of residuals, influence, normality, variances, robust errors.

        Residuals are normalised: variances and correlations of the model are taken out.
        """
        design, fit = self.design, self.fit
        rows = self._rows()
        residuals, effects = self._residual_sets()
        findings = [
            diagnosis.about_residuals(design, residuals),
            *diagnosis.about_effects(effects),
            diagnosis.about_leverage(design, Leverage(rows.leverage_fixed, rows.leverage)),
            *diagnosis.about_normality(
                [normality(*one) for one in standardised_sets(residuals, effects)]
            ),
        ]
        left = neighbours(self._structured, self._joint_objective(), self._psi)
        if left is not None:
            topic, call = "Left-over correlation", "residual_autocorrelation()"
            findings.append(diagnosis.Finding(topic, left.sentence, call))
        findings += diagnosis.gathered(
            lambda: self._influence_finding(rows.working),
            lambda: diagnosis.about_homogeneity(self._homogeneity()),
            lambda: diagnosis.about_robust(design, fit, self._robust_covariance(None, None)),
        )
        return diagnosis.Diagnosis(tuple(findings))

    def _influence_finding(self, rows: WorkingRows) -> diagnosis.Finding:
        cluster = self._deletable(None)
        found = cluster_influence(rows, cluster)
        return diagnosis.about_influence(self.design, self.fit, cluster.name, found)
