"""Pull an image as a client does, and verify the digest of each part.

The requests are a HEAD of the tag, GETs of the manifest, config and layers, and a range request.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
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
from entrepot.registry.upstream import breaker

_ACCEPT = {"Accept": ", ".join(manifest.ACCEPT)}
# A map from the kernel's name of a CPU architecture to the name that images use.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_UPSTREAM_FAILED = (502, 503, 504)
_UPSTREAM = "check that the upstream responds: entrepot status"
# At most this many characters of the reason in a circuit breaker's file are shown. The file belongs
# to the service user, so its content is not trusted.
_LONGEST_CAUSE = 200
_TOKENS = "log in as a user for whom the token server permits this: --user USER:PASSWORD"
_REMEDIES = {
    401: "log in: --authfile FILE or --user USER:PASSWORD",
    403: "check the rights of this user, and the login at the upstream: entrepot check",
    404: "check that the image's registry is an upstream and has the image: entrepot check",
    429: "the upstream limits the rate: add a login for the upstream to the pull secret",
    **dict.fromkeys(_UPSTREAM_FAILED, _UPSTREAM),
}


def pull(
    client: ApplianceClient, route: Route, image: ImageName, breakers: Path | None = None
) -> Finding:
    """Pull *image* under one form of its name (*route*), and return the result.

    *breakers* is the folder with the states of the appliance's circuit breakers; None if the folder
    is unknown.
    """
    pulled = _Pull(client, route)
    try:
        pulled.run(image)
    except CannotContinue as error:
        if route.is_optional and pulled.is_unknown:
            why = "names without an upstream are not found"
            remedy = (
                "if clients use names without a registry, set ENTREPOT_DEFAULT_UPSTREAM=docker.io"
            )
            return Finding(route.name, Health.NOT_TRIED, f"{route.users}: {why}", remedy)
        remedy = error.remedy
        if remedy == _UPSTREAM and breakers is not None:
            remedy = _cause(image.host, breakers) or remedy
        return fails(route.name, f"{route.users}: {error.why}", remedy)
    if pulled.notes:
        notes = "; ".join(dict.fromkeys(pulled.notes))
        return Finding(route.name, Health.FELL_BACK, f"{route.users}: {notes}")
    return works(route.name, f"{route.users}: {pulled.summary()}")


class _Pull:
    """A `_Pull` is one pull; `notes` has the faults that a client would tolerate."""

    def __init__(self, client: ApplianceClient, route: Route) -> None:
        self._client = client
        self._route = route
        self._parts = self._hits = self._bytes = 0
        self.notes: list[str] = []
        self.is_unknown = False

    def run(self, image: ImageName) -> None:
        """Pull *image*. Raises: CannotContinue at the first error that a client cannot tolerate."""
        read = self._manifest(self._resolve(image))
        parts = [each for each in read.descriptors if not each.is_elsewhere]
        for each in parts:
            self._blob(each)
        if parts:
            self._range(max(parts, key=lambda each: each.size))

    def summary(self) -> str:
        """Return a text with the number of parts, their size, and how many were not cached."""
        new = self._parts - self._hits
        source = (
            f"{new} of the parts were fetched just now"
            if new
            else "all of the parts came from the cache"
        )
        return f"{self._parts} parts, {size(self._bytes)}, {source}"

    def _resolve(self, image: ImageName) -> Digest:
        """Send a HEAD request for the tag, as containerd and dockerd do, and return the digest."""
        path = self._route.manifest(image.reference)
        response = self._client.request("HEAD", path, _ACCEPT)
        # A response to HEAD has no body and so no error message. A GET returns the message.
        if response.status != _OK:
            response = self._client.request("GET", path, _ACCEPT)
            self.is_unknown = response.status == _NOT_FOUND
            raise _failure("manifest", response)
        self._inspect(response)
        if image.host and response.headers.get("oci-namespace") != image.host:
            self.notes.append("OCI-Namespace does not name the upstream")
        if "content-length" not in response.headers:
            raise CannotContinue("HEAD has no Content-Length: containerd would send a GET as well")
        return _digest(response)

    def _manifest(self, digest: Digest) -> Manifest:
        """Fetch a manifest; if it is an index, also fetch and return the manifest for this machine.

        Raises: CannotContinue.
        """
        response = self._client.request("GET", self._route.manifest(str(digest)), _ACCEPT)
        if response.status != _OK:
            raise _failure(f"manifest {digest}", response)
        self._inspect(response)
        if Digest.of(response.body, digest.algorithm) != digest:
            raise CannotContinue(f"manifest {digest}: its content has another digest")
        self._count(response, len(response.body))
        try:
            read = manifest.parse(response.body, response.headers.get("content-type"))
        except DatastoreError as error:
            raise CannotContinue(f"manifest {digest}: {error}") from error
        return read if read.kind is not ContentKind.INDEX else self._manifest(_child(response.body))

    def _blob(self, part: Descriptor) -> None:
        body = _Hashing(part.digest)
        response = self._client.stream("GET", self._route.blob(str(part.digest)), {}, body)
        if response.status != _OK:
            raise _failure(f"blob {part.digest}", response)
        if response.headers.get("content-length") != str(part.size):
            raise CannotContinue(f"blob {part.digest}: its Content-Length is not its size")
        if not body.matches():
            raise CannotContinue(f"blob {part.digest}: its content has another digest")
        self._inspect(response)
        self._count(response, part.size)

    def _range(self, part: Descriptor) -> None:
        """Request the last byte of a blob, like a client that resumes a download."""
        last = part.size - 1
        headers = {"Range": f"bytes={last}-{last}"}
        response = self._client.request("GET", self._route.blob(str(part.digest)), headers)
        expected = f"bytes {last}-{last}/{part.size}"
        given = response.headers.get("content-range")
        if (response.status, given, len(response.body)) != (_PARTIAL, expected, 1):
            raise CannotContinue(
                f"range: {response.status} with {given or 'no Content-Range'}, not {expected}"
            )
        if not _is_hit(response):
            self.notes.append("passed through and not stored; check the disk: entrepot status")

    def _inspect(self, response: ClientResponse) -> None:
        """Add the text of a response's Warning header, if it has one, to `notes`.

        Raises: CannotContinue if the body is compressed.
        """
        if "content-encoding" in response.headers:
            raise CannotContinue("a response is compressed, so lengths and ranges are wrong")
        if warning := response.headers.get("warning"):
            self.notes.append(warning.removeprefix("299 - ").strip('"'))

    def _count(self, response: ClientResponse, length: int) -> None:
        self._parts += 1
        self._hits += _is_hit(response)
        self._bytes += length


class _Hashing:
    """A `_Hashing` receives a body piece by piece and computes its digest."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hash = digest.hasher()

    def extend(self, piece: bytes) -> None:
        """Add the next piece of the body to the hash."""
        self._hash.update(piece)

    def matches(self) -> bool:
        """Return whether the body has the expected digest."""
        return self._hash.hexdigest() == self._digest.hex


