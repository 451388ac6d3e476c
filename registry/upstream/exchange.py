"""Sends one request to one upstream; every request takes this path.

The steps: ask the circuit breaker for admission, authorize, follow redirects, classify the status,
update the breaker, write an event.
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
from entrepot.registry.upstream.protocol import EventLog, silent
from entrepot.registry.upstream.redirects import follow
from entrepot.registry.upstream.tokens import TokenRefused
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.urls import origin_of, sealed
from entrepot.registry.upstream.wire import Answer, ConnectionBroken, Request, Wire

_FOR_S = 600.0
"""HEAD is skipped for this many s, then tried again."""


class Heads:
    """The operations (`UpstreamRequest.operation`) for which HEAD is skipped; safe in any thread.

    Some registries reject every HEAD. *clock* returns s and never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._useless_until: dict[str, float] = {}

    def are_useful(self, operation: str) -> bool:
        """Return whether a HEAD for *operation* should be sent."""
        return self._clock() >= self._useless_until.get(operation, float("-inf"))

    def note_useless(self, operation: str) -> None:
        """Record that a HEAD was rejected and a GET with the same authorization succeeded."""
        self._useless_until[operation] = self._clock() + _FOR_S


log = logging.getLogger(__name__)

# The last media range accepts any other type, if the registry has none of the first ones
_MANIFESTS = ", ".join((*ACCEPT, "*/*;q=0.1"))
_ACCEPT = {
    "head": _MANIFESTS,
    "manifest": _MANIFESTS,
    "tags": "application/json",
    "referrers": OCI_INDEX,
}
_LONGEST = 200  # characters of a detail in the log
_OK, _CHALLENGE, _GONE, _LIMITED, _BROKEN = 200, 401, 404, 429, 500
_DENIED = (401, 403)
_PASSING = (408, 425)
_STALLS_WITHIN = 3  # a body is requested anew after read time-out / 3 without a byte
_HIDES = (403, 404)
_BASE_AGAIN_S = 60.0
_TRANSIENT = frozenset({408, 425, 502, 503, 504})
"""Statuses of a HEAD after which HEAD is not skipped: the next one may succeed."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to an upstream; `accepts` are the statuses of a usable response.

    `absent` are the statuses which mean that the object does not exist. `url` replaces the URL that
    is built from `path`. `is_begun`: the request continues a download, and is sent even if the
    breaker is open.
    """

    operation: str
    method: str
    name: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset({_OK})
    absent: frozenset[int] = frozenset({_GONE})
    url: str | None = None
    is_begun: bool = False

    @property
    def accept(self) -> str:
        """The Accept header. Some registries respond 406 if it excludes the object's type.

        So a request for a blob or a list does not send the manifest types.
        """
        return _ACCEPT.get(self.operation, "*/*")

    @property
    def limit(self) -> str:
        """The kind of requests that a 429 for this one limits: GETs of manifests, or the others."""
        return self.operation if self.operation == "manifest" else ""


class _Asked(NamedTuple):
    """A response, and the Authorization that its request carried to the upstream's own origin."""

    answer: Answer
    authorization: str | None


class _Inconclusive(NamedTuple):
    """A HEAD without a usable response: its status (0: no response), and its Authorization."""

    status: int
    authorization: str | None

    @property
    def is_lasting(self) -> bool:
        """True if the next HEAD is likely to be useless as well."""
        return self.status not in _TRANSIENT | {0}


