"""Does a slope vary over clusters? Likelihood-ratio tests of slope variances in structural models.

A variance cannot be negative, so that its zero is on the boundary: with k covariances the null
distribution is a 50:50 mixture of chi2(k) and chi2(k + 1) (Stram & Lee 1994, Biometrics 50:1171),
if what is left in the smaller model is inside its own bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from multilevel.errors import InferenceError
from multilevel.estimate.structural import StructuralFit, StructuralProblem
from multilevel.estimate.structural_boundary import fit_admissible, is_inside
from multilevel.infer.distributions import chi_square_tail
from multilevel.infer.mixture import one_variance
from multilevel.model.structural.records import Level, StructuralModel


@dataclass(frozen=True)
class SlopeTest:
    """One random slope against the same model with a fixed slope.

    ``p_value`` is that of the mixture, NaN where that is not defined; ``p_naive`` takes all
    parameters as free to move both ways, and is too large. With three levels ``level`` says where
    the slope was kept from varying; it may vary at the other.
    """

    slope: str
    outcome: str
    predictor: str
    statistic: float
    n_covariances: int
    distribution: str
    p_value: float
    p_naive: float
    sentence: str
    level: str = "between"


def slope_tests(problem: StructuralProblem, fit: StructuralFit) -> tuple[SlopeTest, ...]:
    """Test the variance of every random slope, one after the other.

    Raises
    ------
    InferenceError : a model without random slopes, or a fit outside its bounds.
    EstimationError : a smaller model that cannot be estimated.
    """
    model = fit.model
    if not model.random_slopes:
        raise InferenceError("These tests are about random slopes.", "a model without s | y ~ x",
                             "write s | y ~ x at the within level")  # fmt: skip
    if not is_inside(problem, fit):
        raise InferenceError(
            "A slope is tested in a model whose variances a population can have.",
            "a negative variance or an impossible correlation",
            'fit without allow=("inadmissible",)',
        )
    out = []
    places = [(s, level) for s in model.random_slopes for level in model.levels[1:]]
    for slope, level in places:
        smaller, n_gone = without_slope_variance(model, slope.name, level)
        if n_gone == 0:
            continue
        own = replace(problem, design=replace(problem.design, model=smaller))
        less = fit_admissible(own)
        statistic = max(less.criterion - fit.criterion, 0.0)
        k = n_gone - len(model.groups)
        naive = float(chi_square_tail(statistic, n_gone))
        known = less.certificate.status == "certified" and len(model.groups) == 1
        null = one_variance(k)
        p = null.p_value(statistic) if known else float("nan")
        words = null.sentence if known else "not defined"
        shown = f"p {'< .001' if p < 0.001 else f'= {p:.3f}'}" if known else (
            "no mixture is defined, because the smaller model is at a boundary itself or there are"
            f" groups; p is at most {naive:.3f}"
        )  # fmt: skip
        title = model.level_name(level)
        where = f" between {title}" if model.higher else ""
        sentence = (
            f"Without random variation of the slope of {slope.outcome} on {slope.predictor}{where},"
            f" -2 log-likelihood is {statistic:.2f} higher: {shown}."
        )
        out.append(SlopeTest(slope.name, slope.outcome, slope.predictor, statistic, k, words, p,
                             naive, sentence, title))  # fmt: skip
    return tuple(out)


def without_slope_variance(
    model: StructuralModel, name: str, level: Level = "between"
) -> tuple[StructuralModel, int]:
    """The model with the variance and the covariances of a slope at zero, and how many that were.

    The slope keeps its mean and its predictors.
    """
    names: list[str] = []
    place: dict[int, int] = {}
    rows, gone = [], set()
    for p in model.parameters:
        if p.is_free and p.op == "~~" and name in (p.lhs, p.rhs) and p.level == level:
            gone.add(p.free)
            rows.append(replace(p, free=-1, value=0.0))
            continue
        if p.is_free and p.free not in place:
            place[p.free] = len(names)
            names.append(model.free_names[p.free])
        rows.append(replace(p, free=place[p.free]) if p.is_free else p)
    return replace(model, parameters=tuple(rows), free_names=tuple(names)), len(gone)
