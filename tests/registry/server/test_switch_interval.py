"""A worker limits how long one thread can hold Python's interpreter lock."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker

from entrepot.registry.server.worker import KeepAliveWorker


def test_a_worker_shortens_the_time_that_one_thread_may_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker shortens Python's interval for switching between threads from 5 ms to 1 ms.

    While one thread parses a large document, the thread of a small request waits about ten times
    for the interpreter lock. Each wait takes up to one interval.
    """
    set_to: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", set_to.append)
    monkeypatch.setattr(ThreadWorker, "init_process", lambda _: None)
    worker = KeepAliveWorker.__new__(KeepAliveWorker)
    worker.cfg = SimpleNamespace(settings={})
    worker.init_process()

    assert set_to == [0.001]
