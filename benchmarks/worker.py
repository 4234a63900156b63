"""Runs one program on one workload in a process of its own and reports events as JSON lines.

``python -m benchmarks.worker JOB.json EVENTS.jsonl``. A failure of the program ends the process;
the runner reads its last words. Imports stay light until the clock of ``import`` has stopped.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import memory
from benchmarks.models import Model


class Events:
    """Appends JSON lines to a file, so that the runner sees each as it happens."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, event: str, **fields: Any) -> None:
        """Write one event."""
        with self.path.open("a") as stream:
            stream.write(json.dumps({"event": event, **fields}) + "\n")


def timed(call: Any) -> tuple[float, Any]:
    """Seconds and result of ``call()``."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(call: Any, job: dict[str, Any], events: Events) -> Any:
    """Repeat ``call``: a warm-up first, then until repeats, time budget or steadiness is reached.

    A first call longer than ``warm_limit`` counts as the measurement: warming up would be lost in
    it. Calls that take milliseconds are repeated up to ten times as often.
    """
    import gc

    seconds, result = timed(call)
    is_long = seconds > job["warm_limit"]
    events.send("fit", seconds=seconds, warm_up=not is_long)
    count, spent = (1, seconds) if is_long else (0, 0.0)
    while count < 10 * job["repeats"]:
        if (count >= job["repeats"] and spent >= 0.5) or (count > 0 and spent >= job["budget"]):
            break
        result = None
        gc.collect()
        seconds, result = timed(call)
        events.send("fit", seconds=seconds, warm_up=False)
        count, spent = count + 1, spent + seconds
    return result


def main(job_path: str, events_path: str) -> None:
    """Do the job."""
    job = json.loads(Path(job_path).read_text())
    events = Events(Path(events_path))
    adapter = importlib.import_module(f"benchmarks.adapters.{job['adapter']}")
    model = Model.from_dict(job["model"])
    threads = int(job["threads"])

    if job["operation"] == "import":
        seconds, _ = timed(lambda: importlib.import_module(adapter.PACKAGE))
        events.send("fit", seconds=seconds, warm_up=False)
        return
    import_seconds = 0.0
    if job["operation"].startswith("first_fit"):
        import_seconds, _ = timed(lambda: importlib.import_module(adapter.PACKAGE))

    from benchmarks import columns

    table = columns.read(Path(job["data"]))
    reason = adapter.refuse(table, model) if hasattr(adapter, "refuse") else None
    if job["operation"] == "refit" and not hasattr(adapter, "refitter"):
        reason = "no refit offered"
    if reason is not None:
        events.send("refused", reason=reason)
        return
    loaded = adapter.load(table, model)
    if job["operation"].startswith("first_fit"):
        seconds, result = timed(lambda: adapter.fit(loaded, model, threads))
        events.send("fit", seconds=import_seconds + seconds, warm_up=False)
    elif job["operation"] == "refit":
        base = Model.from_dict({**job["model"], **job["refit_from"]})
        call = adapter.refitter(adapter.load(table, base), base, table[model.response], threads)
        result = measure(call, job, events)
    else:
        del table
        importlib.import_module(adapter.PACKAGE)
        resident = memory.forget_peak()
        events.send("loaded", resident=resident)
        result = measure(lambda: adapter.fit(loaded, model, threads), job, events)
        events.send("memory", above_data=memory.peak() - resident)
    events.send("estimates", **adapter.estimates(result, model))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
