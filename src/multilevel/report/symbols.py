"""Symbols and equations, before they are set in any format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """One letter, or one variable, of an equation.

    Attributes
    ----------
    name : ``"gamma"``, ``"U"``, ``"e"`` or a variable's name.
    index : subscript, ``"10"``; may be empty.
    of : the grouping factor or variable in brackets, ``"school"``; may be empty.
    is_variable : whether the name is a variable of the data.
    before, after : what stands around it, ``"logit(P("`` and ``" = Y))"``.
    """

    name: str
    index: str = ""
    of: str = ""
    is_variable: bool = False
    before: str = ""
    after: str = ""

    @property
    def text(self) -> str:
        """Plain text, ``gamma_10`` or ``U_0[school]``."""
        index = f"_{self.index}" if self.index else ""
        return f"{self.before}{self.name}{index}{f'[{self.of}]' * bool(self.of)}{self.after}"


Term = tuple[Symbol, ...]


@dataclass(frozen=True)
class Equation:
    """``left`` equals the sum of ``right``; each term is a product of symbols.

    ``label`` says which level, ``"Level 1"``, or repeats none (empty). ``signs`` (``"+"`` or
    ``"-"`` by term) is empty where all terms are added.
    """

    label: str
    left: Symbol
    right: tuple[Term, ...]
    signs: tuple[str, ...] = ()

    @property
    def signed(self) -> tuple[tuple[str, Term], ...]:
        """Terms with the sign to print before each: none before a first term that is added."""
        signs = self.signs or ("+",) * len(self.right)
        shown = ("" if k == 0 and sign == "+" else sign for k, sign in enumerate(signs))
        return tuple(zip(shown, self.right, strict=True))

    @property
    def text(self) -> str:
        """Plain text without the label; an empty sum is ``0``."""
        terms = " ".join(
            f"{sign} {' '.join(symbol.text for symbol in term)}".strip()
            for sign, term in self.signed
        )
        return f"{self.left.text} = {terms or '0'}"
