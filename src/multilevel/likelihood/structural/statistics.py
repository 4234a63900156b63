"""Rows of one group to what the likelihood needs: sums by cluster and missing pattern.

One evaluation then costs the number of patterns and clusters, not the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class GroupStatistics:
    """Sums of one group. Means are taken off first (``centre_*``), so that nothing cancels.

    Attributes
    ----------
    n_both : level-1 variables with a between part; they come first.
    n_rows, n_clusters, n_values : rows with any level-1 value; clusters; observed values.
    centre_y, centre_z : (p,), (p_z,) what was subtracted.
    seen : (m, p) which variables each pattern observes, as 0 and 1.
    pattern_n, pattern_sum, pattern_cross : (m,), (m, p), (m, p, p) sums over rows; 0 if missing.
    pair_cluster, pair_n, pair_sum : one entry per (pattern, cluster) that occurs, by pattern.
    pair_start : (m + 1,) where the pairs of each pattern begin.
    seen_z, z_pattern, z : (m_z, p_z), (J,), (J, p_z) level-2 variables; 0 where missing.
    kind_counts, kind_z, kind_n, cluster_kind : clusters of one kind have the same number of rows
        per pattern (u, m) and the same level-2 pattern (u,); kind_n (u,) of them; (J,).
    rows, row_pattern, row_cluster : (n, p) centred rows, for the scores of clusters.
    """

    n_both: int
    n_rows: int
    n_clusters: int
    n_values: int
    centre_y: Array
    centre_z: Array
    seen: Array
    pattern_n: Array
    pattern_sum: Array
    pattern_cross: Array
    pair_cluster: Codes
    pair_n: Array
    pair_sum: Array
    pair_start: Codes
    seen_z: Array
    z_pattern: Codes
    z: Array
    kind_counts: Array
    kind_z: Codes
    kind_n: Array
    cluster_kind: Codes
    rows: Array
    row_pattern: Codes
    row_cluster: Codes

    @property
    def n_patterns(self) -> int:
        """m."""
        return len(self.pattern_n)

    @property
    def is_complete(self) -> bool:
        """Whether no value of a row or of a cluster is missing."""
        return bool(np.all(self.seen == 1.0) and np.all(self.seen_z == 1.0))

    @cached_property
    def to_cluster(self) -> sparse.csr_array:
        """(J, pairs) adds pairs up by cluster."""
        n = len(self.pair_cluster)
        ones = (np.ones(n), (self.pair_cluster, np.arange(n)))
        return sparse.csr_array(ones, shape=(self.n_clusters, n))

    @cached_property
    def pair_pattern(self) -> Codes:
        """Pattern of each pair."""
        return np.repeat(np.arange(self.n_patterns), np.diff(self.pair_start))


def value_patterns(values: Array) -> tuple[Array, Codes]:
    """Distinct patterns of observed values (m, p) and the pattern of each row."""
    seen = ~np.isnan(values)
    if seen.all():  # no columns, or no rows: one pattern too, so that sums have a place
        return np.ones((1, values.shape[1])), np.zeros(len(values), dtype=np.intp)
    found, codes = np.unique(seen, axis=0, return_inverse=True)
    return found[::-1].astype(np.float64), (len(found) - 1 - codes.ravel()).astype(np.intp)


def observed_means(values: Array) -> Array:
    """Means of the observed values; 0 for a column without any."""
    n = np.sum(~np.isnan(values), axis=0)
    return np.asarray(np.nansum(values, axis=0) / np.maximum(n, 1))


def group_statistics(y: Array, codes: Codes, z: Array, n_both: int) -> GroupStatistics:
    """Sum up one group.

    Parameters
    ----------
    y : (n, p) level-1 values, NaN where missing; variables with a between part first.
    codes : (n,) cluster of each row, 0..J-1.
    z : (J, p_z) level-2 values, NaN where missing.
    n_both : number of level-1 variables with a between part.
    """
    n_clusters = len(z)
    if y.shape[1]:
        keep = ~np.all(np.isnan(y), axis=1)
        y, codes = y[keep], codes[keep]
    centre_y, centre_z = observed_means(y), observed_means(z)
    seen, row_pattern = value_patterns(y)
    seen_z, z_pattern = value_patterns(z)
    m = len(seen)
    rows = np.nan_to_num(y - centre_y)
    order = np.lexsort((codes, row_pattern))
    key = row_pattern[order].astype(np.int64) * max(n_clusters, 1) + codes[order]
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.zeros(0, np.intp)
    pair_n = np.diff(np.r_[first, len(key)]).astype(np.float64)
    pair_sum = np.add.reduceat(rows[order], first, axis=0) if len(key) else rows[:0]
    pair_pattern = row_pattern[order][first]
    pair_cluster = codes[order][first].astype(np.intp)
    cross = np.stack([rows[row_pattern == k].T @ rows[row_pattern == k] for k in range(m)])
    pattern_sum = np.zeros((m, y.shape[1]))
    np.add.at(pattern_sum, pair_pattern, pair_sum)
    counts = np.zeros((n_clusters, m + 1))
    counts[pair_cluster, pair_pattern] = pair_n
    counts[:, m] = z_pattern
    kinds, cluster_kind, kind_n = np.unique(counts, axis=0, return_inverse=True, return_counts=True)
    return GroupStatistics(
        n_both=n_both,
        n_rows=len(y),
        n_clusters=n_clusters,
        n_values=int(np.sum(~np.isnan(y)) + np.sum(~np.isnan(z))),
        centre_y=centre_y,
        centre_z=centre_z,
        seen=seen,
        pattern_n=np.bincount(row_pattern, minlength=m).astype(np.float64),
        pattern_sum=pattern_sum,
        pattern_cross=cross,
        pair_cluster=pair_cluster,
        pair_n=pair_n,
        pair_sum=pair_sum,
        pair_start=np.searchsorted(pair_pattern, np.arange(m + 1)).astype(np.intp),
        seen_z=seen_z,
        z_pattern=z_pattern,
        z=np.nan_to_num(z - centre_z),
        kind_counts=kinds[:, :m],
        kind_z=kinds[:, m].astype(np.intp),
        kind_n=kind_n.astype(np.float64),
        cluster_kind=cluster_kind.ravel().astype(np.intp),
        rows=rows,
        row_pattern=row_pattern,
        row_cluster=codes.astype(np.intp),
    )
