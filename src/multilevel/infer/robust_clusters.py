"""Which rows belong together when a covariance is made robust: one clustering, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import InferenceError

if TYPE_CHECKING:
    from multilevel.design.records import Design, RandomBlock

Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Clustering:
    """One way to put rows together.

    Attributes
    ----------
    name : of the factor, or ``"cluster"`` for ids that were passed in.
    codes : (n,) cluster of each row, 0..J-1.
    labels : (J,) labels of the clusters.
    """

    name: str
    codes: Codes
    labels: NDArray[Any]

    @property
    def n_clusters(self) -> int:
        """J."""
        return len(self.labels)


def is_inside(fine: Codes, coarse: Codes) -> bool:
    """Whether each level of ``fine`` (n,) lies in a single level of ``coarse`` (n,)."""
    n_fine = int(fine.max()) + 1
    first = np.zeros(n_fine, dtype=np.int32)
    first[fine] = coarse
    return bool(np.all(first[fine] == coarse))


def top_blocks(design: Design) -> list[RandomBlock]:
    """Grouping factors that lie inside no other: one for a nested model, several if crossed."""
    blocks = design.blocks
    return [
        block
        for t, block in enumerate(blocks)
        if not any(
            is_inside(block.codes, other.codes)
            and (s > t or not is_inside(other.codes, block.codes))
            for s, other in enumerate(blocks)
            if s != t
        )
    ]


def resolve_clusters(design: Design, cluster: Any = None) -> tuple[Clustering, ...]:
    """The clusterings that ``cluster`` asks for.

    Parameters
    ----------
    design : the analysed rows.
    cluster : None for the top level of a nested model, or all crossed top factors; the name of a
        grouping factor of the model; a list of names (multi-way); or (n,) ids of the analysed
        rows, for clusters that the model does not hold.

    Raises
    ------
    InferenceError : unknown names, ids of the wrong length or missing, fewer than two clusters, or
        a random effect whose levels extend over several clusters.
    """
    found = _asked_for(design, cluster)
    for one in found:
        if one.n_clusters < 2:
            raise InferenceError(
                "A robust covariance needs at least two clusters.",
                f"{one.n_clusters} in {one.name}",
                "name a factor with more levels",
            )
    for block in design.blocks:
        if not any(is_inside(block.codes, one.codes) for one in found):
            names = ", ".join(one.name for one in found)
            raise InferenceError(
                "Each level of a random effect must lie inside one cluster: rows that share a "
                "random effect are not independent.",
                f"levels of {block.group} that extend over several clusters of {names}",
                f"name {block.group}, a factor above it, or both in a list",
            )
    return found


def _asked_for(design: Design, cluster: Any) -> tuple[Clustering, ...]:
    if cluster is None:
        if not design.blocks:
            raise InferenceError(
                "Clusters must be named where the model has no random effects.",
                "no grouping factor",
                "pass cluster= with one id per analysed row",
            )
        return tuple(_of_block(block) for block in top_blocks(design))
    if isinstance(cluster, str):
        return (_named(design, cluster),)
    if isinstance(cluster, list | tuple) and cluster and all(isinstance(c, str) for c in cluster):
        groups = {block.group for block in design.blocks}
        if set(cluster) & groups or len(cluster) != design.n:
            return tuple(_named(design, name) for name in dict.fromkeys(cluster))
    return (_of_ids(design, cluster),)


def _of_block(block: RandomBlock) -> Clustering:
    return Clustering(block.group, block.codes, block.levels)


def _named(design: Design, name: str) -> Clustering:
    for block in design.blocks:
        if block.group == name:
            return _of_block(block)
    known = ", ".join(block.group for block in design.blocks) or "none"
    raise InferenceError(
        "cluster must name a grouping factor of the model.",
        f"{name!r}; the model has {known}",
        "name one of them, or pass one id per analysed row: data[name].iloc[fit.rows]",
    )


def _of_ids(design: Design, ids: Any) -> Clustering:
    values = np.asarray(ids)
    if values.shape != (design.n,):
        raise InferenceError(
            "Cluster ids must be one per analysed row.",
            f"shape {values.shape} for {design.n} analysed rows",
            "pass data[name].iloc[fit.rows]",
        )
    missing = values != values if values.dtype.kind == "f" else _missing_objects(values)
    if bool(np.any(missing)):
        raise InferenceError(
            "Cluster ids must not be missing.",
            f"a missing id at analysed row {int(np.flatnonzero(missing)[0])}",
            "leave such rows out before fitting",
        )
    text = values.astype(str) if values.dtype.kind == "O" else values
    labels, codes = np.unique(text, return_inverse=True)
    return Clustering("cluster", codes.astype(np.int32), labels)


def _missing_objects(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    return np.array([v is None or v != v for v in values.tolist()], dtype=bool)


def intersection(parts: Sequence[Clustering]) -> Clustering:
    """Clusters of rows that share a cluster in every part."""
    codes = parts[0].codes.astype(np.int64)
    for part in parts[1:]:
        joint = codes * part.n_clusters + part.codes
        codes = np.unique(joint, return_inverse=True)[1].astype(np.int64)
    name = " and ".join(part.name for part in parts)
    return Clustering(name, codes.astype(np.int32), np.arange(int(codes.max()) + 1))
