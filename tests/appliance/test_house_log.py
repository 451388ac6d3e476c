"""What HAProxy says, in the log of `serve`."""

from __future__ import annotations

import logging

import pytest

from entrepot.appliance.supervise.supervisor_process import SupervisorProcess
from entrepot.runtime.log_limit import FEW


def test_what_haproxy_says_has_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """Clients can bring it to say the same again and again."""
    house = object.__new__(SupervisorProcess)
    house._stopping = False
    with caplog.at_level(logging.DEBUG, "entrepot.appliance.supervise.supervisor_process"):
        for _ in range(1000):
            house._log_haproxy("[WARNING]  (12) : Server registry/worker1 is DOWN")
        house._log_haproxy("[ALERT]  (12) : it ends")

    assert 0 < len(caplog.records) - 1 <= FEW
    assert caplog.records[-1].levelno == logging.ERROR
