"""What the numbers of a generalized model are called: parts, scales, ratios.

A ratio is exp(coefficient) and gets the name of what it is: an odds ratio under a logit link, a
rate ratio for counts, and so on. Links whose exponential means nothing (probit, cauchit, identity)
have none.
"""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.design.generalized import GeneralizedDesign
from multilevel.infer.generalized.natural import core_name
from multilevel.model.families.records import Family

_COUNTS = ("poisson", "negative_binomial", "negative_binomial_1", "generalized_poisson")
_BETAS = ("beta", "ordered_beta", "zero_one_inflated_beta")
_LOGNORMAL = ("lognormal", "censored_lognormal")
_PART_HEADINGS = {
    "dispersion": "dispersion",
    "power": "power of the variance",
    "df": "degrees of freedom of the residuals",
    "zero or one": "probability of exactly zero or one",
    "one": "probability of one among exact zeros and ones",
    "lower cut": "cut between zero and the rest",
    "upper cut": "cut between the rest and one",
}


@dataclass(frozen=True)
class Ratio:
    """What exp(coefficient) of one part is.

    Attributes
    ----------
    name : ``"Odds ratio"``, a column title.
    plural : a heading, ``"Odds ratios"``.
    meaning : what is multiplied by it, in words, for a predictor one unit higher.
    """

    name: str
    plural: str
    meaning: str


def _ratio(name: str, meaning: str) -> Ratio:
    return Ratio(name, name.replace("atio", "atios", 1), meaning)


def ratio_of(design: GeneralizedDesign, part: int) -> Ratio | None:
    """What exp(coefficient) of a part is, or None where it has no meaning."""
    spec = design.parts[part].spec
    if part == 0 or spec.argument == "formula":
        return _mean_ratio(design, part)
    if spec.name == "dispersion":
        what = dispersion_words(design.family)
        return Ratio("Ratio", f"Ratios of {what}", what)
    if spec.link == "logit":
        return _ratio("Odds ratio", f"the odds of {_after_probability(spec.meaning)}")
    return None


def _after_probability(meaning: str) -> str:
    return meaning.removeprefix("probability of ")


def _mean_ratio(design: GeneralizedDesign, part: int) -> Ratio | None:
    family, core = design.family, core_name(design.family)
    link = design.parts[part].spec.link
    if core == "nominal":
        return _ratio("Odds ratio", f"the {design.parts[part].spec.meaning}")
    if core == "binomial":
        event = f"the odds of {event_words(design)}"
        risk = f"the probability of {event_words(design)}"
        return {
            "logit": _ratio("Odds ratio", event),
            "log": _ratio("Risk ratio", risk),
            "cloglog": _ratio("Hazard ratio", f"the hazard (-log(1 - p), p: {risk})"),
        }.get(link)
    if link == "logit" and core in ("cumulative", "adjacent", "continuation_ratio"):
        return _ratio("Odds ratio", _ORDERED[core])
    if core in _COUNTS and link == "log":
        return _ratio("Rate ratio", f"the {mean_words(family)}")
    if core in _BETAS and link == "logit":
        return _ratio("Odds ratio", f"the odds mu / (1 - mu) of the {mean_words(family)}")
    if core in _LOGNORMAL:
        return Ratio("Ratio of medians", "Ratios of medians", "the median response")
    if link == "log":
        return Ratio("Ratio of means", "Ratios of means", f"the {mean_words(family)}")
    return None


_ORDERED = {
    "cumulative": "the odds of a category above any threshold (proportional odds)",
    "adjacent": "the odds of each category against the one below it",
    "continuation_ratio": "the odds of going beyond a category, once it is reached",
}


def mean_words(family: Family) -> str:
    """What the inverse link of the first part is, zeros of their own kind left out."""
    meaning = family.parts[0].meaning
    if family.option("zero") == "inflated":
        return f"{meaning} apart from structural zeros"
    if family.option("zero") == "hurdle" and core_name(family) in _COUNTS:
        return f"{meaning} before zeros are cut off"
    if family.option("zero") == "hurdle":
        return f"{meaning} where it is not zero"
    return meaning


def event_words(design: GeneralizedDesign) -> str:
    """The event of a binary response: ``use = Y``, or the column of successes."""
    model = design.mean.model
    if model.response_parts:
        return model.response_parts[0]
    if design.response.trials is not None:
        return f"success in {model.response}"
    return f"{model.response} = {design.response.categories[1]}"


def dispersion_words(family: Family) -> str:
    """The dispersion of a family in words: ``overdispersion (alpha)``."""
    core = core_name(family)
    if core in ("gaussian", "censored_gaussian", *_LOGNORMAL):
        return "the residual variance"
    if core == "student":
        return "the squared scale"
    if core in _COUNTS:
        return "the overdispersion alpha"
    if core in _BETAS:
        return "the precision phi"
    return "the dispersion phi"


def scale_words(link: str) -> str:
    """The scale of a predictor: ``on the logit scale``, ``in units of the response``."""
    return "on the response scale" if link == "identity" else f"on the {link} scale"


def means_heading(design: GeneralizedDesign, part: int) -> str:
    """Heading of the coefficients of the mean, or of one category."""
    spec = design.parts[part].spec
    base = "Model for the means"
    core = core_name(design.family)
    if core == "nominal":
        return f"{base}: {spec.meaning.replace('odds', 'log odds', 1)}"
    if core in _LOGNORMAL:
        return f"{base} (fixed effects on the log response)"
    if design.response.categories and design.family.response == "ordered":
        return f"{base} (fixed effects on the latent response)"
    return f"{base} (fixed effects {scale_words(spec.link)})"


def family_title(family: Family) -> str:
    """The family as titles have it: ``ordinal cumulative (logit link)``."""
    return f"ordinal {family.label}" if family.response == "ordered" else family.label


def part_heading(family: Family, name: str, link: str) -> str:
    """Heading of a part beside the means that has predictors."""
    if name == "dispersion":
        return f"Model for {dispersion_words(family)} (fixed effects on its log scale)"
    if name == "zero":
        kind = "structural zeros" if family.option("zero") == "inflated" else "zeros"
        return f"Model for {kind} (fixed effects on the {link} scale)"
    return f"Model for the {_PART_HEADINGS.get(name, name)} (fixed effects {scale_words(link)})"


def natural_heading(family: Family, name: str) -> str:
    """Heading of a part that is one number."""
    if name == "threshold":
        return f"Thresholds (on the {family.link} scale)"
    if name == "dispersion":
        what = dispersion_words(family).removeprefix("the ")
        return what[0].upper() + what[1:]
    if name == "zero":
        return "Zero inflation" if family.option("zero") == "inflated" else "Hurdle: zeros"
    if name == "cut":
        return "Cuts for exact zeros and ones (on the logit scale)"
    words = _PART_HEADINGS.get(name, name)
    return words[0].upper() + words[1:]


def part_words(design: GeneralizedDesign, part: int) -> str:
    """A part in a table: ``mean``, ``structural zeros``, ``dispersion``, a category."""
    spec = design.parts[part].spec
    if part == 0 and spec.argument != "formula":
        return "mean"
    if spec.argument == "formula":
        return spec.name.removeprefix("category ")
    if spec.name == "zero":
        return "zeros"
    return spec.name
