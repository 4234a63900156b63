"""Everything that interprets a fitted generalized model, gathered for the result class."""

from __future__ import annotations

from multilevel.api.generalized.effects import GeneralizedEffectMethods
from multilevel.api.generalized.predictions import PredictionMethods


class InterpretationMethods(PredictionMethods, GeneralizedEffectMethods):
    """Predictions, effects, checks and pictures."""
