"""Tests of a Python program that embeds the registry and passes plain values to `create_app`."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from falcon.testing import TestClient

from entrepot import registry
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.errors import InvalidRepository
from entrepot.datastore.refs import Digest
from entrepot.registry import AccessGrant, Application, UpstreamConfig, create_app
from entrepot.registry.library.application import OnBlobAccess
from entrepot.registry.library.log_bridge import LOGGERS
from tests.images import filler
from tests.registry.auth.test_identity import _header
from tests.upstream import FakeUpstream

NAME = "team/app"
_ANN = {"Authorization": _header("ann", "right")}


def _push(client: TestClient, content: bytes, **headers: str) -> Digest:
    digest = Digest.of(content)
    answer = client.simulate_post(
        f"/v2/{NAME}/blobs/uploads/",
        params={"digest": str(digest)},
        body=content,
        headers={"Content-Type": "application/octet-stream", **headers},
    )
    assert answer.status_code == 201, answer.text
    return digest


def _used(root: Path, digest: Digest) -> float:
    entry = open_index(root / "entrepot").entry(digest)
    assert entry is not None
    return entry.used


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Yield a function that calls `create_app`, always with the same folder.

    The applications are closed after the test.
    """
    made: list[Application] = []

    def begin(**said: object) -> TestClient:
        made.append(create_app(tmp_path, **said))  # type: ignore[arg-type]  # an invalid argument, on purpose
        return TestClient(made[-1])

    yield begin
    for each in made:
        each.close()


# ---- arguments


def test_a_folder_is_the_only_required_argument(make: Callable[..., TestClient]) -> None:
    """An application created with only a folder permits every client to push and pull."""
    client = make()
    digest = _push(client, b"content")

    assert client.simulate_get(f"/v2/{NAME}/blobs/{digest}").content == b"content"


def test_an_upstream_may_be_a_url_a_host_or_a_configuration(
    make: Callable[..., TestClient],
) -> None:
    """An upstream can be given as a host name, as a URL with a name, or as an `UpstreamConfig`.

    If the host is a loopback host, the registry uses plain HTTP.
    """
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", b"content")
        for said in ([u.host], {"one.test": u.url}, [UpstreamConfig("one.test", u.url)]):
            host = u.host.replace(":", "_") if said == [u.host] else "one.test"
            answer = make(upstreams=said).simulate_get(f"/v2/{host}/library/app/blobs/{digest}")

            assert answer.content == b"content"


def test_a_name_below_localhost_is_requested_over_plain_http(
    make: Callable[..., TestClient],
) -> None:
    """The registry requests an upstream named `app.localhost` over plain HTTP.

    Names that end in `.localhost` always resolve to loopback addresses (RFC 6761, 6.3).
    """
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", b"content")
        port = u.host.rpartition(":")[2]
        client = make(upstreams=[f"app.localhost:{port}"])

        answer = client.simulate_get(f"/v2/app.localhost_{port}/library/app/blobs/{digest}")

    assert answer.content == b"content"


def test_names_without_an_upstream_use_the_default_unless_hosted(
    make: Callable[..., TestClient],
) -> None:
    """A repository name without an upstream belongs to the default upstream.

    Names that match `hosted` are the exception; clients can push to these repositories.
    """
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", b"content")
        client = make(upstreams={"one.test": u.url}, default_upstream="one.test", hosted=["team/*"])

        assert client.simulate_get(f"/v2/library/app/blobs/{digest}").content == b"content"
        assert client.simulate_post("/v2/library/app/blobs/uploads/").status_code == 405
        _push(client, b"ours")


@pytest.mark.parametrize(
    "said",
    [
        {"default_upstream": "one.test"},
        {"hosted": ["team/[ab]"]},
        {"rules": [AccessGrant(("ann",), ("/",), frozenset({"pull"}))]},
    ],
)
def test_an_invalid_argument_is_reported_by_create_app(
    make: Callable[..., TestClient], said: dict[str, object]
) -> None:
    """If an argument is invalid, `create_app` itself raises an error.

    So the program fails before the first request.
    """
    with pytest.raises((ValueError, InvalidRepository)):
        make(**said)


# ---- authentication


def _check(user: str, password: str) -> bool:
    return (user, password) in {("ann", "right"), ("bob", "right")}


