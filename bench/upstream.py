"""Run the upstream: Debian's docker-registry, whose access log shows every fetch."""

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
    """A `Fetch` is one response of the upstream; `sent` is the bytes of its body."""

    method: str
    target: str
    status: int
    sent: int


@dataclass(frozen=True, slots=True)
class Fetches:
    """A `Fetches` counts a cache's requests to its upstream: all, GETs, and bytes of bodies."""

    requests: int = 0
    gets: int = 0
    sent: int = 0


class Log:
    """A `Log` is the upstream's growing access log.

    Each read continues where the last read ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def fresh(self) -> list[Fetch]:
        """Return the upstream's responses since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        return parse(text[:whole].decode(errors="replace").splitlines())


def parse(lines: Iterable[str]) -> list[Fetch]:
    """Return the access lines among the output of docker-registry."""
    found = [_LINE.search(line) for line in lines]
    return [
        Fetch(each["method"], each["target"], int(each["status"]), int(each["sent"]))
        for each in found
        if each is not None
    ]


def summed(fetches: Iterable[Fetch], *, about: str = "") -> Fetches:
    """Return the sum of the upstream's fetches whose target contains *about*.

    `GET /v2/` does not count.
    """
    chosen = [each for each in fetches if about in each.target and each.target != "/v2/"]
    gets = [each for each in chosen if each.method == "GET"]
    return Fetches(len(chosen), len(gets), sum(each.sent for each in gets))


def push(address: ServerAddress, image: Image) -> None:
    """Push an image as a client does. Raises: ServerFailed, LoadFailed."""
    for content in image.blobs:
        push_blob(address, image.repository, content)
    for reference in ("latest", image.digest):
        path = address.manifest(image.repository, reference)
        headers = {"Content-Type": MEDIA_TYPE}
        _expect(*address.ask("PUT", path, body=image.manifest, headers=headers))


def push_blob(address: ServerAddress, repository: str, content: bytes) -> None:
    """Push one blob. Raises: ServerFailed, LoadFailed."""
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
        raise ServerFailed(f"the upstream refused a push: {status} {body[:200]!r}")
