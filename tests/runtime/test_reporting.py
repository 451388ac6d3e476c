"""Tests of error trackers: fake libraries of the trackers receive the errors of a worker."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.runtime import reporting
from entrepot.runtime.polling import poll
from entrepot.runtime.reporting import CLIENTS, ErrorReports

log = logging.getLogger("entrepot.registry.api.errors")

_SETTINGS: dict[str, dict[str, Any]] = {
    "bugsnag": {"apikey": "k1", "releasestage": "staging", "endpoint": "https://bugs.example"},
    "newrelic": {"licensekey": "k2", "name": "images", "verbose": True},
    "sentry": {"dsn": "https://k3@sentry.example/1", "environment": "staging"},
    "opentelemetry": {
        "endpoint": "https://otlp.example/",
        "headers": {"api-key": "k4"},
        "servicename": "images",
    },
}

# Each fake library adds its settings to STARTED, and the errors that it receives to SENT.
_STAND_INS = {
    "bugsnag/__init__.py": """
STARTED, SENT = [], []
def configure(**options): STARTED.append(options)
def notify(error, **options): SENT.append((error, options["metadata"]["request"]))
""",
    "newrelic/__init__.py": "",
    "newrelic/agent.py": """
import types
STARTED, SENT = [], []
_settings = types.SimpleNamespace()
def global_settings(): return _settings
def register_application(name, timeout):
    STARTED.append({"key": _settings.license_key, "name": _settings.app_name, "timeout": timeout})
    return name
def notice_error(error, attributes, application): SENT.append((error[1], attributes))
""",
    "sentry_sdk/__init__.py": """
STARTED, SENT = [], []
def init(**options): STARTED.append(options)
def capture_exception(error, contexts): SENT.append((error, contexts["request_line"]))
""",
    "opentelemetry/__init__.py": "STARTED, SENT = [], []",
    "opentelemetry/trace.py": """
import enum
class StatusCode(enum.Enum): ERROR = 2
class Status:
    def __init__(self, code, description): self.code = code
""",
    "opentelemetry/sdk/__init__.py": "",
    "opentelemetry/sdk/resources.py": """
class Resource:
    @staticmethod
    def create(values): return values
""",
    "opentelemetry/sdk/trace/__init__.py": """
class _Span:
    def __init__(self, exporter, fields): self.exporter, self.fields = exporter, fields
    def record_exception(self, error): self.error = error
    def set_status(self, status): self.status = status
    def end(self): self.exporter.export(self)
class TracerProvider:
    def __init__(self, resource, shutdown_on_exit): self.resource = resource
    def add_span_processor(self, exporter): self.exporter = exporter
    def get_tracer(self, name): return self
    def start_span(self, name, attributes): return _Span(self.exporter, attributes)
""",
    "opentelemetry/sdk/trace/export.py": "def SimpleSpanProcessor(exporter): return exporter",
    "opentelemetry/exporter/__init__.py": "",
    "opentelemetry/exporter/otlp/__init__.py": "",
    "opentelemetry/exporter/otlp/proto/__init__.py": "",
    "opentelemetry/exporter/otlp/proto/http/__init__.py": "",
    "opentelemetry/exporter/otlp/proto/http/trace_exporter.py": """
import opentelemetry
class OTLPSpanExporter:
    def __init__(self, **options): opentelemetry.STARTED.append(options)
    def export(self, span): opentelemetry.SENT.append((span.error, span.fields))
""",
}
_MODULES = {"newrelic": "newrelic.agent", "sentry": "sentry_sdk"}
_EXPECTED: dict[str, dict[str, Any]] = {
    "bugsnag": {"api_key": "k1", "release_stage": "staging", "endpoint": "https://bugs.example"},
    "newrelic": {"key": "k2", "name": "images", "timeout": 10.0},
    "sentry": {
        "dsn": "https://k3@sentry.example/1",
        "environment": "staging",
        "include_local_variables": False,
        "default_integrations": False,
    },
    "opentelemetry": {
        "endpoint": "https://otlp.example/v1/traces",
        "headers": {"api-key": "k4"},
        "timeout": 10,
    },
}


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put fake libraries of the trackers on Python's import path; yield their folder."""
    for name, text in _STAND_INS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    _forget()


def _forget() -> None:
    tops = {each.partition("/")[0] for each in _STAND_INS}
    for name in [each for each in sys.modules if each.partition(".")[0] in tops]:
        del sys.modules[name]


@pytest.fixture
def start() -> Iterator[Callable[..., ErrorReports]]:
    """Yield a function that starts reports to the named trackers; stop them after the test."""
    started = []

    def make(*names: str, **options: Any) -> ErrorReports:
        reports = ErrorReports({name: _SETTINGS[name] for name in names}, **options)
        reports.start()
        started.append(reports)
        return reports

    yield make
    for each in started:
        each.stop()