def test_a_function_can_check_passwords(make: Callable[..., TestClient]) -> None:
    """A program that embeds the registry can pass a function that checks a user and a password.

    A client whose password the function rejects gets 401 with a challenge.
    """
    client = make(authenticator=_check)

    assert client.simulate_get("/v2/", headers=_ANN).status_code == 200
    wrong = {"Authorization": _header("ann", "wrong")}
    assert client.simulate_get("/v2/", headers=wrong).status_code == 401
    assert client.simulate_get("/v2/").headers["WWW-Authenticate"].startswith("Basic realm=")


def test_a_password_file_can_be_used(make: Callable[..., TestClient], tmp_path: Path) -> None:
    """A program that embeds the registry can use a password file as shown in docs/library.md."""
    path = tmp_path / "htpasswd"
    path.write_bytes(b"ann:" + bcrypt.hashpw(b"right", bcrypt.gensalt(4)))
    client = make(authenticator=registry.PasswordCache(registry.Htpasswd(path)))

    assert client.simulate_get("/v2/", headers=_ANN).status_code == 200
    assert client.simulate_get("/v2/").status_code == 401


def test_anonymous_pulls_can_be_permitted(make: Callable[..., TestClient]) -> None:
    """With `anonymous="pull"`, a client can pull without a password but needs one to push."""
    client = make(authenticator=_check, anonymous="pull")
    digest = _push(client, b"content", **_ANN)

    assert client.simulate_get(f"/v2/{NAME}/blobs/{digest}").status_code == 200
    assert client.simulate_post(f"/v2/{NAME}/blobs/uploads/").status_code == 401


def test_access_rules_are_applied(make: Callable[..., TestClient]) -> None:
    """With `rules=`, a user gets 403 for a pull that these access rules do not permit."""
    rules = [AccessGrant(("ann",), ("team/*",), frozenset({"pull", "push"}))]
    client = make(authenticator=_check, rules=rules)
    digest = _push(client, b"content", **_ANN)
    bob = {"Authorization": _header("bob", "right")}

    assert client.simulate_get(f"/v2/{NAME}/blobs/{digest}", headers=_ANN).status_code == 200
    assert client.simulate_get(f"/v2/{NAME}/blobs/{digest}", headers=bob).status_code == 403


@pytest.mark.parametrize("value", ["ann", "1", "0000000001", ""])
def test_a_header_of_a_client_authenticates_no_user(
    make: Callable[..., TestClient], value: str
) -> None:
    """In the library, no header from a client can replace a password.

    In the appliance, HAProxy sets such headers and removes those that clients send.
    """
    client = make(authenticator=_check)
    wrong = {"Authorization": _header("ann", "wrong")}
    forged = {
        f"X-Entrepot-{name}": value
        for name in ("User", "Verified", "Rights", "Generation", "Class", "Keep")
    }

    assert client.simulate_get("/v2/", headers=forged).status_code == 401
    assert client.simulate_get("/v2/", headers=forged | wrong).status_code == 401
    assert client.simulate_get("/v2/", headers={"Remote-User": "ann"}).status_code == 401


def test_headers_for_a_proxy_are_removed(make: Callable[..., TestClient]) -> None:
    """By default, responses lack the headers for a proxy, which name users and repositories."""
    client = make(authenticator=_check)
    digest = _push(client, b"content", **_ANN)
    headers = client.simulate_get(f"/v2/{NAME}/blobs/{digest}", headers=_ANN).headers

    assert [name for name in headers if name.lower().startswith("x-entrepot")] == []


def test_a_trusted_proxy_gets_and_sends_its_headers(make: Callable[..., TestClient]) -> None:
    """With `trust_proxy`, the registry trusts a proxy's headers and sends headers for the proxy.

    The header that marks a credential as verified contains the epoch of one application object.
    Another application object has another epoch, so it ignores the header and checks the password.
    """
    client = make(authenticator=_check, trust_proxy=True)
    given = client.simulate_get("/v2/", headers=_ANN).headers
    known = {**_ANN, "X-Entrepot-Verified": given["X-Entrepot-Generation"]}
    unchecked = known | {"Authorization": _header("ann", "changed meanwhile")}

    assert given["X-Entrepot-User"] == "ann"
    assert client.simulate_get("/v2/", headers=unchecked).status_code == 200
    other = make(authenticator=_check, trust_proxy=True)
    assert other.simulate_get("/v2/", headers=unchecked).status_code == 401


# ---- the callback


