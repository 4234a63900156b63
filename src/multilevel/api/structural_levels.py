"""Fit of a structural model level by level."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

from multilevel.api.frames import frame_of_records
from multilevel.infer.structural_levels import LevelFit, fit_by_level, level_sentence

if TYPE_CHECKING:
    import pandas as pd

    from multilevel.estimate.structural import StructuralFit, StructuralProblem
    from multilevel.infer.structural import StdErrorType


class StructuralLevelMethods(ABC):
    """Methods about the fit of each level."""

    problem: StructuralProblem
    fit: StructuralFit
    std_errors: StdErrorType

    def fit_by_level(self) -> pd.DataFrame:
        """Which level does not fit? Each level tested with all other levels saturated.

        The chi-square of the whole model says little about the level with few units. Here each
        level is estimated by itself (Ryu & West 2009; two optimisations per level, without bounds
        on variances).

        Columns: ``level, chi_square, df, p_value, cfi, tli, rmsea, srmr`` (RMSEA per unit of the
        level; SRMR of the model as fitted), ``scaling, chi_square_scaled, p_value_scaled,
        cfi_robust, tli_robust, rmsea_robust`` (MLR; NaN where the factor does not exist),
        ``n_units, sentence``. ``attrs["sentence"]`` says which level fails; with
        ``std_errors="robust"`` it rests on the scaled chi-square.

        Raises
        ------
        InferenceError : random slopes, with which there is no saturated model, or restricted means
            between beside variables that are within only.
        EstimationError : a level that cannot be estimated by itself.
        """
        found = fit_by_level(self.problem, self.fit, is_robust=self.std_errors == "robust")
        out = frame_of_records(found, LevelFit)
        out.attrs["sentence"] = level_sentence(found, self.fit)
        return out
