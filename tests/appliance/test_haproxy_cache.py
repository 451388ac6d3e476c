"""Test which responses HAProxy's content cache stores, for which users, and for how long."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.accesslog import is_access, parse
from entrepot.edge.cache_epoch import CacheEpoch
from tests.appliance.haproxy import Haproxy, Response, eventually, stub_worker
from tests.appliance.stub_worker import StubWorker

pytestmark = pytest.mark.slow

FROM_CACHE = "entrepot; hit; detail=memory"
ALICE = "Authorization: Basic YWxpY2U6c2VzYW1l"
CAROL = "Authorization: Basic Y2Fyb2w6c2VzYW1l"
BOB = "Authorization: Basic Ym9iOmJ1aWxkZXI="
SOME, OTHER = "1.2.3.1", "1.2.4.1"


@pytest.fixture(scope="module")
def before(run: Path, worker: StubWorker) -> Iterator[Haproxy]:
    """Return HAProxy in front of the worker."""
    assert worker.seen == []
    with Haproxy(run, 1) as started:
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
        "ETag": '"sha256:abc"',
        "Cache-Status": "entrepot; hit",
    }
    return before


def is_cached(response: Response) -> bool:
    """Return True if the response came from HAProxy's cache."""
    assert response.status in (200, 304)
    return response.headers["cache-status"] == FROM_CACHE


def login(haproxy: Haproxy, worker: StubWorker, credential: str, rights: str = SOME) -> None:
    """Make HAProxy remember that a worker has verified *credential* with the rights *rights*."""
    worker.headers["X-Entrepot-Rights"] = rights
    haproxy.request("/v2/", credential)
    del worker.headers["X-Entrepot-Rights"]