class Accesses:
    """A function for `on_blob_access` that records its calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def __call__(self, digest: str, size: int, repository: str) -> None:
        """Record one call."""
        self.seen.append((digest, size, repository))


def test_every_access_to_a_blob_is_reported(make: Callable[..., TestClient]) -> None:
    """`on_blob_access` is called for each push and pull of a blob, even for a range or a 304.

    It is not called for a HEAD or a 404.
    """
    accesses = Accesses()
    client = make(on_blob_access=accesses)
    digest = _push(client, b"content")
    path = f"/v2/{NAME}/blobs/{digest}"
    client.simulate_get(path)
    client.simulate_get(path, headers={"Range": "bytes=0-2"})
    client.simulate_get(path, headers={"If-None-Match": f'"{digest}"'})
    client.simulate_head(path)
    client.simulate_get(f"/v2/{NAME}/blobs/{Digest.of(b'absent')}")

    assert accesses.seen == [(str(digest), 7, NAME)] * 4


def test_a_proxied_pull_is_reported_with_its_local_name(
    make: Callable[..., TestClient],
) -> None:
    """For a proxied blob, `on_blob_access` receives the local repository name and the blob's size.

    The application calls it before the download ends.
    """
    accesses = Accesses()
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", filler(300_000, 77))
        client = make(upstreams={"one.test": u.url}, on_blob_access=accesses)
        client.simulate_get(f"/v2/one.test/library/app/blobs/{digest}")

    assert accesses.seen == [(str(digest), 300_000, "one.test/library/app")]


def test_a_failing_callback_fails_no_pull(
    make: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """If `on_blob_access` raises an error, the pull succeeds and the error is logged."""

    def fail(_digest: str, _size: int, _repository: str) -> None:
        raise RuntimeError("of the program")

    listener: OnBlobAccess = fail
    client = make(on_blob_access=listener)
    digest = _push(client, b"content")

    assert client.simulate_get(f"/v2/{NAME}/blobs/{digest}").status_code == 200
    assert "on_blob_access failed" in caplog.text


def test_access_times_reach_the_index_with_track(
    tmp_path: Path, make: Callable[..., TestClient]
) -> None:
    """With `track=True`, all access times are in the index after `close()`."""
    client = make()
    digest = _push(client, b"content")
    pushed = _used(tmp_path, digest)
    client.simulate_get(f"/v2/{NAME}/blobs/{digest}")
    app = create_app(tmp_path, track=True)

    TestClient(app).simulate_get(f"/v2/{NAME}/blobs/{digest}")
    app.close()

    assert _used(tmp_path, digest) > pushed


# ---- tests of log records and imported modules


@pytest.fixture
def quiet() -> Iterator[None]:
    """Restore the registry's loggers after the test, because `create_app` changes them."""
    ours = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.handlers[:], each.level, each.propagate) for each in ours]
    yield
    for each, (handlers, level, propagate) in zip(ours, before, strict=True):
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.usefixtures("quiet")
def test_a_programs_own_logger_gets_the_records(
    make: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """With `logger=`, the program's logger gets each record once.

    The message of the record contains its fields.
    """
    own = logging.getLogger("my.program")
    own.setLevel(logging.WARNING)
    make(logger=own)
    make(logger=own)
    ours = logging.getLogger("entrepot.registry.some.module")

    ours.info("not logged")
    ours.warning("blob fetched", extra={"digest": "d", "bytes": 7})

    logged = [(each.name, each.getMessage()) for each in caplog.records]
    assert logged == [("entrepot.registry.some.module", "blob fetched digest=d bytes=7")]


@pytest.mark.slow
def test_modules_are_loaded_on_demand() -> None:
    """`import entrepot.registry` does not load Falcon.

    The public names of `entrepot.registry` load neither `config` nor `logger`.
    """
    program = """
import sys
from entrepot import registry
assert "falcon" not in sys.modules
registry.create_app, registry.serve, registry.AccessGrant, registry.UpstreamConfig
names = {f"entrepot.{each}" for each in ("config", "logger", "cleaner", "appliance")}
sys.exit(", ".join(sorted(names & set(sys.modules))) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(registry.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    """Reading an unknown attribute of `entrepot.registry` raises AttributeError."""
    with pytest.raises(AttributeError, match=r"'entrepot\.registry' has no attribute 'nothing'"):
        getattr(registry, "nothing")  # noqa: B009 - mypy rejects `registry.nothing`
