"""Residual (R-side) structures as they are written: ``"ar1(time | id, by=arm)"``.

=================  ==================================================================  ==========
written            residuals of one unit                                               options
=================  ==================================================================  ==========
``ind(by=g)``      independent; own variance in each category of g
``diag(t | id)``   independent; own variance at each occasion
``cs(1 | id)``     equal correlations, negative ones too (compound symmetry)
``csh(t | id)``    equal correlations, own variance at each occasion
``ar1(t | id)``    correlation ``rho^h``, h whole steps apart
``arh1(t | id)``   the same, own variance at each occasion
``arma11(t | id)`` first-order autoregression and moving average
``toep(t | id)``   one correlation for each number of steps apart                      ``band=``
``toeph(t | id)``  the same, own variance at each occasion                             ``band=``
``un(t | id)``     every variance and correlation free (unstructured)
``fa(t | id)``     factor-analytic: ``rank`` common factors and own variances          ``rank=``
``car1(t | id)``   ``phi^d``, d = distance in time (continuous-time autoregression)
``exp(t | id)``    ``exp(-d / range)``; ``exp(x + y | id)`` for places in the plane
``gau(t | id)``    ``exp(-(d / range)^2)``
``sph(t | id)``    ``1 - 1.5 d/range + 0.5 (d/range)^3`` up to the range, then 0
=================  ==================================================================  ==========

Every structure takes ``by=column``: each category has its own variance and correlations.
Sources: Pinheiro & Bates 2000, chapter 5; Jennrich & Schluchter 1986; SAS PROC MIXED, REPEATED.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn, get_args

from multilevel.errors import ModelError

ResidualStructure = Literal[
    "ind", "diag", "cs", "csh", "ar1", "arh1", "arma11", "toep", "toeph", "un", "fa",
    "car1", "exp", "gau", "sph",
]  # fmt: skip
RESIDUAL_STRUCTURES: tuple[str, ...] = get_args(ResidualStructure)
_ALIASES: dict[str, ResidualStructure] = {
    "independent": "ind",
    "diagonal": "diag",
    "exchangeable": "cs",
    "compound_symmetry": "cs",
    "hcs": "csh",
    "har1": "arh1",
    "us": "un",
    "unstructured": "un",
    "toeplitz": "toep",
    "exponential": "exp",
    "gaussian": "gau",
    "spherical": "sph",
    "factor_analytic": "fa",
}
#: Structures whose variances differ between occasions.
HETEROGENEOUS = ("diag", "csh", "arh1", "toeph", "un", "fa")
#: Structures that count whole steps of time.
STEPPED = ("ar1", "arh1", "arma11", "toep", "toeph")
#: Structures of a distance in continuous time or space.
CONTINUOUS = ("car1", "exp", "gau", "sph")

_TITLES: dict[str, str] = {
    "ind": "independent",
    "diag": "independent, variances by occasion",
    "cs": "compound symmetry",
    "csh": "heterogeneous compound symmetry",
    "ar1": "first-order autoregressive",
    "arh1": "heterogeneous first-order autoregressive",
    "arma11": "ARMA(1,1)",
    "toep": "Toeplitz",
    "toeph": "heterogeneous Toeplitz",
    "un": "unstructured",
    "fa": "factor-analytic",
    "car1": "continuous-time autoregressive",
    "exp": "exponential decay",
    "gau": "Gaussian decay",
    "sph": "spherical decay",
}
_NAME = r"(?:`[^`]+`|[^\W\d][\w.]*)"


@dataclass(frozen=True)
class ResidualTerm:
    """One residual structure.

    Attributes
    ----------
    structure : its short name, one of ``RESIDUAL_STRUCTURES``.
    coordinates : columns that order the rows of a unit (time), or place them; may be empty.
    factors : columns whose combination is the unit; empty: every row is its own.
    by : column of categories with own parameters, or None.
    order : ``band`` of a Toeplitz structure (0: all lags) or ``rank`` of a factor-analytic one.
    text : the structure as written.
    """

    structure: ResidualStructure
    coordinates: tuple[str, ...]
    factors: tuple[str, ...]
    by: str | None
    order: int
    text: str

    @property
    def group(self) -> str:
        """Label of the unit, ``"school:class"``; empty where every row is its own."""
        return ":".join(self.factors)

    @property
    def title(self) -> str:
        """The structure in words."""
        return _TITLES[self.structure]

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns whose values are needed, without the unit."""
        return (*self.coordinates, *((self.by,) if self.by else ()))


def _refuse(
    must: str, found: str, remedy: str = 'write it like residual="ar1(time | id)"'
) -> NoReturn:
    raise ModelError(must, found, remedy)


