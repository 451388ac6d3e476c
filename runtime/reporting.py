"""Report the errors of a worker to error trackers, through the trackers' client libraries.

The table `CLIENTS` has a row for each tracker. The library of a tracker is an optional dependency,
and is imported only if the tracker is configured. A separate thread makes all calls to the library,
so a library that hangs or fails delays no request.
"""

from __future__ import annotations

import importlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from entrepot.runtime.logs import without_credentials

log = logging.getLogger(__name__)

Settings = Mapping[str, Any]
Fields = Mapping[str, str]
Send = Callable[[BaseException, Fields], None]
"""A function that sends one error with its fields. The function can block and raise any
exception."""

_SOURCES: Final = ("entrepot", "gunicorn.error")
_FIELDS: Final = ("method", "path")
_MOST_WAITING: Final = 64
_MOST_IN_PERIOD: Final = 60
_PERIOD_S: Final = 60.0
_TIMEOUT_S: Final = 10.0
_DEEPEST_CAUSE: Final = 5
_LONGEST_TEXT: Final = 4096


@dataclass(frozen=True, slots=True)
class ReportingClient:
    """A `ReportingClient` describes the client library of one tracker.

    `modules` are the modules that must be installed. The function `start` receives the settings of
    the tracker, imports the library and returns a function that sends an error.
    """

    modules: tuple[str, ...]
    start: Callable[[Settings], Send]


def _bugsnag(settings: Settings) -> Send:
    library: Any = importlib.import_module("bugsnag")
    options = {"release_stage": settings["releasestage"], "endpoint": settings["endpoint"]}
    library.configure(
        api_key=settings["apikey"],
        auto_capture_sessions=False,
        asynchronous=False,  # If True, the library would start a thread for each report.
        max_breadcrumbs=0,
        **{name: value for name, value in options.items() if value is not None},
    )
    return lambda error, fields: library.notify(
        error, severity="error", metadata={"request": dict(fields)}
    )


def _newrelic(settings: Settings) -> Send:
    library: Any = importlib.import_module("newrelic.agent")
    agent = library.global_settings()
    agent.license_key = settings["licensekey"]
    agent.app_name = settings["name"]
    if settings["verbose"]:
        logging.getLogger("newrelic").setLevel(logging.DEBUG)
    # New Relic's `initialize` is not called, because it would wrap functions of other libraries.
    application = library.register_application(name=settings["name"], timeout=_TIMEOUT_S)
    return lambda error, fields: library.notice_error(
        error=(type(error), error, error.__traceback__),
        attributes=dict(fields),
        application=application,
    )


def _sentry(settings: Settings) -> Send:
    library: Any = importlib.import_module("sentry_sdk")
    library.init(
        dsn=settings["dsn"],
        environment=settings["environment"],
        default_integrations=False,  # The default integrations wrap functions of other libraries.
        auto_enabling_integrations=False,
        include_local_variables=False,  # A local variable can contain a password.
        send_default_pii=False,
        max_breadcrumbs=0,
    )
    return lambda error, fields: library.capture_exception(
        error, contexts={"request_line": dict(fields)}
    )


def _opentelemetry(settings: Settings) -> Send:
    exporters: Any = importlib.import_module(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    )
    resources: Any = importlib.import_module("opentelemetry.sdk.resources")
    sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
    export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
    trace: Any = importlib.import_module("opentelemetry.trace")
    exporter = exporters.OTLPSpanExporter(
        endpoint=f"{settings['endpoint'].rstrip('/')}/v1/traces",
        headers=dict(settings["headers"] or {}),
        timeout=int(_TIMEOUT_S),
    )
    resource = resources.Resource.create({"service.name": settings["servicename"]})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("entrepot")

    def send(error: BaseException, fields: Fields) -> None:
        span = tracer.start_span("request failed", attributes=dict(fields))
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
        span.end()

    return send


