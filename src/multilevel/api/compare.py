"""The door of comparisons: fitted models in, one table and its sentences out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multilevel.api.generalized.compare import compare_generalized
from multilevel.api.generalized.holder import GeneralizedHolder
from multilevel.api.holder import FitHolder
from multilevel.api.irt_words import ItemWordsMethods
from multilevel.errors import InferenceError
from multilevel.infer.compare import Candidate, Comparison, compare_fits
from multilevel.infer.compare_conditional import ConditionalAic, conditional_aic
from multilevel.infer.compare_random import random_effect_tests
from multilevel.infer.conventions import (
    InformationCriteria,
    check_program,
    information_criteria,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multilevel.infer.generalized.compare import OutcomeComparison

SEED = 20_240_607  #: Draws for mixtures without a closed form are the same from run to run.


@dataclass(frozen=True)
class ModelComparison:
    """What ``multilevel.compare`` returns; printing it gives the table and the sentences.

    Attributes
    ----------
    result : the frozen numbers (``multilevel.infer.compare.Comparison``, or
        ``multilevel.infer.generalized.compare.OutcomeComparison`` for generalized fits).
    """

    result: Comparison | OutcomeComparison

    @property
    def sentence(self) -> str:
        """Every verdict in words."""
        return self.result.sentence

    def to_frame(self) -> pd.DataFrame:
        """One row per model, fewest parameters first.

        Columns ``model, method, n_parameters, criterion, aic, aicc, bic, caic, effective_df`` and,
        against the row above, ``statistic`` (-2 delta LL), ``df, p_naive, p_value, distribution``.
        Generalized fits have no conditional AIC (``caic, effective_df``).
        """
        rows = []
        candidates: Sequence[Any] = self.result.candidates
        conditional = getattr(self.result, "conditional", (None,) * len(self.result.criteria))
        tests = (None, *self.result.tests)
        for c, ic, ca, test in zip(
            candidates,
            self.result.criteria,
            conditional,
            tests,
            strict=True,
        ):
            rows.append(
                {
                    "model": c.label,
                    "method": c.fit.method,
                    "n_parameters": c.fit.n_parameters,
                    "criterion": c.fit.criterion,
                    "aic": ic.aic,
                    "aicc": ic.aicc,
                    "bic": ic.bic,
                    **({} if ca is None else {"caic": ca.caic, "effective_df": ca.effective_df}),
                    "statistic": float("nan") if test is None else test.statistic,
                    "df": pd.NA if test is None else test.df,
                    "p_naive": float("nan") if test is None else test.p_naive,
                    "p_value": float("nan") if test is None else test.p_value,
                    "distribution": "" if test is None else test.distribution,
                }
            )
        frame = pd.DataFrame(rows).astype({"df": "Int64"})
        frame.attrs["sentence"] = self.sentence
        return frame

    def __repr__(self) -> str:
        with pd.option_context("display.width", 200, "display.max_columns", 20):
            table = self.to_frame().drop(columns="distribution").round(4).to_string(index=False)
        models = "\n".join(f"  {c.label}: {c.text}" for c in self.result.candidates)
        lines = [*(t.sentence for t in self.result.tests), *self.result.notes]
        return f"{models}\n\n{table}\n\n" + "\n".join(lines)


def compare(
    *models: Any,
    names: Sequence[str] | None = None,
    as_in: str | None = None,
    refit: bool = False,
    allow: Sequence[str] = (),
    seed: int = SEED,
) -> ModelComparison:
    """Compare fitted models of the same rows, each with the next smaller one.

    Parameters
    ----------
    models : two or more fits; they are ordered by their number of parameters.
    names : what to call them; ``m0, m1, ...`` in the order given if left out.
    as_in : ``"stata"``, ``"sas"``, ``"spss"`` or ``"r"``: whose parameter count and n AIC and BIC
        follow; this package counts all parameters and all rows.
    refit : True makes models comparable: refits by ML where the models for the means differ, and
        on the rows that all models have; of generalized models by one approximation.
    allow : names of refusals to lift: ``"reml_with_other_means"``, ``"other_rows"``,
        ``"falling_likelihood"``. The models are then listed side by side, without a test.
    seed : for null distributions that have no closed form.

    Returns
    -------
    ModelComparison : ``to_frame()``, ``sentence``.

    Raises
    ------
    InferenceError : models that cannot be compared: REML with different fixed effects, other
        rows, responses or weights, a likelihood that falls when parameters are added.

    Examples
    --------
    >>> import multilevel as mlm
    >>> hsb = mlm.load_hsb()
    >>> m0 = mlm.fit("mathach ~ ses + (1 | school)", hsb)
    >>> m1 = mlm.fit("mathach ~ ses + (ses | school)", hsb)
    >>> table = mlm.compare(m0, m1).to_frame()
    >>> table["distribution"][1], round(float(table["statistic"][1]), 2)
    ('50:50 mixture of chi2(1) and chi2(2)', 4.77)
    """
    models = tuple(_of_item_model(model) for model in models)
    _check_models(models)
    labels = [f"m{k}" for k in range(len(models))] if names is None else [str(x) for x in names]
    if len(labels) != len(models) or len(set(labels)) != len(labels):
        raise InferenceError(
            "There must be one name per model, all different.",
            f"{len(labels)} name(s) for {len(models)} model(s): {', '.join(labels)}",
            "pass names=['empty', 'slopes', ...] or leave it out",
        )
    if isinstance(models[0] if models else None, GeneralizedHolder):
        return ModelComparison(
            compare_generalized(
                models, labels, program=check_program(as_in), refit=refit, allow=allow, seed=seed
            )
        )
    candidates = [
        Candidate(label, m._prepared, m.fit) for label, m in zip(labels, models, strict=True)
    ]
    rng = np.random.default_rng(seed)
    program = check_program(as_in)
    return ModelComparison(compare_fits(candidates, rng, program=program, refit=refit, allow=allow))


def _of_item_model(model: Any) -> Any:
    """The multilevel model behind an item response model; anything else as it is."""
    if not isinstance(model, ItemWordsMethods):
        return model
    if model.model is None:
        raise InferenceError(
            "compare() takes models that are fitted by rows.",
            f"model={model._report.words.model!r}, whose items have slopes",
            "write larger.likelihood_ratio_test(smaller)",
        )
    return model.model


def _check_models(models: Sequence[Any]) -> None:
    """Refuse what is no fit, and Gaussian fits beside generalized ones."""
    for k, model in enumerate(models):
        if not isinstance(model, (FitHolder, GeneralizedHolder)):
            raise InferenceError(
                "compare() takes fitted models.",
                f"argument {k + 1} is a {type(model).__name__}",
                "pass what multilevel.fit(...) returns",
            )
    if len({isinstance(model, GeneralizedHolder) for model in models}) > 1:
        raise InferenceError(
            "Models must be fitted by the same engine to be compared.",
            "Gaussian fits beside generalized ones",
            'fit the Gaussian model with dispersion="~ 1", which takes it to the generalized '
            "engine (its -2 log-likelihood is the same)",
        )


class ComparisonMethods(FitHolder):
    """Information criteria and tests of the model for the variance."""

    def information_criteria(self, as_in: str | None = None) -> InformationCriteria:
        """AIC, AICc and BIC by the rules of ``"stata"``, ``"sas"``, ``"spss"`` or ``"r"``.

        Examples
        --------
        >>> import multilevel as mlm
        >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> result.information_criteria(as_in="sas").n_bic
        160
        """
        return information_criteria(self.design, self.fit, check_program(as_in))

    def conditional_aic(self) -> ConditionalAic:
        """Conditional AIC (Vaida & Blanchard 2005): for predictions of the same clusters.

        Examples
        --------
        >>> import multilevel as mlm
        >>> result = mlm.fit("mathach ~ ses + (1 | school)", mlm.load_hsb())
        >>> result.conditional_aic().effective_df < 2 + 160
        True
        """
        return conditional_aic(self._prepared, self._objective())

    def random_tests(
        self, *, n_sim: int = 10_000, n_boot: int = 0, seed: int = SEED
    ) -> pd.DataFrame:
        """Test each random effect by leaving it out, a slope with its covariances.

        Columns ``term, group, statistic, df, p_naive, p_value, p_exact, distribution, sentence,
        p_bootstrap``:
        ``p_value`` is the mixture's, ``p_naive`` the conservative chi-square's, ``p_exact`` the
        simulated exact one for models with one variance component (Crainiceanu & Ruppert 2004).

        Parameters
        ----------
        n_sim : draws of the exact test; 0 leaves it out.
        n_boot : parametric bootstrap of every test with so many draws (999, say): responses from
            the model without the effect, both models fitted to each. For structures such as
            ``ar1(0 + t | g)`` no other distribution is known to hold.
        seed : of all draws.

        Examples
        --------
        >>> import multilevel as mlm
        >>> result = mlm.fit("mathach ~ ses + (ses | school)", mlm.load_hsb())
        >>> result.random_tests()[["term", "df"]].to_numpy().tolist()
        [['ses', 2]]
        """
        rng = np.random.default_rng(seed)
        found = random_effect_tests(self._prepared, self.fit, rng, n_sim=n_sim, n_boot=n_boot)
        frame = pd.DataFrame([vars(test) for test in found])
        frame.attrs["sentence"] = " ".join(test.sentence for test in found)
        return frame
