"""What every answer carries."""

from __future__ import annotations

from pathlib import Path

import falcon
import pytest
from falcon import testing

from entrepot.registry.api.response_headers import ResponseHeaders


class Blob:
    """Answers with a file, as blobs do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.opened: list[object] = []

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Send it."""
        file = self._path.open("rb")
        self.opened.append(file)
        resp.set_header("Cache-Status", "entrepot; hit")
        resp.set_stream(file, self._path.stat().st_size)

    on_head = on_get


class Unmeasured:
    """Answers with a body of unknown length."""

    def on_head(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Send it piece by piece."""
        resp.stream = iter([b"a", b"b"])


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    """One of 7 bytes."""
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    return Blob(path)


@pytest.fixture
def client(blob: Blob) -> testing.TestClient:
    """An application with nothing but the middleware and two bodies."""
    app = falcon.App(middleware=[ResponseHeaders()])
    app.add_route("/blob", blob)
    app.add_route("/unmeasured", Unmeasured())
    return testing.TestClient(app)


@pytest.mark.parametrize("path", ["/blob", "/absent"])
def test_every_answer_names_the_api_version(client: testing.TestClient, path: str) -> None:
    """Failures too."""
    answer = client.simulate_get(path)

    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_what_a_resource_says_of_the_cache_stands(client: testing.TestClient) -> None:
    """Only what nobody said is added: that the answer was made here."""
    assert client.simulate_get("/blob").headers["cache-status"] == "entrepot; hit"
    assert client.simulate_get("/absent").headers["cache-status"] == "entrepot"


def test_a_head_closes_the_file_and_keeps_its_length(
    client: testing.TestClient, blob: Blob
) -> None:
    """Falcon drops the body of a HEAD without closing it."""
    answer = client.simulate_head("/blob")

    assert answer.headers["content-length"] == "7"
    assert answer.content == b""
    (file,) = blob.opened
    assert getattr(file, "closed", None) is True


def test_a_head_of_unknown_length_announces_none(client: testing.TestClient) -> None:
    """A length of 0 would be a lie that containerd believes."""
    assert "content-length" not in client.simulate_head("/unmeasured").headers
