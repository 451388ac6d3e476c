"""Test how long HAProxy remembers the tokens that a worker has verified."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.edge.cache_epoch import CacheEpoch
from tests.appliance.haproxy import Haproxy, Response, eventually, stub_worker
from tests.appliance.stub_worker import StubWorker

pytestmark = pytest.mark.slow

FROM_CACHE = "entrepot; hit; detail=memory"
USER, UNNAMED = "1.2.3.1", "1.2.3.2"
BASIC = "Authorization: Basic YWxpY2U6c2VzYW1l"
FORM = ("Content-Type: application/x-www-form-urlencoded", "Content-Length: 0")


@pytest.fixture(scope="module")
def before(run: Path, worker: StubWorker) -> Iterator[Haproxy]:
    """Run HAProxy with the variables of an appliance that accepts tokens."""
    assert worker.seen == []
    with Haproxy(run, 1, credentials="tokens") as started:
        yield started


@pytest.fixture
def haproxy(before: Haproxy, worker: StubWorker) -> Haproxy:
    """Return HAProxy in front of a worker whose responses are all cacheable."""
    worker.seen.clear()
    worker.headers = {
        "X-Entrepot-Generation": CacheEpoch(before.run).now(),
        "X-Entrepot-Keep": "60",
        "X-Entrepot-Repository": "one.test/app",
        "X-Entrepot-Kind": "manifest",
        "Docker-Content-Digest": "sha256:abc",
        "Cache-Status": "entrepot; hit",
    }
    return before


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _token(claims: dict[str, Any] | bytes) -> str:
    """Return the header with a token of these claims, whose signature no program checks here."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = _segment(b'{"alg":"ES256"}')
    return f"Authorization: Bearer {head}.{_segment(payload)}.{_segment(b'signature')}"


def _in(seconds: float) -> int:
    return int(time.time() + seconds)


def _verified(haproxy: Haproxy, worker: StubWorker, header: str, rights: str = USER) -> None:
    """Make HAProxy remember that a worker has verified *header* with the rights *rights*."""
    worker.headers["X-Entrepot-Rights"] = rights
    haproxy.request("/v2/", header)
    del worker.headers["X-Entrepot-Rights"]


def _echo(response: Response) -> dict[str, str]:
    """Return the headers that the worker got, with names in lower case."""
    return {name.lower(): value for name, value in json.loads(response.body)}


def _is_cached(response: Response) -> bool:
    return response.headers["cache-status"] == FROM_CACHE


def test_a_known_token_is_served_from_the_cache_until_it_expires(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A request with a known token is served from the cache until the token's `exp`, not longer."""
    expires = _in(4)
    header = _token({"exp": expires, "sub": "ann"})
    _verified(haproxy, worker, header)
    haproxy.request(path, header)
    assert _is_cached(haproxy.request(path, header))

    eventually(lambda: time.time() > expires - 0.2)
    late: list[bool] = []
    while not late or time.time() < expires + 0.1:
        began = time.time()
        is_cached = _is_cached(haproxy.request(path, header))
        late += [is_cached] if began >= expires else []

    assert not any(late)
    assert not _is_cached(haproxy.request(path, header))
    assert "x-entrepot-verified" not in _echo(haproxy.request("/v2/echo", header))


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ann"},
        {"exp": None},
        {"exp": {}},
        {"exp": []},
        {"exp": 0},
        {"exp": -5},
        b'{"exp":1e30}',
        {"exp": 1},
        {"nested": {"exp": 9_999_999_999}},
        b"no json",
        b"[" * 2000,
        b"",
    ],
    ids=lambda each: str(each)[:24],
)
def test_a_token_without_a_time_to_come_is_never_remembered(
    haproxy: Haproxy, worker: StubWorker, path: str, claims: dict[str, Any] | bytes
) -> None:
    """A token without an expiry in the future is never remembered, whatever a worker reports."""
    header = _token(claims)
    _verified(haproxy, worker, header)

    assert not any(_is_cached(haproxy.request(path, header)) for _ in range(3))


