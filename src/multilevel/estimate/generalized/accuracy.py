"""How many quadrature points: enough that more would not matter, and the evidence for it.

The marginal likelihood of a generalized model is an integral that is only approximated. Laplace's
approximation can be far off where clusters hold little information (few binary responses), so every
fit carries an estimate of its error, and ``accuracy="auto"`` raises the number of points until
neither the criterion nor the largest variance moves. Default points follow Pinheiro & Bates 1995
and common practice: 7 per dimension for one or two random effects per cluster (the same for both,
so that the two models can be compared), Laplace beyond.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import (
    EstimationError,
    LikelihoodError,
    MultilevelError,
    NegativeIntegralError,
)
from multilevel.estimate.generalized.prepare import GeneralizedPrepared
from multilevel.estimate.generalized.records import GeneralizedFit
from multilevel.estimate.generalized.solve import rough_start, solve_generalized
from multilevel.estimate.generalized.spikes import find_spike, with_spikes
from multilevel.estimate.generalized.variance_shift import variance_shift
from multilevel.likelihood.generalized.choose import checked_objective, has_quadrature
from multilevel.likelihood.generalized.objective import ErrorEstimate
from multilevel.likelihood.generalized.problem import GeneralizedProblem
from multilevel.likelihood.generalized.related_layout import is_general
from multilevel.likelihood.location_scale.objective import reduces

Array = NDArray[np.float64]
Accuracy = Literal["report", "auto", "none"]
ACCURACIES: tuple[str, ...] = get_args(Accuracy)

LADDER = {
    1: (7, 15, 25, 51, 101), 2: (7, 11, 15, 25), 3: (3, 5, 9),
    4: (3, 5, 7), 5: (3, 5, 7), 6: (3, 5, 7), 7: (3, 5), 8: (3, 5),
}  # fmt: skip
DEFAULT = {1: 7, 2: 7}
AFFORDABLE = 2_000_000  # rows x joint nodes of deep nesting up to which points are the default
SCALE_POINTS = 11  # where only the scale effect of a Gaussian model is left to the quadrature
CRITERION_CHANGE = 0.01  # in -2 log-likelihood: invisible in any test
VARIANCE_CHANGE = 1e-3  # of the largest variance, as a share of itself
NOTABLE = 0.5  # error in -2 log-likelihood from which the sentence warns


def check_accuracy(accuracy: str) -> Accuracy:
    """Return a known name, or say which are known."""
    for name in get_args(Accuracy):
        if accuracy == name:
            return name  # type: ignore[no-any-return]
    raise EstimationError(
        f"accuracy must be one of {', '.join(map(repr, ACCURACIES))}.",
        f"accuracy={accuracy!r}",
        'write accuracy="auto" to raise the number of points until it no longer matters',
    )


def dimensions(problem: GeneralizedProblem) -> int:
    """Most random effects per unit of a factor, where quadrature exists (one grouping factor, or
    a chain of nested ones); 0 elsewhere."""
    if reduces(problem):
        return 1
    if has_quadrature(problem):
        return max(int(block.columns.shape[1]) for block in problem.blocks)
    return 0


def default_points(problem: GeneralizedProblem) -> int:
    """Points per dimension where the caller named none."""
    if reduces(problem):
        return SCALE_POINTS
    T, points = len(problem.blocks), DEFAULT.get(dimensions(problem), 1)
    if T > 1 and dimensions(problem) > 1:
        return 1
    if T > 2 and problem.n * points**T > AFFORDABLE:
        return 1
    return points


def fit_generalized(
    prepared: GeneralizedPrepared,
    *,
    n_quad: int | tuple[int, ...] | None = None,
    accuracy: Accuracy = "report",
    penalty: str | Sequence[str] | None = None,
    seed: int = 0,
    draws: int = 400,
    progress: Callable[[int, float], None] | None = None,
) -> GeneralizedFit:
    """Fit with a given or sufficient number of quadrature points, and say how accurate that is.

    Parameters
    ----------
    n_quad : points per dimension; 1 is Laplace; None chooses.
    accuracy : ``"report"`` estimates the error at the estimates; ``"auto"`` raises the points until
        it no longer matters; ``"none"`` does neither.
    penalty : see ``solve_generalized``.
    seed, draws : of the importance sampling where the error is estimated by it.

    Raises
    ------
    EstimationError : points that cannot be used; see ``solve_generalized``.
    """
    _check_points(n_quad)
    return with_spikes(
        prepared, _fitted(prepared, n_quad, accuracy, penalty, seed, draws, progress)
    )


def _fitted(
    prepared: GeneralizedPrepared,
    n_quad: int | tuple[int, ...] | None,
    accuracy: Accuracy,
    penalty: str | Sequence[str] | None,
    seed: int,
    draws: int,
    progress: Callable[[int, float], None] | None,
) -> GeneralizedFit:
    """See ``fit_generalized``."""
    problem = prepared.problem
    if not problem.blocks:
        fit = solve_generalized(prepared, penalty=penalty, progress=progress)
        done = replace(
            fit.approximation, method="none",
            sentence="There are no random effects: the likelihood is exact.",
        )  # fmt: skip
        return replace(fit, approximation=done)
    points = default_points(problem) if n_quad is None else n_quad
    if points == 1 or reduces(problem):
        fit = solve_generalized(prepared, points=points, penalty=penalty, progress=progress)
    else:
        began = time.perf_counter()
        psi, modes = rough_start(prepared, penalty=penalty, progress=progress)
        spiked = find_spike(problem, psi, modes) is not None
        try:
            fit = solve_generalized(
                prepared, points=points, penalty=penalty, psi_start=None if spiked else psi,
                modes_start=None if spiked else modes, progress=progress, check=False,
            )  # fmt: skip
        except EstimationError as error:
            why = _cancelled(error)
            if why is None:
                raise
            laplace = _fitted(prepared, 1, accuracy, penalty, seed, draws, progress)
            return _instead(laplace, points, why)
        fit = replace(fit, seconds={"estimation": time.perf_counter() - began})
    if accuracy == "auto" and dimensions(problem):
        return _climb(prepared, fit, points, penalty, progress)
    if accuracy == "none":
        sentence = f"{_how(fit)}. The error of this approximation was not estimated."
        return replace(fit, approximation=replace(fit.approximation, sentence=sentence))
    return with_error(prepared, fit, points, np.random.default_rng(seed), draws)


def _cancelled(error: MultilevelError) -> NegativeIntegralError | None:
    """The failure of a sparse grid behind an error, or None if it has another reason."""
    for found in (error, error.__cause__):
        if isinstance(found, NegativeIntegralError):
            return found
    return None


def _instead(
    laplace: GeneralizedFit, points: int | tuple[int, ...], why: NegativeIntegralError
) -> GeneralizedFit:
    """A Laplace fit that says why it stands in for quadrature."""
    how = laplace.approximation
    step = (
        f"Quadrature on a sparse grid ({points} points) was not possible: some of its weights are "
        f"negative, and its terms cancel ({why.found}). Laplace was used instead."
    )
    return replace(
        laplace,
        approximation=replace(how, steps=(step, *how.steps), sentence=f"{step} {how.sentence}"),
    )


def _check_points(n_quad: int | tuple[int, ...] | None) -> None:
    wanted = () if n_quad is None else (n_quad,) if isinstance(n_quad, int) else tuple(n_quad)
    for k in wanted:
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= 201:
            raise EstimationError(
                "n_quad must be a whole number from 1 (Laplace) to 201.",
                f"n_quad={n_quad!r}",
                "write n_quad=7",
            )


def _again(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    points: int | tuple[int, ...],
    penalty: str | Sequence[str] | None,
    progress: Callable[[int, float], None] | None,
) -> GeneralizedFit:
    """The same model with other points, from the estimates of a fit."""
    began = time.perf_counter()
    start = fit.psi.copy()
    for block, s in zip(prepared.problem.blocks, prepared.problem.theta_slices, strict=True):
        theta = start[s]
        if np.all(theta == 0.0):  # a zero would hide its own gradient
            size = float(np.sqrt(np.mean(block.columns**2))) or 1.0
            theta[block.structure.scales()] = 0.1 / size
        start[s] = theta
    new = solve_generalized(
        prepared, points=points, penalty=penalty, psi_start=start, modes_start=fit.modes,
        progress=progress, check=False,
    )  # fmt: skip
    before = fit.seconds.get("estimation", 0.0)
    return replace(new, seconds={"estimation": before + time.perf_counter() - began})


def _largest_variance(fit: GeneralizedFit) -> float:
    """Largest variance of any random effect."""
    return max(float(np.diag(G).max()) for G in fit.random_covariance)


def _how(fit: GeneralizedFit) -> str:
    """The approximation in words."""
    how = fit.approximation
    if how.method == "Laplace":
        return "Laplace approximation"
    if "scale effect alone" in fit.plan:
        return f"Adaptive quadrature over the scale effect with {how.points[0]} points"
    if len(set(how.points)) == 1:
        grid = fit.plan.rpartition("sparse grid")
        return f"Adaptive quadrature with {how.points[0]} points per random effect" + (
            f" on a sparse grid{grid[2]}" if grid[1] else ""
        )
    return f"Adaptive quadrature with {' x '.join(map(str, how.points))} points"


def _climb(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    points: int | tuple[int, ...],
    penalty: str | Sequence[str] | None,
    progress: Callable[[int, float], None] | None,
) -> GeneralizedFit:
    """More and more points until neither criterion nor largest variance moves."""
    have = points if isinstance(points, int) else max(points)
    ladder = [k for k in LADDER.get(dimensions(prepared.problem), ()) if k > have]
    steps: list[str] = []
    error: ErrorEstimate | None = None
    share = float("nan")
    for k in ladder:
        try:
            new = _again(prepared, fit, k, penalty, progress)
        except (LikelihoodError, EstimationError) as refused:
            if isinstance(refused, EstimationError) and _cancelled(refused) is None:
                raise
            steps.append(f"{k} points were not possible: {(_cancelled(refused) or refused).found}.")
            break
        moved = fit.criterion - new.criterion
        old_variance, variance = _largest_variance(fit), _largest_variance(new)
        share = abs(variance - old_variance) / max(variance, 1e-12)
        steps.append(
            f"{k} points: -2 log-likelihood moved by {-moved:+.4f}, the largest variance by "
            f"{100.0 * share:.2g}%."
        )
        fit = new
        error = ErrorEstimate(moved, 0.0, "more points", steps[-1])
        if abs(moved) < CRITERION_CHANGE and share < VARIANCE_CHANGE:
            sentence = f"{_how(fit)}: more points no longer matter."
            return replace(fit, approximation=replace(
                fit.approximation, error=error, largest_variance_error=share,
                steps=tuple(steps), sentence=sentence))  # fmt: skip
    sentence = (
        f"{_how(fit)}: this is the largest number of points tried, and the results still move. "
        + (steps[-1] if steps else "No larger number of points is available for this design.")
    )
    return replace(fit, approximation=replace(
        fit.approximation, error=error, largest_variance_error=share, steps=tuple(steps),
        sentence=sentence))  # fmt: skip


def _without_quadrature(prepared: GeneralizedPrepared) -> str:
    """What it is that quadrature does not exist for."""
    if is_general(prepared.problem):
        return "rows with several levels or levels that are correlated"
    return "crossed factors"


def with_error(
    prepared: GeneralizedPrepared,
    fit: GeneralizedFit,
    points: int | tuple[int, ...],
    rng: np.random.Generator,
    draws: int,
) -> GeneralizedFit:
    """The fit with an estimate of the error of its criterion and of its largest variance."""
    objective = checked_objective(prepared.problem, points)
    objective.set_modes(fit.modes)
    objective.value(fit.psi)
    error = objective.error_estimate(deepcopy(rng), draws)
    shift = variance_shift(prepared.problem, fit, objective, rng, draws)
    sentence = f"{_how(fit)}. {error.sentence}"
    if shift is not None:
        sentence += f" {shift.sentence}"
    if abs(error.criterion) - 2.0 * error.std_error > NOTABLE:
        sentence += (
            ' Errors of this size can change a test: refit with accuracy="auto"'
            if dimensions(prepared.problem)
            else " Errors of this size can change a test: read variances with care. Quadrature, "
            f"which could be raised, does not exist for {_without_quadrature(prepared)}"
        ) + "."
    how = replace(fit.approximation, error=error, sentence=sentence)
    if shift is not None:
        how = replace(
            how, largest_variance_error=abs(shift.share),
            largest_variance_std_error=shift.std_error,
        )  # fmt: skip
    return replace(fit, approximation=how)
