"""An S3 server on loopback that is as strict as S3: the mock service moto behind a checking proxy.

moto accepts any key, signature, region, method and expiry, so a test with moto alone cannot show
that a client signs its requests correctly. The proxy checks and counts each request, and injects
faults:

with S3Front() as s3:
    s3.fault("PUT", "/data", SlowDown(), times=1)
    ...
    assert s3.count("PUT") == 2
"""

from __future__ import annotations

import io
import re
import secrets
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from tests.ports import free_port
from tests.s3_signatures import Account, Refusal, Signed, refusal
from tests.serving import EndsAtOnce

LEAST_PART = 5 * 1024 * 1024
"""The smallest size (bytes) of a part of a multipart upload, except of the last part."""

_BEHIND = {  # a dummy signature, because moto refuses requests without one
    "Authorization": "AWS4-HMAC-SHA256 Credential=front/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "server", "date"}


@dataclass(frozen=True, slots=True)
class SlowDown:
    """Fault: answer the request with 503 SlowDown, and do not apply it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Fault: answer the request with an error of S3, and do not apply it."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class WrongRegion:
    """Fault: answer the request with 301 PermanentRedirect, which names the bucket's region."""

    region: str


@dataclass(frozen=True, slots=True)
class CutBody:
    """Fault: send the header section and *after* bytes of the body, and close the connection."""

    after: int


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Fault: apply the request, and close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class ApplyLater:
    """Fault: close the connection without an answer; apply the request after *when* is set."""

    when: threading.Event
    applied: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Stall:
    """Fault: answer the request as usual, but wait until the event *until* is set."""

    until: threading.Event


Fault = SlowDown | Refused | WrongRegion | CutBody | LoseAnswer | ApplyLater | Stall


@dataclass(slots=True)
class _Rule:
    method: str
    pattern: re.Pattern[str]
    fault: Fault
    left: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that the proxy received; `key` is without the bucket's name."""

    method: str
    key: str
    query: str
    headers: dict[str, str]


class S3Front:
    """The checking proxy and the moto service behind it, with one empty bucket.

    `requests` has all requests in order; `refused` has S3's error code for each request that the
    proxy refused. Each part of a multipart upload, except the last one, must have at least
    *least_part* bytes.
    """

    def __init__(self, account: Account | None = None, *, least_part: int = LEAST_PART) -> None:
        self.account = account or Account()
        # Each S3Front has a different bucket name, because all instances of moto in a process share
        # their buckets.
        self.bucket = f"images-{secrets.token_hex(4)}"
        self.requests: list[Seen] = []
        self.refused: list[str] = []
        self.is_down = False
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._behind = _Moto(least_part)
        self._server: ThreadingHTTPServer | None = None
        self._port = free_port()
        self._has_ended = False

    def __enter__(self) -> Self:
        self._behind.start()
        self._behind.request("PUT", f"/{self.bucket}", b"", _BEHIND)
        self._server = _Server(("127.0.0.1", self._port), self._handler())
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._has_ended = True
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL of this S3 service, without the bucket."""
        return f"http://127.0.0.1:{self._port}"

    def fault(
        self, method: str, pattern: str, fault: Fault, *, times: int | None = None
    ) -> Callable[[], None]:
        """Inject *fault* into requests with a matching method and key.

        Return a function that ends the fault.
        """
        rule = _Rule(method, re.compile(pattern), fault, times)
        with self._lock:
            self._rules.append(rule)

        def end() -> None:
            with self._lock, suppress(ValueError):
                self._rules.remove(rule)

        return end

    def count(self, method: str, pattern: str = "") -> int:
        """Return how many requests had this method and a matching key."""
        return sum(
            each.method == method and bool(re.search(pattern, each.key)) for each in self.requests
        )

    def counts(self) -> Counter[str]:
        """Return the number of requests for each method."""
        return Counter(each.method for each in self.requests)

    def forget(self) -> None:
        """Clear `requests` and `refused`, and end all faults."""
        with self._lock:
            self.requests.clear()
            self.refused.clear()
            self._rules.clear()

    # ---- direct access to the bucket in moto, without the proxy and without a signature

    def put(self, key: str, content: bytes) -> None:
        """Store an object in moto directly, as if another program had written it."""
        assert self._behind.request("PUT", f"/{self.bucket}/{key}", content, _BEHIND).status == 200

    def get(self, key: str) -> bytes | None:
        """Return an object's content, or None if it does not exist."""
        found = self._behind.request("GET", f"/{self.bucket}/{key}", b"", _BEHIND)
        assert found.status in {200, 404}, found
        return found.body if found.status == 200 else None

    def delete(self, key: str) -> None:
        """Delete an object in moto directly, as if another program had deleted it."""
        self._behind.request("DELETE", f"/{self.bucket}/{key}", b"", _BEHIND)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects with this prefix, in byte order."""
        found: list[str] = []
        after = ""
        while True:
            target = f"/{self.bucket}?list-type=2&prefix={prefix}&start-after={after}"
            body = self._behind.request("GET", target, b"", _BEHIND).body.decode()
            page = re.findall(r"<Key>([^<]*)</Key>", body)
            found += page
            if "<IsTruncated>true" not in body:
                return found
            after = page[-1]

    # ---- one request through the proxy

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def log_message(self, *_: Any) -> None:
                """Log nothing, because tests read `requests`."""

            def do_any(self) -> None:
                front.answer(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_any  # noqa: N815 - of http.server

        return Handler

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Check and record a request; then refuse it, inject a fault, or forward it to moto."""
        if self.is_down:
            handler.close_connection = True
            return
        length = int(handler.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Signed(handler.command, handler.path, headers, handler.rfile.read(length))
        parts = urlsplit(handler.path)
        if not headers.get("host", "").startswith(f"{self.bucket}."):
            key = unquote(parts.path).removeprefix(f"/{self.bucket}").removeprefix("/")
            behind = request
        else:  # the bucket's name is in the header Host, which `_forward` does not send to moto
            key = unquote(parts.path).removeprefix("/")
            behind = replace(request, target=f"/{self.bucket}{request.target}")
        refused = refusal(request, self.account)
        with self._lock:
            self.requests.append(Seen(handler.command, key, parts.query, headers))
            if refused:
                self.refused.append(refused.code)
        if refused:
            _send_error(handler, refused)
            return
        self._answer(handler, behind, self._fault(handler.command, key))

    def _fault(self, method: str, key: str) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.method in {method, "*"} and rule.pattern.search(key) and rule.left != 0:
                    if rule.left is not None:
                        rule.left -= 1
                    return rule.fault
        return None

    def _answer(
        self, handler: BaseHTTPRequestHandler, request: Signed, fault: Fault | None
    ) -> None:
        match fault:
            case SlowDown():
                _send_error(handler, Refusal(503, "SlowDown"))
            case Refused(found):
                _send_error(handler, found)
            case WrongRegion(region):
                _send_error(
                    handler, Refusal(301, "PermanentRedirect"), {"x-amz-bucket-region": region}
                )
            case ApplyLater():
                handler.close_connection = True
                threading.Thread(target=self._later, args=(request, fault), daemon=True).start()
            case LoseAnswer():
                self._forward(request)
                handler.close_connection = True
            case Stall(until):
                until.wait(60)
                _send(handler, self._forward(request))
            case CutBody(after):
                _send(handler, self._forward(request), cut=after)
            case None:
                _send(handler, self._forward(request))

    def _later(self, request: Signed, fault: ApplyLater) -> None:
        while not fault.when.wait(0.1):
            if self._has_ended:  # No test waits for the request any more.
                return
        with suppress(OSError, AssertionError):  # The test may have ended meanwhile.
            self._forward(request)
            fault.applied.set()

    def _forward(self, request: Signed) -> Answer:
        kept = {
            name: value for name, value in request.headers.items() if name not in {"host", "expect"}
        }
        return self._behind.request(request.method, request.target, request.body, kept)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of moto behind the proxy."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Server(EndsAtOnce, ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().process_request(request, client_address)


class _Moto:
    """The S3 service of moto, which the threads of the proxy call as a WSGI application."""

    def __init__(self, least_part: int) -> None:
        self._least_part = least_part
        self._application: Any = None

    def start(self) -> None:
        """Load moto, without any bucket."""
        from moto.moto_server import werkzeug_app  # noqa: PLC0415 - the import takes a second
        from moto.s3 import models  # noqa: PLC0415 - as above

        vars(models)["S3_UPLOAD_PART_MIN_SIZE"] = self._least_part
        application = werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app)
        self._application = application

    def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        """Send a request to moto, and return moto's response."""
        from werkzeug.test import run_wsgi_app  # noqa: PLC0415 - as above

        environ = _environ(method, target, body, headers)
        pieces, status, found = run_wsgi_app(self._application, environ, buffered=True)
        return Answer(
            int(status.partition(" ")[0]),
            [(name, value) for name, value in found if name.lower() not in _HOP_BY_HOP],
            b"" if method == "HEAD" else b"".join(pieces),
        )


def _environ(method: str, target: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Return the WSGI environment (PEP 3333) of a request."""
    parts = urlsplit(f"http://127.0.0.1{target}")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(parts.path).decode("latin-1"),
        "QUERY_STRING": parts.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": headers.get("content-type", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
            if name.lower() not in {"content-length", "content-type"}
        },
    }


def _send(handler: BaseHTTPRequestHandler, answer: Answer, cut: int | None = None) -> None:
    handler.send_response(answer.status)
    has_length = False
    for name, value in answer.headers:
        has_length = has_length or name.lower() == "content-length"
        handler.send_header(name, value)
    if not has_length and answer.status != 204:
        handler.send_header("Content-Length", str(len(answer.body)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    handler.wfile.write(answer.body if cut is None else answer.body[:cut])
    if cut is not None:
        handler.wfile.flush()
        handler.close_connection = True


def _send_error(
    handler: BaseHTTPRequestHandler, found: Refusal, headers: dict[str, str] | None = None
) -> None:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{found.code}</Code>'
        f"<Message>{found.message}</Message></Error>"
    ).encode()
    shown = [("Content-Type", "application/xml"), *(headers or {}).items()]
    _send(handler, Answer(found.status, shown, body))
