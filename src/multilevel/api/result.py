"""The fitted model that users hold. Methods are one call each into the rooms below."""

from __future__ import annotations

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multilevel.api.compare import ComparisonMethods
from multilevel.api.diagnose import DiagnosticMethods
from multilevel.api.effects import EffectMethods
from multilevel.api.frames import (
    frame_of_records,
    random_effects_frame,
    square_frame,
)
from multilevel.api.intervals import IntervalMethods
from multilevel.api.means import MeansMethods
from multilevel.api.pictures import PictureMethods
from multilevel.api.random_variances import RandomVarianceMethods
from multilevel.api.rows import RowMethods
from multilevel.api.slopes import SlopeMethods
from multilevel.design.blocks import NOT_CERTIFIED
from multilevel.errors import ConvergenceWarning, EstimationError, InferenceError
from multilevel.estimate.fit import solve
from multilevel.estimate.prepare import Prepared, with_method, with_response
from multilevel.infer.degrees_of_freedom import DfMethod
from multilevel.interpret.advice.advise import advise
from multilevel.interpret.random_effects import StdErrorKind, random_effects_table
from multilevel.interpret.variance import (
    IntraclassCorrelation,
    VarianceComponent,
    cluster_covariance,
    intraclass_correlations,
    variance_components,
)
from multilevel.model.specification import Method, check_method
from multilevel.report.equations import equations
from multilevel.report.html import render_html
from multilevel.report.json import fit_json
from multilevel.report.layout import WIDTH, Section, render_text
from multilevel.report.summary import sections, title
from multilevel.simulate.response import SimulationKind, simulate_responses

if TYPE_CHECKING:
    from multilevel.estimate.generalized.records import GeneralizedFit
    from multilevel.estimate.records import Certificate, Fit
    from multilevel.interpret.advice.record import Advice

Array = NDArray[np.float64]


def require_certified(fit: Fit | GeneralizedFit, allow: Sequence[str], stacklevel: int) -> None:
    """Refuse, at the public door, a fit that is not shown to be at its optimum.

    Raises
    ------
    EstimationError : unless ``allow`` names ``"not_certified"``; then it is a warning.
    """
    if fit.certificate.is_certified:
        return
    if NOT_CERTIFIED not in allow:
        raise EstimationError(
            "The estimates must be shown to be at the optimum before they are used.",
            fit.certificate.sentence,
            "rescale and centre the predictors and fit again, then take out random slopes one at "
            "a time, smallest variance first. To look at the numbers all the same, fit with allow="
            f'("{NOT_CERTIFIED}",)',
        )
    warnings.warn(
        f"The fit is not certified, do not trust its numbers: {fit.certificate.sentence}",
        ConvergenceWarning,
        stacklevel=stacklevel,
    )


