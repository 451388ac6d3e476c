"""One pull as a client does it: HEAD, manifest, config, layers, a range; every digest compared."""

from __future__ import annotations

import json
import platform
from typing import Any

from entrepot.appliance.doctor.finding import CannotContinue, Finding, Health, fails, works
from entrepot.appliance.doctor.http_client import ApplianceClient, ClientResponse
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.routes import Route
from entrepot.cleaner.readable_units import size
from entrepot.datastore import manifest
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import Descriptor, Manifest
from entrepot.datastore.refs import Digest

_ACCEPT = {"Accept": ", ".join(manifest.ACCEPT)}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as images call them
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_UPSTREAM = "does the upstream answer? entrepot status"
_REMEDIES = {
    401: "log in: --authfile FILE or --user USER:PASSWORD",
    403: "may this user pull it, and may we from the upstream? entrepot check",
    404: "is its registry an upstream, and does it have it? entrepot check",
    429: "the upstream limits our rate: give it a login in the pull secret",
    502: _UPSTREAM,
    503: _UPSTREAM,
    504: _UPSTREAM,
}


def pull(knocker: ApplianceClient, route: Route, image: ImageName) -> Finding:
    """Pull *image* by one route and say what came of it."""
    pulled = _Pull(knocker, route)
    try:
        pulled.run(image)
    except CannotContinue as ill:
        if route.is_optional and pulled.is_unknown:
            why = "names without an upstream lead nowhere"
            remedy = "where that is needed: ENTREPOT_DEFAULT_UPSTREAM=docker.io"
            return Finding(route.name, Health.NOT_TRIED, f"{route.users}: {why}", remedy)
        return fails(route.name, f"{route.users}: {ill.why}", ill.remedy)
    if pulled.notes:
        notes = "; ".join(dict.fromkeys(pulled.notes))
        return Finding(route.name, Health.FELL_BACK, f"{route.users}: {notes}")
    return works(route.name, f"{route.users}: {pulled.told()}")


class _Pull:
    """A pull as far as it has come: `notes` are what a client would put up with."""

    def __init__(self, knocker: ApplianceClient, route: Route) -> None:
        self._knocker = knocker
        self._route = route
        self._parts = self._hits = self._bytes = 0
        self.notes: list[str] = []
        self.is_unknown = False

    def run(self, image: ImageName) -> None:
        """Pull it. Raises: Ill at the first thing that would end a client's pull."""
        read = self._manifest(self._resolve(image))
        parts = [each for each in read.names if not each.is_elsewhere]
        for each in parts:
            self._blob(each)
        if parts:
            self._range(max(parts, key=lambda each: each.size))

    def told(self) -> str:
        """Say how much it was, and where it came from."""
        new = self._parts - self._hits
        where = f"{new} of them fetched just now" if new else "all of it from here"
        return f"{self._parts} parts, {size(self._bytes)}, {where}"

    def _resolve(self, image: ImageName) -> Digest:
        """Ask with HEAD what the reference means, as containerd and dockerd do."""
        path = self._route.manifest(image.reference)
        answer = self._knocker.ask("HEAD", path, _ACCEPT)
        if answer.status != _OK:  # a HEAD has no body: ask again for the words
            answer = self._knocker.ask("GET", path, _ACCEPT)
            self.is_unknown = answer.status == _NOT_FOUND
            raise _ill("manifest", answer)
        self._remark(answer)
        if image.host and answer.headers.get("oci-namespace") != image.host:
            self.notes.append("OCI-Namespace does not name the upstream")
        if "content-length" not in answer.headers:
            raise CannotContinue("HEAD has no Content-Length: containerd asks once more with GET")
        return _digest(answer)

    def _manifest(self, digest: Digest) -> Manifest:
        """Get a manifest; of an index, this machine's platform's."""
        answer = self._knocker.ask("GET", self._route.manifest(str(digest)), _ACCEPT)
        if answer.status != _OK:
            raise _ill(f"manifest {digest}", answer)
        self._remark(answer)
        if Digest.of(answer.body, digest.algorithm) != digest:
            raise CannotContinue(f"manifest {digest}: its bytes have another digest")
        self._count(answer, len(answer.body))
        try:
            read = manifest.parse(answer.body, answer.headers.get("content-type"))
        except DatastoreError as error:
            raise CannotContinue(f"manifest {digest}: {error}") from error
        return read if read.kind is not ContentKind.INDEX else self._manifest(_child(answer.body))

    def _blob(self, part: Descriptor) -> None:
        body = _Hashing(part.digest)
        answer = self._knocker.read("GET", self._route.blob(str(part.digest)), {}, body)
        if answer.status != _OK:
            raise _ill(f"blob {part.digest}", answer)
        if answer.headers.get("content-length") != str(part.size):
            raise CannotContinue(f"blob {part.digest}: its Content-Length is not its size")
        if not body.is_right():
            raise CannotContinue(f"blob {part.digest}: its bytes have another digest")
        self._remark(answer)
        self._count(answer, part.size)

    def _range(self, part: Descriptor) -> None:
        """Ask for the last byte, as a client does that resumes."""
        last = part.size - 1
        asked = {"Range": f"bytes={last}-{last}"}
        answer = self._knocker.ask("GET", self._route.blob(str(part.digest)), asked)
        expected = f"bytes {last}-{last}/{part.size}"
        given = answer.headers.get("content-range")
        if (answer.status, given, len(answer.body)) != (_PARTIAL, expected, 1):
            raise CannotContinue(
                f"range: {answer.status} with {given or 'no Content-Range'}, not {expected}"
            )
        if not _is_hit(answer):
            self.notes.append("it is passed on and not kept: is there room? entrepot status")

    def _remark(self, answer: ClientResponse) -> None:
        if "content-encoding" in answer.headers:
            raise CannotContinue("an answer is compressed: lengths and ranges no longer fit")
        if warning := answer.headers.get("warning"):
            self.notes.append(warning.removeprefix("299 - ").strip('"'))

    def _count(self, answer: ClientResponse, length: int) -> None:
        self._parts += 1
        self._hits += _is_hit(answer)
        self._bytes += length


class _Hashing:
    """Takes a body that should have a digest, and keeps none of it."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hash = digest.hasher()

    def extend(self, piece: bytes) -> None:
        """Take the next one."""
        self._hash.update(piece)

    def is_right(self) -> bool:
        """Whether the bytes were what the digest says."""
        return self._hash.hexdigest() == self._digest.hex


def _child(index: bytes) -> Digest:
    """Choose as clients do; where an index has nothing for this machine, its first."""
    children: list[dict[str, Any]] = json.loads(index)["manifests"]
    own = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fitting = [each for each in children if each.get("platform", {}).get("architecture") == own]
    chosen = (fitting or children)[:1]
    if not chosen:
        raise CannotContinue("the index names no manifest")
    return Digest.parse(chosen[0]["digest"])


def _digest(answer: ClientResponse) -> Digest:
    text = answer.headers.get("docker-content-digest", "")
    try:
        return Digest.parse(text)
    except DatastoreError as error:
        why = f"HEAD says Docker-Content-Digest: {text or 'nothing'}; containerd needs it"
        raise CannotContinue(why) from error


def _is_hit(answer: ClientResponse) -> bool:
    return "; hit" in answer.headers.get("cache-status", "")  # RFC 9211


def _ill(what: str, answer: ClientResponse) -> CannotContinue:
    return CannotContinue(f"{what}: {answer.told}", _REMEDIES.get(answer.status, ""))
