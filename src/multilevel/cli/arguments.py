"""The arguments of the command line, and the help that teaches them."""

from __future__ import annotations

import argparse

from multilevel import __version__
from multilevel.cli.outcome import OUTCOMES, add_outcome
from multilevel.estimate.choose import ENGINES
from multilevel.infer.degrees_of_freedom import DF_METHODS
from multilevel.model.specification import METHODS

_EXIT_CODES = """\
exit codes:
  0   done; a singular fit is a valid optimum, is explained, and counts as done
  1   the fit is not to be trusted; the reason is on standard error
  2   the arguments, the data or the formula cannot be used
"""

_MAIN = """\
Multilevel (mixed-effects) models from the command line.

Start with `multilevel demo`: one data set, five models, every number explained.
"""

_DATA_HELP = (
    "data file: .csv .tsv (.gz), .parquet, .feather, Stata .dta, SPSS .sav, SAS .sas7bdat .xpt,"
    " Excel .xlsx"
)

_FORMULAS = """\
formulas: outcome ~ model for the means + (model for the variance | grouping factor)
  "y ~ 1 + (1 | school)"               empty means, random intercept
  "y ~ ses + (1 | school)"             a fixed slope
  "y ~ ses + (ses | school)"           intercept and slope vary, and correlate
  "y ~ ses + (ses || school)"          they vary without a correlation
  "y ~ ses * sector + (ses | school)"  cross-level interaction
  "y ~ within(ses, school) + between(ses, school) + (1 | school)"
                                       separate slopes within and between schools
  "y ~ 1 + (1 | school/class)"         classes nested in schools
  "y ~ 1 + (1 | pupil) + (1 | item)"   crossed factors

residuals that are correlated, or whose variance differs:
  multilevel fit d.csv "y ~ week + (1 | id)" --residual "ar1(week | id)"
  multilevel fit d.csv "y ~ week + (1 | id)" --scale "~ sex + week"

coming from R (lme4):
  The formula is the same: lmer(y ~ ses + (ses | school), data) becomes
    multilevel fit data.csv "y ~ ses + (ses | school)"
  lme4's default is REML, and so is this one.

coming from Stata:
  mixed y ses || school: ses, covariance(unstructured)         becomes
    multilevel fit data.dta "y ~ ses + (ses | school)" --method ml
  mixed y ses || school: ses                                   becomes
    multilevel fit data.dta "y ~ ses + (ses || school)" --method ml
  mixed y || school: || class:                                 becomes
    multilevel fit data.dta "y ~ 1 + (1 | school/class)" --method ml
  Stata's default is ML. c.ses is ses; i.sector is C(sector).

Quote the formula: the shell reads ( ) | ~ * otherwise.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``multilevel``."""
    parser = argparse.ArgumentParser(
        prog="multilevel",
        description=_MAIN,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"multilevel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_fit(commands)
    _add_describe(commands)
    commands.add_parser(
        "demo",
        help="five models of the High School and Beyond data, explained",
        description="Fit five models to the High School and Beyond data (it comes with the"
        " package) and explain each number.",
    )
    commands.add_parser(
        "warmup",
        help="compile the numeric kernels now, so that the first fit does not wait",
        description="Compile the numeric kernels and keep them on disk, so that the first fit"
        " does not wait. Needed once per installation.",
    )
    return parser


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fit = commands.add_parser(
        "fit",
        help="fit one model and print its summary",
        description="Fit one model and print its summary.",
        epilog=f"{_FORMULAS}\n{OUTCOMES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    fit.add_argument("data", metavar="DATA", help=_DATA_HELP)
    fit.add_argument("formula", metavar="FORMULA", help="the model, in quotes; examples below")
    fit.add_argument(
        "--method",
        choices=METHODS,
        help="reml (default of normal outcomes) for variances in small samples; ml to compare"
        " models with different fixed effects; all other outcomes are estimated by ml",
    )
    fit.add_argument(
        "--df",
        choices=DF_METHODS,
        help="degrees of freedom of the tests of fixed effects; left out: satterthwaite with reml,"
        " none (z tests) with ml, and none where satterthwaite would take more than 2 seconds;"
        " outcomes that are not normal have none or between-within",
    )
    fit.add_argument(
        "--weights",
        metavar="COL",
        help="column of precision weights: the residual variance of a row is divided by its"
        " weight (not sampling weights); numbers of trials for binomial proportions",
    )
    add_outcome(fit)
    fit.add_argument(
        "--rank-deficient",
        choices=("drop", "refuse"),
        default="drop",
        help="when fixed effects are exact combinations of others: leave the later ones out and"
        " say so (drop, default), or stop (refuse)",
    )
    _add_residual(fit)
    _add_allow(fit)
    fit.add_argument(
        "--engine",
        choices=ENGINES,
        help="numeric engine; left out, the cheapest one that fits in memory is chosen",
    )
    fit.add_argument(
        "--report",
        metavar="FILE",
        help="write the fit down as one document with equations, tables and pictures as well; the"
        " suffix says how: .html .md .docx .tex",
    )
    fit.add_argument("--json", action="store_true", help="print one JSON object with all numbers")
    fit.add_argument(
        "--verbose",
        action="store_true",
        help="add the evidence for convergence, the engine and the times",
    )


def _add_residual(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        "--residual",
        metavar="STRUCTURE",
        help='covariance of the residuals of one unit, in quotes: "ar1(time | id)",'
        ' "un(visit | id)", "cs(1 | id)", "ind(by=sex)" ...; an unknown name lists them all',
    )
    fit.add_argument(
        "--scale",
        metavar='"~ X"',
        help="model for the log of the residual variance (of the dispersion in other families)",
    )


def _add_allow(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=("random_slope_of_cluster_predictor",),
        help="fit what is refused unless it is meant: random_slope_of_cluster_predictor lets the"
        " variance of a group depend on one of its variables",
    )


def _add_describe(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    describe = commands.add_parser(
        "describe",
        help="describe the sampling design: levels, nesting, variables by level",
        description="Describe the sampling design: how the clusters nest or cross, and at which"
        " level each variable varies.",
        epilog="example:\n  multilevel describe hsb.csv --outcome mathach --clusters school\n\n"
        + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    describe.add_argument("data", metavar="DATA", help=_DATA_HELP)
    describe.add_argument("--outcome", metavar="Y", required=True, help="the outcome")
    describe.add_argument(
        "--clusters",
        metavar="A",
        nargs="+",
        required=True,
        help="the columns that say which cluster a row belongs to",
    )
    describe.add_argument("--json", action="store_true", help="print one JSON object")
