"""Every workload: its data, its model, what is timed, its target and which peers take part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import columns, generators
from benchmarks.columns import Column
from benchmarks.generalized import GENERALIZED
from benchmarks.generators import scaled
from benchmarks.models import Model, Term, as_gpboost_fits, linear, nested
from benchmarks.structural import STRUCTURAL
from benchmarks.structured import STRUCTURED
from benchmarks.variance import VARIANCE

Operation = Literal["fit", "refit", "import", "first_fit", "first_fit_cold"]

#: Headings of the page, in its order.
SECTIONS = {
    "linear": "Linear models",
    "generalized": "Binary outcomes, counts and ordered categories",
    "structural": "Structural models and mediation",
    "variance": "Correlated residuals, scale effects and related levels",
    "start": "Starting up",
}
_STARTS = ("import", "first_fit", "first_fit_cold")
_SECTION_OF = {
    "gaussian": "linear", "structural": "structural", "start": "start",
    **dict.fromkeys(
        ("structured", "occasions", "location_scale", "location_scale_gamma", "related"),
        "variance",
    ),
}  # fmt: skip

CACHE = Path(__file__).resolve().parent / ".cache"


@dataclass(frozen=True)
class Workload:
    """One row of the benchmark.

    Attributes
    ----------
    name, title : key on the command line; line in the table.
    model : what is fitted; ``make`` draws its table for a scale in (0, 1].
    operation : what is timed, see the README.
    target_seconds : what `multilevel` must reach at scale 1 on two cores; None: no target set.
    family, size : set for the points of a scaling plot.
    version : raised when ``make`` changes, so that old cached tables are not used.
    """

    name: str
    title: str
    model: Model
    make: Callable[[float], dict[str, Column]]
    operation: Operation = "fit"
    target_seconds: float | None = None
    family: str | None = None
    size: int | None = None
    version: int = 1

    @property
    def section(self) -> str:
        """Where the page shows it: a key of `SECTIONS`."""
        return _SECTION_OF.get(
            "start" if self.operation in _STARTS else self.model.family, "generalized"
        )

    def data_folder(self, scale: float, cache: Path = CACHE) -> Path:
        """Folder of the table at ``scale``, made if it is not there yet."""
        key = self.make.__name__.strip("_") if self.make.__name__ != "<lambda>" else self.name
        folder = cache / f"{key}-v{self.version}-scale{scale:g}"
        if not folder.exists():
            columns.write(folder, self.make(scale))
        return folder

    def variants(self) -> dict[str, Model]:
        """The model as asked, and the nearest one that GPBoost can fit."""
        return {"asked": self.model, "gpboost": as_gpboost_fits(self.model)}


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"x{k + 1}" for k in range(count))


def _slope(count: int) -> Model:
    return linear("y", _names(count), (Term(("g",), ("x1",)),))


_RATINGS = linear("y", ("x",), (Term(("user",)), Term(("item",))))
_SLEEP = linear("Reaction", ("Days",), (Term(("Subject",), ("Days",)),))


def sleepstudy(scale: float) -> dict[str, Column]:
    """The whole table at every scale: it has 180 rows."""
    del scale
    return generators.sleepstudy()


def _two_level(n: int, n_groups: int, n_fixed: int, seed: int) -> Callable[..., dict[str, Column]]:
    return lambda scale: generators.two_level(
        scaled(n, scale, 300), scaled(n_groups, scale, 20), n_fixed, seed
    )


def _crossed(n: int, users: int, items: int, seed: int) -> Callable[..., dict[str, Column]]:
    # levels shrink with the square root, so that a small copy is not a full table of pairs
    return lambda scale: generators.crossed(
        scaled(n, scale, 500),
        scaled(users, float(np.sqrt(scale)), 20),
        scaled(items, float(np.sqrt(scale)), 10),
        1.5,
        seed,
    )


def _movielens(scale: float) -> dict[str, Column]:
    root = float(np.sqrt(scale))
    return generators.movielens_shaped(
        scaled(1_000_000, scale, 500), scaled(6040, root, 20), scaled(3706, root, 10), 31
    )


def _chem97(scale: float) -> dict[str, Column]:
    return generators.three_level(
        scaled(31_022, scale, 500), scaled(2_410, scale, 40), scaled(131, scale, 8), 97
    )


WORKLOADS: tuple[Workload, ...] = (
    Workload("sleepstudy", "sleepstudy, whole call", _SLEEP, sleepstudy, target_seconds=0.010),
    Workload(
        "sleepstudy_refit",
        "sleepstudy, refit to a new response",
        linear("Reaction_new", ("Days",), _SLEEP.terms),
        sleepstudy,
        operation="refit",
    ),
    Workload(
        "hsb",
        "High School & Beyond, random slope, 7 185 rows, 160 schools",
        linear("mAch", ("ses",), (Term(("school",), ("ses",)),)),
        generators.hsb,
    ),
    Workload(
        "nested_1m",
        "random slope, 1 000 000 rows, 10 000 groups",
        _slope(1),
        _two_level(1_000_000, 10_000, 1, 11),
    ),
    Workload(
        "row2",
        "random slope, 230 000 rows, 10 000 groups, 10 fixed effects",
        _slope(9),
        _two_level(230_000, 10_000, 9, 12),
        target_seconds=0.12,
    ),
    Workload(
        "row3",
        "random slope, 1 000 000 rows, 100 000 groups, 5 fixed effects",
        _slope(4),
        _two_level(1_000_000, 100_000, 4, 13),
        target_seconds=0.6,
    ),
    Workload(
        "chem97",
        "three levels, shaped like Chem97: 31 022 rows, 2 410 schools, 131 authorities",
        nested("y", ("x",), ("lea", "school")),
        _chem97,
        target_seconds=0.050,
    ),
    Workload(
        "insteval",
        "InstEval: 73 421 rows, crossed 2 972 x 1 128 x 14",
        linear("y", ("service",), (Term(("s",)), Term(("d",)), Term(("dept",)))),
        generators.insteval,
        target_seconds=0.6,
    ),
    Workload(
        "crossed_300k",
        "crossed, 300 000 rows, 19 000 x 3 000, Pareto activity",
        _RATINGS,
        _crossed(300_000, 19_000, 3_000, 21),
        target_seconds=2.5,
    ),
    Workload(
        "movielens1m",
        "crossed, shaped like MovieLens-1M: 1 000 000 rows, 6 040 x 3 706",
        _RATINGS,
        _movielens,
        target_seconds=8.0,
    ),
    Workload(
        "crossed_1m_50k_5k",
        "crossed, 1 000 000 rows, 50 000 x 5 000, Pareto activity",
        _RATINGS,
        _crossed(1_000_000, 50_000, 5_000, 22),
    ),
    Workload(
        "crossed_1m_91k_20k",
        "crossed, 1 000 000 rows, 91 000 x 20 000, Pareto activity",
        _RATINGS,
        _crossed(1_000_000, 91_000, 20_000, 23),
        target_seconds=5.0,
    ),
    *(
        Workload(name, title, model, make, target_seconds=target)
        for name, title, model, make, target in (*GENERALIZED, *STRUCTURAL, *STRUCTURED, *VARIANCE)
    ),
    Workload("import", "import in a new process", _SLEEP, sleepstudy, operation="import"),
    Workload(
        "first_fit",
        "import and first fit (sleepstudy) in a new process",
        _SLEEP,
        sleepstudy,
        operation="first_fit",
    ),
    Workload(
        "first_fit_cold",
        "the same, with no compiled kernels kept from before",
        _SLEEP,
        sleepstudy,
        operation="first_fit_cold",
        target_seconds=1.0,
    ),
)


def scaling_family(family: str, scale: float) -> tuple[Workload, ...]:
    """Points of a plot: ``scaling_rows`` (1 000 groups), ``scaling_groups`` (10 rows each)."""
    if family == "scaling_rows":
        rows = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
        return tuple(_point(family, n, n, 1_000, scale) for n in rows)
    groups = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
    return tuple(_point(family, J, 10 * J, J, scale) for J in groups)


def _point(family: str, size: int, n: int, n_groups: int, scale: float) -> Workload:
    rows = scaled(n, scale, 100)
    groups = min(n_groups if family == "scaling_rows" else rows // 10, rows // 5)
    shown = rows if family == "scaling_rows" else groups
    return Workload(
        f"{family}_{size}",
        f"random slope, {rows} rows, {groups} groups",
        _slope(1),
        lambda _scale: generators.two_level(rows, groups, 1, 40, spread=0.3),
        family=family,
        size=shown,
    )


FAMILIES = ("scaling_rows", "scaling_groups")


def select(names: list[str], scale: float) -> list[Workload]:
    """Workloads by name, in the order of the table; a family name stands for all its points."""
    known = {w.name: w for w in WORKLOADS}
    unknown = [n for n in names if n not in known and n not in FAMILIES]
    if unknown:
        raise SystemExit(
            f"no workload {', '.join(unknown)}; choose from {', '.join((*known, *FAMILIES))}"
        )
    chosen = [w for w in WORKLOADS if w.name in names]
    for family in FAMILIES:
        if family in names:
            chosen.extend(scaling_family(family, scale))
    return chosen
