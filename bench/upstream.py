"""Read the access log of the upstream (Debian's docker-registry), and push images to it.

The access log shows each request that a cache sends to the upstream.
"""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.address import ServerAddress
from bench.content import MEDIA_TYPE, Image, digest_of
from bench.errors import ServerFailed

_LINE = re.compile(
    r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.[01]" (?P<status>\d{3}) (?P<sent>\d+)'
)


@dataclass(frozen=True, slots=True)
class Fetch:
    """One response of the upstream; `sent` is the size of its body in bytes."""

    method: str
    target: str
    status: int
    sent: int


@dataclass(frozen=True, slots=True)
class Fetches:
    """The numbers of requests and of GETs to the upstream, without `GET /v2/`.

    `sent` counts only the bytes that were sent for GETs.
    """

    requests: int = 0
    gets: int = 0
    sent: int = 0


class Log:
    """The upstream's access log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def fresh(self) -> list[Fetch]:
        """Return the responses that the upstream has logged since the previous call."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        return parse(text[:whole].decode(errors="replace").splitlines())


def parse(lines: Iterable[str]) -> list[Fetch]:
    """Return the responses that docker-registry logged; skip other lines of its output."""
    found = [_LINE.search(line) for line in lines]
    return [
        Fetch(each["method"], each["target"], int(each["status"]), int(each["sent"]))
        for each in found
        if each is not None
    ]


def summed(fetches: Iterable[Fetch], *, about: str = "") -> Fetches:
    """Return the numbers of requests and of GETs in *fetches*, and the bytes sent for the GETs.

    Only requests whose URL path contains *about* count. `GET /v2/` does not count, because it
    fetches no content.
    """
    chosen = [each for each in fetches if about in each.target and each.target != "/v2/"]
    gets = [each for each in chosen if each.method == "GET"]
    return Fetches(len(chosen), len(gets), sum(each.sent for each in gets))


def push(address: ServerAddress, image: Image) -> None:
    """Push an image to the upstream as a client does. Raises: ServerFailed, LoadFailed."""
    for content in image.blobs:
        push_blob(address, image.repository, content)
    for reference in ("latest", image.digest):
        path = address.manifest(image.repository, reference)
        headers = {"Content-Type": MEDIA_TYPE}
        _expect(*address.ask("PUT", path, body=image.manifest, headers=headers))


def push_blob(address: ServerAddress, repository: str, content: bytes) -> None:
    """Push one blob to the upstream. Raises: ServerFailed, LoadFailed."""
    connection = address.connect()
    try:
        connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers=address.headers())
        answer = connection.getresponse()
        body, location = answer.read(), urlsplit(answer.headers["Location"])
        _expect(answer.status, body)
        target = f"{location.path}?{location.query}&digest={digest_of(content)}"
        connection.request("PUT", target, content, address.headers())
        answer = connection.getresponse()
        _expect(answer.status, answer.read())
    finally:
        connection.close()


def _expect(status: int, body: bytes) -> None:
    if status not in {http.HTTPStatus.CREATED, http.HTTPStatus.ACCEPTED}:
        raise ServerFailed(f"the upstream rejected a push: {status} {body[:200]!r}")
