"""Families of proportions with exact zeros and ones."""

from __future__ import annotations

from multilevel.errors import ModelError
from multilevel.model.families.records import Family, PartSpec

BOUNDED: dict[str, str] = {
    "ordered_beta": "ordered beta",
    "zero_one_inflated_beta": "zero-one-inflated beta",
}


def bounded_family(name: str, link: str = "logit") -> Family:
    """A family of proportions from 0 to 1, both included.

    * ``ordered_beta`` (Kubinec 2022): one ``eta`` gives the mean ``mu = s(eta)`` of a beta
      response and, with two cuts ``k1 < k2``, ``P(0) = 1 - s(eta - k1)``, ``P(1) = s(eta - k2)``.
      Parts: mean, dispersion (log precision), ``"lower cut"`` = k1, ``"upper cut"`` =
      log(k2 - k1). The mean part keeps its intercept.
    * ``zero_one_inflated_beta`` (Ospina & Ferrari 2010): a beta response, or with probability
      ``s("zero or one")`` a bound, which is one with probability ``s("one")``.

    Raises
    ------
    ModelError : an unknown name or link.
    """
    if name not in BOUNDED:
        raise ModelError(
            "Families of proportions with zeros and ones are " + ", ".join(BOUNDED) + ".",
            repr(name),
            "choose one of these names",
        )
    if link != "logit":
        raise ModelError(
            f"The {BOUNDED[name]} family has the logit link.", f"link {link!r}", "leave link out"
        )
    shared = (
        PartSpec("mean", "logit", "mean of responses between zero and one"),
        PartSpec("dispersion", "log", "precision of responses between zero and one", "dispersion"),
    )
    if name == "ordered_beta":
        own = (
            PartSpec("lower cut", "identity", "predictor above which zero is less than even"),
            PartSpec("upper cut", "log", "distance from the lower to the upper cut"),
        )
    else:
        own = (
            PartSpec("zero or one", "logit", "probability of zero or one", "zero"),
            PartSpec("one", "logit", "probability of one among zeros and ones"),
        )
    return Family(
        name=name,
        link="logit",
        label=f"{BOUNDED[name]} (logit link)",
        response="unit_interval",
        parts=shared + own,
    )
