"""Names of fixed effects: taken apart, and found again however the user writes them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from multilevel.errors import InferenceError

_OPEN, _CLOSE = "([{", ")]}"


def split_top(text: str, separators: str) -> list[tuple[str, str]]:
    """Split at separators outside brackets and backticks: pairs (separator before, piece)."""
    out: list[tuple[str, str]] = []
    depth, quoted, start, before = 0, False, 0, ""
    for i, char in enumerate(text):
        if char == "`":
            quoted = not quoted
        elif quoted:
            continue
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and char in separators:
            out.append((before, text[start:i]))
            before, start = char, i + 1
    out.append((before, text[start:]))
    return out


def parts_of(name: str) -> list[str]:
    """The factors of an interaction: ``"meanses:sector[Public]"`` -> its two parts."""
    return [piece for _, piece in split_top(name, ":")]


def canonical(name: str) -> frozenset[str]:
    """A name without spaces, backticks and order of its parts."""
    return frozenset(re.sub(r"[\s`]", "", part) for part in parts_of(name))


def without_category(part: str) -> str:
    """``"sector[Public]"`` -> ``"sector"``."""
    return re.sub(r"\[[^\[\]]*\]$", "", part)


def variable_of(part: str) -> str:
    """``"C(sector)[1]"`` and ``"sector[1]"`` -> ``"sector"``."""
    plain = without_category(part)
    coded = re.fullmatch(r"(?:C|factor)\(\s*([^,()]+?)\s*(?:,.*)?\)", plain)
    return coded.group(1) if coded else plain


class EffectNames:
    """The fixed effects of a design, found by name.

    A written name may be the column (``sector[Public]``), the term (``sector``; all its columns),
    an interaction in any order, or the short form of a centring call (``within`` for
    ``within(ses, school)``) where only one effect has it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find(self, written: str) -> list[int]:
        """Positions of the columns that a name means.

        Raises
        ------
        InferenceError : no such effect; close matches are listed.
        """
        text = written.strip()
        plain = text[1:-1] if len(text) > 1 and text[0] == text[-1] == "`" else text
        if plain in self.names:
            return [self.names.index(plain)]
        if plain.lower() in ("intercept", "1", "cons", "_cons") and "(Intercept)" in self.names:
            return [self.names.index("(Intercept)")]
        wanted = canonical(plain)
        for forms in (self._columns, self._terms, self._short):
            found = [k for k, name in enumerate(self.names) if forms(name) == wanted]
            if found:
                return found
        raise self._unknown(plain)

    def one(self, written: str) -> int:
        """The one column that a name means.

        Raises
        ------
        InferenceError : no such effect, or a term with several columns.
        """
        found = self.find(written)
        if len(found) == 1:
            return found[0]
        raise InferenceError(
            "A name in a combination of effects must mean one fixed effect.",
            f"{written.strip()} has {len(found)}: " + ", ".join(self.names[k] for k in found),
            "write one of these names",
        )

    @staticmethod
    def _columns(name: str) -> frozenset[str]:
        return canonical(name)

    @staticmethod
    def _terms(name: str) -> frozenset[str]:
        return frozenset(re.sub(r"\s", "", without_category(part)) for part in parts_of(name))

    def _short(self, name: str) -> frozenset[str]:
        out = set()
        for part in parts_of(name):
            call = re.match(r"(within|between|center|scale)\(", part)
            out.add(re.sub(r"\s", "", call.group(1) if call else variable_of(part)))
        return frozenset(out)

    def _unknown(self, written: str) -> InferenceError:
        pool = list(self.names)
        lowered = {name.lower(): name for name in pool}
        close = difflib.get_close_matches(written.lower(), list(lowered), n=3, cutoff=0.4)
        close = [lowered[name] for name in close]
        close += [name for name in pool if written.lower() in name.lower() and name not in close]
        shown = close[:3] if close else pool[:8]
        return InferenceError(
            "A hypothesis may only name fixed effects of the model.",
            f"{written!r}",
            ("did you mean " if close else "the fixed effects are ") + ", ".join(shown),
        )
