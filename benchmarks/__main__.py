"""``python -m benchmarks run`` measures; ``python -m benchmarks table`` writes the page."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure and keep the results as JSON")
    run.add_argument("--workloads", nargs="+", help="default: all but the scaling plots")
    run.add_argument("--peers", nargs="+", help="default: multilevel and every peer but variants")
    run.add_argument("--repeats", type=int, default=5)
    run.add_argument("--scale", type=float, default=1.0, help="share of the rows, for trial runs")
    run.add_argument("--threads", type=int, default=2)
    run.add_argument("--timeout", type=float, default=300.0, help="seconds a single fit may take")
    run.add_argument("--budget", type=float, default=60.0, help="seconds after which repeats stop")
    run.add_argument("--memory", type=float, default=14.0, help="GB a program may use")
    run.add_argument("--python", default=os.environ.get("BENCH_PYTHON", sys.executable))
    run.add_argument("--peers-python", default=os.environ.get("BENCH_PEERS_PYTHON", sys.executable))
    run.add_argument("--rscript", default=os.environ.get("BENCH_RSCRIPT", shutil.which("Rscript")))
    run.add_argument("--out", type=Path, help="default: benchmarks/results/<date>.json")
    run.add_argument("--merge", action="store_true", help="keep other records already in --out")
    table = commands.add_parser("table", help="write docs/benchmarks.md and its plots")
    table.add_argument("--results", type=Path, help="default: the newest in benchmarks/results")
    table.add_argument("--to", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    return parser


def main() -> None:
    """Read the command line and do it."""
    arguments = _parser().parse_args()
    if arguments.command == "table":
        from benchmarks import page

        newest = sorted((HERE / "results").glob("*.json"))[-1:]
        if arguments.results is None and not newest:
            raise SystemExit("no results yet: run `python -m benchmarks run` first")
        page.write(arguments.results or newest[0], arguments.to)
        return
    # thread limits must stand before NumPy is loaded: the judge runs in this process
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    from benchmarks import campaign
    from benchmarks.runner import Settings

    day = datetime.now(UTC).strftime("%Y-%m-%d")
    settings = Settings(
        ours=arguments.python,
        peers=arguments.peers_python,
        rscript=arguments.rscript,
        scale=arguments.scale,
        repeats=arguments.repeats,
        threads=arguments.threads,
        timeout=arguments.timeout,
        budget=arguments.budget,
        memory_gb=arguments.memory,
    )
    out = arguments.out or HERE / "results" / f"{day}.json"
    campaign.run(arguments.workloads, arguments.peers, settings, out, arguments.merge)


if __name__ == "__main__":
    main()
