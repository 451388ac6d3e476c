"""Test the lines of the access log on stdout."""

from __future__ import annotations

import json
import time

import pytest

from entrepot.appliance.supervise import access_formats
from entrepot.appliance.supervise.access_formats import combined_lines, json_lines, without_tails

_FILE = (
    '{"start":1790000000123,"duration":0,"method":"%(method)s","status":200,"termination":"--",'
    '"bytes":1234,"digest":"sha256:aa","repository":"a\\/b","kind":"manifest","cache":"entrepot",'
    '"user":"%(user)s","source":"%(source)s","uri":"%(uri)s"}'
)
_TAIL = ',"protocol":"%(protocol)s","referer":"%(referer)s","agent":"%(agent)s"}'
_USUAL = {
    "method": "GET",
    "user": "",
    "source": "10.1.2.3",
    "uri": "/v2/a/b/manifests/c?n=1",
    "protocol": "1.1",
    "referer": "",
    "agent": "docker\\/24.0.7 (linux)",
}


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the local time zone to two hours east of UTC."""
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    access_formats._local_time.cache_clear()


def _line(**fields: str) -> bytes:
    """Return a line of the access log as HAProxy writes it, with these escaped values."""
    return ((_FILE + _TAIL) % (_USUAL | fields) + "\n").encode()


def test_a_line_has_the_combined_log_format() -> None:
    """A printed access line has docker distribution's format, with the start time in local time."""
    expected = (
        b'10.1.2.3 - - [21/Sep/2026:16:13:20 +0200] "GET /v2/a/b/manifests/c?n=1 HTTP/1.1" 200 1234'
        b' "" "docker/24.0.7 (linux)"\n'
    )

    assert expected == combined_lines(_line())


def test_each_line_has_its_own_time() -> None:
    """Two access lines that differ only in their time are printed with their own times."""
    later = _line().replace(b"1790000000123", b"1790000001123")

    first, second = combined_lines(_line() + later).splitlines()

    assert (b"16:13:20" in first, b"16:13:21" in second) == (True, True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (r"a\"b", r"a\"b"),
        (r"a\\b", r"a\\b"),
        (r"a\nb", r"a\nb"),
        (r"a\u0007b", r"a\ab"),
        (r"a\u001bb", r"a\x1bb"),
        (r"a\u202eb", r"a\u202eb"),
        (r"caf\u00e9", "café"),
        (r"a\" \"b", r"a\" \"b"),
    ],
)
def test_a_value_is_escaped_as_in_docker_distribution(given: str, expected: str) -> None:
    """No character in a value ends the value or the line; values are escaped as in Go."""
    rendered = combined_lines(_line(agent=given, referer=given, uri=given)).decode()

    assert f'"GET {expected} HTTP/1.1" 200 1234 "{expected}" "{expected}"\n' in rendered
    assert len(rendered.splitlines()) == 1


def test_a_user_is_one_word() -> None:
    """A space in a user's name does not move the other fields of an access line."""
    assert combined_lines(_line(user="ann b")).startswith(rb"10.1.2.3 - ann\x20b [")


def test_data_that_is_not_http_has_a_line_without_a_request() -> None:
    """For data that is not HTTP, HAProxy logs no protocol; "-" is printed as the request."""
    line = (_FILE % (_USUAL | {"method": "", "uri": ""}) + "\n").encode()

    assert b'] "-" 200 1234 "" ""\n' in combined_lines(line)


@pytest.mark.parametrize("render", [combined_lines, json_lines({})], ids=["combined", "json"])
def test_the_health_check_of_the_appliance_is_not_printed(
    render: access_formats.Render,
) -> None:
    """The cleaner's health check over a unix socket is not printed; a client's request is."""
    own = _line(source="unix", uri="/healthz?news=1")
    of_a_client = _line(source="unix", uri="/v2/")

    assert render(own) == b""
    assert render(of_a_client).count(b"\n") == 1


def test_a_json_line_has_all_fields_and_those_of_the_operator() -> None:
    """A JSON access line has the fields of `log.formatter: json` and those of the operator."""
    render = json_lines({"service": "a", "level": "mine", "user": "mine"})

    line = json.loads(render(_line(user="ann")))

    assert (line["time"], line["level"], line["process"]) == (
        "2026-09-21T14:13:20.123Z",
        "info",
        "haproxy",
    )
    assert (line["uri"], line["agent"], line["protocol"], line["user"]) == (
        "/v2/a/b/manifests/c?n=1",
        "docker/24.0.7 (linux)",
        "1.1",
        "ann",
    )
    assert (line["service"], line["fields.level"], line["fields.user"]) == ("a", "mine", "mine")


def test_the_file_has_lines_without_tails() -> None:
    """`without_tails` removes the tail (protocol, referer, agent) of each line for the log file."""
    plain = (_FILE % _USUAL + "\n").encode()

    assert without_tails(_line() + plain + _line(agent=r"},\"protocol\":")) == plain * 3
