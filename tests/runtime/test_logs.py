"""Tests of the format of log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from entrepot.runtime import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Yield a stream for log lines; restore the configuration of `logging` after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def _text(stream: io.StringIO) -> str:
    return stream.getvalue()


def test_a_text_line_is_time_level_process_message_and_fields(stream: io.StringIO) -> None:
    """A text line has the time, the level, the process, a fixed message, and key=value fields."""
    logs.configure("info", "text", "logger", stream=stream)

    logging.getLogger("a.b").info("blob fetched", extra={"bytes": 12, "upstream": "quay.io"})

    moment, rest = _text(stream).split(" ", 1)
    assert rest == "info logger: blob fetched bytes=12 upstream=quay.io\n"
    assert moment.endswith("Z")


def test_a_json_line_has_the_same_values(stream: io.StringIO) -> None:
    """A JSON line has the same values as a text line, and numbers remain JSON numbers.

    A field of the message cannot replace a standard field such as `level`.
    """
    logs.configure("debug", "json", "cleaner", stream=stream)

    logging.getLogger("x").warning("low", extra={"bytes": 1, "path": io, "level": "mine"})

    line = json.loads(_text(stream))
    assert line["process"] == "cleaner"
    assert line["level"] == "warn"
    assert line["message"] == "low"
    assert line["bytes"] == 1
    assert isinstance(line["path"], str)


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_no_value_can_start_a_second_line(stream: io.StringIO, formatter: str) -> None:
    """Line breaks in a value are escaped, so that a client cannot forge a second log line."""
    logs.configure("info", "json" if formatter == "json" else "text", "p", stream=stream)

    logging.getLogger("x").info("bad\ninfo p: forged", extra={"uri": "/\n2026 \x85 \u2028 error"})

    assert len(_text(stream).splitlines()) == 1


@pytest.mark.parametrize("formatter", ["text", "json"])
@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\ufeff", "\u009b", "\u2028"])
def test_no_value_can_change_how_a_terminal_shows_the_line(
    stream: io.StringIO, formatter: Literal["text", "json"], hidden: str
) -> None:
    """Invisible and control characters in a value are escaped.

    So a user name cannot manipulate the terminal in which an operator reads the log.
    """
    logs.configure("info", formatter, "registry", stream=stream)

    logging.getLogger("test").warning("login failed", extra={"user": f"ann{hidden}bob"})
    logging.getLogger("test").warning("request of %s failed", f"ann{hidden}bob")

    assert hidden not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize(
    ("fields", "leaked"),
    [
        ({"password": "hunter2"}, "hunter2"),
        ({"Authorization": "Basic aHVudGVyMg=="}, "aHVudGVyMg"),
        ({"url": "https://robot:hunter2@quay.io/v2/"}, "hunter2"),
        ({"url": "https://cdn.example/blob?X-Amz-Signature=hunter2"}, "hunter2"),
    ],
    ids=["password", "header", "userinfo", "query"],
)
def test_a_credential_is_never_written(
    stream: io.StringIO, fields: dict[str, str], leaked: str
) -> None:
    """If the name of a field suggests a secret, the value of the field is masked.

    The login and the query of a URL are removed.
    """
    logs.configure("info", "text", "p", stream=stream)

    logging.getLogger("x").info("requested", extra=fields)

    assert leaked not in _text(stream)
    assert "requested" in _text(stream)


def test_an_exception_is_one_line_with_its_error(stream: io.StringIO) -> None:
    """An exception is logged as one line; its error and its traceback are fields of that line."""
    logs.configure("info", "text", "p", stream=stream)

    try:
        int("no")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert _text(stream).count("\n") == 1
    assert 'error="ValueError(' in _text(stream)


def test_levels_have_the_names_of_docker_distribution(stream: io.StringIO) -> None:
    """Log levels have docker distribution's names; at level `warn`, info lines are not written."""
    logs.configure("warn", "text", "p", stream=stream)

    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")

    assert "quiet" not in _text(stream)
    assert "loud" in _text(stream)


def test_configuring_twice_writes_once(stream: io.StringIO) -> None:
    """A second call of `configure` replaces the first, so that no line is written twice."""
    logs.configure("info", "text", "first", stream=stream)
    logs.configure("info", "text", "second", stream=stream)

    logging.getLogger("x").info("once")

    assert _text(stream).count("once") == 1
    assert "second: once" in _text(stream)


def _line(stream: io.StringIO) -> dict[str, object]:
    found: dict[str, object] = json.loads(_text(stream))
    return found


