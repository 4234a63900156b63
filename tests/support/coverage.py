"""How often tests reject and intervals cover, by simulation with known truth.

20 clusters of 3 to 9 rows, ``y = 1 + 0 w + 0.3 x + u + e`` with w between clusters and x within,
Var(u) = 0.5, Var(e) = 1. ``python -m tests.support.coverage`` makes the table of the docs page
(tests/unit/infer/coverage.csv); the test runs fewer samples of another seed.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import multilevel as mlm
from multilevel.estimate.fit import solve
from multilevel.estimate.posterior import evaluated
from multilevel.estimate.prepare import with_response
from multilevel.infer.bootstrap import bootstrap
from multilevel.infer.bootstrap_draws import row_statistics
from multilevel.infer.bootstrap_intervals import bootstrap_intervals
from multilevel.infer.linear_hypothesis import Hypothesis
from multilevel.infer.means_tests import approach_of, row_tests
from multilevel.infer.profile_criterion import held_criterion
from multilevel.infer.variance_intervals import quantities, wald_intervals
from multilevel.likelihood.gaussian.batch import fit_responses

TABLE = Path(__file__).parents[1] / "unit" / "infer" / "coverage.csv"
CLUSTERS, SEED = 20, 20_261_123
BETA, TAU, SIGMA = np.array([1.0, 0.0, 0.3]), np.sqrt(0.5), 1.0
DF = ("satterthwaite", "kenward-roger", "between-within", "residual", "none")
INTERVALS = ("percentile", "basic", "bias-corrected")
CHI2 = 3.841458820694124  # 95% quantile, one degree of freedom
TITLES = {"w": "slope of w", "tau": "SD between clusters", "sigma": "residual SD"}


@dataclass(frozen=True)
class Rate:
    """How often something happened: ``size`` of a test or ``coverage`` of a 95% interval."""

    what: str
    quantity: str
    method: str
    hits: int
    n: int

    @property
    def rate(self) -> float:
        return self.hits / self.n

    @property
    def key(self) -> tuple[str, str, str]:
        return self.what, self.quantity, self.method


class Setting:
    """One set of rows; responses are drawn anew."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)  # the rows are the same for every seed of responses
        self.g = np.repeat(np.arange(CLUSTERS), rng.integers(3, 10, CLUSTERS))
        w = rng.standard_normal(CLUSTERS)
        n = len(self.g)
        data = {"g": self.g, "w": w[self.g], "x": rng.standard_normal(n)}
        data["y"] = rng.standard_normal(n) + rng.standard_normal(CLUSTERS)[self.g]
        full, short = "y ~ w + x + (1 | g)", "y ~ x + (1 | g)"
        self.reml = mlm.fit(full, data, advice=False)._prepared
        self.ml = mlm.fit(full, data, method="ml", advice=False)._prepared
        self.ml_short = mlm.fit(short, data, method="ml", advice=False)._prepared

    def draw(self, n_sim: int, rng: np.random.Generator) -> np.ndarray:
        """Responses (n, n_sim)."""
        u = TAU * rng.standard_normal((CLUSTERS, n_sim))
        e = SIGMA * rng.standard_normal((len(self.g), n_sim))
        return (self.reml.design.X @ BETA)[:, None] + u[self.g] + e


def fitted(prepared, Y):
    """Problem and fit of every response, started from the optima of one compiled batch."""
    drawn = row_statistics(prepared, Y)
    mapping, reml = prepared.design.blocks[0].structure, prepared.method == "reml"
    batch = fit_responses(prepared.cross, mapping, drawn, np.array([TAU / SIGMA]), reml)
    for k in range(Y.shape[1]):
        problem = replace(prepared, cross=drawn.cross_products(prepared.cross, k))
        start = batch.theta[k] if batch.is_interior[k] else None
        yield problem, solve(problem, theta_start=start)


def tests_of(problem, fit) -> dict[tuple[str, str, str], bool]:
    """Whether each t test of w rejects at 5%."""
    objective = evaluated(problem, fit)
    hypothesis = Hypothesis(("w",), np.array([[0.0, 1.0, 0.0]]), np.zeros(1))
    out = {}
    for df in DF:
        row = row_tests(fit, approach_of(problem, fit, objective, df), hypothesis).rows[0]
        out["size", "w", df] = row.p_value < 0.05
        out["coverage", "w", f"Wald, df {df}"] = row.conf_low <= BETA[1] <= row.conf_high
    return out


def variance_quantities(problem):
    found = quantities(problem.design, ("sd",))
    return {"tau": (found[0], TAU), "sigma": (found[1], SIGMA)}


def likelihood_of(problem, fit) -> dict[tuple[str, str, str], bool]:
    """Wald and profile intervals of the SDs: is the truth inside?

    A profile interval holds a value if the criterion there rises by no more than the quantile.
    """
    wanted = variance_quantities(problem)
    objective = evaluated(problem, fit)
    wald = wald_intervals(problem, fit, objective, [q for q, _ in wanted.values()], 0.95)
    out = {}
    for (name, (q, truth)), interval in zip(wanted.items(), wald, strict=True):
        # at the boundary there is no upper limit
        high = np.inf if np.isnan(interval.conf_high) else interval.conf_high
        out["coverage", name, "Wald, log scale"] = interval.conf_low <= truth <= high
        rise = held_criterion(problem, fit, q).minimum(truth) - fit.criterion
        out["coverage", name, "profile (REML)"] = rise <= CHI2
    return out


