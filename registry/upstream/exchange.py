"""One request to one upstream: its breaker, its credentials, its redirects, and what it meant.

The one path of every request: admit, authorize, follow, judge, settle, report.
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
"""How long HEAD is left out, in s, before it is tried again."""


class Heads:
    """The kinds of content (`Ask.operation`) for which HEAD was useless of late; for any thread.

    There are as many entries as operations. *clock* gives s of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._useless_until: dict[str, float] = {}

    def are_useful(self, operation: str) -> bool:
        """Return whether a HEAD may decide something."""
        return self._clock() >= self._useless_until.get(operation, float("-inf"))

    def note_useless(self, operation: str) -> None:
        """Note that a HEAD was refused where a GET with the same authorization was answered."""
        self._useless_until[operation] = self._clock() + _FOR_S


log = logging.getLogger(__name__)

# The last range asks a registry for whatever it has, if it has none of the others
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
_STALLS_WITHIN = 3  # a body that stands still for this part of the read time-out is asked for anew
_HIDES = (403, 404)
_BASE_AGAIN_S = 60.0
_OF_THE_MOMENT = frozenset({408, 425, 502, 503, 504})
"""Statuses of a HEAD that do not show that HEAD is useless."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is asked of an upstream; `accepts` are the statuses that answer it.

    `absent` are those that say that there is no such thing. `url` wins over `path`. `is_begun`: it
    goes on with a download that has begun, which no open breaker stops.
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
        """Return the Accept to send: some registries answer 406 where it excludes what they have.

        No list of manifest types fits a blob or a list.
        """
        return _ACCEPT.get(self.operation, "*/*")

    @property
    def limit(self) -> str:
        """Name what a rate limit that this meets is about: reads of manifests, and the rest."""
        return self.operation if self.operation == "manifest" else ""


class _Asked(NamedTuple):
    """An answer, and the Authorization that was sent for it to the upstream's own origin."""

    answer: Answer
    authorization: str | None


class _Undecided(NamedTuple):
    """A HEAD that decided nothing: its status (0: none came), and the Authorization sent."""

    status: int
    authorization: str | None

    @property
    def is_lasting(self) -> bool:
        """Whether the next HEAD is likely to decide nothing either."""
        return self.status not in _OF_THE_MOMENT | {0}


