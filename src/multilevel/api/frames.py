"""Frozen records of the rooms below as data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multilevel.interpret.predict import Prediction, PredictionInterval
    from multilevel.interpret.random_effects import RandomEffectsTable


def frame_of_records(records: Iterable[Any], kind: type) -> pd.DataFrame:
    """One row per record, one column per field of the dataclass ``kind``."""
    names = [field.name for field in fields(kind)]
    rows = [asdict(record) for record in records]
    return pd.DataFrame({name: [row[name] for row in rows] for name in names}, columns=names)


def square_frame(matrix: NDArray[np.float64], names: Sequence[str]) -> pd.DataFrame:
    """A symmetric matrix with its names on both sides; the frame owns its numbers."""
    return pd.DataFrame(matrix.copy(), index=list(names), columns=list(names))


def random_effects_frame(table: RandomEffectsTable) -> pd.DataFrame:
    """Random effects as a frame; ``attrs`` say what ``std_error`` means."""
    out = pd.DataFrame(table.columns())
    out.attrs["std_error"] = table.sentence
    out.attrs["conf_level"] = table.conf_level
    return out


def prediction_frame(
    prediction: Prediction, data: Any, bounds: PredictionInterval | None = None
) -> pd.DataFrame:
    """Predictions as a frame on the index of ``data``; ``attrs`` hold counts and meanings."""
    index = data.index if isinstance(data, pd.DataFrame) else None
    columns = {"estimate": prediction.estimate}
    if prediction.std_error is not None and prediction.prediction_std_error is not None:
        columns["std_error"] = prediction.std_error
        columns["prediction_std_error"] = prediction.prediction_std_error
    if bounds is not None:
        columns["conf_low"], columns["conf_high"] = bounds.conf_low, bounds.conf_high
    out = pd.DataFrame(columns, index=index)
    if bounds is not None:
        out.attrs["interval"] = bounds.sentence
    out.attrs["kind"] = prediction.kind
    out.attrs["n_missing"] = prediction.n_missing
    out.attrs["missing"] = prediction.missing
    out.attrs["new_levels"] = prediction.new_levels
    if prediction.sentence:
        out.attrs["std_error"] = prediction.sentence
    return out
