"""The filler: what is asked about with HEAD again is asked for with GET, through HAProxy."""

from __future__ import annotations

import socket
from pathlib import Path

from entrepot.edge.cache_fill import CacheFill
from tests.clock import Clock

PATH = "/v2/one.test/app/manifests/v1"


def test_the_second_head_within_a_minute_is_worth_a_get(tmp_path: Path) -> None:
    """The first is not, nor one of another client's; then it begins anew."""
    clock = Clock(0.0)
    filler = CacheFill(tmp_path / "front.sock", clock=clock)
    nobody, alice = (PATH, None), (PATH, "Basic YTpi")

    said = [filler.is_repeated(each) for each in (nobody, alice, nobody, nobody)]
    clock.now += 61
    said += [filler.is_repeated(nobody), filler.is_repeated(nobody)]
    assert said == [False, False, True, False, False, True]


def test_what_is_asked_about_is_not_remembered_for_ever(tmp_path: Path) -> None:
    """Who asks for a thousand other things makes the first ones be forgotten."""
    filler = CacheFill(tmp_path / "front.sock")
    for number in range(5000):
        filler.is_repeated((f"/{number}", None))

    assert not filler.is_repeated(("/0", None))
    assert filler.is_repeated(("/4999", None))


def test_it_asks_as_the_client_did(tmp_path: Path) -> None:
    """By the same URI and with the same credential, so that HAProxy finds it for both."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "front.sock"))
        listener.listen()
        CacheFill(tmp_path / "front.sock").fill((f"{PATH}?ns=x", "Basic YTpi"))
        connection, _ = listener.accept()
        with connection:
            said = connection.recv(4096).decode().split("\r\n")

    assert said[0] == f"GET {PATH}?ns=x HTTP/1.1"
    assert {"Authorization: Basic YTpi", "X-Entrepot-Fill: 1"} <= set(said)


def test_with_haproxy_away_it_goes_on(tmp_path: Path) -> None:
    """Nobody waits for it, and the next time it works."""
    filler = CacheFill(tmp_path / "front.sock")
    filler.fill((PATH, None))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "front.sock"))
        listener.listen()
        listener.settimeout(10)
        filler.fill((PATH, None))
        listener.accept()[0].close()
