"""Runs jobs: one process a program and workload, with limits on time, memory and threads."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import columns
from benchmarks.criterion import Estimates, Judge
from benchmarks.criterion_generalized import GeneralizedJudge
from benchmarks.criterion_structural import StructuralJudge
from benchmarks.criterion_structured import StructuredJudge
from benchmarks.criterion_variance import LocationScaleJudge, OccasionsJudge, RelatedJudge
from benchmarks.models import Model
from benchmarks.peers import Peer
from benchmarks.workloads import Workload

ROOT = Path(__file__).resolve().parents[1]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
AnyJudge = Judge | GeneralizedJudge | StructuredJudge | LocationScaleJudge | StructuralJudge
_KINDS: dict[str, type[AnyJudge]] = {
    "gaussian": Judge,
    "structured": StructuredJudge,
    "occasions": OccasionsJudge,
    "location_scale": LocationScaleJudge,
    "location_scale_gamma": LocationScaleJudge,
    "related": RelatedJudge,
    "structural": StructuralJudge,
}
_IN_NEW_PROCESS = ("import", "first_fit", "first_fit_cold")


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes
    ----------
    ours, peers, rscript : interpreters. ``rscript`` may be None: no R.
    repeats : timed fits a job (more where a fit takes milliseconds).
    timeout : seconds that one fit may take; ``budget``: seconds after which repeating stops.
    warm_limit : a first fit longer than this many seconds counts as the measurement.
    memory_gb : address space a worker may use.
    """

    ours: str = sys.executable
    peers: str = sys.executable
    rscript: str | None = None
    scale: float = 1.0
    repeats: int = 5
    threads: int = 2
    timeout: float = 300.0
    budget: float = 60.0
    warm_limit: float = 15.0
    memory_gb: float = 14.0
    log: Any = field(default=lambda line: print(line, flush=True))

    def thread_environment(self) -> dict[str, str]:
        """Thread variables that every worker gets."""
        return dict.fromkeys(_THREAD_VARIABLES, str(self.threads))


def run_job(peer: Peer, workload: Workload, variant: str, settings: Settings) -> dict[str, Any]:
    """Time one program on one variant of a workload.

    Returns a record with ``status`` (``"ok"``, ``"refused"``, ``"timeout"``, ``"failed"``),
    ``seconds`` (the timed runs), ``median``, ``memory_above_data``, ``estimates`` and ``load``
    (the machine's one-minute load when it began).
    """
    model = workload.variants()[variant]
    record: dict[str, Any] = {
        "workload": workload.name,
        "peer": peer.name,
        "variant": variant,
        "formula": model.formula,
        "method": model.method,
        "load": os.getloadavg()[0],
        "seconds": [],
    }
    rounds = settings.repeats if workload.operation in _IN_NEW_PROCESS else 1
    if workload.operation == "first_fit":
        _run_process(peer, workload, model, settings)
    for _ in range(rounds):
        events, ending = _run_process(peer, workload, model, settings)
        _fold(record, events, ending)
        if record["status"] != "ok":
            break
    if record["seconds"]:
        record["median"] = statistics.median(record["seconds"])
    return record


def _fold(record: dict[str, Any], events: list[dict[str, Any]], ending: str) -> None:
    """Add one process's events to the record."""
    record["status"] = "ok" if ending == "ok" else ending.split(":")[0]
    if ending != "ok":
        record["reason"] = ending.partition(":")[2].strip()
    for event in events:
        if event["event"] == "fit" and not event["warm_up"]:
            record["seconds"].append(event["seconds"])
        elif event["event"] == "memory":
            record["memory_above_data"] = event["above_data"]
        elif event["event"] == "refused":
            record.update(status="refused", reason=event["reason"])
        elif event["event"] == "estimates":
            record["estimates"] = {k: v for k, v in event.items() if k != "event"}
    if record["status"] == "timeout":
        record["seconds"] = []


