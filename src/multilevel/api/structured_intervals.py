"""Intervals of a fit with structured residuals: Wald, profile, bootstrap, robust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.intervals import IntervalMethod
from multilevel.api.progress import Telling, teller
from multilevel.api.structured_holder import StructuredHolder, refuse
from multilevel.errors import InferenceError
from multilevel.estimate.structured_profile import fixed_profile_limits
from multilevel.infer.bootstrap import Bootstrap, BootstrapKind
from multilevel.infer.bootstrap_intervals import bootstrap_intervals, check_interval, limits
from multilevel.infer.distributions import normal_quantile
from multilevel.infer.residual_bootstrap import structured_bootstrap
from multilevel.infer.residual_intervals import ResidualParameter, profiled_parameters
from multilevel.infer.residual_profile import check_profiled, sd_intervals
from multilevel.infer.residual_robust import structured_robust
from multilevel.infer.robust import RobustCovariance
from multilevel.infer.variance_intervals import quantities
from multilevel.interpret.intraclass import check_level

#: Options of ``confint`` by method.
_OPTIONS = {
    "wald": {"conf_level", "df"},
    "profile": {"conf_level", "components"},
    "bootstrap": {"conf_level", "n_boot", "seed", "kind", "interval", "progress"},
}
_COLUMNS = ["term", "component", "estimate", "std_error", "conf_low", "conf_high"]


class StructuredIntervalMethods(StructuredHolder):
    """Intervals of fixed effects, variances and residual parameters."""

    def confint(self, method: str = "wald", **options: Any) -> pd.DataFrame:
        """Intervals of the fixed effects and the residual parameters.

        Parameters
        ----------
        method : ``"wald"`` (``df`` as in ``coefficients``); ``"profile"``: residual parameters
            and standard deviations by the criterion that was fitted, and fixed effects of a fit by
            ML (``components=`` chooses among ``"fixed", "residual", "sd"``);
            ``"bootstrap"`` (``n_boot, seed, kind,
            interval, progress`` as in ``MultilevelFit.confint``; ``kind`` is ``"parametric"`` or
            ``"cluster"``): standard deviations and correlations of random effects too.
        options : ``conf_level``, and what the method takes.

        Returns
        -------
        Frame ``term, component, estimate, std_error, conf_low, conf_high``; ``component`` is
        ``"fixed"``, ``"residual"``, ``"sd"`` or ``"correlation"``.

        Raises
        ------
        InferenceError : an unknown method, an option that it does not take.
        """
        stray = ", ".join(sorted(set(options) - _OPTIONS.get(method, set())))
        if method not in get_args(IntervalMethod) or stray:
            raise InferenceError(
                "The method must be 'wald', 'profile' or 'bootstrap', with options of its own.",
                f"method={method!r}{' with ' + stray if stray else ''}",
                "write confint('wald')",
            )
        level = check_level(options.pop("conf_level", 0.95))
        if method == "profile":
            return self._profile_intervals(level, options.get("components"))
        if method == "bootstrap":
            return self._bootstrap_intervals(level, **options)
        fixed = self.coefficients(df=options.get("df"), conf_level=level)
        fixed.insert(1, "component", "fixed")
        residual = self.residual_parameters(level)
        residual.insert(1, "component", "residual")
        out = pd.concat([fixed[_COLUMNS], residual[_COLUMNS]], ignore_index=True)
        out.attrs["sentence"] = (
            f"{100 * level:g}% Wald intervals: residual parameters on their unconstrained scale. "
            + str(fixed.attrs["sentence"])
        )
        return out

    def _profile_intervals(self, level: float, components: Any = None) -> pd.DataFrame:
        """Fixed effects of a fit by ML, residual parameters, then standard deviations."""
        wanted = check_profiled(components)
        found = [self._profiled_means(level, wanted)] if set(wanted) != {"sd"} else []
        if "sd" in wanted and self.design.blocks:
            found.append(self._profiled_sds(level))
        out = pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]
        out.attrs["sentence"] = " ".join(str(one.attrs["sentence"]) for one in found)
        return out

    def _profiled_sds(self, level: float) -> pd.DataFrame:
        intervals, why = sd_intervals(self._structured, self._prepared, self.fit, level)
        rows = [
            (
                f"{i.quantity.term} | {i.quantity.group}" if i.quantity.term else i.quantity.group,
                "sd", i.estimate, i.std_error, i.conf_low, i.conf_high,
            )
            for i in intervals
        ]  # fmt: skip
        out = pd.DataFrame(rows, columns=_COLUMNS)
        notes = [i.note for i in intervals if i.note]
        out.attrs["sentence"] = " ".join(["Standard deviations in units of the outcome.", *notes,
                                          *why])  # fmt: skip
        return out

    def _profiled_means(self, level: float, wanted: Sequence[str]) -> pd.DataFrame:
        """Fixed effects of a fit by ML, then the residual parameters where they have a profile."""
        z = float(normal_quantile(0.5 + level / 2.0))
        rows: list[tuple[str, str, float, float, float, float]] = []
        if self.fit.method == "ml" and "fixed" in wanted:
            for k, name in enumerate(self.design.names):
                low, high = fixed_profile_limits(self._structured, self.fit, self._psi, k, z)
                error = float(np.sqrt(self.fit.vcov_beta[k, k]))
                rows.append((name, "fixed", float(self.fit.beta[k]), error, low, high))
        fixed = pd.DataFrame(rows, columns=_COLUMNS)
        said = f"{100 * level:g}% profile intervals of the criterion."
        if "residual" not in wanted:
            fixed.attrs["sentence"] = said
            return fixed
        try:
            found = profiled_parameters(self._structured, self.fit, level)
        except InferenceError as error:
            if not rows and not self.design.blocks:
                raise
            which = "Fixed effects only" if rows else "No residual parameters"
            fixed.attrs["sentence"] = f"{said} {which}: {error.found}."
            return fixed
        residual = frame_of_records(found, ResidualParameter)
        residual.insert(1, "component", "residual")
        out = residual[_COLUMNS]
        if rows:
            out = pd.concat([fixed, out], ignore_index=True) if len(out) else fixed
        elif self.design.names:
            said += " Fixed effects have a profile under ML only: update(method='ml')."
        out.attrs["sentence"] = said
        return out

    def _bootstrap_intervals(
        self, level: float, interval: str = "percentile", **options: Any
    ) -> pd.DataFrame:
        how = check_interval(interval)
        drawn = self._structured_bootstrap(
            options.get("n_boot", 1000), options.get("seed", 0),
            options.get("kind", "parametric"), options.get("progress"),
        )  # fmt: skip
        which = quantities(self.design, ("fixed", "sd", "correlation"))
        rows: list[tuple[str, str, float, float, float, float]] = [
            (
                f"{i.quantity.term} | {i.quantity.group}".strip(" |"),
                i.quantity.component, i.estimate, i.std_error, i.conf_low, i.conf_high,
            )
            for i in bootstrap_intervals(drawn, self.fit, which, level, how)
        ]  # fmt: skip
        record = self.fit.residual
        if record is not None:
            for k, name in enumerate(record.names):
                estimate = float(record.estimates[k])
                edges = (-1.0, 1.0) if name.startswith(("rho", "cor(")) else (-np.inf, np.inf)
                found = limits(drawn.observed[drawn.is_used, k], estimate, level, how, edges)
                rows.append((name, "residual", estimate, found.std_error, found.low, found.high))
        out = pd.DataFrame(rows, columns=_COLUMNS)
        out.attrs["sentence"] = f"{100 * level:g}% {how} bootstrap intervals. {drawn.sentence}"
        return out

    def bootstrap(
        self, n_boot: int = 1000, *, seed: int = 0, kind: BootstrapKind = "parametric",
        workers: int = 1, progress: Telling = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Refit the model to ``n_boot`` drawn data sets: one row per replicate.

        Columns as in ``MultilevelFit.bootstrap``, then the residual parameters. ``kind`` is
        ``"parametric"`` (new random effects and residuals from the fitted model) or ``"cluster"``
        (whole clusters of the coarsest factor, or units of the residual structure). Refits run in
        this process: ``workers`` must be 1.
        """
        if workers != 1:
            refuse(f"workers={workers}", "leave workers out")
        drawn = self._structured_bootstrap(n_boot, seed, kind, progress)
        columns: dict[str, object] = {
            "replicate": np.arange(n_boot), "status": list(drawn.status),
            "criterion": drawn.criterion,
        }  # fmt: skip
        for q in quantities(self.design, ("fixed", "sd", "correlation")):
            where = f"{q.term} | {q.group}" if q.term else q.group
            short = {"fixed": "", "sd": "sd", "correlation": "cor"}[q.component]
            columns[f"{short}({where})" if short else q.term] = drawn.values(q)
        if self.fit.residual is not None:
            for k, name in enumerate(self.fit.residual.names):
                columns[name] = drawn.observed[:, k]
        frame = pd.DataFrame(columns)
        frame.attrs["sentence"] = drawn.sentence
        return frame

    def _structured_bootstrap(
        self, n_boot: int, seed: int, kind: str, progress: Telling
    ) -> Bootstrap:
        return structured_bootstrap(
            self._structured, self.fit, self._joint_objective().whitener, n_boot,
            np.random.SeedSequence(seed), kind=kind, progress=teller(progress, "bootstrap"),
        )  # fmt: skip

    def _robust_covariance(self, type: str | None, cluster: Any) -> RobustCovariance:
        return structured_robust(
            self._structured, self.fit, self._joint_objective(), self._psi, type=type,
            cluster=cluster,
        )  # fmt: skip
