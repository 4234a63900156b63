"""Sparse LDL' of a symmetric positive definite matrix, its solves and its selected inverse.

Sources: T. A. Davis, *Direct Methods for Sparse Linear Systems* (SIAM 2006), ch. 4: elimination
tree (4.1), postorder (4.4), column counts by skeleton leaves (4.5, after Gilbert, Ng & Peyton
1994), up-looking factorisation (4.7-4.8). Selected inverse: K. Takahashi, J. Fagan & M. Chin
(1973); A. M. Erisman & W. F. Tinney (1975), Comm. ACM 18.

Deviations: column counts carry a weight per node (a node is one level of a grouping factor with
q columns); the pattern of L is computed once, only its values at each evaluation; the selected
inverse looks entries up by bisection where a short column meets a long one.

Conventions: indices are int64, values C-contiguous float64. A matrix is given by its upper
triangle in compressed columns with the diagonal (``Up, Ui, Ux``); the unit lower factor by its
strict lower triangle in compressed columns, rows ascending (``Lp, Li, Lx``), and ``D``. A cached
kernel does not see changes in other files, so all that is inlined stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiled(kernel: Kernel) -> Kernel:
    return cast(Kernel, njit(cache=True, error_model="numpy", nogil=True)(kernel))


@_compiled
def elimination_tree(Ap: IntArray, Ai: IntArray, order: IntArray, place: IntArray) -> IntArray:
    """Elimination tree of a symmetric graph under an order (Davis 2006, 4.1).

    ``Ap, Ai``: the full symmetric pattern in compressed columns (unordered labels);
    ``order[k]``: the node eliminated k-th; ``place``: its inverse. Returns ``parent`` (n,) in
    the labels of the order, -1 at roots.
    """
    n = order.size
    parent = np.empty(n, np.int64)
    ancestor = np.empty(n, np.int64)
    for k in range(n):
        parent[k] = -1
        ancestor[k] = -1
        node = order[k]
        for p in range(Ap[node], Ap[node + 1]):
            i = place[Ai[p]]
            while i != -1 and i < k:
                following = ancestor[i]
                ancestor[i] = k
                if following == -1:
                    parent[i] = k
                i = following
    return parent


@_compiled
def postorder(parent: IntArray) -> IntArray:
    """Postorder of a forest (Davis 2006, 4.4): (n,), children before parents, subtrees together."""
    n = parent.size
    head = np.empty(n, np.int64)
    sibling = np.empty(n, np.int64)
    stack = np.empty(n, np.int64)
    post = np.empty(n, np.int64)
    for j in range(n):
        head[j] = -1
    for j in range(n - 1, -1, -1):
        if parent[j] != -1:
            sibling[j] = head[parent[j]]
            head[parent[j]] = j
    k = 0
    for root in range(n):
        if parent[root] != -1:
            continue
        top = 0
        stack[0] = root
        while top >= 0:
            j = stack[top]
            child = head[j]
            if child == -1:
                top -= 1
                post[k] = j
                k += 1
            else:
                head[j] = sibling[child]
                top += 1
                stack[top] = child
    return post


@_compiled
def column_counts(
    Ap: IntArray,
    Ai: IntArray,
    order: IntArray,
    place: IntArray,
    parent: IntArray,
    post: IntArray,
    weight: IntArray,
) -> IntArray:
    """Weighted column counts of L, its own node included, without forming L (Davis 2006, 4.5).

    ``weight`` (n,): columns of each node in the labels of the order. Returns (n,): the sum of
    the weights of the rows of each column. Time is nearly linear in the entries of the graph.
    """
    n = order.size
    first = np.empty(n, np.int64)
    deepest = np.empty(n, np.int64)
    last_leaf = np.empty(n, np.int64)
    ancestor = np.empty(n, np.int64)
    count = np.empty(n, np.int64)
    for j in range(n):
        first[j] = -1
        deepest[j] = -1
        last_leaf[j] = -1
        ancestor[j] = j
        count[j] = 0
    for k in range(n):
        j = post[k]
        if first[j] == -1:
            count[j] = weight[j]
        while j != -1 and first[j] == -1:
            first[j] = k
            j = parent[j]
    for k in range(n):
        j = post[k]
        if parent[j] != -1:
            count[parent[j]] -= weight[j]
        node = order[j]
        for p in range(Ap[node], Ap[node + 1]):
            i = place[Ai[p]]
            if i <= j or first[j] <= deepest[i]:
                continue
            deepest[i] = first[j]
            previous = last_leaf[i]
            last_leaf[i] = j
            count[j] += weight[i]
            if previous != -1:
                top = previous
                while top != ancestor[top]:
                    top = ancestor[top]
                while previous != top:
                    above = ancestor[previous]
                    ancestor[previous] = top
                    previous = above
                count[top] -= weight[i]
        if parent[j] != -1:
            ancestor[j] = parent[j]
    for j in range(n):
        if parent[j] != -1:
            count[parent[j]] += count[j]
    return count


@_compiled
def factor_pattern(
    Up: IntArray, Ui: IntArray, parent: IntArray, Lp: IntArray
) -> tuple[IntArray, IntArray]:
    """Rows of L by column, and the place in L of every entry of the upper triangle.

    Returns ``Li`` (nnz,) with ascending rows in each column, and ``slots`` (entries of U,):
    the index into ``Lx`` of entry (i, k), or ``nnz + k`` for the diagonal.
    """
    n = parent.size
    nnz = Lp[n]
    Li = np.empty(nnz, np.int64)
    slots = np.empty(Ui.size, np.int64)
    filled = np.empty(n, np.int64)
    mark = np.empty(n, np.int64)
    for k in range(n):
        filled[k] = Lp[k]
        mark[k] = k
        for p in range(Up[k], Up[k + 1]):
            i = Ui[p]
            while mark[i] != k:
                mark[i] = k
                Li[filled[i]] = k
                filled[i] += 1
                i = parent[i]
        for p in range(Up[k], Up[k + 1]):
            i = Ui[p]
            slots[p] = nnz + k if i == k else filled[i] - 1
    return Li, slots


@_compiled
def factorise(
    Up: IntArray,
    Ui: IntArray,
    Ux: Array,
    parent: IntArray,
    Lp: IntArray,
    Li: IntArray,
    Lx: Array,
    D: Array,
) -> int:
    """Up-looking LDL' (Davis 2006, 4.7-4.8) into ``Lx`` and ``D``.

    Returns -1, or the column whose pivot is not positive and finite.
    """
    n = parent.size
    y = np.empty(n, np.float64)
    pattern = np.empty(n, np.int64)
    mark = np.empty(n, np.int64)
    filled = np.empty(n, np.int64)
    for k in range(n):
        filled[k] = Lp[k]
        mark[k] = k
        y[k] = 0.0
        top = n
        for p in range(Up[k], Up[k + 1]):
            i = Ui[p]
            y[i] = Ux[p]
            length = 0
            while mark[i] != k:
                pattern[length] = i
                length += 1
                mark[i] = k
                i = parent[i]
            while length > 0:
                top -= 1
                length -= 1
                pattern[top] = pattern[length]
        pivot = y[k]
        y[k] = 0.0
        for s in range(top, n):
            i = pattern[s]
            yi = y[i]
            y[i] = 0.0
            end = filled[i]
            for p in range(Lp[i], end):
                y[Li[p]] -= Lx[p] * yi
            ratio = yi / D[i]
            pivot -= ratio * yi
            Lx[end] = ratio
            filled[i] = end + 1
        D[k] = pivot
        if not (pivot > 0.0 and pivot < np.inf):
            return k
    return -1


@_compiled
def solve_forward(Lp: IntArray, Li: IntArray, Lx: Array, X: Array) -> None:
    """Overwrite ``X`` (n, k) by ``L^-1 X``."""
    n, columns = X.shape
    for j in range(n):
        for p in range(Lp[j], Lp[j + 1]):
            i = Li[p]
            x = Lx[p]
            for c in range(columns):
                X[i, c] -= x * X[j, c]


@_compiled
def solve_backward(Lp: IntArray, Li: IntArray, Lx: Array, X: Array) -> None:
    """Overwrite ``X`` (n, k) by ``L^-T X``."""
    n, columns = X.shape
    for j in range(n - 1, -1, -1):
        for p in range(Lp[j], Lp[j + 1]):
            i = Li[p]
            x = Lx[p]
            for c in range(columns):
                X[j, c] -= x * X[i, c]


@_compiled
def selected_inverse(Lp: IntArray, Li: IntArray, Lx: Array, D: Array, inverse: Array) -> None:
    """Entries of ``(L D L')^-1`` on the pattern of L (Takahashi et al. 1973), last column first.

    ``inverse`` (nnz + n,) is overwritten: the strict lower entries in the order of ``Li``, then
    the diagonal.
    """
    n = D.size
    nnz = Lp[n]
    place = np.empty(n, np.int64)
    for j in range(n):
        place[j] = -1
    for j in range(n - 1, -1, -1):
        start = Lp[j]
        end = Lp[j + 1]
        length = end - start
        for a in range(start, end):
            inverse[a] = 0.0
            place[Li[a]] = a
        for a in range(start, end):
            k = Li[a]
            x = Lx[a]
            total = inverse[a] - inverse[nnz + k] * x
            low = Lp[k]
            high = Lp[k + 1]
            if 8 * (end - a - 1) < high - low:
                # few rows against a long column: bisect for each, both lists ascend
                for c in range(a + 1, end):
                    row = Li[c]
                    right = high
                    while low < right:
                        middle = (low + right) >> 1
                        if Li[middle] < row:
                            low = middle + 1
                        else:
                            right = middle
                    z = inverse[low]
                    inverse[c] -= z * x
                    total -= z * Lx[c]
            elif length > 1:
                for b in range(low, high):
                    c = place[Li[b]]
                    if c >= 0:
                        z = inverse[b]
                        inverse[c] -= z * x
                        total -= z * Lx[c]
            inverse[a] = total
        diagonal = 1.0 / D[j]
        for a in range(start, end):
            diagonal -= inverse[a] * Lx[a]
            place[Li[a]] = -1
        inverse[nnz + j] = diagonal