def _job(peer: Peer, workload: Workload, model: Model, settings: Settings) -> dict[str, Any]:
    asked = workload.variants()["asked"]
    first = model
    if workload.operation == "refit":
        old = asked.response.removesuffix("_new")
        first = Model(
            model.formula.replace(asked.response, old), old, model.fixed, model.terms, model.method
        )
    return {
        "adapter": peer.name,
        "operation": workload.operation,
        "model": model.to_dict(),
        "refit_from": {"formula": first.formula, "response": first.response},
        "data": str(workload.data_folder(settings.scale)),
        "threads": settings.threads,
        "repeats": settings.repeats,
        "budget": settings.budget,
        "warm_limit": settings.warm_limit,
    }


def _command(peer: Peer, settings: Settings) -> list[str]:
    if peer.runtime == "R":
        if settings.rscript is None:
            raise SystemExit("Rscript is not on the PATH; give --rscript or leave lme4 out")
        return [settings.rscript, str(ROOT / "benchmarks" / "worker.R")]
    python = settings.ours if peer.runtime == "ours" else settings.peers
    return [python, "-m", "benchmarks.worker"]


def _environment(
    peer: Peer, workload: Workload, folder: Path, settings: Settings
) -> dict[str, str]:
    environment = {**os.environ, **settings.thread_environment()}
    paths = [str(ROOT), str(ROOT / "src")] if peer.runtime == "ours" else [str(ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if workload.operation == "first_fit_cold":
        environment["NUMBA_CACHE_DIR"] = str(folder / "kernels")
    return environment


def _limit_memory(gigabytes: float) -> None:
    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _run_process(
    peer: Peer, workload: Workload, model: Model, settings: Settings
) -> tuple[list[dict[str, Any]], str]:
    """Events of one worker, and how it ended: ``ok``, ``timeout: ...`` or ``failed: ...``."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        job, events = folder / "job.json", folder / "events.jsonl"
        job.write_text(json.dumps(_job(peer, workload, model, settings)))
        events.touch()
        with (folder / "words").open("w") as words:
            process = subprocess.Popen(
                [*_command(peer, settings), str(job), str(events)],
                cwd=ROOT,
                env=_environment(peer, workload, folder, settings),
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _limit_memory(settings.memory_gb),
            )
            ending = _watch(process, events, settings.timeout)
        if ending == "failed":
            last = [w for w in (folder / "words").read_text(errors="replace").splitlines() if w]
            said = last[-1][:200].replace(str(folder), "").replace(str(ROOT), "")
            if process.returncode is not None and process.returncode < 0:
                said = f"killed by signal {-process.returncode}. {said}"
            ending = f"failed: {said if last else 'no message'}"
        lines = events.read_text().splitlines()
        return [json.loads(line) for line in lines], ending
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(process: subprocess.Popen[bytes], events: Path, timeout: float) -> str:
    """Wait for the end; kill the worker's session if ``timeout`` passes without a new event."""
    seen, since = 0, time.monotonic()
    pause = 0.02
    while True:
        try:
            code = process.wait(pause)
            return "ok" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            pause = min(1.0, pause * 1.5)
        size = events.stat().st_size
        if size != seen:
            seen, since = size, time.monotonic()
        elif time.monotonic() - since > timeout:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"timeout: a fit took more than {timeout:g} s"


def judge(workload: Workload, records: list[dict[str, Any]], settings: Settings) -> None:
    """Recompute the criterion of every record of ``workload`` that has estimates, in place."""
    table: dict[str, Any] | None = None
    judges: dict[str, AnyJudge] = {}
    known: dict[tuple[str, str], float] = {}
    for record in records:
        if "estimates" not in record:
            continue
        variant, found = record["variant"], Estimates.from_dict(record["estimates"])
        if variant not in judges:
            if table is None:
                table = columns.read(workload.data_folder(settings.scale))
            model = workload.variants()[variant]
            judges[variant] = _KINDS.get(model.family, GeneralizedJudge)(table, model)
        key = (variant, repr(found))
        if key not in known:
            known[key] = judges[variant].criterion(found)
        record["criterion"] = known[key]
    for variant in judges:
        values = [r["criterion"] for r in records if r["variant"] == variant and "criterion" in r]
        for record in records:
            if record["variant"] == variant and "criterion" in record:
                record["above_best"] = record["criterion"] - min(values)
