"""Define the exceptions of the registry, which `registry.api.errors` maps to HTTP statuses.

RegistryError
├── UpstreamError           an error response of an upstream, or no response
│   ├── Absent              the upstream does not have the object (404)
│   ├── Denied              the upstream denies access (401, 403); never cached
│   └── Unavailable         the upstream gives no usable response; has `why` and `retry_after`
│       └── ListTooLong     a list has more bytes or entries than are accepted
├── NameUnknown             unknown repository or unknown upstream
├── ManifestUnknown
├── BlobUnknown
├── PartsMissing            the upstream is unavailable and a part of the image is not stored
├── Unauthenticated         credentials are missing or wrong
├── InvalidToken            a bearer token is not valid; the client is then anonymous
├── Forbidden               the user has no right to do this
├── Unsupported             the request is not supported, in general or for this name
├── RangeUnsatisfiable      the range contains no byte of the blob; has the `size` in bytes
├── PartsUnknown            a manifest references parts that are not stored; has the `digests`
├── ManifestTooLarge
├── UploadUnknown           the repository has no such upload
├── ChunkMisplaced          a chunk is not at the upload's offset, or another request is writing
├── BodyBroken              the request body ended early, or has another length than announced
│   └── BodyTooSlow         the body was cut off because too many bodies were being received
├── TooManyUploads          more unfinished uploads than are allowed
├── MalformedRequest        a header or a parameter cannot be parsed
├── InvalidPageSize         the parameter `n` is not a count, or exceeds the largest page
├── Refused                 the operator's middleware refuses the request; has `status` and `code`
├── MiddlewareFailed        the operator's middleware raised another exception
├── Overloaded              too many concurrent requests for a costly operation
└── InvalidHtpasswd         a password file is invalid; never raised during a request
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from entrepot.datastore.refs import Digest
from entrepot.registry.challenges import AuthChallenge

_REFUSALS: Final = frozenset({400, 403, 404, 409, 429, 503})
_CODE: Final = re.compile(r"[A-Z_]{1,64}")
_LONGEST_MESSAGE: Final = 1024


class RegistryError(Exception):
    """`RegistryError` is the base class of all exceptions in the tree above."""


class UpstreamError(RegistryError):
    """An upstream sent an error response, or no response; `upstream` is the upstream's host."""

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(f"{upstream}: {message}")
        self.upstream = upstream


class Absent(UpstreamError):  # noqa: N818 - the class name states the fact, as all below
    """The upstream responded 404: it does not have the requested object."""


class Denied(UpstreamError):  # noqa: N818
    """The upstream denies access: by a 401 after all attempts to authenticate, or by a 403.

    The registry never caches a denial.
    """


class Why(Enum):
    """A `Why` states why an upstream is unavailable; the client's error response depends on it."""

    # The upstream's host name does not resolve, or the connection or its TLS handshake failed.
    REFUSED = "refused"
    # The upstream's response has an unexpected status (such as 500), is invalid, or names a token
    # realm on a foreign host.
    NONSENSE = "nonsense"
    # The upstream accepted no connection, or sent no byte, within the time-out.
    TIMEOUT = "timeout"
    RESTING = "resting"  # The upstream's circuit breaker is open.
    LIMITED = "limited"  # The upstream responded 429.
    UNSUPPORTED = "unsupported"  # The upstream's manifest has an unsupported media type.


class Unavailable(UpstreamError):  # noqa: N818
    """The upstream sends no usable response; `retry_after` is in seconds, or None if unknown.

    `is_temporary` is True if the same request may succeed a moment later. `is_final` is True if the
    configuration forbids the request, so that no retry can succeed.
    """

    def __init__(
        self,
        upstream: str,
        message: str,
        why: Why,
        *,
        retry_after: float | None = None,
        is_temporary: bool = True,
        is_final: bool = False,
    ) -> None:
        super().__init__(upstream, message)
        self.why = why
        self.retry_after = retry_after
        self.is_temporary = is_temporary
        self.is_final = is_final


