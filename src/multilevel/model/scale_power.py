"""The term ``power(mean)`` of a model for the residual variance: ``sd = sigma |mean|^delta``."""

from __future__ import annotations

import re

from multilevel.errors import ModelError

POWER_OF_MEAN = "power(mean)"
_CALL = re.compile(r"\bpower\s*\(\s*([^()]*?)\s*\)")


def split_power(scale: str) -> tuple[str | None, bool]:
    """The rest of a scale formula (None: nothing left), and whether it has ``power(mean)``.

    Parameters
    ----------
    scale : the right-hand side, as ``check_scale`` returns it.

    Raises
    ------
    ModelError : a power of something else, or a power inside another term.
    """
    found = _CALL.findall(scale)
    if not found:
        return scale, False
    other = [name for name in found if name != "mean"]
    if other:
        raise ModelError(
            "power() stands for a power of the mean: power(mean).",
            f"power({other[0]}) in scale={scale!r}",
            f"write log(abs({other[0]})): its coefficient is twice the power",
        )
    terms = [term.strip() for term in scale.split("+")]
    rest = [term for term in terms if _CALL.fullmatch(term) is None]
    if len(rest) != len(terms) - 1 or any(_CALL.search(term) for term in rest):
        raise ModelError(
            "power(mean) must be one term of its own.",
            f"scale={scale!r}",
            'write scale="~ power(mean)", or scale="~ sex + power(mean)"',
        )
    return (" + ".join(rest) or None), True
