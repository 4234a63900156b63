"""Print where our criterion is lower than the reference program's (a better optimum)."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter):
    lines = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == "lower than lme4":
                    lines.append(value)
    if lines:
        terminalreporter.section("fits where our criterion is lower than lme4's")
        for line in sorted(set(lines)):
            terminalreporter.write_line(line)