CLIENTS: Final[Mapping[str, ReportingClient]] = {
    "bugsnag": ReportingClient(("bugsnag",), _bugsnag),
    "newrelic": ReportingClient(("newrelic",), _newrelic),
    "sentry": ReportingClient(("sentry_sdk",), _sentry),
    "opentelemetry": ReportingClient(
        ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"), _opentelemetry
    ),
}
"""This map contains the client library of each tracker under the tracker's key in `reporting:`.

The optional dependencies of the Python package have the same names.
"""


def is_installed(name: str) -> bool:
    """Return whether the library of the tracker *name* is installed, without importing it."""
    return all(map(_is_found, CLIENTS[name].modules))


def _is_found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # The package that contains the module is missing.
        return False


class ErrorReports(logging.Handler):
    """A logging handler that sends the trackers each logged error that has a traceback.

    *settings* maps the name of each configured tracker to its settings. Each tracker has a thread,
    and a queue of at most 64 errors. At most 60 errors are reported in a minute. *clock* is a
    monotonic clock in seconds.
    """

    def __init__(
        self, settings: Mapping[str, Settings], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(logging.ERROR)
        self._settings = settings
        self._clock = clock
        self._queues: Sequence[queue.Queue[tuple[BaseException, Fields]]] = ()
        self._period_began = clock()
        self._in_period = 0
        self._dropped = 0

    def start(self) -> None:
        """Start the threads; call this method after a fork, because a child inherits no threads."""
        queues = []
        for name, settings in self._settings.items():
            waiting: queue.Queue[tuple[BaseException, Fields]] = queue.Queue(_MOST_WAITING)
            queues.append(waiting)
            arguments = (name, settings, waiting)
            threading.Thread(target=_send_all, args=arguments, name=name, daemon=True).start()
        self._queues = queues
        for source in _SOURCES:
            logging.getLogger(source).addHandler(self)

    def stop(self) -> None:
        """Ignore all later errors. The threads run until the process exits."""
        for source in _SOURCES:
            logging.getLogger(source).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the error in a log record, or drop it if there are too many errors."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return
        if not self._is_due():
            self._dropped += 1
            return
        fields = {
            name: without_credentials(str(getattr(record, name)))[:_LONGEST_TEXT]
            for name in _FIELDS
            if hasattr(record, name)
        }
        for waiting in self._queues:
            try:
                waiting.put_nowait((error, fields))
            except queue.Full:
                self._dropped += 1

    def _is_due(self) -> bool:
        """Count one error and return whether the number in this minute is within the limit."""
        now = self._clock()
        if now - self._period_began >= _PERIOD_S:
            self._period_began, self._in_period = now, 0
            dropped, self._dropped = self._dropped, 0
            if dropped:
                log.warning("some errors were not reported", extra={"count": dropped})
        self._in_period += 1
        return self._in_period <= _MOST_IN_PERIOD


def _send_all(
    name: str, settings: Settings, waiting: queue.Queue[tuple[BaseException, Fields]]
) -> None:
    """Start the library of one tracker and send it every error in the queue."""
    try:
        send = CLIENTS[name].start(settings)
    except Exception as error:  # noqa: BLE001 - a library may raise anything
        _warn("the library for error reports could not be started", name, error)
        return
    while True:
        failure, fields = waiting.get()
        try:
            send(_without_credentials(failure), fields)
        except Exception as problem:  # noqa: BLE001 - likewise
            _warn("an error was not reported", name, problem)


def _warn(message: str, name: str, error: Exception) -> None:
    """Log a warning with the class of *error*, but not its text, which could contain the key."""
    log.warning(message, extra={"tracker": name, "error": type(error).__name__})


def _without_credentials(error: BaseException, depth: int = 0) -> BaseException:
    """Return a copy of *error* without the credentials in URLs.

    The copy has the same class name and traceback, no attributes, and at most five causes.
    """
    kind = type(error)
    made = type(kind.__name__, (Exception,), {"__module__": kind.__module__})
    copy: BaseException = made(without_credentials(str(error))[:_LONGEST_TEXT])
    if error.__cause__ is not None and depth < _DEEPEST_CAUSE:
        copy.__cause__ = _without_credentials(error.__cause__, depth + 1)
    return copy.with_traceback(error.__traceback__)
