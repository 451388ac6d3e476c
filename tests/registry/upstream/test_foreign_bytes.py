"""Error messages contain no bytes from an upstream, which could be internal data."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import RegistryError
from entrepot.registry.upstream.protocol import Upstream
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

MARK = "s3cretBytes"
DIGEST = Digest.of(b"layer")


def _client(upstream: FakeUpstream) -> Upstream:
    """Return a client with short timeouts."""
    return client_of(upstream, connect_timeout=0.2, read_timeout=0.3)


def read(client: Upstream, start: int, stop: int | None) -> list[bytes]:
    """Return the pieces of a blob, or of a range of it, from the upstream."""
    with client.blob("app", DIGEST, start, stop) as body:
        return list(body.chunks())


def _everything(client: Upstream) -> list[str]:
    """Return the messages of all errors that the methods of *client* raise."""
    messages = []
    for call in (
        lambda: client.head("app", Tag("v1")),
        lambda: client.manifest("app", Tag("v1")),
        lambda: client.manifest("app", DIGEST),
        lambda: client.blob_size("app", DIGEST),
        lambda: read(client, 0, None),
        lambda: read(client, 1, 3),
        lambda: client.tags("app"),
        lambda: client.referrers("app", DIGEST),
    ):
        try:
            call()
        except RegistryError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize(
    "fault",
    [
        {"body": MARK.encode()},
        {"body": f'{{"{MARK}": 1}}'.encode()},
        {"body": f'{{"tags": "{MARK}", "manifests": "{MARK}"}}'.encode()},
        {"body": f'{{"mediaType": "{MARK}", "schemaVersion": 2}}'.encode()},
        {"body": f'{{"config": {{"size": "{MARK}"}}, "manifests": [1]}}'.encode()},
        {"media_type": f"text/{MARK}"},
        {"headers": {"Docker-Content-Digest": MARK, "Content-Range": MARK}},
        {"headers": {"Link": f'<http://{MARK}/>; rel="next"'}},
        {"headers": {"Link": f'<http://[{MARK}/>; rel="next"'}},
        {"headers": {"Content-Length": MARK}},
        {"headers": {"Content-Length": f"1, {MARK}"}},
        {"headers": {"Content-Encoding": MARK, "Transfer-Encoding": MARK}},
        {"redirect": f"http://{MARK}.invalid/"},
        {"redirect": f"http://[{MARK}/"},
        {"redirect": f"{MARK}:/x"},
        {"redirect": f"http://x:{MARK}/"},
        {"status": 401, "headers": {"WWW-Authenticate": f'Bearer realm="http://{MARK}.test/t"'}},
        {"status": 401, "headers": {"WWW-Authenticate": f'Bearer realm="{MARK}"'}},
        {"status": 401, "headers": {"WWW-Authenticate": MARK}},
        {"status": 403, "body": MARK.encode()},
        {"status": 404, "body": MARK.encode()},
        {"status": 429, "headers": {"Retry-After": MARK}, "body": MARK.encode()},
        {"status": 500, "body": MARK.encode()},
    ],
    ids=lambda value: str(value)[:60],
)
def test_no_byte_of_an_upstream_is_in_a_message(upstream: FakeUpstream, fault: Any) -> None:
    """Whatever an upstream sends, error messages contain only fixed texts and numbers."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(**fault)

    assert [each for each in _everything(_client(upstream)) if MARK.lower() in each.lower()] == []


def test_the_log_has_the_details(upstream: FakeUpstream, caplog: pytest.LogCaptureFixture) -> None:
    """A log line has at most 200 characters of an upstream's bytes; log formatters escape them."""
    caplog.set_level(logging.INFO)
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/manifests/", body=b"{}", media_type=f"text/{MARK}{'x' * 9000}")
    _everything(client_of(upstream))
    details = [str(vars(each)["detail"]) for each in caplog.records if "detail" in vars(each)]

    assert any(MARK.lower() in each for each in details)
    assert max(map(len, details)) <= 200