def _cause(host: str, breakers: Path) -> str:
    """Return why requests to an upstream fail, according to its circuit breaker.

    Return an empty text if the reason is unknown.
    """
    for each in breaker.read_all(breakers):
        if each.host == host and each.reason:
            cause = "".join(sign if sign.isprintable() else "?" for sign in str(each.reason))
            state = "failed" if each.state == "closed" else each.state
            return f"{host}: {state} ({cause[:_LONGEST_CAUSE]}); details: entrepot status"
    return ""


def _child(index: bytes) -> Digest:
    """Return the digest of the index's first manifest for the architecture of this machine.

    If the index has no such manifest, return the digest of its first manifest.
    """
    children: list[dict[str, Any]] = json.loads(index)["manifests"]
    own = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fitting = [each for each in children if each.get("platform", {}).get("architecture") == own]
    chosen = (fitting or children)[:1]
    if not chosen:
        raise CannotContinue("the index has no manifest")
    return Digest.parse(chosen[0]["digest"])


def _digest(response: ClientResponse) -> Digest:
    text = response.headers.get("docker-content-digest", "")
    try:
        return Digest.parse(text)
    except DatastoreError as error:
        why = f"HEAD has Docker-Content-Digest: {text or 'none'}; containerd needs the digest"
        raise CannotContinue(why) from error


def _is_hit(response: ClientResponse) -> bool:
    # RFC 9211 defines the header Cache-Status.
    return "; hit" in response.headers.get("cache-status", "")


def _failure(what: str, response: ClientResponse) -> CannotContinue:
    remedy = _REMEDIES.get(response.status, "")
    if response.headers.get("www-authenticate", "").startswith("Bearer "):
        remedy = _TOKENS
    return CannotContinue(f"{what}: {response.problem}", remedy)
