"""Methods of a fitted model that check it: robust standard errors, residuals, influence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.frames import frame_of_records, square_frame
from multilevel.api.holder import FitHolder
from multilevel.errors import InferenceError
from multilevel.estimate.posterior import random_effects as estimate_random_effects
from multilevel.infer.robust import (
    RobustCovariance,
    RobustType,
    robust_coefficients,
    robust_covariance,
)
from multilevel.infer.robust_clusters import resolve_clusters
from multilevel.infer.robust_rows import working_rows
from multilevel.interpret import diagnosis
from multilevel.interpret.heteroscedasticity import variance_homogeneity
from multilevel.interpret.influence import cluster_influence, deletions, row_influence
from multilevel.interpret.influence_variances import variance_influence, why_not
from multilevel.interpret.leverage import leverages
from multilevel.interpret.normality import Normality, normality, quantiles, standardised_sets
from multilevel.interpret.quantile_residuals import SimulationTest, quantile_residuals
from multilevel.interpret.residual_diagnostics import effect_residuals, row_residuals
from multilevel.simulate.response import SimulationKind, simulate_responses

if TYPE_CHECKING:
    from multilevel.infer.robust_rows import WorkingRows
    from multilevel.interpret.leverage import Leverage
    from multilevel.interpret.residual_diagnostics import EffectResiduals, RowResiduals


Array = NDArray[np.float64]


class DiagnosticMethods(FitHolder):
    """Checks of a fit; every table says in ``attrs["sentence"]`` what it holds."""

    def _robust_covariance(self, type: RobustType | None, cluster: Any) -> RobustCovariance:
        return robust_covariance(self._prepared, self._objective(), type=type, cluster=cluster)

    def vcov_robust(self, type: RobustType | None = None, cluster: Any = None) -> pd.DataFrame:
        """Cluster-robust covariance of the fixed effects, (p, p).

        Parameters
        ----------
        type : ``"CR0"`` (HLM's), ``"CR1"`` (times J / (J - 1), Stata's), ``"CR1S"``, ``"CR2"``
            (unbiased if the model is right) or ``"CR3"`` (near the jackknife). Several clusterings
            (crossed factors) have all but ``"CR1S"``. None: ``"CR2"``; ``"CR1"`` for crossed
            factors with more than 2,000 clusters and cells together.
        cluster : None for the top level, or all crossed top factors; a grouping factor of the
            model; a list of them; or one id per analysed row.

        Raises
        ------
        InferenceError : see the message.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
        >>> round(float(m.vcov_robust("CR0").iloc[0, 0]) ** 0.5, 6)
        0.243628
        """
        found = self._robust_covariance(type, cluster)
        out = square_frame(found.vcov, self.design.names)
        out.attrs["sentence"] = found.sentence
        return out

    def robust(
        self, type: RobustType | None = None, cluster: Any = None, *, conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Fixed effects with cluster-robust standard errors, t tests and intervals.

        Columns ``term, estimate, std_error, df, statistic, p_value, conf_low, conf_high``. See
        ``vcov_robust`` for the types and the clusters. Degrees of freedom: Satterthwaite
        (Pustejovsky & Tipton 2018); with several clusterings, the fewest clusters minus 1.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> m.robust()[["term", "std_error", "df"]].round(3).to_numpy().tolist()
        [['(Intercept)', 0.188, 158.581], ['ses', 0.12, 142.715]]
        """
        covariance = self._robust_covariance(type, cluster)
        found = robust_coefficients(self.fit.beta, covariance, conf_level)
        out = pd.DataFrame(
            {
                "term": list(self.design.names),
                "estimate": found.estimate,
                "std_error": found.std_error,
                "df": found.df,
                "statistic": found.statistic,
                "p_value": found.p_value,
                "conf_low": found.conf_low,
                "conf_high": found.conf_high,
            }
        )
        out.attrs["sentence"] = found.sentence
        out.attrs["conf_level"] = conf_level
        return out

    # -- residuals and leverage ----------------------------------------------------------------

    def _working(self) -> tuple[WorkingRows, Leverage]:
        objective = self._objective()
        rows = working_rows(self._prepared, objective)
        return rows, leverages(self.design, rows, objective)

    def _residual_sets(self) -> tuple[RowResiduals, tuple[EffectResiduals, ...]]:
        rows, leverage = self._working()
        effects = estimate_random_effects(self._prepared, self.fit)
        return (
            row_residuals(rows, leverage),
            effect_residuals(self.design, self.fit, effects),
        )

    def row_diagnostics(self) -> pd.DataFrame:
        """Residuals, leverage and Cook's distance of every analysed row.

        Columns: ``row`` (position in the table), ``conditional`` and ``marginal`` residuals
        (response units), ``conditional_std`` and ``marginal_std`` (over their own standard
        deviation), ``leverage_fixed``, ``leverage`` (fixed and random effects together),
        ``cooks_distance`` (fixed effects, variances held).

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> round(float(m.row_diagnostics()["leverage_fixed"].sum()), 6)
        2.0
        """
        rows, leverage = self._working()
        found = row_residuals(rows, leverage)
        columns = {
            "row": self.design.rows.kept,
            "conditional": found.conditional,
            "marginal": found.marginal,
            "conditional_std": found.conditional_std,
            "marginal_std": found.marginal_std,
            "leverage_fixed": leverage.fixed,
            "leverage": leverage.total,
        }
        if self.design.names:
            columns["cooks_distance"] = row_influence(rows, leverage).cooks_distance
        out = pd.DataFrame(columns)
        out.attrs["sentence"] = diagnosis.about_residuals(self.design, found).sentence
        return out

    def random_effect_diagnostics(self) -> pd.DataFrame:
        """Standardised EBLUPs, one row per group, level and term.

        Columns ``group, level, term, estimate, std`` (over the standard deviation of the EBLUP),
        ``distance, df, p_value``: the level's squared distance over all its effects, chi-squared.
        """
        frames = []
        _, effects = self._residual_sets()
        for effect in effects:
            J, q = effect.estimates.shape
            p = np.repeat(diagnosis.distance_p_values(effect), q)
            frame = pd.DataFrame(
                {
                    "group": effect.group,
                    "level": np.repeat(np.asarray(effect.levels, dtype=object), q),
                    "term": list(effect.names) * J,
                    "estimate": effect.estimates.reshape(-1),
                    "std": effect.std.reshape(-1),
                    "distance": np.repeat(effect.distance, q),
                    "df": np.repeat(effect.rank, q),
                    "p_value": p,
                }
            )
            frames.append(frame)
        if not frames:
            raise _no_groups()
        out = pd.concat(frames, ignore_index=True)
        found = diagnosis.about_effects(effects)
        out.attrs["sentence"] = " ".join(one.sentence for one in found)
        return out

    # -- influence -----------------------------------------------------------------------------

    def influence(self, by: Any = None) -> pd.DataFrame:
        """What the fixed effects (and variances) would be without each row or cluster.

        Parameters
        ----------
        by : None for the top level of a nested model; a grouping factor that holds the others;
            ``"row"`` for single rows; or one id per analysed row.

        Returns
        -------
        Frame with ``level, n_rows, cooks_distance, covratio`` and, per term, ``change[...]`` (the
        estimate minus the one without the cluster, variances held: exact) and ``dfbetas[...]``.
        With one grouping factor and an interior optimum also ``residual_variance`` and
        ``variance[...]``: estimates without the cluster after one Newton step.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> m.influence().sort_values("cooks_distance").iloc[-1]["level"]
        '2277'
        """
        if isinstance(by, str) and by == "row":
            rows, leverage = self._working()
            out = self._influence_frame(row_influence(rows, leverage))
            out["level"] = self.design.rows.kept
            out.attrs["sentence"] = "Variances held at their estimates: exact. level: table row."
            return out
        clusters = resolve_clusters(self.design, by)
        if len(clusters) != 1:
            names = " and ".join(c.name for c in clusters)
            raise InferenceError(
                "Clusters can be left out only where one factor holds all random effects.",
                f"crossed factors {names}",
                'use influence("row"), or fit again without the rows of a level',
            )
        objective = self._objective()
        rows = working_rows(self._prepared, objective)
        found = cluster_influence(rows, clusters[0])
        out = self._influence_frame(found)
        sentence = diagnosis.about_influence(
            self.design, self.fit, clusters[0].name, found
        ).sentence
        reason = why_not(self.fit, objective, clusters[0])
        if reason:
            out.attrs["sentence"] = f"{sentence} Variances held at their estimates: {reason}."
            return out
        step = variance_influence(
            self._prepared, self.fit, objective, rows, clusters[0], deletions(rows, clusters[0])
        )
        out["residual_variance"] = step.sigma2
        for a, name in enumerate(self.design.blocks[0].names):
            out[f"variance[{name}]"] = step.random_covariance[:, a, a]
        out.attrs["sentence"] = f"{sentence} Variances without each level: one Newton step."
        return out

    def _influence_frame(self, found: Any) -> pd.DataFrame:
        columns = {
            "level": found.labels,
            "n_rows": found.n_rows,
            "cooks_distance": found.cooks_distance,
            "covratio": found.covratio,
        }
        for k, name in enumerate(self.design.names):
            columns[f"change[{name}]"] = found.change[:, k]
            columns[f"dfbetas[{name}]"] = found.dfbetas[:, k]
        return pd.DataFrame(columns)

    # -- distributions -------------------------------------------------------------------------

    def normality(self) -> pd.DataFrame:
        """Shape and tests of standardised residuals and random effects.

        Columns ``group, term, n, skewness, excess_kurtosis, shapiro, shapiro_p, anderson,
        anderson_p, sentence``; the sentence says what this sample size can show.
        """
        found = [normality(*one) for one in standardised_sets(*self._residual_sets())]
        return frame_of_records(found, Normality)

    def quantile_plot_data(self) -> pd.DataFrame:
        """Points of the normal quantile plots: ``group, term, position, theoretical, sample``."""
        frames = []
        for one in standardised_sets(*self._residual_sets()):
            points = quantiles(*one)
            frames.append(
                pd.DataFrame(
                    {
                        "group": points.group,
                        "term": points.term,
                        "position": points.positions,
                        "theoretical": points.theoretical,
                        "sample": points.sample,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def heteroscedasticity(self, group: str | None = None) -> pd.DataFrame:
        """Residual standard deviation of every level of ``group``, with Raudenbush & Bryk's H.

        Columns ``group, level, sd, deviation``; ``attrs`` hold ``statistic, df, p_value`` and the
        ``sentence``. Default: the finest factor.
        """
        found = variance_homogeneity(self.design, group)
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

    def quantile_residuals(
        self,
        n_sim: int = 250,
        seed: int | np.random.Generator | None = None,
        *,
        kind: SimulationKind = "new",
    ) -> pd.DataFrame:
        """Uniform residuals by simulation: ``row, residual``; ``attrs["tests"]`` is a frame.

        ``kind="new"`` draws new random effects, so residuals of one cluster go together;
        ``"conditional"`` keeps the estimated ones. The tests (uniformity, dispersion, outliers)
        allow for that dependence: their p-values come from the same simulations.
        """
        rng = np.random.default_rng(seed)
        found = quantile_residuals(self.design.y, self._drawn(n_sim, rng, kind), rng)
        out = pd.DataFrame({"row": self.design.rows.kept, "residual": found.residuals})
        out.attrs["tests"] = frame_of_records(found.tests, SimulationTest)
        out.attrs["sentence"] = " ".join(test.sentence for test in found.tests)
        return out

    def _drawn(self, n_sim: int, rng: np.random.Generator, kind: SimulationKind) -> Array:
        """Responses drawn from the fitted model, (n, n_sim)."""
        estimates = (
            tuple(e.estimates for e in estimate_random_effects(self._prepared, self.fit))
            if kind == "conditional"
            else ()
        )
        return simulate_responses(self.design, self.fit, n_sim, rng, kind=kind, estimates=estimates)

    # -- all together --------------------------------------------------------------------------

    def diagnose(self) -> diagnosis.Diagnosis:
        """One readable overview of residuals, influence, normality, variances, robust errors.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> print(str(m.diagnose())[:64])
        Residuals: 2 of 7185 rows have a standardised residual beyond 3;
        """
        design, fit, objective = self.design, self.fit, self._objective()
        rows, leverage = self._working()
        residuals, effects = self._residual_sets()
        findings = [
            diagnosis.about_residuals(design, residuals),
            *diagnosis.about_effects(effects),
            diagnosis.about_leverage(design, leverage),
            *diagnosis.about_normality(
                [normality(*one) for one in standardised_sets(residuals, effects)]
            ),
        ]
        findings += diagnosis.gathered(
            partial(self._influence_finding, rows),
            lambda: diagnosis.about_homogeneity(variance_homogeneity(design)),
            lambda: diagnosis.about_robust(
                design, fit, robust_covariance(self._prepared, objective, type=self._robust_type())
            ),
        )
        return diagnosis.Diagnosis(tuple(findings))

    def _robust_type(self) -> RobustType:
        clusters = resolve_clusters(self.design)
        # with so many clusters the adjustment changes nothing that is printed
        few = len(clusters) == 1 and clusters[0].n_clusters <= 5000
        return "CR2" if few else "CR1"

    def _influence_finding(self, rows: WorkingRows) -> diagnosis.Finding:
        clusters = resolve_clusters(self.design)
        if len(clusters) != 1:
            raise InferenceError(
                "Clusters can be left out only where one factor holds all random effects.",
                "crossed factors",
                'use influence("row")',
            )
        found = cluster_influence(rows, clusters[0])
        return diagnosis.about_influence(self.design, self.fit, clusters[0].name, found)


def _no_groups() -> InferenceError:
    return InferenceError(
        "Diagnostics of random effects need random effects.",
        "a model without any",
        "add a random term such as (1 | school) to the formula",
    )
