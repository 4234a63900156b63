"""One search for the optimum of a generalized criterion, while and after it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from multilevel.estimate.generalized.boundary import NullDirection
from multilevel.estimate.generalized.curvature import Surface
from multilevel.estimate.trust_region import Path
from multilevel.likelihood.generalized.objective import GeneralizedObjective


@dataclass
class Run:
    """One search: where it ended, and what was done to get there."""

    objective: GeneralizedObjective
    surface: Surface
    path: Path
    null: list[NullDirection] = field(default_factory=list)
    kkt: float = float("nan")
    iterations: int = 0
    restarts: int = 0
    history: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
