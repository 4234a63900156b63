"""What the numbers were measured on: processor, cores, memory, versions. No paths, no host name."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    "multilevel", "numpy", "scipy", "numba", "pandas", "polars",
    "mixedlm", "lme_python", "gpboost", "statsmodels",
)  # fmt: skip
_ASK_PYTHON = """
import importlib.metadata, json, platform, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        continue
print(json.dumps({"python": platform.python_version(), **found}))
"""
_ASK_R = """
blas <- basename(extSoftVersion()[["BLAS"]])
lapack <- basename(La_library())
wanted <- c("lme4", "Matrix", "glmmTMB", "nlme", "ordinal", "lavaan")
wanted <- wanted[vapply(wanted, function(p) nzchar(system.file(package = p)), NA)]
found <- c(R = paste(R.version$major, R.version$minor, sep = "."),
           vapply(wanted, function(p) as.character(packageVersion(p)), ""),
           blas = blas, lapack = lapack)
cat(sprintf("{%s}", paste(sprintf('"%s": "%s"', names(found), found), collapse = ", ")))
"""


def processor() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """Installed memory."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _ask(command: list[str]) -> dict[str, str]:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return {}
    return dict(json.loads(run.stdout.strip().splitlines()[-1]))


def commit() -> str:
    """Short commit of the checkout, with ``+`` if files differ from it; empty outside git."""
    root = str(Path(__file__).resolve().parents[1])
    head = subprocess.run(
        ["git", "-C", root, "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if head.returncode != 0:
        return ""
    changed = subprocess.run(
        ["git", "-C", root, "status", "--porcelain", "src"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def describe(ours: str, peers: str, rscript: str | None) -> dict[str, Any]:
    """Machine and versions of the three interpreters."""
    names = json.dumps(_PACKAGES)
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit(),
        "ours": _ask([ours, "-c", _ASK_PYTHON, names]),
        "peers": _ask([peers, "-c", _ASK_PYTHON, names]),
        "R": _ask([rscript, "-e", _ASK_R]) if rscript else {},
    }