def test_a_cacheable_response_is_fetched_once(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """HAProxy fetches a cacheable response once.

    The second response, from the cache, has the same headers and body, and a different
    Cache-Status.
    """
    first, second = haproxy.request(path), haproxy.request(path)

    assert [f"GET {path}"] == worker.seen
    assert (first.headers["cache-status"], is_cached(second)) == ("entrepot; hit", True)
    assert second.body == first.body
    without = {"cache-status", "age", "connection"}
    assert {k: v for k, v in first.headers.items() if k not in without} == {
        k: v for k, v in second.headers.items() if k not in without
    }
    assert not [name for name in second.headers if name.startswith("x-entrepot-")]
    assert "cache-control" not in second.headers


def test_a_cached_response_is_logged_like_any_other(haproxy: Haproxy, path: str) -> None:
    """The log line of a cached response has digest, repository and kind, which the URI lacks."""
    haproxy.request(path)
    haproxy.request(path)

    lines = eventually(lambda: haproxy.lines(path)[1:] and haproxy.lines(path))
    assert [line.cache for line in lines] == ["entrepot; hit", FROM_CACHE]
    assert {(line.digest, line.repository, line.kind) for line in lines} == {
        ("sha256:abc", "one.test/app", "manifest")
    }


@pytest.mark.parametrize("use", ["GET manifest", "HEAD manifest", "GET blob", "HEAD blob"])
def test_only_a_line_that_may_show_no_use_is_marked(
    haproxy: Haproxy, worker: StubWorker, path: str, use: str
) -> None:
    """HAProxy adds a tab to each log line that may show no use; `serve` examines these lines.

    A HEAD does not count as a use of a blob, so its line gets the tab even if the response comes
    from the cache.
    """
    method, _, worker.headers["X-Entrepot-Kind"] = use.partition(" ")
    haproxy.request(path)
    haproxy.request(path, method=method)
    haproxy.request(f"{path}?refused", CAROL, BOB)

    lines = eventually(lambda: raw_lines(haproxy, path)[2:] and raw_lines(haproxy, path))
    is_use = use != "HEAD blob"
    assert [b"\t" in each for each in lines] == [True, not is_use, True]
    uses = [is_access(each.method, each.kind, each.status) for each in map(parse, lines)]
    assert uses == [True, is_use, False]


def raw_lines(haproxy: Haproxy, path: str) -> list[bytes]:
    """Return the lines of the access log whose URI begins with *path*, as HAProxy writes them."""
    uri = b'"uri":"%b' % path.encode()
    lines = (haproxy.run / "access.log").read_bytes().splitlines()
    return [each for each in lines if uri in each]


def test_head_is_served_from_a_cached_get(haproxy: Haproxy, path: str) -> None:
    """HAProxy serves HEAD from a cached GET, with the same Content-Length and no body.

    HAProxy does not cache a response to HEAD.
    """
    assert not is_cached(haproxy.request(path, method="HEAD"))
    got = haproxy.request(path)
    response = haproxy.request(path, method="HEAD")

    assert is_cached(response)
    assert (response.headers["content-length"], response.body) == (str(len(got.body)), b"")


def test_a_matching_etag_is_answered_304_from_the_cache(haproxy: Haproxy, path: str) -> None:
    """HAProxy evaluates If-None-Match and responds with 304 from its cache."""
    haproxy.request(path)

    response = haproxy.request(path, 'If-None-Match: "sha256:abc"')
    assert (is_cached(response), response.status, response.body) == (True, 304, b"")


def test_a_range_request_goes_to_the_worker(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A request for a range goes to a worker: HAProxy's cache could only send the whole content."""
    haproxy.request(path)

    assert not is_cached(haproxy.request(path, "Range: bytes=1-2"))
    assert len(worker.seen) == 2


@pytest.mark.parametrize(
    "change",
    [{"X-Entrepot-Keep": ""}, {"X-Entrepot-Generation": "0000000000"}],
    ids=["not allowed", "of another epoch"],
)
def test_a_response_without_permission_is_not_cached(
    haproxy: Haproxy, worker: StubWorker, path: str, change: dict[str, str]
) -> None:
    """A response is cached only with the worker's permission, which names the cache epoch."""
    worker.headers = {k: v for k, v in (worker.headers | change).items() if v}
    haproxy.request(path)

    assert not is_cached(haproxy.request(path))


def test_a_response_without_a_cache_epoch_is_not_cached(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A response that names no cache epoch is not cached: it may be from before a change."""
    del worker.headers["X-Entrepot-Generation"]
    haproxy.request(path)

    assert not is_cached(haproxy.request(path))


def test_a_new_cache_epoch_invalidates_everything(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A new cache epoch invalidates all older entries: the responses and the credentials."""
    haproxy.request(path)
    login(haproxy, worker, ALICE)
    epoch = CacheEpoch(haproxy.run)

    epoch.increment()
    assert not is_cached(haproxy.request(path))
    assert "x-entrepot-verified" not in _received_headers(haproxy, path, ALICE)
    worker.headers["X-Entrepot-Generation"] = epoch.now()
    haproxy.request(path)
    assert is_cached(haproxy.request(path))


def test_the_age_of_a_cached_response_continues_from_the_workers_age(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """The Age of a response from HAProxy's cache begins at the Age that the worker sent."""
    worker.headers |= {"Age": "40", "X-Entrepot-Keep": "20"}

    assert haproxy.request(path).headers["age"] == "40"
    again = haproxy.request(path)
    assert is_cached(again)
    assert int(again.headers["age"]) in (40, 41, 42)


def test_a_cached_blob_keeps_its_cache_control_header(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A cached blob keeps its Cache-Control: clients may cache a blob longer than HAProxy."""
    worker.headers["Cache-Control"] = "max-age=31536000"
    haproxy.request(path)

    response = haproxy.request(path)
    assert is_cached(response)
    assert response.headers["cache-control"] == "max-age=31536000"


def _received_headers(haproxy: Haproxy, path: str, *headers: str) -> dict[str, str]:
    """Return the headers that a worker got for a request that HAProxy's cache cannot answer."""
    response = haproxy.request(path, *headers, "Range: bytes=0-")
    return dict(json.loads(response.body))


def test_a_credential_is_verified_once(haproxy: Haproxy, worker: StubWorker, path: str) -> None:
    """A worker verifies a credential once; HAProxy marks later requests with it as verified.

    The mark is the cache epoch of the verification. HAProxy still passes on the header
    Authorization.
    """
    assert "x-entrepot-verified" not in _received_headers(haproxy, path, ALICE)
    login(haproxy, worker, ALICE)

    received = _received_headers(haproxy, path, ALICE)
    assert received["x-entrepot-verified"] == CacheEpoch(haproxy.run).now()
    assert f"Authorization: {received['authorization']}" == ALICE
    assert received["host"] == "localhost"


def test_a_worker_gets_the_address_of_a_client_whose_credential_is_not_verified(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """A worker gets the client's address only with a credential that is not verified.

    Without the address, requests with a verified credential are equal for all clients, so a worker
    can answer them with the same response.
    """
    epoch = CacheEpoch(haproxy.run)
    epoch.increment()  # so that HAProxy forgets the logins of other tests
    worker.headers["X-Entrepot-Generation"] = epoch.now()
    assert _received_headers(haproxy, path, ALICE)["x-client-address"] == "127.0.0.1"
    login(haproxy, worker, ALICE)

    assert "x-client-address" not in _received_headers(haproxy, path, ALICE)
    assert "x-client-address" not in _received_headers(haproxy, path)


def test_another_password_is_another_credential(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """HAProxy remembers the whole header Authorization, so another password is unverified."""
    login(haproxy, worker, ALICE)

    assert "x-entrepot-verified" not in _received_headers(
        haproxy, path, "Authorization: Basic YWxpY2U6Z3Vlc3M="
    )


def test_a_verification_under_an_old_epoch_is_not_remembered(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """HAProxy does not remember a verification that a worker made under an older cache epoch.

    The worker may have read the password file before the file's last change.
    """
    worker.headers["X-Entrepot-Generation"] = "0000000000"
    login(haproxy, worker, BOB)

    assert "x-entrepot-verified" not in _received_headers(haproxy, path, BOB)


@pytest.mark.parametrize(
    ("other", "shares"),
    [((CAROL, SOME), True), ((BOB, OTHER), False), (None, False)],
    ids=["with the same rights", "with other rights", "anonymous"],
)
def test_cached_responses_are_shared_by_users_with_equal_rights_only(
    haproxy: Haproxy, worker: StubWorker, path: str, other: tuple[str, str] | None, *, shares: bool
) -> None:
    """Only users with equal rights share cached responses.

    A response that was cached for one user is sent neither to a user with other rights nor to an
    anonymous client.
    """
    CacheEpoch(haproxy.run).increment()
    worker.headers["X-Entrepot-Generation"] = CacheEpoch(haproxy.run).now()
    login(haproxy, worker, ALICE, SOME)
    if other:
        login(haproxy, worker, *other)
    haproxy.request(path, ALICE)

    assert is_cached(haproxy.request(path, ALICE))
    assert is_cached(haproxy.request(path, *(other or ())[:1])) is shares


def test_an_unverified_credential_gets_nothing_from_the_cache(haproxy: Haproxy, path: str) -> None:
    """A client with an unverified credential gets no cached response, even of public content.

    The worker decides about a client with an unverified credential, and may respond with 401.
    """
    haproxy.request(path)

    assert not is_cached(haproxy.request(path, "Authorization: Basic eDp5"))


@pytest.mark.parametrize(
    "request_head",
    [
        "GET {path} HTTP/1.1\r\nHost: 1-2-3-1.{epoch}\r\n",
        "GET http://1-2-3-1.{epoch}{path} HTTP/1.1\r\nHost: 1-2-3-1.{epoch}\r\n",
        "GET https://1-2-3-1.{epoch}{path} HTTP/1.1\r\nHost: 1-2-3-1.{epoch}\r\n",
        "GET http://x@1-2-3-1.{epoch}{path} HTTP/1.1\r\nHost: x@1-2-3-1.{epoch}\r\n",
        "GET {path} HTTP/1.1\r\nHost: 1-2-3-1.{epoch}@\r\n",
        "GET http://1-2-3-1.{epoch}@{path} HTTP/1.1\r\nHost: 1-2-3-1.{epoch}@\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Entrepot-Verified: {epoch}\r\n",
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Entrepot-Rights: 1.2.3.1\r\n",
    ],
    ids=[
        *("as host", "as authority", "with TLS", "with a user", "as a user", "as an authority's"),
        *("verified", "with rights"),
    ],
)
def test_a_client_cannot_forge_a_cache_key(
    haproxy: Haproxy, worker: StubWorker, path: str, request_head: str
) -> None:
    """A client chooses Host and the URI's authority, but not the key of HAProxy's cache."""
    login(haproxy, worker, ALICE)
    epoch = CacheEpoch(haproxy.run).now()
    for form in (path, f"http://localhost{path}"):
        haproxy.request(form, ALICE)
        assert is_cached(haproxy.request(form, ALICE))

    request = request_head.format(path=path, epoch=epoch) + "Connection: close\r\n\r\n"
    response = haproxy.send_raw(request.encode())
    assert response.status == 400 or not is_cached(response)


def test_all_host_names_share_the_cache(haproxy: Haproxy, path: str) -> None:
    """All host names of the appliance share HAProxy's cache."""
    haproxy.request(path)

    request = f"GET {path} HTTP/1.1\r\nHost: other.test:5000\r\nConnection: close\r\n\r\n"
    assert is_cached(haproxy.send_raw(request.encode()))


def test_the_log_names_the_user_of_the_request(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """The log line of a cached response names the requesting user, not the first user."""
    login(haproxy, worker, ALICE, SOME)
    login(haproxy, worker, CAROL, SOME)
    worker.headers["X-Entrepot-User"] = "alice"
    haproxy.request(path, ALICE)
    haproxy.request(path, CAROL)

    lines = eventually(lambda: haproxy.lines(path)[1:] and haproxy.lines(path))
    assert [(line.user, line.cache) for line in lines] == [
        ("alice", "entrepot; hit"),
        ("carol", FROM_CACHE),
    ]


def test_only_addresses_with_many_failed_logins_are_marked(
    haproxy: Haproxy, worker: StubWorker, path: str
) -> None:
    """HAProxy marks requests of an address and user that together have many failed logins.

    A worker verifies the passwords of marked requests after all other passwords. A request with a
    verified password is not marked.
    """
    login(haproxy, worker, "Authorization: Basic bWFyeTpyaWdodA==")  # mary:right
    guess = "Authorization: Basic bWFyeTp3cm9uZw=="  # mary:wrong
    guesses = [
        threading.Thread(target=haproxy.request, args=("/status/401", guess)) for _ in range(62)
    ]
    for each in guesses:
        each.start()
    for each in guesses:
        each.join()

    def marked(authorization: str) -> list[str]:
        got = json.loads(haproxy.request("/echo", authorization).body)
        return [value for name, value in got if name == "x-entrepot-guesses"]

    assert marked(guess) == ["many"]
    assert marked("Authorization: Basic bWFyeTphZ2Fpbg==") == ["many"]
    assert marked("Authorization: Basic bWFyeTpyaWdodA==") == []
    assert marked("Authorization: Basic bm9yYTp3cm9uZw==") == []
    assert haproxy.request(path, "Authorization: Basic bWFyeTpyaWdodA==").status == 200


def test_wrong_passwords_on_public_content_count_as_failed_logins(
    haproxy: Haproxy, worker: StubWorker
) -> None:
    """Wrong passwords on public content count as failed logins.

    Otherwise a client could test passwords with anonymous pulls, without a limit.
    """
    wrong = "Authorization: Basic a2F0ZTp3cm9uZw=="  # kate:wrong
    worker.headers["X-Entrepot-Mistaken"] = "1"
    for _ in range(61):
        response = haproxy.request("/status/200", wrong)
        assert response.status == 200
        assert not [name for name in response.headers if name.startswith("x-entrepot")]
    del worker.headers["X-Entrepot-Mistaken"]

    got = json.loads(haproxy.request("/echo", "Authorization: Basic a2F0ZTpvdGhlcg==").body)
    assert ["x-entrepot-guesses", "many"] in got


def test_the_first_wrong_passwords_reach_the_worker(haproxy: Haproxy, worker: StubWorker) -> None:
    """The first wrong passwords of a user each get a 401 from the worker, and no delay."""
    typo = "Authorization: Basic YW5uYTpvb3Bz"

    assert [haproxy.request("/status/401", typo).status for _ in range(5)] == [401] * 5
    assert worker.seen == ["GET /status/401"] * 5


def test_haproxy_starts_with_the_current_cache_epoch() -> None:
    """HAProxy starts with the current cache epoch, which may have risen while it did not run."""
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1) as worker,
    ):
        with Haproxy(Path(folder), 1):
            epoch = CacheEpoch(Path(folder))
        epoch.increment()
        worker.headers = {"X-Entrepot-Generation": epoch.now(), "X-Entrepot-Keep": "60"}
        worker.headers |= {"ETag": '"x"', "Cache-Status": "entrepot; hit"}

        with Haproxy(Path(folder), 1) as again:
            again.request("/v2/")
            assert is_cached(again.request("/v2/"))


def test_without_the_content_cache_a_worker_answers_every_request() -> None:
    """Without the content cache workers serve every request.

    HAProxy still remembers credentials.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1) as worker,
        Haproxy(Path(folder), 1, edge_cache="off") as haproxy,
    ):
        epoch = CacheEpoch(Path(folder)).now()
        worker.headers = {"X-Entrepot-Generation": epoch, "X-Entrepot-Keep": "60"}
        worker.headers |= {"ETag": '"x"', "Cache-Status": "entrepot; hit"}
        login(haproxy, worker, ALICE)

        answers = [haproxy.request("/v2/a", ALICE) for _ in range(3)]
        assert worker.seen[1:] == ["GET /v2/a"] * 3
        assert [each.headers["cache-status"] for each in answers] == ["entrepot; hit"] * 3
        assert not [name for name in answers[0].headers if name.startswith("x-entrepot-")]
        received = _received_headers(haproxy, "/v2/a", ALICE)
        assert (received["x-entrepot-verified"], received["host"]) == (epoch, "localhost")
