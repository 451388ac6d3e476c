"""A worker limits the time for which one thread may keep the interpreter from the others."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from entrepot.registry.server.worker import KeepAliveWorker


def test_a_worker_shortens_the_time_that_one_thread_may_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker shortens Python's 5 ms, for which one thread may compute.

    A request beside a large document would wait 5 ms about ten times.
    """
    set_to: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", set_to.append)
    monkeypatch.setattr(ThreadWorker, "init_process", lambda _: None)
    worker = KeepAliveWorker.__new__(KeepAliveWorker)
    worker.cfg = SimpleNamespace(settings={})
    worker.init_process()

    assert set_to == [0.001]
