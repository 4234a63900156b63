"""Mediation with a mediator or an outcome that is not Gaussian."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from multilevel.api.mediation_result import MediationResult
from multilevel.api.structural_mixed import MixedStructuralResult
from multilevel.errors import InferenceError
from multilevel.infer.structural import ParameterTests, defined_values, z_tests
from multilevel.infer.structural_mixed import mixed_covariance, of_table
from multilevel.infer.structural_monte_carlo import monte_carlo_intervals
from multilevel.interpret.mediation import MediationEffect, mediation_effects, mediation_sentences
from multilevel.interpret.structural_mixed_mediation import mediated_change
from multilevel.model.families.records import Family
from multilevel.model.structural.mediation import MediationPlan
from multilevel.model.structural.records import Parameter

_DROPPED = ("indirect_within :=", "total_within :=", "b_contextual :=", "indirect_contextual :=")


def plan_for_families(plan: MediationPlan, families: dict[str, Family]) -> MediationPlan:
    """The plan without products that have no unit: those through a mediator with a family."""
    if plan.m not in families:
        return plan
    lines = [line for line in plan.text.split("\n") if not line.startswith(_DROPPED)]
    return replace(plan, text="\n".join(lines))


class MixedMediationResult(MediationResult):
    """The answer to a mediation question with families. ``multilevel.mediate`` makes it.

    Attributes
    ----------
    plan : the design and the text of the model.
    model : the fitted ``MixedStructuralResult``.
    """

    model: MixedStructuralResult

    @cached_property
    def _found(self) -> tuple[tuple[MediationEffect, ...], tuple[str, ...]]:
        """Effects, and notes on how their intervals were made."""
        if self._interval != "monte_carlo":
            raise InferenceError(
                "Mediation with families= has Monte Carlo intervals.",
                f"interval={self._interval!r}",
                'write interval="monte_carlo"',
            )
        fit, mixed = self.model.fit, self.model.mixed
        full = mixed_covariance(mixed, self.model.std_errors)
        covariance = of_table(mixed, full)
        tests = z_tests(*defined_values(fit), covariance, self._conf_level)
        n_draws = 20_000 if self._n_draws is None else self._n_draws
        intervals = monte_carlo_intervals(
            fit, covariance, conf_level=self._conf_level, n_draws=n_draws,
            rng=np.random.default_rng(self._seed),
        )  # fmt: skip
        effects = mediation_effects([d.name for d in fit.model.defined], tests, intervals)
        notes = [full.sentence, f"{intervals.sentence} Seed {self._seed}."]
        if self._is_mediator_mixed and "within" in self.plan.levels:
            effects = (*self._through_mediator(), *effects)
            notes.append("Indirect and total effect within: intervals by the delta method.")
        return effects, tuple(notes)

    @property
    def _is_mediator_mixed(self) -> bool:
        return self.plan.m in self.model.mixed.layout.design.model.families

    def _row(self, lhs: str, rhs: str) -> Parameter:
        block = self.model.mixed.layout.design.model.models[0].block("within", 0)
        return next(p for p in block if (p.lhs, p.op, p.rhs) == (lhs, "~", rhs))

    def _through_mediator(self) -> tuple[MediationEffect, ...]:
        """Indirect and total effect within on the scale of y's linear predictor."""
        mixed, plan = self.model.mixed, self.plan
        found = mediated_change(mixed, self._row(plan.m, plan.x), self._row(plan.y, plan.m))
        direct = self._row(plan.y, plan.x)
        slope = found.gradient.copy()
        slope[direct.free] += 1.0
        values = np.array([found.estimate, found.estimate + mixed.theta[direct.free]])
        covariance = mixed_covariance(mixed, self.model.std_errors)
        tests = z_tests(values, np.stack([found.gradient, slope]), covariance, self._conf_level)
        return tuple(_effect(name, tests, k) for k, name in enumerate(("indirect", "total")))

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer in words: effects per level, and the scale that they are on."""
        design = self.model.mixed.layout.design
        plan = self.plan
        cluster = self.model.fit.model.cluster
        words = list(mediation_sentences(plan, self._found[0], cluster, self._conf_level))
        if plan.y in design.model.families:
            family = design.families[design.outcomes.index(plan.y)]
            ratios = ": their exponentials are odds ratios" if family.link == "logit" else ""
            words.append(
                f"All effects on {plan.y} are on its {family.link} scale ({family.label}){ratios},"
                " given the random effects of the cluster; they are not changes of its mean."
            )
        if self._is_mediator_mixed:
            link = design.families[design.outcomes.index(plan.m)].link
            words.append(
                f"Within, the indirect effect is the slope of {plan.m} times the change of its"
                f" mean for one more {plan.x}, averaged over rows and clusters: the product of the"
                f" two slopes has no unit, because the first is on the {link} scale. Between,"
                f" {plan.m} is its random intercept on the {link} scale, and its slope the effect"
                " of the cluster beyond that of the rows' own values (contextual)."
            )
        return tuple(words)


def _effect(name: str, tests: ParameterTests, k: int) -> MediationEffect:
    low, high = float(tests.conf_low[k]), float(tests.conf_high[k])
    columns = (tests.estimate, tests.std_error, tests.statistic, tests.p_value)
    estimate, error, z, p = (float(column[k]) for column in columns)
    return MediationEffect(name, "within", estimate, error, z, p, low, high, low, high)