class Exchange:
    """Sends requests to the upstream at `source.url`.

    A path in that URL precedes every repository name. A mirror is sent *namespace* as the query
    parameter `ns`: the host of the upstream whose images are requested.
    """

    def __init__(
        self,
        source: UpstreamConfig,
        *,
        wire: Wire,
        authorizer: Authorizer,
        breaker: Breaker,
        headers: Mapping[str, str],
        report: EventLog = silent,
        namespace: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = source.host
        self._insecure = source.insecure
        self._root, self._prefix = _split(source.url)
        self._origin = origin_of(source.url)
        self._wire = wire
        self._authorizer = authorizer
        self._breaker = breaker
        self._headers = headers
        self._report = report
        self._clock = clock
        self._heads = Heads(clock)
        self._liveness = Liveness(wire, f"{self._root}/v2/", headers, clock)
        self._namespace = {"ns": namespace} if namespace else {}
        self._base_asked_again = 0.0
        self.stall = source.read_timeout / _STALLS_WITHIN

    def send(self, ask: UpstreamRequest) -> Answer:
        """Send a request and return a response whose status it accepts; the caller closes it.

        Raises: Absent, Denied, Unavailable.
        """
        passed = Pass() if ask.is_begun else self._breaker.admit(ask.limit)
        return self._sent(ask, passed).answer

    def describe(
        self, head: UpstreamRequest, get: UpstreamRequest, suffices: Callable[[Answer], bool]
    ) -> Answer:
        """Return the response to *head* if it *suffices*, else that to *get*; the caller closes it.

        A rejected HEAD proves nothing: some registries reject every HEAD, and some caches respond
        404 to HEAD until a GET has fetched the object. Both requests share one admission of the
        breaker, and a response to HEAD never opens it. If the GET succeeds with the Authorization
        with which HEAD was rejected, HEAD is skipped for a while.

        Raises: Absent, Denied, Unavailable.
        """
        passed = self._breaker.admit(head.limit)
        inconclusive: _Inconclusive | None = None
        if self._heads.are_useful(head.operation):
            found = self._headed(head, passed, suffices)
            if isinstance(found, Answer):
                return found
            inconclusive = found
        if get.limit != head.limit:
            self._breaker.check_limit(get.limit)
        asked = self._sent(get, passed)
        if (
            inconclusive
            and inconclusive.is_lasting
            and inconclusive.authorization == asked.authorization
        ):
            self._heads.note_useless(head.operation)
        return asked.answer

    def _headed(
        self, head: UpstreamRequest, passed: Pass, suffices: Callable[[Answer], bool]
    ) -> Answer | _Inconclusive:
        """Send a HEAD. Raises: Unavailable if a GET would fail in the same way."""
        with self._reporting(head, passed) as began:
            try:
                answer, authorization = self._asked(head)
            except (Denied, Unavailable):  # HEAD cannot be authorized; GET may need no credentials
                outcome, inconclusive = "denied", _Inconclusive(_CHALLENGE, None)
            except ConnectionBroken as error:
                if error.unconnected or error.why is Why.TIMEOUT:
                    raise self._unanswered(error, passed) from error
                outcome, inconclusive = "unavailable", _Inconclusive(0, None)
            except TokenRefused as error:
                raise self._unanswered(error, passed) from error
            else:
                self._note_budget(answer)
                if answer.status == _OK and suffices(answer):
                    self._breaker.answered()
                    self._write_event(head, "ok", began, bytes=content_length(answer.headers) or 0)
                    return answer
                answer.close()
                if answer.status == _LIMITED:
                    raise self._refusal(head, answer, passed)
                outcome = "absent" if answer.status in head.absent else "denied"
                inconclusive = _Inconclusive(answer.status, authorization)
            self._write_event(head, outcome, began)
            return inconclusive

    def _sent(self, ask: UpstreamRequest, passed: Pass) -> _Asked:
        with self._reporting(ask, passed) as began:
            asked = self._answer(ask, passed)
            self._write_event(ask, "ok", began, bytes=content_length(asked.answer.headers) or 0)
            return asked

    @contextmanager
    def _reporting(self, ask: UpstreamRequest, passed: Pass) -> Iterator[float]:
        """Yield the start time of a request (monotonic clock); write an event if it raises."""
        began = self._clock()
        try:
            yield began
        except UpstreamError as error:
            self._write_event(ask, _outcome(error), began)
            raise
        except Exception as error:  # unexpected; the breaker must not wait for this probe
            self._note(UpstreamFailure(type(error).__name__), passed)
            self._write_event(ask, "unavailable", began)
            raise

    @property
    def is_well(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        return self._breaker.is_well

    def broken(self, error: ConnectionBroken) -> Unavailable:
        """Return the error for a body that was cut off; the breaker does not count it."""
        return Unavailable(self.host, str(error), error.why)

    def nonsense(self, message: str, detail: object = "") -> Unavailable:
        """Return the error for an invalid response.

        *message* is sent to clients and must not contain bytes from the upstream: with a redirect,
        a client could use them to read from the internal network. *detail* is only logged.
        """
        if detail:
            names = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
            log.info("invalid response of an upstream", extra=names)
        return Unavailable(self.host, message, Why.NONSENSE, is_temporary=False)

    def unsupported(self, message: str, detail: object = "") -> Unavailable:
        """Return the error for a valid response of an unsupported type; *detail* is only logged."""
        names = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
        log.info("unsupported response of an upstream", extra=names)
        return Unavailable(self.host, message, Why.UNSUPPORTED)

    def _answer(self, ask: UpstreamRequest, passed: Pass) -> _Asked:
        try:
            asked = self._asked(ask)
        except (ConnectionBroken, TokenRefused) as error:
            raise self._unanswered(error, passed) from error
        except Denied:
            self._breaker.answered()
            raise
        except Unavailable as error:  # the token endpoint is not trusted
            self._note(UpstreamFailure(error.why.value), passed)
            raise
        answer = asked.answer
        self._note_budget(answer)
        if answer.status in ask.accepts:
            self._breaker.answered()
            return asked
        answer.close()
        raise self._refusal(ask, answer, passed)

    def _unanswered(self, error: ConnectionBroken | TokenRefused, passed: Pass) -> UpstreamError:
        """Return the error for a request without a response, and update the breaker."""
        if isinstance(error, TokenRefused):
            return self._refusal(_TOKEN, error.answer, passed)
        self._note_broken(error, passed)
        return self.broken(error)

    def _asked(self, ask: UpstreamRequest) -> _Asked:
        """Send the request with the known Authorization, and answer one challenge.

        A registry may respond 403 or 404 to clients without credentials and send a challenge at
        /v2/ only. Such a status is accepted only after the configured credential was sent.

        Only a challenge of the upstream itself is answered, never that of a redirect's target. For
        a HEAD that carried an Authorization no second token is fetched: the registry may reject
        every HEAD.
        """
        scope = f"{self._prefix}{ask.name}"
        authorization = self._authorizer.known(scope) if self._is_own(self.locate(ask)) else None
        answer = self._followed(ask, authorization)
        is_settled = ask.method == "HEAD" and authorization is not None
        if answer.foreign or is_settled or not self._is_challenge(answer, scope, authorization):
            return _Asked(answer, authorization)
        header = answer.headers.get("WWW-Authenticate", "")
        if not header and authorization is None:
            header = self._challenge_of_base()
            if not header and answer.status != _CHALLENGE:
                return _Asked(answer, authorization)
        answer.close()
        offered = self._authorizer.answer(header, scope, authorization)
        return _Asked(self._followed(ask, offered), offered)

    def _is_challenge(self, answer: Answer, scope: str, authorization: str | None) -> bool:
        """Return whether the response asks for credentials that the request did not carry."""
        if answer.status == _CHALLENGE:
            return True
        hides = answer.status in _HIDES and authorization is None
        return hides and self._authorizer.has_credential(scope)

    def _challenge_of_base(self) -> str:
        """Return the WWW-Authenticate of /v2/; empty if there is none.

        If there is none, /v2/ is not requested again for `_BASE_AGAIN_S`.
        """
        if self._clock() < self._base_asked_again:
            return ""
        try:
            answer = self._wire.send(Request("GET", f"{self._root}/v2/", self._headers))
        except ConnectionBroken:
            return ""
        answer.close()
        header = answer.headers.get("WWW-Authenticate", "")
        if answer.status != _CHALLENGE or not header:
            self._base_asked_again = self._clock() + _BASE_AGAIN_S
            return ""
        return header

    def _followed(self, ask: UpstreamRequest, authorization: str | None) -> Answer:
        request = Request(
            ask.method,
            self.locate(ask),
            {**self._headers, "Accept": ask.accept, **ask.headers},
            credential=sealed(self._root, authorization),
        )
        return follow(self._wire, request, home=self._origin, insecure=self._insecure)

    def _is_own(self, url: str) -> bool:
        return self._origin is not None and origin_of(url) == self._origin

    def locate(self, ask: UpstreamRequest) -> str:
        """Return the URL of a request, before any redirect."""
        url = ask.url or f"{self._root}/v2/{self._prefix}{ask.name}/{ask.path}"
        has_namespace = ask.url is not None and "ns=" in ask.url
        query = urlencode({**ask.query, **({} if has_namespace else self._namespace)})
        joint = "&" if "?" in url else "?"
        return f"{url}{joint}{query}" if query else url

    def _refusal(self, ask: UpstreamRequest, answer: Answer, passed: Pass) -> UpstreamError:
        """Return the error for a status that the request does not accept; update the breaker."""
        span = retry_after(answer.headers, time.time())
        if answer.status == _LIMITED:
            self._breaker.limited(span, ask.limit)
            message = "it limits the rate"
            return Unavailable(self.host, message, Why.LIMITED, retry_after=span)
        if answer.status >= _BROKEN:
            self._note(UpstreamFailure(f"status {answer.status}"), passed)
        else:
            self._breaker.answered()
        if answer.status in ask.absent:
            return Absent(self.host, f"it has no such {ask.operation}")
        if answer.status in _DENIED and not answer.foreign:
            if self._authorizer.has_credential(f"{self._prefix}{ask.name}"):
                self._breaker.refused()
            return Denied(self.host, f"it responds {answer.status}")
        where = " from the target of its redirect" if answer.foreign else ""
        message = f"{ask.operation}: status {answer.status}{where}"
        passes = answer.status >= _BROKEN or answer.status in _PASSING or answer.foreign
        return Unavailable(self.host, message, Why.NONSENSE, retry_after=span, is_temporary=passes)

    def _note_broken(self, error: ConnectionBroken, passed: Pass) -> None:
        """Record a broken request. A failed connection to the upstream itself always counts.

        Any other failure may be due to the request, and `_note` checks that.
        """
        detail = f"{error.why.value}: {error}"[:_LONGEST]
        if error.unconnected and not error.foreign:
            failure = UpstreamFailure(error.why.value, at_once=error.unreached, detail=detail)
            self._breaker.failed(failure, passed)
        else:
            self._note(UpstreamFailure(error.why.value, detail=detail), passed)

    def _note(self, failure: UpstreamFailure, passed: Pass) -> None:
        """Record a failure that may concern only the repository or reference of the client.

        The breaker opens only if `/v2/` of the upstream does not respond either.
        """
        if self._breaker.opens(failure, passed) and self._liveness.confirmed():
            self._breaker.answered()
        else:
            self._breaker.failed(failure, passed)

    def _write_event(self, ask: UpstreamRequest, outcome: str, began: float, **more: int) -> None:
        self._report(
            "upstream",
            upstream=self.host,
            operation=ask.operation,
            outcome=outcome,
            seconds=self._clock() - began,
            **more,
        )

    def _note_budget(self, answer: Answer) -> None:
        found = budget(answer.headers)
        if found is not None:
            remaining, limit = found
            self._report("budget", upstream=self.host, remaining=remaining, limit=limit)


_TOKEN = UpstreamRequest("token", "GET", "", "", absent=frozenset())


def _outcome(error: UpstreamError) -> str:
    if isinstance(error, Unavailable):
        return "limited" if error.why is Why.LIMITED else "unavailable"
    return "absent" if isinstance(error, Absent) else "denied"


def _split(url: str) -> tuple[str, str]:
    """Split an upstream's URL into its root and the prefix of its repository names."""
    target = urlsplit(url)
    path = target.path.strip("/").removeprefix("v2").strip("/")
    return f"{target.scheme}://{target.netloc}", f"{path}/" if path else ""