class ListTooLong(Unavailable):
    """An upstream's list has more bytes or entries than the registry accepts.

    The registry reports this error, and never sends a stored copy of the list.
    """

    def __init__(self, upstream: str, message: str) -> None:
        super().__init__(upstream, message, Why.NONSENSE)


class NameUnknown(RegistryError):  # noqa: N818
    """The repository or its upstream is unknown."""


class ManifestUnknown(RegistryError):  # noqa: N818
    """The repository has no such manifest."""


class BlobUnknown(RegistryError):  # noqa: N818
    """The repository has no such blob."""


class PartsMissing(RegistryError):  # noqa: N818
    """The upstream is unavailable and a part of the image is not stored."""

    def __init__(self, cause: Unavailable) -> None:
        super().__init__(f"a part of the image is not stored, and {cause}")
        self.cause = cause


class Unauthenticated(RegistryError):  # noqa: N818
    """Credentials are missing or wrong; `challenge` is for the header WWW-Authenticate."""

    def __init__(
        self, challenge: AuthChallenge | str, message: str = "authentication required"
    ) -> None:
        super().__init__(message)
        self.challenge = challenge


class InvalidToken(RegistryError):  # noqa: N818
    """A bearer token is invalid; the message is the reason, which only the log shows."""


class Forbidden(RegistryError):  # noqa: N818
    """The user has no right to perform the requested action in the repository."""


class InvalidPageSize(RegistryError):  # noqa: N818
    """The parameter `n` is not a count, or exceeds the largest size of a page."""


class Unsupported(RegistryError):  # noqa: N818
    """The registry does not support the request, either in general or for the requested name.

    The header `Allow` of the response lists the `allowed` methods.
    """

    def __init__(self, message: str, allowed: tuple[str, ...] = ("GET", "HEAD")) -> None:
        super().__init__(message)
        self.allowed = allowed


class RangeUnsatisfiable(RegistryError):  # noqa: N818
    """The requested range starts past the blob's `size` bytes, or ends before it starts."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range contains no byte of the blob, which has {size} bytes")
        self.size = size


class PartsUnknown(RegistryError):  # noqa: N818
    """A manifest references parts that its repository does not have."""

    def __init__(self, digests: tuple[Digest, ...]) -> None:
        super().__init__(
            "the manifest references parts that are not in this repository; push them first"
        )
        self.digests = digests


class ManifestTooLarge(RegistryError):  # noqa: N818
    """A manifest has more bytes than the registry accepts."""


class UploadUnknown(RegistryError):  # noqa: N818
    """The repository has no such upload: it never began, is finished, or was removed."""


class ChunkMisplaced(RegistryError):  # noqa: N818
    """A chunk does not start at the upload's `offset` (bytes), or another request is writing."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class BodyBroken(RegistryError):  # noqa: N818
    """The request body ended early, or its length differs from the announced length."""


class BodyTooSlow(BodyBroken):
    """The body was sent slowly while too many bodies were being received; the worker aborted it."""


class TooManyUploads(RegistryError):  # noqa: N818
    """There are more unfinished uploads than are allowed, in total or for one owner."""


class MalformedRequest(RegistryError):  # noqa: N818
    """A header or a parameter cannot be parsed."""


class Refused(RegistryError):  # noqa: N818
    """The operator's middleware refuses a request, with a *message* for the client.

    *status* is 400, 403, 404, 409, 429 or 503. *code* has 1 to 64 of the characters A-Z and `_`.
    Raises: ValueError for another *status* or *code*.
    """

    def __init__(self, message: str, status: int = 403, code: str = "DENIED") -> None:
        if status not in _REFUSALS or not _CODE.fullmatch(code):
            raise ValueError(f"a refusal cannot have the status {status} and the code {code[:64]}")
        super().__init__(message[:_LONGEST_MESSAGE])
        self.status = status
        self.code = code


class MiddlewareFailed(RegistryError):  # noqa: N818
    """The operator's middleware raised an exception, which is the cause of this exception."""


class Overloaded(RegistryError):  # noqa: N818
    """The worker has too many concurrent requests for a costly operation."""


class InvalidHtpasswd(RegistryError):  # noqa: N818
    """A password file has invalid lines; each problem in the message has its line number."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