class MultilevelFit(
    PictureMethods, DiagnosticMethods, EffectMethods, MeansMethods, SlopeMethods,
    ComparisonMethods, IntervalMethods, RowMethods, RandomVarianceMethods,
):  # fmt: skip
    """A fitted multilevel model; printing it gives the summary.

    ``multilevel.fit`` makes it. Rows always means the analysed rows: those of the table that have
    every variable of the model; ``rows`` gives their positions.

    Attributes
    ----------
    fit : the frozen numbers (``multilevel.estimate.records.Fit``).
    design : the frozen arrays (``multilevel.design.records.Design``).

    Examples
    --------
    >>> import multilevel as mlm
    >>> result = mlm.fit("mathach ~ 1 + (1 | school)", mlm.load_hsb())
    >>> round(result.residual_variance, 2), round(result.reml_criterion, 2)
    (39.15, 47116.79)
    >>> result.random_effects().head(2)[["group", "level", "term"]].to_numpy().tolist()
    [['school', '1224', '(Intercept)'], ['school', '1288', '(Intercept)']]
    """

    def __init__(
        self,
        prepared: Prepared,
        fit: Fit,
        *,
        labels: Mapping[str, str] | None = None,
        shows_advice: bool = True,
        allow: Sequence[str] = (),
    ) -> None:
        self._prepared, self.fit = prepared, fit
        self._labels, self._shows_advice = dict(labels or {}), shows_advice
        self._allow = tuple(allow)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what can be computed again."""
        return {
            k: v
            for k, v in self.__dict__.items()
            if k not in ("_effects", "advice", "_evaluated", "_approaches")
        }

    # -- the model for the means ---------------------------------------------------------------

    @property
    def fixed_effects(self) -> pd.Series[float]:
        """Estimated fixed effects, (p,) by term."""
        return pd.Series(self.fit.beta, index=list(self.design.names), name="estimate", copy=True)

    @property
    def vcov_fixed(self) -> pd.DataFrame:
        """Model-based covariance of the fixed effects, (p, p): ``sigma2 (X'V^-1 X)^-1``."""
        return square_frame(self.fit.vcov_beta, self.design.names)

    # -- the model for the variance ------------------------------------------------------------

    @property
    def random_covariance(self) -> dict[str, pd.DataFrame]:
        """``{group: G}``: covariance matrix of the random effects of each grouping factor."""
        pairs = zip(self.design.blocks, self.fit.random_covariance, strict=True)
        return {block.group: square_frame(G, block.names) for block, G in pairs}

    @property
    def residual_variance(self) -> float:
        """Residual variance (of a row of weight 1), squared response units."""
        return self.fit.sigma2

    def variance_components(self) -> pd.DataFrame:
        """Variances and covariances: ``group, term, term2, variance, sd, correlation``.

        ``term2`` is empty for a variance; for a covariance ``variance`` holds the covariance.
        """
        return frame_of_records(variance_components(self.design, self.fit), VarianceComponent)

    def intraclass_correlations(self) -> pd.DataFrame:
        """ICC of each grouping factor: ``group, proportion, correlation, within, sentence``.

        Raises ``InferenceError`` if the model has random slopes: then no single ICC exists.
        """
        found = intraclass_correlations(self.design, self.fit)
        return frame_of_records(found, IntraclassCorrelation)

    def cluster_covariance(
        self, group: str | None = None, level: Hashable = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """``V`` and ``VCORR``: implied covariance and correlation of one cluster's outcomes.

        Default: the first level of the factor with the fewest levels. Rows and columns are
        labelled by position among the analysed rows. At most 200 rows.
        """
        found = cluster_covariance(self.design, self.fit, group, level)
        labels = [str(row) for row in found.rows]
        return square_frame(found.covariance, labels), square_frame(found.correlation, labels)

    def random_effects(
        self, *, std_error: StdErrorKind = "comparative", conf_level: float = 0.95
    ) -> pd.DataFrame:
        """Estimated random effects (EBLUPs), one row per group, level and term.

        Columns ``group, level, term, estimate, std_error, conf_low, conf_high``. ``std_error`` is
        ``"comparative"`` (fixed effects taken as known, lme4's condVar) or ``"prediction"``
        (their uncertainty included); ``attrs["std_error"]`` says which in words.
        """
        table = random_effects_table(
            self.design, self._effects, std_error=std_error, conf_level=conf_level
        )
        return random_effects_frame(table)

    # -- how well, on what ---------------------------------------------------------------------

    @property
    def method(self) -> Method:
        """``"reml"`` or ``"ml"``."""
        return self.fit.method

    @property
    def minus2_loglik(self) -> float:
        """Minus twice the log-likelihood, every constant included (ML fits only)."""
        if self.fit.method != "ml":
            raise InferenceError(
                "A log-likelihood that may be compared across fixed effects needs an ML fit.",
                "a REML fit, whose criterion depends on the fixed-effect columns",
                'use reml_criterion, or update(method="ml").minus2_loglik',
            )
        return self.fit.criterion

    @property
    def reml_criterion(self) -> float:
        """Minus twice the restricted log-likelihood, lme4's and SAS's constant (REML only)."""
        if self.fit.method != "reml":
            raise InferenceError(
                "A REML criterion needs a REML fit.",
                "an ML fit",
                'use minus2_loglik, or update(method="reml").reml_criterion',
            )
        return self.fit.criterion

    @property
    def n_parameters(self) -> int:
        """Fixed effects, variances and covariances, residual variance."""
        return self.fit.n_parameters

    @property
    def aic(self) -> float:
        """Criterion + 2 ``n_parameters`` (all parameters, as lme4 and Stata count)."""
        return self.fit.aic

    @property
    def bic(self) -> float:
        """Criterion + log(``n``) ``n_parameters`` (rows and all parameters, as lme4 and Stata)."""
        return self.fit.bic

    @property
    def n(self) -> int:
        """Number of analysed rows."""
        return self.fit.n

    @property
    def rows(self) -> NDArray[np.intp]:
        """(n,) positions of the analysed rows in the table."""
        return self.design.rows.kept

    @property
    def groups(self) -> dict[str, int]:
        """``{grouping factor: number of levels}``."""
        return {block.group: block.n_levels for block in self.design.blocks}

    @property
    def certificate(self) -> Certificate:
        """Evidence that the estimates are the optimum."""
        return self.fit.certificate

    @property
    def is_singular(self) -> bool:
        """Whether the optimum lies on the boundary (a variance of zero, a correlation of 1)."""
        return self.fit.certificate.status == "singular"

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """What to look at again: likely mistakes, errors first (see ``Advice``)."""
        return advise(self.design, self.fit)

    # -- other data, other methods -------------------------------------------------------------

    def simulate(
        self,
        n_sim: int = 1,
        seed: int | np.random.Generator | None = None,
        *,
        kind: SimulationKind = "new",
    ) -> Array:
        """Draw responses from the fitted model: (n, n_sim), weights and offset respected.

        ``"new"`` draws new random effects for each column; ``"conditional"`` keeps the estimated
        ones. The same ``seed`` gives the same numbers.
        """
        estimates = self._estimates if kind == "conditional" else ()
        rng = np.random.default_rng(seed)
        return simulate_responses(self.design, self.fit, n_sim, rng, kind=kind, estimates=estimates)

    def refit(self, y: Any) -> MultilevelFit:
        """Fit the same model to another response, (n,) in the order of the analysed rows.

        Starts from this fit's variances; the design is not built again. What this fit was told to
        allow holds for the new one too.
        """
        prepared = with_response(self._prepared, np.asarray(y, dtype=np.float64))
        fit = solve(prepared, theta_start=self.fit.theta)
        require_certified(fit, self._allow, stacklevel=3)
        return self._like(prepared, fit)

    def update(self, *, method: Method) -> MultilevelFit:
        """Fit the same model to the same rows by ``"ml"`` or ``"reml"``."""
        checked = check_method(method)
        prepared = with_method(self._prepared, checked)
        model = replace(prepared.design.model, method=checked)
        prepared = replace(prepared, design=replace(prepared.design, model=model))
        fit = solve(prepared, theta_start=self.fit.theta)
        require_certified(fit, self._allow, stacklevel=3)
        return self._like(prepared, fit)

    def _like(self, prepared: Prepared, fit: Fit) -> MultilevelFit:
        return MultilevelFit(
            prepared,
            fit,
            labels=self._labels,
            shows_advice=self._shows_advice,
            allow=self._allow,
        )

    # -- words ---------------------------------------------------------------------------------

    @property
    def equations(self) -> str:
        """The model as level-by-level equations, plain text."""
        return "\n".join(equations(self.design))

    def sections(self, *, verbose: bool = False, df: DfMethod | None = None) -> list[Section]:
        """The summary as its sections, to be laid out anew; arguments as in ``summary``."""
        tests = self._printed_tests(df)
        found = sections(self.fit, self.design, self._labels, verbose, tests)
        return [s for s in found if self._shows_advice or s.heading != "Advice"]

    def summary(
        self, *, verbose: bool = False, width: int = WIDTH, df: DfMethod | None = None
    ) -> str:
        """The summary as text; ``verbose`` adds the evidence of convergence and the times.

        ``df`` is the method of degrees of freedom (see ``coefficients``). Left out, it is the
        default, or z tests where the default would take seconds; the text says so.
        """
        return render_text(
            title(self.fit, self.design), self.sections(verbose=verbose, df=df), width
        )

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return render_html(title(self.fit, self.design), self.sections())

    def to_dict(self, df: DfMethod | None = None) -> dict[str, Any]:
        """All numbers of the fit under stable keys, ready for JSON; ``df`` as in ``summary``."""
        return fit_json(self.fit, self.design, self._printed_tests(df))

    def to_json(self, indent: int | None = 2) -> str:
        """``to_dict()`` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)
