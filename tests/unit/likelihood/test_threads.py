"""Threads of BLAS are chosen for the step at hand."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from multilevel.likelihood.blocks import threads
from multilevel.likelihood.blocks.threads import LARGE_ORDER, blas_threads, step_of


def limits() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_large_step_looks_for_idle_cores_anew(monkeypatch):
    asked = []

    def idle() -> int:
        asked.append(1)
        return 1 if len(asked) == 1 else 2

    monkeypatch.setattr(threads, "idle_cores", idle)
    with blas_threads(LARGE_ORDER) as outer:
        assert outer == 1
        assert limits() == {1}
        with step_of(LARGE_ORDER) as inner:
            assert inner == 2
            assert limits() == {2}
        assert limits() == {1}
        with step_of(LARGE_ORDER - 1):  # keeps what is set, and does not even look
            assert limits() == {1}
    assert len(asked) == 2
