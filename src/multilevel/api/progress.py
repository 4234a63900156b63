"""How far long work is: a function that the user gives, or a plain line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from multilevel.errors import InferenceError

Telling = bool | Callable[[int, int], None] | None


def teller(progress: Telling, what: str) -> Callable[[int, int], None] | None:
    """The function ``(done, total)`` that tells progress, or None for silence.

    Parameters
    ----------
    progress : None or False for silence; True for a line on stderr, rewritten in a terminal, else
        a new line at every tenth; or a function, called as it is.
    what : name of the work, the start of the line.

    Raises
    ------
    InferenceError : anything else.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return _Line(what)
    if callable(progress):
        return progress
    raise InferenceError(
        "progress must be True, False or a function of (done, total).",
        f"progress={progress!r}",
        "write progress=True",
    )


class _Line:
    """A line on stderr."""

    def __init__(self, what: str) -> None:
        self.what, self.tenth = what, 0

    def __call__(self, done: int, total: int) -> None:
        """Write the line if the count has moved far enough."""
        in_terminal = sys.stderr.isatty()
        tenth = (100 if in_terminal else 10) * done // max(total, 1)
        if tenth <= self.tenth:
            return
        self.tenth = tenth
        text = f"{self.what}: {done} of {total}"
        last = "\n" if done == total or not in_terminal else ""
        sys.stderr.write(f"\r{text}{last}" if in_terminal else f"{text}\n")
        sys.stderr.flush()
