"""The convergence certificate of a generalized fit."""

from __future__ import annotations

import numpy as np

from multilevel.estimate.generalized.run import Run
from multilevel.estimate.records import Certificate, RedundantDirection, Status

DECREMENT_LIMIT = 1e-6
KKT_LIMIT = -1e-3


def certify(
    run: Run, at_limit: dict[int, str], redundant: tuple[RedundantDirection, ...]
) -> Certificate:
    """Weigh the evidence that a search ended at its optimum."""
    path = run.path
    free = np.setdiff1d(np.arange(len(path.theta)), list(at_limit))
    g, H = path.gradient[free], path.curvature[np.ix_(free, free)]
    size = np.abs(np.diag(H))
    size = np.sqrt(np.where(size > 1e-100, size, 1.0))  # flat directions keep their units
    scaled = H / np.outer(size, size)
    smallest = float(np.linalg.eigvalsh(scaled)[0]) if len(free) else float("nan")
    largest = float(np.max(np.abs(g) / size)) if len(free) else 0.0
    at_optimum = path.decrement < DECREMENT_LIMIT and smallest > -1e-6
    on_boundary = bool(run.null)
    proven = not on_boundary or np.isnan(run.kkt) or run.kkt >= KKT_LIMIT
    notes = [*run.notes, *dict.fromkeys(at_limit.values())]
    status: Status
    if at_optimum and proven:
        status = "singular" if on_boundary else "certified"
        sentence = (
            "The estimates are a (local) optimum: the criterion would fall by less than "
            f"{max(path.decrement, 1e-12):.0e} with further steps."
        )
        if on_boundary:
            sentence += " It lies on the boundary: " + " ".join(r.sentence for r in redundant)
    else:
        status = "not_certified"
        why = (
            "the surface still curves downward"
            if smallest <= -1e-6
            else f"further steps would lower the criterion by about {path.decrement:.2g}"
        )
        if at_optimum and not proven:
            why = "a small variance on the boundary would still raise the likelihood"
        sentence = f"The estimates are not shown to be the optimum: {why} ({path.reason})."
    return Certificate(
        status=status,
        sentence=sentence,
        newton_decrement=path.decrement,
        max_scaled_gradient=largest,
        min_curvature=smallest,
        curvature=run.surface.kind,
        boundary_residual=run.kkt if on_boundary else float("nan"),
        redundant=redundant,
        iterations=run.iterations,
        evaluations=run.objective.n_evaluations,
        restarts=run.restarts,
        history=tuple(run.history),
        notes=tuple(notes),
    )
