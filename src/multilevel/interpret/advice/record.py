"""One piece of advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[str, ...] = get_args(Severity)


@dataclass(frozen=True)
class Advice:
    """One thing to look at again.

    Attributes
    ----------
    code : stable name of the check, e.g. ``"smushed_slope"``.
    severity : ``"error"`` (do not report before this is mended), ``"warning"`` or ``"note"``.
    sentence : what was found, with the user's names and numbers.
    mend : the call or the change of formula that mends it.
    """

    code: str
    severity: Severity
    sentence: str
    mend: str

    def __str__(self) -> str:
        """Sentence and mend as one paragraph."""
        return f"{self.severity}: {self.sentence} {self.mend}"
