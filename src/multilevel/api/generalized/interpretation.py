"""Everything that interprets a fitted generalized model, gathered for the result class."""

from __future__ import annotations

from multilevel.api.generalized.effects import GeneralizedEffectMethods
from multilevel.api.generalized.pictures import GeneralizedPictureMethods
from multilevel.api.generalized.predictions import PredictionMethods
from multilevel.api.generalized.slopes import GeneralizedSlopeMethods
from multilevel.api.generalized.variances import GeneralizedVarianceMethods


class InterpretationMethods(
    PredictionMethods,
    GeneralizedEffectMethods,
    GeneralizedSlopeMethods,
    GeneralizedVarianceMethods,
    GeneralizedPictureMethods,
):
    """Predictions, effects, checks and pictures."""
