"""Every way in which the registry says no; `registry.api.errors` gives each its status and code.

RegistryError
├── UpstreamError           what another registry answered, or did not
│   ├── Absent              it has no such thing (404)
│   ├── Denied              it will not show it to us (401, 403); never cached
│   └── Unavailable         nothing can be known now; carries `why` and `retry_after`
│       └── ListTooLong     a list of more bytes or entries than are taken
├── NameUnknown             no such repository, or no such upstream
├── ManifestUnknown
├── BlobUnknown
├── PartsMissing            the upstream is away and a part of the image is not here
├── Unauthenticated         credentials are needed, or are wrong
├── Forbidden               known, and not allowed
├── Unsupported             not done under this name, or not at all
├── RangeUnsatisfiable      no byte of the blob lies in it; carries the `size` [bytes]
├── PartsUnknown            a manifest names what is not here; carries the `digests`
├── ManifestTooLarge
├── UploadUnknown           no such upload of this repository
├── ChunkMisplaced          not where the upload stands, or another request writes to it
├── BodyBroken              the request's body ended too early, or is not what was announced
│   └── BodyTooSlow         it was ended, for others waited
├── TooManyUploads          more are begun and not ended than may be
├── MalformedRequest        a header or a parameter that cannot be read
├── Overloaded              too many ask for what is costly here, such as a password's check
└── InvalidHtpasswd         at the start or when it changed, never in answer to a request
"""

from __future__ import annotations

from enum import Enum

from entrepot.datastore.refs import Digest


class RegistryError(Exception):
    """The root of the tree above."""


class UpstreamError(RegistryError):
    """What the registry `upstream` (a host) answered, or did not."""

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(f"{upstream}: {message}")
        self.upstream = upstream


class Absent(UpstreamError):  # noqa: N818 - the class says the fact, as all here do
    """The upstream has no such thing: 404."""


class Denied(UpstreamError):  # noqa: N818
    """The upstream will not show it to us: 401 after all tries, or 403. Never cached."""


class Why(Enum):
    """Why an upstream is unavailable: what the client is told differs."""

    REFUSED = "refused"  # no connection, reset, TLS failure, no such host
    NONSENSE = "nonsense"  # 5xx, not HTTP, a wrong digest, a realm that is not its own
    TIMEOUT = "timeout"  # no connection or no byte in time
    RESTING = "resting"  # its breaker is open
    LIMITED = "limited"  # 429
    UNSUPPORTED = "unsupported"  # a manifest of a type that is not known here


class Unavailable(UpstreamError):  # noqa: N818
    """Nothing can be known now; `retry_after` in s where somebody said it.

    `is_temporary`: the same request may well be answered a moment later.
    """

    def __init__(
        self,
        upstream: str,
        message: str,
        why: Why,
        *,
        retry_after: float | None = None,
        is_temporary: bool = True,
    ) -> None:
        super().__init__(upstream, message)
        self.why = why
        self.retry_after = retry_after
        self.is_temporary = is_temporary


class ListTooLong(Unavailable):
    """A list of an upstream has more bytes or entries than are taken; its own copy is no answer."""

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(upstream, message, Why.NONSENSE)


class NameUnknown(RegistryError):  # noqa: N818
    """No such repository, or no such upstream."""


class ManifestUnknown(RegistryError):  # noqa: N818
    """No such manifest under this name."""


class BlobUnknown(RegistryError):  # noqa: N818
    """No such blob under this name."""


class PartsMissing(RegistryError):  # noqa: N818
    """The upstream is away and a part of the image is not here."""

    def __init__(self, cause: Unavailable) -> None:
        super().__init__(f"a part of the image is not here, and {cause}")
        self.cause = cause


class Unauthenticated(RegistryError):  # noqa: N818
    """Credentials are needed, or are wrong; `challenge` is the WWW-Authenticate to answer."""

    def __init__(self, challenge: str, message: str = "authentication required") -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(RegistryError):  # noqa: N818
    """Known, and not allowed."""


class Unsupported(RegistryError):  # noqa: N818
    """Not done under this name, or not at all; `allowed` methods go into `Allow`."""

    def __init__(self, message: str, allowed: tuple[str, ...] = ("GET", "HEAD")) -> None:
        super().__init__(message)
        self.allowed = allowed


class RangeUnsatisfiable(RegistryError):  # noqa: N818
    """Starts past the end of `size` bytes, or ends before it starts."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no byte of {size} lies in the range")
        self.size = size


class PartsUnknown(RegistryError):  # noqa: N818
    """A manifest names what its repository does not have."""

    def __init__(self, digests: tuple[Digest, ...]) -> None:
        super().__init__("the manifest names what is not in this repository")
        self.digests = digests


class ManifestTooLarge(RegistryError):  # noqa: N818
    """A manifest of more bytes than are taken."""


class UploadUnknown(RegistryError):  # noqa: N818
    """No such upload of this repository: never begun, ended, or given up."""


class ChunkMisplaced(RegistryError):  # noqa: N818
    """Not the chunk that the upload waits for at `offset` (bytes)."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class BodyBroken(RegistryError):  # noqa: N818
    """The request's body ended too early, or is not what was announced."""


class BodyTooSlow(BodyBroken):
    """The request's body came slowly while other bodies waited for a thread, and was ended."""


class TooManyUploads(RegistryError):  # noqa: N818
    """More uploads are begun and not ended than may be, in all or of one owner."""


class MalformedRequest(RegistryError):  # noqa: N818
    """A header or a parameter that cannot be read."""


class Overloaded(RegistryError):  # noqa: N818
    """Too many ask at once for what is costly here."""


class InvalidHtpasswd(RegistryError):  # noqa: N818
    """Lines of a password file that cannot be read, each problem with its line's number."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
