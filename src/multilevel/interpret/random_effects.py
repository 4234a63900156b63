"""Random-effect estimates (EBLUPs) as one tidy table.

Sources: Henderson 1975 (Biometrics 31:423) for the estimates and both covariances;
Goldstein 2011, Multilevel Statistical Models, 2.8 for the words "comparative" and "diagnostic".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from multilevel.design.random_scale import by_groups_of, effect_of
from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock
    from multilevel.estimate.posterior import BlockEffects

Array = NDArray[np.float64]
StdErrorKind = Literal["comparative", "prediction"]
STD_ERROR_KINDS: tuple[str, ...] = get_args(StdErrorKind)

STD_ERROR_SENTENCES = {
    "comparative": "spread of the random effect given the data, fixed effects taken as known "
    "(lme4's condVar)",
    "prediction": "spread of estimate minus true random effect, uncertainty of the fixed effects "
    "included (SAS, Stata reses)",
}


@dataclass(frozen=True)
class RandomEffectsTable:
    """One row per group, level and term; all arrays have the same length.

    Attributes
    ----------
    group, level, term : labels. Rows of one level stand together, terms in the model's order.
    estimate : EBLUP, in units of the response per unit of the term.
    std_error, conf_low, conf_high : see ``std_error_kind``; normal interval.
    std_error_kind : ``"comparative"`` or ``"prediction"``.
    conf_level : coverage of the interval, e.g. 0.95.
    """

    group: NDArray[Any]
    level: NDArray[Any]
    term: NDArray[Any]
    estimate: Array
    std_error: Array
    conf_low: Array
    conf_high: Array
    std_error_kind: str
    conf_level: float

    def columns(self) -> dict[str, NDArray[Any]]:
        """The table as ``{column name: array}`` in the order of printing."""
        names = ("group", "level", "term", "estimate", "std_error", "conf_low", "conf_high")
        return {name: getattr(self, name) for name in names}

    @property
    def sentence(self) -> str:
        """What ``std_error`` means, in words."""
        return STD_ERROR_SENTENCES[self.std_error_kind]


def check_conf_level(conf_level: float) -> float:
    """Return ``conf_level`` if it lies strictly between 0 and 1, else raise InferenceError."""
    if not 0.0 < conf_level < 1.0:
        raise InferenceError(
            "A confidence level must lie between 0 and 1.",
            f"conf_level={conf_level!r}",
            "write conf_level=0.95",
        )
    return float(conf_level)


def random_effects_table(
    design: Design,
    effects: Sequence[BlockEffects],
    *,
    std_error: str = "comparative",
    conf_level: float = 0.95,
) -> RandomEffectsTable:
    """Lay the EBLUPs of all blocks out as one tidy table.

    Parameters
    ----------
    design : gives the labels.
    effects : per block the estimates and covariances, raw scale.
    std_error : ``"comparative"`` (conditional on the fixed effects) or ``"prediction"``
        (their uncertainty included).
    conf_level : coverage of the normal interval ``estimate +/- z std_error``.

    Raises
    ------
    InferenceError : an unknown kind of standard error, or a level outside (0, 1).
    """
    if std_error not in STD_ERROR_KINDS:
        raise InferenceError(
            f"std_error must be one of {', '.join(map(repr, STD_ERROR_KINDS))}.",
            f"std_error={std_error!r}",
            "write std_error='comparative'",
        )
    z = float(ndtri(0.5 + check_conf_level(conf_level) / 2))
    groups, levels, terms, estimates, errors = [], [], [], [], []
    for block, effect in zip(design.blocks, effects, strict=True):
        J, q = effect.estimates.shape
        covariance = (
            effect.covariance() if std_error == "comparative" else effect.prediction_covariance()
        )
        diagonal = np.einsum("jaa->ja", covariance)
        keep, names = np.full(J * q, True), np.asarray(block.names, dtype=object)
        if by_groups_of(block.names):  # effects of other groups than the level's own say nothing
            keep = _own_effects(block).ravel()
            names = np.asarray([effect_of(name) for name in block.names], dtype=object)
        groups.append(np.full(int(keep.sum()), block.group, dtype=object))
        levels.append(np.repeat(np.asarray(block.levels, dtype=object), q)[keep])
        terms.append(np.tile(names, J)[keep])
        estimates.append(effect.estimates.ravel()[keep])
        # rounding can leave -1e-17 where a variance is estimated as zero
        errors.append(np.sqrt(np.maximum(diagonal, 0.0)).ravel()[keep])
    value, error = _join(estimates), _join(errors)
    return RandomEffectsTable(
        _join_labels(groups),
        _join_labels(levels),
        _join_labels(terms),
        value,
        error,
        value - z * error,
        value + z * error,
        std_error,
        conf_level,
    )


def _own_effects(block: RandomBlock) -> NDArray[np.bool_]:
    """Which effects (J, q) occur in each level: those of its own group of ``by=``, and others."""
    out = np.zeros((block.n_levels, len(block.names)), dtype=bool)
    for a, name in enumerate(block.names):
        out[block.codes[block.columns[:, a] != 0.0], a] = True
        out[:, a] |= effect_of(name) == name
    # a slope whose variable is zero in all rows of a level is of the level's group all the same
    for by in by_groups_of(block.names):
        values = [name.rpartition(f" [{by}=")[2] for name in block.names]
        for value in dict.fromkeys(values):
            mine = [
                a for a, v in enumerate(values)
                if v == value and effect_of(block.names[a]) != block.names[a]
            ]  # fmt: skip
            if mine:
                out[:, mine] = out[:, mine].any(axis=1, keepdims=True)
    return out


def _join(parts: list[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty(0)


def _join_labels(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)
