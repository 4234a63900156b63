"""Identifiers for the columns and centring calls of one formula part."""

from __future__ import annotations

import keyword
from dataclasses import dataclass, field

from multilevel.model.formula.functions import CONTRAST_CALLS, FUNCTIONS, CentringKind

#: Constants that users of Python and R write.
CONSTANTS = {"True": "True", "TRUE": "True", "False": "False", "FALSE": "False", "None": "None"}

# Names with a meaning of their own wherever formulaic evaluates; a column of that name is renamed.
_RESERVED = FUNCTIONS | CONTRAST_CALLS | frozenset(CONSTANTS) | frozenset(
    ["np", "log2", "exp2", "exp10", "lag", "hashed", "contr", "cs", "Q", "standardize"]
)  # fmt: skip


@dataclass(frozen=True)
class CentringCall:
    """``within(x, g)``, ``between(x, g, at=50)``, ``center(x, 50)`` or ``scale(x)``.

    Attributes
    ----------
    kind : which of the four.
    expression : what is centred, as Python text over the identifiers in ``columns``.
    columns : pairs (identifier, column of the table).
    shown : what is centred, as the user wrote it.
    factors : the grouping columns (within, between), else empty.
    at : the constant that is subtracted (between, center), or None.
    rows : ``"analysis"``: means over the analysed rows; ``"all"``: over all rows that have them.
    text : the whole call, for labels.
    """

    kind: CentringKind
    expression: str
    columns: tuple[tuple[str, str], ...]
    shown: str
    factors: tuple[str, ...]
    at: float | None
    rows: str
    text: str

    @property
    def group(self) -> str:
        """Label of the grouping factor, empty for grand-mean centring."""
        return ":".join(self.factors)


@dataclass
class Names:
    """Identifiers handed out while one formula part is compiled.

    Attributes
    ----------
    columns : ``{identifier: column of the table}``.
    centring : ``{identifier: call}``.
    display : ``{text as evaluated: text for labels}``.
    """

    columns: dict[str, str] = field(default_factory=dict)
    centring: dict[str, CentringCall] = field(default_factory=dict)
    display: dict[str, str] = field(default_factory=dict)

    def of_column(self, column: str) -> str:
        """Return an identifier for a column; the column's own name where that is safe."""
        for identifier, known in self.columns.items():
            if known == column:
                return identifier
        plain = column.isidentifier() and column.isascii() and not keyword.iskeyword(column)
        if plain and column not in _RESERVED and not column.startswith("_"):
            identifier = column
        else:
            letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in column)
            identifier = f"_c{len(self.columns)}_{letters}"
        self.columns[identifier] = column
        self.display[identifier] = column
        return identifier

    def of_centring(self, call: CentringCall) -> str:
        """Return an identifier for the column that a centring call makes."""
        for identifier, known in self.centring.items():
            if known == call:
                return identifier
        identifier = f"_m{len(self.centring)}_{call.kind}"
        self.centring[identifier] = call
        self.display[identifier] = call.text
        return identifier
