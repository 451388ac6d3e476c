"""The application permits its server to repeat a response with a blob for a limited time.

The server then sends the same response to an equal request, and does not call the application.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from falcon.testing import Result

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository
from entrepot.registry.api import blobs
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.server.delivery import CONNECTION, LentConnection, Repeatable
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

CONTENT = b"a layer " * 100  # this is small enough for one write to the socket
DIGEST = Digest.of(CONTENT)
BLOB = f"blobs/{DIGEST}"
LOGIN = f"Basic {base64.b64encode(b'ann:right').decode()}"


class Worker:
    """A registry that gets requests over a connection; the test can change its cache epoch."""

    def __init__(
        self, u: FakeUpstream, root: Path, authenticator: Authenticator, *, has_haproxy: bool = True
    ) -> None:
        self.now = "0000000001"
        epoch = (lambda: self.now) if has_haproxy else None
        self.pulling: Pulling = pulling(u, root, authenticator=authenticator, epoch=epoch)
        self.root = root

    def permission(
        self, path: str = BLOB, *, method: str = "GET", **headers: str
    ) -> Repeatable | None:
        """Send a request; return the permission to repeat its response, or None."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            lent = LentConnection(ours)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            got: Result = self.pulling.client.simulate_request(
                method,
                f"/v2/{self.pulling.prefix}/{NAME}/{path}",
                headers=named,
                extras={CONNECTION: lent},
            )
            assert got.status_code < 500
        assert lent.repeatable is None or isinstance(lent.repeatable, Repeatable)
        return lent.repeatable


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream with a blob."""
    with FakeUpstream() as upstream:
        upstream.add_blob(NAME, CONTENT)
        yield upstream


@pytest.fixture
def worker(u: FakeUpstream, tmp_path: Path) -> Worker:
    """Return a registry without passwords, which has the blob."""
    made = Worker(u, tmp_path, OpenAuthenticator())
    made.pulling.get(BLOB)
    return made


def closed(file: BinaryIO | None) -> bytes | None:
    """Return the content of a file and close the file; if *file* is None, return None."""
    if file is None:
        return None
    with file:
        return file.read()


def test_the_response_with_a_stored_blob_may_be_repeated(worker: Worker) -> None:
    """For a stored blob, the application gives the server permission to repeat the response.

    The permission contains the size of the blob and can open its file.
    """
    permitted = worker.permission()

    assert permitted is not None
    assert permitted.size == len(CONTENT)
    assert closed(permitted.open()) == CONTENT


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        (BLOB, "GET", {"Range": "bytes=0-9"}),
        (BLOB, "GET", {"Range": "bytes=0-9,20-29"}),
        (BLOB, "GET", {"If_None_Match": f'"{DIGEST}"'}),
        (BLOB, "GET", {"Authorization": LOGIN}),
        (BLOB, "GET", {"Authorization": LOGIN, "X_Entrepot_Verified": "0000000009"}),
        (BLOB, "HEAD", {}),
        (f"blobs/{Digest.of(b'absent')}", "GET", {}),
    ],
    ids=["range", "ranges", "condition", "new credential", "old credential", "HEAD", "absent"],
)
def test_other_responses_are_not_repeated(
    worker: Worker, path: str, method: str, headers: dict[str, str]
) -> None:
    """A response without a whole blob must not be repeated.

    If a request has a credential that HAProxy has not verified, the response must not be repeated
    either.
    """
    assert worker.permission(path, method=method, **headers) is None


def test_the_first_response_with_a_blob_is_not_repeated(u: FakeUpstream, tmp_path: Path) -> None:
    """The first response with a blob must not be repeated: its Cache-Status states a miss."""
    assert Worker(u, tmp_path, OpenAuthenticator()).permission() is None


def test_the_response_with_a_large_blob_is_not_repeated(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application does not permit the server to repeat the response with a large blob.

    Sending a large blob takes so long that a call of the application adds little.
    """
    monkeypatch.setattr(blobs, "LARGEST_REPEATED", len(CONTENT) - 1)

    assert worker.permission() is None


def test_nothing_is_repeated_without_haproxy(u: FakeUpstream, tmp_path: Path) -> None:
    """Without HAProxy there is no cache epoch that could revoke a permission.

    So no response may be repeated.
    """
    worker = Worker(u, tmp_path, OpenAuthenticator(), has_haproxy=False)
    worker.pulling.get(BLOB)

    assert worker.permission() is None


def test_a_response_to_a_verified_credential_may_be_repeated(
    u: FakeUpstream, tmp_path: Path
) -> None:
    """If HAProxy has verified the credential, the response may be repeated.

    HAProxy also verifies the credential of each later request before the worker receives it.
    """
    check = BasicAuthenticator(
        lambda user, password: (user, password) == ("ann", "right"), realm="r"
    )
    worker = Worker(u, tmp_path, check)
    headers = {"Authorization": LOGIN, "X_Entrepot_Verified": worker.now}
    worker.permission(**headers)

    permitted = worker.permission(**headers)
    assert permitted is not None
    assert closed(permitted.open()) == CONTENT


def _raise_epoch(worker: Worker) -> None:
    worker.now = "0000000002"


def _unlink(worker: Worker) -> None:
    name = Repository(f"{worker.pulling.prefix}/{NAME}")
    assert worker.pulling.repositories.unlink_blob(name, DIGEST)


def _evict(worker: Worker) -> None:
    worker.pulling.forget_blob(DIGEST)


def _truncate(worker: Worker) -> None:
    (worker.root / layout.blob(DIGEST)).write_bytes(CONTENT[:-1])


@pytest.mark.parametrize(
    "change",
    [_raise_epoch, _unlink, _evict, _truncate],
    ids=["a new epoch", "an unlinked blob", "an evicted blob", "a truncated file"],
)
def test_a_change_ends_the_permission(worker: Worker, change: Callable[[Worker], None]) -> None:
    """When rights or content change, permissions to repeat responses end.

    After the change, `open` of the permission returns None, so the server calls the application.
    """
    permitted = worker.permission()
    assert permitted is not None
    change(worker)

    assert closed(permitted.open()) is None


def _pushed(worker: Worker) -> Repeatable:
    """Push the blob to `team/app`, and return the permission to repeat the next GET's response."""
    client = worker.pulling.client
    pushed = client.simulate_post(f"/v2/team/app/blobs/uploads/?digest={DIGEST}", body=CONTENT)
    assert pushed.status_code == 201
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lent = LentConnection(ours)
        client.simulate_get(f"/v2/team/app/{BLOB}", extras={CONNECTION: lent})
    assert isinstance(lent.repeatable, Repeatable)
    return lent.repeatable


def test_a_hosted_blob_is_repeated_until_it_is_deleted(u: FakeUpstream, tmp_path: Path) -> None:
    """The response with a pushed blob may be repeated until a DELETE removes the blob's link."""
    worker = Worker(u, tmp_path, OpenAuthenticator())
    permitted = _pushed(worker)

    assert closed(permitted.open()) == CONTENT
    assert worker.pulling.repositories.unlink_blob(Repository("team/app"), DIGEST)
    assert closed(permitted.open()) is None


def test_a_hosted_blob_is_repeated_while_its_repository_has_no_origin(
    u: FakeUpstream, tmp_path: Path
) -> None:
    """After a repository is assigned to an upstream, no response with its blobs may be repeated.

    This holds even if the upstream is no longer configured.
    """
    worker = Worker(u, tmp_path, OpenAuthenticator())
    permitted = _pushed(worker)
    worker.pulling.repositories.set_origin(Repository("team/app"), "gone.test")

    assert closed(permitted.open()) is None
