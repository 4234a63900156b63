"""What the caller of ``fit`` says about the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multilevel.design.generalized import Column


@dataclass(frozen=True)
class OutcomeOptions:
    """The arguments of ``fit`` that say what the outcome is and how the integral is computed.

    Attributes
    ----------
    family, link : names, see ``fit``.
    trials, event, categories, exposure, frequency_weights : about the response.
    dispersion, zero, hurdle, thresholds : right-hand sides of parts with their own formula.
    truncated : whether counts of zero cannot occur.
    n_quad, accuracy, penalty : about estimation.
    scale : right-hand side of the model for the variance, its random effects correlated with those
        of the means.
    """

    family: str = "gaussian"
    link: str | None = None
    trials: Column | None = None
    event: Any = None
    categories: Sequence[Any] = ()
    exposure: str | None = None
    frequency_weights: Column | None = None
    dispersion: str | None = None
    zero: str | None = None
    hurdle: str | None = None
    thresholds: str | None = None
    truncated: bool = False
    n_quad: int | tuple[int, ...] | None = None
    accuracy: str = "report"
    penalty: str | Sequence[str] | None = None
    scale: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the Gaussian engines can answer: nothing but the family was said, and no random
        effects in the model for the variance."""
        fixed_scale = None if self.scale is not None and "|" in self.scale else self.scale
        default = OutcomeOptions(self.family, self.link, scale=fixed_scale)
        known = str(self.family).lower() in ("gaussian", "normal")
        return known and self.link in (None, "identity") and self == default
