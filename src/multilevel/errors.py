"""One tree of errors and warnings, by stage of the data's journey.

Every error says three things: what must hold, what was found (name, value, row), what to do.
"""

from __future__ import annotations


class MultilevelError(Exception):
    """Base of all errors that this package raises on purpose.

    Parameters
    ----------
    must : what must hold, as a sentence.
    found : what was found instead, and where.
    remedy : what the user can do.
    """

    def __init__(self, must: str, found: str = "", remedy: str = "") -> None:
        self.must, self.found, self.remedy = must, found, remedy
        parts = [must]
        if found:
            parts.append(f"Found: {found}")
        if remedy:
            parts.append(f"What to do: {remedy}")
        super().__init__("\n  ".join(parts))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Pickle through the three parts, so that errors cross process borders."""
        return (type(self), (self.must, self.found, self.remedy))


class TableError(MultilevelError):
    """A file or table that cannot be used."""


class FormulaError(MultilevelError):
    """A formula that cannot be understood; points at a character.

    ``text`` is the formula and ``position`` the zero-based character at fault (or ``None``).
    """

    def __init__(
        self,
        must: str,
        found: str = "",
        remedy: str = "",
        text: str = "",
        position: int | None = None,
    ) -> None:
        if text and position is not None:
            found = f"{found}\n    {text}\n    {' ' * position}^"
        super().__init__(must, found, remedy)
        self.text, self.position = text, position

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Pickle through the three parts (the pointer is already inside ``found``)."""
        return (type(self), (self.must, self.found, self.remedy))


class ModelError(MultilevelError):
    """A model that is not defined or not supported."""


class DesignError(MultilevelError):
    """A model that cannot be laid over this table."""


class LikelihoodError(MultilevelError):
    """A likelihood that cannot be evaluated."""


class NegativeIntegralError(LikelihoodError):
    """A sparse quadrature grid, some of whose weights are negative, gave no positive likelihood."""


class EstimationError(MultilevelError):
    """An estimation that cannot start or cannot be carried out."""


class InferenceError(MultilevelError):
    """A quantity that this fit cannot give."""


class MissingPackageError(MultilevelError):
    """A package that one kind of output needs is not installed."""


class MultilevelWarning(UserWarning):
    """Base of all warnings; raised at the public door only."""


class ConvergenceWarning(MultilevelWarning):
    """The fit is not certified: its numbers are not to be trusted."""


class DataWarning(MultilevelWarning):
    """Rows or columns were left out."""
