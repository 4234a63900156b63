"""Writes docs/benchmarks.md and its plots from one results file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import plots, verdict
from benchmarks.peers import OURS, PEERS
from benchmarks.verdict import Record, seconds, times
from benchmarks.workloads import SECTIONS

_TITLES = {peer.name: peer.title for peer in PEERS}

_HOW = """\
Every program fits the same table, in a process of its own, one after the other, with the same
number of threads. A time is the median of repeated whole calls, from a table in memory (each
program's own kind: pandas, polars, an R data frame with factors, plain arrays) to a fit; reading
files is not counted, building designs is. The first call is a warm-up and is left out, unless it
took longer than 15 s. Memory is the peak during the fits above what was resident with the data
loaded.

A fast fit counts only if it is right. So the exact criterion is computed again from the estimates
that each program returned, by code that shares nothing with any of them; *above best* is its
distance from the lowest criterion that any program reached for the same model. Within
{tolerance:g} the verdict is *optimum*. Where a program prints a criterion that differs from the
exact value at its own estimates by more than that, the table says so.

GPBoost has neither REML nor covariances between random effects. It is compared with our fit of
the model it does have (maximum likelihood, independent slopes): its ratios and criteria refer to
that.

Models that no other program here has are timed alone. glmmTMB lets the residual variance depend on
predictors, without random effects of its own that go with those of the mean, so the location-scale
models have nobody beside them (brms samples from a posterior, so there is no maximum to compare;
MixWILD has to be installed by hand). A structural
model with random slopes is the stacked regression of both outcomes in nlme and glmmTMB, whose
table is stacked before the clock starts; for lavaan's default call the fair comparison is ours with
chi-square and fit indices, for its call without tests it is ours."""


def write(source: Path, target: Path) -> None:
    """Write the page for the results in ``source`` to ``target``, plots to ``assets`` beside it."""
    result = json.loads(source.read_text())
    records: list[Record] = result["records"]
    if result["scale"] != 1.0:
        records = [{**r, "target": None} for r in records]
    assets = target.parent / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Benchmarks",
        "<!-- written by `python -m benchmarks table`; change the program, not this page -->",
        _opening(result),
        "## Summary",
        _summary(records),
    ]
    if plots.overview(records, assets):
        parts.append("![Seconds by workload and program](assets/benchmarks.svg)")
    parts += ["## How it is measured", _HOW.format(tolerance=verdict.TOLERANCE), _notes(result)]
    parts += _scaling(records, assets)
    for section, heading in SECTIONS.items():
        mine = verdict.names(records, section)
        if mine:
            parts.append(f"## Every workload: {heading[0].lower()}{heading[1:]}")
            parts += [_workload(records, name) for name in mine]
    target.write_text("\n\n".join(part for part in parts if part) + "\n")


def _opening(result: dict[str, Any]) -> str:
    machine = result["machine"]
    text = (
        f"Measured {result['date']} on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.0f} GB, {machine['system']}; "
        f"threads for every program: {next(iter(result['threads'].values()))}"
    )
    text += f"; commit {machine['commit']}." if machine["commit"] else "."
    if result["scale"] != 1.0:
        text += (
            f"\n\n**A trial run at {result['scale']:g} of the rows: the times below say nothing "
            "about the workloads in full size, and targets do not apply.**"
        )
    load = max((r["load"] for r in result["records"]), default=0.0)
    if load > 1.5 * float(next(iter(result["threads"].values()))):
        text += (
            f"\n\n**The machine was not quiet (load up to {load:.1f}): compare ratios with care.**"
        )
    return text


def _summary(records: list[Record]) -> str:
    parts = []
    for section, heading in SECTIONS.items():
        if verdict.names(records, section):
            parts += [f"### {heading}", _summary_of(records, section)]
    parts.append(
        "*Ratio*: the other program's seconds over ours for the same model; "
        "under 1 the other program is faster. *None*: no other program here fits this model, or "
        "none reached its optimum in time."
    )
    return "\n\n".join(parts)


def _summary_of(records: list[Record], section: str) -> str:
    rows = []
    for line in verdict.summary(records, section):
        ours = line.ours
        time = seconds(ours["median"]) if ours and "median" in ours else "not measured"
        if ours is not None and not verdict.reached(ours):
            time += f" ({verdict.sentence(ours)})"
        best, factor = "none", ""
        if line.best is not None:
            model = ", its model" if line.best["variant"] == "gpboost" else ""
            best = f"{_TITLES[line.best['peer']]}{model}, {seconds(line.best['median'])}"
            factor = times(line.ratio or 0.0)
        rows.append([line.title, time, line.target_words, best, factor])
    header = ["workload", "multilevel", "target", "fastest other program at the optimum", "ratio"]
    return _table(header, rows, "llllr")


def _notes(result: dict[str, Any]) -> str:
    versions = []
    for key, where in (("ours", "multilevel's environment"), ("peers", "peers'"), ("R", "R")):
        found = result["machine"][key]
        if found:
            listed = ", ".join(f"{name} {version}" for name, version in found.items())
            versions.append(f"{where}: {listed}")
    threads = ", ".join(f"`{name}={value}`" for name, value in result["threads"].items())
    lines = [
        f"- Versions. {'; '.join(versions)}.",
        f"- Threads. {threads}.",
        f"- Limits. {result['timeout']:g} s for one fit, {result['memory_limit_gb']:g} GB of "
        f"address space for one program; at least {result['repeats']} repeats of short fits.",
    ]
    lines += [f"- {peer.title}. {peer.note}." for peer in PEERS if peer.note]
    return "\n".join(lines)


def _scaling(records: list[Record], assets: Path) -> list[str]:
    headings = {
        "scaling_rows": ("Time against rows", "1 000 groups, `y ~ x1 + (x1 | g)`, REML", "rows"),
        "scaling_groups": ("Time against groups", "10 rows a group, the same model", "groups"),
    }
    parts = []
    for family, (heading, what, axis) in headings.items():
        slopes = plots.scaling(records, family, axis, assets)
        if not slopes:
            continue
        rows = [
            [
                _TITLES[name],
                f"{s.slope:.2f}",
                f"{s.largest:,}".replace(",", " "),
                seconds(s.seconds),
            ]
            for name, s in slopes.items()
        ]
        table = _table(["program", "slope", f"largest: {axis}", "seconds there"], rows, "lrrr")
        parts.append(f"## {heading}")
        parts.append(f"{what}. A curve ends where a fit failed or met the time limit.")
        parts.append(f"![{heading}](assets/{family}.svg)")
        parts.append(f"{table}\n\n*Slope*: of log seconds on log {axis}, the last four points.")
    return parts


def _workload(records: list[Record], name: str) -> str:
    mine = verdict.ordered(records, name)
    rows = []
    for record in mine:
        factor = verdict.ratio(records, record)
        above = record.get("above_best")
        memory = record.get("memory_above_data")
        rows.append(
            [
                _TITLES[record["peer"]],
                record["method"].upper(),
                seconds(record["median"]) if "median" in record else "",
                "1" if record["peer"] == OURS else "" if factor is None else times(factor),
                "" if memory is None else f"{memory / 1e6:.0f} MB",
                "" if above is None else "0" if above < 1e-6 else f"{above:.1e}",
                verdict.sentence(record),
            ]
        )
    header = ["program", "method", "seconds", "ratio", "memory", "above best", "verdict"]
    formulas = list(dict.fromkeys(f"`{r['formula']}`" for r in mine))
    return f"### {mine[0]['title']}\n\n{'; for GPBoost '.join(formulas)}\n\n" + _table(
        header, rows, "llrrrrl"
    )


def _table(header: list[str], rows: list[list[str]], align: str) -> str:
    marks = {"l": ":--", "r": "--:"}
    cells = [header, [marks[a] for a in align], *[[c.replace("|", "\\|") for c in r] for r in rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
