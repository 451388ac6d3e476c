"""Tests of the cache fill: after a repeated HEAD, a worker sends a GET to fill HAProxy's cache."""

from __future__ import annotations

import socket
from pathlib import Path

from entrepot.edge.cache_fill import CacheFill
from entrepot.runtime import run_names
from tests.clock import Clock

PATH = "/v2/one.test/app/manifests/v1"


def test_the_second_head_within_a_minute_is_a_repeat(tmp_path: Path) -> None:
    """The second HEAD with the same URI and credential within a minute is treated as a repeat.

    The third HEAD is not a repeat, because the count starts again at zero after a repeat.
    """
    clock = Clock(0.0)
    cache_fill = CacheFill(tmp_path / run_names.FRONT_SOCKET, clock=clock)
    anonymous, alice = (PATH, None), (PATH, "Basic YTpi")

    found = [cache_fill.is_repeated(each) for each in (anonymous, alice, anonymous, anonymous)]
    clock.now += 61
    found += [cache_fill.is_repeated(anonymous), cache_fill.is_repeated(anonymous)]
    assert found == [False, False, True, False, False, True]


def test_the_memory_for_heads_is_bounded(tmp_path: Path) -> None:
    """A worker remembers a bounded number of HEAD requests and forgets the oldest first."""
    cache_fill = CacheFill(tmp_path / run_names.FRONT_SOCKET)
    for number in range(5000):
        cache_fill.is_repeated((f"/{number}", None))

    assert not cache_fill.is_repeated(("/0", None))
    assert cache_fill.is_repeated(("/4999", None))


def test_the_get_has_the_uri_and_the_credential_of_the_head(tmp_path: Path) -> None:
    """The GET for the cache fill has the URI and the credential of the repeated HEAD.

    So HAProxy can use the cached response for later requests of the same client.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / run_names.FRONT_SOCKET))
        listener.listen()
        CacheFill(tmp_path / run_names.FRONT_SOCKET).fill((f"{PATH}?ns=x", "Basic YTpi"))
        connection, _ = listener.accept()
        with connection:
            lines = connection.recv(4096).decode().split("\r\n")

    assert lines[0] == f"GET {PATH}?ns=x HTTP/1.1"
    assert {"Authorization: Basic YTpi", "X-Entrepot-Fill: 1"} <= set(lines)


def test_an_unreachable_haproxy_does_not_stop_later_fills(tmp_path: Path) -> None:
    """If HAProxy cannot be reached for one GET, the next GET is still sent."""
    cache_fill = CacheFill(tmp_path / run_names.FRONT_SOCKET)
    cache_fill.fill((PATH, None))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / run_names.FRONT_SOCKET))
        listener.listen()
        listener.settimeout(10)
        cache_fill.fill((PATH, None))
        listener.accept()[0].close()
