"""Methods of a generalized fit: intervals of all its parameters, and bootstraps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.api.generalized.means import RATIOS, GeneralizedDf
from multilevel.api.progress import Telling, teller
from multilevel.errors import InferenceError
from multilevel.infer.bootstrap_intervals import IntervalKind, check_interval
from multilevel.infer.generalized.bootstrap import (
    GeneralizedBootstrapKind,
    OutcomeBootstrap,
    bootstrap_outcomes,
    check_outcome_kind,
    outcome_intervals,
)
from multilevel.infer.generalized.effects import (
    check_generalized_df,
    effects_df,
    mean_part,
    part_effects,
)
from multilevel.infer.generalized.profile import profile_interval
from multilevel.infer.generalized.quantities import (
    OK,
    Parameter,
    ParameterInterval,
    check_components,
    parameters,
    wald_intervals,
)
from multilevel.infer.means_tests import coefficient_hypothesis, row_tests
from multilevel.infer.variance_intervals import check_conf_level
from multilevel.interpret.random_structures import StructureParameter, of_generalized

IntervalMethod = Literal["wald", "profile", "bootstrap"]
_SHORT = {"fixed": "", "natural": "", "sd": "sd", "correlation": "cor"}
WALD = (
    "Wald: z for coefficients, SDs and variances on the log scale, correlations on Fisher's z "
    "scale, natural parameters as functions of the limits of their predictor."
)
PROFILE = "Profile of the likelihood: where -2 log-likelihood rises by the chi-square quantile."


class GeneralizedIntervalMethods(GeneralizedHolder):
    """Wald, profile and bootstrap intervals."""

    def confint(
        self,
        method: IntervalMethod = "wald",
        *,
        components: Sequence[str] | None = None,
        conf_level: float = 0.95,
        df: GeneralizedDf | None = None,
        exponentiate: bool = False,
        n_boot: int | None = None,
        seed: int | None = None,
        kind: GeneralizedBootstrapKind | None = None,
        interval: IntervalKind | None = None,
        workers: int | None = None,
        progress: Telling = None,
    ) -> pd.DataFrame:
        """Intervals of all parameters: coefficients of every part, natural ones, SDs, correlations.

        Parameters
        ----------
        method : ``"wald"``, ``"profile"`` (of the likelihood) or ``"bootstrap"``.
        components : of ``"fixed", "natural", "variance", "sd", "covariance", "correlation"``;
            default fixed, natural (alpha, phi, thresholds...), sd and correlation.
        df : of Wald intervals of the coefficients of the mean (see ``coefficients``).
        exponentiate : ends (and estimates) of the mean's coefficients as odds ratios or ratios of
            expected values; profile and percentile ends are exact, as ``exp`` is monotone.
        n_boot, seed, kind, interval, workers, progress : for ``"bootstrap"`` only, as in
            ``bootstrap``; 1000 replicates, seed 0, ``"parametric"``, ``"percentile"``.

        Returns
        -------
        Frame ``term, group, component, estimate, std_error, conf_low, conf_high, status``; status
        is ``ok``, ``ok; a note``, or the reason why there is no interval.

        Raises
        ------
        InferenceError : an option that the method does not have; a profile of a penalised fit.
        """
        level = check_conf_level(conf_level)
        if method not in get_args(IntervalMethod):
            raise InferenceError(
                "The method must be 'wald', 'profile' or 'bootstrap'.",
                f"method={method!r}",
                "write confint('wald')",
            )
        given = {
            "n_boot": n_boot, "seed": seed, "kind": kind, "interval": interval,
            "workers": workers, "progress": progress,
        }  # fmt: skip
        stray = [k for k, v in given.items() if v is not None and method != "bootstrap"]
        if df is not None and method != "wald":
            stray.append("df")
        if stray:
            raise InferenceError(
                f"{', '.join(stray)} cannot be used with method={method!r}.",
                "an option that would be ignored",
                "leave it out, or change the method",
            )
        wanted = parameters(self.design, self.fit, check_components(components))
        found: Sequence[ParameterInterval]
        if method == "wald":
            found, text = self._wald(wanted, level, df), WALD
        elif method == "profile":
            found, text = self._profiled(wanted, level), PROFILE
        else:
            how = check_interval(interval or "percentile")
            check_outcome_kind(self.design, kind or "parametric")
            drawn = self._bootstrap(
                1000 if n_boot is None else n_boot,
                seed or 0,
                kind or "parametric",
                1 if workers is None else workers,
                progress,
            )
            found = outcome_intervals(self._prepared, self.fit, drawn, wanted, level, how)
            text = f"{how.capitalize()} bootstrap intervals. {drawn.sentence}"
        if exponentiate:
            found = self._exponentiated_intervals(found)
            text += " Coefficients of the mean are exponentiated: "
            text += f"{RATIOS[self.design.parts[0].spec.link]}."
        return _frame(found, f"{100 * level:g}% intervals. {text}", level)

    def structure_parameters(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Parameters of structured random effects: rho of ``ar1``, ranges, loadings of ``fa``.

        Returns
        -------
        Frame ``group, term, structure, parameter, kind, estimate, std_error, conf_low,
        conf_high``; no rows without such terms. Wald intervals, symmetric on the unconstrained
        scale.
        """
        found = of_generalized(self.design, self.fit, check_conf_level(conf_level))
        return frame_of_records(found, StructureParameter)

    def _wald(
        self, wanted: Sequence[Parameter], level: float, df: str | None
    ) -> list[ParameterInterval]:
        """Wald intervals; coefficients of the mean with the chosen degrees of freedom."""
        found = list(wald_intervals(self._prepared, self.fit, wanted, level))
        if df is None:
            return found
        effects = part_effects(self.design, self.fit, mean_part(self.design))
        approach = effects_df(effects, check_generalized_df(df))
        tests = row_tests(
            effects, approach, coefficient_hypothesis(effects.names), conf_level=level
        )
        for k, i in enumerate(found):
            if i.parameter.block == -1 and i.parameter.a < effects.n_fixed and i.status == OK:
                row = tests.rows[i.parameter.a]
                found[k] = replace(i, conf_low=row.conf_low, conf_high=row.conf_high)
        return found

    def _profiled(self, wanted: Sequence[Parameter], level: float) -> list[ParameterInterval]:
        """Profile intervals; Wald standard errors only set the first step of each search."""
        steps = wald_intervals(self._prepared, self.fit, wanted, level)
        return [
            profile_interval(self._prepared, self.fit, q, level, step.std_error)
            for q, step in zip(wanted, steps, strict=True)
        ]

    def _exponentiated_intervals(
        self, found: Sequence[ParameterInterval]
    ) -> list[ParameterInterval]:
        """Coefficients of the mean as ratios."""
        spec, where = self.design.parts[0].spec, self.fit.fixed_slices[0]
        if spec.link not in RATIOS:
            raise InferenceError(
                "exponentiate=True needs the logit, log or cloglog link.",
                f"the {spec.link} link",
                "leave exponentiate out",
            )
        return [
            replace(
                i,
                estimate=float(np.exp(i.estimate)),
                std_error=float(np.exp(i.estimate)) * i.std_error,
                conf_low=float(np.exp(i.conf_low)),
                conf_high=float(np.exp(i.conf_high)),
            )
            if i.parameter.block == -1 and where.start <= i.parameter.a < where.stop
            else i
            for i in found
        ]

    def bootstrap(
        self,
        n_boot: int = 1000,
        *,
        seed: int = 0,
        kind: GeneralizedBootstrapKind = "parametric",
        workers: int = 1,
        progress: Telling = None,
    ) -> pd.DataFrame:
        """Refit the model to ``n_boot`` drawn data sets: one row per replicate.

        Columns ``replicate, status, criterion``, then one per parameter: the name of a
        coefficient or natural parameter, ``sd(term | group)``, ``cor(term, term | group)``.
        Status is ``ok``, ``singular``, ``not_certified`` or ``failed: reason`` (NaN).

        Parameters
        ----------
        kind : ``"parametric"`` draws from the fitted model; ``"cluster"`` draws whole clusters
            (nested factors).
        seed : the numbers depend on it only.
        workers : processes; in a script, call beneath ``if __name__ == "__main__":``.
        progress : True tells on stderr how far it is; or a function of ``(done, total)``.
        """
        drawn = self._bootstrap(n_boot, seed, kind, workers, progress)
        columns: dict[str, object] = {
            "replicate": np.arange(n_boot),
            "status": list(drawn.status),
            "criterion": drawn.criterion,
        }
        for q in parameters(self.design, self.fit, check_components(None)):
            short = _SHORT[q.component]
            name = f"{short}({q.term} | {q.group})" if short else q.term
            if name in columns:
                name = f"{q.group}: {name}"
            columns[name] = drawn.values(self._prepared, self.fit, q)
        frame = pd.DataFrame(columns)
        frame.attrs["sentence"] = drawn.sentence
        return frame

    def _bootstrap(
        self, n_boot: int, seed: int, kind: str, workers: int, progress: Telling
    ) -> OutcomeBootstrap:
        return bootstrap_outcomes(
            self._prepared,
            self.fit,
            n_boot,
            np.random.SeedSequence(seed),
            kind=kind,
            workers=workers,
            progress=teller(progress, "bootstrap"),
        )


def _frame(found: Sequence[ParameterInterval], text: str, level: float) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "term": [i.parameter.term for i in found],
            "group": [i.parameter.group for i in found],
            "component": [i.parameter.component for i in found],
            "estimate": [i.estimate for i in found],
            "std_error": [i.std_error for i in found],
            "conf_low": [i.conf_low for i in found],
            "conf_high": [i.conf_high for i in found],
            "status": [i.status for i in found],
        }
    )
    notes = [
        f"{i.parameter.component} {i.parameter.term}: {i.status}." for i in found if i.status != OK
    ]
    frame.attrs["sentence"] = " ".join([text, *notes])
    frame.attrs["conf_level"] = level
    return frame
