"""MkDocs hook: the benchmark page is in the navigation once a benchmark run has written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = "benchmarks.md"


def on_config(config: Any) -> Any:
    """Add the generated page to the reference section, after the page on numerics."""
    if (Path(config.docs_dir) / PAGE).exists():
        for section in config.nav:
            pages = section.get("Reference") if isinstance(section, dict) else None
            if pages:
                pages.insert(1, PAGE)
    return config
