"""What one evaluation of the iterative engine will cost, told before anything is built."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.likelihood.blocks.cross_products import CrossProducts

#: Entries x right-hand sides per second of one sweep (gather and scatter), measured on one core
#: of a 2.5 GHz-class server, vectors within the cache of the processor.
ENTRIES_PER_SECOND = 0.7e9
TYPICAL_STEPS = 8  # conjugate-gradient steps on random designs: 6 to 12


@dataclass(frozen=True)
class IterativeCost:
    """Predicted cost of the iterative engine.

    Attributes
    ----------
    n_core : rows of the core.
    nnz : stored numbers of ``Z'Z`` between levels that occur together.
    bytes : memory of the engine beside the cross-products.
    seconds : one evaluation (``T``, ``logdet``, ``cross``, all ``information_sum``), one core.
    """

    n_core: int
    nnz: int
    bytes: int
    seconds: float


def predict_cost(cross: CrossProducts, probes: int = 30) -> IterativeCost:
    """Predict from sizes alone; ``TYPICAL_STEPS`` steps, which nested designs exceed."""
    sizes = cross.sizes
    n_core = sum(J * q for J, q in sizes[1:])
    leaf = sum(p.values.size for (t, _), p in cross.pairs.items() if t == 0)
    core = sum(2 * p.values.size for (t, _), p in cross.pairs.items() if t > 0)
    columns = probes + cross.n_columns + sum(q for _, q in sizes[1:])
    widest = max(q for _, q in sizes[1:])
    sweep = columns * (leaf + core / 2 + n_core * (4 + widest)) / ENTRIES_PER_SECOND
    leaf_blocks = sizes[0][0] * sizes[0][1] ** 2
    vectors = 8 * n_core * (13 * columns + 6 * widest)
    stored = 36 * leaf + 24 * core + 8 * 5 * leaf_blocks
    return IterativeCost(n_core, leaf + core, int(vectors + stored), (TYPICAL_STEPS + 1.0) * sweep)
