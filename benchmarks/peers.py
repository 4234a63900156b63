"""The programs compared: how each is started and which variant of a model it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.workloads import Workload

Runtime = Literal["ours", "python", "R"]
OURS = "multilevel"
OURS_WITH_REPORT = "multilevel_report"
GLMER = ("binomial", "poisson")
GENERALIZED = (*GLMER, "negative_binomial", "cumulative")
ALL = ("gaussian", *GENERALIZED, "structured")


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

    def takes(self, workload: Workload) -> bool:
        """Whether this program is run on ``workload`` at all (it may still refuse)."""
        if workload.model.family not in self.families:
            return False
        if workload.model.points > 1 and not self.quadrature:
            return False
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
    Peer("glmmTMB", "glmmTMB (R)", "R", families=(*GLMER, "negative_binomial")),
    Peer("nlme", "nlme (R)", "R", families=("structured",)),
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
