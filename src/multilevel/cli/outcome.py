"""Arguments of ``multilevel fit`` about outcomes that are not normal, and their help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from multilevel.errors import ModelError
from multilevel.estimate.generalized.accuracy import ACCURACIES
from multilevel.estimate.generalized.penalty import PENALTIES

OUTCOMES = """\
other outcomes (--family): binomial, poisson, negative_binomial, gamma, beta, tweedie, t,
cumulative (ordered categories), nominal ... ; an unknown name lists them all
  multilevel fit d.csv "passed ~ ses + (1 | school)" --family binomial --event yes
  multilevel fit d.csv "cbind(hits, misses) ~ x + (1 | id)" --family binomial
  multilevel fit d.csv "hits ~ x + (1 | id)" --family binomial --trials n --link probit
  multilevel fit d.csv "visits ~ x + (1 | id)" --family negative_binomial --exposure years
  multilevel fit d.csv "visits ~ x + (1 | id)" --family poisson --zero "~ x"
  multilevel fit d.csv "rating ~ x + (1 | id)" --family cumulative --categories low,mid,high
  multilevel fit d.csv "ill ~ time + (1 | id)" --family binomial --accuracy auto

coming from R (glmer, glmmTMB, clmm):
  glmer(y ~ x + (1 | g), d, binomial, nAGQ = 9)                  becomes
    multilevel fit d.csv "y ~ x + (1 | g)" --family binomial --n-quad 9
  glmmTMB(y ~ x + (1 | g), d, nbinom2, ziformula = ~ x)          becomes
    multilevel fit d.csv "y ~ x + (1 | g)" --family nbinom2 --zero "~ x" --n-quad 1
  Both are Laplace by default: --n-quad 1.

coming from Stata:
  melogit y x || g:, intpoints(7)                                becomes
    multilevel fit d.dta "y ~ x + (1 | g)" --family binomial --n-quad 7

coming from SAS:
  proc glimmix method=quad(qpoints=7); class g;
  model y(event='1') = x / dist=binary; random int / subject=g;  becomes
    multilevel fit d.sas7bdat "y ~ x + (1 | g)" --family binomial --event 1 --n-quad 7
  GLIMMIX's default (RSPL) is pseudo-likelihood; it is not offered here.
"""

#: Arguments that are handed to ``fit`` under their own names when they are given.
_NAMES = (
    "family", "link", "trials", "event", "exposure", "frequency_weights", "dispersion", "zero",
    "hurdle", "thresholds", "accuracy", "penalty",
)  # fmt: skip


def add_outcome(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about the outcome and the computation of its likelihood."""
    group = parser.add_argument_group("outcomes that are not normal")
    group.add_argument("--family", metavar="NAME", help="kind of outcome (gaussian if left out)")
    group.add_argument(
        "--link",
        metavar="NAME",
        help="link of the mean: logit, probit, cloglog, log ...; left out, the family's own",
    )
    group.add_argument(
        "--event",
        metavar="VALUE",
        help="binary outcomes: the value whose probability is modelled; left out, the last one"
        " (the summary always says which)",
    )
    group.add_argument(
        "--trials", metavar="COL", help="column of numbers of trials, where the outcome counts"
        " successes or is a proportion",
    )  # fmt: skip
    group.add_argument(
        "--categories",
        metavar="A,B,C",
        help="order of the categories, the lowest (or the reference) first",
    )
    group.add_argument(
        "--exposure", metavar="COL", help="column of exposures (time, persons at risk): rates"
    )
    group.add_argument(
        "--frequency-weights", metavar="COL", help="column that says how many equal rows a row is"
    )
    for name, what in (
        ("dispersion", "the dispersion"),
        ("zero", "the probability of extra zeros (zero inflation)"),
        ("hurdle", "the probability of zero (hurdle model)"),
        ("thresholds", "the thresholds (effects that differ between categories)"),
    ):
        group.add_argument(f"--{name}", metavar='"~ X"', help=f"model for {what}")
    group.add_argument("--truncated", action="store_true", help="counts of zero cannot occur")
    group.add_argument(
        "--n-quad",
        metavar="K",
        help="quadrature points per random effect; 1 is Laplace; left out, 7 for one or two random"
        " effects per cluster, Laplace otherwise; 9,5 for nested factors (the finer first)",
    )
    group.add_argument(
        "--accuracy",
        choices=ACCURACIES,
        help="report (default): say how accurate the likelihood is; auto: raise the number of"
        " points until more would not matter; none: do neither",
    )
    group.add_argument(
        "--penalty",
        action="append",
        choices=tuple(PENALTIES),
        help="weakly informative penalty: slopes (keeps them finite under separation), variances"
        " (keeps them off zero); may be given twice",
    )


def outcome_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was said about the outcome, as arguments of ``fit``; only what was given.

    Raises
    ------
    ModelError : points that are not whole numbers.
    """
    given = {name: getattr(arguments, name) for name in _NAMES}
    found = {name: value for name, value in given.items() if value is not None}
    if "event" in found:
        found["event"] = _value(found["event"])
    if arguments.categories is not None:
        found["categories"] = [_value(part.strip()) for part in arguments.categories.split(",")]
    if arguments.truncated:
        found["truncated"] = True
    if arguments.n_quad is not None:
        found["n_quad"] = _points(arguments.n_quad)
    return found


def _value(text: str) -> Any:
    """A number where the text is exactly how that number is written, else the text."""
    kinds: Sequence[type[int] | type[float]] = (int, float)
    for kind in kinds:
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text


def _points(text: str) -> int | tuple[int, ...]:
    """``7`` or ``9,5``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ModelError(
            "--n-quad is a whole number, or one for each grouping factor.",
            repr(text),
            "write --n-quad 7",
        )
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))
