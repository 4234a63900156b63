"""How the command line talks: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

from multilevel.errors import MultilevelError

#: Seconds after which a fit explains why it may still be running.
PATIENCE = 3.0
_WHY_WAIT = (
    "{} (the first time after installing, the numeric kernels are compiled: up to a minute, once)"
)


def write_result(text: str, stream: TextIO | None = None) -> None:
    """Write a result; on a colour terminal with bold headings (lines that are not indented)."""
    out = sys.stdout if stream is None else stream
    if not _is_styled(out):
        out.write(text + "\n")
        return
    console = Console(file=out, highlight=False, soft_wrap=True)
    for line in text.split("\n"):
        heading = bool(line) and not line.startswith(" ")
        console.print(Text(line, style="bold" if heading else ""), markup=False)


def _is_styled(stream: TextIO) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def write_error(error: MultilevelError) -> None:
    """Write the parts of an error on standard error: what must hold, what was found, what to do."""
    sys.stderr.write(f"error: {error}\n")


def write_note(text: str) -> None:
    """Write one line on standard error."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def waiting(message: str) -> Iterator[None]:
    """Show a spinner on standard error while something runs; nothing at all in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    with console.status(message) as status:
        timer = threading.Timer(PATIENCE, lambda: status.update(_WHY_WAIT.format(message)))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