def parse_residual(text: str) -> ResidualTerm:
    """Read a residual structure such as ``"un(time | id)"`` (see the module's text).

    Raises
    ------
    ModelError : an unknown structure, missing time or unit, an option it does not have.
    """
    if not isinstance(text, str):
        _refuse("A residual structure must be text.", type(text).__name__)
    whole = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text, flags=re.DOTALL)
    if whole is None:
        _refuse("A residual structure is a name and a bracket.", repr(text))
    name = whole.group(1).lower()
    structure = _structure(name)
    main, options = _arguments(whole.group(2) or "", text)
    coordinates, factors = _units(main, text)
    term = ResidualTerm(
        structure, coordinates, factors, options.get("by"), _order(structure, options, text),
        text.strip(),
    )  # fmt: skip
    _check_whole(term)
    return term


def _structure(name: str) -> ResidualStructure:
    for known in RESIDUAL_STRUCTURES:
        if name == known:
            return known  # type: ignore[return-value]
    if name in _ALIASES:
        return _ALIASES[name]
    _refuse(
        "A residual structure must be one of " + ", ".join(RESIDUAL_STRUCTURES) + ".", repr(name)
    )


def _arguments(inside: str, text: str) -> tuple[str, dict[str, str]]:
    main, options = "", {}
    for piece in (part.strip() for part in inside.split(",")):
        option = re.fullmatch(rf"(\w+)\s*=\s*({_NAME}|\d+)", piece)
        if option is not None:
            key, value = option.group(1), option.group(2).strip("`")
            if key not in ("by", "band", "rank"):
                _refuse(
                    "Options of a residual structure are by=, band= and rank=.",
                    f"{key}= in {text!r}",
                )
            options[key] = value
        elif piece and not main:
            main = piece
        elif piece:
            _refuse(
                "A residual structure has one part 'time | unit'.", f"{piece!r} too in {text!r}"
            )
    return main, options


def _units(main: str, text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not main:
        return (), ()
    left, bar, right = main.partition("|")
    factors = tuple(part.strip().strip("`") for part in right.split(":")) if bar else ()
    written = [part.strip() for part in left.split("+")] if left.strip() not in ("", "1") else []
    for part in (*written, *factors):
        if not re.fullmatch(_NAME, part) and not re.fullmatch(_NAME, f"`{part}`"):
            _refuse(
                "Time and unit of a residual structure must be columns.", f"{part!r} in {text!r}"
            )
    if not bar:
        _refuse("The unit whose residuals belong together stands right of a bar.", repr(text))
    return tuple(part.strip("`") for part in written), factors


def _order(structure: str, options: dict[str, str], text: str) -> int:
    wanted = {"fa": "rank", "toep": "band", "toeph": "band"}.get(structure)
    for key in ("band", "rank"):
        if key in options and key != wanted:
            _refuse(
                f"{key}= belongs to {'toep' if key == 'band' else 'fa'}.",
                repr(text),
                "leave it out",
            )
    if wanted is None or wanted not in options:
        return 1 if structure == "fa" else 0
    value = options[wanted]
    if not value.isdigit() or int(value) < 1:
        _refuse(
            f"{wanted}= must be a whole number of at least 1.",
            f"{value!r} in {text!r}",
            f"write {wanted}=1",
        )
    return int(value)


def _check_whole(term: ResidualTerm) -> None:
    if term.structure == "ind":
        if term.coordinates:
            _refuse(
                "Independent residuals need no time.", repr(term.text),
                "write ind(by=group), or diag(time | id) for variances by occasion",
            )  # fmt: skip
        return
    if not term.factors:
        _refuse(
            f"{term.structure} needs the unit whose residuals belong together.", repr(term.text)
        )
    if term.structure != "cs" and not term.coordinates:
        _refuse(f"{term.structure} needs a column of time.", repr(term.text))
    if len(term.coordinates) > 1 and term.structure not in ("exp", "gau", "sph"):
        _refuse(
            f"{term.structure} takes one column of time.", repr(term.text),
            "several coordinates are for exp, gau and sph",
        )  # fmt: skip


def check_scale(scale: str) -> str:
    """The right-hand side of ``scale="~ sex + x"``.

    Raises
    ------
    ModelError : text that does not start with ``~``, or that holds a random term.
    """
    if not isinstance(scale, str) or not scale.strip().startswith("~"):
        raise ModelError(
            "The model for the residual variance is a one-sided formula.",
            f"scale={scale!r}",
            'write scale="~ sex + x"',
        )
    inside = scale.strip()[1:].strip()
    if not inside:
        raise ModelError("scale needs a predictor.", f"scale={scale!r}", 'write scale="~ sex"')
    if "|" in inside:
        raise ModelError(
            "The model for the residual variance has fixed effects only here.",
            f"a random term in scale={scale!r}",
            "leave the random scale effect out",
        )
    return inside
