"""Expressions of parameters (``ind := a * b``) with exact derivatives.

A small tree of allowed nodes, walked once per evaluation; derivatives by the chain rule in forward
mode (Griewank & Walther 2008, chapter 3). Nothing is handed to an interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import special

from multilevel.errors import ModelError
from multilevel.model.structural.scan import Token, refuse

Array = NDArray[np.float64]
Dual = tuple[float, Array]

Function = Callable[[Any], Any]

#: name -> (function, derivative); both take numbers and arrays
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1.0 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "atanh": (np.arctanh, lambda x: 1.0 / (1.0 - x * x)),
    "logistic": (special.expit, lambda x: special.expit(x) * special.expit(-x)),
}
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
}


@dataclass(frozen=True)
class Expression:
    """One node: ``kind`` is "number", "name", "+", "-", "*", "/", "^", "negative" or a function."""

    kind: str
    value: float = 0.0
    name: str = ""
    parts: tuple[Expression, ...] = ()
    position: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the expression mentions, in order, each once."""
        own = (self.name,) if self.kind == "name" else ()
        inner = [name for part in self.parts for name in part.names]
        return tuple(dict.fromkeys([*own, *inner]))

    def over(self, values: Mapping[str, Array]) -> Array:
        """Values at many points: arrays of one shape in, an array out; NaN if undefined."""
        if self.kind == "number":
            return np.asarray(self.value)
        if self.kind == "name":
            return values[self.name]
        parts = [part.over(values) for part in self.parts]
        with np.errstate(all="ignore"):
            if self.kind == "negative":
                return np.asarray(-parts[0])
            if self.kind in FUNCTIONS:
                return np.asarray(FUNCTIONS[self.kind][0](parts[0]))
            return np.asarray(OPERATIONS[self.kind](parts[0], parts[1]))

    def evaluate(self, values: Mapping[str, Dual], n: int) -> Dual:
        """Value and (n,) gradient, given value and gradient of every name.

        Raises
        ------
        ModelError : a logarithm or root outside its domain, or a division by zero.
        """
        if self.kind == "number":
            return self.value, np.zeros(n)
        if self.kind == "name":
            return values[self.name]
        duals = [part.evaluate(values, n) for part in self.parts]
        try:
            with np.errstate(divide="raise", invalid="raise", over="raise"):
                return self._combine(duals)
        except (FloatingPointError, ZeroDivisionError, OverflowError) as error:
            raise ModelError(
                "A defined parameter must exist and be differentiable at the estimates.",
                f"{self.kind} of {', '.join(f'{d[0]:.6g}' for d in duals)}",
                "define another function of the parameters",
            ) from error

    def _combine(self, duals: list[Dual]) -> Dual:
        """Apply this node to the values and gradients of its parts."""
        (x, dx) = duals[0]
        if self.kind == "negative":
            return -x, -dx
        if self.kind in FUNCTIONS:
            function, derivative = FUNCTIONS[self.kind]
            return float(function(x)), float(derivative(x)) * dx
        (y, dy) = duals[1]
        if self.kind == "+":
            return x + y, dx + dy
        if self.kind == "-":
            return x - y, dx - dy
        if self.kind == "*":
            return x * y, y * dx + x * dy
        if self.kind == "/":
            return x / y, dx / y - x / (y * y) * dy
        power = float(np.power(x, y))
        slope = y * float(np.power(x, y - 1.0)) * dx if np.any(dx) and y != 0.0 else 0.0 * dx
        if np.any(dy):
            slope = slope + power * float(np.log(x)) * dy
        return power, slope


class ExpressionReader:
    """Recursive descent over the tokens right of ``:=``; ``^`` binds tightest, from the right."""

    def __init__(self, tokens: tuple[Token, ...], text: str, after: int) -> None:
        self._tokens, self._text, self._at, self._after = tokens, text, 0, after

    def read(self) -> Expression:
        """Read all tokens as one expression."""
        found = self._sum()
        token = self._peek()
        if token is not None:
            self._refuse(f"{token.text!r} where the expression should end", token.start)
        return found

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *operators: str) -> Token | None:
        token = self._peek()
        if token is not None and token.is_operator(*operators):
            self._at += 1
            return token
        return None

    def _refuse(self, found: str, position: int) -> NoReturn:
        refuse(
            "A defined parameter is an expression of labels and numbers with + - * / ^ and "
            f"{', '.join(FUNCTIONS)}.",
            found,
            "write it like ind := a * b",
            self._text,
            position,
        )

    def _sum(self) -> Expression:
        left = self._product()
        while token := self._take("+", "-"):
            left = Expression(token.text, parts=(left, self._product()), position=token.start)
        return left

    def _product(self) -> Expression:
        left = self._signed()
        while token := self._take("*", "/"):
            left = Expression(token.text, parts=(left, self._signed()), position=token.start)
        return left

    def _signed(self) -> Expression:
        if token := self._take("-"):
            return Expression("negative", parts=(self._signed(),), position=token.start)
        if self._take("+"):
            return self._signed()
        base = self._atom()
        if token := self._take("^", "**"):
            return Expression("^", parts=(base, self._signed()), position=token.start)
        return base

    def _atom(self) -> Expression:
        token = self._peek()
        if token is None:
            self._refuse("the end of the statement", self._after)
        self._at += 1
        if token.kind == "number":
            return Expression("number", value=float(token.text), position=token.start)
        if token.kind == "open":
            inner = self._sum()
            self._close()
            return inner
        if token.kind != "name":
            self._refuse(repr(token.text), token.start)
        following = self._peek()
        if following is not None and following.kind == "open" and not token.is_quoted:
            if token.text not in FUNCTIONS:
                self._refuse(f"the function {token.text!r}", token.start)
            self._at += 1
            inner = self._sum()
            self._close()
            return Expression(token.text, parts=(inner,), position=token.start)
        return Expression("name", name=token.text, position=token.start)

    def _close(self) -> None:
        token = self._peek()
        if token is None or token.kind != "close":
            at = self._after if token is None else token.start
            self._refuse("an opening bracket without its closing bracket", at)
        self._at += 1