def _fail(text: str = "the disk is odd") -> None:
    try:
        _divide(text)
    except ArithmeticError as error:
        log.error("request failed", extra={"method": "GET", "path": "/v2/a"}, exc_info=error)  # noqa: TRY400 - as the registry does


def _divide(text: str) -> None:
    raise ArithmeticError(text)


def _comes(condition: Callable[[], bool]) -> bool:
    return bool(poll(lambda: condition() or None, within=10, every=0.01))


def _library(name: str) -> Any:
    return sys.modules.get(_MODULES.get(name, name))


def _sent(name: str) -> list[Any]:
    return list(getattr(_library(name), "SENT", []))


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", CLIENTS)
def test_an_error_of_a_worker_is_reported(name: str, start: Callable[..., ErrorReports]) -> None:
    """An error of a worker is reported with its class and its traceback.

    The report also contains the method and the path of the request.
    """
    start(name)
    _fail()

    assert _comes(lambda: bool(_sent(name)))
    assert _EXPECTED[name].items() <= _library(name).STARTED[0].items()
    ((error, fields),) = _sent(name)
    assert (type(error).__name__, str(error)) == ("ArithmeticError", "the disk is odd")
    assert error.__traceback__.tb_frame.f_code.co_name == "_fail"
    assert fields == {"method": "GET", "path": "/v2/a"}


@pytest.mark.usefixtures("libraries")
def test_only_the_library_of_a_configured_tracker_is_imported(
    start: Callable[..., ErrorReports],
) -> None:
    """Only the configured tracker's library is imported; other libraries would cost memory."""
    start("sentry")
    _fail()

    assert _comes(lambda: bool(_sent("sentry")))
    assert "bugsnag" not in sys.modules
    assert "newrelic" not in sys.modules


@pytest.mark.usefixtures("libraries")
def test_a_report_contains_no_password_of_a_url(start: Callable[..., ErrorReports]) -> None:
    """If an error's text contains a URL, the report omits the URL's user, password and query."""
    start("sentry")
    _fail("no answer of https://ann:sesame@quay.io/v2/?token=secret")

    assert _comes(lambda: bool(_sent("sentry")))
    assert str(_sent("sentry")[0][0]) == "no answer of https://quay.io/v2/"


@pytest.mark.usefixtures("libraries")
def test_a_line_without_a_traceback_is_not_reported(start: Callable[..., ErrorReports]) -> None:
    """A tracker receives only log lines with a traceback, and none from its own library.

    The report of a line from the library could fail and log another such line, endlessly.
    """
    start("sentry")
    log.error("a foreseen failure")
    logging.getLogger("sentry_sdk.errors").error("no connection", exc_info=OSError("x"))
    _fail("the last one")

    assert _comes(lambda: bool(_sent("sentry")))
    assert [str(error) for error, _ in _sent("sentry")] == ["the last one"]


@pytest.mark.usefixtures("libraries")
def test_a_library_that_hangs_delays_nothing_and_holds_few_errors(
    start: Callable[..., ErrorReports], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a tracker's library hangs, no request waits for it, and at most 64 errors are queued."""
    hang = threading.Event()
    hanging = reporting.ReportingClient(("sentry_sdk",), lambda _: hang.wait(60))  # type: ignore[arg-type, return-value]
    monkeypatch.setitem(CLIENTS, "sentry", hanging)
    now = [0.0]
    reports = start("sentry", clock=lambda: now[0])

    for _ in range(50):
        _fail()
    now[0] = 100.0
    for _ in range(50):
        _fail()

    assert [each.qsize() for each in reports._queues] == [64]
    assert reports._dropped == 36
    hang.set()


@pytest.mark.usefixtures("libraries")
def test_many_errors_are_not_all_reported(
    start: Callable[..., ErrorReports], caplog: pytest.LogCaptureFixture
) -> None:
    """At most 60 errors a minute are reported; a later log line states how many were dropped."""
    now = [0.0]
    start("sentry", clock=lambda: now[0])
    for _ in range(70):
        _fail()
    now[0] = 61.0
    _fail("the last one")

    assert _comes(lambda: len(_sent("sentry")) == 61)
    (line,) = [each for each in caplog.records if each.message == "some errors were not reported"]
    assert vars(line)["count"] == 10


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "raise RuntimeError('k3 is no key')",
            "the library for error reports could not be started",
        ),
        (
            "def init(**_): pass\ndef capture_exception(*_, **__): raise RuntimeError('k3')",
            "an error was not reported",
        ),
    ],
)
def test_a_library_that_fails_is_one_warning_without_the_key(
    libraries: Path,
    text: str,
    message: str,
    start: Callable[..., ErrorReports],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a tracker's library fails, one warning is logged, in which the tracker's key is masked."""
    (libraries / "sentry_sdk/__init__.py").write_text(text, encoding="utf-8")
    start("sentry")
    _fail()

    def found() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.getMessage() == message]

    assert _comes(lambda: bool(found()))
    assert vars(found()[0])["tracker"] == "sentry"
    assert "k3" not in str(vars(found()[0]))
