"""``between(x, g, latent=True)`` in a formula: the question, and its structural model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from multilevel.errors import FormulaError

_ASKS = re.compile(r"\blatent\s*=")
_NAME = r"(`[^`]+`|[^\W\d][\w.]*)"
_CALL = re.compile(rf"\bbetween\(\s*{_NAME}\s*,\s*{_NAME}\s*,\s*latent\s*=\s*(\w+)\s*\)")


@dataclass(frozen=True)
class LatentMeanQuestion:
    """A formula with one latent cluster mean.

    Attributes
    ----------
    formula : as written.
    observed : the same with the observed mean, ``between(x, g)``.
    variable, cluster : x and g.
    """

    formula: str
    observed: str
    variable: str
    cluster: str

    @property
    def within_name(self) -> str:
        """Name of the centred predictor among the fixed effects."""
        return f"within({self.variable}, {self.cluster})"

    @property
    def observed_name(self) -> str:
        """Name of the observed mean among the fixed effects."""
        return f"between({self.variable}, {self.cluster})"

    @property
    def latent_name(self) -> str:
        """Name of the latent mean among the fixed effects."""
        return f"between({self.variable}, {self.cluster}, latent=True)"


@dataclass(frozen=True)
class Covariate:
    """Another fixed-effect column: its name in the formula, and in the structural model.

    ``within`` and ``between`` are ``""`` where it does not vary at that level; where it varies at
    both, it is split into latent parts like x.
    """

    name: str
    label: str
    within: str
    between: str


@dataclass(frozen=True)
class LatentMeanPlan:
    """The structural model of a question.

    Attributes
    ----------
    question : the formula.
    response : name of the outcome.
    is_contextual : whether x stands as observed beside its mean, so that the coefficient of the
        mean is the contextual effect.
    slope : name of the random slope of x, ``""`` if fixed.
    covariates : the other fixed-effect columns.
    text : the model in the language of ``sem``.
    """

    question: LatentMeanQuestion
    response: str
    is_contextual: bool
    slope: str
    covariates: tuple[Covariate, ...]
    text: str


def read_latent_mean(formula: str) -> LatentMeanQuestion | None:
    """What a formula asks; None without ``latent=``.

    Raises
    ------
    FormulaError : ``latent=`` in another place, with another value, or twice.
    """
    asked = _ASKS.search(formula)
    if asked is None:
        return None
    calls = list(_CALL.finditer(formula))

    def refuse(found: str, remedy: str) -> NoReturn:
        raise FormulaError(
            "A latent cluster mean is written between(x, g, latent=True), with the names of two"
            " columns.",
            found, remedy, formula.replace("\n", " "), asked.start(),
        )  # fmt: skip

    if len(_ASKS.findall(formula)) != len(calls):
        refuse("something else", "make a column of a transformed x first; within(x, g) beside a"
               " latent mean is centred at it")  # fmt: skip
    if len(calls) > 1:
        refuse(f"{len(calls)} latent means", "take one, or write the model in mlm.sem, which has"
               " any number of them")  # fmt: skip
    variable, cluster, value = (part.strip("`") for part in calls[0].groups())
    if value not in ("True", "TRUE"):
        refuse(f"latent={value}", "leave latent= out for the observed mean")
    call = calls[0]
    plain = f"between({call.group(1)}, {call.group(2)})"
    observed = formula[: call.start()] + plain + formula[call.end() :]
    return LatentMeanQuestion(formula, observed, variable, cluster)


def plan_latent_mean(
    question: LatentMeanQuestion,
    response: str,
    covariates: Sequence[Covariate],
    *,
    is_contextual: bool,
    slope: str,
) -> LatentMeanPlan:
    """Write the structural model: x split into latent parts.

    A covariate that varies within and between clusters is split likewise, with one slope for both
    parts, as in any mixed model: its observed mean would hold the sampling error of the same rows
    as that of x, so that taking it as given biases the effect of the latent mean. Other predictors
    are taken as given.
    """
    x, y = f"`{question.variable}`", f"`{response}`"
    within = [f"{c.label}*`{c.within}`" for c in covariates if c.within]
    between = [f"{c.label}*`{c.between}`" for c in covariates if c.between]
    lines = ["level: within"]
    if slope:
        lines.append(f"  {slope} | {y} ~ {x}")
    else:
        within.insert(0, f"slope_within*{x}")
    lines += [f"  {y} ~ {' + '.join(within)}"] if within else []
    lines.append("level: between")
    first = "slope_contextual" if slope else "slope_between"
    lines.append(f"  {y} ~ {' + '.join([f'{first}*{x}', *between])}")
    lines.append(f"  {y} ~ intercept*1")
    if slope:
        lines += [f"  {slope} ~ slope_within*1", f"  {slope} ~~ 0*{x}"]
        lines += [f"  {slope} ~~ 0*`{c.between}`" for c in covariates if c.within and c.between]
        lines.append("slope_between := slope_contextual + slope_within")
    else:
        lines.append("slope_contextual := slope_between - slope_within")
    return LatentMeanPlan(
        question, response, is_contextual, slope, tuple(covariates), "\n".join(lines)
    )
