"""Send the requests for manifests, blobs, tags and referrers to one upstream.

A request has these steps: ask the circuit breaker for admission, authorize, follow redirects,
classify the status, update the breaker, write an event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from entrepot.datastore.manifest import ACCEPT, OCI_INDEX
from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError, Why
from entrepot.registry.upstream.authorizer import Authorizer
from entrepot.registry.upstream.breaker import Breaker, Pass, UpstreamFailure
from entrepot.registry.upstream.headers import budget, content_length, retry_after
from entrepot.registry.upstream.liveness import Liveness
from entrepot.registry.upstream.protocol import EventLog, discard_event
from entrepot.registry.upstream.redirects import follow
from entrepot.registry.upstream.tokens import TokenRefused
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.urls import origin_of, sealed
from entrepot.registry.upstream.wire import ConnectionBroken, Request, Response, Wire

log = logging.getLogger(__name__)

# The last media range accepts any other type, if the registry has none of the preferred types.
_MANIFESTS = ", ".join((*ACCEPT, "*/*;q=0.1"))
_ACCEPT = {
    "head": _MANIFESTS,
    "manifest": _MANIFESTS,
    "tags": "application/json",
    "referrers": OCI_INDEX,
}
_LONGEST = 200  # The log shows at most this many characters of a detail.
_OK, _CHALLENGE, _NOT_FOUND, _LIMITED, _BROKEN = 200, 401, 404, 429, 500
_DENIED = (401, 403)
_TEMPORARY = (408, 425)
# If no byte of a body arrives for a third of the read time-out, the rest is requested anew.
_STALLS_WITHIN = 3
_HIDDEN = (403, 404)
_BASE_AGAIN_S = 60.0
_SKIP_HEAD_S = 600.0
"""If an upstream rejects HEAD, no HEAD request is sent for this many seconds."""
_TRANSIENT = frozenset({408, 425, 502, 503, 504})
"""After a HEAD with one of these statuses, HEAD is not skipped, because the next HEAD may
succeed."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """An `UpstreamRequest` describes a request; `accepts` are the statuses of a usable response.

    `absent` are the statuses which mean that the object does not exist. `url` replaces the URL that
    is built from `path`. `is_begun` is True if the request continues a download; such a request is
    sent even if the breaker is open.
    """

    operation: str
    method: str
    name: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset({_OK})
    absent: frozenset[int] = frozenset({_NOT_FOUND})
    url: str | None = None
    is_begun: bool = False

    @property
    def accept(self) -> str:
        """The value of the Accept header.

        Some registries respond 406 if the Accept header excludes the type of the requested object.
        So only a request for a manifest names the types of manifests.
        """
        return _ACCEPT.get(self.operation, "*/*")

    @property
    def limit(self) -> str:
        """Return the kind of this request; a 429 for one kind does not limit the other kind.

        The kind is `manifest` for a GET of a manifest, and empty for all other requests.
        """
        return self.operation if self.operation == "manifest" else ""


class _Answered(NamedTuple):
    """An `_Answered` holds a response and the Authorization of the request that led to it."""

    response: Response
    authorization: str | None


class _Inconclusive(NamedTuple):
    """An `_Inconclusive` is a HEAD request without a usable response.

    It holds the status of the response (0 without a response) and the Authorization of the request.
    """

    status: int
    authorization: str | None

    @property
    def is_lasting(self) -> bool:
        """True if a repeated HEAD would probably get no usable response."""
        return self.status not in _TRANSIENT | {0}


class HeadSupport:
    """A `HeadSupport` records for which operations (`UpstreamRequest.operation`) to skip HEAD.

    HEAD is skipped because some registries reject every HEAD request. *clock* returns seconds and
    never goes back. Any thread may use a `HeadSupport`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._useless_until: dict[str, float] = {}

    def is_useful(self, operation: str) -> bool:
        """Return whether a HEAD for *operation* should be sent."""
        return self._clock() >= self._useless_until.get(operation, float("-inf"))

    def record_useless(self, operation: str) -> None:
        """Record that a HEAD was rejected and a GET with the same authorization succeeded."""
        self._useless_until[operation] = self._clock() + _SKIP_HEAD_S


