"""Lines of the processes' own logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from entrepot.runtime import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines go; logging is afterwards as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def _said(stream: io.StringIO) -> str:
    return stream.getvalue()


def test_a_text_line_is_time_level_process_message_and_fields(stream: io.StringIO) -> None:
    """A fixed message first, then key=value."""
    logs.configure("info", "text", "logger", stream=stream)

    logging.getLogger("a.b").info("blob fetched", extra={"bytes": 12, "upstream": "quay.io"})

    moment, rest = _said(stream).split(" ", 1)
    assert rest == "info logger: blob fetched bytes=12 upstream=quay.io\n"
    assert moment.endswith("Z")


def test_a_json_line_holds_the_same(stream: io.StringIO) -> None:
    """Numbers stay numbers, others become texts; a field can't take a fixed one's place."""
    logs.configure("debug", "json", "cleaner", stream=stream)

    logging.getLogger("x").warning("low", extra={"bytes": 1, "path": io, "level": "mine"})

    line = json.loads(_said(stream))
    assert line["process"] == "cleaner"
    assert line["level"] == "warn"
    assert line["message"] == "low"
    assert line["bytes"] == 1
    assert isinstance(line["path"], str)


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_nothing_forges_a_second_line(stream: io.StringIO, formatter: str) -> None:
    """A client's bytes in a field or a message can't begin a line of their own."""
    logs.configure("info", "json" if formatter == "json" else "text", "p", stream=stream)

    logging.getLogger("x").info("bad\ninfo p: forged", extra={"uri": "/\n2026 \x85 \u2028 error"})

    assert len(_said(stream).splitlines()) == 1


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
    """Fields that are named like secrets are masked; a URL loses its user and its query."""
    logs.configure("info", "text", "p", stream=stream)

    logging.getLogger("x").info("asked", extra=fields)

    assert leaked not in _said(stream)
    assert "asked" in _said(stream)


def test_an_exception_is_one_line_with_its_error(stream: io.StringIO) -> None:
    """A traceback is a field: a line is a record."""
    logs.configure("info", "text", "p", stream=stream)

    try:
        int("no")
    except ValueError:
        logging.getLogger("x").exception("failed")

    assert _said(stream).count("\n") == 1
    assert 'error="ValueError(' in _said(stream)


def test_the_level_is_distributions_word(stream: io.StringIO) -> None:
    """`warn` lets warnings through and nothing below."""
    logs.configure("warn", "text", "p", stream=stream)

    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")

    assert "quiet" not in _said(stream)
    assert "loud" in _said(stream)


def test_configuring_twice_writes_once(stream: io.StringIO) -> None:
    """The last configuration is the one in force."""
    logs.configure("info", "text", "first", stream=stream)
    logs.configure("info", "text", "second", stream=stream)

    logging.getLogger("x").info("once")

    assert _said(stream).count("once") == 1
    assert "second: once" in _said(stream)