def bootstrapped_of(problem, fit, n_boot, seed) -> dict[tuple[str, str, str], bool]:
    """Parametric bootstrap intervals of w and of the SDs: is the truth inside?"""
    drawn = bootstrap(problem, fit, n_boot, seed, batched=True)
    truths = {"w": (quantities(problem.design, ("fixed",))[1], BETA[1])}
    truths |= variance_quantities(problem)
    out = {}
    for how in INTERVALS:
        found = bootstrap_intervals(drawn, fit, [q for q, _ in truths.values()], 0.95, how)
        for (name, (_, truth)), i in zip(truths.items(), found, strict=True):
            out["coverage", name, f"bootstrap, {how}"] = i.conf_low <= truth <= i.conf_high
    return out


def simulate(n_tests: int, n_likelihood: int, n_outer: int, n_boot: int, seed: int) -> list[Rate]:
    """All rates.

    Parameters
    ----------
    n_tests, n_likelihood, n_outer : samples for tests, for Wald and profile intervals of SDs, and
        for bootstrap intervals of ``n_boot`` replicates each; of the same draws.
    """
    setting, rng = Setting(), np.random.default_rng(seed)
    Y = setting.draw(max(n_tests, n_likelihood, n_outer), rng)
    seeds = np.random.SeedSequence(seed).spawn(n_outer)
    counts: dict[tuple[str, str, str], list[bool]] = {}
    for k, (problem, fit) in enumerate(fitted(setting.reml, Y)):
        found = tests_of(problem, fit) if k < n_tests else {}
        if k < n_likelihood:
            found |= likelihood_of(problem, fit)
        if k < n_outer:
            found |= bootstrapped_of(problem, fit, n_boot, seeds[k])
        for key, hit in found.items():
            counts.setdefault(key, []).append(bool(hit))
    full = [fit.criterion for _, fit in fitted(setting.ml, Y[:, :n_likelihood])]
    short = [fit.criterion for _, fit in fitted(setting.ml_short, Y[:, :n_likelihood])]
    # w is 0 in truth: held there, the model is the one without it (criteria in user's units)
    counts["coverage", "w", "profile (ML)"] = list(np.subtract(short, full) <= CHI2)
    return [Rate(*key, sum(hits), len(hits)) for key, hits in counts.items()]


def crossed(n_outer: int, n_boot: int, seed: int) -> list[Rate]:
    """Coverage of pigeonhole percentile intervals: 20 subjects, 15 items, a fifth of cells empty.

    ``y = 1 + 0.3 x + subject + item + e`` with variances 0.5, 0.5 and 1.
    """
    rng = np.random.default_rng(seed)
    a, b = (part.ravel() for part in np.meshgrid(np.arange(20), np.arange(15), indexing="ij"))
    kept = rng.random(a.size) < 0.8
    a, b = a[kept], b[kept]
    data = {"a": a, "b": b, "x": rng.standard_normal(a.size), "y": rng.standard_normal(a.size)}
    first = mlm.fit("y ~ x + (1 | a) + (1 | b)", data, advice=False)
    hits = np.zeros(2, dtype=int)
    for child in np.random.SeedSequence(seed).spawn(n_outer):
        u, v = TAU * rng.standard_normal(20)[a], TAU * rng.standard_normal(15)[b]
        y = 1 + 0.3 * data["x"] + u + v + rng.standard_normal(a.size)
        problem = with_response(first._prepared, y)
        fit = solve(problem)
        drawn = bootstrap(problem, fit, n_boot, child, kind="pigeonhole")
        found = bootstrap_intervals(drawn, fit, quantities(problem.design, ("fixed",)), 0.95)
        hits += [i.conf_low <= t <= i.conf_high for i, t in zip(found, (1.0, 0.3), strict=True)]
    names = ("crossed: intercept", "crossed: slope of x")
    return [
        Rate("coverage", name, "bootstrap, pigeonhole", int(h), n_outer)
        for name, h in zip(names, hits, strict=True)
    ]


def read() -> dict[tuple[str, str, str], Rate]:
    """The recorded table."""
    with TABLE.open(encoding="utf-8") as file:
        rows = [Rate(r["what"], r["quantity"], r["method"], int(r["hits"]), int(r["n"]))
                for r in csv.DictReader(file)]  # fmt: skip
    return {rate.key: rate for rate in rows}


def lines(rates: list[Rate]) -> list[str]:
    """Rows of the tables of the docs page."""
    out = []
    for r in rates:
        error = 100 * np.sqrt(r.rate * (1 - r.rate) / r.n)
        first = "" if r.what == "size" else f"| {TITLES.get(r.quantity, r.quantity)} "
        out.append(f"{first}| {r.method} | {100 * r.rate:.1f} | {error:.1f} | {r.n:,} |")
    return out


def main() -> None:
    rates = sorted(simulate(3_000, 1_500, 500, 199, SEED), key=lambda r: (r.what, r.quantity))
    rates += crossed(120, 99, SEED)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "quantity", "method", "hits", "n"])
        writer.writerows([*r.key, r.hits, r.n] for r in rates)
    sys.stdout.write("\n".join(lines(rates)) + "\n")


if __name__ == "__main__":
    main()
