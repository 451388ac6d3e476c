"""Test how `serve` logs HAProxy's messages."""

from __future__ import annotations

import logging

import pytest

from entrepot.appliance.supervise.supervisor_process import SupervisorProcess
from entrepot.runtime.log_limit import FEW


def test_messages_of_haproxy_are_rate_limited(caplog: pytest.LogCaptureFixture) -> None:
    """HAProxy's messages in the log of `serve` are rate-limited, because clients can cause them."""
    serve = object.__new__(SupervisorProcess)
    serve._stopping = False
    with caplog.at_level(logging.DEBUG, "entrepot.appliance.supervise.supervisor_process"):
        for _ in range(1000):
            serve._log_haproxy("[WARNING]  (12) : Server registry/worker1 is DOWN")
        serve._log_haproxy("[ALERT]  (12) : it ends")

    assert 0 < len(caplog.records) - 1 <= FEW
    assert caplog.records[-1].levelno == logging.ERROR
