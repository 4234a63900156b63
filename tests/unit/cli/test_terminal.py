from __future__ import annotations

import io
import sys

import pytest

from multilevel.cli import terminal

TEXT = "Heading\n  within(ses, school) [bold]not markup[/bold] 1.5"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_headings_are_bold_on_a_terminal_and_text_is_kept(colours):
    screen = Screen()
    terminal.write_result(TEXT, screen)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "\x1b[1mHeading\x1b[0m"
    assert lines[1] == TEXT.splitlines()[1]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(colours, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    screen = Screen()
    terminal.write_result(TEXT, screen)
    assert screen.getvalue() == TEXT + "\n"


def test_no_colour_in_a_pipe(colours):
    pipe = io.StringIO()
    terminal.write_result(TEXT, pipe)
    assert pipe.getvalue() == TEXT + "\n"


def test_waiting_shows_on_a_terminal_only(colours, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with terminal.waiting("Fitting"):
        pass
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", Screen())
    with terminal.waiting("Fitting"):
        pass
    assert "Fitting" in sys.stderr.getvalue()


def test_a_long_wait_is_explained(colours, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    with terminal.waiting("Fitting"):
        for thread in [t for t in terminal.threading.enumerate() if t.name.startswith("Thread")]:
            if isinstance(thread, terminal.threading.Timer):
                thread.join()
    assert "kernels are compiled" in " ".join(sys.stderr.getvalue().split())
