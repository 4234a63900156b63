"""Everything that interprets a fitted generalized model, gathered for the result class."""

from __future__ import annotations

from multilevel.api.generalized.diagnose import GeneralizedDiagnosticMethods
from multilevel.api.generalized.effects import GeneralizedEffectMethods
from multilevel.api.generalized.pictures import GeneralizedPictureMethods
from multilevel.api.generalized.predictions import PredictionMethods
from multilevel.api.generalized.slopes import GeneralizedSlopeMethods


class InterpretationMethods(
    PredictionMethods,
    GeneralizedEffectMethods,
    GeneralizedSlopeMethods,
    GeneralizedDiagnosticMethods,
    GeneralizedPictureMethods,
):
    """Predictions, effects, checks and pictures."""
