"""A fake registry on loopback, which tests use as the upstream.

A test adds faults to the fake upstream, and reads the requests that it received.

with FakeUpstream() as upstream:
    image = upstream.add_image("library/app", "v1", [b"layer"])
    upstream.misbehave("/blobs/", times=1, cut=3)
    ...
    assert 2 == upstream.count("GET", "/blobs/")
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from entrepot.datastore.refs import Digest
from tests import fake_repository, images
from tests.fake_repository import FakeRepository, error
from tests.gates import Gate
from tests.quirks import Quirks
from tests.wire import HONEST, Fault, HttpServer, Reply, Seen

_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<rest>[^/]+)")


@dataclass(slots=True)
class _Rule:
    pattern: re.Pattern[str]
    method: str | None
    left: int | None
    fault: Fault


class FakeUpstream:
    """A registry with content and faults that a test adds.

    `requests` has all requests that it received, in order. `page` is the largest number of tags or
    referrers on a page. Without `referrers` it lacks the referrers API. `quirks` are the deviations
    of a real registry that it imitates.
    """

    def __init__(self, *, gate: Gate | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.gate = gate
        self.page: int | None = None
        self.referrers = True
        self.quirks = Quirks()
        self.requests: list[Seen] = []
        self._repositories: dict[str, FakeRepository] = {}
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = HttpServer(self._answer, tls)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return the URL of the fake upstream without a trailing slash."""
        return self._server.url

    @property
    def host(self) -> str:
        """Return the address and port of the fake upstream, as in a URL."""
        return self._server.host

    def start(self) -> None:
        """Accept connections; a start after a stop uses the same port."""
        self._server.start()

    def stop(self) -> None:
        """Close all connections, and refuse new ones."""
        self._server.stop()

    def break_off(self) -> None:
        """Close all connections, idle ones too, but accept new ones."""
        self._server.break_off()

    # ---- content of the fake upstream

    def add_blob(self, name: str, content: bytes) -> Digest:
        """Add a blob to the repository *name*, and return its digest."""
        digest = Digest.of(content)
        self._repository(name).blobs[str(digest)] = content
        return digest

    def add_manifest(self, name: str, reference: str, body: bytes, media_type: str) -> Digest:
        """Add a manifest; if *reference* is a tag, move the tag to this manifest."""
        digest = Digest.of(body)
        repository = self._repository(name)
        repository.manifests[str(digest)] = (body, media_type)
        if ":" not in reference:
            repository.tags[reference] = str(digest)
        return digest

    def add_image(
        self, name: str, tag: str, layers: Sequence[bytes], family: images.Family = "oci"
    ) -> images.Image:
        """Build an image of *layers*, add it to the repository *name*, and return it."""
        return self.put_image(name, tag, images.image(layers, family))

    def put_image(self, name: str, reference: str, image: images.Image) -> images.Image:
        """Add an image, with all its blobs, to the repository *name*."""
        for blob in image.blobs:
            self.add_blob(name, blob)
        self.add_manifest(name, reference, image.manifest, image.media_type)
        return image

    def add_index(
        self, name: str, tag: str, children: Sequence[images.Image], family: images.Family = "oci"
    ) -> Digest:
        """Add an index with its images and all their blobs to the repository *name*."""
        for child in children:
            self.put_image(name, str(child.digest), child)
        return self.add_manifest(name, tag, *images.index(children, family))

    def move_tag(self, name: str, tag: str, digest: Digest) -> None:
        """Set a tag to a manifest of the same repository."""
        self._repository(name).tags[tag] = str(digest)

    def remove(self, name: str, reference: str) -> None:
        """Remove a tag, a manifest or a blob from the repository *name*, if it exists."""
        repository = self._repository(name)
        for stored in (repository.tags, repository.manifests, repository.blobs):
            stored.pop(reference, None)

    # ---- faults of the fake upstream

    def misbehave(
        self,
        pattern: str = "",
        *,
        method: str | None = None,
        times: int | None = None,
        **knobs: Any,
    ) -> None:
        """Apply the faults in *knobs* to requests whose path contains a match of *pattern* (regex).

        The newest matching rule applies. With *times* a rule ends after that many requests;
        requests that the gate refuses do not count.
        """
        with self._lock:
            self._rules.insert(0, _Rule(re.compile(pattern), method, times, Fault(**knobs)))

    def behave(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._rules.clear()

    # ---- requests that the fake upstream received

    def find(self, method: str | None = None, pattern: str = "") -> list[Seen]:
        """Return the requests with this method and a matching path."""
        return [
            each
            for each in list(self.requests)
            if method in (None, each.method) and re.search(pattern, each.path)
        ]

    def count(self, method: str | None = None, pattern: str = "") -> int:
        """Return the number of requests with this method and a matching path."""
        return len(self.find(method, pattern))

    @property
    def bytes_sent(self) -> int:
        """Return the number of bytes in the bodies of all responses."""
        return sum(each.sent for each in list(self.requests))

    @property
    def connections(self) -> int:
        """Return the number of connections that the fake upstream has accepted."""
        return self._server.accepted

    def forget(self) -> None:
        """Clear `requests`."""
        self.requests.clear()

    # ---- responses of the fake upstream

    def _repository(self, name: str) -> FakeRepository:
        return self._repositories.setdefault(name, FakeRepository())

    def _answer(self, seen: Seen) -> tuple[Reply, Fault]:
        self.requests.append(seen)
        rejection = self._rejection(seen)
        if rejection is not None:
            return rejection, HONEST
        fault = self._fault(seen)
        reply = self.quirks.refusal(seen)
        reply = reply or self._replacement(seen, fault) or self._content(seen, fault)
        return self.quirks.changed(seen, _with_fault(reply, fault)), fault

    def _fault(self, seen: Seen) -> Fault:
        with self._lock:
            for rule in self._rules:
                matches = rule.method in (None, seen.method) and rule.pattern.search(seen.path)
                if not matches or rule.left == 0:
                    continue
                if rule.left is not None:
                    rule.left -= 1
                return rule.fault
        return HONEST

    def _rejection(self, seen: Seen) -> Reply | None:
        gate = None if seen.path.startswith("/raw/") else self.gate
        challenge = gate.challenge(seen) if gate else None
        if challenge is None:
            return None
        version = {"Docker-Distribution-Api-Version": "registry/2.0"}
        return error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge, **version})

    def _replacement(self, seen: Seen, fault: Fault) -> Reply | None:
        """Return the redirect or the error with which *fault* replaces the content; else None."""
        if fault.redirect is not None:
            digest = seen.path.rpartition("/")[2]
            target = fault.redirect.format(
                path=seen.path, digest=digest, query=urlencode(seen.query)
            )
            return Reply(fault.status or 307, {"Location": target})
        if fault.status is not None:
            return error(fault.status, "UNKNOWN", {})
        return None

    def _content(self, seen: Seen, fault: Fault) -> Reply:
        if seen.method not in {"GET", "HEAD"}:
            return error(405, "UNSUPPORTED")
        if seen.path == "/v2/":
            return Reply(200, {"Content-Type": "application/json"}, b"{}")
        if seen.path.startswith("/raw/"):
            return self._raw(seen, fault)
        match = _ROUTE.fullmatch(seen.path)
        if match is None or match["name"] not in self._repositories:
            return error(404, "NAME_UNKNOWN")
        repository = self._repositories[match["name"]]
        handlers: dict[str, Callable[[], Reply]] = {
            "manifests": lambda: fake_repository.manifest(repository, match["rest"]),
            "blobs": lambda: fake_repository.blob(
                seen, repository.blobs.get(match["rest"]), fault, match["rest"]
            ),
            "tags": lambda: fake_repository.tags(
                self.quirks.without_ignored(seen), repository, self.page
            ),
            "referrers": lambda: self._referrers(seen, repository),
        }
        return handlers[match["kind"]]()

    def _raw(self, seen: Seen, fault: Fault) -> Reply:
        """Return a blob of any repository by its digest, as the storage behind a registry does."""
        digest = seen.path.removeprefix("/raw/")
        stored = (repository.blobs.get(digest) for repository in self._repositories.values())
        return fake_repository.blob(
            seen, next((blob for blob in stored if blob is not None), None), fault, digest
        )

    def _referrers(self, seen: Seen, repository: FakeRepository) -> Reply:
        return (
            fake_repository.referrers(seen, repository, self.page)
            if self.referrers
            else error(404, "NOT_FOUND")
        )


def _with_fault(reply: Reply, fault: Fault) -> Reply:
    """Return the response with the changes that *fault* makes to its headers and body."""
    body = reply.body if fault.body is None else fault.body
    if fault.corrupt and body:
        body = body[:-1] + bytes([body[-1] ^ 1])
    headers: dict[str, str | None] = {**reply.headers, **fault.headers}
    if fault.media_type is not None:
        headers["Content-Type"] = fault.media_type
    kept = {name: value for name, value in headers.items() if value is not None}
    return replace(reply, headers=kept, body=body)