class Exchange:
    """An `Exchange` sends requests to the upstream at `config.url`.

    A path in `config.url` is the first part of every repository name at the upstream. If
    `config.path_first` is set, the path precedes `/v2/` instead. Requests to a mirror have the
    query parameter `ns` with *namespace*, the host of the upstream whose images are requested.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        wire: Wire,
        authorizer: Authorizer,
        breaker: Breaker,
        headers: Mapping[str, str],
        report: EventLog = discard_event,
        namespace: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = config.host
        self._insecure = config.insecure
        self._root, self._prefix = _split(config.url, path_first=config.path_first)
        self._origin = origin_of(config.url)
        self._wire = wire
        self._authorizer = authorizer
        self._breaker = breaker
        self._headers = headers
        self._report = report
        self._clock = clock
        self._head_support = HeadSupport(clock)
        self._liveness = Liveness(wire, base_url(config), headers, clock)
        self._namespace = {"ns": namespace} if namespace else {}
        self._no_challenge_until = 0.0
        self.stall = config.read_timeout / _STALLS_WITHIN

    def send(self, request: UpstreamRequest) -> Response:
        """Send a request and return a response with an accepted status; the caller closes it.

        Raises: Absent, Denied, Unavailable.
        """
        passed = Pass() if request.is_begun else self._breaker.admit(request.limit)
        return self._send_reported(request, passed).response

    def describe(
        self, head: UpstreamRequest, get: UpstreamRequest, suffices: Callable[[Response], bool]
    ) -> Response:
        """Return the response to *head* if *suffices* accepts it, else the response to *get*.

        The caller closes the response.

        A rejected HEAD proves nothing: some registries reject every HEAD, and some caches respond
        404 to HEAD until a GET has fetched the object. HEAD and GET share one admission of the
        breaker, and a response to HEAD never opens the breaker. If the GET succeeds with the same
        Authorization with which HEAD was rejected, HEAD is skipped for a while.

        Raises: Absent, Denied, Unavailable.
        """
        passed = self._breaker.admit(head.limit)
        inconclusive: _Inconclusive | None = None
        if self._head_support.is_useful(head.operation):
            found = self._send_head(head, passed, suffices)
            if isinstance(found, Response):
                return found
            inconclusive = found
        if get.limit != head.limit:
            self._breaker.check_limit(get.limit)
        answered = self._send_reported(get, passed)
        if (
            inconclusive
            and inconclusive.is_lasting
            and inconclusive.authorization == answered.authorization
        ):
            self._head_support.record_useless(head.operation)
        return answered.response

    def _send_head(
        self, head: UpstreamRequest, passed: Pass, suffices: Callable[[Response], bool]
    ) -> Response | _Inconclusive:
        """Send a HEAD request. Raises: Denied, Unavailable if a GET would fail in the same way."""
        with self._reporting(head, passed) as start:
            try:
                response, authorization = self._send_authorized(head)
            # HEAD cannot be authorized, but GET may need no credentials.
            except (Denied, Unavailable):
                outcome, inconclusive = "denied", _Inconclusive(_CHALLENGE, None)
            except ConnectionBroken as error:
                if error.unconnected or error.why is Why.TIMEOUT:
                    raise self._no_response(error, passed) from error
                outcome, inconclusive = "unavailable", _Inconclusive(0, None)
            except TokenRefused as error:
                raise self._no_response(error, passed) from error
            else:
                self._report_budget(response)
                if response.status == _OK and suffices(response):
                    self._record_success(head, response, self._clock() - start)
                    return response
                response.close()
                if response.status == _LIMITED:
                    raise self._rejection(head, response, passed)
                if response.status == _CHALLENGE and authorization is not None:
                    self._authorizer.doubt(f"{self._prefix}{head.name}")
                outcome = "absent" if response.status in head.absent else "denied"
                inconclusive = _Inconclusive(response.status, authorization)
            self._write_event(head, outcome, self._clock() - start)
            return inconclusive

    def _send_reported(self, request: UpstreamRequest, passed: Pass) -> _Answered:
        with self._reporting(request, passed) as start:
            answered = self._send_checked(request, passed)
            seconds = self._clock() - start
            answered.response.before_use(
                lambda: self._record_success(request, answered.response, seconds)
            )
            return answered

    def _record_success(self, request: UpstreamRequest, response: Response, seconds: float) -> None:
        """Record a usable response, which took *seconds*, in the breaker; write an event."""
        self._breaker.answered()
        length = content_length(response.headers) or 0
        self._write_event(request, "ok", seconds, bytes=length)

    @contextmanager
    def _reporting(self, request: UpstreamRequest, passed: Pass) -> Iterator[float]:
        """Yield the time at which a request starts; write an event if the request fails."""
        start = self._clock()
        try:
            yield start
        except UpstreamError as error:
            self._write_event(request, _outcome(error), self._clock() - start)
            raise
        # The request may be the breaker's probe. Even after an unexpected exception, the breaker
        # needs the result of the probe.
        except Exception as error:
            self._record_failure(UpstreamFailure(type(error).__name__), passed)
            self._write_event(request, "unavailable", self._clock() - start)
            raise

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        return self._breaker.is_healthy

    def broken(self, error: ConnectionBroken) -> Unavailable:
        """Return the error for a connection that failed; do not record it in the breaker."""
        return Unavailable(
            self.host,
            str(error),
            error.why,
            is_temporary=error.is_temporary,
            is_final=error.is_final,
        )

    def nonsense(self, message: str, detail: object = "") -> Unavailable:
        """Return the error for an invalid response.

        *message* is sent to clients and must not contain bytes of the response. Otherwise an
        upstream could redirect a request into the internal network, and a client could read the
        internal response in the message. *detail* appears in the log only.
        """
        if detail:
            fields = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
            log.info("invalid response of an upstream", extra=fields)
        return Unavailable(self.host, message, Why.NONSENSE, is_temporary=False)

    def unsupported(self, message: str, detail: object = "") -> Unavailable:
        """Return the error for a response of an unsupported type; only the log has *detail*."""
        fields = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
        log.info("unsupported response of an upstream", extra=fields)
        return Unavailable(self.host, message, Why.UNSUPPORTED)

    def _send_checked(self, request: UpstreamRequest, passed: Pass) -> _Answered:
        try:
            answered = self._send_authorized(request)
        except (ConnectionBroken, TokenRefused) as error:
            raise self._no_response(error, passed) from error
        except Denied:
            if self._authorizer.has_credential(f"{self._prefix}{request.name}"):
                self._breaker.refused()
            else:
                self._breaker.answered()
            raise
        except Unavailable as error:  # For example, the token endpoint is not trusted.
            self._record_failure(UpstreamFailure(error.why.value), passed)
            raise
        response = answered.response
        self._report_budget(response)
        if response.status in request.accepts:
            return answered
        response.close()
        raise self._rejection(request, response, passed)

    def _no_response(self, error: ConnectionBroken | TokenRefused, passed: Pass) -> UpstreamError:
        """Return the error for a request without a response, and update the circuit breaker."""
        if isinstance(error, TokenRefused):
            return self._rejection(_TOKEN, error.response, passed)
        self._record_broken(error, passed)
        return self.broken(error)

    def _send_authorized(self, request: UpstreamRequest) -> _Answered:
        """Send the request with the known Authorization, and respond to one challenge.

        A registry may respond 403 or 404 to clients without credentials and send a challenge only
        at /v2/. A 403 or 404 is treated as the final response only after the configured
        credential, if there is one, was sent.

        Only a challenge of the upstream itself is answered, never a challenge of a redirect's
        target. If a HEAD with an Authorization is rejected, no second token is fetched, because a
        new token would not help with a registry that rejects every HEAD.
        """
        scope = f"{self._prefix}{request.name}"
        authorization = (
            self._authorizer.known(scope) if self._is_own(self.locate(request)) else None
        )
        response = self._follow(request, authorization)
        is_settled = request.method == "HEAD" and authorization is not None
        if response.foreign or is_settled or not self._is_challenge(response, scope, authorization):
            return _Answered(response, authorization)
        header = response.headers.get("WWW-Authenticate", "")
        if not header and authorization is None:
            header = self._challenge_of_base()
            if not header and response.status != _CHALLENGE:
                return _Answered(response, authorization)
        response.close()
        offered = self._authorizer.answer(header, scope, authorization)
        return _Answered(self._follow(request, offered), offered)

    def _is_challenge(self, response: Response, scope: str, authorization: str | None) -> bool:
        """Return whether to repeat the request with an Authorization other than *authorization*."""
        if response.status == _CHALLENGE:
            return True
        hides = response.status in _HIDDEN and authorization is None
        return hides and self._authorizer.has_credential(scope)

    def _challenge_of_base(self) -> str:
        """Return the WWW-Authenticate header of /v2/, or an empty text if /v2/ sends none.

        If /v2/ sends no challenge, /v2/ is not requested again for `_BASE_AGAIN_S` seconds.
        """
        if self._clock() < self._no_challenge_until:
            return ""
        try:
            response = self._wire.send(Request("GET", f"{self._root}/v2/", self._headers))
        except ConnectionBroken:
            return ""
        response.close()
        header = response.headers.get("WWW-Authenticate", "")
        if response.status != _CHALLENGE or not header:
            self._no_challenge_until = self._clock() + _BASE_AGAIN_S
            return ""
        return header

    def _follow(self, request: UpstreamRequest, authorization: str | None) -> Response:
        first_hop = Request(
            request.method,
            self.locate(request),
            {**self._headers, "Accept": request.accept, **request.headers},
            credential=sealed(self._root, authorization),
        )
        return follow(self._wire, first_hop, home=self._origin, insecure=self._insecure)

    def _is_own(self, url: str) -> bool:
        return self._origin is not None and origin_of(url) == self._origin

    def locate(self, request: UpstreamRequest) -> str:
        """Return the URL of a request, before any redirect."""
        url = request.url or f"{self._root}/v2/{self._prefix}{request.name}/{request.path}"
        has_namespace = request.url is not None and "ns=" in request.url
        query = urlencode({**request.query, **({} if has_namespace else self._namespace)})
        separator = "&" if "?" in url else "?"
        return f"{url}{separator}{query}" if query else url

    def _rejection(
        self, request: UpstreamRequest, response: Response, passed: Pass
    ) -> UpstreamError:
        """Return the error for a status that the request does not accept; update the breaker."""
        span = retry_after(response.headers, time.time())
        if response.status == _LIMITED:
            self._breaker.limited(span, request.limit)
            message = "the upstream limits the rate"
            return Unavailable(self.host, message, Why.LIMITED, retry_after=span)
        if response.status >= _BROKEN:
            self._record_failure(UpstreamFailure(f"status {response.status}"), passed)
        else:
            self._breaker.answered()
        if response.status in request.absent:
            return Absent(self.host, f"the upstream has no such {request.operation}")
        if response.status in _DENIED and not response.foreign:
            if self._authorizer.has_credential(f"{self._prefix}{request.name}"):
                self._breaker.refused()
            return Denied(self.host, f"the upstream responds {response.status}")
        where = " from the target of its redirect" if response.foreign else ""
        message = f"{request.operation}: status {response.status}{where}"
        is_temporary = (
            response.status >= _BROKEN or response.status in _TEMPORARY or response.foreign
        )
        return Unavailable(
            self.host, message, Why.NONSENSE, retry_after=span, is_temporary=is_temporary
        )

    def _record_broken(self, error: ConnectionBroken, passed: Pass) -> None:
        """Record a request without a complete response in the circuit breaker.

        If no connection to the upstream could be established, the breaker always counts the
        failure. Any other failure may concern this request only, and `_record_failure` checks that.
        """
        detail = f"{error.why.value}: {error}"[:_LONGEST]
        if error.unconnected and not error.foreign:
            failure = UpstreamFailure(error.why.value, at_once=error.unreached, detail=detail)
            self._breaker.failed(failure, passed)
        else:
            self._record_failure(UpstreamFailure(error.why.value, detail=detail), passed)

    def _record_failure(self, failure: UpstreamFailure, passed: Pass) -> None:
        """Record a failure that may concern only the repository or reference of a request.

        The breaker opens only if `/v2/` of the upstream does not respond either.
        """
        if self._breaker.opens(failure, passed) and self._liveness.confirmed():
            self._breaker.answered()
        else:
            self._breaker.failed(failure, passed)

    def _write_event(
        self, request: UpstreamRequest, outcome: str, seconds: float, **more: int
    ) -> None:
        self._report(
            "upstream",
            upstream=self.host,
            operation=request.operation,
            outcome=outcome,
            seconds=seconds,
            **more,
        )

    def _report_budget(self, response: Response) -> None:
        found = budget(response.headers)
        if found is not None:
            remaining, limit = found
            self._report("budget", upstream=self.host, remaining=remaining, limit=limit)


_TOKEN = UpstreamRequest("token", "GET", "", "", absent=frozenset())


def _outcome(error: UpstreamError) -> str:
    if isinstance(error, Unavailable):
        return "limited" if error.why is Why.LIMITED else "unavailable"
    return "absent" if isinstance(error, Absent) else "denied"


def base_url(config: UpstreamConfig) -> str:
    """Return the URL of the upstream's `/v2/` (OCI distribution-spec, end-1)."""
    return f"{_split(config.url, path_first=config.path_first)[0]}/v2/"


def _split(url: str, *, path_first: bool) -> tuple[str, str]:
    """Return the root of an upstream's URL, and the prefix of the upstream's repository names."""
    target = urlsplit(url)
    root = f"{target.scheme}://{target.netloc}"
    if path_first:
        return f"{root}{target.path.rstrip('/').removesuffix('/v2')}", ""
    path = target.path.strip("/").removeprefix("v2").strip("/")
    return root, f"{path}/" if path else ""
