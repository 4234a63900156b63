"""Equations as MathML and as LaTeX; browsers and TeX set them without any further file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from multilevel.report.symbols import Equation, Symbol

_GREEK = {
    "alpha": "\u03b1",
    "beta": "\u03b2",
    "gamma": "\u03b3",
    "delta": "\u03b4",
    "zeta": "\u03b6",
    "eta": "\u03b7",
    "mu": "\u03bc",
    "sigma2": "\u03c3\u00b2",
    "tau": "\u03c4",
    "phi": "\u03c6",
}
_TEX_NAMES = {name: f"\\{name}" for name in _GREEK} | {"sigma2": r"\sigma^2"}
_MINUS = "\u2212"
_TEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2003": r"\quad{}",
}


def tex_text(text: str) -> str:
    """Plain text with every character that TeX reads as a command made harmless."""
    return "".join(_TEX_SPECIAL.get(character, character) for character in text)


def equations_mathml(equations: Sequence[Equation]) -> str:
    """Equations as one MathML table, aligned at their equality signs."""
    rows = "".join(
        "<mtr>"
        f"<mtd><mtext>{escape(e.label)}</mtext></mtd>"
        f'<mtd style="text-align:right">{_symbol_mathml(e.left)}</mtd>'
        f"<mtd><mo>=</mo></mtd>"
        f'<mtd style="text-align:left">{_sum_mathml(e)}</mtd>'
        "</mtr>"
        for e in equations
    )
    return (
        '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">'
        f'<mtable columnalign="left right center left">{rows}</mtable></math>'
    )


def _sum_mathml(equation: Equation) -> str:
    terms = [
        (f"<mo>{_MINUS if sign == '-' else sign}</mo>" if sign else "")
        + '<mo>&#8290;</mo><mspace width="0.2em"></mspace>'.join(_symbol_mathml(s) for s in term)
        for sign, term in equation.signed
    ]
    return f"<mrow>{''.join(terms) or '<mn>0</mn>'}</mrow>"


def _symbol_mathml(symbol: Symbol) -> str:
    name = escape(_GREEK.get(symbol.name, symbol.name))
    body = f"<mtext>{name}</mtext>" if symbol.is_variable else f"<mi>{name}</mi>"
    below = _index_mathml(symbol)
    whole = f"<msub>{body}{below}</msub>" if below else body
    if not (symbol.before or symbol.after):
        return whole
    # MathML drops blanks at the ends of text unless they are no-break ones
    texts = [t.replace(" ", "\u00a0") for t in (symbol.before, symbol.after)]
    around = [f"<mtext>{escape(t)}</mtext>" if t else "" for t in texts]
    return f"<mrow>{around[0]}{whole}{around[1]}</mrow>"


def _index_mathml(symbol: Symbol) -> str:
    parts = [f"<mi>{escape(symbol.index)}</mi>"] if symbol.index else []
    parts += [f"<mtext>{escape(symbol.of)}</mtext>"] if symbol.of else []
    return f"<mrow>{'<mo>,</mo>'.join(parts)}</mrow>" if parts else ""


def equations_latex(equations: Sequence[Equation]) -> str:
    """Equations as an ``array`` in display mode; needs no package (``\\text`` is not used)."""
    rows = [
        f"\\mbox{{{tex_text(e.label)}}} & {_symbol_latex(e.left)} & = & {_sum_latex(e)}"
        for e in equations
    ]
    body = " \\\\\n".join(rows)
    return f"\\[\n\\begin{{array}}{{lrcl}}\n{body}\n\\end{{array}}\n\\]"


def _sum_latex(equation: Equation) -> str:
    terms = [
        f"{sign} ".lstrip() + "\\,".join(_symbol_latex(s) for s in term)
        for sign, term in equation.signed
    ]
    return " ".join(terms) or "0"


def _symbol_latex(symbol: Symbol) -> str:
    greek = _TEX_NAMES.get(symbol.name, symbol.name)
    name = f"\\mbox{{{tex_text(symbol.name)}}}" if symbol.is_variable else greek
    index = ",".join(
        [symbol.index] * bool(symbol.index)
        + [f"\\mbox{{\\scriptsize {tex_text(symbol.of)}}}"] * bool(symbol.of)
    )
    whole = f"{name}_{{{index}}}" if index else name
    before, after = (f"\\mbox{{{tex_text(t)}}}" if t else "" for t in (symbol.before, symbol.after))
    return f"{before}{whole}{after}"


def symbol_runs(symbol: Symbol) -> tuple[str, str]:
    """A symbol as body and subscript in plain characters, for writers without mathematics."""
    below = ",".join(part for part in (symbol.index, symbol.of) if part)
    return _GREEK.get(symbol.name, symbol.name), below
