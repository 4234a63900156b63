"""Times of every family with nested and crossed random intercepts and slopes.

    python -m benchmarks.families            # prints the table of docs/outcomes.md

The data are those that the tests walk (``tests/identities/generalized_table.py``), 2,800 rows in 28
clusters and 9 crossed levels. Each fit is run twice; the second, without compilation, counts.
"""

from __future__ import annotations

import time

from tests.identities.generalized_table import DESIGNS, OUTCOMES, WITH_QUADRATURE, Outcome, table

import multilevel as mlm

CELLS = [
    (design, points)
    for design in ("nested intercept", "nested slope", "crossed intercept", "crossed slope")
    for points in ((1, 7) if design in WITH_QUADRATURE else (1,))
]
ROWS = 100


def seconds(outcome: Outcome, design: str, points: int, data: dict[str, object]) -> float:
    """Wall time of the second fit of one cell, its accuracy not estimated."""
    formula = f"{outcome.response} ~ {outcome.right} + {DESIGNS[design]}"
    for _ in range(2):
        clock = time.perf_counter()
        mlm.fit(formula, data, n_quad=points, accuracy="none", **outcome.arguments)
        taken = time.perf_counter() - clock
    return taken


def first_of_each() -> list[Outcome]:
    """Each family with its first link; zero inflation and hurdles of the negative binomial."""
    found: dict[str, Outcome] = {}
    for outcome in OUTCOMES:
        found.setdefault(outcome.family, outcome)
    more = [
        o for o in OUTCOMES
        if o.family == "negative_binomial" and {"zero", "hurdle", "truncated"} & set(o.options)
    ]  # fmt: skip
    return [*found.values(), *more]


def main() -> None:
    """Print the table."""
    data = dict(table(rows=ROWS))
    heads = [f"{d}{', 7 points' if p > 1 else ''}" for d, p in CELLS]
    print(f"| family | {' | '.join(heads)} |")
    print(f"| --- |{' ---: |' * len(CELLS)}")
    for outcome in first_of_each():
        option = "".join(f", {k}=" for k in outcome.options if k != "dispersion")
        cells = [f"{seconds(outcome, d, p, data):.2f}" for d, p in CELLS]
        print(f'| `"{outcome.family}"`{option} | {" | ".join(cells)} |', flush=True)


if __name__ == "__main__":
    main()
