"""Formula text in, one frozen Model out: scan, parse, expand terms."""

from __future__ import annotations

from multilevel.model.formula.parse import parse_formula

__all__ = ["parse_formula"]
