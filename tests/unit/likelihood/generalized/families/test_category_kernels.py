"""The compiled loops of ordered families against the same loops run as plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.likelihood.generalized.families import kernels_cumulative as kernels
from multilevel.likelihood.generalized.families.kernels_category_terms import LINK_CODES

Y = np.array([0, 1, 2, 3, 1, 2], dtype=np.int64)
ETA = np.array(
    [[0.1, -0.4, 1.2, 0.0, 2.0, -1.0], [-1.0] * 6, [0.2, 0.2, 0.2, 0.4, 0.4, 0.4], [0.5] * 6]
)


@pytest.mark.parametrize("link", LINK_CODES.values())
@pytest.mark.parametrize("increasing", [True, False])
def test_compiled_and_plain_agree(link, increasing):
    random = np.array([0, 2])
    shapes = {
        "cumulative_values": [(1, 6)],
        "cumulative_first": [(1, 6), (4, 1, 6)],
        "cumulative_newton": [(6,), (6,), (6,)],
        "cumulative_all": [(6,), (4, 6), (2, 4, 6), (2, 2, 4, 6)],
    }
    for name, sizes in shapes.items():
        kernel = getattr(kernels, name)
        eta = ETA if name in ("cumulative_newton", "cumulative_all") else ETA[:, None].copy()
        extra = (random,) if name == "cumulative_all" else ()
        results = []
        for run in (kernel, kernel.py_func):
            out = [np.full(size, np.nan) for size in sizes]
            run(link, increasing, Y, eta, *extra, *out)
            results.append(out)
        for one, other in zip(*results, strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