def test_a_level_that_is_already_set_changes_no_logger(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting a log level that is already set does not modify any logger object.

    Otherwise each forked process would need its own copy of the modified logger objects.
    """
    logs.set_level("warn")
    changed = list[int]()
    monkeypatch.setattr(logging.Logger, "setLevel", lambda _, level: changed.append(level))

    logs.configure("warn", "text", "registry", stream=stream)
    assert changed == []
    logs.set_level("error")
    assert set(changed) == {logging.ERROR}


def test_the_fields_of_the_operator_follow_those_of_a_text_line(stream: io.StringIO) -> None:
    """The operator's configured fields appear at the end of each text line.

    If the message has a field with the name of a configured field, the configured one is omitted.
    """
    fields: dict[str, logs.Value] = {"service": "a b", "n": 5, "on": True, "bytes": 1}
    logs.configure("info", "text", "p", fields=fields, stream=stream)

    logging.getLogger("x").info("blob fetched", extra={"bytes": 12})

    assert _text(stream).endswith('info p: blob fetched bytes=12 service="a b" n=5 on=true\n')


@pytest.mark.parametrize("formatter", ["json", "logstash"])
def test_the_fields_of_the_operator_keep_their_types_in_json(
    stream: io.StringIO, formatter: str
) -> None:
    """In a JSON line, the fields that the operator configures keep their types."""
    fields: dict[str, logs.Value] = {"service": "a", "n": 5, "on": True, "share": 0.5, "bytes": 1}
    logs.configure("info", formatter, "p", fields=fields, stream=stream)

    logging.getLogger("x").info("blob fetched", extra={"bytes": 12})

    assert fields | {"bytes": 12} == {name: _line(stream)[name] for name in fields}


@pytest.mark.parametrize(
    ("formatter", "standard"),
    [
        ("text", ("time", "level", "process", "message")),
        ("json", ("time", "level", "process", "message")),
        ("logstash", ("@timestamp", "@version", "level", "process", "message")),
    ],
)
def test_a_field_named_like_a_standard_one_gets_a_prefix(
    stream: io.StringIO, formatter: str, standard: tuple[str, ...]
) -> None:
    """An operator's field with the name of a standard field gets a prefix, as in logrus."""
    fields = dict.fromkeys(standard, "mine")
    logs.configure("info", formatter, "p", fields=fields, stream=stream)

    logging.getLogger("x").info("done")

    text = _text(stream)
    for name in standard:
        shown = f"fields.{name}=mine" if formatter == "text" else f'"fields.{name}": "mine"'
        assert shown in text
    assert formatter == "text" or {_line(stream)[name] for name in standard}.isdisjoint({"mine"})


@pytest.mark.parametrize("formatter", ["text", "json", "logstash"])
def test_a_field_of_the_operator_cannot_start_a_second_line(
    stream: io.StringIO, formatter: str
) -> None:
    """Line breaks in an operator's field are escaped, so that each record is one line."""
    logs.configure("info", formatter, "p", fields={"a\nb": "c\nd\u2028e"}, stream=stream)

    logging.getLogger("x").info("done")

    assert len(_text(stream).splitlines()) == 1


def test_a_line_for_logstash_has_the_fields_of_docker_distribution(stream: io.StringIO) -> None:
    """With the formatter `logstash`, a line has the fields of docker distribution."""
    logs.configure("info", "logstash", "cleaner", fields={"type": "log"}, stream=stream)

    logging.getLogger("x").warning("low", extra={"bytes": 1})

    line = _line(stream)
    assert str(line.pop("@timestamp")).endswith("Z")
    assert line == {
        "@version": "1",
        "level": "warning",
        "message": "low",
        "process": "cleaner",
        "bytes": 1,
        "type": "log",
    }


def test_a_line_has_the_place_in_the_code_only_on_request(stream: io.StringIO) -> None:
    """With `reportcaller`, a line names the file, the line number and the function.

    These fields have the names that logrus uses.
    """
    logs.configure("info", "json", "p", stream=stream)
    logging.getLogger("a.b").info("done")
    without = _line(stream)
    stream.truncate(0)
    stream.seek(0)

    logs.configure("info", "json", "p", has_caller=True, stream=stream)
    logging.getLogger("a.b").info("done")

    line = _line(stream)
    assert without.keys().isdisjoint({"func", "file"})
    name = test_a_line_has_the_place_in_the_code_only_on_request.__name__
    assert line["func"] == f"a.b.{name}"
    assert str(line["file"]).rpartition(":")[0] == __file__
