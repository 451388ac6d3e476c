"""Define the settings of `reporting:`, the error trackers that get the errors of the workers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from entrepot.config import readers, value_types
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.section import ReadBy, Section, section, setting
from entrepot.config.yaml_text import from_yaml

_MOST_HEADERS: Final = 16
_LONGEST_VALUE: Final = 8192
_EXAMPLE: Final = "try {api-key: KEY}"
_REQUIRED: Final = {
    "bugsnag": "apikey",
    "newrelic": "licensekey",
    "sentry": "dsn",
    "opentelemetry": "endpoint",
}
# RFC 9110 defines the syntax of a header's name (5.6.2) and of its value (5.5).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def url(given: object) -> str:
    """Read an http or https URL without a password. Raises: Unreadable."""
    text = readers.text(given).strip()
    if not _is_url(text) or "@" in urlsplit(text).netloc:
        raise Unreadable("not an http or https URL without a password", "try https://host.example")
    return text


def dsn(given: object) -> str:
    """Read the DSN of a Sentry project, a URL whose user name is the key. Raises: Unreadable."""
    text = readers.text(given).strip()
    if not _is_url(text) or not urlsplit(text).username or not urlsplit(text).path.strip("/"):
        raise Unreadable(
            "not a DSN", "copy it from the project's settings: https://KEY@HOST/NUMBER"
        )
    return text


def headers(given: object) -> dict[str, str]:
    """Read a map of header names to values, or the YAML text of such a map. Raises: Unreadable."""
    found = from_yaml(given, _EXAMPLE)
    if not isinstance(found, Mapping) or len(found) > _MOST_HEADERS:
        raise Unreadable(f"not a map of at most {_MOST_HEADERS} headers", _EXAMPLE)
    for name, value in found.items():
        is_valid = isinstance(value, str) and len(value) <= _LONGEST_VALUE
        if not _TOKEN.fullmatch(str(name)) or not is_valid or not _VALUE.fullmatch(value):
            raise Unreadable(f"not a header of one line: {str(name)[:32]}", _EXAMPLE)
    return {str(name): str(value) for name, value in found.items()}


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_complete and parts.scheme in {"http", "https"} and text.isascii() and " " not in text


MaybeUrl = Annotated[str | None, ReadBy(readers.optional(url))]
MaybeDsn = Annotated[str | None, ReadBy(readers.optional(dsn))]
MaybeHeaders = Annotated[dict[str, str] | None, ReadBy(readers.optional(headers))]


class BugsnagSettings(Section):
    """The settings of `reporting.bugsnag:`."""

    apikey: value_types.MaybeText = setting(
        None, "the key of a project at Bugsnag, to which workers send their errors", secret=True
    )
    releasestage: value_types.MaybeText = setting(
        None,
        "the release stage in the reports to Bugsnag, such as production",
        shown="none: the library's default",
    )
    endpoint: MaybeUrl = setting(
        None, "the URL to which reports for Bugsnag are sent", shown="none: the public service"
    )


class NewRelicSettings(Section):
    """The settings of `reporting.newrelic:`."""

    licensekey: value_types.MaybeText = setting(
        None, "the key of an account at New Relic, to which workers send their errors", secret=True
    )
    name: value_types.Text = setting(
        "entrepot", "the name of the application in the reports to New Relic"
    )
    verbose: value_types.Switch = setting("false", "whether New Relic's library logs debug lines")


class SentrySettings(Section):
    """The settings of `reporting.sentry:`, which docker distribution does not have."""

    dsn: MaybeDsn = setting(
        None, "the DSN of a project at Sentry, to which workers send their errors", secret=True
    )
    environment: value_types.MaybeText = setting(
        None,
        "the environment in the reports to Sentry, such as production",
        shown="none: the library's default",
    )


class OpenTelemetrySettings(Section):
    """The settings of `reporting.opentelemetry:`, which docker distribution does not have."""

    endpoint: MaybeUrl = setting(
        None,
        "the URL of an OTLP/HTTP receiver; each error is sent as a span to URL/v1/traces",
    )
    headers: MaybeHeaders = setting(
        None, "a map of headers of the requests to the receiver, such as an API key", secret=True
    )
    servicename: value_types.Text = setting(
        "entrepot", "the value of the attribute service.name in the spans"
    )


class ReportingSettings(Section):
    """The settings of `reporting:`."""

    bugsnag: BugsnagSettings = section(BugsnagSettings)
    newrelic: NewRelicSettings = section(NewRelicSettings)
    sentry: SentrySettings = section(SentrySettings)
    opentelemetry: OpenTelemetrySettings = section(OpenTelemetrySettings)

    @property
    def active(self) -> dict[str, dict[str, Any]]:
        """Return a map from the name of each configured tracker to its settings."""
        return {
            name: getattr(self, name).values()
            for name, key in _REQUIRED.items()
            if getattr(getattr(self, name), key) is not None
        }


def problems(settings: ReportingSettings) -> Iterator[Problem]:
    """Yield a problem for each configured tracker whose library is not installed."""
    trackers = settings.active
    if not trackers:
        return
    from entrepot.runtime import reporting  # noqa: PLC0415 - used only with a tracker

    for name in trackers:
        if not reporting.is_installed(name):
            remedy = f"pip install 'entrepot[{name}]', or take it out"
            yield Problem(
                f"reporting.{name}", "the Python library of the tracker is not installed", remedy
            )


def advice(settings: ReportingSettings) -> Iterator[Problem]:
    """Yield a warning for each tracker that has settings but lacks its required setting."""
    for name, key in _REQUIRED.items():
        section = getattr(settings, name)
        if name not in settings.active and section != type(section)():
            missing = f"reporting.{name}.{key}"
            yield Problem(
                f"reporting.{name}", f"the key has no effect: {missing} is not set", "set it too"
            )
