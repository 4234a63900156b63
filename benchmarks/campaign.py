"""A whole run: every selected program on every selected workload, saved after each workload."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, peers, workloads
from benchmarks.peers import Peer
from benchmarks.runner import Settings, judge, run_job
from benchmarks.workloads import Workload


def run(
    names: list[str] | None,
    peer_names: list[str] | None,
    settings: Settings,
    out: Path,
    merge: bool,
) -> None:
    """Measure and write ``out``. With ``merge`` records of other jobs in ``out`` are kept."""
    chosen = workloads.select(names or [w.name for w in workloads.WORKLOADS], settings.scale)
    selected = peers.select(peer_names)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "scale": settings.scale,
        "repeats": settings.repeats,
        "timeout": settings.timeout,
        "memory_limit_gb": settings.memory_gb,
        "threads": settings.thread_environment(),
        "machine": machine.describe(settings.ours, settings.peers, settings.rscript),
        "records": [],
    }
    if merge and out.exists():
        result["records"] = _earlier(out, result)
    gave_up: set[tuple[str, str]] = set()
    for workload in chosen:
        settings.log(f"{workload.name}: {workload.title}")
        fresh = _run_workload(workload, selected, settings, gave_up)
        done = {(r["workload"], r["peer"], r["variant"]) for r in fresh}
        kept = [
            r for r in result["records"] if (r["workload"], r["peer"], r["variant"]) not in done
        ]
        same = [r for r in kept if r["workload"] == workload.name]
        judge(workload, same + fresh, settings)
        result["records"] = kept + fresh
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    settings.log(f"results in {out.name}")


def _earlier(out: Path, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of a file that may be compared with this run: same machine, threads and scale."""
    old = json.loads(out.read_text())
    fixed = ("scale", "threads")
    differs = [key for key in fixed if old[key] != result[key]]
    differs += [
        key for key in ("processor", "cores") if old["machine"][key] != result["machine"][key]
    ]
    if differs:
        raise SystemExit(f"{out.name} was made with another {', '.join(differs)}: use a new file")
    return list(old["records"])


def _run_workload(
    workload: Workload, selected: list[Peer], settings: Settings, gave_up: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    workload.data_folder(settings.scale)
    fresh = []
    for peer in selected:
        if not peer.takes(workload) or (peer.name, workload.family or "") in gave_up:
            continue
        for variant in peer.variants(workload, selected):
            record = run_job(peer, workload, variant, settings)
            record.update(title=workload.title, operation=workload.operation)
            record.update(target=workload.target_seconds, family=workload.family)
            record["size"] = workload.size
            fresh.append(record)
            shown = f"{record['median']:.4g} s" if "median" in record else record["status"]
            settings.log(f"  {peer.name} ({variant}): {shown} {record.get('reason', '')}")
            # a longer point of the same curve would only run into the same limit
            if workload.family and record["status"] != "ok":
                gave_up.add((peer.name, workload.family))
    return fresh
