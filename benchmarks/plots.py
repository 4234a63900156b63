"""Plots of the page, as SVG and PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import verdict
from benchmarks.peers import OURS, PEERS
from benchmarks.verdict import Record

# Okabe and Ito's palette (distinguishable without colour vision), shapes differ as well
_STYLES = {
    "multilevel": ("#000000", "o"),
    "multilevel_report": ("#777777", "o"),
    "multilevel_tests": ("#777777", "s"),
    "lme4": ("#0072B2", "s"),
    "lme4_modular": ("#0072B2", "d"),
    "lavaan": ("#0072B2", "^"),
    "lavaan_plain": ("#56B4E9", "^"),
    "glmmTMB": ("#0072B2", "P"),
    "nlme": ("#0072B2", "h"),
    "ordinal": ("#0072B2", "*"),
    "lme4_noderivs": ("#56B4E9", "s"),
    "mixedlm": ("#D55E00", "^"),
    "lme_python": ("#E69F00", "v"),
    "gpboost": ("#009E73", "D"),
    "gpboost_cholesky": ("#009E73", "d"),
    "statsmodels": ("#CC79A7", "X"),
}


@dataclass(frozen=True)
class Slope:
    """Slope of log seconds on log size over the last points, and the last point."""

    slope: float
    largest: int
    seconds: float


def _save(figure: Any, assets: Path, name: str) -> None:
    # fixed salt and no date: the same results give the same file
    with mpl.rc_context({"svg.hashsalt": "benchmarks"}):
        figure.savefig(assets / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    figure.savefig(
        assets / f"{name}.png", dpi=130, bbox_inches="tight", metadata={"Software": None}
    )
    plt.close(figure)


def overview(records: list[Record], assets: Path) -> bool:
    """Seconds of each program on each workload; hollow where the optimum was not reached."""
    names = verdict.names(records)
    if not names:
        return False
    figure, axes = plt.subplots(figsize=(8.5, 0.42 * len(names) + 1.2))
    for peer in PEERS:
        mine = [
            r for r in records
            if r["peer"] == peer.name and not r["family"] and "median" in r
            and (r["variant"] == "asked" or peer.name != OURS)
        ]  # fmt: skip
        if not mine:
            continue
        colour, marker = _STYLES[peer.name]
        x = [r["median"] for r in mine]
        y = [names.index(r["workload"]) for r in mine]
        faces = [colour if verdict.reached(r) else "white" for r in mine]
        axes.scatter(x, y, s=46, marker=marker, edgecolors=colour, facecolors=faces, zorder=3)
        axes.scatter([], [], s=46, marker=marker, color=colour, label=peer.title)
    targets = {r["workload"]: r["target"] for r in records if r["target"] and not r["family"]}
    for name, target in targets.items():
        row = names.index(name)
        axes.plot([target, target], [row - 0.36, row + 0.36], color="0.45", lw=1.6, zorder=2)
    axes.plot([], [], color="0.45", lw=1.6, label="our target")
    axes.set_xscale("log")
    axes.set_xlabel("seconds (hollow: stopped short of the optimum)")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="both", color="0.9", zorder=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _save(figure, assets, "benchmarks")
    return True


def scaling(records: list[Record], family: str, axis: str, assets: Path) -> dict[str, Slope]:
    """Seconds against size, log-log; returns the slope of each program's last four points."""
    slopes: dict[str, Slope] = {}
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    for peer in PEERS:
        points = sorted(
            (r["size"], r["median"])
            for r in records
            if r["family"] == family and r["peer"] == peer.name and "median" in r
        )
        if len(points) < 2:
            continue
        size, time = (np.array(v, dtype=float) for v in zip(*points, strict=True))
        colour, marker = _STYLES[peer.name]
        steep = float(np.polyfit(np.log(size[-4:]), np.log(time[-4:]), 1)[0])
        axes.plot(
            size, time, color=colour, marker=marker, label=f"{peer.title} (slope {steep:.2f})"
        )
        slopes[peer.name] = Slope(steep, int(size[-1]), float(time[-1]))
    if slopes:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(axis)
        axes.set_ylabel("seconds")
        axes.grid(color="0.9")
        axes.legend(frameon=False, fontsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        _save(figure, assets, family)
    else:
        plt.close(figure)
    return slopes
