"""Methods of a fit: intervals of all its parameters, and bootstraps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from multilevel.api.frames import frame_of_records
from multilevel.api.holder import FitHolder
from multilevel.api.progress import Telling, teller
from multilevel.errors import InferenceError
from multilevel.infer.bootstrap import Bootstrap, BootstrapKind, bootstrap, check_component
from multilevel.infer.bootstrap_intervals import IntervalKind, bootstrap_intervals, check_interval
from multilevel.infer.degrees_of_freedom import DfMethod, check_df, default_df
from multilevel.infer.means_tests import approach_of, coefficient_hypothesis, row_tests
from multilevel.infer.profile import profile_interval
from multilevel.infer.variance_intervals import (
    STRUCTURAL,
    Component,
    Interval,
    Quantity,
    check_conf_level,
    quantities,
    wald_intervals,
)
from multilevel.interpret.random_structures import StructureParameter, of_fit

IntervalMethod = Literal["wald", "profile", "bootstrap"]
COMPONENTS: tuple[Component, ...] = get_args(Component)


def intervals_frame(found: Sequence[Interval]) -> pd.DataFrame:
    """Intervals as a frame, the columns as in ``confint``."""
    return pd.DataFrame(
        {
            "term": [i.quantity.term for i in found],
            "group": [i.quantity.group for i in found],
            "component": [i.quantity.component for i in found],
            "estimate": [i.estimate for i in found],
            "std_error": [i.std_error for i in found],
            "conf_low": [i.conf_low for i in found],
            "conf_high": [i.conf_high for i in found],
        }
    )


def _check_components(components: Sequence[str] | None) -> tuple[Component, ...]:
    if components is None:
        return ("fixed", "sd", "correlation", *STRUCTURAL)
    wanted = [components] if isinstance(components, str) else list(components)
    unknown = [c for c in wanted if c not in COMPONENTS]
    if unknown or not wanted:
        raise InferenceError(
            f"components must be among {', '.join(map(repr, COMPONENTS))}.",
            repr(components),
            'write components=["fixed", "sd", "correlation"], which is the default',
        )
    return tuple(c for c in COMPONENTS if c in wanted)


@dataclass(frozen=True)
class _BootstrapOptions:
    n_boot: int
    seed: int
    kind: str
    workers: int
    progress: Telling


class IntervalMethods(FitHolder):
    """Wald, profile and bootstrap intervals."""

    def confint(
        self,
        method: IntervalMethod = "wald",
        *,
        components: Sequence[str] | None = None,
        conf_level: float = 0.95,
        df: DfMethod | None = None,
        n_boot: int | None = None,
        seed: int | None = None,
        kind: BootstrapKind | None = None,
        interval: IntervalKind | None = None,
        workers: int | None = None,
        progress: Telling = None,
    ) -> pd.DataFrame:
        """Intervals of fixed effects, SDs and correlations (and variances, covariances).

        Parameters
        ----------
        method : ``"wald"``: fixed effects by t or z, SDs and variances on the log scale,
            correlations on Fisher's z scale. ``"profile"``: by the criterion that was fitted
            (fixed effects need an ML fit; under REML they are left out unless asked for).
            ``"bootstrap"``: from refits to drawn data.
        components : of ``"fixed", "variance", "sd", "covariance", "correlation"``, and of
            structures such as ``ar1`` and ``fa`` ``"range", "loading", "uniqueness"``; default all
            but variances and covariances. A residual row has group ``"Residual"``.
        df : degrees of freedom of Wald intervals of fixed effects (see ``coefficients``).
        n_boot, seed, kind, interval, workers, progress : for ``"bootstrap"`` only, as in
            ``bootstrap``; 1000 replicates, seed 0, ``"parametric"``, and ``"percentile"`` (or
            ``"basic"``, ``"bias-corrected"``).

        Returns
        -------
        Frame ``term, group, component, estimate, std_error, conf_low, conf_high``;
        ``attrs["sentence"]`` says what the intervals are, with a note for each that is one-sided.
        At a boundary (a variance of zero) a Wald interval has no upper limit; profile has one.

        Raises
        ------
        InferenceError : an option that the method does not have, an interval that does not exist.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> found = m.confint("profile", components=["sd"])
        >>> found[["group", "conf_low", "conf_high"]].round(2).to_numpy().tolist()
        [['school', 1.91, 2.5], ['Residual', 5.99, 6.19]]
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
        wanted = quantities(self.design, _check_components(components))
        if method == "wald":
            found, text = self._wald(wanted, level, df)
        elif method == "profile":
            if components is None and self.fit.method == "reml":
                wanted = tuple(q for q in wanted if q.component != "fixed")
            found, text = self._profiled(wanted, level)
        else:
            options = _BootstrapOptions(
                1000 if n_boot is None else n_boot,
                seed or 0,
                kind or "parametric",
                1 if workers is None else workers,
                progress,
            )
            if components is None and kind == "pigeonhole":
                wanted = tuple(q for q in wanted if q.component == "fixed")
            found, text = self._bootstrapped(wanted, level, interval or "percentile", options)
        frame = intervals_frame(found)
        notes = [f"{i.quantity.component} {i.quantity.term}: {i.note}" for i in found if i.note]
        frame.attrs["sentence"] = " ".join([f"{100 * level:g}% intervals. {text}", *notes])
        frame.attrs["conf_level"] = level
        return frame

    def structure_parameters(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """Parameters of structured random effects: rho of ``ar1``, ranges, loadings of ``fa``.

        Returns
        -------
        Frame ``group, term, structure, parameter, kind, estimate, std_error, conf_low,
        conf_high``; no rows without such terms. Wald intervals, symmetric on the unconstrained
        scale; those of loadings and uniquenesses are in ``confint``.
        """
        found = of_fit(self.design.blocks, self.fit, check_conf_level(conf_level))
        return frame_of_records(found, StructureParameter)

    def _wald(
        self, wanted: tuple[Quantity, ...], level: float, df: DfMethod | None
    ) -> tuple[list[Interval], str]:
        """Wald intervals; fixed effects with the chosen degrees of freedom."""
        objective = self._objective()
        found = list(wald_intervals(self._prepared, self.fit, objective, wanted, level))
        text = "Wald: SDs and variances on the log scale, correlations on Fisher's z scale."
        if any(q.component == "fixed" for q in wanted):
            name = default_df(self.fit.method) if df is None else check_df(df)
            tests = row_tests(
                self.fit,
                approach_of(self._prepared, self.fit, objective, name),
                coefficient_hypothesis(self.design.names),
                conf_level=level,
                was_default=df is None,
            )
            text += f" Fixed effects: {tests.sentence}"
            found = [
                replace(
                    i,
                    std_error=tests.rows[i.quantity.a].std_error,
                    conf_low=tests.rows[i.quantity.a].conf_low,
                    conf_high=tests.rows[i.quantity.a].conf_high,
                )
                if i.quantity.component == "fixed"
                else i
                for i in found
            ]
        elif df is not None:
            raise InferenceError(
                "df is for intervals of fixed effects.",
                f"df={df!r} without fixed effects among the components",
                "leave df out",
            )
        return found, text

    def _bootstrapped(
        self,
        wanted: tuple[Quantity, ...],
        level: float,
        interval: str,
        options: _BootstrapOptions,
    ) -> tuple[list[Interval], str]:
        """Bootstrap intervals; what cannot be had is refused before the refits."""
        how = check_interval(interval)
        for q in wanted:
            check_component(options.kind, q.component)
        drawn = self._bootstrap(options)
        found = list(bootstrap_intervals(drawn, self.fit, wanted, level, how))
        return found, f"{how.capitalize()} bootstrap intervals. {drawn.sentence}"

    def _profiled(self, wanted: tuple[Quantity, ...], level: float) -> tuple[list[Interval], str]:
        """Profile intervals; the Wald standard error only sets the first step of the search."""
        steps = wald_intervals(self._prepared, self.fit, self._objective(), wanted, level)
        found = []
        for q, step in zip(wanted, steps, strict=True):
            guess = step.std_error
            if q.component == "variance" and step.estimate > 0.0:
                guess = guess / (2.0 * float(np.sqrt(step.estimate)))
            found.append(profile_interval(self._prepared, self.fit, q, level, guess).interval)
        which = "REML criterion" if self.fit.method == "reml" else "likelihood"
        return found, f"Profile of the {which}: where its signed root is the normal quantile."

    def bootstrap(
        self,
        n_boot: int = 1000,
        *,
        seed: int = 0,
        kind: BootstrapKind = "parametric",
        workers: int = 1,
        progress: Telling = None,
    ) -> pd.DataFrame:
        """Refit the model to ``n_boot`` drawn data sets: one row per replicate.

        Columns: ``replicate, status, criterion``, then one per parameter: the name of a fixed
        effect, ``sd(term | group)``, ``cor(term, term | group)``, ``sd(Residual)``. Status is
        ``ok``, ``singular``, ``not_certified`` or ``failed: reason`` (NaN).

        Parameters
        ----------
        kind : ``"parametric"`` draws from the fitted model; ``"residual"`` draws the estimated
            random effects and residuals, inflated to the estimated variances; ``"cluster"`` draws
            whole clusters; ``"pigeonhole"`` draws the levels of each crossed factor (Owen 2007;
            fixed effects only, slightly conservative).
        seed : the numbers depend on it only.
        workers : processes for refits that cannot be done in one compiled batch (several grouping
            factors, drawn clusters, fewer than 400 replicates); in a script, call beneath
            ``if __name__ == "__main__":``. Starting them takes a second or two.
        progress : True tells on stderr how far it is; or a function of ``(done, total)``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> m = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> m.bootstrap(20, seed=1)["status"].unique().tolist()
        ['ok']
        """
        drawn = self._bootstrap(_BootstrapOptions(n_boot, seed, kind, workers, progress))
        columns: dict[str, object] = {
            "replicate": np.arange(n_boot),
            "status": list(drawn.status),
            "criterion": drawn.criterion,
        }
        shown: tuple[Component, ...] = ("fixed", "sd", "correlation", *STRUCTURAL)
        for q in quantities(self.design, shown[:1] if kind == "pigeonhole" else shown):
            where = f"{q.term} | {q.group}" if q.term else q.group
            short = {"fixed": "", "sd": "sd", "correlation": "cor"}.get(q.component, q.component)
            columns[f"{short}({where})" if short else q.term] = drawn.values(q)
        frame = pd.DataFrame(columns)
        frame.attrs["sentence"] = drawn.sentence
        return frame

    def _bootstrap(self, options: _BootstrapOptions) -> Bootstrap:
        return bootstrap(
            self._prepared,
            self.fit,
            options.n_boot,
            np.random.SeedSequence(options.seed),
            kind=options.kind,
            workers=options.workers,
            progress=teller(options.progress, "bootstrap"),
        )
