"""The programs compared: how each is started and which variant of a model it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.workloads import Workload

Runtime = Literal["ours", "python", "R"]
OURS = "multilevel"
OURS_WITH_REPORT = "multilevel_report"
OURS_WITH_TESTS = "multilevel_tests"
#: Every way in which this package takes part.
OWN = (OURS, OURS_WITH_REPORT, OURS_WITH_TESTS)
GLMER = ("binomial", "poisson")
GENERALIZED = (*GLMER, "negative_binomial", "cumulative")
SCALES = ("location_scale", "location_scale_gamma")
ALL = ("gaussian", *GENERALIZED, "structured", "structural", "occasions", "related", *SCALES)


@dataclass(frozen=True)
class Peer:
    """One program.

    Attributes
    ----------
    name : key on the command line; also the adapter's module, or worker.R's variant.
    title : name in tables. ``note`` : what a reader must know about its numbers.
    runtime : which interpreter runs it.
    variant : ``"asked"`` or ``"gpboost"`` (see `Workload.variants`).
    default : whether it takes part unless named.
    crossed_only : whether it is run only where two terms or more are estimated.
    families : outcome families that it fits.
    quadrature : whether it has adaptive quadrature.
    beside : this package beside a program whose call does more than ours needs to.
    """

    name: str
    title: str
    runtime: Runtime
    variant: str = "asked"
    note: str = ""
    default: bool = True
    crossed_only: bool = False
    families: tuple[str, ...] = ("gaussian",)
    quadrature: bool = False
    beside: str = ""

    def takes(self, workload: Workload) -> bool:
        """Whether this program is run on ``workload`` at all (it may still refuse)."""
        if workload.model.family not in self.families:
            return False
        if workload.model.points > 1 and not self.quadrature:
            return False
        structural = workload.model.structural
        if structural is not None and self.name != OURS:
            return (self.beside or self.name) in structural.programs
        if self.crossed_only and (len(workload.model.terms) < 2 or workload.operation != "fit"):
            return False
        if workload.family is not None:
            return self.variant == "asked"
        return True

    def variants(self, workload: Workload, selected: list[Peer]) -> list[str]:
        """Variants to fit: one for a peer; for us every variant that a selected peer fits."""
        if self.name != OURS:
            return [self.variant]
        if workload.operation != "fit":
            return ["asked"]
        wanted = {peer.variant for peer in selected if peer.takes(workload)}
        return [v for v in ("asked", "gpboost") if v == "asked" or v in wanted]


PEERS: tuple[Peer, ...] = (
    Peer(OURS, "multilevel", "ours", families=ALL, quadrature=True),
    Peer(
        OURS_WITH_REPORT,
        "multilevel, with its error estimate",
        "ours",
        note="the default: also estimates the error of the approximation",
        families=GENERALIZED,
        quadrature=True,
    ),
    Peer(
        "lme4", "lme4 (R)", "R", families=("gaussian", *GLMER, "negative_binomial"), quadrature=True
    ),
    Peer(
        OURS_WITH_TESTS,
        "multilevel, with chi-square and fit indices",
        "ours",
        note="`fit_measures` too, which lavaan's default call computes",
        families=("structural",),
        beside="lavaan",
    ),
    Peer(
        "glmmTMB",
        "glmmTMB (R)",
        "R",
        families=(*GLMER, "negative_binomial", "occasions", "structural"),
    ),
    Peer("nlme", "nlme (R)", "R", families=("structured", "structural")),
    Peer(
        "lavaan",
        "lavaan (R)",
        "R",
        note="the default call, chi-square and baseline model included",
        families=("structural",),
    ),
    Peer(
        "lavaan_plain",
        "lavaan, without tests",
        "R",
        note='`test = "none", baseline = FALSE, h1 = FALSE`: estimates and standard errors only',
        families=("structural",),
    ),
    Peer(
        "lme4_modular",
        "lme4, with a hand-made Z (R)",
        "R",
        note="`lFormula`, then `Zt` replaced: memberships, or the root of the pedigree's "
        "relationships, whose Mendelian variances it is given",
        families=("related",),
    ),
    Peer("ordinal", "ordinal (R)", "R", families=("cumulative",), quadrature=True),
    Peer(
        "lme4_noderivs",
        "lme4, no derivative check",
        "R",
        note="`lmerControl(calc.derivs = FALSE)`: skips the evaluations after the optimum",
        default=False,
    ),
    Peer("mixedlm", "mixedlm", "python", families=("gaussian", *GLMER), quadrature=True),
    Peer("lme_python", "lme-python", "python", families=("gaussian", *GLMER), quadrature=True),
    Peer(
        "gpboost",
        "GPBoost",
        "python",
        variant="gpboost",
        note="ML, independent slopes; stochastic likelihood where factors cross",
        families=("gaussian", *GLMER, "negative_binomial"),
    ),
    Peer(
        "gpboost_cholesky",
        "GPBoost, Cholesky",
        "python",
        variant="gpboost",
        note="ML, exact factorisation",
        crossed_only=True,
    ),
    Peer("statsmodels", "statsmodels", "python"),
)


def select(names: list[str] | None) -> list[Peer]:
    """Peers by name, ours always first; None: those that take part by default."""
    if names is None:
        return [peer for peer in PEERS if peer.default]
    known = {peer.name for peer in PEERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no peer {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    return [peer for peer in PEERS if peer.name in names]