def test_tokens_with_equal_rights_share_the_cache(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """Tokens with equal rights share the cache, but each log line names the request's own user."""
    ann = _token({"exp": _in(300), "sub": "ann"})
    bob = _token({"exp": _in(300), "sub": 'b"ob', "aud": "x"})
    unnamed = _token({"exp": _in(300)})
    for header in (ann, bob):
        _verified(haproxy, worker, header)
    haproxy.request(path, ann)

    assert _is_cached(haproxy.request(path, bob))
    assert not _is_cached(haproxy.request(path, unnamed))
    lines = eventually(lambda: haproxy.lines(path)[2:] and haproxy.lines(path))
    assert [line.user for line in lines] == ["ann", 'b"ob', ""]
    _verified(haproxy, worker, unnamed, UNNAMED)
    haproxy.request(path, unnamed)
    assert _is_cached(haproxy.request(path, unnamed))


@pytest.mark.parametrize(
    "user", ["jos\\u00e9", "josé", "\\u0142ukasz", "team\\/ann", "jos\\u00c3\\u00a9"]
)
def test_a_user_whose_name_haproxy_could_read_differently_gets_every_response_from_a_worker(
    haproxy: Haproxy, worker: StubWorker, path: str, user: str
) -> None:
    """A user whose name HAProxy could misread gets every response from a worker.

    For a response from its cache, HAProxy would log another user's name, or none.
    """
    header = _token(f'{{"exp":{_in(300)},"sub":"{user}"}}'.encode())
    _verified(haproxy, worker, header)

    assert not any(_is_cached(haproxy.request(path, header)) for _ in range(3))


def test_a_password_is_remembered_beside_tokens(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """HAProxy remembers passwords too, because the appliance's token endpoint accepts them."""
    _verified(haproxy, worker, BASIC)
    haproxy.request(path, BASIC)

    assert _is_cached(haproxy.request(path, BASIC))
    assert eventually(lambda: haproxy.lines(path)[1:])[0].user == "alice"


def test_a_refused_token_is_not_counted_as_a_wrong_password(haproxy: Haproxy) -> None:
    """A refused token does not count as a failed login.

    A client can put any user's name into an invalid token, and could otherwise delay the logins of
    that user. Tokens need no limit of failed logins, because no client can guess a signature.
    """
    for _ in range(3):
        haproxy.request("/status/401", _token({"exp": _in(300), "sub": "alice"}))
    assert "used:0" in haproxy.admin("show table guesses")

    haproxy.request("/status/401", "Authorization: Basic Ym9iOmJ1aWxkZXI=")
    assert "used:1" in haproxy.admin("show table guesses")


def test_wrong_passwords_in_a_form_are_counted_by_address(
    haproxy: Haproxy, worker: StubWorker
) -> None:
    """Wrong passwords in a form are counted for the client's address.

    After many wrong passwords HAProxy marks the requests of the address, and a worker verifies
    their passwords after all other passwords.
    """
    worker.headers["X-Entrepot-Mistaken"] = "1"
    for _ in range(61):
        haproxy.request("/v2/token", *FORM, method="POST")
    marked = _echo(haproxy.request("/v2/token", *FORM, method="POST"))

    assert marked["x-entrepot-guesses"] == "many"
    del worker.headers["X-Entrepot-Mistaken"]
    assert "x-entrepot-guesses" not in _echo(haproxy.request("/v2/echo", *FORM, method="POST"))


@pytest.mark.parametrize(
    ("target", "header"),
    [
        ("/v2/token?service=x", "Accept: */*"),
        ("/v2/%74oken", "Accept: */*"),
        ("/v2/token", "Authorization:"),
        ("/v2/token", "Authorization: \t "),
    ],
)
def test_a_form_that_a_worker_reads_is_counted(
    haproxy: Haproxy, worker: StubWorker, target: str, header: str
) -> None:
    """HAProxy counts wrong passwords in each form that a worker accepts.

    A worker also accepts a form with an escaped path or an empty header Authorization.
    """
    haproxy.admin("clear table guesses")
    worker.headers["X-Entrepot-Mistaken"] = "1"
    haproxy.request(target, *FORM, header, method="POST")

    assert "used:1" in haproxy.admin("show table guesses")


@pytest.mark.parametrize("proto", ["http", "https"])
def test_a_worker_gets_the_scheme_that_a_proxy_states(haproxy: Haproxy, proto: str) -> None:
    """A worker gets the scheme that a proxy states.

    If no proxy states the scheme, HAProxy sends no scheme to the worker.
    """
    echo = _echo(haproxy.request(f"/v2/echo/{proto}", f"X-Forwarded-Proto: {proto}"))
    assert echo["x-client-scheme"] == proto

    assert "x-client-scheme" not in _echo(haproxy.request("/v2/echo/none"))


def test_any_credential_of_silly_is_the_same_user(path: str) -> None:
    """With `auth.silly` every credential is logged as the user `silly`.

    Docker distribution logs this name too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1) as worker,
        Haproxy(Path(folder), 1, credentials="silly") as silly,
    ):
        worker.headers = {
            "X-Entrepot-Generation": CacheEpoch(silly.run).now(),
            "X-Entrepot-Keep": "60",
            "Cache-Status": "entrepot; hit",
        }
        _verified(silly, worker, BASIC)
        silly.request(path, BASIC)

        assert _is_cached(silly.request(path, BASIC))
        assert eventually(lambda: silly.lines(path)[1:])[0].user == "silly"