class Exchange:
    """Sends what is asked of the upstream at `source.url`, under its host's name.

    A path in that URL stands before every repository's name there. *namespace* goes along as
    `ns`, which tells a mirror whose images are meant.
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
        """Return an answer that says what was asked for; the caller closes it.

        Raises: Absent, Denied, Unavailable.
        """
        passed = Pass() if ask.is_begun else self._breaker.admit(ask.limit)
        return self._sent(ask, passed).answer

    def describe(
        self, head: UpstreamRequest, get: UpstreamRequest, suffices: Callable[[Answer], bool]
    ) -> Answer:
        """Return the answer to *head* if it *suffices*, else to *get*; the caller closes it.

        A refused HEAD decides nothing: some registries refuse every HEAD, and some caches answer
        404 until they are asked with GET. Both requests have one admission of the breaker, and
        only a GET can open it. HEAD is left out for a while where a GET succeeded with the
        authorization with which it was refused.

        Raises: Absent, Denied, Unavailable.
        """
        passed = self._breaker.admit(head.limit)
        undecided: _Undecided | None = None
        if self._heads.are_useful(head.operation):
            found = self._headed(head, passed, suffices)
            if isinstance(found, Answer):
                return found
            undecided = found
        if get.limit != head.limit:
            self._breaker.check_limit(get.limit)
        asked = self._sent(get, passed)
        if undecided and undecided.is_lasting and undecided.authorization == asked.authorization:
            self._heads.note_useless(head.operation)
        return asked.answer

    def _headed(
        self, head: UpstreamRequest, passed: Pass, suffices: Callable[[Answer], bool]
    ) -> Answer | _Undecided:
        """Send a HEAD. Raises: Unavailable where a GET would meet the same."""
        with self._reporting(head, passed) as began:
            try:
                answer, authorization = self._asked(head)
            except (Denied, Unavailable):  # no challenge that can be answered: GET may need none
                outcome, undecided = "denied", _Undecided(_CHALLENGE, None)
            except ConnectionBroken as error:
                if error.unconnected or error.why is Why.TIMEOUT:
                    raise self._unanswered(error, passed) from error
                outcome, undecided = "unavailable", _Undecided(0, None)
            except TokenRefused as error:
                raise self._unanswered(error, passed) from error
            else:
                self._note_budget(answer)
                if answer.status == _OK and suffices(answer):
                    self._breaker.answered()
                    self._tell(head, "ok", began, bytes=content_length(answer.headers) or 0)
                    return answer
                answer.close()
                if answer.status == _LIMITED:
                    raise self._refusal(head, answer, passed)
                outcome = "absent" if answer.status in head.absent else "denied"
                undecided = _Undecided(answer.status, authorization)
            self._tell(head, outcome, began)
            return undecided

    def _sent(self, ask: UpstreamRequest, passed: Pass) -> _Asked:
        with self._reporting(ask, passed) as began:
            asked = self._answer(ask, passed)
            self._tell(ask, "ok", began, bytes=content_length(asked.answer.headers) or 0)
            return asked

    @contextmanager
    def _reporting(self, ask: UpstreamRequest, passed: Pass) -> Iterator[float]:
        """Report a request that raises; yield when it began, on the clock."""
        began = self._clock()
        try:
            yield began
        except UpstreamError as error:
            self._tell(ask, _outcome(error), began)
            raise
        except Exception as error:  # an unforeseen one: a probe must not be waited for
            self._note(UpstreamFailure(type(error).__name__), passed)
            self._tell(ask, "unavailable", began)
            raise

    @property
    def is_well(self) -> bool:
        """Whether what any worker asked last was answered."""
        return self._breaker.is_well

    def broken(self, error: ConnectionBroken) -> Unavailable:
        """Return what a body that broke is for our caller; the breaker does not mind a cut."""
        return Unavailable(self.host, str(error), error.why)

    def nonsense(self, message: str, detail: object = "") -> Unavailable:
        """Return the refusal of an answer that cannot be right.

        *message* is for clients and holds nothing that the upstream sent: a redirect could make it
        a way to read from the internal network. *detail* is for the operator: it goes to the log.
        """
        if detail:
            names = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
            log.info("unusable answer of an upstream", extra=names)
        return Unavailable(self.host, message, Why.NONSENSE, is_temporary=False)

    def unsupported(self, message: str, detail: object = "") -> Unavailable:
        """Return the refusal of an answer that is right, but not supported here."""
        names = {"upstream": self.host, "problem": message, "detail": str(detail)[:_LONGEST]}
        log.info("unsupported answer of an upstream", extra=names)
        return Unavailable(self.host, message, Why.UNSUPPORTED)

    def _answer(self, ask: UpstreamRequest, passed: Pass) -> _Asked:
        try:
            asked = self._asked(ask)
        except (ConnectionBroken, TokenRefused) as error:
            raise self._unanswered(error, passed) from error
        except Denied:
            self._breaker.answered()
            raise
        except Unavailable as error:  # a token service that is not trusted
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
        """Return what a request without an answer is for our caller; the breaker is notified."""
        if isinstance(error, TokenRefused):
            return self._refusal(_TOKEN, error.answer, passed)
        self._note_broken(error, passed)
        return self.broken(error)

    def _asked(self, ask: UpstreamRequest) -> _Asked:
        """Ask with what is known, and answer a challenge once.

        A registry may hide its repositories from clients without credentials behind 403 or 404, and
        challenge at /v2/ only: neither is believed before the configured credential was offered.

        Only the upstream's own challenge is answered: one from where an answer has led says nothing
        of our credentials. No other token is fetched for a HEAD: it may be refused with any.
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
        """Return whether an answer asks for credentials that it was not offered yet."""
        if answer.status == _CHALLENGE:
            return True
        hides = answer.status in _HIDES and authorization is None
        return hides and self._authorizer.has_credential(scope)

    def _challenge_of_base(self) -> str:
        """Return the WWW-Authenticate of /v2/; empty when there is none.

        One that had none is not asked again for a minute.
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
        """Return the URL at which something is asked for, before any redirect."""
        url = ask.url or f"{self._root}/v2/{self._prefix}{ask.name}/{ask.path}"
        told = ask.url is not None and "ns=" in ask.url
        query = urlencode({**ask.query, **({} if told else self._namespace)})
        joint = "&" if "?" in url else "?"
        return f"{url}{joint}{query}" if query else url

    def _refusal(self, ask: UpstreamRequest, answer: Answer, passed: Pass) -> UpstreamError:
        """Judge a status that is no answer, and let the breaker know."""
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
            return Denied(self.host, f"it answers {answer.status}")
        where = " from where it redirects" if answer.foreign else ""
        message = f"{ask.operation}: status {answer.status}{where}"
        passes = answer.status >= _BROKEN or answer.status in _PASSING or answer.foreign
        return Unavailable(self.host, message, Why.NONSENSE, retry_after=span, is_temporary=passes)

    def _note_broken(self, error: ConnectionBroken, passed: Pass) -> None:
        """Let the breaker know of a request that broke; whom no connection leads to is away."""
        detail = f"{error.why.value}: {error}"[:_LONGEST]
        if error.unconnected and not error.foreign:
            failure = UpstreamFailure(error.why.value, at_once=error.unreached, detail=detail)
            self._breaker.failed(failure, passed)
        else:
            self._note(UpstreamFailure(error.why.value, detail=detail), passed)

    def _note(self, failure: UpstreamFailure, passed: Pass) -> None:
        """Let the breaker know of a failure that a client may have chosen.

        The repository or the reference that it asks for may be all that fails: the breaker opens
        only where the upstream as a whole does not answer either.
        """
        if self._breaker.opens(failure, passed) and self._liveness.confirmed():
            self._breaker.answered()
        else:
            self._breaker.failed(failure, passed)

    def _tell(self, ask: UpstreamRequest, outcome: str, began: float, **more: int) -> None:
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
    """Divide an upstream's URL into its root and what stands before each repository's name."""
    target = urlsplit(url)
    path = target.path.strip("/").removeprefix("v2").strip("/")
    return f"{target.scheme}://{target.netloc}", f"{path}/" if path else ""
