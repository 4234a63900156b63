"""What changed from one model to the next: effects, criterion, and each pile of variance.

Explained variance of a pile is ``(before - after) / before``, relative to the named model
(Raudenbush & Bryk 2002, p. 74); it can be negative.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from multilevel.design.records import Design
from multilevel.estimate.records import Fit
from multilevel.interpret.variance import INTERCEPT, RESIDUAL, variance_components
from multilevel.report.facts import split_interaction
from multilevel.report.layout import count, join_words, short

Pile = tuple[str, str]


def what_changed(
    fit0: Fit,
    design0: Design,
    fit1: Fit,
    design1: Design,
    name0: str = "the model before",
) -> tuple[str, ...]:
    """Say in sentences what the second model changed relative to the first.

    Parameters
    ----------
    fit0, design0 : the model before, called ``name0`` in the sentences.
    fit1, design1 : the model after.

    Returns
    -------
    Sentences: effects that came and went; the change of the criterion where the two may be
    compared (same rows; ML, or REML with the same fixed effects), else why not; each variance
    before and after.
    """
    out = [_effects(design0, design1)]
    problem = _incomparable_rows(design0, design1)
    if problem:
        return (*out, problem)
    out.append(_criterion(fit0, design0, fit1, design1))
    return (*out, *_piles(fit0, design0, fit1, design1, name0))


def _effects(design0: Design, design1: Design) -> str:
    parts = []
    fixed0, fixed1 = _fixed(design0), _fixed(design1)
    random0 = [(b.group, n) for b in design0.blocks for n in b.names]
    random1 = [(b.group, n) for b in design1.blocks for n in b.names]
    for verb, old, new in (("New", fixed0, fixed1), ("Gone", fixed1, fixed0)):
        names = [name for key, name in new.items() if key not in old]
        if names:
            parts.append(f"{verb} in the model for the means: {join_words(names)}.")
    for verb, old_r, new_r in (("New", random0, random1), ("Gone", random1, random0)):
        piles = [_pile_name(p) for p in new_r if p not in old_r]
        if piles:
            parts.append(f"{verb} in the model for the variance: the {join_words(piles)}.")
    return " ".join(parts) or "The same effects in both models."


def _fixed(design: Design) -> dict[frozenset[str], str]:
    """Fixed effects by their parts, so that ``a:b`` and ``b:a`` are one."""
    return {frozenset(split_interaction(name)): name for name in design.names}


def _pile_name(pile: Pile) -> str:
    group, term = pile
    if group == RESIDUAL:
        return "residual variance"
    if term == INTERCEPT:
        return f"intercept variance of {group}"
    return f"variance of the {term} slope over {group}"


def _incomparable_rows(design0: Design, design1: Design) -> str:
    if design0.model.response != design1.model.response:
        return (
            f"The outcomes differ ({design0.model.response} and {design1.model.response}): nothing"
            " else can be compared."
        )
    if np.array_equal(design0.rows.kept, design1.rows.kept):
        return ""
    return (
        f"The two models use different rows ({design0.n} and {design1.n}), so that neither"
        " criterion nor variances can be compared. Fit both on the rows complete in all variables."
    )


def _criterion(fit0: Fit, design0: Design, fit1: Fit, design1: Design) -> str:
    if fit0.method != fit1.method:
        return "One model is fitted by REML and one by ML: their criteria cannot be compared."
    same_means = _fixed(design0).keys() == _fixed(design1).keys()
    if fit0.method == "reml" and not same_means:
        return (
            "REML criteria of models with different fixed effects cannot be compared; judge the"
            " new effects by estimate and standard error, or fit both models by ML."
        )
    name = "REML criterion" if fit0.method == "reml" else "-2 log-likelihood"
    fall = fit0.criterion - fit1.criterion
    k = fit1.n_parameters - fit0.n_parameters
    values = f"({fit0.criterion:.2f} to {fit1.criterion:.2f})"
    if k == 0:
        return f"Both models have as many parameters; the {name} changes by {-fall:+.2f} {values}."
    if k < 0:
        return f"The {name} rises by {-fall:.2f} with {count(-k, 'parameter')} fewer {values}."
    if fall < -1e-4:
        return (
            f"The {name} rises by {-fall:.2f} {values} although {count(k, 'parameter')} came in:"
            " the first model is not a special case of the second, or one is not at its optimum."
        )
    without = "One parameter" if k == 1 else f"{k} parameters"
    # Variances meet their boundary at zero, so that the mean of the mixture is smaller than k.
    about = f"about {k}" if len(fit1.theta) == len(fit0.theta) else f"{k} at most"
    return (
        f"The {name} falls by {fall:.2f} with {count(k, 'parameter')} more {values}. {without}"
        f" without any effect would lower it by {about} on average."
    )


def _piles(fit0: Fit, design0: Design, fit1: Fit, design1: Design, name0: str) -> list[str]:
    before, after = _variances(fit0, design0), _variances(fit1, design1)
    grown = {group for group, term in after if term != INTERCEPT and (group, term) not in before}
    same_means = _fixed(design0).keys() == _fixed(design1).keys()
    out = []
    for pile, new in after.items():
        if pile not in before:
            sd = short(float(np.sqrt(max(new, 0.0))))
            out.append(f"The {_pile_name(pile)} is {short(new)} (SD {sd}).")
            continue
        old = before[pile]
        text = f"The {_pile_name(pile)} goes from {short(old)} to {short(new)}"
        if not old > 0.0:
            out.append(f"{text}.")
        elif pile[0] in grown and pile[1] == INTERCEPT:
            slopes = [t for g, t in after if g == pile[0] and t != INTERCEPT]
            out.append(
                f"{text}; it is now the variance at {join_words([f'{s} = 0' for s in slopes])}."
            )
        elif grown:
            out.append(
                f"{text}: random slopes explain nothing, they move variance to a pile of their own."
                if same_means
                else f"{text}: part explained, part moved to the random slopes."
            )
        else:
            out.append(f"{text}: {_explained(old, new, name0)}.")
    out += [
        f"The {_pile_name(p)} ({short(v)}) is gone." for p, v in before.items() if p not in after
    ]
    return out + _suppression(before, after, bool(grown))


def _explained(old: float, new: float, name0: str) -> str:
    share = (old - new) / old
    if abs(share) < 5e-4:
        return f"none of it explained, relative to {name0}"
    if share > 0.0:
        return f"{100.0 * share:.1f}% of it explained, relative to {name0}"
    return f"{-100.0 * share:.1f}% more than in {name0} (a negative explained variance)"


def _suppression(
    before: Mapping[Pile, float], after: Mapping[Pile, float], slopes_added: bool
) -> list[str]:
    """Explain why an intercept variance can rise when level-1 predictors enter."""
    residual = (RESIDUAL, "")
    rising = [
        p for p in after if p[1] == INTERCEPT and p in before and after[p] > 1.0005 * before[p]
    ]
    if slopes_added or not rising or not after[residual] < before[residual]:
        return []
    return [
        f"The {_pile_name(rising[0])} rises because part of the variance between observed means is"
        " residual noise: with a smaller residual less of it is put down to noise."
    ]


def _variances(fit: Fit, design: Design) -> dict[Pile, float]:
    return {(c.group, c.term): c.variance for c in variance_components(design, fit) if not c.term2}
