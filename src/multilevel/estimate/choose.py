"""Which engine? A printed cost model that refuses before memory runs out.

Rates are medians measured on two cores of a server processor; only their order matters for the
choice. Memory is compared with half of what is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from multilevel.errors import EstimationError
from multilevel.likelihood.blocks.cross_products import CrossProducts
from multilevel.likelihood.blocks.memory import free_memory
from multilevel.likelihood.gaussian.engine import GaussianEngine
from multilevel.likelihood.related.products import RelatedProducts

EngineName = Literal["nested", "small", "dense", "sparse", "iterative"]
ENGINES: tuple[str, ...] = get_args(EngineName)
PROBE_SEED = 20_261_122  # fixed: the same data give the same fit, models share their noise
SMALL_LIMIT = 200  # random effects up to which plain NumPy beats everything
POTRF_RATE, POTRI_RATE, SCATTER_RATE, SPARSE_RATE = 50e9, 60e9, 0.25e9, 0.7e9
SPARSE_NONZEROS = 60_000_000
DENSE_SECONDS = 4.0  # per evaluation; above it the iterative engine runs alone
WARM_ORDER = 1500  # dense orders from which the iterative engine finds the neighbourhood first


@dataclass(frozen=True)
class EnginePlan:
    """The engine that will run and why.

    Attributes
    ----------
    name : one of ``ENGINES``.
    sentence : the reason, with the predicted costs of the alternatives.
    seconds : predicted seconds per evaluation with gradient.
    make : cross-products in, engine out.
    order : order of the largest dense matrix that is factorised (for the number of threads).
    warm_start : plan of a cheaper, noisier engine that finds the neighbourhood of the optimum.
    """

    name: EngineName
    sentence: str
    seconds: float
    make: Callable[[CrossProducts], GaussianEngine]
    order: int = 0
    warm_start: EnginePlan | None = None


def _make_nested(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.gaussian.nested import NestedEngine
    from multilevel.likelihood.gaussian.shared import SharedEngine, shared_patterns

    pattern = shared_patterns(cross)
    return NestedEngine(cross) if pattern is None else SharedEngine(cross, pattern)


def _make_small(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.gaussian.small import SmallEngine

    return SmallEngine(cross)


def _make_dense(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.gaussian.dense_core import DenseCoreEngine

    return DenseCoreEngine(cross)


def _make_sparse(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.gaussian.sparse import SparseEngine

    return SparseEngine(cross)


def _make_iterative(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.gaussian.iterative import IterativeEngine

    return IterativeEngine(cross, rng=np.random.default_rng(PROBE_SEED))


_MAKERS: dict[EngineName, Callable[[CrossProducts], GaussianEngine]] = {
    "nested": _make_nested,
    "small": _make_small,
    "dense": _make_dense,
    "sparse": _make_sparse,
    "iterative": _make_iterative,
}


@dataclass(frozen=True)
class _Cost:
    name: EngineName
    seconds: float
    memory: float


def _dense_cost(cross: CrossProducts) -> _Cost:
    n2 = float(sum(J * q for J, q in cross.sizes[1:]))
    lengths = np.zeros(cross.sizes[0][0])
    for s in range(1, cross.n_blocks):
        lengths += np.diff(cross.pairs[0, s].indptr) * cross.sizes[s][1]
    scatter = float((lengths**2).sum()) * cross.sizes[0][1]
    seconds = n2**3 / 3 / POTRF_RATE + 2 * n2**3 / 3 / POTRI_RATE + scatter / SCATTER_RATE
    return _Cost("dense", seconds, 16.0 * n2**2 + 24.0 * len(cross.pairs[0, 1].indices))


def _sparse_cost(cross: CrossProducts) -> _Cost | None:
    """None where the fill would be too large for the sparse factor to be of use."""
    from multilevel.likelihood.blocks.ordering import symbolic

    plan = symbolic(cross, limit=SPARSE_NONZEROS)
    if not plan.is_within_limit:
        return None
    seconds = 3.0 * plan.predicted_flops / SPARSE_RATE
    return _Cost("sparse", seconds, 40.0 * plan.nnz_factor)


def _iterative_cost(cross: CrossProducts) -> _Cost:
    from multilevel.likelihood.gaussian.iterative import predict_cost

    cost = predict_cost(cross)
    return _Cost("iterative", cost.seconds, cost.bytes)


def _crossed_costs(cross: CrossProducts) -> list[_Cost]:
    dense = _dense_cost(cross)
    costs = [dense]
    if dense.seconds > 0.02:
        sparse = _sparse_cost(cross)
        costs += [sparse] if sparse is not None else []
    if dense.seconds > DENSE_SECONDS or dense.memory > 0.5 * free_memory():
        costs.append(_iterative_cost(cross))
    return costs


def choose_engine(cross: CrossProducts, wanted: str | None = None) -> EnginePlan:
    """Choose the cheapest engine that fits in half of the free memory, or check the wanted one.

    Raises
    ------
    EstimationError : an unknown or unsuitable engine, or none fits in memory (with the numbers).
    """
    if isinstance(cross, RelatedProducts):
        return choose_related(cross, wanted)
    if wanted is not None:
        return _forced(cross, wanted)
    n_effects = sum(J * q for J, q in cross.sizes)
    factors = f"{cross.n_blocks} grouping factor{'s' if cross.n_blocks != 1 else ''}"
    if cross.is_chain:
        why = f"nested engine: {factors}, each nested in the next; cost grows with the groups only"
        return EnginePlan("nested", why, _seconds("nested", cross), _MAKERS["nested"])
    if n_effects <= SMALL_LIMIT:
        why = f"small engine: {factors}, {n_effects} random effects in one dense matrix"
        return EnginePlan("small", why, _seconds("small", cross), _MAKERS["small"])
    costs = _crossed_costs(cross)
    room = 0.5 * free_memory()
    fitting = [c for c in costs if c.memory <= room]
    if not fitting:
        best = min(costs, key=lambda c: c.memory)
        raise EstimationError(
            "The crossed design must fit in half of the free memory.",
            f"{n_effects} random effects; the leanest engine ({best.name}) needs "
            f"{best.memory / 1e9:.1f} GB and {room / 1e9:.1f} GB are to be had",
            "use a machine with more memory, or fewer levels",
        )
    best = min(fitting, key=lambda c: c.seconds)
    told = ", ".join(f"{c.name} {c.seconds:.2g} s and {c.memory / 1e6:.0f} MB" for c in costs)
    why = (
        f"{best.name} engine: {factors}, crossed, {n_effects} random effects; "
        f"predicted per evaluation: {told}"
    )
    return _plan(best.name, why, best.seconds, cross)


def _plan(name: EngineName, why: str, seconds: float, cross: CrossProducts) -> EnginePlan:
    """A plan with its order, and a warm start where one dense evaluation costs more than ten
    iterative ones."""
    order, warm = _order(name, cross), None
    if order >= WARM_ORDER:
        rough = "iterative engine: finds the neighbourhood of the optimum"
        warm = EnginePlan("iterative", rough, _iterative_cost(cross).seconds, _MAKERS["iterative"])
        why += "; started by the iterative engine"
    return EnginePlan(name, why, seconds, _MAKERS[name], order, warm)


def _order(name: EngineName, cross: CrossProducts) -> int:
    """Order of the dense matrix an engine factorises (0 where there is none to speak of)."""
    return sum(J * q for J, q in cross.sizes[1:]) if name == "dense" else 0


def _forced(cross: CrossProducts, wanted: str) -> EnginePlan:
    for name in _MAKERS:
        if name == wanted:
            break
    else:
        raise EstimationError(
            "The engine must be one of " + ", ".join(ENGINES) + ".",
            f"engine={wanted!r}",
            "leave it out to have it chosen",
        )
    if name == "nested" and not cross.is_chain:
        raise EstimationError(
            "The nested engine needs every grouping factor nested in the next.",
            "crossed grouping factors",
            "leave engine out to have it chosen",
        )
    if name in ("dense", "iterative") and cross.n_blocks < 2:
        raise EstimationError(
            f"The {name} engine needs at least two grouping factors.",
            f"{cross.n_blocks}",
            "leave engine out to have it chosen",
        )
    return _plan(name, f"{name} engine: asked for", _seconds(name, cross), cross)


def _seconds(name: EngineName, cross: CrossProducts) -> float:
    """Predicted seconds per evaluation with gradient."""
    n_effects = sum(J * q for J, q in cross.sizes)
    if name == "nested":
        return sum(J * q * (q + cross.n_columns) * cross.n_columns for J, q in cross.sizes) / 1e9
    if name == "small":
        return n_effects**3 / 5e9
    if name == "dense":
        return _dense_cost(cross).seconds
    if name == "iterative":
        return _iterative_cost(cross).seconds
    sparse = _sparse_cost(cross)
    return 10.0 if sparse is None else sparse.seconds


def _make_related(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.related.dense import DenseRelatedEngine

    return DenseRelatedEngine(_related(cross))


def _make_related_sparse(cross: CrossProducts) -> GaussianEngine:
    from multilevel.likelihood.related.sparse import SparseRelatedEngine

    return SparseRelatedEngine(_related(cross))


def _related(cross: CrossProducts) -> RelatedProducts:
    if not isinstance(cross, RelatedProducts):
        raise EstimationError(
            "This engine is for levels that share rows or are correlated.", "other cross-products",
            "leave engine out to have it chosen",
        )  # fmt: skip
    return cross


def choose_related(cross: RelatedProducts, wanted: str | None = None) -> EnginePlan:
    """Dense or sparse, for rows with several levels and for levels that are correlated.

    Raises
    ------
    EstimationError : another engine is asked for, or neither fits in memory.
    """
    if wanted not in (None, "dense", "sparse"):
        raise EstimationError(
            "Levels that share rows or are correlated take the dense or the sparse engine.",
            f"engine={wanted!r}",
            "leave engine out to have it chosen",
        )
    size = sum(J * q for J, q in cross.sizes)
    dense = _Cost("dense", size**3 * (1 / 3 / POTRF_RATE + 1 / POTRI_RATE), 40.0 * size**2)
    costs = [dense] if wanted != "sparse" else []
    is_keeping_roots = all(r is None or r.root is not None for r in cross.relations)
    if wanted == "sparse" or (wanted is None and is_keeping_roots and size > SMALL_LIMIT):
        from multilevel.likelihood.related.sparse import symbolic_phase

        plan = symbolic_phase(cross)[1]
        if plan.is_within_limit:
            seconds = 3.0 * plan.predicted_flops / SPARSE_RATE + 1e-3
            costs.append(_Cost("sparse", seconds, 40.0 * plan.nnz_factor))
    fitting = [c for c in costs if c.memory <= 0.5 * free_memory()]
    if not fitting:
        raise EstimationError(
            "The random effects must fit in half of the free memory.",
            f"{size} random effects that share rows or are correlated",
            "use a machine with more memory, or fewer levels",
        )
    best = min(fitting, key=lambda c: c.seconds)
    told = ", ".join(f"{c.name} {c.seconds:.2g} s and {c.memory / 1e6:.0f} MB" for c in costs)
    why = (
        f"{best.name} engine: {size} random effects that share rows or are correlated; predicted"
        f" per evaluation: {told}"
    )
    make = _make_related if best.name == "dense" else _make_related_sparse
    return EnginePlan(best.name, why, best.seconds, make, size if best.name == "dense" else 0)
