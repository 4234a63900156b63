"""Judging records: did a program reach the optimum, how do times compare, is a target met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.peers import OURS, OWN
from benchmarks.workloads import SECTIONS, WORKLOADS

Record = dict[str, Any]

# -2 log-likelihood units: a hundredth changes no test, interval or digit that anyone reports
TOLERANCE = 0.01


def reached(record: Record) -> bool:
    """Whether the estimates are at the best criterion that any program found for this model."""
    if record["status"] != "ok":
        return False
    return "above_best" not in record or record["above_best"] <= TOLERANCE


def misprint(record: Record) -> float:
    """How far the printed criterion is from the exact one at the program's own estimates."""
    if "criterion" not in record:
        return 0.0
    return abs(float(record["estimates"]["reported"]) - float(record["criterion"]))


def sentence(record: Record) -> str:
    """The verdict in words."""
    if record["status"] == "refused":
        return f"not fitted: {record['reason']}"
    if record["status"] != "ok":
        return str(record["status"]) + ": " + str(record.get("reason", "no message"))
    if "criterion" not in record:
        return ""
    words = "optimum" if reached(record) else f"**stops {record['above_best']:.2g} short**"
    if misprint(record) > TOLERANCE:
        words += f"; prints a criterion {misprint(record):.2g} off"
    return words


def find(records: list[Record], workload: str, peer: str, variant: str) -> Record | None:
    """The record of one job, if it was run."""
    for record in records:
        same = record["workload"] == workload and record["peer"] == peer
        if same and record["variant"] == variant:
            return record
    return None


def ratio(records: list[Record], record: Record) -> float | None:
    """Seconds of ``record`` over ours for the same variant of the same workload."""
    ours = find(records, record["workload"], OURS, record["variant"])
    if ours is None and record["operation"] != "fit":
        ours = find(records, record["workload"], OURS, "asked")
    if ours is None or "median" not in ours or "median" not in record:
        return None
    return float(record["median"]) / float(ours["median"])


@dataclass(frozen=True)
class Line:
    """One workload in the summary: us, the target, and the best peer that is also right."""

    title: str
    ours: Record | None
    target: float | None
    best: Record | None
    ratio: float | None

    @property
    def target_words(self) -> str:
        """Target met or missed, by how much."""
        if self.target is None:
            return "none set"
        if self.ours is None or "median" not in self.ours:
            return f"{seconds(self.target)}: not measured"
        share = self.ours["median"] / self.target
        if share <= 1.0:
            return f"{seconds(self.target)}: met"
        return f"{seconds(self.target)}: **missed**, {share:.2g} times over"


def names(records: list[Record], section: str | None = None) -> list[str]:
    """Workloads outside the scaling plots, in the page's order; those of one section, or all."""
    heads = list(SECTIONS)
    order = sorted(WORKLOADS, key=lambda w: heads.index(w.section))
    found = {r["workload"] for r in records if not r["family"]}
    return [w.name for w in order if w.name in found and section in (None, w.section)]


def ordered(records: list[Record], workload: str) -> list[Record]:
    """Records of a workload: the model as asked before GPBoost's, us first, then by speed."""
    mine = [r for r in records if r["workload"] == workload]
    return sorted(
        mine,
        key=lambda r: (r["variant"], r["peer"] != OURS, float(r.get("median", float("inf")))),
    )


def summary(records: list[Record], section: str | None = None) -> list[Line]:
    """A line for each workload outside the scaling plots; those of one section, or all."""
    lines = []
    for name in names(records, section):
        mine = [r for r in records if r["workload"] == name]
        ours = find(records, name, OURS, "asked")
        rivals = [
            r for r in mine
            if r["peer"] not in OWN
            and "median" in r and reached(r) and ratio(records, r) is not None
        ]  # fmt: skip
        best = min(rivals, key=lambda r: ratio(records, r) or 0.0, default=None)
        lines.append(
            Line(
                mine[0]["title"],
                ours,
                mine[0]["target"],
                best,
                None if best is None else ratio(records, best),
            )
        )
    return lines


def times(value: float) -> str:
    """A ratio: ``0.43``, ``7.4``, ``210``."""
    return f"{value:.2g}" if value < 100.0 else f"{value:.0f}"


def seconds(value: float) -> str:
    """A time as people say it: ``1.9 ms``, ``0.31 s``, ``25 s``."""
    if value < 0.1:
        return f"{1000.0 * value:.2g} ms"
    return f"{value:.2g} s" if value < 100.0 else f"{value:.0f} s"
