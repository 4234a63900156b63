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
    """

    name: str
    index: str = ""
    of: str = ""
    is_variable: bool = False

    @property
    def text(self) -> str:
        """Plain text, ``gamma_10`` or ``U_0[school]``."""
        return (
            self.name + (f"_{self.index}" if self.index else "") + (f"[{self.of}]" * bool(self.of))
        )


Term = tuple[Symbol, ...]


@dataclass(frozen=True)
class Equation:
    """``left`` equals the sum of ``right``; each term is a product of symbols.

    ``label`` says which level, ``"Level 1"``, or repeats none (empty).
    """

    label: str
    left: Symbol
    right: tuple[Term, ...]

    @property
    def text(self) -> str:
        """Plain text without the label; an empty sum is ``0``."""
        terms = " + ".join(" ".join(symbol.text for symbol in term) for term in self.right)
        return f"{self.left.text} = {terms or '0'}"
